//! Submissions: joining what is under way, refusing what is too much, taking the rest.

use std::sync::Arc;
use std::time::Duration;

use super::Queue;
use super::fair::Urgency;
use super::operation::{Operation, State, keep_deciding};
use crate::hash::mix_wide;
use crate::{BuildKey, Effect, OperationId, Refusal, Submission, WaiterId};

/// What a submission may require at most; the wire allows no more either.
const REQUIREMENTS: usize = 32;
/// Layers that it may name.
const INPUTS: usize = 4096;
/// Builds that may want one operation.
const BUILDS: usize = 10_000;

impl Queue {
    pub(super) fn submit(
        &mut self,
        asked: OperationId,
        waiter: Option<WaiterId>,
        mut submission: Arc<Submission>,
    ) {
        let build = build_key(&submission.build, asked);
        let join_key = (build.namespace.clone(), submission.action.clone());
        if let Some(refusal) = self.refusal(asked, &submission) {
            self.refuse(asked, refusal);
            return;
        }
        if !submission.skip_cache_lookup
            && let Some(&operation) = self.joinable.get(&join_key)
        {
            self.join(operation, asked, waiter, build, submission.priority);
            return;
        }
        if let Some(refusal) = self.poisons.refusal(&join_key, self.clock.time()) {
            self.refuse(asked, refusal);
            return;
        }
        if let Some(refusal) = self.full(asked, &build.namespace) {
            self.refuse(asked, refusal);
            return;
        }

        let time = self.clock.time();
        keep_deciding(&mut submission);
        let (class, new) = self.kinds.enter_class(&submission.requirements);
        self.asked_for(&new);
        let platform = self
            .kinds
            .class(class)
            .map_or("/".into(), |class| class.platform.clone());
        let sequence = self.sequence();
        let mut operation = Operation {
            class: Some(class),
            owner: self
                .accounts
                .open(&platform, build.clone(), submission.priority),
            submitted: self.clock.now(),
            since: time,
            urgency: Urgency { due: 0, sequence },
            priority: submission.priority,
            builds: Vec::new(),
            failures: Vec::new(),
            declined: None,
            declines: 0,
            cramped: 0,
            grants: 0,
            fencing: 0,
            started: None,
            hold: None,
            state: State::Arriving,
            submission,
        };
        operation.urgency.due = self.due(operation.since, operation.priority);
        self.admit(asked, operation);
        if !self
            .operations
            .get(&asked)
            .is_some_and(|held| held.submission.skip_cache_lookup)
        {
            self.joinable.insert(join_key, asked);
        }
        self.want(asked, &build);
        if let Some(waiter) = waiter {
            self.wait(asked, waiter, build);
        }
        // Most are on a worker at once: the journal has that, and not first that they wait.
        let before = std::mem::take(&mut self.effects);
        self.enqueue(asked);
        let placed = std::mem::replace(&mut self.effects, before);
        self.persist(asked);
        self.effects.push(Effect::Submitted {
            asked,
            operation: asked,
        });
        let is_again = |effect: &Effect| matches!(effect, Effect::Persist(record) if record.operation == asked);
        self.effects
            .extend(placed.into_iter().filter(|effect| !is_again(effect)));
    }

    /// Takes note of an operation that has not ended.
    pub(super) fn admit(&mut self, id: OperationId, operation: Operation) {
        self.by_time.insert((operation.submitted, id));
        if operation.submission.whole {
            self.whole_by_time.insert((operation.submitted, id));
        }
        self.operations.insert(id, operation);
    }

    fn join(
        &mut self,
        operation: OperationId,
        asked: OperationId,
        waiter: Option<WaiterId>,
        build: BuildKey,
        priority: i32,
    ) {
        let is_crowded = self
            .operations
            .get(&operation)
            .is_some_and(|held| held.builds.len() >= BUILDS);
        if is_crowded {
            self.refuse(
                asked,
                Refusal::Invalid {
                    message: "too many builds want this already",
                },
            );
            return;
        }
        self.counts.merged += 1;
        self.want(operation, &build);
        if let Some(waiter) = waiter {
            self.wait(operation, waiter, build);
        }
        self.hurry(operation, priority);
        self.persist(operation);
        self.effects.push(Effect::Submitted { asked, operation });
    }

    /// Someone who joined is in more of a hurry than those before.
    fn hurry(&mut self, operation: OperationId, priority: i32) {
        let Some(held) = self.operations.get(&operation) else {
            return;
        };
        if priority >= held.priority {
            return;
        }
        let is_waiting = matches!(held.state, State::Ready) && !held.submission.light;
        if is_waiting {
            self.take_out(operation);
        }
        let since = self
            .operations
            .get(&operation)
            .map_or(Duration::ZERO, |held| held.since);
        let due = self.due(since, priority);
        if let Some(held) = self.operations.get_mut(&operation) {
            held.priority = priority;
            held.urgency.due = due;
        }
        if is_waiting {
            self.put_in(operation);
        }
    }

    /// When an operation is due within its build: each step of priority is a time of waiting.
    pub(super) fn due(&self, since: Duration, priority: i32) -> i128 {
        let micros = |time: Duration| i128::try_from(time.as_micros()).unwrap_or(i128::MAX / 4096);
        let step = micros(self.settings.priority_step);
        micros(since) + i128::from(priority.clamp(-1000, 1000)) * step
    }

    fn refuse(&mut self, operation: OperationId, refusal: Refusal) {
        self.counts.refused += 1;
        self.effects.push(Effect::Refused { operation, refusal });
    }

    fn refusal(&self, asked: OperationId, submission: &Submission) -> Option<Refusal> {
        let invalid = |message| Some(Refusal::Invalid { message });
        if self.operations.contains_key(&asked) {
            Some(Refusal::Duplicate)
        } else if submission.requirements.len() > REQUIREMENTS {
            invalid("it requires more than 32 properties of a worker")
        } else if submission.inputs.len() > INPUTS {
            invalid("it stands on more than 4,096 layers")
        } else {
            None
        }
    }

    fn full(&self, asked: OperationId, namespace: &Arc<str>) -> Option<Refusal> {
        let in_namespace = self.queued_in(namespace);
        let everywhere = self.counts.queued >= self.settings.queued;
        if !everywhere && in_namespace < self.settings.queued_per_namespace {
            return None;
        }
        // Between one and three seconds, not all at the same time, so that whoever is refused
        // comes soon after room was made, and a thousand of them are not a flood.
        let jitter = Duration::from_millis(mix_wide(asked.0) % 2000);
        Some(Refusal::Full {
            queued: if everywhere {
                self.counts.queued
            } else {
                in_namespace
            },
            everywhere,
            retry_after: Duration::from_secs(1) + jitter,
        })
    }
}

/// A build that has no name is one for each of its operations.
fn build_key(build: &BuildKey, operation: OperationId) -> BuildKey {
    if build.build.is_empty() {
        BuildKey {
            build: format!("\0{operation}").into(),
            ..build.clone()
        }
    } else {
        build.clone()
    }
}

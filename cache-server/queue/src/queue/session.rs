//! Builds: who is there, and who wants what.
//!
//! A build is there as long as one of its streams is: a session, someone who waits for an
//! operation, or a whole build of its own that has not ended. When the last one ends it has its
//! grace; after that it wants nothing any more, and what nobody wants is cancelled.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Queue;
use super::timers::Timer;
use crate::hash::Layered;
use crate::{BuildKey, Canceller, Effect, OperationId, SessionId, WaiterId};

#[derive(Debug, Default)]
struct Build {
    sessions: usize,
    waiters: usize,
    /// Whole builds among its operations.
    whole: usize,
    /// What it wants that has not ended.
    operations: BTreeSet<OperationId>,
    /// When its grace ends, if it is away.
    grace: Option<Duration>,
}

/// All builds, and their streams.
#[derive(Debug, Default)]
pub(super) struct Builds {
    builds: HashMap<BuildKey, Build>,
    sessions: HashMap<SessionId, BuildKey, Layered>,
    waiters: HashMap<WaiterId, BuildKey, Layered>,
}

impl Queue {
    /// A build wants an operation that has not ended.
    pub(super) fn want(&mut self, operation: OperationId, build: &BuildKey) {
        let Some(held) = self.operations.get_mut(&operation) else {
            return;
        };
        if held.is_ended() {
            return;
        }
        let is_new = !held.builds.contains(build);
        if is_new {
            held.builds.push(build.clone());
        }
        let whole = held.submission.whole;
        let entry = self.builds.builds.entry(build.clone()).or_default();
        if entry.operations.insert(operation) && whole {
            entry.whole += 1;
        }
        self.settle(build);
    }

    /// A stream of a build waits for an operation.
    pub(super) fn wait(&mut self, operation: OperationId, waiter: WaiterId, build: BuildKey) {
        debug_assert!(self.operations.contains_key(&operation));
        if self.builds.waiters.contains_key(&waiter) {
            return;
        }
        let entry = self.builds.builds.entry(build.clone()).or_default();
        entry.waiters += 1;
        entry.grace = None;
        self.builds.waiters.insert(waiter, build);
    }

    pub(super) fn attach(
        &mut self,
        operation: OperationId,
        waiter: WaiterId,
        build: Option<BuildKey>,
    ) {
        let held = self.operations.get(&operation);
        let found = held.is_some();
        if held.is_some_and(|held| !held.is_ended()) {
            let build = build
                .filter(|build| !build.build.is_empty())
                .unwrap_or_else(|| BuildKey {
                    namespace: Arc::from(""),
                    user: Arc::from(""),
                    build: format!("\0waiter {}", waiter.0).into(),
                });
            self.want(operation, &build);
            self.wait(operation, waiter, build);
            self.persist(operation);
        }
        self.effects.push(Effect::Attached {
            waiter,
            operation,
            found,
        });
    }

    pub(super) fn detach(&mut self, waiter: WaiterId) {
        let Some(build) = self.builds.waiters.remove(&waiter) else {
            return;
        };
        if let Some(entry) = self.builds.builds.get_mut(&build) {
            entry.waiters = entry.waiters.saturating_sub(1);
        }
        self.settle(&build);
    }

    pub(super) fn session_opened(&mut self, session: SessionId, build: BuildKey) {
        if self.builds.sessions.contains_key(&session) {
            return;
        }
        let entry = self.builds.builds.entry(build.clone()).or_default();
        entry.sessions += 1;
        entry.grace = None;
        self.builds.sessions.insert(session, build);
    }

    pub(super) fn session_closed(&mut self, session: SessionId) {
        let Some(build) = self.builds.sessions.remove(&session) else {
            return;
        };
        if let Some(entry) = self.builds.builds.get_mut(&build) {
            entry.sessions = entry.sessions.saturating_sub(1);
        }
        self.settle(&build);
    }

    /// Looks whether a build is there, and if not, for how long it may be away.
    fn settle(&mut self, build: &BuildKey) {
        let Some(entry) = self.builds.builds.get_mut(build) else {
            return;
        };
        if entry.sessions + entry.waiters + entry.whole > 0 {
            entry.grace = None;
        } else if entry.operations.is_empty() {
            self.builds.builds.remove(build);
            self.effects.push(Effect::BuildGone(build.clone()));
        } else if entry.grace.is_none() {
            let end = self.clock.time() + self.settings.grace;
            entry.grace = Some(end);
            self.set_timer(
                end,
                Timer::Grace {
                    build: build.clone(),
                },
            );
        }
    }

    pub(super) fn grace_due(&mut self, build: &BuildKey) {
        let time = self.clock.time();
        let grace = self.builds.builds.get(build).and_then(|entry| entry.grace);
        if grace.is_some_and(|grace| grace <= time) {
            self.withdraw_all(build, "its client is gone");
        }
    }

    /// A build does not want anything any more.
    fn withdraw_all(&mut self, build: &BuildKey, why: &str) {
        let Some(entry) = self.builds.builds.get(build) else {
            return;
        };
        let operations: Vec<_> = entry.operations.iter().copied().collect();
        for operation in operations {
            self.withdraw(operation, build, why);
        }
    }

    /// A build does not want an operation any more. What nobody wants ends.
    fn withdraw(&mut self, operation: OperationId, build: &BuildKey, why: &str) {
        let Some(held) = self.operations.get_mut(&operation) else {
            return;
        };
        held.builds.retain(|wanted| wanted != build);
        let is_unwanted = held.builds.is_empty() && !held.is_ended();
        let whole = held.submission.whole;
        self.let_go(operation, build, whole);
        if is_unwanted {
            self.stop(operation, why);
        }
    }

    fn let_go(&mut self, operation: OperationId, build: &BuildKey, whole: bool) {
        if let Some(entry) = self.builds.builds.get_mut(build)
            && entry.operations.remove(&operation)
            && whole
        {
            entry.whole = entry.whole.saturating_sub(1);
        }
        self.settle(build);
    }

    /// An operation has ended: its builds want it no more, and if it was a whole build, they want
    /// nothing of what belongs to it.
    pub(super) fn ended_for_builds(&mut self, operation: OperationId) {
        let Some(held) = self.operations.get(&operation) else {
            return;
        };
        let whole = held.submission.whole;
        for build in held.builds.clone() {
            let others: Vec<_> = match self.builds.builds.get(&build) {
                Some(entry) if whole && entry.whole <= 1 => entry
                    .operations
                    .iter()
                    .copied()
                    .filter(|&other| other != operation)
                    .collect(),
                _ => Vec::new(),
            };
            self.let_go(operation, &build, whole);
            for other in others {
                self.withdraw(other, &build, "the build that it belongs to has ended");
            }
        }
    }

    pub(super) fn cancel(&mut self, operation: OperationId, by: &Canceller) {
        let Some(held) = self.operations.get(&operation) else {
            return;
        };
        if held.is_ended() {
            return;
        }
        match by {
            Canceller::Operator => self.stop(operation, "it was cancelled by an operator"),
            Canceller::Build(build) => {
                if held.builds.contains(build) {
                    self.withdraw(operation, build, "it was cancelled");
                }
            }
            Canceller::User { namespace, user } => {
                let builds: Vec<_> = held
                    .builds
                    .iter()
                    .filter(|build| build.namespace == *namespace && build.user == *user)
                    .cloned()
                    .collect();
                for build in builds {
                    self.withdraw(operation, &build, "it was cancelled");
                }
            }
        }
    }

    pub(super) fn cancel_build(&mut self, build: &BuildKey) {
        self.withdraw_all(build, "it was cancelled");
    }
}

//! What clients do: ask for segments whose parents are there, wait, go away, come back, give up.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ashlar_queue::{
    Action, BuildKey, End, Event, OperationId, Refusal, SessionId, Stage, Submission, WaiterId,
};

use super::load::{Arrival, Plan};
use super::machine::Job;
use super::time::{MS, SECOND, Time};
use super::{Happening, Simulation, namespace};

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// ^C.
    GivesUp,
    /// It comes back within its grace.
    Away,
    /// It does not come back.
    Forever,
}

/// Who asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Segment {
        run: usize,
        segment: usize,
        waiter: WaiterId,
    },
    Whole(usize),
}

/// A segment, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Waiting,
    Asked(OperationId, WaiterId),
    Submitted(OperationId, WaiterId),
    Done,
}

/// A build that a client, or a worker, drives.
#[derive(Debug)]
pub(crate) struct Run {
    plan: Rc<Plan>,
    key: BuildKey,
    /// The whole build that it is, and the machine and number that drive it.
    driver: Option<(usize, usize, u64)>,
    session: Option<SessionId>,
    seen: Vec<Seen>,
    left: usize,
    started: Time,
    away: bool,
}

/// A build that was submitted and left behind.
#[derive(Debug)]
pub(crate) struct Whole {
    arrival: Arrival,
    key: BuildKey,
    /// Who drives it now: the run, and under what number.
    run: Option<(usize, u64)>,
}

/// An action's number: what its hash says in these simulations.
pub(crate) fn number_of(action: &str) -> u64 {
    let number = |text: Option<&str>| u64::from_str_radix(text.unwrap_or(""), 16).unwrap_or(0);
    number(action.get(..16)) ^ number(action.get(16..))
}

impl Simulation {
    /// A build comes, and maybe once more a moment later.
    pub(crate) fn arrive(&mut self, arrival: Arrival) {
        let name = self.name();
        let key = BuildKey {
            namespace: namespace(arrival.plan.namespace),
            user: format!("user{}", arrival.user).into(),
            build: format!("build{name}").into(),
        };
        for (at, segment) in arrival.plan.segments.iter().enumerate() {
            let job = Job::Segment(arrival.plan.clone(), at);
            self.jobs.insert(number_of(&segment.action), job);
        }
        if arrival.whole {
            self.submit_whole(arrival, key);
            return;
        }
        let is_first = arrival.plan.results.borrow().iter().all(Option::is_none);
        if is_first && self.rng.chance(0.03) {
            let user = (arrival.user + 1) % 20;
            let twin = Arrival {
                user,
                ..arrival.clone()
            };
            let after = self.rng.below(5 * SECOND);
            self.at(after, Happening::Twin(twin));
        }
        let run = self.begin(arrival.plan, key, None);
        let how = match self.rng.below(1000) {
            0..5 => Leave::GivesUp,
            5..15 => Leave::Away,
            15..18 => Leave::Forever,
            _ => return,
        };
        let after = self.rng.below(60 * SECOND);
        self.at(after, Happening::Leaves { run, how });
    }

    fn submit_whole(&mut self, arrival: Arrival, key: BuildKey) {
        let number = self.wholes.len();
        let action: Arc<str> = format!("f{number:031x}").into();
        let operation = self.operation();
        self.jobs.insert(number_of(&action), Job::Whole(number));
        self.asked.insert(operation, Asked::Whole(number));
        let submission = Submission {
            build: key.clone(),
            action: Action {
                function: 9,
                hash: action,
                size: 1,
            },
            priority: arrival.plan.priority,
            skip_cache_lookup: false,
            light: true,
            whole: true,
            inputs: Vec::new(),
            requirements: BTreeMap::from([("os".into(), "linux".into())]),
            name: "a whole build".into(),
            steps: 1,
            requester: key.user.clone(),
        };
        self.wholes.push(Whole {
            arrival,
            key,
            run: None,
        });
        let event = Event::Submit {
            operation,
            waiter: None,
            submission: Arc::new(submission),
        };
        self.at(MS, Happening::Told(event));
    }

    /// A worker drives a whole build.
    pub(crate) fn drive(&mut self, number: usize, machine: usize, fencing: u64) {
        let whole = &self.wholes[number];
        let (plan, key) = (whole.arrival.plan.clone(), whole.key.clone());
        let run = self.begin(plan, key, Some((number, machine, fencing)));
        // All may have been there already, and the build be done.
        if self.runs[run].is_some() {
            self.wholes[number].run = Some((run, fencing));
        }
    }

    /// A worker does not drive it any more.
    pub(crate) fn stop_driving(&mut self, number: usize, fencing: u64) {
        if let Some((run, _)) = self.wholes[number].run.filter(|&(_, of)| of == fencing) {
            self.wholes[number].run = None;
            self.client_leaves(run, Leave::Forever);
        }
    }

    fn begin(
        &mut self,
        plan: Rc<Plan>,
        key: BuildKey,
        driver: Option<(usize, usize, u64)>,
    ) -> usize {
        let segments = plan.segments.len();
        let session = self.session();
        self.at(
            MS,
            Happening::Told(Event::SessionOpened {
                session,
                build: key.clone(),
            }),
        );
        let index = self.runs.len();
        self.live_runs += 1;
        self.runs.push(Some(Run {
            plan,
            key,
            driver,
            session: Some(session),
            seen: vec![Seen::Waiting; segments],
            left: segments,
            started: self.now,
            away: false,
        }));
        self.submit_ready(index);
        index
    }

    /// Asks for what can be made now.
    fn submit_ready(&mut self, index: usize) {
        let Some(run) = &self.runs[index] else { return };
        let ready: Vec<usize> = (0..run.seen.len())
            .filter(|&at| run.seen[at] == Seen::Waiting)
            .filter(|&at| {
                run.plan.segments[at]
                    .parents
                    .iter()
                    .all(|&parent| run.seen[parent] == Seen::Done)
            })
            .collect();
        for segment in ready {
            self.submit(index, segment);
        }
    }

    pub(crate) fn submit(&mut self, index: usize, at: usize) {
        let Some(run) = &self.runs[index] else { return };
        if run.away || run.seen[at] != Seen::Waiting {
            return;
        }
        // What is in the cache is not asked for.
        if run.plan.results.borrow()[at].is_some() {
            self.segment_done(index, at);
            return;
        }
        let segment = &run.plan.segments[at];
        let submission = Submission {
            build: run.key.clone(),
            action: Action {
                function: 9,
                hash: segment.action.clone(),
                size: 1,
            },
            priority: run.plan.priority,
            skip_cache_lookup: false,
            light: false,
            whole: false,
            inputs: segment.inputs.clone(),
            requirements: run.plan.requirements.clone(),
            name: "RUN make".into(),
            steps: segment.steps,
            requester: run.key.user.clone(),
        };
        let operation = self.operation();
        let waiter = self.waiter();
        if let Some(run) = &mut self.runs[index] {
            run.seen[at] = Seen::Asked(operation, waiter);
        }
        self.asked.insert(
            operation,
            Asked::Segment {
                run: index,
                segment: at,
                waiter,
            },
        );
        let submission = Arc::new(submission);
        let event = Event::Submit {
            operation,
            waiter: Some(waiter),
            submission,
        };
        self.at(MS, Happening::Told(event));
    }

    pub(crate) fn client_submitted(&mut self, asked: OperationId, operation: OperationId) {
        let Some(who) = self.asked.remove(&asked) else {
            self.checks.wrong(format!("{asked} was answered twice"));
            return;
        };
        let is_new = asked == operation;
        if !is_new {
            self.report.merged += 1;
        }
        match who {
            Asked::Whole(number) => {
                self.whole_of.insert(operation, number);
                self.checks.submitted(self.now, operation, None);
            }
            Asked::Segment {
                run,
                segment,
                waiter,
            } => {
                if is_new {
                    let place = self.place_of(operation);
                    self.checks.submitted(self.now, operation, place);
                }
                match &mut self.runs[run] {
                    Some(found) if found.seen[segment] == Seen::Asked(asked, waiter) => {
                        found.seen[segment] = Seen::Submitted(operation, waiter);
                        self.waits
                            .entry(operation)
                            .or_default()
                            .push((run, segment));
                    }
                    // It has gone, or has asked again.
                    _ => self.at(MS, Happening::Told(Event::Detach { waiter })),
                }
            }
        }
    }

    /// Platform and namespace, where shares are compared: what every worker of a platform takes.
    fn place_of(&self, operation: OperationId) -> Option<(usize, usize)> {
        let view = self.queue.view(operation)?;
        let arch = view.submission.requirements.get("arch")?;
        let name = view
            .submission
            .build
            .namespace
            .strip_prefix("team")?
            .parse()
            .ok()?;
        Some((usize::from(arch == "arm64"), name))
    }

    pub(crate) fn client_refused(&mut self, operation: OperationId, refusal: &Refusal) {
        self.report.refused += 1;
        let Some(Asked::Segment { run, segment, .. }) = self.asked.remove(&operation) else {
            return;
        };
        match (&mut self.runs[run], refusal) {
            (Some(found), Refusal::Full { retry_after, .. }) => {
                if matches!(found.seen[segment], Seen::Asked(asked, _) if asked == operation) {
                    found.seen[segment] = Seen::Waiting;
                    let after = u64::try_from(retry_after.as_micros()).unwrap_or(SECOND);
                    self.at(after, Happening::Again { run, segment });
                }
            }
            (Some(_), Refusal::Poison { .. }) => {
                self.report.builds_poisoned += 1;
                self.end_run(run, false);
            }
            (Some(_), _) => self
                .checks
                .wrong(format!("{operation} was refused: {refusal}")),
            (None, _) => {}
        }
    }

    pub(crate) fn client_ended(&mut self, operation: OperationId, end: &End) {
        if self.whole_of.remove(&operation).is_some() {
            return;
        }
        for (index, at) in self.waits.remove(&operation).unwrap_or_default() {
            let Some(run) = &self.runs[index] else {
                continue;
            };
            let Seen::Submitted(of, waiter) = run.seen[at] else {
                continue;
            };
            if run.away || of != operation {
                continue;
            }
            let known = run.plan.results.borrow()[at].map(u64::to_le_bytes);
            let is_driven = run.driver.is_some();
            self.at(MS, Happening::Told(Event::Detach { waiter }));
            match end {
                End::Done(done) if done.failed => {
                    self.report.builds_failed += 1;
                    self.end_run(index, false);
                }
                End::Done(done) => {
                    if known.as_ref().map(<[u8; 8]>::as_slice) != Some(&*done.outcome) {
                        self.checks
                            .wrong(format!("{operation} has another result than its key"));
                    }
                    self.segment_done(index, at);
                }
                End::Poison(_) => {
                    self.report.builds_poisoned += 1;
                    self.end_run(index, false);
                }
                // A driver that was lost and does not know it: another has ended its build.
                _ if is_driven => self.end_run(index, false),
                _ => {
                    let why = format!("{operation} ended, and was wanted: {end:?}");
                    self.checks.wrong(why);
                    self.end_run(index, false);
                }
            }
        }
    }

    fn segment_done(&mut self, index: usize, at: usize) {
        let Some(run) = &mut self.runs[index] else {
            return;
        };
        run.seen[at] = Seen::Done;
        run.left -= 1;
        if run.left > 0 {
            self.submit_ready(index);
            return;
        }
        let time = self.now - run.started;
        let critical = run.plan.critical().max(1);
        if run.driver.is_none() {
            self.report.stretches.add(time * 1_000_000 / critical);
        }
        self.report.builds += 1;
        let plan = run.plan.clone();
        self.end_run(index, true);
        // Nobody else builds it: its result is all that need be known.
        if Rc::strong_count(&plan) == 1 + plan.segments.len() {
            for (segment, result) in plan.segments.iter().zip(&*plan.results.borrow()) {
                let job = Job::Made(result.unwrap_or(0));
                self.jobs.insert(number_of(&segment.action), job);
            }
        }
    }

    fn end_run(&mut self, index: usize, is_well: bool) {
        let Some(run) = &self.runs[index] else { return };
        let driver = run.driver;
        if !is_well {
            let build = run.key.clone();
            self.at(MS, Happening::Told(Event::CancelBuild { build }));
        }
        self.let_go(index);
        self.forget_run(index);
        if let Some((number, machine, fencing)) = driver {
            self.wholes[number].run = None;
            self.driven(machine, fencing, !is_well);
        }
    }

    fn forget_run(&mut self, index: usize) {
        if self.runs[index].take().is_some() {
            self.live_runs -= 1;
        }
    }

    /// Ends the streams of a client.
    fn let_go(&mut self, index: usize) {
        let Some(run) = &mut self.runs[index] else {
            return;
        };
        let session = run.session.take();
        let waiters: Vec<WaiterId> = run
            .seen
            .iter()
            .filter_map(|seen| match seen {
                Seen::Asked(_, waiter) | Seen::Submitted(_, waiter) => Some(*waiter),
                Seen::Waiting | Seen::Done => None,
            })
            .collect();
        for waiter in waiters {
            self.at(MS, Happening::Told(Event::Detach { waiter }));
        }
        if let Some(session) = session {
            self.at(MS, Happening::Told(Event::SessionClosed { session }));
        }
    }

    pub(crate) fn client_leaves(&mut self, index: usize, how: Leave) {
        let Some(run) = &self.runs[index] else { return };
        if run.away {
            return;
        }
        match how {
            Leave::GivesUp => {
                self.report.builds_cancelled += 1;
                self.end_run(index, false);
            }
            Leave::Forever => {
                self.let_go(index);
                self.forget_run(index);
            }
            Leave::Away => {
                self.let_go(index);
                if let Some(run) = &mut self.runs[index] {
                    run.away = true;
                }
                let after = self.rng.between(SECOND, 50 * SECOND);
                self.at(after, Happening::Back { run: index });
            }
        }
    }

    /// A client is there again, or has found another server.
    pub(crate) fn client_back(&mut self, index: usize) {
        let session = self.session();
        let Some(run) = &mut self.runs[index] else {
            return;
        };
        run.away = false;
        let before = run.session.replace(session);
        let build = run.key.clone();
        let mut attaches = Vec::new();
        for (at, seen) in run.seen.iter_mut().enumerate() {
            match *seen {
                Seen::Asked(..) => *seen = Seen::Waiting,
                Seen::Submitted(operation, _) => attaches.push((at, operation)),
                Seen::Waiting | Seen::Done => {}
            }
        }
        self.at(
            MS,
            Happening::Told(Event::SessionOpened {
                session,
                build: build.clone(),
            }),
        );
        if let Some(session) = before {
            self.at(MS, Happening::Told(Event::SessionClosed { session }));
        }
        for (at, operation) in attaches {
            let waiter = self.waiter();
            if let Some(run) = &mut self.runs[index]
                && let Seen::Submitted(_, old) =
                    std::mem::replace(&mut run.seen[at], Seen::Submitted(operation, waiter))
            {
                self.at(MS, Happening::Told(Event::Detach { waiter: old }));
            }
            let waits = self.waits.entry(operation).or_default();
            if !waits.contains(&(index, at)) {
                waits.push((index, at));
            }
            let build = Some(build.clone());
            self.at(
                MS,
                Happening::Told(Event::Attach {
                    operation,
                    waiter,
                    build,
                }),
            );
        }
        self.submit_ready(index);
    }

    pub(crate) fn client_attached(&mut self, operation: OperationId, found: bool) {
        if !found {
            for (index, at) in self.waits.remove(&operation).unwrap_or_default() {
                if let Some(run) = &mut self.runs[index]
                    && matches!(run.seen[at], Seen::Submitted(of, _) if of == operation)
                {
                    run.seen[at] = Seen::Waiting;
                    self.submit(index, at);
                }
            }
        } else if let Some(Stage::Ended(end)) = self.queue.view(operation).map(|view| view.stage) {
            self.at(MS, Happening::Ended { operation, end });
        }
    }

    /// All streams of clients break.
    pub(crate) fn clients_lose_server(&mut self) {
        for run in 0..self.runs.len() {
            if self.runs[run].as_ref().is_some_and(|run| !run.away) {
                let after = self.rng.between(100 * MS, 3 * SECOND);
                self.at(after, Happening::Back { run });
            }
        }
    }
}

//! What workers do.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_queue::{Assignment, ConnectionId, Done, Effect, Event, Outcome, Submission};

use super::client::number_of;
use super::load::NAMESPACES;
use super::machine::{Job, Machine, Task, Trouble};
use super::rng::Rng;
use super::time::{MS, SECOND, Time};
use super::{Config, Happening, Simulation, namespace};

/// Bytes that come to a machine in a microsecond.
const BYTES: u64 = 100;

/// What a machine does of its own before and after a segment.
const OVERHEAD: Time = 30 * MS;

/// The machines of a farm: a fifth of them with two slots, a fifth for arm64, a few of each with a
/// large disk, a few that serve one namespace only.
pub(crate) fn machines(config: &Config, rng: &mut Rng) -> Vec<Machine> {
    (0..config.workers)
        .map(|at| {
            let arch = if at % 5 == 4 { "arm64" } else { "amd64" };
            let mut properties: BTreeMap<String, String> = BTreeMap::from([
                ("os".into(), "linux".into()),
                ("arch".into(), arch.into()),
                // What nobody asks for makes no difference.
                ("host".into(), format!("machine{at}")),
            ]);
            if at % 20 < 2 || at % 20 == 4 {
                properties.insert("disk".into(), "large".into());
            }
            let namespaces: Vec<Arc<str>> = if rng.chance(0.02) && at >= 10 {
                vec![namespace(rng.index(NAMESPACES))]
            } else {
                vec!["".into()]
            };
            let slots = if at % 10 == 0 || at % 10 == 4 { 2 } else { 1 };
            Machine::new(
                format!("machine{at}.0").into(),
                properties,
                namespaces,
                slots,
            )
        })
        .collect()
}

impl Simulation {
    /// A machine says something.
    pub(crate) fn say(&mut self, index: usize, event: Event) {
        let latency = self.rng.between(200, 1500);
        let machine = &mut self.machines[index];
        let Some(connection) = machine.connection else {
            return;
        };
        let at = (self.now + latency).max(machine.sent + 1);
        machine.sent = at;
        self.at(
            at - self.now,
            Happening::Heard {
                machine: index,
                connection,
                event,
            },
        );
    }

    /// The queue hears it, if it comes through.
    pub(crate) fn heard(&mut self, index: usize, connection: ConnectionId, event: Event) {
        let is_cut = matches!(self.machines[index].trouble, Trouble::Cut(_));
        if !is_cut && self.connections.get(&connection) == Some(&index) {
            self.step(event);
        }
    }

    /// The queue says something.
    pub(crate) fn speak(&mut self, connection: ConnectionId, effect: Effect) {
        let Some(&index) = self.connections.get(&connection) else {
            return;
        };
        let latency = self.rng.between(200, 1500);
        let machine = &mut self.machines[index];
        let at = (self.now + latency).max(machine.received + 1);
        machine.received = at;
        self.at(
            at - self.now,
            Happening::Spoken {
                machine: index,
                connection,
                effect,
            },
        );
    }

    /// A machine hears it, if it comes through.
    pub(crate) fn spoken(&mut self, index: usize, connection: ConnectionId, effect: Effect) {
        let machine = &mut self.machines[index];
        if machine.connection != Some(connection) {
            return;
        }
        match machine.trouble {
            Trouble::None => self.act(index, effect),
            Trouble::Hung(_) => machine.inbox.push(effect),
            Trouble::Down | Trouble::Cut(_) => {}
        }
    }

    pub(crate) fn connects(&mut self, index: usize, life: u32) {
        let connection = ConnectionId(self.name());
        let machine = &mut self.machines[index];
        if machine.life != life || machine.trouble != Trouble::None || machine.connection.is_some()
        {
            return;
        }
        machine.connection = Some(connection);
        let hello = machine.hello();
        let added = machine.holdings();
        let draining = machine.draining;
        let outcomes: Vec<(Assignment, Outcome)> = machine
            .tasks
            .iter()
            .filter_map(|task| Some((task.assignment, task.outcome.clone()?)))
            .collect();
        self.connections.insert(connection, index);
        self.say(
            index,
            Event::Hello {
                connection,
                hello: Box::new(hello),
            },
        );
        if draining {
            let why = "it drains".into();
            self.say(
                index,
                Event::Capacity {
                    connection,
                    free: 0,
                    draining,
                    why,
                },
            );
        }
        let removed = Vec::new();
        self.say(
            index,
            Event::Holdings {
                connection,
                all: true,
                added,
                removed,
            },
        );
        for (assignment, outcome) in outcomes {
            self.say(
                index,
                Event::Outcome {
                    connection,
                    assignment,
                    outcome,
                },
            );
        }
        self.at(
            10 * SECOND,
            Happening::Renews {
                machine: index,
                life,
                connection,
            },
        );
    }

    pub(crate) fn renews(&mut self, index: usize, life: u32, connection: ConnectionId) {
        let machine = &self.machines[index];
        if machine.life != life || machine.connection != Some(connection) {
            return;
        }
        let again = Happening::Renews {
            machine: index,
            life,
            connection,
        };
        if let Trouble::Hung(until) = machine.trouble {
            self.at(until - self.now + MS, again);
            return;
        }
        let running = machine.running();
        self.say(
            index,
            Event::Renew {
                connection,
                running,
            },
        );
        self.at(10 * SECOND, again);
    }

    /// A machine does what it is told.
    pub(crate) fn act(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Assign {
                assignment,
                submission,
                ..
            } => {
                self.assigned(index, assignment, submission);
            }
            Effect::Cancel { assignment, .. } => {
                self.drop_task(index, assignment, true);
                if let Some(connection) = self.machines[index].connection {
                    let outcome = Outcome::Cancelled;
                    self.say(
                        index,
                        Event::Outcome {
                            connection,
                            assignment,
                            outcome,
                        },
                    );
                }
            }
            Effect::Revoke { assignment, .. } => self.drop_task(index, assignment, true),
            Effect::OutcomeTaken {
                assignment,
                too_late,
                ..
            } => {
                self.drop_task(index, assignment, too_late);
            }
            _ => {}
        }
    }

    fn assigned(&mut self, index: usize, assignment: Assignment, submission: Arc<Submission>) {
        let machine = &self.machines[index];
        let is_right = submission
            .requirements
            .iter()
            .all(|(name, value)| machine.properties.get(name) == Some(value));
        let of = &submission.build.namespace;
        if !is_right
            || !machine
                .namespaces
                .iter()
                .any(|name| name.is_empty() || name == of)
        {
            self.checks.wrong(format!(
                "{} got what it does not take: {submission:?}",
                machine.id
            ));
        }
        if !submission.light && machine.used() >= machine.slots as usize {
            self.checks
                .wrong(format!("{} got more than it has slots for", machine.id));
        }
        let Some(job) = self.jobs.get(&number_of(&submission.action.hash)).cloned() else {
            self.checks.wrong(format!("{assignment:?} is of nothing"));
            return;
        };
        let ends = match &job {
            Job::Whole(_) => Time::MAX,
            Job::Made(_) => self.now + 200 * MS,
            Job::Segment(plan, at) if plan.results.borrow()[*at].is_some() => self.now + 200 * MS,
            Job::Segment(plan, at) => {
                let segment = &plan.segments[*at];
                let moved = self.fetch(index, &submission);
                let mut time = moved / BYTES + segment.time + OVERHEAD;
                if segment.kills {
                    time /= 2;
                }
                self.now + time
            }
        };
        let number = if let Job::Whole(number) = job {
            Some(number)
        } else {
            None
        };
        let fencing = assignment.fencing;
        let started = self.now;
        let task = Task {
            assignment,
            submission,
            job,
            started,
            ends,
            outcome: None,
        };
        let machine = &mut self.machines[index];
        machine.tasks.push(task);
        let life = machine.life;
        match number {
            Some(number) => self.drive(number, index, fencing),
            None => {
                self.at(
                    ends - self.now,
                    Happening::Task {
                        machine: index,
                        life,
                        fencing,
                    },
                );
            }
        }
    }

    /// Brings the layers of a segment. Gives how many bytes were moved.
    fn fetch(&mut self, index: usize, submission: &Submission) -> u64 {
        let machine = &mut self.machines[index];
        let needed: u64 = submission.inputs.iter().map(|input| input.bytes).sum();
        let missing = submission
            .inputs
            .iter()
            .filter(|input| !machine.has(input.layer));
        let moved = missing.map(|input| input.bytes).sum();
        let (added, removed) = machine.touch(submission.inputs.iter().map(|input| input.layer));
        self.tell_holdings(index, added, removed);
        self.report.bytes_needed += needed;
        self.report.bytes_moved += moved;
        if moved == 0 {
            self.report.local += 1;
        }
        moved
    }

    fn tell_holdings(&mut self, index: usize, added: Vec<u64>, removed: Vec<u64>) {
        if let Some(connection) = self.machines[index].connection
            && !(added.is_empty() && removed.is_empty())
        {
            self.say(
                index,
                Event::Holdings {
                    connection,
                    all: false,
                    added,
                    removed,
                },
            );
        }
    }

    pub(crate) fn task_due(&mut self, index: usize, life: u32, fencing: u64) {
        let machine = &self.machines[index];
        if machine.life != life {
            return;
        }
        match machine.trouble {
            // It goes on when the machine does; and what it has made must reach the cache.
            Trouble::Hung(until) | Trouble::Cut(until) => {
                let again = Happening::Task {
                    machine: index,
                    life,
                    fencing,
                };
                self.at(until - self.now + 2 * MS, again);
                return;
            }
            Trouble::Down => return,
            Trouble::None => {}
        }
        let Some(task) = machine
            .tasks
            .iter()
            .find(|task| task.assignment.fencing == fencing)
        else {
            return;
        };
        if task.outcome.is_some() {
            return;
        }
        let (plan, at) = match &task.job {
            Job::Segment(plan, at) => (plan, at),
            Job::Made(result) => {
                let outcome = result.to_le_bytes().into();
                let done = Done {
                    outcome,
                    failed: false,
                    message: "".into(),
                };
                self.task_done(index, fencing, Outcome::Done(done));
                return;
            }
            Job::Whole(_) => return,
        };
        let (plan, at) = (plan.clone(), *at);
        let segment = &plan.segments[at];
        if segment.kills {
            self.crash(index);
            return;
        }
        let outcome = if self.config.faults > 0.0 && self.rng.chance(0.001) {
            self.report.errors += 1;
            let is_exhaustion = self.rng.chance(0.5);
            Outcome::Infrastructure {
                message: "no space is left".into(),
                is_exhaustion,
            }
        } else if segment.fails {
            let message = "exit code 1".into();
            Outcome::Done(Done {
                outcome: [].into(),
                failed: true,
                message,
            })
        } else {
            // The cache takes the first result; others adopt it.
            let own = Rng::new(fencing).next();
            let is_new = plan.results.borrow()[at].is_none();
            let result = *plan.results.borrow_mut()[at].get_or_insert(own);
            if is_new {
                self.report.segments += 1;
                self.report.steps += u64::from(segment.steps);
            }
            let outputs = segment.outputs.iter().map(|output| output.layer);
            let (added, removed) = self.machines[index].touch(outputs);
            self.tell_holdings(index, added, removed);
            let outcome = result.to_le_bytes().into();
            Outcome::Done(Done {
                outcome,
                failed: false,
                message: "".into(),
            })
        };
        self.task_done(index, fencing, outcome);
    }

    /// A task has an outcome; it is kept until the queue has it.
    pub(crate) fn task_done(&mut self, index: usize, fencing: u64, outcome: Outcome) {
        let now = self.now;
        let machine = &mut self.machines[index];
        let connection = machine.connection;
        let found = machine
            .tasks
            .iter_mut()
            .find(|task| task.assignment.fencing == fencing);
        let Some(task) = found else { return };
        task.outcome = Some(outcome.clone());
        task.ends = now;
        let assignment = task.assignment;
        if let Some(connection) = connection {
            self.say(
                index,
                Event::Outcome {
                    connection,
                    assignment,
                    outcome,
                },
            );
        }
    }

    /// The build that a machine drives has ended.
    pub(crate) fn driven(&mut self, index: usize, fencing: u64, failed: bool) {
        let done = Done {
            outcome: [].into(),
            failed,
            message: "".into(),
        };
        self.task_done(index, fencing, Outcome::Done(done));
    }

    /// A machine has no more to do with a task. `wasted`: nothing came of it.
    pub(crate) fn drop_task(&mut self, index: usize, assignment: Assignment, wasted: bool) {
        let tasks = &mut self.machines[index].tasks;
        let Some(at) = tasks.iter().position(|task| task.assignment == assignment) else {
            return;
        };
        let task = tasks.swap_remove(at);
        self.count_task(&task, wasted);
        if let (Job::Whole(number), None) = (&task.job, &task.outcome) {
            self.stop_driving(*number, assignment.fencing);
        }
    }

    pub(crate) fn count_task(&mut self, task: &Task, wasted: bool) {
        if task.submission.light {
            return;
        }
        let time = task.ends.min(self.now) - task.started;
        self.report.executions += 1;
        self.report.busy_time += time;
        let is_of_use = matches!(&task.outcome, Some(Outcome::Done(_))) && !wasted;
        if !is_of_use {
            self.report.wasted += 1;
            self.report.wasted_time += time;
        }
    }

    /// The server has closed a stream.
    pub(crate) fn disconnected(&mut self, connection: ConnectionId) {
        let Some(index) = self.connections.remove(&connection) else {
            return;
        };
        let machine = &mut self.machines[index];
        if machine.connection == Some(connection) {
            machine.connection = None;
            let life = machine.life;
            self.at(
                SECOND,
                Happening::Connects {
                    machine: index,
                    life,
                },
            );
        }
    }

    /// All streams of workers break.
    pub(crate) fn machines_lose_server(&mut self) {
        self.connections.clear();
        for machine in 0..self.machines.len() {
            if self.machines[machine].connection.take().is_some() {
                let life = self.machines[machine].life;
                let after = self.rng.between(500 * MS, 5 * SECOND);
                self.at(after, Happening::Connects { machine, life });
            }
        }
    }
}

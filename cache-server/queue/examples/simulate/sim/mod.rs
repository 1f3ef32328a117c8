//! A farm that is not there: seeded, in virtual time, event by event, with the queue that servers
//! run.
//!
//! | module | subject |
//! |---|---|
//! | [`agenda`] | what is going to happen |
//! | [`load`] | what is built |
//! | [`machine`] | a worker's state |
//! | [`fleet`] | what workers do |
//! | [`faults`] | what happens to them, and to the server |
//! | [`client`] | what clients do |
//! | [`check`] | what must hold, throughout |
//! | [`report`] | what came of it |

pub(crate) mod agenda;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod faults;
pub(crate) mod fleet;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod report;
pub(crate) mod rng;
pub(crate) mod time;

use std::sync::Arc;
use std::time::Duration;

use ashlar_queue::{
    ConnectionId, Effect, End, Event, OperationId, Queue, Record, SessionId, Settings, WaiterId,
};

use agenda::Agenda;
use check::Checks;
use client::{Run, Whole};
use load::{Arrival, Load, NAMESPACES, weight};
use machine::{Job, Machine};
use report::Report;
use rng::{Map, Rng};
use time::{MINUTE, MS, SECOND, Time, inside, outside};

/// What to simulate.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    /// How long builds keep coming.
    pub(crate) load_time: Time,
    /// Steps a second that are asked for.
    pub(crate) rate: f64,
    /// How long a step takes on average.
    pub(crate) step: Time,
    /// How often things go wrong: 1 is the usual.
    pub(crate) faults: f64,
    /// How often another server goes on with the queue.
    pub(crate) leaders: u32,
    /// In the middle of it, one namespace asks for this many times what all ask for, for a while.
    pub(crate) burst: f64,
    pub(crate) settings: Settings,
}

impl Config {
    /// As the paper plan has it: 10,000 workers, 500 steps a second of 20 s each, for an hour.
    pub(crate) fn paper(seed: u64) -> Self {
        Self {
            seed,
            workers: 10_000,
            load_time: 60 * MINUTE,
            rate: 500.0,
            step: 20 * SECOND,
            faults: 1.0,
            leaders: 2,
            burst: 0.5,
            settings: settings(),
        }
    }
}

/// The server's timer.
const TICK: Time = 5 * MS;

fn settings() -> Settings {
    Settings {
        namespace_weights: (0..NAMESPACES)
            .map(|at| (namespace(at), weight(at)))
            .collect(),
        linger: Duration::from_millis(20),
        // Enough for the burst.
        queued_per_namespace: 100_000,
        remembered: 2000,
        ..Settings::default()
    }
}

pub(crate) fn namespace(at: usize) -> Arc<str> {
    format!("team{at}").into()
}

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The queue hears of something.
    Told(Event),
    /// The queue hears of something by a machine's stream.
    Heard {
        machine: usize,
        connection: ConnectionId,
        event: Event,
    },
    /// A machine hears of something.
    Spoken {
        machine: usize,
        connection: ConnectionId,
        effect: Effect,
    },
    /// A client hears of an end.
    Ended { operation: OperationId, end: End },
    /// A client asks again.
    Again { run: usize, segment: usize },
    /// A client that was away is back.
    Back { run: usize },
    /// A client goes away; for ever, or it gives up.
    Leaves { run: usize, how: client::Leave },
    /// A build comes.
    Arrives,
    /// One of the burst.
    Bursts,
    /// The same build comes once more.
    Twin(Arrival),
    /// A task may be done.
    Task {
        machine: usize,
        life: u32,
        fencing: u64,
    },
    /// A machine is to renew.
    Renews {
        machine: usize,
        life: u32,
        connection: ConnectionId,
    },
    /// A machine connects.
    Connects { machine: usize, life: u32 },
    /// Something goes wrong.
    Fault,
    /// A machine's trouble is over.
    Over { machine: usize, life: u32 },
    /// A draining machine goes.
    Drained { machine: usize, life: u32 },
    /// The server sees that a stream is gone.
    Lost(ConnectionId),
    /// Another server goes on.
    Leader,
    /// A second has gone by.
    Second,
    /// A timer of the queue is due.
    Wake,
}

/// All of it.
pub(crate) struct Simulation {
    pub(crate) config: Config,
    pub(crate) now: Time,
    pub(crate) queue: Queue,
    pub(crate) rng: Rng,
    pub(crate) load: Load,
    pub(crate) machines: Vec<Machine>,
    /// Whose stream it is, as the server sees it.
    pub(crate) connections: Map<ConnectionId, usize>,
    pub(crate) journal: Map<OperationId, Box<Record>>,
    pub(crate) jobs: Map<u64, Job>,
    pub(crate) runs: Vec<Option<Run>>,
    /// Those that have not ended.
    pub(crate) live_runs: usize,
    pub(crate) wholes: Vec<Whole>,
    /// Who waits for what.
    pub(crate) waits: Map<OperationId, Vec<(usize, usize)>>,
    /// What was asked for and not answered.
    pub(crate) asked: Map<OperationId, client::Asked>,
    pub(crate) whole_of: Map<OperationId, usize>,
    pub(crate) checks: Checks,
    pub(crate) report: Report,
    agenda: Agenda,
    wake: Option<Time>,
    epoch: u32,
    names: u64,
    pub(crate) is_over: bool,
}

impl Simulation {
    fn new(config: Config) -> Self {
        let mut rng = Rng::new(config.seed);
        let machines = fleet::machines(&config, &mut rng);
        let mut simulation = Self {
            queue: Queue::new(config.settings.clone(), 1, outside(0)),
            load: Load::new(&config),
            now: 0,
            rng,
            machines,
            connections: Map::default(),
            journal: Map::default(),
            jobs: Map::default(),
            runs: Vec::new(),
            live_runs: 0,
            wholes: Vec::new(),
            waits: Map::default(),
            asked: Map::default(),
            whole_of: Map::default(),
            checks: Checks::default(),
            report: Report::default(),
            agenda: Agenda::default(),
            wake: None,
            epoch: 1,
            names: 0,
            is_over: false,
            config,
        };
        for machine in 0..simulation.machines.len() {
            let at = simulation.rng.below(5 * SECOND);
            simulation.at(at, Happening::Connects { machine, life: 0 });
        }
        simulation.at(6 * SECOND, Happening::Arrives);
        simulation.at(0, Happening::Second);
        if simulation.config.faults > 0.0 {
            simulation.at(10 * SECOND, Happening::Fault);
        }
        if simulation.config.burst > 0.0 {
            simulation.at(simulation.config.load_time / 2, Happening::Bursts);
        }
        for leader in 1..=u64::from(simulation.config.leaders) {
            let part = simulation.config.load_time / u64::from(simulation.config.leaders + 1);
            simulation.at(part * leader + 7 * MS, Happening::Leader);
        }
        simulation
    }

    /// Simulates all of it, until every build has ended.
    pub(crate) fn run(config: Config) -> Report {
        let mut simulation = Self::new(config);
        let end = simulation.config.load_time * 3 + 90 * MINUTE;
        while let Some((at, what)) = simulation.agenda.next() {
            simulation.now = at;
            if simulation.is_done() || at > end {
                break;
            }
            simulation.happen(what);
        }
        simulation.finish()
    }

    /// Something happens `after` from now.
    pub(crate) fn at(&mut self, after: Time, what: Happening) {
        self.agenda.add(self.now + after, what);
    }

    /// A name that nothing has.
    pub(crate) const fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    pub(crate) fn operation(&mut self) -> OperationId {
        OperationId((u128::from(self.rng.next()) << 64) | u128::from(self.name()))
    }

    pub(crate) const fn waiter(&mut self) -> WaiterId {
        WaiterId(self.name())
    }

    pub(crate) const fn session(&mut self) -> SessionId {
        SessionId(self.name())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Told(event) => self.step(event),
            Happening::Heard {
                machine,
                connection,
                event,
            } => {
                self.heard(machine, connection, event);
            }
            Happening::Spoken {
                machine,
                connection,
                effect,
            } => {
                self.spoken(machine, connection, effect);
            }
            Happening::Ended { operation, end } => self.client_ended(operation, &end),
            Happening::Again { run, segment } => self.submit(run, segment),
            Happening::Back { run } => self.client_back(run),
            Happening::Leaves { run, how } => self.client_leaves(run, how),
            Happening::Arrives => {
                if self.now < self.config.load_time {
                    let arrival = self.load.arrival(self.now);
                    self.arrive(arrival);
                    let pause = self.load.pause(self.config.rate);
                    self.at(pause, Happening::Arrives);
                } else {
                    self.is_over = true;
                }
            }
            Happening::Bursts => self.burst(),
            Happening::Twin(arrival) => self.arrive(arrival),
            Happening::Task {
                machine,
                life,
                fencing,
            } => self.task_due(machine, life, fencing),
            Happening::Renews {
                machine,
                life,
                connection,
            } => {
                self.renews(machine, life, connection);
            }
            Happening::Connects { machine, life } => self.connects(machine, life),
            Happening::Fault => self.fault(),
            Happening::Over { machine, life } => self.over(machine, life),
            Happening::Drained { machine, life } => self.drained(machine, life),
            Happening::Lost(connection) => {
                if self.connections.remove(&connection).is_some() {
                    self.step(Event::WorkerGone { connection });
                }
            }
            Happening::Leader => self.leader(),
            Happening::Second => {
                self.step(Event::Tick);
                self.checks.second(self.now);
                self.at(SECOND, Happening::Second);
            }
            Happening::Wake => {
                if self.wake.is_some_and(|wake| wake <= self.now) {
                    self.wake = None;
                    self.step(Event::Tick);
                }
            }
        }
    }

    /// A namespace asks for much at once, for a twentieth of the time.
    fn burst(&mut self) {
        let begin = self.config.load_time / 2;
        if self.now > begin + self.config.load_time / 20 {
            return;
        }
        let arrival = self.load.arrival_of(self.now, NAMESPACES - 1);
        self.arrive(arrival);
        let pause = self.load.pause(self.config.rate * self.config.burst);
        self.at(pause, Happening::Bursts);
    }

    /// A step of the queue, and what it wants done.
    pub(crate) fn step(&mut self, event: Event) {
        self.report.events += 1;
        let effects = self.queue.step(event, outside(self.now));
        for effect in effects {
            self.carry_out(effect);
        }
        if let Some(wake) = self.queue.next_wake() {
            // As a server's timers are: no finer than some milliseconds.
            let wake = inside(wake).max(self.now + TICK);
            if self.wake.is_none_or(|before| wake < before) {
                self.wake = Some(wake);
                self.at(wake - self.now, Happening::Wake);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(record) => {
                self.journal.insert(record.operation, record);
            }
            Effect::Forget(operation) => {
                self.journal.remove(&operation);
            }
            Effect::Submitted { asked, operation } => self.client_submitted(asked, operation),
            Effect::Refused { operation, refusal } => self.client_refused(operation, &refusal),
            Effect::Attached {
                operation, found, ..
            } => self.client_attached(operation, found),
            Effect::Started { operation, .. } => {
                let wait = self.checks.started(self.now, operation);
                if let Some(wait) = wait {
                    self.report.waits.add(wait);
                }
            }
            Effect::Requeued { operation, .. } => self.checks.requeued(operation),
            Effect::Ended { operation, end } => {
                self.checks.ended(operation);
                self.at(MS, Happening::Ended { operation, end });
            }
            Effect::BuildGone(_) => {}
            Effect::Disconnect { connection, .. } => self.disconnected(connection),
            Effect::Assign {
                connection,
                assignment,
                ..
            } => {
                self.checks.assigned(
                    assignment,
                    self.journal
                        .get(&assignment.operation)
                        .map(|record| &**record),
                );
                self.speak(connection, effect);
            }
            Effect::OutcomeTaken {
                connection,
                assignment,
                too_late,
            } => {
                if !too_late {
                    self.checks.taken(assignment);
                }
                self.speak(connection, effect);
            }
            Effect::Welcome { connection, .. }
            | Effect::Cancel { connection, .. }
            | Effect::Revoke { connection, .. } => self.speak(connection, effect),
        }
    }

    /// Another server goes on with what was journaled; all streams break.
    fn leader(&mut self) {
        self.epoch += 1;
        let records: Vec<Record> = self
            .journal
            .values()
            .map(|record| (**record).clone())
            .collect();
        self.checks.restored();
        self.queue = Queue::restore(
            self.config.settings.clone(),
            self.epoch,
            records,
            outside(self.now),
        );
        self.wake = None;
        self.machines_lose_server();
        self.clients_lose_server();
        self.step(Event::Tick);
    }

    fn is_done(&self) -> bool {
        self.is_over && self.live_runs == 0 && self.checks.live() == 0
    }

    fn finish(mut self) -> Report {
        let counts = self.queue.counts();
        if self.checks.live() > 0 {
            let first = self.checks.first_live();
            let why = first.and_then(|id| Some(format!("{id}: {}", self.queue.waiting(id)?)));
            self.checks.wrong(format!(
                "{} operations did not end, among them {why:?}; {counts:?}",
                self.checks.live()
            ));
        } else if counts.queued + counts.running > 0 {
            self.checks.wrong(format!("something is left: {counts:?}"));
        }
        self.report.time = self.now;
        self.report.slots = self
            .machines
            .iter()
            .map(|machine| u64::from(machine.slots))
            .sum();
        self.report.late = counts.late;
        self.report.finish(self.checks);
        self.report
    }
}

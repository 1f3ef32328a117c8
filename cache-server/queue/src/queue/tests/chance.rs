//! Whatever happens, in any order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::bench::{Bench, Worker, broken, done, hello, key, millis, on, seconds, work};
use crate::{
    Assignment, Canceller, ConnectionId, Effect, Event, Hello, OperationId, Outcome, SessionId,
    Submission, WaiterId,
};

/// What the world knows, from effects alone.
#[derive(Default)]
struct World {
    live: BTreeSet<OperationId>,
    ended: BTreeSet<OperationId>,
    /// What each worker was given and has not been relieved of: light, or not.
    holds: BTreeMap<usize, BTreeMap<Assignment, bool>>,
    connections: BTreeMap<ConnectionId, usize>,
    fencing: u64,
}

const WORKERS: usize = 5;

const fn slots(worker: usize) -> u32 {
    [0, 1, 1, 2, 2][worker]
}

impl World {
    fn see(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Submitted { asked, operation } => {
                    if asked == operation {
                        assert!(self.live.insert(*operation));
                    }
                    assert!(
                        self.live.contains(operation),
                        "only what is under way is joined"
                    );
                }
                Effect::Ended { operation, .. } => {
                    assert!(self.live.remove(operation), "each ends once");
                    self.ended.insert(*operation);
                }
                Effect::Assign {
                    connection,
                    assignment,
                    submission,
                    ..
                } => {
                    assert!(assignment.fencing > self.fencing, "numbers grow");
                    self.fencing = assignment.fencing;
                    assert!(self.live.contains(&assignment.operation));
                    let worker = self.connections[connection];
                    let holds = self.holds.entry(worker).or_default();
                    holds.insert(*assignment, submission.light);
                    let used = holds.values().filter(|light| !**light).count();
                    assert!(used <= slots(worker) as usize, "no slot is used twice");
                }
                Effect::Revoke {
                    connection,
                    assignment,
                }
                | Effect::OutcomeTaken {
                    connection,
                    assignment,
                    ..
                } => {
                    if let Some(worker) = self.connections.get(connection) {
                        self.holds.entry(*worker).or_default().remove(assignment);
                    }
                }
                Effect::Disconnect { connection, .. } => {
                    self.connections.remove(connection);
                }
                _ => {}
            }
        }
    }
}

/// Something to do, of two numbers.
fn submission(a: u8, b: u8) -> Submission {
    let mut submission = Submission {
        build: key(&format!("b{}", a % 5)),
        priority: i32::from(b % 5) * 10 - 20,
        skip_cache_lookup: b.is_multiple_of(7),
        light: b.is_multiple_of(5),
        whole: b.is_multiple_of(11),
        inputs: on(&[(u64::from(a % 4), 20), (u64::from(b % 8), 100)]),
        ..work(&format!("{}", b % 24))
    };
    submission.build.namespace = ["org", "org/x", "other"][usize::from(a % 3)].into();
    if a.is_multiple_of(9) {
        submission.requirements.insert("gpu".into(), "yes".into());
    }
    submission
}

/// A worker comes, maybe once more, and knows some of what it had.
fn hello_of(index: usize, running: Vec<Assignment>) -> Hello {
    let mut hello = Hello {
        running,
        ..hello(&format!("w{index}"), slots(index))
    };
    if index == 3 {
        hello.properties.insert("gpu".into(), "yes".into());
    }
    if index == 2 {
        hello.namespaces = vec!["org".into()];
    }
    hello
}

/// What a worker says.
fn outcome_of(b: u8) -> Outcome {
    match b % 6 {
        0 => broken("x"),
        1 => Outcome::Infrastructure {
            message: "x".into(),
            is_exhaustion: true,
        },
        2 => Outcome::HandedBack,
        3 => Outcome::Cancelled,
        _ => done("x"),
    }
}

/// One thing that happens, of these numbers.
fn happen(bench: &mut Bench, world: &mut World, what: (u8, u8, u8)) -> Vec<Effect> {
    let (kind, a, b) = what;
    let index = usize::from(a) % WORKERS;
    let connection = world
        .connections
        .iter()
        .find(|&(_, &worker)| worker == index)
        .map_or(ConnectionId(0), |(&connection, _)| connection);
    let held: Vec<Assignment> = world
        .holds
        .get(&index)
        .map(|held| held.keys().copied().collect())
        .unwrap_or_default();
    let some = held.get(usize::from(b) % held.len().max(1)).copied();
    let operation = OperationId(u128::from(u64::from(b) % bench.number().max(1)) << 64 | 7);
    match kind % 16 {
        0..4 => {
            let submission = submission(a, b);
            let operation = OperationId(u128::from(bench.number()) << 64 | 7);
            let waiter = (b.is_multiple_of(2)).then(|| WaiterId(u64::from(a % 32)));
            bench.step(Event::Submit {
                operation,
                waiter,
                submission: submission.into(),
            })
        }
        4 => {
            let running: Vec<_> = held
                .iter()
                .copied()
                .filter(|_| !b.is_multiple_of(3))
                .collect();
            let hello = hello_of(index, running.clone());
            let connection = ConnectionId(1000 + bench.number());
            world.connections.retain(|_, worker| *worker != index);
            world.connections.insert(connection, index);
            let known = world.holds.entry(index).or_default();
            known.retain(|assignment, _| running.contains(assignment));
            bench.step(Event::Hello {
                connection,
                hello: Box::new(hello),
            })
        }
        5 => {
            world.connections.remove(&connection);
            bench.step(Event::WorkerGone { connection })
        }
        6 => {
            let added = vec![u64::from(b % 8), u64::from(b % 4)];
            let removed = vec![u64::from(a % 8)];
            bench.step(Event::Holdings {
                connection,
                all: b.is_multiple_of(3),
                added,
                removed,
            })
        }
        7 => {
            let draining = b.is_multiple_of(8);
            bench.step(Event::Capacity {
                connection,
                free: u32::from(b % 4),
                draining,
                why: "".into(),
            })
        }
        8 | 9 => bench.step(Event::Renew {
            connection,
            running: held,
        }),
        10 | 11 => {
            let assignment = some.unwrap_or(Assignment {
                operation,
                fencing: u64::from(b),
            });
            let outcome = outcome_of(b);
            bench.step(Event::Outcome {
                connection,
                assignment,
                outcome,
            })
        }
        12 => match b % 4 {
            0 => bench.step(Event::SessionOpened {
                session: SessionId(u64::from(a)),
                build: key("b1"),
            }),
            1 => bench.step(Event::SessionClosed {
                session: SessionId(u64::from(a)),
            }),
            2 => bench.step(Event::Detach {
                waiter: WaiterId(u64::from(a % 32)),
            }),
            _ => {
                let build = (a.is_multiple_of(2)).then(|| key("b2"));
                bench.step(Event::Attach {
                    operation,
                    waiter: WaiterId(u64::from(a % 32)),
                    build,
                })
            }
        },
        13 => match b % 3 {
            0 => bench.step(Event::Cancel {
                operation,
                by: Canceller::Operator,
            }),
            1 => bench.step(Event::Cancel {
                operation,
                by: Canceller::Build(key(&format!("b{}", a % 5))),
            }),
            _ => bench.step(Event::CancelBuild {
                build: key(&format!("b{}", a % 5)),
            }),
        },
        14 => bench.pass(millis(u64::from(b) * 10)),
        _ => bench.pass(seconds(u64::from(b % 40))),
    }
}

/// All trouble is over: everything ends.
fn finish(bench: &mut Bench, world: &mut World) {
    for worker in 0..WORKERS {
        let gone: Vec<_> = world
            .connections
            .iter()
            .filter(|&(_, &of)| of == worker)
            .map(|(&id, _)| id)
            .collect();
        for connection in gone {
            let effects = bench.step(Event::WorkerGone { connection });
            world.see(&effects);
        }
    }
    world.connections.clear();
    let mut fresh: Vec<Worker> = Vec::new();
    for at in 0..4 {
        let mut hello = hello(&format!("fresh{at}"), 100);
        hello.properties.insert("gpu".into(), "yes".into());
        bench.drain();
        fresh.push(bench.worker_like(hello));
        world.holds.clear();
    }
    let mut to_do: Vec<Effect> = bench.seen.clone();
    for _ in 0..700 {
        let given: Vec<_> = to_do
            .drain(..)
            .filter_map(|effect| match effect {
                Effect::Assign {
                    connection,
                    assignment,
                    ..
                } => Some((connection, assignment)),
                _ => None,
            })
            .collect();
        for (connection, assignment) in given {
            let outcome = done("x");
            to_do.extend(bench.step(Event::Outcome {
                connection,
                assignment,
                outcome,
            }));
        }
        to_do.extend(bench.pass(seconds(1)));
        for worker in &fresh {
            to_do.extend(bench.renew(worker, &[]));
        }
        for effect in &to_do {
            if let Effect::Ended { operation, .. } = effect {
                assert!(world.live.remove(operation), "each ends once");
            }
        }
        to_do.retain(|effect| matches!(effect, Effect::Assign { .. }));
        let counts = bench.queue.counts();
        if world.live.is_empty() && to_do.is_empty() && counts.queued + counts.running == 0 {
            return;
        }
    }
    panic!(
        "something did not end: {:?} {:?}",
        world.live,
        bench.queue.counts()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_promised_holds(happenings in prop::collection::vec(any::<(u8, u8, u8)>(), 1..250)) {
        let mut bench = Bench::new();
        let mut world = World::default();
        for what in happenings {
            let effects = happen(&mut bench, &mut world, what);
            world.see(&effects);
            bench.queue.check();
        }
        finish(&mut bench, &mut world);
        bench.queue.check();
    }
}

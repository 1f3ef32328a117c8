//! Failures that are not the work's own.

use std::collections::BTreeSet;

use super::bench::{Bench, Worker, broken, done, key, millis, seconds, work};
use crate::{Effect, End, Event, OperationId, Outcome, Refusal, SessionId, Waiting};

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    bench
}

/// Who has an operation now.
fn holder<'a>(bench: &Bench, workers: &'a [Worker], operation: OperationId) -> Option<&'a Worker> {
    let last = bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::Assign {
            connection,
            assignment,
            ..
        } if assignment.operation == operation => Some(*connection),
        _ => None,
    })?;
    (!bench.is_queued(operation))
        .then(|| workers.iter().find(|worker| worker.connection == last))?
}

#[test]
fn infrastructure_errors_are_tried_three_times_on_different_workers() {
    let mut bench = bench();
    let workers: Vec<_> = (0..5)
        .map(|at| bench.worker(&format!("w{at}"), 1))
        .collect();
    let operation = bench.submit(work("a"));
    let mut tried = BTreeSet::new();
    for attempt in 1..=3 {
        let worker = holder(&bench, &workers, operation).expect("somebody has it");
        tried.insert(worker.connection);
        let given = bench.last(worker);
        bench.outcome(worker, given, broken("disk on fire"));
        if attempt < 3 {
            assert!(matches!(
                bench.queue.waiting(operation),
                Some(Waiting::Rests { .. })
            ));
            bench.pass(seconds(4));
        }
    }
    assert_eq!(tried.len(), 3);
    let Some(End::Poison(poison)) = bench.end(operation) else {
        panic!("it failed")
    };
    assert_eq!(poison.failures.len(), 3);
    let text = poison.to_string();
    assert!(
        text.contains("`RUN a`") && text.contains("disk on fire") && text.contains("host-w"),
        "{text}"
    );
    // Errors that workers report are not dangerous: whoever asks again is served.
    assert_eq!(bench.queue.counts().poisoned, 0);
    assert!(bench.try_submit(work("a"), None).is_some());
}

#[test]
fn what_takes_workers_down_is_set_aside() {
    let mut bench = bench();
    let operation = bench.submit(work("a"));
    for at in 0..3 {
        let worker = bench.worker(&format!("w{at}"), 1);
        bench.pass(seconds(5));
        let given = bench.last(&worker);
        bench.renew(&worker, &[given]);
        bench.step(Event::WorkerGone {
            connection: worker.connection,
        });
        bench.pass(seconds(31));
    }
    assert!(matches!(bench.end(operation), Some(End::Poison(_))));
    assert_eq!(bench.try_submit(work("a"), None), None);
    let refusal = bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::Refused { refusal, .. } => Some(refusal.clone()),
        _ => None,
    });
    let Some(Refusal::Poison { retry_after, .. }) = refusal else {
        panic!("it is poison")
    };
    assert!(retry_after > seconds(200) && retry_after <= seconds(300));
    assert!(bench.try_submit(work("other"), None).is_some());
    bench.pass(seconds(301));
    assert!(bench.try_submit(work("a"), None).is_some());
}

#[test]
fn handing_back_and_want_of_room_cost_no_attempt() {
    let mut bench = bench();
    let workers: Vec<_> = (0..2)
        .map(|at| bench.worker(&format!("w{at}"), 1))
        .collect();
    let operation = bench.submit(work("a"));
    let mut last = None;
    for _ in 0..5 {
        let worker = holder(&bench, &workers, operation).expect("somebody has it");
        assert_ne!(
            last,
            Some(worker.connection),
            "not twice in a row to the same"
        );
        last = Some(worker.connection);
        let given = bench.last(worker);
        bench.outcome(worker, given, full());
        let mut rest = 0;
        while bench.is_queued(operation) {
            bench.pass(seconds(1));
            workers
                .iter()
                .for_each(|worker| drop(bench.renew(worker, &[])));
            rest += 1;
            assert!(rest < 60);
        }
    }
    assert_eq!(bench.end(operation), None);
    let worker = holder(&bench, &workers, operation).expect("somebody has it");
    let given = bench.last(worker);
    bench.outcome(worker, given, done("x"));
    assert!(matches!(bench.end(operation), Some(End::Done(_))));
}

fn full() -> Outcome {
    Outcome::Infrastructure {
        message: "full".into(),
        is_exhaustion: true,
    }
}

/// Lets an operation rest until it is given to a worker again.
fn rest(bench: &mut Bench, workers: &[Worker], operation: OperationId) {
    for _ in 0..60 {
        if !bench.is_queued(operation) {
            return;
        }
        bench.pass(seconds(1));
        workers
            .iter()
            .for_each(|worker| drop(bench.renew(worker, &[])));
    }
    panic!("it rests for a minute");
}

#[test]
fn what_idle_workers_have_no_room_for_ends_some_time() {
    let mut bench = bench();
    let workers: Vec<_> = (0..2)
        .map(|at| bench.worker(&format!("w{at}"), 1))
        .collect();
    let operation = bench.submit(work("a"));
    for _ in 0..6 {
        rest(&mut bench, &workers, operation);
        let worker = holder(&bench, &workers, operation).expect("somebody has it");
        let given = bench.last(worker);
        bench.outcome(worker, given, full());
    }
    let Some(End::Poison(poison)) = bench.end(operation) else {
        panic!("it failed")
    };
    let text = poison.to_string();
    assert!(
        text.contains("host-w") && text.contains("there is no room: full"),
        "{text}"
    );
    // It is not dangerous.
    assert!(bench.try_submit(work("a"), None).is_some());
}

#[test]
fn room_may_come_when_a_worker_has_done_what_else_it_has() {
    let mut bench = bench();
    let worker = bench.worker("w", 2);
    let other = bench.submit(work("other"));
    let of_other = bench.last(&worker);
    let operation = bench.submit(work("a"));
    for _ in 0..6 {
        let given = bench.last(&worker);
        assert_eq!(given.operation, operation);
        bench.outcome(&worker, given, full());
        while bench.is_queued(operation) {
            bench.pass(seconds(1));
            bench.renew(&worker, &[of_other]);
        }
    }
    assert_eq!(bench.end(operation), None);
    assert_eq!(bench.end(other), None);
}

#[test]
fn what_everyone_gives_back_ends_some_time() {
    let mut bench = Bench::with(|settings| settings.grants = 5);
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    for _ in 0..5 {
        let given = bench.last(&worker);
        bench.outcome(&worker, given, Outcome::HandedBack);
        for _ in 0..50 {
            bench.pass(seconds(1));
            bench.renew(&worker, &[]);
        }
    }
    assert!(matches!(bench.end(operation), Some(End::Poison(_))));
}

#[test]
fn what_a_draining_worker_gives_back_goes_on_elsewhere_at_once() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    let other = bench.worker("other", 1);
    let (free, draining, why) = (0, true, "it drains".into());
    bench.step(Event::Capacity {
        connection: worker.connection,
        free,
        draining,
        why,
    });
    bench.outcome(&worker, given, Outcome::HandedBack);
    assert_eq!(bench.last(&other).operation, operation);
}

#[test]
fn rests_grow_and_differ_between_operations() {
    let mut rests = BTreeSet::new();
    for at in 0..20 {
        let mut bench = bench();
        for _ in 0..at {
            bench.number();
        }
        let worker = bench.worker("w", 1);
        let operation = bench.submit(work("a"));
        let given = bench.last(&worker);
        bench.outcome(&worker, given, broken("x"));
        let mut rest = 0;
        while bench.is_queued(operation) {
            bench.pass(millis(10));
            rest += 10;
        }
        assert!((500..=1510).contains(&rest), "{rest}");
        rests.insert(rest);
    }
    assert!(rests.len() > 10, "{rests:?}");
}

#[test]
fn the_only_worker_there_is_may_try_again() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    bench.outcome(&worker, given, broken("x"));
    bench.pass(seconds(2));
    assert_eq!(bench.given(&worker).len(), 2);
    assert_eq!(bench.end(operation), None);
}

#[test]
fn it_waits_for_another_worker_as_long_as_there_is_one() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    // The other one is busy.
    let other = bench.worker("other", 1);
    bench.submit(work("b"));
    let of_other = bench.last(&other);
    bench.outcome(&worker, given, broken("x"));
    bench.pass(seconds(5));
    assert!(bench.is_queued(operation));
    // When it is gone for good, the first one will do.
    bench.step(Event::WorkerGone {
        connection: other.connection,
    });
    bench.pass(seconds(2));
    assert_eq!(bench.last(&worker).operation, operation);
    assert_ne!(of_other.operation, operation);
}

//! Leases, fencing numbers, workers that are lost and come back.

use super::bench::{Bench, done, hello, key, seconds, work};
use crate::{Assignment, Effect, Event, Hello, Outcome, SessionId};

/// A bench whose client stays.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    bench
}

fn revoked(effects: &[Effect]) -> Vec<Assignment> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Revoke { assignment, .. } => Some(*assignment),
            _ => None,
        })
        .collect()
}

#[test]
fn a_worker_that_renews_keeps_what_it_runs() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    for _ in 0..60 {
        bench.pass(seconds(10));
        assert!(revoked(&bench.renew(&worker, &[given])).is_empty());
    }
    assert!(!bench.is_queued(operation));
    assert_eq!(bench.given(&worker).len(), 1);
}

#[test]
fn a_lease_ends_and_the_work_goes_to_another() {
    let mut bench = bench();
    let lost = bench.worker("lost", 1);
    let operation = bench.submit(work("a"));
    let old = bench.last(&lost);
    let other = bench.worker("other", 1);
    bench.pass(seconds(29));
    bench.renew(&other, &[]);
    assert!(!bench.is_queued(operation));
    bench.pass(seconds(4));
    let new = bench.last(&other);
    assert_eq!(new.operation, operation);
    assert!(new.fencing > old.fencing);

    // What the first one made of it comes too late.
    let effects = bench.outcome(&lost, old, done("old"));
    assert!(matches!(
        effects[0],
        Effect::OutcomeTaken { too_late: true, .. }
    ));
    bench.outcome(&other, new, done("new"));
    assert!(matches!(bench.end(operation), Some(crate::End::Done(end)) if &*end.outcome == b"new"));
    assert_eq!(bench.queue.counts().late, 1);
}

#[test]
fn a_worker_that_was_stopped_is_told_to_forget_before_it_gets_anything() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    bench.submit(work("a"));
    let old = bench.last(&worker);
    bench.pass(seconds(45));
    bench.drain();
    bench.renew(&worker, &[old]);
    let effects = bench.drain();
    let revoke = effects
        .iter()
        .position(|effect| matches!(effect, Effect::Revoke { .. }));
    let assign = effects
        .iter()
        .position(|effect| matches!(effect, Effect::Assign { .. }));
    assert!(revoke.unwrap() < assign.unwrap());
}

#[test]
fn a_silent_worker_gets_nothing_and_its_stream_is_closed() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    bench.pass(seconds(26));
    let operation = bench.submit(work("a"));
    assert!(bench.is_queued(operation));
    bench.renew(&worker, &[]);
    assert!(!bench.is_queued(operation));

    let mut bench = self::bench();
    let worker = bench.worker("w", 1);
    let effects = bench.pass(seconds(61));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Disconnect { .. }))
    );
    assert!(bench.renew(&worker, &[]).is_empty());
    assert_eq!(bench.queue.counts().workers, 0);
}

#[test]
fn a_worker_that_comes_back_keeps_what_is_still_its_own() {
    let mut bench = bench();
    let worker = bench.worker("w", 2);
    let one = bench.submit(work("a"));
    let two = bench.submit(work("b"));
    let given = bench.given(&worker);
    bench.renew(&worker, &given);
    bench.step(Event::WorkerGone {
        connection: worker.connection,
    });
    bench.pass(seconds(20));
    let stranger = Assignment {
        fencing: 1,
        ..given[0]
    };
    let running = vec![given[0], given[1], stranger];
    bench.drain();
    let again = bench.worker_like(Hello {
        running,
        ..hello("w", 2)
    });
    assert_eq!(revoked(&bench.drain()), [stranger]);
    bench.pass(seconds(25));
    assert!(!bench.is_queued(one) && !bench.is_queued(two));
    bench.outcome(&again, given[0], done("x"));
    assert!(bench.end(one).is_some());
}

#[test]
fn a_worker_that_comes_back_too_late_has_lost_it() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    bench.renew(&worker, &[given]);
    bench.step(Event::WorkerGone {
        connection: worker.connection,
    });
    bench.pass(seconds(31));
    assert!(bench.is_queued(operation));
    bench.drain();
    let again = bench.worker_like(Hello {
        running: vec![given],
        ..hello("w", 1)
    });
    assert_eq!(revoked(&bench.seen), [given]);
    // It is the only one there is, so it gets it again, after a rest.
    bench.pass(seconds(3));
    assert!(bench.last(&again).fencing > given.fencing);
}

#[test]
fn what_a_worker_does_not_know_any_more_waits_again() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    let other = bench.worker("other", 1);
    // It may never have heard of it: that costs nothing.
    let again = bench.worker("w", 1);
    let next = bench.last(&other);
    assert_eq!(next.operation, operation);
    let attempt = bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::Assign { attempt, .. } => Some(*attempt),
        _ => None,
    });
    assert_eq!(attempt, Some(1));
    assert!(matches!(
        bench.outcome(&again, given, done("x"))[0],
        Effect::OutcomeTaken { too_late: true, .. }
    ));
    // It had it, and comes back without it: that is a failure.
    bench.renew(&other, &[next]);
    bench.drain();
    bench.worker("other", 1);
    bench.pass(seconds(3));
    let attempt = bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::Assign { attempt, .. } => Some(*attempt),
        _ => None,
    });
    assert_eq!(attempt, Some(2));
}

#[test]
fn the_first_connection_of_a_worker_that_has_two_is_closed() {
    let mut bench = bench();
    let first = bench.worker("w", 1);
    bench.drain();
    let second = bench.worker("w", 1);
    let closed = bench.drain().iter().any(
        |effect| matches!(effect, Effect::Disconnect { connection, .. } if *connection == first.connection),
    );
    assert!(closed);
    // Its end comes after that, and is nobody's.
    bench.step(Event::WorkerGone {
        connection: first.connection,
    });
    bench.submit(work("a"));
    assert_eq!(bench.given(&second).len(), 1);
    assert_eq!(bench.queue.counts().workers, 1);
}

#[test]
fn a_queue_that_stood_still_holds_it_against_nobody() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    bench.pass(seconds(8));
    // The server was stopped for ten minutes, and looks at its clock before its streams.
    bench.now += seconds(600);
    bench.step(Event::Tick);
    assert!(!bench.is_queued(operation));
    bench.renew(&worker, &[given]);
    bench.pass(seconds(20));
    assert!(!bench.is_queued(operation));
    bench.outcome(&worker, given, done("x"));
    assert!(bench.end(operation).is_some());
}

#[test]
fn numbers_of_others_and_numbers_made_up_end_nothing() {
    let mut bench = bench();
    let worker = bench.worker("w", 1);
    let other = bench.worker("other", 1);
    let operation = bench.submit(work("a"));
    let (holder, thief) = if bench.given(&worker).is_empty() {
        (other, worker)
    } else {
        (worker, other)
    };
    let given = bench.last(&holder);
    assert!(matches!(
        bench.outcome(&thief, given, done("x"))[0],
        Effect::OutcomeTaken { too_late: true, .. }
    ));
    assert_eq!(revoked(&bench.renew(&thief, &[given])), [given]);
    let made_up = Assignment {
        fencing: u64::MAX,
        ..given
    };
    bench.outcome(&holder, made_up, Outcome::HandedBack);
    assert_eq!(bench.end(operation), None);
    bench.outcome(&holder, given, done("x"));
    assert!(bench.end(operation).is_some());
}

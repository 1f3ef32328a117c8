//! Another server goes on.

use super::bench::{Bench, START, done, hello, key, seconds, work};
use crate::{Effect, End, Event, Filter, Hello, Queue, Record, SessionId, Settings, Submission};

/// The bench's queue dies, and another goes on with what it persisted.
fn take_over(bench: &mut Bench, epoch: u32) {
    let text = serde_json::to_string(&bench.journal.values().collect::<Vec<_>>()).unwrap();
    let records: Vec<Record> = serde_json::from_str(&text).unwrap();
    bench.queue = Queue::restore(Settings::default(), epoch, records, bench.now);
    bench.drain();
}

#[test]
fn what_waits_and_what_runs_goes_on() {
    let mut bench = Bench::new();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    bench.worker("w", 1);
    let running = bench.submit(work("a"));
    let waiting = bench.submit(work("b"));
    let urgent = bench.submit(Submission {
        priority: -5,
        ..work("c")
    });
    let given = bench.seen.iter().find_map(|effect| match effect {
        Effect::Assign { assignment, .. } => Some(*assignment),
        _ => None,
    });
    let given = given.unwrap();
    bench.pass(seconds(5));
    take_over(&mut bench, 2);
    let counts = bench.queue.counts();
    assert_eq!((counts.queued, counts.running), (2, 1));
    bench.step(Event::SessionOpened {
        session: SessionId(2),
        build: key("b"),
    });

    // Its worker says that it still runs it, and keeps it.
    let worker = bench.worker_like(Hello {
        running: vec![given],
        ..hello("w", 1)
    });
    assert!(
        !bench
            .drain()
            .iter()
            .any(|effect| matches!(effect, Effect::Revoke { .. }))
    );
    // Who asks again joins.
    assert_eq!(bench.submit(work("a")), running);
    bench.pass(seconds(20));
    bench.outcome(&worker, given, done("x"));
    assert!(bench.end(running).is_some());
    let next = bench.last(&worker);
    assert_eq!(next.operation, urgent);
    assert!(next.fencing > given.fencing);
    assert!(bench.is_queued(waiting));
}

#[test]
fn a_worker_that_does_not_come_loses_what_it_had() {
    let mut bench = Bench::new();
    bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    take_over(&mut bench, 2);
    bench.step(Event::SessionOpened {
        session: SessionId(2),
        build: key("b"),
    });
    let other = bench.worker("other", 1);
    for _ in 0..7 {
        bench.pass(seconds(5));
        bench.renew(&other, &[]);
    }
    assert_eq!(bench.last(&other).operation, operation);
    assert!(
        bench
            .queue
            .workers()
            .iter()
            .all(|worker| &*worker.worker == "other")
    );
}

#[test]
fn builds_have_their_grace_again() {
    let mut bench = Bench::new();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    let operation = bench.submit(work("a"));
    let whole = bench.submit(Submission {
        whole: true,
        light: true,
        build: key("left behind"),
        ..work("whole")
    });
    take_over(&mut bench, 2);
    bench.pass(seconds(59));
    assert!(bench.is_queued(operation));
    bench.pass(seconds(2));
    assert!(matches!(bench.end(operation), Some(End::Cancelled { .. })));
    bench.pass(seconds(1000));
    assert!(bench.is_queued(whole));
}

#[test]
fn what_has_ended_is_remembered() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    bench.outcome(&worker, given, done("x"));
    let end = bench.end(operation);
    bench.pass(seconds(60));
    take_over(&mut bench, 2);
    assert_eq!(bench.end(operation), end);
    assert_eq!(bench.queue.list(&Filter::default(), None, 10).len(), 1);
    assert_ne!(bench.submit(work("a")), operation);
}

#[test]
fn numbers_grow_even_if_the_journal_is_lost() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    bench.submit(work("a"));
    let old = bench.last(&worker);
    bench.journal.clear();
    take_over(&mut bench, 2);
    let worker = bench.worker_like(Hello {
        running: vec![old],
        ..hello("w", 1)
    });
    assert!(
        bench
            .drain()
            .iter()
            .any(|effect| matches!(effect, Effect::Revoke { .. }))
    );
    bench.submit(work("a"));
    assert!(bench.last(&worker).fencing > old.fencing);
}

#[test]
fn records_of_a_clock_that_is_ahead_do_no_harm() {
    let mut bench = Bench::new();
    bench.now = START + seconds(5000);
    bench.submit(work("a"));
    bench.now = START;
    take_over(&mut bench, 2);
    let view = &bench.queue.list(&Filter::default(), None, 10)[0];
    assert_eq!(view.submitted, START);
    bench.pass(seconds(61));
    assert_eq!(bench.queue.counts().queued, 0);
}

#[test]
fn failures_count_over_servers() {
    let mut bench = Bench::new();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    let operation = bench.submit(work("a"));
    for epoch in 2..5 {
        let worker = bench.worker(&format!("w{epoch}"), 1);
        bench.pass(seconds(5));
        let given = bench.last(&worker);
        bench.outcome(&worker, given, super::bench::broken("x"));
        take_over(&mut bench, epoch);
        bench.step(Event::SessionOpened {
            session: SessionId(u64::from(epoch)),
            build: key("b"),
        });
    }
    assert!(matches!(bench.end(operation), Some(End::Poison(_))));
}

//! Who is there, and who wants what.

use super::bench::{Bench, key, seconds, work};
use crate::{Effect, End, Event, OperationId, SessionId, Submission, WaiterId};

fn cancelled(bench: &Bench, operation: OperationId) -> bool {
    matches!(bench.end(operation), Some(End::Cancelled { .. }))
}

#[test]
fn work_of_a_client_that_is_gone_is_cancelled_after_its_grace() {
    let mut bench = Bench::new();
    let session = SessionId(1);
    bench.step(Event::SessionOpened {
        session,
        build: key("b"),
    });
    let operation = bench.submit(work("a"));
    bench.pass(seconds(300));
    assert!(bench.is_queued(operation));
    bench.step(Event::SessionClosed { session });
    bench.pass(seconds(59));
    assert!(bench.is_queued(operation));
    let effects = bench.pass(seconds(2));
    assert!(cancelled(&bench, operation));
    let gone = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::BuildGone(build) if *build == key("b")));
    assert_eq!(gone.count(), 1);
}

#[test]
fn a_client_that_comes_back_in_time_finds_its_work() {
    let mut bench = Bench::new();
    let waiter = WaiterId(1);
    let operation = bench.try_submit(work("a"), Some(waiter)).unwrap();
    bench.step(Event::Detach { waiter });
    bench.pass(seconds(50));
    bench.step(Event::Attach {
        operation,
        waiter: WaiterId(2),
        build: Some(key("b")),
    });
    bench.pass(seconds(100));
    assert!(bench.is_queued(operation));
    // Its grace begins anew when it goes again.
    bench.step(Event::Detach {
        waiter: WaiterId(2),
    });
    bench.pass(seconds(59));
    assert!(bench.is_queued(operation));
    bench.pass(seconds(2));
    assert!(cancelled(&bench, operation));
}

#[test]
fn who_never_shows_up_has_a_grace_as_well() {
    let mut bench = Bench::new();
    let operation = bench.submit(work("a"));
    bench.pass(seconds(59));
    assert!(bench.is_queued(operation));
    bench.pass(seconds(2));
    assert!(cancelled(&bench, operation));
}

#[test]
fn work_that_others_wait_for_goes_on() {
    let mut bench = Bench::new();
    let operation = bench.try_submit(work("a"), Some(WaiterId(1))).unwrap();
    let mut other = work("a");
    other.build = key("other");
    bench.try_submit(other, Some(WaiterId(2))).unwrap();
    // Somebody of no build waits, too.
    bench.step(Event::Attach {
        operation,
        waiter: WaiterId(3),
        build: None,
    });
    bench.step(Event::Detach {
        waiter: WaiterId(1),
    });
    bench.step(Event::Detach {
        waiter: WaiterId(2),
    });
    bench.pass(seconds(100));
    assert!(bench.is_queued(operation));
    bench.step(Event::Detach {
        waiter: WaiterId(3),
    });
    bench.pass(seconds(61));
    assert!(cancelled(&bench, operation));
}

#[test]
fn a_client_that_waits_for_one_thing_keeps_all_of_its_build() {
    let mut bench = Bench::new();
    let kept = bench.submit(work("a"));
    bench.try_submit(work("b"), Some(WaiterId(1))).unwrap();
    bench.pass(seconds(200));
    assert!(bench.is_queued(kept));
}

#[test]
fn operations_of_no_build_stand_alone() {
    let mut bench = Bench::new();
    let of_none = |action: &str| {
        let mut submission = work(action);
        submission.build = key("");
        submission
    };
    let one = bench.try_submit(of_none("a"), Some(WaiterId(1))).unwrap();
    let two = bench.try_submit(of_none("b"), Some(WaiterId(2))).unwrap();
    bench.step(Event::Detach {
        waiter: WaiterId(1),
    });
    bench.pass(seconds(61));
    assert!(cancelled(&bench, one) && bench.is_queued(two));
}

#[test]
fn names_of_builds_are_their_users_own() {
    let mut bench = Bench::new();
    let operation = bench.submit(work("a"));
    let mut foreign = key("b");
    foreign.user = "mallory".into();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: foreign.clone(),
    });
    bench.step(Event::CancelBuild { build: foreign });
    assert!(bench.is_queued(operation));
    bench.pass(seconds(61));
    assert!(cancelled(&bench, operation));
}

#[test]
fn a_whole_build_survives_its_client_with_all_it_has_submitted() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    let whole = bench.submit(Submission {
        whole: true,
        light: true,
        ..work("whole")
    });
    let busy = bench.submit(work("a"));
    let waiting = bench.submit(work("b"));
    let running = bench.given(&worker);
    for _ in 0..100 {
        bench.pass(seconds(9));
        bench.renew(&worker, &running);
    }
    assert!(bench.end(whole).is_none() && bench.end(busy).is_none() && bench.is_queued(waiting));

    // When it ends, nothing of it is wanted any more.
    let given = bench.given(&worker);
    let of_whole = given.iter().find(|given| given.operation == whole).unwrap();
    let effects = bench.outcome(&worker, *of_whole, super::bench::done("x"));
    assert!(cancelled(&bench, busy) && cancelled(&bench, waiting));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::BuildGone(_)))
    );
}

#[test]
fn cancelling_a_build_takes_all_that_only_it_wants() {
    let mut bench = Bench::new();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    let own = bench.submit(work("own"));
    let shared = bench.submit(work("shared"));
    let mut other = work("shared");
    other.build = key("other");
    bench.submit(other);
    bench.step(Event::CancelBuild { build: key("b") });
    assert!(cancelled(&bench, own));
    assert!(bench.is_queued(shared));
    // It is there still, and may go on.
    let next = bench.submit(work("next"));
    bench.pass(seconds(30));
    assert!(bench.is_queued(next));
}

#[test]
fn attaching_says_what_is_there() {
    let mut bench = Bench::new();
    let operation = bench.submit(work("a"));
    let waiter = WaiterId(5);
    let found = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Attached { found, .. } => Some(*found),
            _ => None,
        })
    };
    let unknown = OperationId(42);
    assert_eq!(
        found(&bench.step(Event::Attach {
            operation: unknown,
            waiter,
            build: None
        })),
        Some(false)
    );
    assert_eq!(
        found(&bench.step(Event::Attach {
            operation,
            waiter,
            build: None
        })),
        Some(true)
    );
    bench.step(Event::Detach { waiter });
    bench.step(Event::CancelBuild { build: key("b") });
    assert!(bench.is_queued(operation));
    bench.pass(seconds(61));
    let waiter = WaiterId(6);
    // What has ended is there, and keeps nobody.
    assert_eq!(
        found(&bench.step(Event::Attach {
            operation,
            waiter,
            build: Some(key("b"))
        })),
        Some(true)
    );
    let effects = bench.step(Event::Detach { waiter });
    assert!(effects.is_empty());
}

#[test]
fn streams_that_end_twice_or_were_never_there_change_nothing() {
    let mut bench = Bench::new();
    let operation = bench.try_submit(work("a"), Some(WaiterId(1))).unwrap();
    bench.step(Event::Detach {
        waiter: WaiterId(9),
    });
    bench.step(Event::SessionClosed {
        session: SessionId(9),
    });
    bench.step(Event::Attach {
        operation,
        waiter: WaiterId(1),
        build: Some(key("x")),
    });
    bench.step(Event::Detach {
        waiter: WaiterId(1),
    });
    bench.step(Event::Detach {
        waiter: WaiterId(1),
    });
    bench.pass(seconds(61));
    assert!(cancelled(&bench, operation));
    assert_eq!(bench.queue.counts().queued, 0);
}

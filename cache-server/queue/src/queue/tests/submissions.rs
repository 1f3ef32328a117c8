//! Joining, refusing, ending.

use super::bench::{Bench, done, hello, key, work};
use crate::{Canceller, Done, Effect, End, Event, Outcome, Refusal, Submission, WaiterId};

#[test]
fn work_goes_to_a_worker_and_ends_for_all_who_wait() {
    let mut bench = Bench::new();
    let operation = bench.submit(work("a"));
    assert!(bench.is_queued(operation));
    let worker = bench.worker("w", 1);
    let given = bench.last(&worker);
    assert_eq!(given.operation, operation);
    let effects = bench.outcome(&worker, given, done("well"));
    let end = bench.end(operation).unwrap();
    assert!(matches!(&end, End::Done(done) if &*done.outcome == b"well"));
    assert!(
        effects.iter().any(
            |effect| matches!(effect, Effect::Ended { operation: of, .. } if *of == operation)
        )
    );
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::OutcomeTaken {
            too_late: false,
            ..
        }
    )));
    let counts = bench.queue.counts();
    assert_eq!(
        (counts.queued, counts.running, counts.free_slots),
        (0, 0, 1)
    );
}

#[test]
fn the_journal_knows_a_grant_before_the_worker_does() {
    let mut bench = Bench::new();
    bench.worker("w", 1);
    bench.submit(work("a"));
    let at = |wanted: fn(&Effect) -> bool| bench.seen.iter().rposition(wanted).unwrap();
    assert!(
        at(|effect| matches!(effect, Effect::Persist(_)))
            < at(|effect| matches!(effect, Effect::Assign { .. }))
    );
}

#[test]
fn what_is_placed_at_once_is_journaled_once() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    bench.drain();
    bench.submit(work("a"));
    let kinds: Vec<_> = bench
        .seen
        .iter()
        .map(|effect| match effect {
            Effect::Persist(_) => "persist",
            Effect::Submitted { .. } => "submitted",
            Effect::Started { .. } => "started",
            Effect::Assign { .. } => "assign",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["persist", "submitted", "started", "assign"]);
    let record = bench.journal.values().next().unwrap();
    assert!(matches!(record.state, crate::RecordState::Running { .. }));
    assert_eq!(bench.given(&worker).len(), 1);
}

#[test]
fn a_failing_step_is_an_outcome_and_is_not_tried_again() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let given = bench.last(&worker);
    let failed = Done {
        outcome: [].into(),
        failed: true,
        message: "exit code 1".into(),
    };
    bench.outcome(&worker, given, Outcome::Done(failed.clone()));
    assert_eq!(bench.end(operation), Some(End::Done(failed)));
    assert_eq!(bench.given(&worker).len(), 1);
    // Nor is it remembered against who asks again.
    assert_ne!(bench.submit(work("a")), operation);
    assert_eq!(bench.given(&worker).len(), 2);
}

#[test]
fn the_same_action_joins_what_is_under_way() {
    let mut bench = Bench::new();
    let first = bench.submit(work("a"));
    let mut of_another = work("a");
    of_another.build = key("other");
    of_another.build.user = "bob".into();
    assert_eq!(bench.submit(of_another.clone()), first);
    let worker = bench.worker("w", 4);
    assert_eq!(bench.submit(of_another.clone()), first);
    assert_eq!(bench.given(&worker).len(), 1);

    let mut elsewhere = of_another.clone();
    elsewhere.build.namespace = "org/x".into();
    assert_ne!(bench.submit(elsewhere), first);
    let mut function = of_another.clone();
    function.action.function = 1;
    assert_ne!(bench.submit(function), first);

    let given = bench.given(&worker)[0];
    bench.outcome(&worker, given, done("x"));
    assert_ne!(bench.submit(of_another), first);
}

#[test]
fn what_wants_nothing_old_joins_nothing_and_nothing_joins_it() {
    let mut bench = Bench::new();
    let fresh = || Submission {
        skip_cache_lookup: true,
        ..work("a")
    };
    let first = bench.submit(fresh());
    let second = bench.submit(fresh());
    let usual = bench.submit(work("a"));
    assert!(first != second && first != usual && second != usual);
    assert_eq!(bench.submit(work("a")), usual);
}

#[test]
fn one_builds_cancelling_leaves_the_work_to_others() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    let mut other = work("a");
    other.build = key("other");
    bench.submit(other);
    bench.step(Event::Cancel {
        operation,
        by: Canceller::Build(key("b")),
    });
    assert_eq!(bench.end(operation), None);
    bench.step(Event::Cancel {
        operation,
        by: Canceller::Build(key("stranger")),
    });
    assert_eq!(bench.end(operation), None);
    let by = Canceller::User {
        namespace: "org".into(),
        user: "ann".into(),
    };
    let effects = bench.step(Event::Cancel { operation, by });
    assert!(matches!(bench.end(operation), Some(End::Cancelled { .. })));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Cancel { .. }))
    );

    // The slot is free when the worker says so.
    let next = bench.submit(work("next"));
    assert!(bench.is_queued(next));
    let given = bench.given(&worker)[0];
    let effects = bench.outcome(&worker, given, Outcome::Cancelled);
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::OutcomeTaken {
            too_late: false,
            ..
        }
    )));
    assert!(!bench.is_queued(next));
}

#[test]
fn what_is_done_after_it_was_cancelled_comes_too_late() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    let operation = bench.submit(work("a"));
    bench.step(Event::Cancel {
        operation,
        by: Canceller::Operator,
    });
    let given = bench.last(&worker);
    let effects = bench.outcome(&worker, given, done("x"));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::OutcomeTaken { too_late: true, .. }))
    );
    assert!(matches!(bench.end(operation), Some(End::Cancelled { .. })));
    let effects = bench.outcome(&worker, given, done("x"));
    assert!(matches!(
        effects[..],
        [Effect::OutcomeTaken { too_late: true, .. }]
    ));
}

#[test]
fn a_namespace_may_not_have_more_waiting_than_it_may() {
    let mut bench = Bench::with(|settings| settings.queued_per_namespace = 3);
    for at in 0..3 {
        bench.submit(work(&format!("{at}")));
    }
    assert_eq!(bench.try_submit(work("more"), Some(WaiterId(99))), None);
    let refused = bench.seen.iter().rev().find_map(|effect| match effect {
        Effect::Refused { refusal, .. } => Some(refusal.clone()),
        _ => None,
    });
    assert!(
        matches!(refused, Some(Refusal::Full { queued: 3, everywhere: false, retry_after }) if retry_after.as_secs() >= 1)
    );
    // Joining takes no room, and others have room of their own.
    assert!(bench.try_submit(work("0"), None).is_some());
    let mut elsewhere = work("more");
    elsewhere.build.namespace = "other".into();
    assert!(bench.try_submit(elsewhere, None).is_some());
    bench.worker("w", 1);
    assert!(bench.try_submit(work("more"), None).is_some());
}

#[test]
fn the_queue_as_a_whole_has_a_bound() {
    let mut bench = Bench::with(|settings| settings.queued = 2);
    bench.submit(work("a"));
    bench.submit(work("b"));
    let mut elsewhere = work("c");
    elsewhere.build.namespace = "other".into();
    assert_eq!(bench.try_submit(elsewhere, None), None);
    assert_eq!(bench.queue.counts().refused, 1);
}

#[test]
fn what_asks_for_too_much_is_refused() {
    let mut bench = Bench::new();
    let mut picky = work("a");
    picky.requirements = (0..40).map(|at| (format!("{at}"), "x".into())).collect();
    assert_eq!(bench.try_submit(picky, None), None);
    let mut deep = work("a");
    deep.inputs = vec![crate::Input { layer: 1, bytes: 1 }; 5000];
    assert_eq!(bench.try_submit(deep, None), None);
    let operation = bench.submit(work("a"));
    let again = std::sync::Arc::new(work("b"));
    let effects = bench.step(Event::Submit {
        operation,
        waiter: None,
        submission: again,
    });
    assert!(matches!(
        effects[..],
        [Effect::Refused {
            refusal: Refusal::Duplicate,
            ..
        }]
    ));
}

#[test]
fn bytes_beyond_all_measure_overflow_nothing() {
    let mut bench = Bench::new();
    let mut huge = work("a");
    huge.inputs = vec![
        crate::Input {
            layer: 1,
            bytes: u64::MAX
        };
        3
    ];
    huge.priority = i32::MIN;
    huge.steps = u32::MAX;
    bench.submit(huge);
    let worker = bench.worker("w", u32::MAX);
    assert_eq!(bench.given(&worker).len(), 1);
}

#[test]
fn light_work_takes_no_slot() {
    let mut bench = Bench::new();
    let worker = bench.worker_like(hello("w", 1));
    for at in 0..5 {
        bench.submit(Submission {
            light: true,
            ..work(&format!("light{at}"))
        });
    }
    bench.submit(work("a"));
    assert_eq!(bench.given(&worker).len(), 6);
    let waiting = bench.submit(work("b"));
    assert!(bench.is_queued(waiting));
}

#[test]
fn light_work_has_a_bound_as_well() {
    let mut bench = Bench::with(|settings| settings.light_per_worker = 2);
    let worker = bench.worker("w", 1);
    let all: Vec<_> = (0..3)
        .map(|at| {
            bench.submit(Submission {
                light: true,
                ..work(&format!("light{at}"))
            })
        })
        .collect();
    assert!(bench.is_queued(all[2]));
    let given = bench.given(&worker)[0];
    bench.outcome(&worker, given, done("x"));
    assert!(!bench.is_queued(all[2]));
}

//! What can be seen, and for how long.

use super::bench::{Bench, done, hello, seconds, work};
use crate::{Cursor, Effect, Event, Filter, Hello, Stage, Submission};

#[test]
fn operations_are_listed_the_newest_first_by_pages() {
    let mut bench = Bench::new();
    let mut all = Vec::new();
    for at in 0..10 {
        let mut submission = work(&format!("{at}"));
        submission.whole = at % 2 == 0;
        submission.light = submission.whole;
        if at == 9 {
            submission.build.namespace = "other".into();
        }
        all.push(bench.submit(submission));
        bench.pass(seconds(1));
    }
    let filter = Filter {
        namespace: Some("org".into()),
        ..Filter::default()
    };
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = bench.queue.list(&filter, after, 4);
        let Some(last) = page.last() else { break };
        after = Some(Cursor {
            submitted: last.submitted,
            operation: last.operation,
        });
        listed.extend(page.iter().map(|view| view.operation));
    }
    let mut wanted = all[..9].to_vec();
    wanted.reverse();
    assert_eq!(listed, wanted);
    let whole = bench.queue.list(
        &Filter {
            whole: true,
            ..filter.clone()
        },
        None,
        100,
    );
    assert_eq!(whole.len(), 5);
    let nobody = Filter {
        user: Some("nobody".into()),
        ..filter
    };
    assert!(bench.queue.list(&nobody, None, 100).is_empty());
}

#[test]
fn a_view_has_times_and_places() {
    let mut bench = Bench::new();
    let operation = bench.submit(work("a"));
    let submitted = bench.now;
    bench.pass(seconds(3));
    let worker = bench.worker("w", 1);
    let view = bench.queue.view(operation).unwrap();
    assert_eq!(
        view.stage,
        Stage::Running {
            worker: "host-w".into(),
            attempt: 1
        }
    );
    assert_eq!(
        (view.submitted, view.started),
        (submitted, Some(submitted + seconds(3)))
    );
    bench.pass(seconds(2));
    let given = bench.last(&worker);
    bench.outcome(&worker, given, done("x"));
    assert_eq!(
        bench.queue.view(operation).unwrap().ended,
        Some(submitted + seconds(5))
    );
}

#[test]
fn what_has_ended_is_forgotten_by_number_time_and_size() {
    let mut bench = Bench::with(|settings| {
        settings.remembered = 3;
        settings.remembered_bytes = 1000;
    });
    let worker = bench.worker("w", 1);
    let finish = |bench: &mut Bench, action: &str, outcome: &str| {
        let operation = bench.submit(work(action));
        let given = bench.last(&worker);
        bench.outcome(&worker, given, done(outcome));
        operation
    };
    let all: Vec<_> = (0..4)
        .map(|at| finish(&mut bench, &format!("{at}"), "x"))
        .collect();
    assert!(bench.queue.view(all[0]).is_none() && bench.queue.view(all[1]).is_some());
    let large = finish(&mut bench, "large", &"x".repeat(999));
    assert!(bench.queue.view(all[3]).is_some());
    let other = finish(&mut bench, "other", "xx");
    assert!(bench.queue.view(all[3]).is_none() && bench.queue.view(large).is_none());
    assert!(bench.queue.view(other).is_some());
    let effects = bench.pass(seconds(3601));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Forget(of) if *of == other))
    );
    assert_eq!(bench.queue.counts().remembered, 0);
    assert!(bench.queue.list(&Filter::default(), None, 10).is_empty());
    assert!(bench.journal.is_empty());
}

#[test]
fn whole_builds_are_remembered_longer() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    let whole = bench.submit(Submission {
        whole: true,
        light: true,
        ..work("whole")
    });
    let given = bench.last(&worker);
    bench.outcome(&worker, given, done("x"));
    bench.pass(seconds(3 * 3600));
    assert!(bench.queue.view(whole).is_some());
}

#[test]
fn kinds_of_workers_are_counted_for_a_namespace() {
    let mut bench = Bench::new();
    bench.worker("a", 2);
    bench.worker("b", 3);
    let mut arm = hello("c", 50);
    arm.properties.insert("arch".into(), "arm64".into());
    bench.worker_like(arm);
    bench.worker_like(Hello {
        namespaces: vec!["secret".into()],
        ..hello("d", 9)
    });
    bench.submit(work("x"));
    let kinds = bench.queue.kinds("org");
    assert_eq!(kinds.len(), 2);
    assert_eq!(
        (&*kinds[0].properties["arch"], kinds[0].slots),
        ("arm64", 50)
    );
    assert_eq!(
        (kinds[1].workers, kinds[1].slots, kinds[1].free_slots),
        (2, 5, 4)
    );
    assert_eq!(
        bench
            .queue
            .kinds("secret")
            .iter()
            .map(|kind| kind.slots)
            .sum::<u32>(),
        64
    );
    let counts = bench.queue.counts();
    assert_eq!(
        (counts.workers, counts.slots, counts.free_slots),
        (4, 64, 63)
    );
    assert_eq!(bench.queue.workers().len(), 4);
}

#[test]
fn asking_about_what_is_not_there_gives_nothing() {
    let mut bench = Bench::new();
    let unknown = crate::OperationId(1);
    assert!(bench.queue.view(unknown).is_none() && bench.queue.waiting(unknown).is_none());
    let by = crate::Canceller::Operator;
    assert!(
        bench
            .step(Event::Cancel {
                operation: unknown,
                by
            })
            .is_empty()
    );
    assert_eq!(unknown.to_string().parse(), Ok(unknown));
}

//! Which workers get what.

use super::bench::{Bench, done, hello, work};
use crate::{Event, Hello, Waiting};

#[test]
fn requirements_are_met() {
    let mut bench = Bench::new();
    let mut gpu = work("gpu");
    gpu.requirements.insert("gpu".into(), "a100".into());
    let usual = bench.worker("usual", 4);
    let operation = bench.submit(gpu);
    assert!(bench.is_queued(operation));
    let text = bench.queue.waiting(operation).unwrap().to_string();
    assert_eq!(text, "no worker for linux/amd64 with gpu=a100 is there");
    let mut properties = hello("g", 1).properties;
    properties.insert("gpu".into(), "h100".into());
    bench.worker_like(Hello {
        properties: properties.clone(),
        ..hello("wrong", 1)
    });
    assert!(bench.is_queued(operation));
    properties.insert("gpu".into(), "a100".into());
    let right = bench.worker_like(Hello {
        properties,
        ..hello("right", 1)
    });
    assert_eq!(bench.last(&right).operation, operation);
    assert!(bench.given(&usual).is_empty());
}

#[test]
fn a_label_that_is_asked_for_late_tells_workers_apart() {
    let mut bench = Bench::new();
    let with = |name: &str| {
        let mut hello = hello(name, 1);
        hello.properties.insert("host".into(), name.into());
        hello
    };
    let workers: Vec<_> = ["a", "b", "c"]
        .map(|name| bench.worker_like(with(name)))
        .into();
    let mut picky = work("x");
    picky.requirements.insert("host".into(), "b".into());
    let operation = bench.submit(picky.clone());
    assert_eq!(bench.last(&workers[1]).operation, operation);
    // And still when all are busy with other things.
    bench.submit(work("1"));
    bench.submit(work("2"));
    picky.action.hash = "y".into();
    let next = bench.submit(picky);
    assert!(bench.is_queued(next));
    let given = bench.last(&workers[0]);
    bench.outcome(&workers[0], given, done("x"));
    assert!(bench.is_queued(next));
    let given = bench.last(&workers[1]);
    bench.outcome(&workers[1], given, done("x"));
    assert_eq!(bench.last(&workers[1]).operation, next);
}

#[test]
fn namespaces_are_kept_apart() {
    let mut bench = Bench::new();
    let own = bench.worker_like(Hello {
        namespaces: vec!["org/own".into()],
        ..hello("w", 4)
    });
    let operation = bench.submit(work("a"));
    let text = bench.queue.waiting(operation).unwrap().to_string();
    assert_eq!(
        text,
        "no worker for linux/amd64 takes work of this namespace"
    );
    let mut below = work("a");
    below.build.namespace = "org/own/pr/1".into();
    let below = bench.submit(below);
    assert_eq!(bench.last(&own).operation, below);
    let mut alike = work("a");
    alike.build.namespace = "org/owner".into();
    let alike = bench.submit(alike);
    assert!(bench.is_queued(alike));
}

#[test]
fn slots_and_what_a_worker_says_bound_what_it_gets() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 3);
    let connection = worker.connection;
    let capacity = |free, why: &str| Event::Capacity {
        connection,
        free,
        draining: false,
        why: why.into(),
    };
    bench.step(capacity(1, "memory is short"));
    for at in 0..6 {
        bench.submit(work(&format!("{at}")));
    }
    assert_eq!(bench.given(&worker).len(), 1);
    bench.step(capacity(2, ""));
    assert_eq!(bench.given(&worker).len(), 3);
    // It had not heard of the last ones when it said so.
    bench.step(capacity(2, ""));
    assert_eq!(bench.given(&worker).len(), 3);
    let given = bench.given(&worker)[0];
    bench.outcome(&worker, given, done("x"));
    assert_eq!(bench.given(&worker).len(), 4);
}

#[test]
fn what_a_worker_that_takes_nothing_says_is_told_to_those_who_wait() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 2);
    let capacity = |free, why: &str| Event::Capacity {
        connection: worker.connection,
        free,
        draining: false,
        why: why.into(),
    };
    bench.step(capacity(0, "10 MB of memory are left"));
    let operations = [bench.submit(work("a")), bench.submit(work("b"))];
    for operation in operations {
        assert_eq!(
            bench.queue.waiting(operation).unwrap().to_string(),
            "no worker for linux/amd64 takes work now: host-w: 10 MB of memory are left"
        );
    }
    // One with a slot for it is only busy.
    bench.step(capacity(2, ""));
    assert_eq!(bench.given(&worker).len(), 2);
    bench.step(capacity(0, "tasks wait for memory"));
    let third = bench.submit(work("c"));
    let waiting = bench.queue.waiting(third);
    assert_eq!(waiting, Some(Waiting::Others { before: 0 }));
}

#[test]
fn a_draining_worker_gets_nothing_and_people_are_told() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    let (free, draining) = (0, true);
    let why = "it was told to go".into();
    bench.step(Event::Capacity {
        connection: worker.connection,
        free,
        draining,
        why,
    });
    let operation = bench.submit(work("a"));
    let waiting = bench.queue.waiting(operation).unwrap();
    assert!(matches!(waiting, Waiting::NoneTakes { .. }));
    assert_eq!(
        waiting.to_string(),
        "no worker for linux/amd64 takes work now: host-w: it was told to go"
    );
    let light = bench.submit(crate::Submission {
        light: true,
        ..work("light")
    });
    assert!(bench.is_queued(light));
}

#[test]
fn who_waits_is_told_how_many_are_before() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    bench.submit(work("runs"));
    let all: Vec<_> = (0..14)
        .map(|at| bench.submit(work(&format!("{at}"))))
        .collect();
    let text = |bench: &Bench, at: usize| bench.queue.waiting(all[at]).unwrap().to_string();
    assert_eq!(text(&bench, 0), "it is the next, all workers are busy");
    assert_eq!(text(&bench, 1), "1 other waits before it");
    assert_eq!(text(&bench, 12), "12 others wait before it");
    let given = bench.last(&worker);
    bench.outcome(&worker, given, done("x"));
    assert_eq!(text(&bench, 12), "11 others wait before it");
    assert_eq!(bench.queue.waiting(given.operation), None);
}

#[test]
fn a_worker_that_goes_and_runs_nothing_is_forgotten() {
    let mut bench = Bench::new();
    let worker = bench.worker("w", 1);
    bench.holds(&worker, &[1, 2, 3]);
    bench.step(Event::WorkerGone {
        connection: worker.connection,
    });
    assert!(bench.queue.workers().is_empty());
    let operation = bench.submit(work("a"));
    assert!(matches!(
        bench.queue.waiting(operation),
        Some(Waiting::NoWorker { .. })
    ));
}

#[test]
fn a_worker_may_come_back_as_something_else() {
    let mut bench = Bench::new();
    bench.worker("w", 1);
    let mut arm = hello("w", 2);
    arm.properties.insert("arch".into(), "arm64".into());
    let worker = bench.worker_like(arm);
    let amd = bench.submit(work("a"));
    let mut work_for_arm = work("b");
    work_for_arm
        .requirements
        .insert("arch".into(), "arm64".into());
    let for_arm = bench.submit(work_for_arm);
    assert!(bench.is_queued(amd));
    assert_eq!(bench.last(&worker).operation, for_arm);
}

//! Where work goes for its layers' sake.

use super::bench::{Bench, Worker, done, key, millis, on, seconds, work};
use crate::{Event, Input, SessionId, Submission};

fn on_layers(action: &str, inputs: Vec<Input>) -> Submission {
    Submission {
        inputs,
        ..work(action)
    }
}

fn bench(workers: usize) -> (Bench, Vec<Worker>) {
    let mut bench = Bench::new();
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    let workers = (0..workers)
        .map(|at| bench.worker(&format!("w{at}"), 1))
        .collect();
    (bench, workers)
}

#[test]
fn the_worker_that_lacks_least_is_taken() {
    let (mut bench, workers) = bench(20);
    bench.holds(&workers[3], &[1]);
    bench.holds(&workers[7], &[1, 2]);
    bench.holds(&workers[9], &[3]);
    bench.submit(on_layers("a", on(&[(1, 100), (2, 50), (3, 10)])));
    assert_eq!(bench.given(&workers[7]).len(), 1);
}

#[test]
fn a_chain_stays_where_it_is() {
    let (mut bench, workers) = bench(50);
    let mut layers = vec![];
    let mut place = None;
    for step in 0..10_u64 {
        let operation = bench.submit(on_layers(&format!("{step}"), on(&layers)));
        let worker = workers.iter().position(|worker| {
            bench
                .given(worker)
                .iter()
                .any(|given| given.operation == operation)
        });
        assert!(worker.is_some() && (place.is_none() || place == worker));
        place = worker;
        let worker = &workers[worker.unwrap()];
        layers.push((100 + step, 10));
        let held: Vec<u64> = layers.iter().map(|&(layer, _)| layer).collect();
        bench.holds(worker, &held);
        let given = bench.last(worker);
        bench.outcome(worker, given, done("x"));
    }
}

#[test]
fn work_on_one_base_comes_to_the_same_few() {
    let (mut bench, workers) = bench(100);
    let mut used = std::collections::BTreeSet::new();
    for at in 0..30 {
        let operation = bench.submit(on_layers(&format!("{at}"), on(&[(77, 100)])));
        let at = workers.iter().position(|worker| {
            bench
                .given(worker)
                .iter()
                .any(|given| given.operation == operation)
        });
        used.insert(at.unwrap());
        let given = bench.last(&workers[at.unwrap()]);
        bench.outcome(&workers[at.unwrap()], given, done("x"));
    }
    assert_eq!(used.len(), 1);
}

/// Work that takes a moment: waiting for a busy worker pays.
fn quick_farm() -> (Bench, Worker, Worker) {
    let (mut bench, mut workers) = bench(2);
    let (empty, holder) = (workers.remove(0), workers.remove(0));
    bench.holds(&holder, &[1]);
    for at in 0..200 {
        let quick = bench.submit(on_layers(&format!("quick{at}"), on(&[(1, 200)])));
        let given = bench.last(&holder);
        assert_eq!(given.operation, quick);
        bench.pass(millis(50));
        bench.outcome(&holder, given, done("x"));
    }
    bench.drain();
    (bench, empty, holder)
}

#[test]
fn work_waits_a_moment_for_the_worker_that_has_its_layers() {
    let (mut bench, empty, holder) = quick_farm();
    bench.submit(on_layers("first", on(&[(1, 200)])));
    let first = bench.last(&holder);
    let held = bench.submit(on_layers("second", on(&[(1, 200)])));
    assert!(bench.is_queued(held));
    assert_eq!(
        bench.queue.waiting(held).unwrap().to_string(),
        "a worker that has its layers may come free"
    );
    bench.pass(millis(300));
    assert!(bench.is_queued(held));
    bench.outcome(&holder, first, done("x"));
    assert_eq!(bench.last(&holder).operation, held);
    assert!(bench.given(&empty).is_empty());
}

#[test]
fn and_is_given_away_after_that() {
    let (mut bench, empty, holder) = quick_farm();
    bench.submit(on_layers("first", on(&[(1, 200)])));
    let held = bench.submit(on_layers("second", on(&[(1, 200)])));
    bench.pass(millis(495));
    assert!(bench.is_queued(held));
    bench.pass(millis(10));
    assert_eq!(bench.last(&empty).operation, held);
    assert_eq!(bench.given(&holder).len(), 1);

    // What costs little to bring is waited for no longer than that: 10 MB are a tenth of a second.
    let (mut bench, empty, _holder) = quick_farm();
    bench.submit(on_layers("first", on(&[(1, 10)])));
    let held = bench.submit(on_layers("second", on(&[(1, 10)])));
    bench.pass(millis(110));
    assert_eq!(bench.last(&empty).operation, held);
}

#[test]
fn work_that_takes_long_is_not_waited_for() {
    let (mut bench, workers) = bench(2);
    bench.holds(&workers[0], &[1]);
    for at in 0..200 {
        bench.submit(on_layers(&format!("{at}"), on(&[(1, 200)])));
        let given = bench.last(&workers[0]);
        for _ in 0..3 {
            bench.pass(seconds(9));
            bench.renew(&workers[0], &[given]);
            bench.renew(&workers[1], &[]);
        }
        bench.outcome(&workers[0], given, done("x"));
    }
    bench.submit(on_layers("first", on(&[(1, 200)])));
    let second = bench.submit(on_layers("second", on(&[(1, 200)])));
    assert_eq!(bench.last(&workers[1]).operation, second);
}

#[test]
fn a_free_worker_takes_what_it_has_layers_for() {
    let (mut bench, workers) = bench(1);
    bench.submit(work("busy"));
    bench.holds(&workers[0], &[5]);
    for at in 0..10 {
        bench.submit(on_layers(&format!("{at}"), on(&[(100 + at, 50)])));
    }
    let mine = bench.submit(on_layers("mine", on(&[(5, 50)])));
    let given = bench.last(&workers[0]);
    bench.outcome(&workers[0], given, done("x"));
    // Nobody has the layers of the others, so the first one is as good as any.
    assert_ne!(bench.last(&workers[0]).operation, mine);
}

#[test]
fn without_placement_layers_do_not_matter() {
    let mut bench = Bench::with(|settings| settings.placement = false);
    let workers: Vec<_> = (0..20)
        .map(|at| bench.worker(&format!("w{at}"), 8))
        .collect();
    bench.holds(&workers[3], &[1]);
    for at in 0..40 {
        bench.submit(on_layers(&format!("{at}"), on(&[(1, 500)])));
    }
    let used = workers
        .iter()
        .filter(|worker| !bench.given(worker).is_empty())
        .count();
    assert!(used > 5, "{used}");
}

#[test]
fn a_worker_lingers_for_what_may_follow() {
    let mut bench = Bench::with(|settings| settings.linger = millis(20));
    bench.step(Event::SessionOpened {
        session: SessionId(1),
        build: key("b"),
    });
    let worker = bench.worker("w", 1);
    bench.submit(work("parent"));
    let others: Vec<_> = (0..3)
        .map(|at| bench.submit(work(&format!("other{at}"))))
        .collect();
    let given = bench.last(&worker);
    bench.holds(&worker, &[1]);
    bench.outcome(&worker, given, done("x"));
    assert!(others.iter().all(|&other| bench.is_queued(other)));
    let child = bench.submit(on_layers("child", on(&[(1, 100)])));
    assert_eq!(bench.last(&worker).operation, child);
    let given = bench.last(&worker);
    bench.outcome(&worker, given, done("x"));
    bench.pass(millis(30));
    assert!(others.contains(&bench.last(&worker).operation));
}

//! Fairness, as whoever submits sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, Worker, done, seconds, work};
use crate::{Event, Submission};

/// Runs what a worker is given, each for some time, and counts whose it was.
fn serve(
    bench: &mut Bench,
    worker: &Worker,
    rounds: usize,
    time: impl Fn(&str) -> Duration,
) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..rounds {
        let given = bench.last(worker);
        let view = bench.queue.view(given.operation).unwrap();
        let build = &view.submission.build;
        let whose = format!("{}/{}/{}", build.namespace, build.user, build.build);
        let end = bench.now + time(&whose);
        while bench.now < end {
            bench.pass(seconds(1).min(end - bench.now));
            bench.renew(worker, &[given]);
        }
        *shares.entry(whose).or_default() += 1;
        bench.outcome(worker, given, done("x"));
    }
    shares
}

fn of(path: [&str; 3], action: usize) -> Submission {
    let mut submission = work(&format!("{}-{}-{}-{action}", path[0], path[1], path[2]));
    submission.build.namespace = path[0].into();
    submission.build.user = path[1].into();
    submission.build.build = path[2].into();
    submission
}

fn patient(change: impl FnOnce(&mut crate::Settings)) -> Bench {
    Bench::with(|settings| {
        settings.grace = seconds(1_000_000);
        change(settings);
    })
}

#[test]
fn a_flood_takes_no_more_than_its_share() {
    let mut bench = patient(|_| {});
    let worker = bench.worker("w", 1);
    for at in 0..500 {
        bench.submit(of(["flood", "u", "b"], at));
    }
    for at in 0..100 {
        bench.submit(of(["calm", "u", "b"], at));
        bench.submit(of(["third", &format!("u{}", at % 3), "b"], at));
    }
    let shares = serve(&mut bench, &worker, 150, |_| seconds(3));
    assert!((45..=55).contains(&shares["flood/u/b"]), "{shares:?}");
    assert!((45..=55).contains(&shares["calm/u/b"]), "{shares:?}");
}

#[test]
fn shares_are_of_time_and_not_of_pieces() {
    let mut bench = patient(|_| {});
    let worker = bench.worker("w", 1);
    for at in 0..300 {
        bench.submit(of(["long", "u", "b"], at));
        bench.submit(of(["short", "u", "b"], at));
    }
    let time = |whose: &str| seconds(if whose.starts_with("long") { 40 } else { 4 });
    let shares = serve(&mut bench, &worker, 220, time);
    let part = shares["short/u/b"] / shares["long/u/b"];
    assert!((8..=11).contains(&part), "{shares:?}");
}

#[test]
fn weights_may_change() {
    let mut bench = patient(|settings| {
        settings.namespace_weights = [(Arc::from("big"), 300)].into();
    });
    let worker = bench.worker("w", 1);
    for at in 0..300 {
        bench.submit(of(["big", "u", "b"], at));
        bench.submit(of(["small", "u", "b"], at));
    }
    let shares = serve(&mut bench, &worker, 100, |_| seconds(3));
    assert!((70..=80).contains(&shares["big/u/b"]), "{shares:?}");
    bench.step(Event::Weights {
        namespaces: vec![("small".into(), 300)],
        users: vec![],
    });
    let shares = serve(&mut bench, &worker, 100, |_| seconds(3));
    assert!((70..=80).contains(&shares["small/u/b"]), "{shares:?}");
}

#[test]
fn urgent_work_is_first_and_other_work_is_not_forgotten() {
    let mut bench = patient(|_| {});
    let worker = bench.worker("w", 1);
    bench.submit(work("runs"));
    let late = bench.submit(Submission {
        priority: 50,
        ..work("late")
    });
    // More urgent work keeps coming, as fast as it is done.
    let mut rounds = 0;
    while bench.is_queued(late) {
        bench.submit(work(&format!("{rounds}")));
        serve(&mut bench, &worker, 1, |_| seconds(1));
        rounds += 1;
        assert!(rounds < 100, "it starves");
    }
    assert!(rounds >= 40, "{rounds}");
}

#[test]
fn who_joins_in_a_hurry_hurries_what_it_joins() {
    let mut bench = patient(|_| {});
    bench.submit(Submission {
        priority: 5,
        ..work("slow")
    });
    bench.submit(work("usual"));
    bench.submit(Submission {
        priority: -5,
        ..work("slow")
    });
    let worker = bench.worker("w", 1);
    let first = bench.last(&worker).operation;
    assert_eq!(
        &*bench.queue.view(first).unwrap().submission.action.hash,
        "slow"
    );
}

#[test]
fn many_builds_of_a_user_are_one_user() {
    let mut bench = patient(|_| {});
    let worker = bench.worker("w", 1);
    for at in 0..100 {
        bench.submit(of(["n", "one", "b"], at));
        bench.submit(of(["n", "many", &format!("b{at}")], at));
    }
    let shares = serve(&mut bench, &worker, 60, |_| seconds(2));
    assert!((28..=32).contains(&shares["n/one/b"]), "{shares:?}");
}

#[test]
fn odd_requirements_are_no_way_around() {
    let mut bench = patient(|_| {});
    let mut properties = super::bench::hello("w", 1).properties;
    properties.extend((0..20).map(|at| (format!("label{at}"), "yes".to_owned())));
    let worker = bench.worker_like(crate::Hello {
        properties,
        ..super::bench::hello("w", 1)
    });
    for at in 0..100 {
        let mut odd = of(["odd", "u", "b"], at);
        odd.requirements
            .insert(format!("label{}", at % 20), "yes".into());
        bench.submit(odd);
        bench.submit(of(["usual", "u", "b"], at));
    }
    let shares = serve(&mut bench, &worker, 60, |_| seconds(2));
    assert!((28..=32).contains(&shares["usual/u/b"]), "{shares:?}");
}

#[test]
fn a_namespace_that_gets_nothing_is_served_some_time() {
    // Its account is far ahead: it had all of the farm for a long time while nobody else came, and
    // others with an eternal backlog have much to make up for.
    let mut bench = patient(|settings| settings.overdue = seconds(60));
    let worker = bench.worker("w", 1);
    for at in 0..2 {
        bench.submit(of(["other", "u", "b"], at));
    }
    for at in 0..4000 {
        bench.submit(of(["other", "u", "c"], 10 + at));
    }
    bench.queue.settings.namespace_weights.clear();
    bench.step(Event::Weights {
        namespaces: vec![("poor".into(), 1), ("other".into(), 10_000)],
        users: vec![],
    });
    for at in 0..100 {
        bench.submit(of(["poor", "u", "b"], at));
    }
    let shares = serve(&mut bench, &worker, 400, |_| seconds(2));
    assert!(shares["poor/u/b"] >= 10, "{shares:?}");
}

//! Two machines that come to the same step.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ashlar_engine::share::Leave;
use ashlar_store::task::spawn;

use super::fakes::{Mood, TTL};
use super::*;

const READ_WRITE: Mode = Mode::ReadWrite;

async fn leave(machine: &Machine, name: &str) -> (Leave, Vec<String>) {
    let shown: Mutex<Vec<String>> = Mutex::default();
    let waiting = |holder: &str| shown.lock().unwrap().push(holder.to_owned());
    let leave = machine.sharing.leave(&key(name), name, &waiting).await;
    (leave, shown.into_inner().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_runs_a_step_and_the_other_takes_its_result() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let (Leave::Run(Some(lease)), shown) = leave(&a, "step").await else {
        panic!("nobody else is there");
    };
    assert!(shown.is_empty());
    let waiter = spawn(async move {
        let left = leave(&b, "step").await;
        (left, b)
    });
    // Much longer than a lease is held without renewal.
    tokio::time::sleep(3 * TTL).await;
    let layer = a.make(&tar(&[("made", 100_000)], 1));
    a.sharing.publish(result("step", &[layer]), Some(lease));
    let ((left, shown), b) = waiter.await.unwrap();
    assert!(matches!(left, Leave::Made), "{left:?}");
    assert_eq!(shown, ["me@here: step"]);
    assert!(b.home.result_by_definition(&key("step")).unwrap().is_some());
    a.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_failed_there_is_run_here() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let (Leave::Run(Some(lease)), _) = leave(&a, "step").await else {
        panic!("nobody else is there");
    };
    let waiter = spawn(async move { leave(&b, "step").await.0 });
    tokio::time::sleep(TTL / 2).await;
    let begin = Instant::now();
    drop(lease);
    let left = waiter.await.unwrap();
    assert!(matches!(left, Leave::Run(Some(_))), "{left:?}");
    assert!(begin.elapsed() < TTL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holder_is_replaced_when_its_lease_runs_out() {
    let server = Server::new("grpc://c:1");
    let (dead, held) = {
        let a = Machine::new(&[(&server, READ_WRITE)]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let taken = std::thread::scope(|scope| {
            scope
                .spawn(|| runtime.block_on(leave(&a, "step")).0)
                .join()
                .unwrap()
        });
        // Its process ends: nothing is renewed, nothing is given back.
        runtime.shutdown_background();
        (a, taken)
    };
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let begin = Instant::now();
    let (left, shown) = leave(&b, "step").await;
    assert!(matches!(left, Leave::Run(Some(_))), "{left:?}");
    assert_eq!(shown.len(), 1);
    assert!(begin.elapsed() < 4 * TTL);
    drop((dead, held));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_machines_one_runs_a_step() {
    let server = Server::new("grpc://c:1");
    let runs = Arc::new(AtomicUsize::new(0));
    let machines = (0..6).map(|_| {
        let machine = Machine::new(&[(&server, READ_WRITE)]);
        let runs = Arc::clone(&runs);
        spawn(async move {
            match leave(&machine, "step").await.0 {
                Leave::Made => {}
                Leave::Run(lease) => {
                    runs.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(TTL / 4).await;
                    let layer = machine.make(&tar(&[("made", 1000)], 1));
                    machine.sharing.publish(result("step", &[layer]), lease);
                }
            }
            machine.finish().await;
            machine.home.result_by_definition(&key("step")).unwrap()
        })
    });
    let machines: Vec<_> = machines.collect();
    for machine in machines {
        drop(machine.await.unwrap());
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_cache_that_dies_or_keeps_no_leases() {
    let plain = Server::plain("grpc://old:1");
    let a = Machine::new(&[(&plain, READ_WRITE)]);
    assert!(matches!(leave(&a, "step").await.0, Leave::Run(None)));
    assert!(a.warnings().is_empty());

    for mood in [Mood::Gone, Mood::Silent] {
        let server = Server::new("grpc://c:1");
        let a = Machine::new(&[(&server, READ_WRITE)]);
        let b = Machine::new(&[(&server, READ_WRITE)]);
        let held = leave(&a, "step").await;
        let begin = Instant::now();
        let (left, ()) = futures::join!(leave(&b, "step"), async {
            tokio::time::sleep(TTL / 4).await;
            server.set(mood);
        });
        assert!(matches!(left.0, Leave::Run(None)), "{mood:?}");
        assert_eq!(left.1, ["me@here: step"]);
        assert!(begin.elapsed() < Duration::from_secs(8), "{mood:?}");
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_one_that_hangs() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let b = Machine::new(&[(&server, READ_WRITE)]);
    let held = leave(&a, "step").await;
    *server.held_for.lock().unwrap() = Duration::from_secs(3600);
    let (left, shown) = leave(&b, "step").await;
    assert!(matches!(left, Leave::Run(None)), "{left:?}");
    assert!(shown.is_empty() && b.warnings().is_empty());
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_nothing_holds_nobody_up() {
    let server = Server::new("grpc://c:1");
    let reader = Machine::new(&[(&server, Mode::Read)]);
    assert!(matches!(leave(&reader, "step").await.0, Leave::Run(None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_made_before_the_lease_came_is_taken() {
    let server = Server::new("grpc://c:1");
    let a = Machine::new(&[(&server, READ_WRITE)]);
    let (Leave::Run(lease), _) = leave(&a, "step").await else {
        panic!("nobody else is there");
    };
    let layer = a.make(&tar(&[("made", 1000)], 1));
    a.sharing.publish(result("step", &[layer]), lease);
    a.finish().await;
    // It was looked up before that, and is asked for only now.
    let b = Machine::new(&[(&server, READ_WRITE)]);
    assert!(matches!(leave(&b, "step").await.0, Leave::Made));
}

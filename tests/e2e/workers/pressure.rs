//! Workers whose machines are short of memory or processors.

use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::bases;
use ashlar_test_support::worker::Worker;

use super::barrier::Barrier;
use super::{Client, Site};

/// A farm with one worker, which believes what the test says of its machine.
fn site(arguments: &[&str]) -> Site {
    let mut site = Site::local(0);
    let worker = site.worker(arguments).under_pressure().started();
    site.workers.push(worker);
    site
}

/// Waits until a worker says on its page of metrics that it takes so many segments more.
#[track_caller]
fn takes(worker: &Worker, free: u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let line = format!("ashlar_worker_slots_free {free}");
    loop {
        let page = worker
            .get("/metrics")
            .map_or_else(String::new, |page| page.1);
        if page.lines().any(|found| found == line) {
            return;
        }
        assert!(Instant::now() < deadline, "no {line:?} in {page}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A step that has its own text, and ends when another one comes to the barrier.
fn meet(client: &Client, text: &str, port: u16) {
    let busybox = bases::busybox().reference();
    client.context.dockerfile(&format!(
        "FROM {busybox}\nRUN echo {text}; test \"$(nc 127.0.0.1 {port} </dev/null)\" = go\n"
    ));
}

#[test]
fn a_worker_short_of_memory_takes_nothing_until_it_has_some() {
    let site = site(&["--slots", "3", "--name", "small-one"]);
    let worker = &site.workers[0];
    takes(worker, 3);
    worker.press(10, 0.0, 0.0);
    takes(worker, 0);
    // It is there, and well.
    assert_eq!(worker.get("/readyz").map(|page| page.0), Some(200));
    let client = site.client();
    super::simple(&client.context);
    let mut build = client.build(&[]).start();
    build.wait_for_stderr("takes work now: small-one: 10 MB of memory are left");
    worker.press(300, 0.0, 0.0);
    build.wait().success();
    takes(worker, 3);
    let log = worker.log();
    for words in ["taking no more work for now", "taking work again"] {
        assert!(log.contains(words), "{log}");
    }
    site.end();
}

#[test]
fn a_worker_whose_work_waits_for_memory_takes_no_more_of_it() {
    let site = site(&["--slots", "3"]);
    let worker = &site.workers[0];
    let barrier = Barrier::at("127.0.0.1", 0, 2);
    let first = site.client();
    meet(&first, "first", barrier.port());
    let mut one = first.build(&[]).start();
    one.wait_for_output("first");
    takes(worker, 2);
    worker.press(8_000, 60.0, 0.0);
    takes(worker, 0);
    let second = site.client();
    meet(&second, "second", barrier.port());
    let mut other = second.build(&[]).start();
    other.wait_for_stderr("tasks wait for memory 60% of the time");
    assert!(one.is_running() && other.is_running());
    worker.press(8_000, 1.0, 0.0);
    // They meet only if both run at once.
    one.wait().success();
    other.wait().success();
    barrier.came_from();
    site.end();
}

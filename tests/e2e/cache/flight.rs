//! Two machines that start the same build run each step once.

use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::bases;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::command::{Output, Running};
use ashlar_test_support::user::TestUser;
use rustix::process::Signal;

use super::{Machine, no_warning};

/// Steps that take a while and never give the same twice.
fn slow(machine: &Machine, seconds: u32) {
    machine
        .context
        .dockerfile(&bases::busybox().dockerfile(&format!(
            "RUN echo started; sleep {seconds}; cat /proc/sys/kernel/random/uuid > /one\n\
         RUN sleep 1; cat /one /proc/sys/kernel/random/uuid > /two\n"
        )));
}

fn both(server: &CacheServer, seconds: u32) -> [Machine; 2] {
    let machines = [
        Machine::new(TestUser::Sub, "context", &[&server.url()]),
        Machine::new(TestUser::Other, "other", &[&server.url()]),
    ];
    for machine in &machines {
        slow(machine, seconds);
    }
    machines
}

fn ran(output: &Output) -> usize {
    output.progress().ran().len()
}

#[test]
fn each_step_runs_once_and_the_images_are_the_same() {
    let server = CacheServer::start();
    let machines = both(&server, 3);
    let runs: Vec<_> = machines
        .iter()
        .map(|machine| {
            let dest = machine.home.path("layout");
            let output = format!("type=oci,tar=false,dest={}", dest.display());
            machine.command(&["-o", &output]).start()
        })
        .collect();
    let outputs: Vec<Output> = runs.into_iter().map(Running::wait).collect();
    for output in &outputs {
        no_warning(output).success();
    }
    let counts = [ran(&outputs[0]), ran(&outputs[1])];
    assert_eq!(counts[0] + counts[1], 2, "{}\n{}", outputs[0], outputs[1]);
    let digests: Vec<String> = machines
        .iter()
        .map(|machine| {
            ashlar_test_support::layout::Layout::open(machine.home.path("layout")).manifest_digest()
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
    for machine in &machines {
        machine.home.assert_clean();
    }
}

#[test]
fn who_waits_says_for_whom() {
    let server = CacheServer::start();
    let [first, second] = both(&server, 4);
    let mut holder = first.command(&[]).start();
    holder.wait_for_output("started");
    let waiting = second.command(&[]).run();
    holder.wait().success();
    waiting.success();
    let line = waiting
        .stderr()
        .lines()
        .find(|line| line.contains("waiting for "))
        .map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("{waiting}\n(it does not say that it waits)"));
    assert!(line.contains(first.home.user().name()), "{line}");
    assert_eq!(ran(&waiting), 0, "{waiting}");
}

#[test]
fn when_the_one_who_runs_a_step_is_killed_the_other_goes_on_within_seconds() {
    let server = CacheServer::start();
    // Longer than the test may take: nobody waits for the end of it.
    let [first, second] = both(&server, 600);
    slow(&second, 600);
    let mut holder = first.command(&[]).start();
    holder.wait_for_output("started");
    let mut waiting = second.command(&[]).start();
    waiting.wait_for_stderr("waiting for ");
    holder.signal(Signal::KILL);
    let killed = Instant::now();
    assert_eq!(holder.wait().signal(), Some(9));
    waiting.wait_for_output("started");
    let took = killed.elapsed();
    assert!(
        took < Duration::from_secs(20),
        "it took {took:?} until the other machine went on"
    );
    waiting.signal(Signal::INT);
    drop(waiting.wait());
    second.home.assert_clean();
}

#[test]
fn when_the_one_who_runs_a_step_fails_the_other_runs_it_and_fails_itself() {
    let server = CacheServer::start();
    let machines = [TestUser::Sub, TestUser::Other].map(|user| {
        let machine = Machine::new(user, "context", &[&server.url()]);
        machine.context.dockerfile(
            &bases::busybox().dockerfile("RUN echo started; sleep 2; echo why >&2; exit 7\n"),
        );
        machine
    });
    let mut first = machines[0].command(&[]).start();
    first.wait_for_output("started");
    let second = machines[1].command(&[]).run();
    let first = first.wait();
    // A failure is never shared: each says for itself what went wrong.
    for output in [&first, &second] {
        output.exit_code(1);
        assert!(output.progress().has_output("why"), "{output}");
    }
}

#[test]
fn a_server_that_dies_leaves_nobody_waiting() {
    let mut server = CacheServer::start();
    let [first, second] = both(&server, 5);
    let mut holder = first.command(&[]).start();
    holder.wait_for_output("started");
    let mut waiting = second.command(&[]).start();
    waiting.wait_for_stderr("waiting for ");
    thread::sleep(Duration::from_millis(300));
    server.kill();
    let killed = Instant::now();
    // It runs the step itself then, and needs not wait for the other.
    let output = waiting.wait();
    output.success();
    assert_eq!(ran(&output), 2, "{output}");
    assert!(
        killed.elapsed() < Duration::from_secs(20),
        "{:?}\n{output}",
        killed.elapsed()
    );
    holder.wait().success();
}

//! Workers that end, are killed, freeze or are cut off while they work.

use ashlar_test_support::bases;
use ashlar_test_support::context::Context;
use rustix::process::Signal;

use super::{Site, nothing_sleeps};

/// A step that runs until a file of the host's appears... which is nowhere: it asks an address.
fn waiting(context: &Context, seconds: &str) {
    let busybox = bases::busybox().reference();
    context.dockerfile(&format!(
        "FROM {busybox}\nRUN echo begun; sleep {seconds}; echo over\n"
    ));
}

#[test]
fn a_worker_that_is_told_to_stop_finishes_what_it_runs() {
    let mut site = Site::local(1);
    let client = site.client();
    waiting(&client.context, "2.25");
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    site.workers[0].signal(Signal::TERM);
    build.wait().success();
    site.workers[0].wait().success();
    site.workers.clear();
    site.end();
}

#[test]
fn what_a_stopping_worker_cannot_finish_is_done_by_another() {
    let mut site = Site::with_workers(&[&["--grace", "1s"], &[]]);
    let client = site.client();
    waiting(&client.context, "5.125");
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    // One of the two runs it; it does not matter which.
    site.workers[0].signal(Signal::TERM);
    build.wait().success();
    site.workers[0].wait().success();
    site.workers.remove(0);
    site.end();
}

#[test]
fn the_work_of_a_killed_worker_is_done_by_another() {
    let mut site = Site::with_leases(2, "2s");
    let client = site.client();
    waiting(&client.context, "4.25");
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    site.workers[0].kill();
    build.wait().success();
    // It is usable again, with what it had.
    site.workers[0].launch();
    let again = site.client();
    super::simple(&again.context);
    again.build(&[]).run().success();
    site.end();
    nothing_sleeps("4.25");
}

#[test]
fn a_worker_that_was_frozen_for_long_does_no_harm() {
    let site = Site::with_leases(2, "2s");
    let client = site.client();
    waiting(&client.context, "5.25");
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    site.workers[0].freeze();
    build.wait().success();
    site.workers[0].thaw();
    let again = site.client();
    super::simple(&again.context);
    again.build(&[]).run().success();
    site.end();
}

#[test]
fn a_worker_that_was_cut_off_goes_on_when_it_is_back() {
    let site = Site::spread(1, &[]);
    let client = site.client();
    waiting(&client.context, "3.5");
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    site.workers[0].machine().unwrap().cut();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    site.workers[0].machine().unwrap().mend();
    let output = build.wait();
    output.success();
    // It was begun once.
    assert_eq!(output.stderr().matches("begun").count(), 1 + 1, "{output}");
    site.end();
}

#[test]
fn a_server_that_is_started_again_loses_no_build() {
    let mut site = Site::local(1);
    let client = site.client();
    waiting(&client.context, "3.75");
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    site.server.kill();
    site.server.launch();
    build.wait().success();
    site.end();
}

//! Builds that fail, are called off, or find nobody to do them.

use std::time::Duration;

use ashlar_test_support::bases;
use ashlar_test_support::command::Output;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::user::TestUser;
use rustix::process::Signal;

use super::{Client, Site, nothing_sleeps, simple};

#[test]
fn a_failing_step_is_told_as_a_local_build_tells_it() {
    let site = Site::local(1);
    let client = site.client();
    let busybox = bases::busybox().reference();
    client.context.dockerfile(&format!(
        "FROM {busybox}\nRUN echo before\nRUN echo to stderr >&2; exit 42\nRUN true\n"
    ));
    let remote = client.build(&[]).run();
    // The client cannot run steps itself: its user has but one id.
    let home = TestHome::new(TestUser::Sub);
    let context = home.context("context");
    context.copy_of(client.context.path());
    let local = home.build(&context, &[]);
    assert_eq!(remote.code(), local.code(), "{remote}{local}");
    let error = |output: &Output| {
        let text = output.stderr().into_owned();
        let place = text
            .find("\nerror:")
            .unwrap_or_else(|| panic!("no error in {text}"));
        text[place..].to_owned()
    };
    assert_eq!(error(&remote), error(&local));
    remote.stderr_has("to stderr").stderr_has("exit code: 42");
    site.end();
}

#[test]
fn an_interrupted_build_is_cancelled_on_the_worker() {
    let site = Site::local(1);
    let client = site.client();
    let busybox = bases::busybox().reference();
    client
        .context
        .dockerfile(&format!("FROM {busybox}\nRUN echo begun; sleep 2000\n"));
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    build.signal(Signal::INT);
    let output = build.wait();
    assert_eq!(output.code(), Some(130), "{output}");
    nothing_sleeps("2000");
    site.end();
}

#[test]
fn a_client_that_is_gone_for_long_has_its_work_cancelled() {
    let site = Site::with(1, &["--client-grace", "1s"]);
    let client = site.client();
    let busybox = bases::busybox().reference();
    client
        .context
        .dockerfile(&format!("FROM {busybox}\nRUN echo begun; sleep 3000\n"));
    let mut build = client.build(&[]).start();
    build.wait_for_output("begun");
    build.signal(Signal::KILL);
    drop(build);
    nothing_sleeps("3000");
    site.end();
}

#[test]
fn without_a_worker_a_build_says_what_it_waits_for() {
    let mut site = Site::local(0);
    let client = site.client();
    simple(&client.context);
    let mut build = client.build(&[]).start();
    build.wait_until("word of the waiting", |build| {
        build.stderr().contains("no worker")
    });
    let worker = site.worker(&[]).started();
    site.workers.push(worker);
    build.wait().success();
    site.end();
}

#[test]
fn with_fallback_a_build_goes_on_here() {
    let client = Client::of(TestUser::Sub, "grpc://127.0.0.1:9");
    simple(&client.context);
    let refused = client.build(&[]).run();
    assert_ne!(refused.code(), Some(0), "{refused}");
    let error = refused.one_error();
    assert!(error.contains("127.0.0.1:9"), "{error}");
    let output = client
        .build(&["--remote-fallback"])
        .timeout(Duration::from_secs(60))
        .run();
    output.success();
    output
        .progress()
        .assert_ran(&["RUN echo one", "COPY files", "RUN cat", "COPY --from=one"]);
}

#[test]
fn who_may_not_queue_is_told_so() {
    let site = Site::local(1);
    let client = site.client();
    simple(&client.context);
    client
        .home
        .file(&client.home.path("token"), "another-token-0123456789012");
    let output = client.build(&[]).run();
    assert_ne!(output.code(), Some(0), "{output}");
    assert!(output.one_error().contains("token"), "{output}");
    site.end();
}

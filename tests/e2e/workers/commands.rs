//! `ashlar submit`, `logs`, `wait`, `cancel`, `builds`.

use ashlar_test_support::bases;
use ashlar_test_support::command::{Output, TestCommand};
use ashlar_test_support::home::TestHome;
use ashlar_test_support::layout::Layout;
use ashlar_test_support::registry::Registry;
use ashlar_test_support::user::TestUser;
use rustix::process::Signal;

use super::{Client, Site, local_digest, simple};

/// The only line of a command's standard output.
#[track_caller]
fn id(text: &str) -> String {
    assert_eq!(text.lines().count(), 1, "{text:?}");
    text.to_owned()
}

#[test]
fn a_submitted_build_outlives_its_client_and_is_pushed_by_a_worker() {
    let site = Site::local(1);
    let registry = Registry::start();
    let name = registry.reference("app:1");
    let client = site.client();
    simple(&client.context);
    let submit = |client: &Client| {
        let context = client.context.path().display().to_string();
        let output = format!("type=image,name={name},push=true,rewrite-timestamp=true");
        id(&client.farm(&["submit", "-o", &output, &context]).text())
    };
    let build = submit(&client);
    let waited = client.farm(&["wait", &build]).run();
    waited.success();
    let log = client.farm(&["logs", &build]).run();
    log.success();
    let said = format!("{}{}", log.stdout(), log.stderr());
    assert!(said.contains("RUN cat /files/*"), "{log}");
    let listed = client.farm(&["builds"]).text();
    assert!(listed.contains(&build), "{listed}");
    // What was pushed is what a local build makes.
    let image = client.home.path("pulled");
    let copy = TestCommand::root("skopeo")
        .args(["copy", "--src-tls-verify=false"])
        .arg(format!("docker://{name}"))
        .arg(format!("oci:{}:latest", image.display()));
    copy.run().success();
    let pulled = Layout::open(&image).manifest_digest();
    assert_eq!(pulled, local_digest(simple));
    site.end();
}

#[test]
fn a_build_that_fails_says_so_to_whoever_waits() {
    let site = Site::local(1);
    let client = site.client();
    let busybox = bases::busybox().reference();
    client
        .context
        .dockerfile(&format!("FROM {busybox}\nRUN echo no such luck; exit 7\n"));
    let context = client.context.path().display().to_string();
    let build = id(&client.farm(&["submit", &context]).text());
    let local = failing_locally();
    let waited = client.farm(&["wait", &build]).run();
    assert_eq!(waited.code(), local.code(), "{waited}");
    let followed = client.farm(&["logs", "-f", &build]).run();
    let said = format!("{}{}", followed.stdout(), followed.stderr());
    assert!(said.contains("no such luck"), "{followed}");
    site.end();
}

/// What a step that ends with 7 makes of a build on one machine.
fn failing_locally() -> Output {
    let home = TestHome::new(TestUser::Sub);
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN exit 7\n"));
    home.build(&context, &[])
}

#[test]
fn a_build_that_is_cancelled_leaves_nothing_running() {
    let site = Site::local(1);
    let client = site.client();
    let busybox = bases::busybox().reference();
    client
        .context
        .dockerfile(&format!("FROM {busybox}\nRUN echo begun; sleep 1000\n"));
    let context = client.context.path().display().to_string();
    let build = id(&client.farm(&["submit", &context]).text());
    let mut logs = client.farm(&["logs", "-f", &build]).start();
    logs.wait_until("the step's output", |logs| {
        format!("{}{}", logs.stdout(), logs.stderr()).contains("begun")
    });
    client.farm(&["cancel", &build]).run().success();
    let waited = client.farm(&["wait", &build]).run();
    assert_ne!(waited.code(), Some(0), "{waited}");
    logs.signal(Signal::TERM);
    drop(logs);
    super::nothing_sleeps("1000");
    site.end();
}

#[test]
fn what_is_not_there_is_named() {
    let site = Site::local(0);
    let client = site.client();
    let missing = "0123456789abcdef0123456789abcdef";
    for command in ["logs", "wait", "cancel"] {
        let output = client.farm(&[command, missing]).run();
        assert_ne!(output.code(), Some(0), "{output}");
        let error = output.one_error();
        assert!(error.contains(missing), "{error}");
    }
    site.end();
}

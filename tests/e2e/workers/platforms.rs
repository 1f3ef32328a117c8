//! Images for platforms that the workers are not of, and workers that have what others have not.

use std::time::Duration;

use ashlar_test_support::context::Context;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::worker::Worker;

use super::{Client, Site, local_digest_with, simple};

const FOREIGN: [&str; 2] = ["--platform", "linux/arm64"];

/// An image of files alone, for any platform.
fn files(context: &Context) {
    context
        .dockerfile("FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY a /a\n")
        .file("a", "a\n");
}

#[test]
fn files_for_another_platform_are_put_together_by_any_worker() {
    let site = Site::local(1);
    let client = site.client();
    files(&client.context);
    let (digest, output) = client.image(&FOREIGN);
    assert_eq!(digest, local_digest_with(&FOREIGN, files), "{output}");
    site.end();
}

#[test]
fn what_has_no_worker_says_for_which_platform() {
    let mut site = Site::local(0);
    let client = site.client();
    files(&client.context);
    let mut build = client.build(&FOREIGN).start();
    build.wait_for_stderr("the farm has no worker for linux/arm64: the build waits for one");
    let worker = site.worker(&[]).started();
    site.workers.push(worker);
    build.wait().success();
    site.end();
}

#[test]
fn what_has_no_worker_is_built_here_if_it_may_be() {
    let site = Site::local(0);
    let client = Client::of(TestUser::Sub, &site.server.url());
    files(&client.context);
    let output = client
        .build(&FOREIGN)
        .arg("--remote-fallback")
        .timeout(Duration::from_secs(60))
        .run();
    output.success();
    output.stderr_has("the farm has no worker for linux/arm64: building here");
    output.progress().assert_ran(&["COPY a"]);
    site.end();
}

#[test]
fn a_build_is_for_workers_with_the_labels_that_it_asks_for() {
    let mut site = Site::with_workers(&[&["--label", "disk=fast"]]);
    let mut client = site.client();
    client.url += ",label=gpu=yes,label=disk=fast";
    simple(&client.context);
    let mut build = client.build(&[]).start();
    build.wait_for_stderr("with disk=fast, gpu=yes: the build waits for one");
    let labels = ["--label", "gpu=yes", "--label", "disk=fast"];
    let worker = site.worker(&labels).started();
    site.workers.push(worker);
    build.wait().success();
    let begun = |worker: &Worker| worker.log().contains("begun");
    let [plain, labelled] = &site.workers[..] else {
        panic!("there are two workers");
    };
    assert!(!begun(plain) && begun(labelled));
    // Nothing of it is another build's.
    let mut client = site.client();
    client.url += ",label=gpu=yes,label=disk=fast";
    simple(&client.context);
    let context = client.context.path().display().to_string();
    let id = client.farm(&["submit", "--no-cache", &context]).text();
    client.farm(&["wait", &id]).run().success();
    assert!(!begun(&site.workers[0]));
    site.end();
}

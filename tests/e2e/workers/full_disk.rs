//! Workers without room.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::bases;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::context::Context;
use ashlar_test_support::user::TestUser;
use ashlar_test_support::worker::Worker;
use rustix::mount::{UnmountFlags, unmount};

use super::{Site, local_digest, noise};

/// A small file system, until it is dropped.
struct Small(PathBuf);

impl Small {
    /// One of so many megabytes in the place of a worker's stores.
    fn below(worker: &Worker, megabytes: u32) -> Self {
        let root = worker.root();
        let (uid, gid) = TestUser::Sub.ids();
        let options = format!("size={megabytes}m,mode=0755,uid={uid},gid={gid}");
        let mount = TestCommand::root("mount").args(["-t", "tmpfs", "-o", &options, "none"]);
        mount.arg(&root).run().success();
        Self(root)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // What a failed test has left running there does not hinder the next one.
        let _gone = unmount(self.0.as_path(), UnmountFlags::DETACH);
    }
}

/// A file that has no room where there are few megabytes, and a step that reads it.
fn large(context: &Context) {
    let busybox = bases::busybox().reference();
    context
        .dockerfile(&format!(
            "FROM {busybox}\nCOPY big /big\nRUN wc -c < /big > /size\n"
        ))
        .file("big", noise(21, 20_000_000));
}

/// Waits until a worker has said that it had no room.
#[track_caller]
fn had_no_room(worker: &Worker) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !worker.log().contains("No space left on device") {
        assert!(Instant::now() < deadline, "{}", worker.log());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn another_worker_does_what_one_has_no_room_for() {
    let mut site = Site::local(0);
    let mut full = site.worker(&["--name", "full-one"]);
    let _small = Small::below(&full, 16);
    full.launch();
    site.workers.push(full);
    let roomy = site.worker(&["--name", "roomy-one"]).under_pressure();
    roomy.press(1, 0.0, 0.0);
    site.workers.push(roomy.started());
    let client = site.client();
    large(&client.context);
    let layout = client.layout_option();
    let build = client.build(&["-o", &layout]).start();
    had_no_room(&site.workers[0]);
    site.workers[1].press(8_000, 0.0, 0.0);
    let output = build.wait();
    output.success();
    assert_eq!(client.digest(), local_digest(large), "{output}");
    site.end();
}

#[test]
fn what_no_worker_has_room_for_says_so() {
    let mut site = Site::local(0);
    let mut full = site.worker(&["--name", "full-one"]);
    let _small = Small::below(&full, 16);
    full.launch();
    site.workers.push(full);
    let client = site.client();
    large(&client.context);
    let output = client.build(&[]).run();
    assert_eq!(output.code(), Some(3), "{output}");
    output.one_error();
    output
        .stderr_has("full-one")
        .stderr_has("No space left on device");
    // It is a worker as before, for what it has room for.
    let other = site.client();
    super::simple(&other.context);
    other.build(&[]).run().success();
    site.end();
}

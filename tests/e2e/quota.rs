//! The store's quota: kept by all builds together, while they run.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_test_support::bases;
use ashlar_test_support::command::{Output, Running};
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::registry::Registry;

const MIB: u64 = 1 << 20;

/// Bytes on disk below a directory, as `du` counts them: each file once, also one that is moved
/// meanwhile.
fn on_disk(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            // It has just gone.
            continue;
        };
        if seen.insert((metadata.dev(), metadata.ino())) {
            bytes += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            pending.extend(entries.map(|entry| entry.path()));
        }
    }
    bytes
}

/// Watches a store while something happens in it, and tells how large it was at its largest. One
/// look takes a while, and may see a file that goes and another that comes in its place: so what
/// counts is the smaller one of every two looks.
fn largest_during(home: &TestHome, work: impl FnOnce()) -> u64 {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut largest, mut last) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let now = on_disk(&home.store());
                largest = largest.max(now.min(last));
                last = now;
                std::thread::yield_now();
            }
            largest
        });
        let finished = Done(&done);
        work();
        drop(finished);
        watching.join().expect("the store cannot be watched")
    })
}

/// Bytes that do not shrink when they are compressed, others for each seed.
fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..bytes / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// An image with so many MiB of its own, which a RUN looks at.
fn image(home: &TestHome, number: u64, mib: u64) -> Context {
    let context = home.context(&format!("context{number}"));
    context
        .dockerfile(&bases::busybox().dockerfile(&format!(
            "COPY data /data{number}\nRUN ls -l /data{number} > /listing\n"
        )))
        .file("data", noise(number, mib * MIB));
    context
}

fn quota_error(output: &Output) -> String {
    output.exit_code(3).stderr_has("hint: ");
    let text = output.stderr();
    let said = text
        .lines()
        .find(|line| line.contains("the store's quota is full"));
    assert!(said.is_some(), "{text}");
    said.unwrap_or_default().to_owned()
}

/// The row of `ashlar du` about the quota: quota and size.
fn du(home: &TestHome) -> Option<(u64, u64)> {
    let rows = home.ashlar(["du", "--format", "json"]).run().json_lines();
    let row = rows.iter().find(|row| row["Quota"].is_u64())?;
    Some((row["Quota"].as_u64()?, row["Size"].as_u64()?))
}

#[test]
fn many_builds_at_once_never_exceed_it() {
    let home = TestHome::sub();
    let quota = 120 * MIB;
    let contexts: Vec<Context> = (0..12).map(|number| image(&home, number, 6)).collect();
    home.ashlar(["du", "--store-quota", "120MB"])
        .run()
        .success();
    let mut failed = 0;
    let largest = largest_during(&home, || {
        for round in contexts.chunks(4) {
            let builds: Vec<Running> = round
                .iter()
                .enumerate()
                .map(|(number, context)| {
                    let form = ["gzip", "zstd"][number % 2];
                    let path = home.path(&format!("out{number}"));
                    let output = format!(
                        "type=oci,tar=false,compression={form},dest={}",
                        path.display()
                    );
                    home.build_command(context, &["-o", &output]).start()
                })
                .collect();
            for build in builds {
                let output = build.wait();
                if output.code() != Some(0) {
                    quota_error(&output);
                    failed += 1;
                }
            }
        }
    });
    assert!(largest <= quota, "{largest}");
    // Each takes two times six and a little, and there is room for four of them.
    assert_eq!(failed, 0);
    // All of them together would not have fitted.
    assert!(largest > quota / 2, "{largest}");
    let (limit, size) = du(&home).unwrap();
    assert_eq!(limit, quota);
    assert!(
        size <= quota && size.abs_diff(on_disk(&home.store())) < MIB,
        "{size}"
    );
    home.assert_clean();
}

#[test]
fn what_does_not_fit_fails_and_loses_nothing() {
    let home = TestHome::sub();
    let small = image(&home, 1, 2);
    home.build(&small, &["-t", "small", "--store-quota", "40MB"])
        .success();
    for (number, forms) in [
        (2, &["-t", "large"][..]),
        (3, &["-t", "large", "--no-cache"]),
    ] {
        let large = image(&home, number, 60);
        let mut error = String::new();
        let largest = largest_during(&home, || {
            error = quota_error(&home.build(&large, forms));
        });
        assert!(largest <= 40 * MIB, "{largest}");
        assert!(error.contains("41.9MB"), "{error}");
    }
    // What has a name is there, and usable.
    let ran = home.ashlar(["run", "small", "ls", "/data1"]).run();
    assert_eq!(ran.success().stdout(), "/data1\n");
    // With more room it can be built.
    let large = image(&home, 2, 60);
    home.build(&large, &["-t", "large", "--store-quota", "200MB"])
        .success();
    home.assert_clean();
}

#[test]
fn the_least_recently_used_makes_room() {
    let home = TestHome::sub();
    let tagged = image(&home, 0, 8);
    home.build(&tagged, &["-t", "kept", "--store-quota", "60MB"])
        .success();
    for number in 1..8 {
        home.build(&image(&home, number, 8), &[]).success();
        assert!(on_disk(&home.store()) <= 60 * MIB);
    }
    // The last one is cached still, the first one is not, and what has a name was never touched.
    let ran = |number| {
        let output = home.build(&image(&home, number, 8), &[]);
        output.success();
        output.progress().ran().len()
    };
    assert_eq!(ran(0), 0);
    assert_eq!(ran(7), 0);
    assert!(ran(1) > 0);
    home.ashlar(["run", "kept", "cat", "/listing"])
        .run()
        .success();
    home.assert_clean();
}

/// Writes some 20 MB each second without end, where only the sandbox can look.
const WRITING: &str = "mkdir -m 700 /hidden && chown 7:7 /hidden && i=0; \
                       while true; do i=$((i+1)); head -c 100000 /dev/zero > /hidden/$i; \
                       sleep 0.005; done";

#[test]
fn a_command_that_writes_without_end_is_stopped() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(&format!("RUN {WRITING}\n")));
    let quota = 160 * MIB;
    let largest = largest_during(&home, || {
        let build = home
            .build_command(&context, &["--store-quota", "160MB"])
            .timeout(Duration::from_secs(600));
        quota_error(&build.run());
    });
    assert!((quota / 2..=quota).contains(&largest), "{largest}");
    // All of it is gone again.
    assert!(on_disk(&home.store()) < 10 * MIB);
    context.dockerfile(&bases::busybox().dockerfile("RUN head -c 20000000 /dev/zero > /fits\n"));
    home.build(&context, &["-t", "fits"]).success();
    home.assert_clean();
}

#[test]
fn a_command_that_writes_as_fast_as_it_can_is_stopped_as_well() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN cat /dev/zero > /endless\n"));
    let build = home.build_command(&context, &["--store-quota", "300MB"]);
    quota_error(&build.timeout(Duration::from_secs(600)).run());
    assert!(on_disk(&home.store()) < 10 * MIB);
    home.assert_clean();
}

#[test]
fn a_command_that_ends_with_too_much_fails() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN head -c 30000000 /dev/zero > /large\n"));
    quota_error(&home.build(&context, &["--store-quota", "20MB"]));
    assert!(on_disk(&home.store()) < 10 * MIB);
    home.build(&context, &["--store-quota", "80MB"]).success();
    home.assert_clean();
}

#[test]
fn a_container_that_writes_without_end_is_stopped() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("WORKDIR /w\n"));
    home.build(&context, &["-t", "image", "--store-quota", "160MB"])
        .success();
    let largest = largest_during(&home, || {
        let run = home.ashlar(["run", "image", "sh", "-c", WRITING]);
        quota_error(&run.timeout(Duration::from_secs(600)).run());
    });
    assert!(largest <= 160 * MIB, "{largest}");
    assert!(on_disk(&home.store()) < 10 * MIB);
    home.assert_clean();
}

#[test]
fn a_pull_of_what_does_not_fit_is_stopped() {
    let registry = Registry::start();
    let home = TestHome::sub();
    let context = image(&home, 1, 30);
    let name = registry.reference("large:1");
    let push = format!("type=image,name={name},push=true");
    home.build(&context, &["-o", &push]).success();
    let other = TestHome::sub();
    let pull = |quota| {
        let options = ["pull", "--store-quota", quota, &name];
        other.ashlar(options).run()
    };
    let largest = largest_during(&other, || {
        quota_error(&pull("20MB"));
    });
    assert!(largest <= 20 * MIB, "{largest}");
    pull("100MB").success();
    other.assert_clean();
}

#[test]
fn eviction_takes_nothing_from_a_running_build() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(
        "RUN head -c 5000000 /dev/zero > /one\nRUN echo started; sleep 4; wc -c < /one > /two\n\
         RUN cat /one > /three\n",
    ));
    let mut build = home
        .build_command(&context, &["-t", "kept", "--store-quota", "60MB"])
        .start();
    build.wait_for_output("started");
    for number in 1..4 {
        home.build(&image(&home, number, 12), &[]).success();
    }
    home.ashlar(["prune", "--all", "--force"]).run().success();
    build.wait().success();
    home.build_tree(&context, &[])
        .at("two")
        .has_content("5000000\n");
    assert!(on_disk(&home.store()) <= 60 * MIB);
    home.assert_clean();
}

#[test]
fn a_context_from_standard_input_counts_as_well() {
    let home = TestHome::sub();
    let context = image(&home, 1, 30);
    let tar = home.path("context.tar");
    home.command("tar")
        .args(["-C", context.path().to_str().unwrap(), "-cf"])
        .arg(&tar)
        .arg(".")
        .run()
        .success();
    let build = |quota| {
        home.ashlar(["build", "--store-quota", quota, "-"])
            .input_file(&tar)
            .run()
    };
    let largest = largest_during(&home, || {
        quota_error(&build("20MB"));
    });
    assert!(largest <= 20 * MIB, "{largest}");
    build("200MB").success();
    home.assert_clean();
}

#[test]
fn a_quota_is_set_once_and_lifted() {
    let home = TestHome::sub();
    assert_eq!(du(&home), None);
    home.ashlar(["du"])
        .env("ASHLAR_STORE_QUOTA", "50MB")
        .run()
        .success();
    assert_eq!(du(&home).unwrap().0, 50 * MIB);
    let shown = home.ashlar(["du"]).run();
    assert!(
        shown.stdout().contains("of 52.4MB used"),
        "{}",
        shown.stdout()
    );
    let wrong = home.ashlar(["du", "--store-quota", "much"]).run();
    wrong.exit_code(2).stderr_has("`much` is no size");
    home.ashlar(["du", "--store-quota", "none"]).run().success();
    assert_eq!(du(&home), None);
    home.build(&image(&home, 1, 60), &[]).success();
}

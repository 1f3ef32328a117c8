//! Whatever ends a build, nothing of it is left that the next run does not clean.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_test_support::bases;
use ashlar_test_support::command::{Output, TestCommand};
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::skip::skip;
use ashlar_test_support::{binary, processes};
use rustix::process::Signal;

/// The name of a file that only a step that did not end has written.
const UNFINISHED: &str = "unfinished-file-of-a-step";

/// A context whose build writes, says so, and then takes its time.
fn slow(home: &TestHome) -> Context {
    let context = home.context("slow");
    context.dockerfile(&bases::busybox().dockerfile(&format!(
        "RUN dd if=/dev/zero of=/{UNFINISHED} bs=1M count=20 2>/dev/null; chown 33 /{UNFINISHED}; \
             setsid sleep 500 & echo it is written; sleep 500\n"
    )));
    context
}

/// Starts the slow build, ends it in some way in the middle, and checks that the next build finds
/// and leaves a clean house.
fn ended_by(end: impl FnOnce(&ashlar_test_support::command::Running)) -> Output {
    let home = TestHome::sub();
    let mut running = home.build_command(&slow(&home), &["-t", "slow"]).start();
    running.wait_for_output("it is written");
    end(&running);
    let output = running.wait();
    processes::assert_none_left();
    assert!(
        output.elapsed() < Duration::from_secs(60),
        "it took too long to end: {output}"
    );

    let good = home.context("good");
    good.dockerfile(&bases::busybox().dockerfile("RUN echo good > /good\n"));
    home.build(&good, &["-t", "good"]).success();
    let unfinished = home.store_paths_named(UNFINISHED);
    assert!(unfinished.is_empty(), "left in the store: {unfinished:?}");
    home.assert_clean();
    home.ashlar(["prune", "--force"]).run().success();
    assert_as_if_it_had_not_been(&home, &good);
    output
}

/// Asserts that a pruned store has no more files than one in which only the good build was made.
fn assert_as_if_it_had_not_been(home: &TestHome, good: &Context) {
    let fresh = TestHome::sub();
    let context = fresh.context("good");
    context.dockerfile(&fs::read_to_string(good.path().join("Dockerfile")).unwrap());
    fresh.build(&context, &["-t", "good"]).success();
    fresh.ashlar(["prune", "--force"]).run().success();
    let shape = |home: &TestHome| -> Vec<String> {
        let store = home.store();
        let of_layers = |path: &Path| path.components().any(|part| part.as_os_str() == "bin");
        home.store_paths()
            .iter()
            .filter(|path| path.is_file() && !of_layers(path))
            .map(|path| path.strip_prefix(&store).unwrap().display().to_string())
            .collect()
    };
    let (own, fresh) = (shape(home), shape(&fresh));
    assert_eq!(own.len(), fresh.len(), "left: {own:#?}\nfresh: {fresh:#?}");
}

#[test]
fn control_c_ends_a_build_with_130() {
    let output = ended_by(|running| running.signal_group(Signal::INT));
    output.exit_code(130);
}

#[test]
fn an_interrupt_of_the_process_alone_is_enough() {
    let output = ended_by(|running| running.signal(Signal::INT));
    output.exit_code(130);
}

#[test]
fn sigterm_ends_a_build() {
    let output = ended_by(|running| running.signal(Signal::TERM));
    assert!(matches!(output.code(), Some(130 | 143)), "{output}");
}

#[test]
fn kill_nine_leaves_nothing_that_the_next_run_does_not_clean() {
    let output = ended_by(|running| running.signal(Signal::KILL));
    assert_eq!(output.signal(), Some(9));
}

#[test]
fn a_second_control_c_does_no_harm() {
    let output = ended_by(|running| {
        running.signal_group(Signal::INT);
        std::thread::sleep(Duration::from_millis(30));
        if processes::descendants(std::process::id())
            .iter()
            .any(|known| known.id == running.id())
        {
            running.signal_group(Signal::INT);
        }
    });
    output.exit_code(130);
}

#[test]
fn a_command_that_ignores_signals_is_ended_all_the_same() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox()
            .dockerfile("RUN trap '' INT TERM; echo deaf; while :; do sleep 1; done\n"),
    );
    let mut running = home.build_command(&context, &[]).start();
    running.wait_for_output("deaf");
    running.signal_group(Signal::INT);
    let output = running.wait();
    output.exit_code(130);
    assert!(output.elapsed() < Duration::from_secs(40), "{output}");
    home.assert_clean();
}

#[test]
fn a_killed_run_of_an_image_leaves_nothing() {
    for signal in [Signal::TERM, Signal::KILL] {
        let home = TestHome::sub();
        let image = bases::busybox().reference();
        let script = "setsid sleep 500 & echo up >&2; sleep 500";
        let mut running = home
            .ashlar(["run", "--rm", &image, "sh", "-c", script])
            .start();
        running.wait_for_stderr("up");
        running.signal(signal);
        let output = running.wait();
        assert_ne!(output.code(), Some(0));
        home.ashlar(["run", "--rm", &image, "true"]).run().success();
        home.assert_clean();
    }
}

/// A memory cgroup with a limit, removed in the end.
struct MemoryLimit(PathBuf);

impl MemoryLimit {
    fn new(megabytes: u64) -> Option<Self> {
        let bytes = (megabytes << 20).to_string();
        let name = format!("ashlar-e2e-{}", std::process::id());
        let version_one = Path::new("/sys/fs/cgroup/memory").join(&name);
        let version_two = Path::new("/sys/fs/cgroup").join(&name);
        let set = |path: &Path, file: &str| -> Option<()> {
            fs::create_dir(path).ok()?;
            let limited = fs::write(path.join(file), &bytes);
            if limited.is_err() {
                fs::remove_dir(path).ok()?;
            }
            limited.ok()
        };
        set(&version_one, "memory.limit_in_bytes")
            .map(|()| Self(version_one))
            .or_else(|| set(&version_two, "memory.max").map(|()| Self(version_two)))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_step_that_runs_out_of_memory_fails_and_leaves_nothing() {
    let Some(limit) = MemoryLimit::new(256) else {
        skip(
            "cleanup::out_of_memory",
            "this machine gives no memory cgroup to limit",
        );
        return;
    };
    let home = TestHome::sub();
    let context = home.context("context");
    // tail keeps all of a line that never ends.
    context.dockerfile(&bases::busybox().dockerfile(&format!(
        "RUN touch /{UNFINISHED}; sleep 500 & tail /dev/zero\n"
    )));
    let join = format!(
        "echo $$ > {}/cgroup.procs && exec setpriv --reuid={user} --regid={user} --clear-groups \
         --inh-caps=-all {} build --progress plain {}",
        limit.0.display(),
        binary::ashlar().display(),
        context.path().display(),
        user = home.user().name()
    );
    let output = TestCommand::root("sh")
        .args(["-c", &join])
        .env("HOME", home.home())
        .env("ASHLAR_HOME", home.store())
        .env("TMPDIR", home.temporary())
        .env("XDG_RUNTIME_DIR", home.root().join("run"))
        .run();
    // The kernel may choose the step or, if that is smaller, the builder itself.
    if output.signal().is_none() {
        output.exit_code(1).stderr_has("137");
    }
    processes::assert_none_left();
    let good = home.context("good");
    good.dockerfile(&bases::busybox().dockerfile("RUN echo good > /good\n"));
    home.build(&good, &[]).success();
    let unfinished = home.store_paths_named(UNFINISHED);
    assert!(unfinished.is_empty(), "left in the store: {unfinished:?}");
    home.assert_clean();
}

//! How containers end, by themselves and otherwise, and that nothing of them is left.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ashlar_exec::sandbox::{
    BindMount, ContainerSpec, IdChoice, Mount, RunError, SandboxConfig, SandboxHelper, Stdio,
};
use ashlar_model::executor::ExitStatus;
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{ALL, ROOT, Rig, Written};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(ALL, ending::daemons_end_with_the_command),
    test!(ALL, ending::a_dropped_run_is_asked_to_end),
    test!(
        ALL,
        ending::a_command_that_will_not_end_is_killed_after_the_grace
    ),
    test!(ALL, ending::signals_reach_the_command),
    test!(
        ALL,
        ending::a_paused_container_stands_still_until_it_is_resumed
    ),
    test!(ALL, ending::a_paused_container_can_be_called_off),
    test!(ALL, ending::orphans_are_buried),
    test!(ALL, ending::dropping_the_sandbox_kills_what_runs_in_it),
    test!(ALL, ending::a_killed_builder_leaves_nothing),
    test!(ALL, ending::a_killed_launcher_leaves_nothing),
    test!(ALL, ending::many_containers_run_at_once),
    test!(ROOT, ending::want_of_memory_is_told_apart_from_other_deaths),
];

/// Whether a process with this argument runs anywhere on the machine.
fn is_running(argument: &str) -> bool {
    !states(argument).is_empty()
}

/// The states of all processes with this argument, as `/proc` has them: `S` sleeps, `T` is stopped.
fn states(argument: &str) -> String {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ours = processes.map(|entry| entry.path()).filter(|path| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == argument.as_bytes())
    });
    ours.filter_map(|path| {
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    })
    .collect()
}

#[track_caller]
fn wait_until(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "{what}: not after {limit:?}");
        sleep(Duration::from_millis(5));
    }
}

const SOON: Duration = Duration::from_secs(5);

/// A number of seconds that no other process sleeps for.
fn unique_seconds(rig: &Rig) -> String {
    format!("{}.{}", 100_000 + std::process::id(), rig.user.ids().0)
}

/// A container that has a directory of the machine's at /out.
fn with_out(rig: &Rig, command: &str) -> (ContainerSpec, std::path::PathBuf) {
    let out = rig.layer("out");
    let mut spec = rig.shell(command);
    spec.mounts = vec![Mount::Host(BindMount {
        source: out.clone(),
        destination: "/out".to_owned(),
        read_only: false,
        recursive: false,
    })];
    (spec, out)
}

pub(crate) fn daemons_end_with_the_command(rig: &Rig) {
    let seconds = unique_seconds(rig);
    let started = Instant::now();
    let finished = rig.run_shell(&format!(
        "setsid sleep {seconds} & (setsid sleep {seconds} &) ; echo started"
    ));
    assert_eq!(finished.stdout(), "started\n");
    assert!(!is_running(&seconds));
    assert!(started.elapsed() < SOON);
}

pub(crate) fn a_dropped_run_is_asked_to_end(rig: &Rig) {
    let seconds = unique_seconds(rig);
    let (spec, out) = with_out(
        rig,
        &format!(
            "trap 'echo asked >/out/asked; exit 3' TERM; touch /out/ready; sleep {seconds} & wait"
        ),
    );
    let work = spec.root.writable.clone().unwrap().work;
    let run = rig
        .helper
        .run(spec, Stdio::Captured(Arc::new(Written::default())));
    rig.runtime.block_on(async {
        tokio::select! {
            result = run => panic!("{result:?}"),
            () = until(out.join("ready")) => {}
        }
    });
    wait_until("asked", SOON, || out.join("asked").exists());
    wait_until("all gone", SOON, || !is_running(&seconds));
    wait_until("work emptied", SOON, || {
        fs::read_dir(&work).unwrap().next().is_none()
    });
}

async fn until(path: std::path::PathBuf) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn a_command_that_will_not_end_is_killed_after_the_grace(rig: &Rig) {
    let seconds = unique_seconds(rig);
    let (spec, out) = with_out(
        rig,
        &format!("trap '' TERM; touch /out/ready; sleep {seconds}; sleep {seconds}; echo never"),
    );
    let run = rig
        .helper
        .run(spec, Stdio::Captured(Arc::new(Written::default())));
    let control = run.control();
    let started = Instant::now();
    let result = rig.runtime.block_on(async {
        let cancel = async {
            until(out.join("ready")).await;
            control.cancel();
        };
        tokio::join!(run, cancel).0
    });
    assert!(matches!(result, Err(RunError::Cancelled)), "{result:?}");
    assert!(
        !is_running(&seconds),
        "the future ends when nothing is left"
    );
    let took = started.elapsed();
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(4),
        "{took:?}"
    );
    control.cancel();
}

pub(crate) fn signals_reach_the_command(rig: &Rig) {
    let (spec, out) = with_out(
        rig,
        "trap 'exit 42' USR1; touch /out/ready; while true; do sleep 0.05; done",
    );
    let run = rig
        .helper
        .run(spec, Stdio::Captured(Arc::new(Written::default())));
    let control = run.control();
    let result = rig.runtime.block_on(async {
        let signal = async {
            until(out.join("ready")).await;
            control.signal(0);
            control.signal(9999);
            control.signal(10);
        };
        tokio::join!(run, signal).0
    });
    assert_eq!(result.unwrap(), ExitStatus::Code(42));
}

/// Waits until the processes with this argument are in these states.
async fn until_states(argument: &str, wanted: &str) {
    while states(argument) != wanted {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn a_paused_container_stands_still_until_it_is_resumed(rig: &Rig) {
    let seconds = unique_seconds(rig);
    // One of them in a session of its own; and a signal from inside that is no order.
    let command = format!(
        "kill -PWR 1; setsid sleep {seconds} & sleep {seconds} & touch /out/ready
         trap 'exit 42' USR1; while true; do sleep 0.05; done"
    );
    let (spec, out) = with_out(rig, &command);
    let run = rig
        .helper
        .run(spec, Stdio::Captured(Arc::new(Written::default())));
    let control = run.control();
    let result = rig.runtime.block_on(async {
        let pausing = async {
            until(out.join("ready")).await;
            until_states(&seconds, "SS").await;
            // In whatever number they come, the last word counts.
            for _ in 0..50 {
                control.pause();
                control.resume();
            }
            until_states(&seconds, "SS").await;
            for _ in 0..50 {
                control.resume();
                control.pause();
            }
            until_states(&seconds, "TT").await;
            control.pause();
            control.resume();
            until_states(&seconds, "SS").await;
            control.signal(10);
        };
        let both = async { tokio::join!(run, pausing).0 };
        tokio::time::timeout(4 * SOON, both).await
    });
    assert_eq!(result.unwrap().unwrap(), ExitStatus::Code(42));
}

pub(crate) fn a_paused_container_can_be_called_off(rig: &Rig) {
    for kill in [false, true] {
        let seconds = unique_seconds(rig);
        let command = format!(
            "trap 'touch /out/asked-{kill}; exit' TERM; touch /out/ready-{kill}
             sleep {seconds} & wait"
        );
        let (spec, out) = with_out(rig, &command);
        let run = rig
            .helper
            .run(spec, Stdio::Captured(Arc::new(Written::default())));
        let control = run.control();
        let result = rig.runtime.block_on(async {
            let ending = async {
                until(out.join(format!("ready-{kill}"))).await;
                until_states(&seconds, "S").await;
                control.pause();
                until_states(&seconds, "T").await;
                if kill {
                    control.kill();
                } else {
                    control.cancel();
                }
            };
            let both = async { tokio::join!(run, ending).0 };
            tokio::time::timeout(4 * SOON, both).await
        });
        assert!(matches!(result, Ok(Err(RunError::Cancelled))), "{result:?}");
        assert!(!is_running(&seconds));
        assert_eq!(out.join(format!("asked-{kill}")).exists(), !kill);
    }
}

pub(crate) fn orphans_are_buried(rig: &Rig) {
    let finished = rig.run_shell(
        "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 0.4; \
         grep -l 'State:.Z' /proc/[0-9]*/status; echo none",
    );
    assert_eq!(finished.stdout(), "none\n");
}

pub(crate) fn dropping_the_sandbox_kills_what_runs_in_it(rig: &Rig) {
    let config = SandboxConfig {
        directory: rig.directory.join("sandbox"),
        ids: IdChoice::Best,
    };
    let helper = SandboxHelper::start(&config).unwrap();
    let seconds = unique_seconds(rig);
    let (spec, out) = with_out(
        rig,
        &format!("trap '' TERM; touch /out/ready; sleep {seconds}"),
    );
    let run = helper.run(spec, Stdio::Captured(Arc::new(Written::default())));
    rig.runtime.block_on(async {
        tokio::select! {
            result = run => panic!("{result:?}"),
            () = until(out.join("ready")) => {}
        }
    });
    let started = Instant::now();
    drop(helper);
    assert!(!is_running(&seconds));
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "no grace for what nobody waits for"
    );
}

/// A builder that a test kills: runs a container that does not end by itself.
pub(crate) fn build_for_ever(directory: &Path) -> ExitCode {
    let spec: ContainerSpec =
        postcard::from_bytes(&fs::read(directory.join("spec")).unwrap()).unwrap();
    let config = SandboxConfig {
        directory: directory.join("sandbox"),
        ids: IdChoice::Best,
    };
    let helper = SandboxHelper::start(&config).unwrap();
    fs::write(directory.join("helper"), helper.process_id().to_string()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let run = helper.run(spec, Stdio::Captured(Arc::new(Written::default())));
    println!("{:?}", runtime.block_on(run));
    ExitCode::SUCCESS
}

/// Starts such a builder and waits until its container runs.
fn start_builder(rig: &Rig, seconds: &str) -> (std::process::Child, std::path::PathBuf) {
    let command =
        format!("trap '' TERM; touch /out/ready; setsid sleep {seconds} & sleep {seconds}");
    let (spec, out) = with_out(rig, &command);
    let work = spec.root.writable.clone().unwrap().work;
    fs::write(
        rig.directory.join("spec"),
        postcard::to_stdvec(&spec).unwrap(),
    )
    .unwrap();
    let builder = Command::new(std::env::current_exe().unwrap())
        .arg("--build-for-ever")
        .arg(&rig.directory)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("container runs", SOON, || {
        out.join("ready").exists() && is_running(seconds)
    });
    (builder, work)
}

pub(crate) fn a_killed_builder_leaves_nothing(rig: &Rig) {
    let seconds = unique_seconds(rig);
    let (mut builder, work) = start_builder(rig, &seconds);
    let helper = fs::read_to_string(rig.directory.join("helper")).unwrap();
    builder.kill().unwrap();
    builder.wait().unwrap();
    wait_until("all gone", SOON, || !is_running(&seconds));
    wait_until("launcher gone", SOON, || {
        !Path::new("/proc").join(&helper).exists()
    });
    assert!(
        fs::read_dir(work).unwrap().next().is_none(),
        "the work directory is empty"
    );
}

pub(crate) fn a_killed_launcher_leaves_nothing(rig: &Rig) {
    let seconds = unique_seconds(rig);
    let (builder, work) = start_builder(rig, &seconds);
    let helper: i32 = fs::read_to_string(rig.directory.join("helper"))
        .unwrap()
        .parse()
        .unwrap();
    kill_process(Pid::from_raw(helper).unwrap(), Signal::KILL).unwrap();
    wait_until("all gone", SOON, || !is_running(&seconds));
    let output = builder.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("Signal(9)") || text.contains("HelperLost"),
        "{text}"
    );
    assert!(
        fs::read_dir(work).unwrap().next().is_none(),
        "the work directory is empty"
    );
}

pub(crate) fn many_containers_run_at_once(rig: &Rig) {
    let started = Instant::now();
    let specs: Vec<_> = (0..20)
        .map(|number| rig.shell(&format!("sleep 0.5; echo {number}; exit {number}")))
        .collect();
    let written: Vec<_> = specs.iter().map(|_| Arc::new(Written::default())).collect();
    let runs: Vec<_> = specs
        .into_iter()
        .zip(&written)
        .map(|(spec, written)| {
            rig.helper
                .run(spec, Stdio::Captured(Arc::clone(written) as _))
        })
        .collect();
    rig.runtime.block_on(async {
        for (number, run) in (0..).zip(runs) {
            assert_eq!(run.await.unwrap(), ExitStatus::Code(number));
        }
    });
    for (number, written) in written.iter().enumerate() {
        assert_eq!(written.stdout(), format!("{number}\n"));
    }
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "one after the other takes ten seconds: {took:?}"
    );
}

/// Puts a process and its future children under a memory limit, as only root can.
struct MemoryLimit(std::path::PathBuf);

impl MemoryLimit {
    fn new(process: u32, bytes: u64) -> Self {
        let (first, second) = (
            Path::new("/sys/fs/cgroup/memory"),
            Path::new("/sys/fs/cgroup"),
        );
        let (parent, file) = if first.exists() {
            (first, "memory.limit_in_bytes")
        } else {
            (second, "memory.max")
        };
        let group = parent.join(format!("ashlar-test-{process}"));
        let limit = || {
            fs::create_dir(&group)?;
            fs::write(group.join(file), bytes.to_string())?;
            fs::write(group.join("cgroup.procs"), process.to_string())
        };
        limit().unwrap_or_else(|error| {
            panic!(
                "a memory control group is needed, {} cannot be one: {error}",
                group.display()
            )
        });
        Self(group)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let _moved = fs::write(self.0.parent().unwrap().join("cgroup.procs"), process);
        }
        fs::remove_dir(&self.0).unwrap();
    }
}

pub(crate) fn want_of_memory_is_told_apart_from_other_deaths(rig: &Rig) {
    let _limit = MemoryLimit::new(rig.helper.process_id(), 64 << 20);
    let greedy = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    let finished = rig.run_shell(&format!("exec {greedy}"));
    assert_eq!(finished.result.unwrap(), ExitStatus::OutOfMemory);
    // A shell turns its child's death into a code.
    let finished = rig.run_shell(&format!("{greedy}; exit $?"));
    assert_eq!(finished.result.unwrap(), ExitStatus::OutOfMemory);
    assert_eq!(
        rig.run_shell("kill -9 $$").result.unwrap(),
        ExitStatus::Signal(9)
    );
}

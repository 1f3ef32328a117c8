//! An `ashlar-worker` of a test's own, run by an ordinary user, on this machine or on one with an
//! address of its own.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::binary;
use crate::command::{Output, Running, TestCommand};
use crate::environment;
use crate::http;
use crate::network::Namespace;
use crate::redis::server::free_port;
use crate::user::TestUser;

/// How long a worker may take until it is attached to its farm.
const STARTUP: Duration = Duration::from_secs(20);

/// As whom it runs.
const USER: TestUser = TestUser::Sub;

/// A worker with a directory. It may be killed and launched again, and keeps what it has; in the
/// end all of it goes.
#[derive(Debug)]
pub struct Worker {
    // It ends before its machine does.
    running: Option<Running>,
    directory: TempDir,
    farm: String,
    arguments: Vec<OsString>,
    http: String,
    machine: Option<Namespace>,
    /// Where what the kernel says of memory and processors is, if not in `/proc`.
    pressure: Option<PathBuf>,
}

/// Puts files in the place of the kernel's, for one process and all below it. Another `/proc` has to
/// be seen whole, or no user namespace could mount one.
const WITH_PRESSURE: &str = r#"set -e
files=$1 uid=$2 gid=$3
shift 3
mount -t proc proc "$files/proc"
mount --bind "$files/meminfo" /proc/meminfo
for name in memory cpu; do
    mount --bind "$files/$name" "/proc/pressure/$name"
done
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups -- "$@"
"#;

impl Worker {
    /// A worker of the farm with this address for workers, on this machine, not started yet.
    pub fn prepare(farm: &str) -> Self {
        Self::on(None, farm)
    }

    /// A worker on a machine of its own.
    pub fn prepare_on(machine: Namespace, farm: &str) -> Self {
        Self::on(Some(machine), farm)
    }

    fn on(machine: Option<Namespace>, farm: &str) -> Self {
        let directory = environment::scratch_directory("worker");
        for name in ["root", "home", "run", "tmp"] {
            USER.make_directory(directory.path().join(name));
        }
        USER.own(directory.path());
        let address = machine.as_ref().map_or("127.0.0.1", Namespace::address);
        Self {
            running: None,
            directory,
            farm: farm.to_owned(),
            arguments: Vec::new(),
            http: format!("{address}:{}", free_port()),
            machine,
            pressure: None,
        }
    }

    /// With other files in the place of `/proc/meminfo`, `/proc/pressure/memory` and
    /// `/proc/pressure/cpu`, which [`Self::press`] writes. To begin with, all is well.
    #[must_use]
    pub fn under_pressure(mut self) -> Self {
        let files = self.directory.path().join("pressure");
        fs::create_dir_all(files.join("proc"))
            .unwrap_or_else(|error| panic!("{}: {error}", files.display()));
        self.pressure = Some(files);
        self.press(8_000, 0.0, 0.0);
        self
    }

    /// Has the kernel say that so many megabytes of memory are left, and in how much of the time some
    /// task waited for memory and for a processor, in percent.
    pub fn press(&self, left: u64, memory: f64, cpu: f64) {
        let files = self.pressure.as_ref().expect("a worker under pressure");
        let stalled = |percent: f64| {
            let averages = format!("avg10={percent:.2} avg60=0.00 avg300=0.00 total=1");
            format!("some {averages}\nfull {averages}\n")
        };
        for (name, text) in [
            ("meminfo", format!("MemAvailable: {} kB\n", left << 10)),
            ("memory", stalled(memory)),
            ("cpu", stalled(cpu)),
        ] {
            fs::write(files.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    /// With some more arguments of `ashlar-worker run`.
    #[must_use]
    pub fn with<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter();
        self.arguments
            .extend(arguments.map(|one| one.as_ref().to_owned()));
        self
    }

    /// Started for the first time.
    #[must_use]
    pub fn started(mut self) -> Self {
        self.launch();
        self
    }

    /// Starts it, and waits until it says that it is ready: attached to its farm.
    pub fn launch(&mut self) {
        self.launch_lost();
        self.wait_until_ready();
    }

    /// Starts it where its farm may be out of reach, and waits until it is there: from then on it
    /// heeds signals.
    pub fn launch_lost(&mut self) {
        assert!(self.running.is_none(), "the worker runs already");
        let place = |name: &str| self.directory.path().join(name);
        let program = binary::ashlar_worker();
        let command = match (&self.machine, &self.pressure) {
            (Some(machine), _) => machine.command(USER, program),
            (None, Some(files)) => {
                let (uid, gid) = USER.ids();
                TestCommand::root("unshare")
                    .args(["--mount", "sh", "-c", WITH_PRESSURE, "sh"])
                    .arg(files)
                    .args([uid.to_string(), gid.to_string()])
                    .arg(program)
            }
            (None, None) => TestCommand::new(USER, program),
        };
        let command = command
            .args(["run", "--farm", &self.farm, "--http", &self.http])
            .arg("--root")
            .arg(place("root"))
            .args(&self.arguments)
            .env("HOME", place("home"))
            .env("USER", USER.name())
            .env("TMPDIR", place("tmp"))
            .env("XDG_RUNTIME_DIR", place("run"))
            .directory(self.directory.path())
            .timeout(Duration::from_secs(3600));
        self.running = Some(command.start());
        let deadline = Instant::now() + STARTUP;
        while self.get("/healthz").is_none() {
            let runs = self.running.as_mut().is_some_and(Running::is_running);
            assert!(
                runs && Instant::now() < deadline,
                "the worker does not start:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it is attached to its farm.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + STARTUP;
        while self.get("/readyz").is_none_or(|(status, _)| status != 200) {
            let runs = self.running.as_mut().is_some_and(Running::is_running);
            assert!(
                runs && Instant::now() < deadline,
                "the worker is not ready: {:?}\n{}",
                self.get("/readyz"),
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The status and the body of one of its pages; `None` if it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get_from(&self.http, path, Duration::from_secs(2)).ok()
    }

    /// The machine that it is on, if that is one of its own.
    pub fn machine(&self) -> Option<&Namespace> {
        self.machine.as_ref()
    }

    /// Where it keeps layers.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Writes a file that it can read and nobody else but root.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{name}: {error}"));
        USER.own(&path);
        path
    }

    /// What it wrote to standard error since it was launched.
    pub fn log(&self) -> String {
        self.process().stderr()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process().id()
    }

    fn process(&self) -> &Running {
        self.running.as_ref().expect("the worker does not run")
    }

    /// `kill -9`, and waits until it is dead.
    pub fn kill(&mut self) {
        self.process().signal(Signal::KILL);
        let output = self.running.take().map(Running::wait);
        let signal = output.as_ref().and_then(Output::signal);
        assert_eq!(signal, Some(9), "the worker had ended before: {output:?}");
    }

    /// `kill -STOP`: it is there and does nothing.
    pub fn freeze(&self) {
        self.process().signal(Signal::STOP);
    }

    /// Ends [`Self::freeze`].
    pub fn thaw(&self) {
        self.process().signal(Signal::CONT);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Output {
        let running = self.running.take();
        running.map(Running::wait).expect("the worker does not run")
    }

    /// `kill -TERM`, and gives its end.
    pub fn terminate(&mut self) -> Output {
        self.signal(Signal::TERM);
        self.wait()
    }
}

//! A sandbox with a small root filesystem, and what to do with it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ashlar_exec::sandbox::{
    ContainerSpec, IdChoice, IdMode, RootFilesystem, RunError, SandboxConfig, SandboxHelper, Stdio,
    Writable,
};
use ashlar_model::executor::{ExitStatus, OutputStream, StepOutput};
use ashlar_model::step::{Network, Security};

/// As whom a test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// `ashlar-sub`, with subordinate ids.
    Sub,
    /// `ashlar-one`, without.
    One,
    Root,
}

/// Everyone.
pub(crate) const ALL: &[User] = &[User::Sub, User::One, User::Root];
/// Those who have more than one id.
pub(crate) const MANY: &[User] = &[User::Sub, User::Root];
pub(crate) const SUB: &[User] = &[User::Sub];
pub(crate) const ONE: &[User] = &[User::One];
pub(crate) const ROOT: &[User] = &[User::Root];

impl User {
    /// User and group id on this machine.
    pub(crate) fn ids(self) -> (u32, u32) {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd
            .lines()
            .find(|line| line.starts_with(&format!("{}:", self.login())));
        let line = line.unwrap_or_else(|| {
            panic!(
                "there is no user {}: run tests/support/scripts/users.sh",
                self.login()
            )
        });
        let mut numbers = line.split(':').skip(2).map(|text| text.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    fn login(self) -> &'static str {
        match self {
            Self::Sub => "ashlar-sub",
            Self::One => "ashlar-one",
            Self::Root => "root",
        }
    }

    fn mode(self) -> IdMode {
        match self {
            Self::Sub => IdMode::Range,
            Self::One => IdMode::Single,
            Self::Root => IdMode::HostRoot,
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sub => "sub",
            Self::One => "one",
            Self::Root => "root",
        })
    }
}

/// What a command wrote.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<(Vec<u8>, Vec<u8>)>);

impl StepOutput for Written {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        let mut both = self.0.lock().unwrap();
        match stream {
            OutputStream::Stdout => both.0.extend(bytes),
            OutputStream::Stderr => both.1.extend(bytes),
        }
    }
}

impl Written {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
    }
}

/// A finished container.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) result: Result<ExitStatus, RunError>,
    pub(crate) written: Arc<Written>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
}

impl Finished {
    /// Standard output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn stdout(&self) -> String {
        assert!(
            matches!(self.result, Ok(ExitStatus::Code(0))),
            "{:?}\nstdout: {}\nstderr: {}",
            self.result,
            self.written.stdout(),
            self.written.stderr()
        );
        self.written.stdout()
    }

    /// Everything in the layer that the container made.
    #[track_caller]
    pub(crate) fn layer(&self) -> BTreeSet<String> {
        let empty = fs::read_dir(&self.work).unwrap().next().is_none();
        assert!(empty, "{} is not empty", self.work.display());
        tree(&self.upper)
    }
}

/// All paths below a directory.
pub(crate) fn tree(directory: &Path) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            paths.insert(
                path.strip_prefix(directory)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            );
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                open.push(path);
            }
        }
    }
    paths
}

pub(crate) struct Rig {
    pub(crate) user: User,
    pub(crate) directory: PathBuf,
    pub(crate) helper: SandboxHelper,
    pub(crate) runtime: tokio::runtime::Runtime,
    runs: Cell<usize>,
}

impl Rig {
    pub(crate) fn new(directory: &Path, user: User) -> Self {
        let config = SandboxConfig {
            directory: directory.join("sandbox"),
            ids: IdChoice::Best,
        };
        let helper = SandboxHelper::start(&config).unwrap();
        assert_eq!(helper.id_map().mode(), user.mode(), "{:?}", helper.id_map());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let rig = Self {
            user,
            directory: directory.to_owned(),
            helper,
            runtime: runtime.unwrap(),
            runs: Cell::new(0),
        };
        rig.make_busybox();
        rig
    }

    /// The bottom layer: busybox, an account or two, and no mount points at all.
    fn make_busybox(&self) {
        let root = self.busybox();
        for name in ["bin", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("/bin/busybox (package busybox-static) is needed");
        for applet in [
            "sh", "ls", "cat", "id", "echo", "sleep", "ps", "mkdir", "rm", "touch", "stat", "true",
            "false", "kill", "hostname", "ifconfig", "mount", "env", "pwd", "chown", "chmod", "mv",
            "mknod", "head", "tty", "stty", "dd", "test", "grep", "find", "seq", "readlink", "ip",
            "setsid", "trap", "wc", "ln", "nc", "unshare", "chroot", "date", "su", "printf",
        ] {
            let _exists = std::os::unix::fs::symlink("busybox", root.join("bin").join(applet));
        }
    }

    pub(crate) fn busybox(&self) -> PathBuf {
        self.directory.join("layers/busybox")
    }

    /// A new, empty layer.
    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        let path = self.directory.join("layers").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A layer with files of these names and contents; a name that ends in `/` is a directory.
    pub(crate) fn layer_with(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let layer = self.layer(name);
        for (path, text) in files {
            let path = layer.join(path);
            if path.to_str().unwrap().ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        layer
    }

    /// The plainest container: a shell command on busybox.
    pub(crate) fn shell(&self, command: &str) -> ContainerSpec {
        self.command(&["/bin/sh", "-c", command])
    }

    pub(crate) fn command(&self, args: &[&str]) -> ContainerSpec {
        let number = self.runs.get();
        self.runs.set(number + 1);
        let run = self.directory.join(format!("runs/{number}"));
        let (upper, work) = (run.join("upper"), run.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        ContainerSpec {
            root: RootFilesystem {
                lowers: vec![self.busybox()],
                writable: Some(Writable { upper, work }),
            },
            args: args.iter().map(|&text| text.to_owned()).collect(),
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            cwd: "/".to_owned(),
            user: String::new(),
            network: Network::Host,
            hostname: "box".to_owned(),
            extra_hosts: Vec::new(),
            script: None,
            mounts: Vec::new(),
            security: Security::Sandbox,
            ulimits: Vec::new(),
        }
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, spec: ContainerSpec) -> Finished {
        let written = Arc::new(Written::default());
        let (upper, work) = match &spec.root.writable {
            Some(writable) => (writable.upper.clone(), writable.work.clone()),
            None => (PathBuf::new(), PathBuf::new()),
        };
        let run = self
            .helper
            .run(spec, Stdio::Captured(Arc::clone(&written) as _));
        let result = self.runtime.block_on(run);
        Finished {
            result,
            written,
            upper,
            work,
        }
    }

    pub(crate) fn run_shell(&self, command: &str) -> Finished {
        self.run(self.shell(command))
    }

    /// Sends a request to the test's file handler.
    pub(crate) fn call(&self, request: &str) -> String {
        let answer = self
            .runtime
            .block_on(self.helper.call(request.as_bytes()))
            .unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Ends the sandbox and sees that nothing is left.
    pub(crate) fn finish(self) {
        let directory = self.directory.clone();
        // What other ids own, an ordinary user cannot remove.
        assert_eq!(
            self.call(&format!("remove {}", directory.join("runs").display())),
            "done"
        );
        assert_eq!(
            self.call(&format!("remove {}", directory.join("layers").display())),
            "done"
        );
        let helper = self.helper.process_id();
        drop(self.helper);
        assert!(!Path::new(&format!("/proc/{helper}")).exists());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
        assert_eq!(
            tree(&directory.join("sandbox")).len(),
            8,
            "only the stub layer and the mount point are left"
        );
    }
}

/// Owner of a file as the machine sees it.
pub(crate) fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

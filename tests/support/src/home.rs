//! One test's own home directory, store and scratch space.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use crate::binary;
use crate::command::{Output, TestCommand};
use crate::context::Context;
use crate::environment;
use crate::layout::Layout;
use crate::processes;
use crate::tree::Tree;
use crate::user::TestUser;

/// A fresh place for one test:
///
/// ```text
/// ROOT/home    $HOME            ROOT/tmp    $TMPDIR
/// ROOT/store   $ASHLAR_HOME     ROOT/work   contexts and outputs
/// ROOT/run     $XDG_RUNTIME_DIR
/// ```
///
/// All of it belongs to the user, and is removed in the end with whatever is mounted below.
#[derive(Debug)]
pub struct TestHome {
    user: TestUser,
    // `None` only while it is dropped.
    directory: Option<TempDir>,
    root: PathBuf,
}

impl TestHome {
    /// A place for a user.
    pub fn new(user: TestUser) -> Self {
        let directory = environment::scratch_directory("test");
        let root = directory.path().to_owned();
        for name in ["home", "store", "tmp", "run", "work"] {
            user.make_directory(root.join(name));
        }
        Self {
            user,
            directory: Some(directory),
            root,
        }
    }

    /// A place for the user with subordinate ids.
    pub fn sub() -> Self {
        Self::new(TestUser::Sub)
    }

    /// Whose place it is.
    pub fn user(&self) -> TestUser {
        self.user
    }

    /// `$HOME`.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// `$ASHLAR_HOME`.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// `$TMPDIR`.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The directory of everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path for an output, which nothing is at yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join("work").join(name)
    }

    /// An empty directory of the user.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.user.make_directory(self.path(name))
    }

    /// A build context.
    pub fn context(&self, name: &str) -> Context {
        Context::new(self.path(name), self.user)
    }

    /// A file of the user.
    pub fn file(&self, path: &Path, content: impl AsRef<[u8]>) {
        if let Some(parent) = path.parent() {
            self.user.make_directory(parent.to_owned());
        }
        fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.user.own(path);
    }

    /// Any command of the user, with this place in its environment.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> TestCommand {
        TestCommand::new(self.user, program)
            .env("HOME", self.home())
            .env("USER", self.user.name())
            .env("ASHLAR_HOME", self.store())
            .env("TMPDIR", self.temporary())
            .env("XDG_RUNTIME_DIR", self.root.join("run"))
            .directory(&self.root.join("work"))
    }

    /// `ashlar` with some arguments.
    pub fn ashlar<A: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> TestCommand {
        self.command(binary::ashlar()).args(arguments)
    }

    /// `ashlar build --progress plain [OPTION...] CONTEXT`.
    pub fn build_command(&self, context: &Context, options: &[&str]) -> TestCommand {
        self.ashlar(["build", "--progress", "plain"])
            .args(options)
            .arg(context.path())
    }

    /// Builds a context.
    pub fn build(&self, context: &Context, options: &[&str]) -> Output {
        self.build_command(context, options).run()
    }

    /// Builds a context and gives the root filesystem of the result, read from a `type=tar` output:
    /// an ordinary user could not give the files of a directory other owners.
    #[track_caller]
    pub fn build_tree(&self, context: &Context, options: &[&str]) -> Tree {
        let tar = self.path("build-tree.tar");
        let output = format!("type=tar,dest={}", tar.display());
        self.build_command(context, &["-o", &output])
            .args(options)
            .run()
            .success();
        let tree = crate::judge::gnu_tar::read(&tar);
        fs::remove_file(&tar).expect("cannot remove a tar");
        tree
    }

    /// Builds a context and gives the modification times of the result's files, as
    /// [`gnu_tar::times`](crate::judge::gnu_tar::times) does.
    #[track_caller]
    pub fn build_times(&self, context: &Context, options: &[&str]) -> BTreeMap<String, String> {
        let tar = self.path("build-times.tar");
        let output = format!("type=tar,dest={}", tar.display());
        self.build_command(context, &["-o", &output])
            .args(options)
            .run()
            .success();
        let times = crate::judge::gnu_tar::times(&tar);
        fs::remove_file(&tar).expect("cannot remove a tar");
        times
    }

    /// Builds a context into an OCI layout.
    #[track_caller]
    pub fn build_layout(&self, context: &Context, options: &[&str]) -> Layout {
        let directory = self.path("build-layout");
        if directory.exists() {
            fs::remove_dir_all(&directory).expect("cannot remove a layout");
        }
        let output = format!("type=oci,tar=false,dest={}", directory.display());
        self.build_command(context, &["-o", &output])
            .args(options)
            .run()
            .success();
        Layout::open(directory)
    }

    /// Builds a context and gives the text of one file of the result.
    #[track_caller]
    pub fn build_text(&self, context: &Context, path: &str, options: &[&str]) -> String {
        let directory = self.path("build-text");
        let output = format!("type=local,dest={}", directory.display());
        self.build_command(context, &["-o", &output])
            .args(options)
            .run()
            .success();
        let text = fs::read_to_string(directory.join(path.trim_start_matches('/')))
            .unwrap_or_else(|error| panic!("{path} of the image: {error}"));
        fs::remove_dir_all(&directory).expect("cannot remove an output");
        text
    }

    /// Asserts that nothing of Ashlar is left but the store: no process, no mount, no file in the
    /// temporary and run directories.
    #[track_caller]
    pub fn assert_clean(&self) {
        processes::assert_none_left();
        let mounts = processes::mounts_under(&self.root);
        assert!(mounts.is_empty(), "mounts were left behind: {mounts:?}");
        for name in ["tmp", "run"] {
            let left: Vec<_> = fs::read_dir(self.root.join(name))
                .expect("cannot list a directory of the test")
                .map(|entry| entry.expect("cannot list a directory of the test").path())
                .collect();
            assert!(left.is_empty(), "files were left behind: {left:?}");
        }
    }

    /// Paths in the store whose last component is a name.
    pub fn store_paths_named(&self, name: &str) -> Vec<PathBuf> {
        self.store_paths()
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|own| own == name))
            .collect()
    }

    /// All paths in the store.
    pub fn store_paths(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.store()];
        while let Some(directory) = directories.pop() {
            let entries = fs::read_dir(&directory)
                .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            for entry in entries {
                let entry = entry.expect("cannot list the store");
                if entry.file_type().expect("cannot list the store").is_dir() {
                    directories.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }

    fn clean_up(&self) -> io::Result<()> {
        let mut mounts = processes::mounts_under(&self.root);
        // Those below others first.
        mounts.sort_by_key(|point| std::cmp::Reverse(point.len()));
        for point in mounts {
            unmount(point.as_str(), UnmountFlags::DETACH)?;
        }
        Ok(())
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        let cleaned = self.clean_up();
        let Some(directory) = self.directory.take() else {
            return;
        };
        if environment::keep() {
            let _kept: PathBuf = directory.keep();
            return;
        }
        let removed = cleaned.and_then(|()| directory.close());
        if let Err(error) = removed
            && !std::thread::panicking()
        {
            panic!("{}: cannot be removed: {error}", self.root.display());
        }
    }
}

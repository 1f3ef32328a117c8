//! Where the subjects work and how they are called.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ashlar_test_support::bases;
use ashlar_test_support::binary;
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::user::TestUser;

/// The ordinary user for whom everything is measured.
const USER: TestUser = TestUser::Sub;

/// The directory of one run of the benchmarks, on a disk. It stays: to remove that many files would
/// slow down the next run, if that came soon.
#[derive(Debug)]
pub(crate) struct Site {
    root: PathBuf,
    used: Cell<u32>,
    made: RefCell<BTreeMap<&'static str, &'static Path>>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let root = PathBuf::from(format!("/var/tmp/ashlar-bench/{}", std::process::id()));
        fs::create_dir_all(&root).expect("the benchmarks run as root, and need /var/tmp");
        USER.own(&root);
        Self {
            root,
            used: Cell::new(0),
            made: RefCell::default(),
        }
    }

    /// A directory that is filled the first time it is asked for. Its path lives as long as the
    /// program: there are two or three of them.
    pub(crate) fn once(&self, name: &'static str, fill: impl FnOnce(&Path)) -> &'static Path {
        let mut made = self.made.borrow_mut();
        made.entry(name).or_insert_with(|| {
            let directory: &'static Path = Box::leak(self.directory(name).into_boxed_path());
            fill(directory);
            directory
        })
    }

    /// The directory of all.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path that has never been used, under a name that says what for.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        self.used.set(self.used.get() + 1);
        self.root.join(format!("{:04}-{name}", self.used.get()))
    }

    /// A directory of the user's that has never been used.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        USER.make_directory(self.fresh(name))
    }

    /// A context with nothing but a Dockerfile.
    pub(crate) fn context(&self, dockerfile: &str) -> PathBuf {
        let context = self.directory("context");
        write(&context.join("Dockerfile"), dockerfile);
        context
    }

    /// A command of the user's.
    pub(crate) fn command(&self, program: &str) -> TestCommand {
        TestCommand::new(USER, program)
            .env("HOME", &self.root)
            .env("XDG_RUNTIME_DIR", &self.root)
            .env("TMPDIR", &self.root)
            .timeout(std::time::Duration::from_secs(600))
    }

    /// A store of Ashlar's with nothing in it.
    pub(crate) fn ashlar(&self) -> Ashlar<'_> {
        Ashlar {
            site: self,
            store: self.directory("ashlar"),
        }
    }

    /// A storage of buildah's with the base image in it.
    pub(crate) fn buildah(&self) -> Buildah<'_> {
        let buildah = Buildah {
            site: self,
            storage: self.directory("buildah"),
        };
        let base = bases::busybox().foreign_reference();
        let id = buildah.command().args(["pull", "--quiet", &base]).text();
        buildah
            .command()
            .args(["tag", &id, "localhost/base"])
            .run()
            .success();
        buildah
    }
}

/// Writes a file of the user's.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("cannot write a file of the benchmark");
    USER.own(path);
}

/// Ashlar with a store.
#[derive(Debug, Clone)]
pub(crate) struct Ashlar<'a> {
    site: &'a Site,
    store: PathBuf,
}

impl Ashlar<'_> {
    /// How a Dockerfile names the base.
    pub(crate) fn base() -> String {
        bases::busybox().reference()
    }

    pub(crate) fn build(&self, context: &Path, dockerfile: &Path) -> TestCommand {
        let ashlar = binary::ashlar().display().to_string();
        self.site
            .command(&ashlar)
            .env("ASHLAR_HOME", &self.store)
            .args(["build", "--progress", "plain", "-t", "bench", "-f"])
            .arg(dockerfile)
            .arg(context)
    }

    /// The same, with the image written to a layout.
    pub(crate) fn build_to_layout(
        &self,
        context: &Path,
        dockerfile: &Path,
        compression: &str,
    ) -> TestCommand {
        let target = self.site.fresh("layout").display().to_string();
        let output = format!("type=oci,tar=false,dest={target},compression={compression}");
        self.build(context, dockerfile).args(["-o", &output])
    }
}

/// buildah with a storage, rootless, with the kernel's overlay and caching of each step.
#[derive(Debug, Clone)]
pub(crate) struct Buildah<'a> {
    site: &'a Site,
    storage: PathBuf,
}

impl Buildah<'_> {
    /// How a Dockerfile names the base.
    pub(crate) fn base() -> String {
        "localhost/base".to_owned()
    }

    fn command(&self) -> TestCommand {
        self.site
            .command("buildah")
            .arg("--root")
            .arg(self.storage.join("root"))
            .arg("--runroot")
            .arg(self.storage.join("run"))
            .args(["--storage-driver", "overlay"])
            .env("BUILDAH_ISOLATION", "chroot")
    }

    pub(crate) fn build(&self, context: &Path, dockerfile: &Path) -> TestCommand {
        self.build_as("bench", context, dockerfile)
    }

    /// The same, with the image written to a layout. buildah's own compression is gzip.
    pub(crate) fn build_to_layout(&self, context: &Path, dockerfile: &Path) -> TestCommand {
        let target = format!("oci:{}:bench", self.site.fresh("layout").display());
        self.build_as(&target, context, dockerfile)
    }

    fn build_as(&self, name: &str, context: &Path, dockerfile: &Path) -> TestCommand {
        self.command()
            .args(["build", "--layers", "-t", name, "-f"])
            .arg(dockerfile)
            .arg(context)
    }
}

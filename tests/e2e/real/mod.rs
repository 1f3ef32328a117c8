//! Projects as their users write them: the Dockerfiles of `fixtures/real` are those of real
//! repositories in all but size, and are built without a change. `debian:bookworm-slim` is a named
//! context that stands for the base image made here; compilers and interpreters come by apt.

mod c_static;
mod debian_package;
mod monorepo;
mod node;
mod python;
mod rust;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_test_support::bases::{self, Base};
use ashlar_test_support::command::TestCommand;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::judge;
use ashlar_test_support::progress::Progress;
use ashlar_test_support::tree::Tree;
use serde_json::Value;

/// How long a build that installs packages may take, on a machine that does other things too.
const SLOW: Duration = Duration::from_secs(500);

/// A directory of `fixtures/real`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/real")
        .join(name)
}

/// A project in a place of its own, and the base image that its Dockerfile asks for.
struct Project {
    home: TestHome,
    context: Context,
    base: Base,
}

impl Project {
    /// A copy of a fixture; `None` if there is no Debian base or no package source answers, after
    /// the test was noted as skipped.
    fn new(test: &str, name: &str) -> Option<Self> {
        let base = bases::debian_with_packages(test)?;
        let home = TestHome::sub();
        let context = home.context(name);
        context.copy_of(&fixture(name));
        Some(Self {
            home,
            context,
            base,
        })
    }

    /// `ashlar build` with some options, and with the base image under the name of Debian's.
    fn build_command(&self, options: &[&str]) -> TestCommand {
        let base = format!("debian:bookworm-slim={}", self.base.reference());
        self.home
            .build_command(&self.context, &["--build-context", &base])
            .args(options)
            .timeout(SLOW)
    }

    /// Builds, and gives what the progress said.
    #[track_caller]
    fn build(&self, options: &[&str]) -> Progress {
        self.build_command(options).run().success().progress()
    }

    /// Builds, and asserts that nothing had to be run.
    #[track_caller]
    fn assert_cached(&self, options: &[&str]) {
        self.build(options).assert_ran(&[]);
    }

    /// Builds, and gives what skopeo and GNU tar read in the image.
    #[track_caller]
    fn read(&self, options: &[&str]) -> (Value, Tree) {
        let layout = self.home.path("read");
        // To compress what is only read once would cost more than the rest.
        let output = format!(
            "type=oci,tar=false,compression=uncompressed,dest={}",
            layout.display()
        );
        self.build(&[&["-o", &output], options].concat());
        let reading = judge::skopeo_and_tar(&format!("oci:{}", layout.display()));
        std::fs::remove_dir_all(&layout).expect("cannot remove a layout");
        (reading.config["config"].clone(), reading.tree)
    }

    /// Replaces a text in a file of the project: what its developer does.
    #[track_caller]
    fn edit(&self, path: &str, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.context.path().join(path)).unwrap();
        assert!(text.contains(old), "{path} has no {old:?}");
        self.context.file(path, text.replace(old, new));
    }

    /// `ashlar run --rm` with some arguments, and gives what it wrote to standard output.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let run = self.home.ashlar(["run", "--rm"]).args(arguments).run();
        run.success();
        run.stdout().into_owned()
    }
}

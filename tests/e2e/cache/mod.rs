//! Results that machines share: `ashlar-cache`, and the builder with it.
//!
//! A machine here is a user with a store of their own. Between it and the server there is a
//! [`Wire`](ashlar_test_support::wire::Wire) where bytes are counted or trouble is made.

mod attacks;
mod commands;
mod farm_faults;
mod farm_history;
mod faults;
mod flight;
mod judges;
mod machines;
mod mounts;
mod server;
mod stores;
mod traces;
mod trouble;
mod trust;

use ashlar_test_support::bases;
use ashlar_test_support::command::{Output, TestCommand};
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::layout::Layout;
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::progress::Progress;
use ashlar_test_support::user::TestUser;

const MEGABYTE: u64 = 1_000_000;

/// A machine with a context.
struct Machine {
    home: TestHome,
    context: Context,
    cache: Vec<String>,
}

impl Machine {
    /// A machine of a user, with a directory of some name for the context, and caches.
    fn new(user: TestUser, directory: &str, caches: &[&str]) -> Self {
        let home = TestHome::new(user);
        let context = home.context(directory);
        let cache = caches
            .iter()
            .flat_map(|cache| ["--cache".to_owned(), (*cache).to_owned()])
            .collect();
        Self {
            home,
            context,
            cache,
        }
    }

    /// The first machine of most tests, with the context of most tests.
    fn first(cache: &str) -> Self {
        let machine = Self::new(TestUser::Sub, "context", &[cache]);
        branches(&machine.context);
        machine
    }

    /// Another user in another directory, with the same files as [`Self::first`].
    fn second(cache: &str) -> Self {
        let machine = Self::new(TestUser::Other, "somewhere/else", &[cache]);
        branches(&machine.context);
        machine
    }

    fn command(&self, options: &[&str]) -> TestCommand {
        self.home
            .build_command(&self.context, options)
            .args(&self.cache)
    }

    /// Builds, and gives all that the build said.
    fn output(&self, options: &[&str]) -> Output {
        let output = self.command(options).run();
        output.success();
        output
    }

    /// Builds, and gives what became of the steps.
    fn build(&self, options: &[&str]) -> Progress {
        self.output(options).progress()
    }

    /// Builds into a layout, and gives that and what the build said.
    fn layout(&self, options: &[&str]) -> (Layout, Output) {
        let directory = self.home.path("layout");
        if directory.exists() {
            std::fs::remove_dir_all(&directory).unwrap();
        }
        let dest = format!("type=oci,tar=false,dest={}", directory.display());
        let output = self.command(&["-o", &dest]).args(options).run();
        output.success();
        (Layout::open(directory), output)
    }

    /// The digest of what is built, and what the build said.
    fn image(&self, options: &[&str]) -> (String, Output) {
        let (layout, output) = self.layout(options);
        (layout.manifest_digest(), output)
    }
}

/// Bytes that no compressor makes smaller.
fn noise(seed: u64, size: u64) -> Vec<u8> {
    Numbers::new(seed).bytes(usize::try_from(size).unwrap())
}

/// Two branches and what joins them. The left one has layers of some 8 MB that nothing but its
/// own last step looks at, the last stage one of 2 MB.
fn branches(context: &Context) {
    let busybox = bases::busybox().reference();
    context
        .dockerfile(&format!(
            "FROM {busybox} AS left\nCOPY heavy /heavy\nRUN sha256sum /heavy > /sum\n\
             FROM {busybox} AS right\nCOPY right /r\nRUN cat /r/inner/text > /right\n\
             FROM {busybox}\nCOPY light /light\nCOPY --from=left /sum /\n\
             COPY --from=right /right /\nCOPY small /small\n\
             RUN cat /small /sum /right > /all\n"
        ))
        .file("heavy", noise(1, 8 * MEGABYTE))
        .file("light", noise(2, 2 * MEGABYTE))
        .file("right/inner/text", "right\n")
        .file("small", "small\n");
}

/// The steps of [`branches`].
const EVERYTHING: [&str; 9] = [
    "COPY heavy",
    "RUN sha256sum",
    "COPY right /r",
    "RUN cat /r/",
    "COPY light",
    "COPY --from=left",
    "COPY --from=right",
    "COPY small",
    "RUN cat /small",
];

/// The warnings of a build.
fn warnings(output: &Output) -> Vec<String> {
    output
        .stderr()
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("warning"))
        .map(str::to_owned)
        .collect()
}

/// Asserts that there was no warning.
#[track_caller]
fn no_warning(output: &Output) -> &Output {
    assert!(warnings(output).is_empty(), "{output}");
    output
}

/// Asserts that there was one warning, which names the cache.
#[track_caller]
fn one_warning(output: &Output, about: &str) {
    let warnings = warnings(output);
    assert_eq!(warnings.len(), 1, "one warning, please: {output}");
    assert!(warnings[0].contains(about), "{output}");
}

//! The environment variables that steer the tests, and the directories that follow from them.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `ASHLAR_BIN` | the binary under test | `ashlar` in the directory this test was built into |
//! | `ASHLAR_CACHE_BIN` | the cache server under test | `ashlar-cache` beside that |
//! | `ASHLAR_WORKER_BIN` | the worker under test | `ashlar-worker` beside that |
//! | `ASHLAR_TEST_ROOT` | scratch space on a disk that any user can reach | `/var/tmp/ashlar-e2e` |
//! | `ASHLAR_TEST_BASES` | what `scripts/bases.sh` made | `target/test-bases` |
//! | `ASHLAR_TEST_JUDGES` | what `scripts/cache-judges.sh` fetched | `target/test-judges` |
//! | `ASHLAR_TEST_S3` | the S3 server | `s3s-fs` among the judges |
//! | `ASHLAR_TEST_SEED` | the one seed that tests with seeds are to run | |
//! | `ASHLAR_TEST_RUNS` | how many seeds they are to run | a few |
//! | `ASHLAR_TEST_SKIPS` | file that names the skipped tests | `target/test-skips.log` |
//! | `ASHLAR_TEST_KEEP` | if set, the directories of the tests are kept | |

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A variable, unless it is unset or empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the tests that reads the environment"
)]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn path_or(name: &str, default: impl FnOnce() -> PathBuf) -> PathBuf {
    variable(name).map_or_else(default, PathBuf::from)
}

/// The top of the checkout.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The binary under test, where the build left it.
pub(crate) fn built_binary() -> PathBuf {
    path_or("ASHLAR_BIN", || {
        let own = env::current_exe().expect("this program has no path");
        own.ancestors()
            .skip(1)
            .take(2)
            .map(|directory| directory.join("ashlar"))
            .find(|candidate| candidate.is_file())
            .unwrap_or_else(|| {
                panic!(
                    "there is no `ashlar` beside {}: build it (cargo build -p ashlar) or name it \
                     in ASHLAR_BIN",
                    own.display()
                )
            })
    })
}

/// The cache server under test, where the build left it.
pub(crate) fn built_cache_server() -> PathBuf {
    path_or("ASHLAR_CACHE_BIN", || {
        let beside = built_binary().with_file_name("ashlar-cache");
        assert!(
            beside.is_file(),
            "there is no {}: build it (cargo build -p ashlar-cache-server) or name it in \
             ASHLAR_CACHE_BIN",
            beside.display()
        );
        beside
    })
}

/// The worker under test, where the build left it.
pub(crate) fn built_worker() -> PathBuf {
    path_or("ASHLAR_WORKER_BIN", || {
        let beside = built_binary().with_file_name("ashlar-worker");
        assert!(
            beside.is_file(),
            "there is no {}: build it (cargo build -p ashlar-worker) or name it in \
             ASHLAR_WORKER_BIN",
            beside.display()
        );
        beside
    })
}

/// Where the foreign judges of the cache service are.
pub(crate) fn judges() -> PathBuf {
    path_or("ASHLAR_TEST_JUDGES", || {
        repository().join("target/test-judges")
    })
}

/// The S3 server.
pub(crate) fn s3_server() -> PathBuf {
    path_or("ASHLAR_TEST_S3", || judges().join("s3s-fs"))
}

/// A variable that is a number.
pub(crate) fn number(name: &str) -> Option<u64> {
    let value = variable(name)?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    Some(number.unwrap_or_else(|| panic!("{name}={}: not a number", value.display())))
}

/// Scratch space that every user can enter, on a disk and not on an overlay.
pub(crate) fn scratch_root() -> PathBuf {
    let root = path_or("ASHLAR_TEST_ROOT", || PathBuf::from("/var/tmp/ashlar-e2e"));
    fs::create_dir_all(&root)
        .and_then(|()| fs::set_permissions(&root, Permissions::from_mode(0o755)))
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}: the tests run as root, and need a directory there",
                root.display()
            )
        });
    root
}

/// A fresh directory in the scratch space, removed when it is dropped. Its name has no capitals:
/// buildah makes image names of paths, and image names have none.
pub fn scratch_directory(purpose: &str) -> TempDir {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let root = scratch_root();
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{purpose}-{}-{number}", std::process::id());
        let made = tempfile::Builder::new()
            .prefix(&name)
            .rand_bytes(0)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&root);
        match made {
            Ok(directory) => return directory,
            // Left by a test that was killed, in a process that had the same number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{}/{name}: {error}", root.display()),
        }
    }
}

/// Where the base images were made.
pub(crate) fn bases() -> PathBuf {
    path_or("ASHLAR_TEST_BASES", || {
        repository().join("target/test-bases")
    })
}

/// The file that names the skipped tests.
pub(crate) fn skips() -> PathBuf {
    path_or("ASHLAR_TEST_SKIPS", || {
        repository().join("target/test-skips.log")
    })
}

/// Whether the directories of the tests are kept for a look.
pub(crate) fn keep() -> bool {
    variable("ASHLAR_TEST_KEEP").is_some()
}

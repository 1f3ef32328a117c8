//! The programs under test.
//!
//! A checkout may lie where ordinary users cannot go, so each program is copied once for each build
//! of it to a directory that everybody can read.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::environment;

/// No run of the tests takes as long.
const OLD: Duration = Duration::from_secs(2 * 3600);

/// The path of `ashlar`, for any user.
pub fn ashlar() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| installed(&environment::built_binary(), "ashlar"))
}

/// The path of `ashlar-cache`, for any user.
pub fn ashlar_cache() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| installed(&environment::built_cache_server(), "ashlar-cache"))
}

/// The path of `ashlar-worker`, for any user.
pub fn ashlar_worker() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| installed(&environment::built_worker(), "ashlar-worker"))
}

/// The path of a program that any user can run.
pub(crate) fn installed(program: &Path, name: &str) -> PathBuf {
    install(program, name).unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Copies a program to a place that no other build of it has. Several test processes may do so
/// at once: each writes its own file and renames it into place.
fn install(built: &Path, name: &str) -> std::io::Result<PathBuf> {
    let metadata = fs::metadata(built)?;
    let directory = environment::scratch_root().join(format!(
        "bin-{:x}-{:x}-{:x}{:09}",
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    ));
    let installed = directory.join(name);
    if !installed.exists() {
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        let partial = directory.join(format!("partial-{}", std::process::id()));
        fs::copy(built, &partial)?;
        fs::set_permissions(&partial, Permissions::from_mode(0o755))?;
        fs::rename(&partial, &installed)?;
        remove_older(&directory)?;
    }
    Ok(installed)
}

/// Removes the copies of builds that no test can be running any more.
fn remove_older(own: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(environment::scratch_root())? {
        let entry = entry?;
        let is_copy = entry.file_name().to_string_lossy().starts_with("bin-");
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        let age = modified.elapsed().unwrap_or_default();
        if is_copy && entry.path() != own && age > OLD {
            // Another test process may be removing it at this moment: the more the better.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    Ok(())
}

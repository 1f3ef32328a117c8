//! A file with its name, mode and time.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::layer::Timestamp;
use ashlar_model::remote::http::{HTTP_FILE_MODE, NO_TIME};
use ashlar_store::home::sources::{DirectoryRecord, SourceKey};
use ashlar_store::home::{Home, StoreError};

use super::{FetchedDirectory, FetchedFile, HttpError};

/// Makes the directory. Nobody else does: the caller holds its lock.
pub(super) fn make(
    home: &Home,
    key: &SourceKey,
    file: &FetchedFile,
    name: &str,
    what: String,
) -> Result<FetchedDirectory, HttpError> {
    let scratch = home.scratch()?;
    let made = scratch.path().join("tree");
    let path = made.join(name);
    fs::create_dir(&made)
        .and_then(|()| place(&file.path, &path))
        .and_then(|()| dress(&path, file.modified.unwrap_or(NO_TIME)))
        .map_err(|e| StoreError::io("make", &path, e))?;
    let record = DirectoryRecord {
        what,
        time: file.modified,
    };
    let placed = home.put_source_directory(key, &made, &record);
    // What cannot be removed now is swept later.
    drop(fs::remove_dir_all(scratch.path()));
    Ok(FetchedDirectory {
        path: placed?,
        modified: file.modified,
    })
}

/// The same bytes under another name: no copy, where the filesystem knows links.
fn place(blob: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(drop))
}

fn dress(path: &Path, modified: Timestamp) -> io::Result<()> {
    let seconds = u64::try_from(modified.seconds).unwrap_or(0);
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path)?.set_times(FileTimes::new().set_modified(time))?;
    fs::set_permissions(path, Permissions::from_mode(HTTP_FILE_MODE))
}

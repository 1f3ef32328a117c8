//! Work under way: directories that vanish with the process that made them, or at the latest when
//! the next process sweeps.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::lock::FileLock;
use super::{Home, StoreError};

/// A directory of one's own below `tmp/`. Not removed on drop: files in it may belong to other
/// ids, which only the sandbox can remove. Call [`Home::stale_scratch`] to find what is left.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: FileLock,
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Home {
    /// Makes a scratch directory, mode 0700.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        let name = super::layers::random_hex()?;
        let path = self.root().join("tmp").join(&name);
        let lock = FileLock::acquire(&path.with_extension("lock"))?;
        fs::create_dir(&path).map_err(|e| StoreError::io("create", &path, e))?;
        Ok(Scratch { path, _lock: lock })
    }

    /// What dead processes have left in `tmp/`: directories whose lock nobody holds, and files.
    /// Each stays locked until the returned value is dropped, so that no two processes sweep it.
    pub fn stale_scratch(&self) -> Result<Vec<StaleScratch>, StoreError> {
        let tmp = self.root().join("tmp");
        let mut stale = Vec::new();
        for entry in fs::read_dir(&tmp).map_err(|e| StoreError::io("list", &tmp, e))? {
            let entry = entry.map_err(|e| StoreError::io("list", &tmp, e))?;
            let path = entry.path();
            let Ok(file_type) = entry.file_type() else {
                continue;
            };
            let lock = if file_type.is_dir() {
                FileLock::try_acquire(&path.with_extension("lock"))?.map(Hold::Directory)
            } else {
                abandoned(&path).map(Hold::File)
            };
            if let Some(hold) = lock {
                stale.push(StaleScratch { path, _hold: hold });
            }
        }
        Ok(stale)
    }
}

impl Home {
    /// Removes the lock files of processes that were killed: those that nobody holds.
    pub fn sweep_locks(&self) -> Result<(), StoreError> {
        let locks = self.root().join("locks");
        for path in super::layers::list_names(&locks, |name| Some(locks.join(name)))? {
            // The file goes with the lock.
            drop(FileLock::try_acquire(&path)?);
        }
        Ok(())
    }
}

/// Makes a file in `tmp/` that is locked, and so is no dead process's, as long as it is open.
pub(super) fn create_file(root: &Path, kind: &str) -> Result<(PathBuf, File), StoreError> {
    loop {
        let name = format!("{kind}-{}", super::record::unique_name()?);
        let path = root.join("tmp").join(name);
        let error = |e| StoreError::io("create", &path, e);
        let file = File::create_new(&path).map_err(error)?;
        // Between the two somebody may sweep: then there is no file behind the name, or soon none.
        if try_lock(&file).map_err(error)? && file.metadata().map_err(error)?.nlink() > 0 {
            return Ok((path, file));
        }
    }
}

/// The lock of a file that [`create_file`] made and nobody writes any more. Other files are left
/// alone.
fn abandoned(path: &Path) -> Option<File> {
    let name = path.file_name()?.to_str()?;
    let file = name.starts_with("blob-").then(|| File::open(path).ok())??;
    try_lock(&file).unwrap_or(false).then_some(file)
}

pub(super) fn try_lock(file: &File) -> std::io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Something a dead process has left.
#[derive(Debug)]
pub struct StaleScratch {
    path: PathBuf,
    _hold: Hold,
}

/// What keeps others from a stale directory or file. Held to be dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "the locks are in it for their drop")]
enum Hold {
    Directory(FileLock),
    File(File),
}

impl StaleScratch {
    /// The directory or file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let held = home.scratch().unwrap();
        let left = home.scratch().unwrap().path().to_owned();
        let stale = home.stale_scratch().unwrap();
        assert_eq!(
            stale.iter().map(StaleScratch::path).collect::<Vec<_>>(),
            [left.as_path()]
        );
        drop(stale);
        assert!(held.path().is_dir());
    }

    #[test]
    fn blobs_of_living_processes_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let writer = home.blobs().writer().unwrap();
        let tmp = directory.path().join("tmp");
        fs::write(tmp.join("blob-4194399-0"), "").unwrap();
        // Its process may be one that we cannot see: in another container, with the same store.
        let unseen = File::create(tmp.join("blob-4194399-1")).unwrap();
        assert!(try_lock(&unseen).unwrap());
        let stale = home.stale_scratch().unwrap();
        assert_eq!(stale.len(), 1);
        assert!(stale[0].path().ends_with("blob-4194399-0"));
        drop(writer);
    }
}

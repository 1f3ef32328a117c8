//! Who uses the store now: a lock that builds share and that a sweep takes alone.
//!
//! A build finds layers through results and tags, and then works with them for minutes. Nothing
//! tells which ones it has found. So whoever works with layers holds [`InUse`] for as long, and
//! [`gc`](super::gc) removes layers, blobs and results only while nobody does. Work that makes new
//! files only under their final names, and is content to find them gone, needs no lock.
//!
//! The lock is a `flock` on a file that stays for ever: the kernel frees it with the process.
//! Locking it costs two system calls.
//!
//! In a store with a [quota](super::quota) things must go while builds run. There whoever works
//! with layers notes which, and shares the lock only for as long as that takes.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::quota::User;
use super::{Home, StoreError};

/// How often a sweep asks whether the last user has gone.
const POLL: Duration = Duration::from_millis(20);

/// While this is held nothing goes away that the store has or, if it has a quota, that this
/// process found in it or put into it.
#[derive(Debug)]
pub struct InUse {
    _hold: Hold,
}

/// What keeps things from going. Held to be dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "they are in it for their drop")]
enum Hold {
    Lock(Shared),
    User(Arc<User>),
}

/// The lock, shared.
#[derive(Debug)]
pub(super) struct Shared {
    _file: File,
}

/// While this is held nobody else uses the store.
#[derive(Debug)]
pub(super) struct Alone {
    _file: File,
}

impl Home {
    /// Keeps what the store has from being removed. Waits for a sweep that is under way, which
    /// takes milliseconds. Blocks the thread.
    pub fn in_use(&self) -> Result<InUse, StoreError> {
        if let Some(user) = self.enter_user()? {
            return Ok(InUse {
                _hold: Hold::User(user),
            });
        }
        let shared = share(self.root())?;
        // A quota may have been set before the lock was taken.
        let hold = match self.enter_user()? {
            Some(user) => Hold::User(user),
            None => Hold::Lock(shared),
        };
        Ok(InUse { _hold: hold })
    }

    /// Waits until nobody uses the store, for `patience` at most; `None` if somebody still does.
    pub(super) fn alone(&self, patience: Duration) -> Result<Option<Alone>, StoreError> {
        let begin = Instant::now();
        loop {
            if let Some(file) = lock(self.root(), FlockOperation::NonBlockingLockExclusive)? {
                return Ok(Some(Alone { _file: file }));
            }
            if begin.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Shares the lock. Blocks the thread.
pub(super) fn share(root: &Path) -> Result<Shared, StoreError> {
    match lock(root, FlockOperation::LockShared)? {
        Some(file) => Ok(Shared { _file: file }),
        // A blocking lock that would block: the filesystem has no such locks.
        None => Err(error(root, io::ErrorKind::WouldBlock.into())),
    }
}

fn lock(root: &Path, operation: FlockOperation) -> Result<Option<File>, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path(root))
        .map_err(|e| error(root, e))?;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(error(root, errno.into())),
        }
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("in-use")
}

fn error(root: &Path, source: io::Error) -> StoreError {
    StoreError::io("lock", &path(root), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_share_and_one_is_alone() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let (first, second) = (home.in_use().unwrap(), home.in_use().unwrap());
        assert!(home.alone(Duration::ZERO).unwrap().is_none());
        drop(first);
        assert!(home.alone(Duration::ZERO).unwrap().is_none());
        drop(second);
        let alone = home.alone(Duration::ZERO).unwrap();
        assert!(alone.is_some());
        assert!(home.alone(Duration::ZERO).unwrap().is_none());
    }

    #[test]
    fn patience_outlasts_a_short_use() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let used = home.in_use().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| home.alone(Duration::from_secs(30)).unwrap());
            std::thread::sleep(Duration::from_millis(50));
            drop(used);
            assert!(waiting.join().unwrap().is_some());
        });
    }

    #[test]
    fn a_use_waits_for_a_sweep() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let alone = home.alone(Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| home.in_use().unwrap());
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            drop(alone);
            waiting.join().unwrap();
        });
    }
}

//! Threads that hash and write the small files of a layer, while the tar is read on.

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::LayerPath;

use super::UnpackError;
use super::disk::{Attributes, write_file};
use super::draft::InodeNumber;

/// Files that may wait. With their size limit this bounds the memory.
const WAITING: usize = 32;
/// More threads than this only wait for each other's directory locks.
const MAX_THREADS: usize = 4;

/// Digests of files by the numbers of their inodes, in no order.
pub(super) type Digests = Vec<(InodeNumber, FileDigest)>;

/// A file, whole.
#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) inode: InodeNumber,
    pub(super) bytes: Vec<u8>,
    /// Where it goes, if it is to be written at all.
    pub(super) place: Option<FilePlace>,
}

/// Where a file goes, and how.
#[derive(Debug)]
pub(super) struct FilePlace {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) path: LayerPath,
    pub(super) attributes: Attributes,
}

/// Takes files.
#[derive(Debug)]
pub(super) struct Workers<'a> {
    jobs: SyncSender<FileJob>,
    progress: &'a Progress,
}

#[derive(Debug, Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Files that were given and are not done.
    open: usize,
    digests: Digests,
    error: Option<UnpackError>,
}

impl Workers<'_> {
    /// Runs `work` with threads at its side. Returns the digests of all files that it gave them.
    pub(super) fn with<T>(
        work: impl FnOnce(&Workers<'_>) -> Result<T, UnpackError>,
    ) -> Result<(T, Digests), UnpackError> {
        let progress = Progress::default();
        let (jobs, receiver) = sync_channel(WAITING);
        let receiver = Mutex::new(receiver);
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let done = thread::scope(|scope| {
            for _ in 0..threads.min(MAX_THREADS) {
                scope.spawn(|| run(&receiver, &progress));
            }
            let workers = Workers {
                jobs,
                progress: &progress,
            };
            work(&workers)
        });
        let state = progress.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match (done, state.error) {
            (_, Some(error)) => Err(error),
            (done, None) => Ok((done?, state.digests)),
        }
    }

    /// Gives a file to whoever is free; waits if too many wait already.
    pub(super) fn give(&self, job: FileJob) -> Result<(), UnpackError> {
        {
            let mut state = self.progress.lock();
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            state.open += 1;
        }
        // The receiver lives as long as the scope.
        drop(self.jobs.send(job));
        Ok(())
    }

    /// Waits until all files that were given are done.
    pub(super) fn wait(&self) -> Result<(), UnpackError> {
        let mut state = self.progress.lock();
        while state.open > 0 {
            state = self
                .progress
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.error.take().map_or(Ok(()), Err)
    }

    /// Notes the digest of a file that was not given to a thread.
    pub(super) fn note(&self, inode: InodeNumber, digest: FileDigest) {
        self.progress.lock().digests.push((inode, digest));
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(jobs: &Mutex<Receiver<FileJob>>, progress: &Progress) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(FileJob {
            inode,
            bytes,
            place,
        }) = job
        else {
            return;
        };
        let digest = blake3::hash(&bytes).into();
        let written = place.map_or(Ok(()), |place| write_file(&place, &bytes));
        let mut state = progress.lock();
        state.open -= 1;
        state.digests.push((inode, digest));
        if let Err(error) = written {
            state.error.get_or_insert(error);
        }
        if state.open == 0 {
            progress.changed.notify_all();
        }
    }
}

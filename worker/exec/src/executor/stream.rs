//! What the file worker writes, as it comes: through a fifo in a scratch directory.
//!
//! ```text
//!  file worker ──▶ fifo ──▶ WorkerStream: Read
//!       └── answer ──▶ task ──▶ whether that was all
//! ```
//!
//! The reading end is open before the worker is asked, so the worker never waits for it; the task
//! holds a writing end until the worker has answered, so the reader sees no end before.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use ashlar_model::executor::StepError;
use ashlar_store::home::Home;
use ashlar_store::home::scratch::Scratch;
use ashlar_store::task::{Task, spawn};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::error::{environment, of_store};

/// Bytes that the file worker writes. Reading blocks, so it belongs beside the runtime. At the
/// end there is an error if the worker failed. If it is dropped, the worker stops.
pub(super) struct WorkerStream {
    fifo: File,
    outcome: Receiver<Result<(), StepError>>,
    ended: bool,
    _task: Task<()>,
    scratch: Scratch,
}

impl WorkerStream {
    /// Lets `write` ask the worker to write to a path. Must be called on a runtime.
    pub(super) fn start<Work>(
        home: &Home,
        write: impl FnOnce(PathBuf) -> Work,
    ) -> Result<Self, StepError>
    where
        Work: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        let scratch = home.scratch().map_err(of_store)?;
        let path = scratch.path().join("stream");
        let opened = open_ends(&path);
        let (fifo, end) =
            opened.map_err(|e| environment(&format!("cannot make {}", path.display()), None, e))?;
        let work = write(path);
        let (tell, outcome) = sync_channel(1);
        let task = spawn(async move {
            // Nobody listens if the reader has gone.
            drop(tell.send(work.await));
            drop(end);
        });
        Ok(Self {
            fifo,
            outcome,
            ended: false,
            _task: task,
            scratch,
        })
    }
}

/// Makes a fifo: its reading end, and a writing end. Who has one of them open keeps the worker from
/// waiting for the other.
pub(super) fn open_ends(path: &Path) -> io::Result<(File, File)> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    // Without waiting for a writer.
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let writer = OpenOptions::new().write(true).open(path)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::empty())?;
    Ok((reader, writer))
}

impl Read for WorkerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fifo.read(buffer)?;
        if count == 0 && !buffer.is_empty() && !self.ended {
            self.ended = true;
            // If nobody tells, the task was called off.
            let outcome = self.outcome.recv().unwrap_or(Err(StepError::Cancelled));
            outcome.map_err(io::Error::other)?;
        }
        Ok(count)
    }
}

impl Drop for WorkerStream {
    fn drop(&mut self) {
        // What stays is swept later.
        let _ignored = fs::remove_dir_all(self.scratch.path());
    }
}

impl fmt::Debug for WorkerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerStream")
            .field("scratch", &self.scratch)
            .finish_non_exhaustive()
    }
}

//! Small files, read in parallel before their turn comes.
//!
//! Opening a file costs far more than reading its few bytes, so a tar of many small files is
//! bound by `open`. The files are cut into batches; each of a few threads takes every n-th batch
//! and offers it through a channel of its own. Whoever makes the tar takes from the channels in
//! turn. Each thread is at most two batches ahead, which bounds the memory.

use std::io::{self, Read as _};
use std::num::NonZero;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ashlar_model::layer::{Entry, EntryKind, LayerIndex};

use super::TarWriteError;
use crate::layer::contents::FileContents;

/// Files of at least this many bytes are not read ahead: reading them costs more than opening.
pub(super) const LARGE: u64 = 256 * 1024;

/// A batch ends when it has this many bytes...
const BATCH_BYTES: u64 = 1024 * 1024;
/// ...or this many files.
const BATCH_FILES: usize = 256;
/// Fewer files than this are not worth a thread.
const WORTH_THREADS: usize = 64;
/// More threads than this only wait for each other's directory locks.
const MAX_THREADS: usize = 4;

/// Positions in the index of the files of one batch.
type BatchPlan = Vec<usize>;

/// The bytes of a batch's files.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each file ends in `bytes`, in order; or why the batch ends before it.
    ends: Vec<Result<usize, TarWriteError>>,
}

/// Gives the bytes of small files in the order of the index.
pub(super) struct ReadAhead<'a> {
    contents: &'a dyn FileContents,
    verify: bool,
    /// Empty if files are read when they are asked for.
    readers: Vec<Receiver<Batch>>,
    /// The reader whose batch comes next.
    turn: usize,
    ends: std::vec::IntoIter<Result<usize, TarWriteError>>,
    bytes: Vec<u8>,
    start: usize,
}

/// Runs `work` with the small files of `index` being read ahead.
pub(super) fn with<T>(
    index: &LayerIndex,
    contents: &dyn FileContents,
    verify: bool,
    work: impl FnOnce(ReadAhead<'_>) -> Result<T, TarWriteError>,
) -> Result<T, TarWriteError> {
    let ahead = |readers| ReadAhead {
        contents,
        verify,
        readers,
        turn: 0,
        ends: Vec::new().into_iter(),
        bytes: Vec::new(),
        start: 0,
    };
    let count = index
        .entries
        .iter()
        .filter(|e| small_size(e).is_some())
        .count();
    if count < WORTH_THREADS {
        return work(ahead(Vec::new()));
    }
    let plan = plan(&index.entries);
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .clamp(1, MAX_THREADS)
        .min(plan.len());
    thread::scope(|scope| {
        let mut readers = Vec::with_capacity(threads);
        for first in 0..threads {
            let (sender, receiver) = sync_channel(1);
            let own = plan.iter().skip(first).step_by(threads);
            scope.spawn(move || read_batches(index, contents, verify, own, &sender));
            readers.push(receiver);
        }
        work(ahead(readers))
    })
}

fn small_size(entry: &Entry) -> Option<u64> {
    match entry.kind {
        EntryKind::File { size, .. } if size > 0 && size < LARGE => Some(size),
        _ => None,
    }
}

fn plan(entries: &[Entry]) -> Vec<BatchPlan> {
    let mut batches = Vec::new();
    let mut batch = BatchPlan::new();
    let mut bytes = 0;
    for (position, entry) in entries.iter().enumerate() {
        let Some(size) = small_size(entry) else {
            continue;
        };
        batch.push(position);
        bytes += size;
        if bytes >= BATCH_BYTES || batch.len() >= BATCH_FILES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

fn read_batches<'p>(
    index: &LayerIndex,
    contents: &dyn FileContents,
    verify: bool,
    plans: impl Iterator<Item = &'p BatchPlan>,
    sender: &SyncSender<Batch>,
) {
    for plan in plans {
        let mut batch = Batch::default();
        for position in plan {
            let entry = &index.entries[*position];
            let end = read_whole(contents, *position, entry, verify, &mut batch.bytes)
                .map(|()| batch.bytes.len());
            let failed = end.is_err();
            batch.ends.push(end);
            if failed {
                break;
            }
        }
        // No one listens any more once the tar has failed.
        if sender.send(batch).is_err() {
            return;
        }
    }
}

impl ReadAhead<'_> {
    /// The bytes of the next small file, which must be the one at `position`.
    pub(super) fn next(&mut self, position: usize, entry: &Entry) -> Result<&[u8], TarWriteError> {
        if self.readers.is_empty() {
            self.bytes.clear();
            read_whole(self.contents, position, entry, self.verify, &mut self.bytes)?;
            return Ok(&self.bytes);
        }
        let end = loop {
            if let Some(end) = self.ends.next() {
                break end?;
            }
            let reader = &self.readers[self.turn % self.readers.len()];
            self.turn += 1;
            let Ok(batch) = reader.recv() else {
                // The thread has panicked, and the scope passes that on.
                return Err(read_error(entry, io::ErrorKind::BrokenPipe.into()));
            };
            self.bytes = batch.bytes;
            self.ends = batch.ends.into_iter();
            self.start = 0;
        };
        let range: Range<usize> = self.start..end;
        self.start = end;
        Ok(&self.bytes[range])
    }
}

/// Appends a file's bytes to `out`.
fn read_whole(
    contents: &dyn FileContents,
    position: usize,
    entry: &Entry,
    verify: bool,
    out: &mut Vec<u8>,
) -> Result<(), TarWriteError> {
    let EntryKind::File { size, digest } = entry.kind else {
        return Ok(());
    };
    let start = out.len();
    let bytes = contents
        .open(position, entry)
        .map_err(|e| read_error(entry, e))?;
    out.reserve(usize::try_from(size).unwrap_or(0) + 1);
    // One byte more than there should be shows a file that grew.
    let count = bytes
        .take(size + 1)
        .read_to_end(out)
        .map_err(|e| read_error(entry, e))?;
    let changed = || TarWriteError::Changed {
        path: entry.path.clone(),
    };
    if count as u64 != size {
        return Err(changed());
    }
    match digest {
        Some(digest) if verify && digest != blake3::hash(&out[start..]).into() => Err(changed()),
        _ => Ok(()),
    }
}

fn read_error(entry: &Entry, source: io::Error) -> TarWriteError {
    TarWriteError::Read {
        path: entry.path.clone(),
        source,
    }
}

//! What the files of a context contained when they were last read: a hint that saves reading
//! them again.
//!
//! A digest is used only if path, device, inode, mode, size, modification and change time are
//! all as they were. It is remembered only if both times lay [`RACY_SECONDS`] before the reading:
//! a file that was written twice within one tick of the filesystem's clock, once before and once
//! after it was read, would otherwise look unchanged (git's "racily clean" entries). Files with
//! extended attributes are not remembered, so that a hit says that there are none.
//!
//! The whole is one flat file ([`file`](mod@file)), read at once and searched in place. Any
//! number of processes may use it: each replaces it as a whole, and the last one wins.

mod file;
mod record;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::LayerPath;
use ashlar_store::home::quota::{Meter, on_disk};

use self::file::Table;
use self::record::{Record, path_key};
use super::digest::Content;
use super::stat::FileStat;

/// How old a file must be when it is read to be remembered. The coarsest clock of a filesystem
/// in use, FAT's, ticks every two seconds.
const RACY_SECONDS: i64 = 2;

/// Records that this many rewritings have not seen in use are dropped.
const FORGOTTEN_AFTER: u8 = 64;

/// Digests of files that have not changed.
#[derive(Debug)]
pub(super) struct StatCache {
    path: Option<PathBuf>,
    known: Table,
    /// One bit for each known record: whether it was used.
    used: Vec<AtomicU64>,
    /// What was learnt. No lock is taken while this one is held.
    learnt: Mutex<Vec<Record>>,
}

impl StatCache {
    /// Reads the file at `path`. One that is absent, damaged or of another version is as good
    /// as an empty one.
    pub(super) fn load(path: Option<PathBuf>) -> Self {
        let known = path.as_deref().and_then(read_table).unwrap_or_default();
        let words = known.len().div_ceil(64);
        Self {
            path,
            known,
            used: (0..words).map(|_| AtomicU64::new(0)).collect(),
            learnt: Mutex::default(),
        }
    }

    /// The digest of a file that is as it was.
    pub(super) fn find(&self, path: &LayerPath, stat: &FileStat) -> Option<FileDigest> {
        let (index, record) = self.known.find(path_key(path.as_bytes()))?;
        if !record.describes(stat) {
            return None;
        }
        self.used[index / 64].fetch_or(1 << (index % 64), Ordering::Relaxed);
        Some(record.digest)
    }

    /// Remembers what a file contained, if that is safe.
    pub(super) fn learn(&self, path: &LayerPath, content: &Content) {
        let changed = content.stat.mtime.max(content.stat.ctime);
        let settled = changed.seconds.saturating_add(RACY_SECONDS) < content.read_at.seconds;
        if self.path.is_none() || !settled || !content.xattrs.is_empty() {
            return;
        }
        let key = path_key(path.as_bytes());
        let record = Record::new(key, &content.stat, content.digest);
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.push(record);
    }

    /// Writes the file anew if anything was learnt since it was read; tells whether it did.
    pub(super) fn save(&self, meter: &Meter) -> io::Result<bool> {
        let mut learnt = {
            let learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
            learnt.clone()
        };
        let Some(path) = self.path.as_deref().filter(|_| !learnt.is_empty()) else {
            return Ok(false);
        };
        learnt.sort_by_key(|record| record.key);
        learnt.dedup_by_key(|record| record.key);
        let bytes = file::encode(&self.merge(learnt));
        let _permit = meter.admit_io(on_disk(bytes.len() as u64))?;
        write_table(path, &bytes)?;
        Ok(true)
    }

    /// The known records and the learnt ones, which replace known ones of the same path.
    fn merge(&self, learnt: Vec<Record>) -> Vec<Record> {
        let mut merged = Vec::with_capacity(self.known.len() + learnt.len());
        let mut learnt = learnt.into_iter().peekable();
        for index in 0..self.known.len() {
            let mut record = self.known.record(index);
            while let Some(new) = learnt.next_if(|new| new.key < record.key) {
                merged.push(new);
            }
            if learnt.peek().is_some_and(|new| new.key == record.key) {
                continue;
            }
            let used = self.used[index / 64].load(Ordering::Relaxed) >> (index % 64) & 1 == 1;
            record.unused = if used {
                0
            } else {
                record.unused.saturating_add(1)
            };
            if record.unused <= FORGOTTEN_AFTER {
                merged.push(record);
            }
        }
        merged.extend(learnt);
        merged
    }
}

fn read_table(path: &Path) -> Option<Table> {
    Table::decode(fs::read(path).ok()?)
}

/// Puts a new file in place of the old one. Not synced to the disk: what a crash leaves is
/// either whole or seen to be damaged.
fn write_table(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = directory.join(name);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It is of no use, and the first error says more than a second one would.
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests;

//! Reading: where it is, its bytes, and whether they are still what they were.

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};

use super::index::{Entry, Place};
use super::key::Key;
use super::large::{LargeFile, LargeRead};
use super::layout::fault;
use super::packs::PackRead;
use super::record;
use super::writer::Work;
use super::{Shared, Writer, blocking};
use crate::blob_store::{ByteRange, ByteStream, bounds, once, slice};
use crate::clock;
use crate::fault::Fault;

/// How often a reader looks again for what has moved since it looked it up.
const ATTEMPTS: usize = 4;

/// Bytes that are kept ready while a large blob is given out.
const AHEAD: usize = 3;

/// What is under a key.
#[derive(Debug)]
pub(super) enum Found {
    Absent,
    Bytes(Bytes),
    File(LargeFile),
}

/// What became of the bytes of an entry.
#[derive(Debug)]
pub(super) enum Fetched {
    Bytes(Bytes),
    File(LargeFile),
    /// They are not where the index says.
    Gone,
    Damaged,
}

impl Shared {
    /// Whether a use at this moment has to be noted.
    fn is_stale(&self, entry: &Entry, now: u32) -> bool {
        Duration::from_secs(u64::from(now.saturating_sub(entry.used))) >= self.settings.coarseness
    }

    /// Notes that entries are used now.
    pub(super) fn used<'a>(&self, entries: impl Iterator<Item = (&'a Key, Entry)>) {
        let now = clock::seconds(&self.clock);
        let stale = entries.filter(|(_, entry)| self.is_stale(entry, now));
        self.touches.add(stale.map(|(key, _)| key.clone()));
    }

    /// Reads and checks the bytes of an entry. Those of a large file are checked as they are read.
    pub(super) fn fetch(&self, key: &Key, entry: &Entry) -> Result<Fetched, Fault> {
        match entry.place {
            Place::Pack { pack, offset } => {
                let length = record::length(key.as_bytes().len(), entry.length);
                let read = self
                    .packs
                    .read(pack, offset, length)
                    .map_err(fault("read", &self.layout.pack(pack)))?;
                Ok(match read {
                    PackRead::Bytes(bytes) => match record::value_of(&bytes, key) {
                        Some(value) => Fetched::Bytes(value),
                        None => Fetched::Damaged,
                    },
                    PackRead::Short => Fetched::Damaged,
                    PackRead::Gone => Fetched::Gone,
                })
            }
            Place::File => {
                let Some(blob) = key.as_blob() else {
                    return Ok(Fetched::Damaged);
                };
                let path = self.layout.file(&blob);
                let file = LargeFile::open(&path, blob.size).map_err(fault("open", &path))?;
                Ok(file.map_or(Fetched::Gone, Fetched::File))
            }
        }
    }

    /// Looks a key up and reads what is there. What is damaged is absent from now on.
    pub(super) fn find(&self, writer: &Writer, key: &Key) -> Result<Found, Fault> {
        let (found, entry) = self.look_up(writer, key)?;
        self.used(entry.iter().map(|entry| (key, *entry)));
        Ok(found)
    }

    /// As [`Self::find`], but does not count as use.
    pub(super) fn find_unused(&self, writer: &Writer, key: &Key) -> Result<Found, Fault> {
        Ok(self.look_up(writer, key)?.0)
    }

    fn look_up(&self, writer: &Writer, key: &Key) -> Result<(Found, Option<Entry>), Fault> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.index.read(|index| index.entry(key))? else {
                return Ok((Found::Absent, None));
            };
            match self.fetch(key, &entry)? {
                Fetched::Bytes(bytes) => {
                    return Ok((Found::Bytes(bytes), Some(entry)));
                }
                Fetched::File(file) => {
                    return Ok((Found::File(file), Some(entry)));
                }
                Fetched::Damaged => {
                    self.lost(writer, key, entry);
                    return Ok((Found::Absent, None));
                }
                Fetched::Gone => last = Some(entry),
            }
        }
        if let Some(entry) = last {
            self.lost(writer, key, entry);
        }
        Ok((Found::Absent, None))
    }

    /// An entry is found to be damaged.
    pub(super) fn lost(&self, writer: &Writer, key: &Key, entry: Entry) {
        self.count_damaged();
        writer.hint(Work::Lost {
            key: key.clone(),
            entry,
        });
    }

    /// As [`Self::lost`], for whoever reads a large file and does not know its entry.
    fn lost_file(&self, writer: &Writer, blob: &CasDigest) {
        let key = Key::blob(blob);
        if let Ok(Some(entry)) = self.index.read(|index| index.entry(&key))
            && entry.place == Place::File
        {
            self.lost(writer, &key, entry);
        }
    }
}

/// Reads a blob or a part of it.
pub(super) async fn read(
    shared: &Arc<Shared>,
    writer: &Writer,
    blob: CasDigest,
    range: ByteRange,
) -> Result<ByteStream, Fault> {
    let found = {
        let (shared, writer) = (Arc::clone(shared), writer.clone());
        blocking(move || shared.find(&writer, &Key::blob(&blob))).await?
    };
    match found {
        Found::Absent => Err(Fault::not_found(blob)),
        Found::Bytes(bytes) => Ok(once(slice(&blob, &bytes, range)?)),
        Found::File(file) => stream_file(Arc::clone(shared), writer.clone(), blob, file, range),
    }
}

/// The bytes of a large file, block by block. Some are read ahead.
fn stream_file(
    shared: Arc<Shared>,
    writer: Writer,
    blob: CasDigest,
    file: LargeFile,
    range: ByteRange,
) -> Result<ByteStream, Fault> {
    let (start, end) = bounds(&blob, range)?;
    let (first, _) = LargeFile::block_of(start);
    let (last, _) = LargeFile::block_of(end.saturating_sub(1));
    let numbers = if start == end {
        first..first
    } else {
        first..last + 1
    };
    let file = Arc::new(file);
    let blocks = stream::iter(numbers).map(move |number| {
        let (shared, writer) = (Arc::clone(&shared), writer.clone());
        let file = Arc::clone(&file);
        blocking(move || {
            let path = || shared.layout.file(&blob);
            let block = match file.block(number) {
                Ok(LargeRead::Bytes(block)) => block,
                Ok(LargeRead::Damaged) => {
                    shared.lost_file(&writer, &blob);
                    return Err(Fault::not_found(format_args!("{blob}, found damaged,")));
                }
                Err(error) => return Err(fault("read", &path())(error)),
            };
            let begins = number * super::large::BLOCK as u64;
            let within = |offset: u64| {
                let place = offset.saturating_sub(begins).min(block.len() as u64);
                usize::try_from(place).unwrap_or(block.len())
            };
            Ok(block.slice(within(start)..within(end)))
        })
    });
    let blocks = blocks.buffered(AHEAD);
    // An error ends the stream.
    Ok(Box::pin(end_at_error(blocks)))
}

/// The same stream, without what comes after an error.
fn end_at_error(
    stream: impl Stream<Item = Result<Bytes, Fault>> + Send,
) -> impl Stream<Item = Result<Bytes, Fault>> + Send {
    let mut has_failed = false;
    stream.take_while(move |item| {
        let goes_on = !has_failed;
        has_failed |= item.is_err();
        std::future::ready(goes_on)
    })
}

/// All of a large blob at once. Blocks the thread.
pub(super) fn whole(
    shared: &Shared,
    writer: &Writer,
    blob: &CasDigest,
    file: &LargeFile,
) -> Result<Bytes, Fault> {
    let mut whole = Vec::new();
    for number in 0..file.blocks() {
        match file.block(number) {
            Ok(LargeRead::Bytes(block)) => whole.extend_from_slice(&block),
            Ok(LargeRead::Damaged) => {
                shared.lost_file(writer, blob);
                return Err(Fault::not_found(blob));
            }
            Err(error) => return Err(fault("read", &shared.layout.file(blob))(error)),
        }
    }
    Ok(whole.into())
}

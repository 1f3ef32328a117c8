//! Writing: room first, then bytes, then the writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::key::Key;
use super::large::{self, Incoming};
use super::read;
use super::record;
use super::room::Reservation;
use super::writer::{Answer, Condition, Task, Work, closing};
use super::{DiskStore, blocking};
use crate::action_cache::{ActionCache, PutMode};
use crate::blob_store::{BlobStore, ByteRange, ByteStream, collect, is_empty_blob, nothing, slice};
use crate::checked::check;
use crate::fault::{Fault, FaultKind};

/// Pieces of a large blob are hashed and written in portions of about this size.
const PORTION: usize = 1 << 20;

/// A result, or the value of a name, is no longer than this.
const LONGEST_VALUE: usize = 16 << 20;

/// Keys that one thread looks for at least, and threads that look at once for one question.
const LOOKED_FOR: usize = 1000;
const MOST_LOOKING: usize = 4;

/// The answer to a task.
type Answered = oneshot::Receiver<Result<Answer, Fault>>;

impl DiskStore {
    async fn reserve(&self, bytes: u64) -> Result<Reservation, Fault> {
        let shared = &self.shared;
        let ask = || shared.bell.ring();
        shared.room.reserve(bytes, shared.layout.root(), ask).await
    }

    /// Waits until some bytes may wait in the queue.
    async fn queue(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Fault> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        Arc::clone(&self.memory)
            .acquire_many_owned(kibibytes.min(super::QUEUE))
            .await
            .map_err(|_| closing())
    }

    /// Hands a value to the writer.
    async fn send(&self, key: Key, value: Bytes, condition: Condition) -> Result<Answered, Fault> {
        let room = self
            .reserve(record::length(key.as_bytes().len(), value.len() as u64))
            .await?;
        let memory = self.queue(value.len()).await?;
        let (answer, answered) = oneshot::channel();
        self.writer.send(Task {
            work: Work::Put {
                key,
                value,
                condition,
            },
            room: Some(room),
            memory: Some(memory),
            answer,
        })?;
        Ok(answered)
    }

    /// Stores a value.
    pub(super) async fn put_value(
        &self,
        key: Key,
        value: Bytes,
        condition: Condition,
    ) -> Result<Answer, Fault> {
        if value.len() > LONGEST_VALUE {
            return Err(Fault::invalid(format!(
                "{} bytes are too many for a result; {LONGEST_VALUE} are not",
                value.len()
            )));
        }
        wait(self.send(key, value, condition).await?).await
    }

    /// Does something else that the writer does, without blocking the thread.
    pub(super) async fn work(&self, work: Work) -> Result<Answer, Fault> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(Task {
            work,
            room: None,
            memory: None,
            answer,
        })?;
        wait(answered).await
    }

    /// The value under a key.
    pub(super) async fn value(&self, key: Key) -> Result<Option<Bytes>, Fault> {
        let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
        blocking(move || {
            Ok(match shared.find(&writer, &key)? {
                read::Found::Bytes(bytes) => Some(bytes),
                read::Found::Absent | read::Found::File(_) => None,
            })
        })
        .await
    }

    /// Those of some keys that are there; what is there counts as used.
    ///
    /// Thousands are looked for by several threads: each is some steps down the index.
    async fn look(&self, mut keys: Vec<Key>) -> Result<Vec<bool>, Fault> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let each = keys
            .len()
            .div_ceil(threads.min(MOST_LOOKING))
            .max(LOOKED_FOR);
        let mut parts = Vec::new();
        while keys.len() > each {
            let rest = keys.split_off(keys.len() - each);
            parts.push(self.look_for(rest));
        }
        parts.push(self.look_for(keys));
        // The last of them are the first.
        let mut there = Vec::new();
        for part in try_join_all(parts).await?.into_iter().rev() {
            there.extend(part);
        }
        Ok(there)
    }

    async fn look_for(&self, keys: Vec<Key>) -> Result<Vec<bool>, Fault> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let entries = shared.index.read(|index| index.entries(&keys))?;
            let there = keys.iter().zip(&entries);
            shared.used(there.filter_map(|(key, entry)| Some((key, (*entry)?))));
            Ok(entries.iter().map(Option::is_some).collect())
        })
        .await
    }

    async fn write_large(&self, blob: &CasDigest, mut bytes: ByteStream) -> Result<(), Fault> {
        let room = self.reserve(large::disk_size(blob.size)).await?;
        let number = self.incoming.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.layout.temporary().join(number.to_string());
        let digest = *blob;
        // Dropped with this future, the guard removes the file.
        let (finished, incoming) = blocking(move || Incoming::create(path, &digest)).await?;
        let mut portion = Vec::new();
        let mut length = 0;
        // While one portion is hashed and written, the next one comes.
        let mut writing = append(incoming, Vec::new());
        while let Some(piece) = bytes.next().await {
            let piece = piece?;
            length += piece.len();
            portion.push(piece);
            if length >= PORTION {
                writing = append(writing.await?, std::mem::take(&mut portion));
                length = 0;
            }
        }
        let incoming = append(writing.await?, portion).await?;
        blocking(move || incoming.finish()).await?;
        let (answer, answered) = oneshot::channel();
        self.writer.send(Task {
            work: Work::File {
                blob: *blob,
                finished,
            },
            room: Some(room),
            memory: None,
            answer,
        })?;
        wait(answered).await?;
        Ok(())
    }

    /// Checks a small blob and hands it to the writer.
    async fn send_small(&self, blob: &CasDigest, bytes: Bytes) -> Result<Answered, Fault> {
        check(blob, &bytes)?;
        self.send(Key::blob(blob), bytes, Condition::IfAbsent).await
    }

    fn is_small(&self, blob: &CasDigest) -> bool {
        blob.size <= self.shared.settings.packed
    }

    async fn write_one(&self, blob: &CasDigest, bytes: ByteStream) -> Result<(), Fault> {
        if is_empty_blob(blob) || blob.size == 0 {
            return check(blob, &collect(bytes, 0).await?);
        }
        if self.look(vec![Key::blob(blob)]).await? == [true] {
            return Ok(());
        }
        if self.is_small(blob) {
            let bytes = collect(bytes, blob.size).await?;
            wait(self.send_small(blob, bytes).await?).await?;
            return Ok(());
        }
        self.write_large(blob, bytes).await
    }

    async fn write_all(
        &self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        let keys = blobs.iter().map(|(blob, _)| Key::blob(blob)).collect();
        let there = self.look(keys).await?;
        // All are on their way to the writer before the first is waited for.
        let mut sent = Vec::with_capacity(blobs.len());
        let mut is_full = false;
        for ((blob, bytes), is_there) in blobs.into_iter().zip(there) {
            let answer = if is_there || is_empty_blob(&blob) {
                Ok(None)
            } else if is_full {
                // Room was waited for once already.
                Err(Fault::new(FaultKind::Exhausted, "the store is full"))
            } else if self.is_small(&blob) {
                self.send_small(&blob, bytes).await.map(Some)
            } else {
                let written = self
                    .write_large(&blob, crate::blob_store::once(bytes))
                    .await;
                written.map(|()| None)
            };
            is_full |= matches!(&answer, Err(fault) if fault.kind == FaultKind::Exhausted);
            sent.push(answer);
        }
        let mut answers = Vec::with_capacity(sent.len());
        for answer in sent {
            answers.push(match answer {
                Ok(Some(answered)) => wait(answered).await.map(|_| ()),
                Ok(None) => Ok(()),
                Err(fault) => Err(fault),
            });
        }
        Ok(answers)
    }
}

async fn wait(answered: Answered) -> Result<Answer, Fault> {
    answered.await.map_err(|_| closing())?
}

/// Hashes and writes some pieces, off the runtime.
fn append(
    mut incoming: Incoming,
    pieces: Vec<Bytes>,
) -> BoxFuture<'static, Result<Incoming, Fault>> {
    Box::pin(blocking(move || {
        for piece in pieces {
            incoming.append(&piece)?;
        }
        Ok(incoming)
    }))
}

impl BlobStore for DiskStore {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async move {
            let there = self.look(blobs.iter().map(Key::blob).collect()).await?;
            let missing = blobs
                .iter()
                .zip(there)
                .filter(|(blob, is_there)| !is_there && !is_empty_blob(blob));
            Ok(missing.map(|(blob, _)| *blob).collect())
        })
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            if is_empty_blob(blob) {
                slice(blob, &Bytes::new(), range)?;
                return Ok(nothing());
            }
            read::read(&self.shared, &self.writer, *blob, range).await
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.write_one(blob, bytes))
    }

    fn read_many<'a>(&'a self, blobs: &'a [CasDigest]) -> BoxFuture<'a, Vec<Result<Bytes, Fault>>> {
        let blobs = blobs.to_vec();
        Box::pin(async move {
            let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
            let count = blobs.len();
            let read = blocking(move || {
                let read = |blob: &CasDigest| {
                    if is_empty_blob(blob) {
                        return Ok(Bytes::new());
                    }
                    match shared.find(&writer, &Key::blob(blob))? {
                        read::Found::Absent => Err(Fault::not_found(blob)),
                        read::Found::Bytes(bytes) => Ok(bytes),
                        read::Found::File(file) => read::whole(&shared, &writer, blob, &file),
                    }
                };
                Ok(blobs.iter().map(read).collect())
            });
            read.await.unwrap_or_else(|fault| repeated(&fault, count))
        })
    }

    fn write_many<'a>(
        &'a self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        Box::pin(async move {
            let count = blobs.len();
            self.write_all(blobs)
                .await
                .unwrap_or_else(|fault| repeated(&fault, count))
        })
    }
}

/// One fault that many ask about.
fn repeated<T>(fault: &Fault, count: usize) -> Vec<Result<T, Fault>> {
    let fault = || Fault::new(fault.kind, crate::fault::in_one_line(fault));
    (0..count).map(|_| Err(fault())).collect()
}

impl ActionCache for DiskStore {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        let keys: Vec<_> = keys.iter().map(Key::result).collect();
        Box::pin(async move {
            let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
            blocking(move || {
                let find = |key: &Key| {
                    Ok(match shared.find(&writer, key)? {
                        read::Found::Bytes(bytes) => Some(bytes),
                        read::Found::Absent | read::Found::File(_) => None,
                    })
                };
                keys.iter().map(find).collect()
            })
            .await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        /// Whoever loses against somebody whose result is gone at once tries again, but not for
        /// ever.
        const ATTEMPTS: usize = 8;
        Box::pin(async move {
            let condition = match mode {
                PutMode::Replace => Condition::Always,
                PutMode::IfAbsent => Condition::IfAbsent,
            };
            for _ in 0..ATTEMPTS {
                let key = Key::result(key);
                match self
                    .put_value(key.clone(), result.clone(), condition)
                    .await?
                {
                    Answer::There(_) => {
                        if let Some(there) = self.value(key).await? {
                            return Ok(there);
                        }
                    }
                    _ => return Ok(result),
                }
            }
            Err(Fault::new(
                FaultKind::Unavailable,
                "the result changes faster than it can be read",
            ))
        })
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let key = Key::result(key);
            Ok(self.work(Work::Remove { key }).await? != Answer::Absent)
        })
    }

    fn swap<'a>(
        &'a self,
        key: &'a ActionKey,
        old: Option<&'a Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move {
            let key = Key::result(key);
            // Looked at first: a value that came since has another sequence number.
            let sequence = self.sequence(key.clone()).await?;
            let there = match sequence {
                Some(_) => self.value(key.clone()).await?,
                None => None,
            };
            if there.as_ref() != old {
                return Ok(false);
            }
            let condition = Condition::IfSequence(sequence.unwrap_or(0));
            let answer = self.put_value(key, new, condition).await?;
            Ok(matches!(answer, Answer::Stored(_)))
        })
    }
}

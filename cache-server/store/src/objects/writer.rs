//! Writing: small blobs into packs, large ones as objects of their own.
//!
//! One task gathers small blobs. While nothing is under way, a blob is sent at once, alone in its
//! pack: nobody waits when the store is idle. What comes while a pack is under way is gathered for
//! the next one, which goes when the one before is there, when it is full (8 MiB), or when its
//! first blob has waited for a quarter of a second; up to [`AT_ONCE`] go at a time. So the busier
//! the store, the fuller the packs. A write is answered once its pack is in the store and the index
//! has it.
//!
//! A large blob is sent in parts as it comes. Whoever drops the write, or brings wrong bytes, leaves
//! nothing: parts that were sent are aborted.
//!
//! All bytes that are held here count against one budget; who finds none left waits.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, stream};
use object_store::{MultipartUpload, PutPayload};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::fault::again;
use super::pack::PackBuilder;
use super::{SMALL, Shared, name};
use crate::blob_store::{ByteStream, collect, once};
use crate::checked::{Check, check};
use crate::fault::{Fault, FaultKind};
use crate::task::{Task, spawn, spawn_on};

/// A pack is full with so many bytes.
const PACK: u64 = 8 << 20;

/// And with so many blobs.
const PACK_BLOBS: usize = 20_000;

/// Packs under way at once.
const AT_ONCE: usize = 8;

/// So long a blob waits at most for others, as long as another pack may go.
const LINGER: Duration = Duration::from_millis(250);

/// A part of a large blob. S3 takes no less than 5 MiB.
const PART: u64 = 8 << 20;

/// S3 takes 10,000 parts; a blob with more has larger ones.
const MOST_PARTS: u64 = 9000;

/// Parts of one blob under way at once.
const PARTS_AT_ONCE: usize = 3;

/// Permits of the budget are for so many bytes each.
const UNIT: u64 = 1024;

/// Writes blobs.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Vec<Waiting>>,
    budget: Arc<Semaphore>,
    /// All of the budget's permits.
    units: u32,
    /// What still tidies up after writes that were dropped.
    aborting: Arc<Mutex<Vec<Task<()>>>>,
    /// Ends with this.
    _gathering: Task<()>,
}

/// A blob that waits for its pack.
#[derive(Debug)]
struct Waiting {
    blob: CasDigest,
    bytes: Bytes,
    since: Instant,
    done: oneshot::Sender<Result<(), Fault>>,
    /// The part of the budget of all that came with it.
    _held: Arc<OwnedSemaphorePermit>,
}

/// A blob, its bytes, and who is told.
type Queued = (CasDigest, Bytes, oneshot::Sender<Result<(), Fault>>);

impl Writer {
    pub(super) fn start(shared: Arc<Shared>, memory: u64) -> Self {
        let units = (memory / UNIT).clamp(4 * PART / UNIT, u64::from(u32::MAX) / 8);
        let units = u32::try_from(units).unwrap_or(u32::MAX / 8);
        let (queue, waiting) = mpsc::channel(64);
        Self {
            _gathering: spawn(gather(shared.clone(), waiting)),
            shared,
            queue,
            budget: Arc::new(Semaphore::new(units as usize)),
            units,
            aborting: Arc::default(),
        }
    }

    async fn hold(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Fault> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let held = self
            .budget
            .clone()
            .acquire_many_owned(units.min(self.units));
        held.await.map_err(|_| closed())
    }

    /// Stores some blobs whose bytes are checked. The answers are in their order.
    pub(super) async fn write_packed(
        &self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> Vec<Result<(), Fault>> {
        let mut answers = Vec::with_capacity(blobs.len());
        let mut group = Vec::new();
        let mut bytes = 0;
        for (blob, piece) in blobs {
            if bytes + blob.size > PACK {
                self.send(std::mem::take(&mut group), bytes).await;
                bytes = 0;
            }
            bytes += blob.size;
            let (done, answer) = oneshot::channel();
            answers.push(answer);
            group.push((blob, piece, done));
        }
        self.send(group, bytes).await;
        let answers = answers
            .into_iter()
            .map(|answer| async { answer.await.unwrap_or_else(|_| Err(closed())) });
        futures::future::join_all(answers).await
    }

    /// Queues blobs, once there is room for all of them: whoever holds a part of the budget waits
    /// for no other.
    async fn send(&self, group: Vec<Queued>, bytes: u64) {
        if group.is_empty() {
            return;
        }
        // If nobody gathers any more, those who wait hear it from their channels.
        let Ok(held) = self.hold(bytes).await else {
            return;
        };
        let (held, since) = (Arc::new(held), Instant::now());
        let waiting = group.into_iter().map(|(blob, bytes, done)| Waiting {
            blob,
            bytes,
            since,
            done,
            _held: held.clone(),
        });
        drop(self.queue.send(waiting.collect()).await);
    }

    /// Stores blobs of any size.
    pub(super) async fn write_many(
        &self,
        blobs: Vec<(CasDigest, Bytes)>,
    ) -> Vec<Result<(), Fault>> {
        let mut answers: Vec<Result<(), Fault>> = blobs
            .iter()
            .map(|(blob, bytes)| check(blob, bytes))
            .collect();
        let digests: Vec<CasDigest> = blobs.iter().map(|(blob, _)| *blob).collect();
        let places = match self.shared.find(&digests).await {
            Ok(places) => places,
            Err(fault) => {
                return answers
                    .into_iter()
                    .map(|own| own.and(Err(again(&fault))))
                    .collect();
            }
        };
        let mut small = Vec::new();
        let mut places_of_small = Vec::new();
        let mut large = Vec::new();
        for (at, ((blob, bytes), place)) in blobs.into_iter().zip(places).enumerate() {
            let is_wrong = answers.get(at).is_none_or(Result::is_err);
            if is_wrong || place.is_some() || blob.size == 0 {
                continue;
            }
            if blob.size > SMALL {
                large.push((at, blob, bytes));
            } else {
                places_of_small.push(at);
                small.push((blob, bytes));
            }
        }
        let large = stream::iter(large)
            .map(
                |(at, blob, bytes)| async move { (at, self.write_alone(&blob, once(bytes)).await) },
            )
            .buffer_unordered(4)
            .collect::<Vec<_>>();
        let (small, large) = tokio::join!(self.write_packed(small), large);
        for (at, answer) in places_of_small.into_iter().zip(small).chain(large) {
            if let Some(own) = answers.get_mut(at) {
                *own = answer;
            }
        }
        answers
    }

    /// Stores a large blob as an object of its own.
    pub(super) async fn write_alone(
        &self,
        blob: &CasDigest,
        bytes: ByteStream,
    ) -> Result<(), Fault> {
        let object = name::new_blob(blob)?;
        if blob.size <= PART {
            let _held = self.hold(blob.size).await?;
            let bytes = collect(bytes, blob.size).await?;
            check(blob, &bytes)?;
            self.shared.bucket.put(&object, vec![bytes]).await?;
        } else {
            self.write_parts(&object, blob, bytes).await?;
        }
        let entries = [(*blob, 0)];
        let index = &self.shared.index;
        index.add(&object, blob.size, &entries).await?;
        self.shared.bucket.counters().packs.alone.one();
        Ok(())
    }

    async fn write_parts(
        &self,
        object: &str,
        blob: &CasDigest,
        mut bytes: ByteStream,
    ) -> Result<(), Fault> {
        let part = PART.max(blob.size.div_ceil(MOST_PARTS));
        // For the part that is being filled; those under way take more, if there is more.
        let _held = self.hold(part).await?;
        let bucket = &self.shared.bucket;
        let mut upload = Upload::begin(bucket, object, &self.aborting).await?;
        let mut check = Check::new(blob);
        let mut filled = Vec::new();
        let mut length = 0_u64;
        let mut ended = false;
        while !ended {
            tokio::select! {
                Some(sent) = upload.under_way.next(), if !upload.under_way.is_empty() => {
                    sent?;
                    continue;
                }
                piece = bytes.next() => match piece {
                    Some(piece) => {
                        let piece = piece?;
                        check.update(&piece)?;
                        length += piece.len() as u64;
                        filled.push(piece);
                    }
                    None => ended = true,
                },
            }
            while length >= part || (ended && length > 0) {
                let whole = take(&mut filled, part.min(length));
                let size = whole.content_length() as u64;
                length -= size;
                let extra = self
                    .budget
                    .clone()
                    .try_acquire_many_owned(u32::try_from(part.div_ceil(UNIT)).unwrap_or(u32::MAX));
                let has_room = extra.is_ok();
                let (bucket, sending) = (bucket.clone(), upload.part(whole)?);
                upload.under_way.push(Box::pin(async move {
                    let sent = bucket.part(sending, size).await;
                    drop(extra);
                    sent
                }));
                let most = if has_room && !ended { PARTS_AT_ONCE } else { 0 };
                while upload.under_way.len() > most {
                    if let Some(sent) = upload.under_way.next().await {
                        sent?;
                    }
                }
            }
        }
        check.finish()?;
        while let Some(sent) = upload.under_way.next().await {
            sent?;
        }
        upload.complete(bucket).await
    }
}

/// Takes the first bytes of some pieces, which have as many.
fn take(pieces: &mut Vec<Bytes>, mut bytes: u64) -> PutPayload {
    let mut taken = Vec::new();
    let mut rest = Vec::new();
    for mut piece in std::mem::take(pieces) {
        let length = piece.len() as u64;
        if length <= bytes {
            bytes -= length;
            taken.push(piece);
        } else {
            let first = piece.split_to(usize::try_from(bytes).unwrap_or(piece.len()));
            bytes = 0;
            if !first.is_empty() {
                taken.push(first);
            }
            rest.push(piece);
        }
    }
    *pieces = rest;
    PutPayload::from_iter(taken)
}

/// An object that is written in parts, which is aborted unless it is completed.
struct Upload {
    parts: Option<Box<dyn MultipartUpload>>,
    /// Parts that are being sent.
    under_way: FuturesUnordered<BoxFuture<'static, Result<(), Fault>>>,
    aborting: Arc<Mutex<Vec<Task<()>>>>,
}

impl Upload {
    /// Begins an object. Whoever drops this while the store has begun it and did not say so yet
    /// leaves nothing either: a task waits for the answer.
    async fn begin(
        bucket: &super::Bucket,
        object: &str,
        aborting: &Arc<Mutex<Vec<Task<()>>>>,
    ) -> Result<Self, Fault> {
        let (begun, answer) = oneshot::channel();
        let (bucket, object) = (bucket.clone(), object.to_owned());
        let list = aborting.clone();
        let task = spawn(async move {
            let upload = bucket.multipart(&object).await.map(|parts| Self {
                parts: Some(parts),
                under_way: FuturesUnordered::new(),
                aborting: list,
            });
            // If nobody waits any more, it is dropped here, and so aborted.
            drop(begun.send(upload));
        });
        keep(aborting, task);
        answer.await.map_err(|_| closed())?
    }

    fn part(&mut self, bytes: PutPayload) -> Result<object_store::UploadPart, Fault> {
        let parts = self.parts.as_mut().ok_or_else(closed)?;
        Ok(parts.put_part(bytes))
    }

    async fn complete(mut self, bucket: &super::Bucket) -> Result<(), Fault> {
        let parts = self.parts.as_mut().ok_or_else(closed)?;
        bucket.complete(parts.as_mut()).await?;
        self.parts = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else {
            return;
        };
        // Without a runtime the process ends; a rule of the bucket takes old parts away.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut under_way = std::mem::take(&mut self.under_way);
        let task = spawn_on(&runtime, async move {
            // A part that arrives after the end would stay for ever.
            while under_way.next().await.is_some() {}
            if let Err(error) = parts.abort().await {
                tracing::warn!("parts of an object that was called off are left behind: {error}");
            }
        });
        keep(&self.aborting, task);
    }
}

/// Lets a task run to its end, or to that of the store.
fn keep(tasks: &Mutex<Vec<Task<()>>>, task: Task<()>) {
    let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    tasks.retain(|task| !task.abort_handle().is_finished());
    tasks.push(task);
}

/// Gathers blobs into packs until nobody can send any more.
async fn gather(shared: Arc<Shared>, mut queue: mpsc::Receiver<Vec<Waiting>>) {
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut bytes = 0;
    let mut under_way = FuturesUnordered::new();
    loop {
        while let Some(first) = waiting.front()
            && under_way.len() < AT_ONCE
            && (under_way.is_empty() || bytes >= PACK || first.since.elapsed() >= LINGER)
        {
            let pack = next_pack(&mut waiting, &mut bytes);
            under_way.push(write_pack(&shared, pack));
        }
        let overdue = waiting.front().map(|first| first.since + LINGER);
        tokio::select! {
            more = queue.recv(), if bytes < 2 * PACK => match more {
                Some(more) => {
                    bytes += more.iter().map(|one| one.blob.size).sum::<u64>();
                    waiting.extend(more);
                }
                // Whoever waited is gone with the store.
                None => return,
            },
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            () = sleep_until(overdue.unwrap_or_else(Instant::now)),
                if overdue.is_some() && under_way.len() < AT_ONCE => {}
        }
    }
}

/// The blobs of the next pack.
fn next_pack(waiting: &mut VecDeque<Waiting>, bytes: &mut u64) -> Vec<Waiting> {
    let mut pack = Vec::new();
    let mut size = 0;
    while let Some(next) = waiting.pop_front() {
        *bytes -= next.blob.size;
        // Nobody waits for it any more.
        if next.done.is_closed() {
            continue;
        }
        size += next.blob.size;
        pack.push(next);
        let following = waiting.front().map_or(0, |next| next.blob.size);
        if size + following > PACK || pack.len() >= PACK_BLOBS {
            break;
        }
    }
    pack
}

async fn write_pack(shared: &Shared, waiting: Vec<Waiting>) {
    let mut builder = PackBuilder::default();
    let mut seen = HashSet::new();
    for one in &waiting {
        if seen.insert(one.blob) {
            builder.add(one.blob, one.bytes.clone());
        }
    }
    if seen.is_empty() {
        return;
    }
    let (pieces, length, entries) = builder.finish();
    let written = async {
        let object = name::new_pack()?;
        shared.bucket.put(&object, pieces).await?;
        shared.index.add(&object, length, &entries).await
    };
    let written = written.await;
    if written.is_ok() {
        let packs = &shared.bucket.counters().packs;
        packs.written.one();
        packs.written_blobs.add(entries.len() as u64);
    }
    for one in waiting {
        let answer = written.as_ref().copied().map_err(again);
        // Whoever has left meanwhile need not know.
        drop(one.done.send(answer));
    }
}

fn closed() -> Fault {
    Fault::new(FaultKind::Unavailable, "the store is being closed")
}

//! Blobs that are being written.
//!
//! An upload is a task that stores what comes out of a channel. A connection that brings the bytes
//! is *attached* to it. When the connection breaks off, the upload is *suspended* and waits for
//! another for some time: nothing has to be sent, hashed or written again. A connection that comes
//! while the last one is still there, for the server may learn late that it is dead, takes over.
//!
//! Bytes between the connection and the store count against a budget that all uploads and batches
//! share, so that a slow disk and many fast clients do not fill the memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use ashlar_store::task::{Task, spawn};
use ashlar_store::{BlobStore, Fault};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::status;

/// So long a suspended upload waits.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// So long a connection that is taken over may take to let go.
const HANDOVER: Duration = Duration::from_secs(5);

/// Uploads that may be suspended at once. The one that waits longest goes first.
const SUSPENDED: usize = 1000;

/// Messages between a connection and the store.
const AHEAD: usize = 4;

/// Permits of the budget are for so many bytes each.
const UNIT: usize = 1024;

/// All uploads.
#[derive(Debug, Clone)]
pub struct Uploads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    budget: Arc<Semaphore>,
    /// All of the budget's permits.
    units: u32,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

/// An upload that can be taken up again.
#[derive(Debug)]
struct Session {
    /// The writing end; held by the connection that is attached.
    writer: Arc<tokio::sync::Mutex<Option<Writer>>>,
    /// Asks the connection that is attached to let go.
    takeover: Notify,
    /// Bytes taken.
    sent: AtomicU64,
    /// Since when nobody is attached.
    suspended: Mutex<Option<Instant>>,
}

impl Session {
    fn set_suspended(&self, since: Option<Instant>) {
        *self
            .suspended
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn suspended_since(&self) -> Option<Instant> {
        *self
            .suspended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is written to.
#[derive(Debug)]
struct Writer {
    pieces: mpsc::Sender<(Bytes, OwnedSemaphorePermit)>,
    stored: Task<Result<(), Fault>>,
}

impl Uploads {
    /// No upload. `memory` is what all of them may hold on the way to the store.
    pub fn new(memory: u64) -> Self {
        let units = (memory / UNIT as u64).clamp(16 << 10, Semaphore::MAX_PERMITS as u64 / 2);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Self {
            shared: Arc::new(Shared {
                budget: Arc::new(Semaphore::new(units as usize)),
                units,
                sessions: Mutex::default(),
            }),
        }
    }

    /// Ends uploads that nobody came back for.
    pub fn tidy(&self) {
        self.shared.tidy();
    }

    /// How many uploads are going on or suspended.
    pub fn count(&self) -> usize {
        self.shared.sessions().len()
    }

    /// Memory for so many bytes, held until it is dropped. Waits until there is some.
    pub async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Status> {
        self.shared.reserve(bytes).await
    }

    /// An upload that nobody can take up again.
    pub fn detached(&self, blobs: &Arc<dyn BlobStore>, blob: &CasDigest) -> Attached {
        Attached {
            uploads: self.shared.clone(),
            session: None,
            writer: Slot::Own(Some(start(blobs, blob))),
            position: 0,
            sent: 0,
        }
    }

    /// How many bytes of an upload have been taken; `None` if there is no such upload.
    pub fn committed(&self, name: &str) -> Option<u64> {
        let sessions = self.shared.sessions();
        let session = sessions.get(name)?;
        Some(session.sent.load(Ordering::Acquire))
    }

    /// Goes on with an upload to `blobs` at `offset`, or begins it if that is 0. Two with one name
    /// have to be of the same client.
    pub async fn attach(
        &self,
        name: &str,
        blobs: &Arc<dyn BlobStore>,
        blob: &CasDigest,
        offset: u64,
    ) -> Result<Attached, Status> {
        self.shared.tidy();
        let session = {
            let mut sessions = self.shared.sessions();
            let session = sessions.entry(name.to_owned()).or_insert_with(|| {
                Arc::new(Session {
                    writer: Arc::default(),
                    takeover: Notify::new(),
                    sent: AtomicU64::new(0),
                    suspended: Mutex::new(None),
                })
            });
            session.clone()
        };
        let mut writer = take_over(&session).await?;
        let sent = session.sent.load(Ordering::Acquire);
        if offset > 0 && (writer.is_none() || offset > sent) {
            if writer.is_none() {
                self.shared.remove(name, &session);
            }
            return Err(Status::invalid_argument(format!(
                "write_offset is {offset}, but {sent} bytes of the upload are here"
            )));
        }
        if offset == 0 {
            // A client that starts again means it.
            *writer = Some(start(blobs, blob));
            session.sent.store(0, Ordering::Release);
        }
        session.set_suspended(None);
        // Another may have removed it while this one waited.
        self.shared
            .sessions()
            .insert(name.to_owned(), session.clone());
        Ok(Attached {
            uploads: self.shared.clone(),
            session: Some((name.to_owned(), session)),
            writer: Slot::Shared(writer),
            position: offset,
            sent: if offset == 0 { 0 } else { sent },
        })
    }
}

/// Begins to store a blob.
fn start(blobs: &Arc<dyn BlobStore>, blob: &CasDigest) -> Writer {
    let (pieces, receiver) = mpsc::channel::<(Bytes, OwnedSemaphorePermit)>(AHEAD);
    let blobs = blobs.clone();
    let blob = *blob;
    let stored = spawn(async move {
        let pieces = ReceiverStream::new(receiver).map(|(piece, permit)| {
            // From here on it is the store's.
            drop(permit);
            Ok(piece)
        });
        blobs.write(&blob, Box::pin(pieces)).await
    });
    Writer { pieces, stored }
}

/// Waits until no other connection is attached.
async fn take_over(session: &Session) -> Result<OwnedMutexGuard<Option<Writer>>, Status> {
    // Kept for the one that is attached even if it does not listen at the moment.
    session.takeover.notify_one();
    let writer = timeout(HANDOVER, session.writer.clone().lock_owned()).await;
    let writer = writer.map_err(|_| {
        Status::aborted("the upload is busy with another connection: try again later")
    })?;
    // It has been heard, or nobody was there to hear it.
    drop(timeout(Duration::ZERO, session.takeover.notified()).await);
    Ok(writer)
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Status> {
        // Whatever is larger than all of the memory takes all of it.
        let units = u32::try_from(bytes.div_ceil(UNIT as u64)).unwrap_or(u32::MAX);
        let units = units.min(self.units);
        let permit = self.budget.clone().acquire_many_owned(units).await;
        permit.map_err(|_| Status::unavailable("the server is being stopped"))
    }

    fn remove(&self, name: &str, session: &Arc<Session>) {
        let mut sessions = self.sessions();
        if sessions
            .get(name)
            .is_some_and(|current| Arc::ptr_eq(current, session))
        {
            sessions.remove(name);
        }
    }

    /// Ends uploads that nobody came back for.
    fn tidy(&self) {
        let now = Instant::now();
        let mut sessions = self.sessions();
        sessions.retain(|_, session| {
            session
                .suspended_since()
                .is_none_or(|since| now.duration_since(since) < PATIENCE)
        });
        if sessions.len() <= SUSPENDED {
            return;
        }
        let oldest = sessions
            .iter()
            .filter_map(|(name, session)| Some((session.suspended_since()?, name.clone())))
            .min();
        if let Some((_, name)) = oldest {
            sessions.remove(&name);
        }
    }
}

#[derive(Debug)]
enum Slot {
    Own(Option<Writer>),
    Shared(OwnedMutexGuard<Option<Writer>>),
}

impl Slot {
    fn get(&mut self) -> &mut Option<Writer> {
        match self {
            Self::Own(writer) => writer,
            Self::Shared(writer) => writer,
        }
    }
}

/// A connection's hold on an upload. Dropping it suspends the upload, if it can be taken up again,
/// and else ends it.
#[derive(Debug)]
pub struct Attached {
    uploads: Arc<Shared>,
    session: Option<(String, Arc<Session>)>,
    writer: Slot,
    /// Where in the blob the connection is.
    position: u64,
    /// Where in the blob the store is: further, if the connection began before its end.
    sent: u64,
}

impl Attached {
    /// Where in the blob the connection is.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Gives bytes to the store. Whether it wants more: one that has failed says why in
    /// [`Self::finish`].
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<bool, Status> {
        // What an earlier connection brought is passed over; the hash tells if it was the same.
        let known = self.sent.saturating_sub(self.position);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        self.position += bytes.len() as u64;
        drop(bytes.split_to(known.min(bytes.len())));
        if bytes.is_empty() {
            return Ok(true);
        }
        let length = bytes.len() as u64;
        let permit = self.uploads.reserve(length).await?;
        let Some(writer) = self.writer.get() else {
            return Ok(false);
        };
        if writer.pieces.send((bytes, permit)).await.is_err() {
            return Ok(false);
        }
        self.sent += length;
        if let Some((_, session)) = &self.session {
            session.sent.store(self.sent, Ordering::Release);
        }
        Ok(true)
    }

    /// Resolves when another connection wants to go on with the upload.
    pub async fn taken_over(&self) {
        match &self.session {
            Some((_, session)) => session.takeover.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Leaves the upload to a later connection. Gives how many bytes it has.
    pub fn suspend(self) -> u64 {
        self.sent
    }

    /// No more bytes come: what the store says. Gives how many there were.
    pub async fn finish(mut self) -> Result<u64, Status> {
        let writer = self.writer.get().take();
        if let Some((name, session)) = self.session.take() {
            self.uploads.remove(&name, &session);
        }
        let Some(writer) = writer else {
            return Err(Status::aborted("the upload was ended"));
        };
        drop(writer.pieces);
        match writer.stored.await {
            Ok(Ok(())) => Ok(self.sent),
            Ok(Err(fault)) => Err(status::of_fault(&fault)),
            Err(_) => Err(Status::internal("the upload was ended")),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some((_, session)) = &self.session {
            session.set_suspended(Some(Instant::now()));
        }
    }
}

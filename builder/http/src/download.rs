//! The store's side of a download: a thread that writes and hashes what the network delivers.
//!
//! It is a thread of its own and no task, as it may wait long for another process that downloads
//! the same blob: such a wait can be left behind by ending the process, where a task of the
//! runtime would hold the exit up. It ends when its [`Download`] is dropped; what was written
//! stays for the next try.

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_store::home::blobs::{BlobWriter, PartialBlob};
use ashlar_store::home::{Home, StoreError};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Chunks that wait to be written. The network sends some dozen kilobytes each.
const QUEUE: usize = 16;

/// What the thread is told.
enum Order {
    /// These bytes come next.
    Write(Bytes),
    /// All bytes so far are void.
    Restart,
    /// That was all: check and store.
    Commit,
}

/// What is downloaded.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// A blob that a descriptor tells of.
    Blob(Descriptor),
    /// Bytes with this digest, however many.
    Digest(BlobDigest),
    /// Bytes of which nothing is known. What comes is void if the download breaks off.
    Unknown,
}

/// The state that a download starts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The blob is there: another task or process has fetched it meanwhile.
    Done,
    /// So many bytes are there from an earlier try.
    At(u64),
}

/// A download under way.
#[derive(Debug)]
pub struct Download {
    orders: mpsc::Sender<Order>,
    end: oneshot::Receiver<Result<Option<Downloaded>, StoreError>>,
}

/// What a download gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downloaded {
    /// Digest of the bytes, now a blob of the store.
    pub digest: BlobDigest,
    /// How many they are.
    pub size: u64,
}

/// Why the writing stopped.
#[derive(Debug)]
pub enum WriteError {
    /// The store failed, or the content is wrong.
    Store(StoreError),
    /// The thread could not be started.
    Spawn(std::io::Error),
    /// The thread is gone without a word.
    Vanished,
}

impl Download {
    /// Begins, waiting until no other task or process is at the same blob.
    pub async fn begin(home: &Home, wanted: Wanted) -> Result<(Self, Start), WriteError> {
        let (orders, received) = mpsc::channel(QUEUE);
        let (announce, announced) = oneshot::channel();
        let (finish, end) = oneshot::channel();
        let home = home.clone();
        std::thread::Builder::new()
            .name("download".to_owned())
            .spawn(move || {
                let result = write(&home, &wanted, announce, received);
                // Nobody listens any more if the download was called off.
                let _ignored = finish.send(result);
            })
            .map_err(WriteError::Spawn)?;
        let download = Self { orders, end };
        match announced.await {
            Ok(start) => Ok((download, start)),
            Err(_) => Err(download.failure().await),
        }
    }

    /// Adds the next bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        self.order(Order::Write(bytes)).await
    }

    /// Throws away what is there.
    pub async fn restart(&mut self) -> Result<(), WriteError> {
        self.order(Order::Restart).await
    }

    /// Checks size and digest, and stores the blob.
    pub async fn commit(mut self) -> Result<Downloaded, WriteError> {
        self.order(Order::Commit).await?;
        match self.end.await {
            Ok(Ok(Some(downloaded))) => Ok(downloaded),
            Ok(Err(error)) => Err(WriteError::Store(error)),
            Ok(Ok(None)) | Err(_) => Err(WriteError::Vanished),
        }
    }

    async fn order(&mut self, order: Order) -> Result<(), WriteError> {
        if self.orders.send(order).await.is_ok() {
            return Ok(());
        }
        match (&mut self.end).await {
            Ok(Err(error)) => Err(WriteError::Store(error)),
            _ => Err(WriteError::Vanished),
        }
    }

    async fn failure(self) -> WriteError {
        match self.end.await {
            Ok(Err(error)) => WriteError::Store(error),
            _ => WriteError::Vanished,
        }
    }
}

fn write(
    home: &Home,
    wanted: &Wanted,
    announce: oneshot::Sender<Start>,
    mut orders: mpsc::Receiver<Order>,
) -> Result<Option<Downloaded>, StoreError> {
    let mut sink = Sink::open(home, wanted)?;
    let is_here = match wanted {
        Wanted::Blob(descriptor) => home.blobs().has(descriptor),
        Wanted::Digest(digest) => home.blobs().size_of(digest).is_some(),
        Wanted::Unknown => false,
    };
    if is_here {
        let _ignored = announce.send(Start::Done);
        return Ok(None);
    }
    if let (Wanted::Blob(descriptor), Sink::Partial(partial)) = (wanted, &mut sink)
        && partial.len() > descriptor.size
    {
        partial.restart()?;
    }
    if announce.send(Start::At(sink.len())).is_err() {
        return Ok(None);
    }
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Write(bytes) => sink.append(&bytes)?,
            Order::Restart => sink.restart()?,
            Order::Commit => {
                let size = match wanted {
                    Wanted::Blob(descriptor) => Some(descriptor.size),
                    Wanted::Digest(_) | Wanted::Unknown => None,
                };
                return sink.commit(size).map(Some);
            }
        }
    }
    Ok(None)
}

/// Where the bytes go.
enum Sink {
    /// Bytes of a known digest: what an earlier try left is taken up again.
    Partial(PartialBlob),
    /// Bytes of any digest.
    New(BlobWriter),
}

impl Sink {
    fn open(home: &Home, wanted: &Wanted) -> Result<Self, StoreError> {
        let digest = match wanted {
            Wanted::Blob(descriptor) => &descriptor.digest,
            Wanted::Digest(digest) => digest,
            Wanted::Unknown => return home.blobs().writer().map(Self::New),
        };
        home.blobs().partial(digest).map(Self::Partial)
    }

    const fn len(&self) -> u64 {
        match self {
            Self::Partial(partial) => partial.len(),
            Self::New(writer) => writer.len(),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Partial(partial) => partial.append(bytes),
            Self::New(writer) => writer.append(bytes),
        }
    }

    fn restart(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Partial(partial) => partial.restart(),
            Self::New(writer) => writer.restart(),
        }
    }

    fn commit(self, size: Option<u64>) -> Result<Downloaded, StoreError> {
        let (digest, size) = match self {
            Self::Partial(partial) => {
                let digest = *partial.digest();
                (digest, partial.commit(size)?)
            }
            Self::New(writer) => writer.commit(None)?,
        };
        Ok(Downloaded { digest, size })
    }
}

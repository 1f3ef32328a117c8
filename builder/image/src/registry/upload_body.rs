//! A blob on its way to a registry: read by a thread of its own while the network is busy.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_http::patience::UploadProgress;
use ashlar_model::digest::BlobDigest;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::Progress;
use crate::blob_source::BlobSource;

/// Bytes read and sent at once. Large enough that a chunk's fixed cost does not count, small
/// enough that four uploads hold few megabytes.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait to be sent.
const QUEUE: usize = 4;

/// Some bytes of a blob, to be sent as often as needed.
pub(super) struct UploadBody {
    pub(super) digest: BlobDigest,
    pub(super) source: Arc<dyn BlobSource>,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) progress: Option<Progress>,
    /// Why reading failed, which the connection's error does not tell.
    failure: Mutex<Option<io::Error>>,
    /// Bytes handed to the connection.
    sent: AtomicU64,
}

impl fmt::Debug for UploadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadBody")
            .field("digest", &self.digest)
            .field("offset", &self.offset)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl UploadProgress for UploadBody {
    fn length(&self) -> u64 {
        self.length
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl UploadBody {
    pub(super) fn new(
        digest: BlobDigest,
        source: Arc<dyn BlobSource>,
        (offset, length): (u64, u64),
        progress: Option<Progress>,
    ) -> Arc<Self> {
        Arc::new(Self {
            digest,
            source,
            offset,
            length,
            progress,
            failure: Mutex::new(None),
            sent: AtomicU64::new(0),
        })
    }

    /// Why reading failed, if it did.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn fail(&self, error: io::Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// A request body with these bytes. The thread ends with the body, sent or dropped.
    pub(super) fn to_request_body(self: &Arc<Self>) -> io::Result<reqwest::Body> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
        self.sent.store(0, Ordering::Relaxed);
        let this = Arc::clone(self);
        std::thread::Builder::new()
            .name("upload".to_owned())
            .spawn(move || this.read_into(&sender))?;
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            let item = receiver.recv().await?;
            Some((item, receiver))
        });
        Ok(reqwest::Body::wrap_stream(stream))
    }

    fn read_into(&self, sender: &mpsc::Sender<io::Result<Bytes>>) {
        let read = || -> io::Result<()> {
            let mut reader = self.source.open(self.offset)?;
            let mut sent = 0;
            while sent < self.length {
                let chunk = read_chunk(&mut reader, self.length - sent)?;
                if chunk.is_empty() {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!(
                            "it has {} bytes, not {}",
                            self.offset + sent,
                            self.offset + self.length
                        ),
                    ));
                }
                sent += chunk.len() as u64;
                if sender.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
                self.sent.store(sent, Ordering::Relaxed);
                if let Some(progress) = &self.progress {
                    progress(self.offset + sent);
                }
            }
            Ok(())
        };
        if let Err(error) = read() {
            let kind = error.kind();
            self.fail(error);
            // Ends the request. Whoever gets this error looks at `failure` for the real one.
            let _ignored = sender.blocking_send(Err(kind.into()));
        }
    }
}

/// The next bytes: a whole chunk, or all up to the end.
fn read_chunk(reader: &mut impl io::Read, left: u64) -> io::Result<Vec<u8>> {
    let size = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
    let mut chunk = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match reader.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}

//! An object store, with what every call of it has in common: counted, traced, with a time limit
//! and its errors in our words.
//!
//! Calls that fail for a reason that may pass (503, a connection that breaks) are made again by the
//! client itself, as [`address`](super::address) sets it.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload,
};
use tokio::time::{Instant, timeout};

use super::fault::{fault_of, too_slow};
use crate::blob_store::ByteStream;
use crate::counters::Counters;
use crate::fault::{Fault, FaultKind};

/// So long a read of up to some megabytes may take, further attempts included.
const READ: Duration = Duration::from_secs(20);

/// So long a write of up to some megabytes may take.
const WRITE: Duration = Duration::from_secs(60);

/// A store that took a write so lately is not made to write again to see whether it does.
const WRITTEN_FOR: Duration = Duration::from_secs(10);

/// The object that is written to see whether the store takes writes.
const PROBE: &str = "readiness";

/// An object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written, in seconds since 1970, by the store's clock.
    pub written: i64,
}

/// The part of an object store that is ours.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
    /// When it last took a write.
    written: Arc<Mutex<Option<Instant>>>,
}

impl Bucket {
    /// All of `store` is ours.
    pub fn new(store: Arc<dyn ObjectStore>, counters: Arc<Counters>) -> Self {
        Self {
            store,
            counters,
            written: Arc::default(),
        }
    }

    /// What is counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Writes an object of some pieces.
    pub async fn put(&self, name: &str, pieces: Vec<Bytes>) -> Result<(), Fault> {
        let payload = PutPayload::from_iter(pieces);
        let bytes = payload.content_length() as u64;
        let path = Path::from(name);
        let put = limited(WRITE, "write to", self.store.put(&path, payload));
        self.counters.objects.run("put", put).await?;
        self.counters.objects.sent(bytes);
        self.note_written();
        Ok(())
    }

    fn note_written(&self) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written = Some(Instant::now());
    }

    /// A range of an object, all of it. [`FaultKind::Invalid`] if the object ends before.
    pub async fn get(&self, name: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        let path = Path::from(name);
        let wanted = range.end.saturating_sub(range.start);
        let get = limited(READ, "read from", self.store.get_range(&path, range));
        let bytes = self.counters.objects.run("get", get).await?;
        self.counters.objects.received(bytes.len() as u64);
        if bytes.len() as u64 != wanted {
            return Err(ends_early(name));
        }
        Ok(bytes)
    }

    /// A range of an object, as it comes.
    pub async fn open(&self, name: &str, range: Range<u64>) -> Result<ByteStream, Fault> {
        let path = Path::from(name);
        let wanted = range.end.saturating_sub(range.start);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let get = limited(READ, "read from", self.store.get_opts(&path, options));
        let got = self.counters.objects.run("open", get).await?;
        if got.range.end.saturating_sub(got.range.start) != wanted {
            return Err(ends_early(name));
        }
        let counters = self.counters.clone();
        let bytes = got.into_stream().map(move |piece| {
            let piece = piece.map_err(|error| fault_of("read from", error))?;
            counters.objects.received(piece.len() as u64);
            Ok(piece)
        });
        Ok(Box::pin(bytes))
    }

    /// A small object, all of it. [`FaultKind::Invalid`] if it has more than `most` bytes.
    pub async fn whole(&self, name: &str, most: u64) -> Result<Bytes, Fault> {
        let path = Path::from(name);
        let get = async {
            let got = self.store.get(&path).await?;
            if got.meta.size > most {
                return Ok(None);
            }
            got.bytes().await.map(Some)
        };
        let get = limited(READ, "read from", get);
        let bytes = self.counters.objects.run("get", get).await?;
        let bytes = bytes.ok_or_else(|| Fault::invalid(format!("{name} is too large")))?;
        self.counters.objects.received(bytes.len() as u64);
        Ok(bytes)
    }

    /// Begins an object that is written in parts.
    pub async fn multipart(&self, name: &str) -> Result<Box<dyn MultipartUpload>, Fault> {
        let path = Path::from(name);
        let begin = limited(WRITE, "write to", self.store.put_multipart(&path));
        self.counters.objects.run("multipart", begin).await
    }

    /// Sends a part of an object.
    pub async fn part(&self, part: object_store::UploadPart, bytes: u64) -> Result<(), Fault> {
        let part = limited(WRITE, "write to", part);
        self.counters.objects.run("part", part).await?;
        self.counters.objects.sent(bytes);
        Ok(())
    }

    /// Ends an object that was written in parts.
    pub async fn complete(&self, upload: &mut dyn MultipartUpload) -> Result<(), Fault> {
        let complete = limited(WRITE, "write to", upload.complete());
        let completed = self.counters.objects.run("complete", complete).await;
        completed.map(|_| self.note_written()).map_err(as_unwritten)
    }

    /// Deletes objects. Gives those that are gone, whoever deleted them, and the first fault.
    pub async fn delete(&self, names: Vec<String>) -> (Vec<String>, Option<Fault>) {
        let paths: Vec<_> = names
            .iter()
            .map(|name| Ok(Path::from(name.as_str())))
            .collect();
        let work = async {
            let mut gone = Vec::new();
            let mut first = None;
            let mut deleted = self.store.delete_stream(stream::iter(paths).boxed());
            // The answers come in the order of the names.
            for name in names {
                match deleted.next().await {
                    Some(Ok(_) | Err(object_store::Error::NotFound { .. })) => gone.push(name),
                    Some(Err(error)) => {
                        first.get_or_insert_with(|| fault_of("delete from", error));
                    }
                    None => break,
                }
            }
            Ok((gone, first))
        };
        let limit = async {
            timeout(WRITE, work)
                .await
                .unwrap_or_else(|_| Err(too_slow("delete from")))
        };
        match self.counters.objects.run("delete", limit).await {
            Ok(outcome) => outcome,
            Err(fault) => (Vec::new(), Some(fault)),
        }
    }

    /// All objects under a directory.
    pub fn list(
        &self,
        directory: &str,
    ) -> impl Stream<Item = Result<Listed, Fault>> + Send + use<> {
        let listed = self.store.list(Some(&Path::from(directory)));
        let listed = listed.map_ok(|meta| Listed {
            name: meta.location.to_string(),
            bytes: meta.size,
            written: meta.last_modified.timestamp(),
        });
        listed.map_err(|error| fault_of("list", error))
    }

    /// Fails unless the store takes writes now, or did within the last seconds.
    pub async fn ready(&self) -> Result<(), Fault> {
        let last = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_away = self.counters.objects.is_up() == Some(false);
        if !is_away && last.is_some_and(|last| last.elapsed() < WRITTEN_FOR) {
            return Ok(());
        }
        self.put(PROBE, vec![Bytes::from_static(b"ok")]).await
    }
}

/// Does something within a time.
async fn limited<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Fault> {
    match timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let fault = fault_of(what, error);
            Err(if what == "write to" {
                as_unwritten(fault)
            } else {
                fault
            })
        }
        Err(_) => Err(too_slow(what)),
    }
}

/// To somebody who writes, nothing is a blob that is not there.
fn as_unwritten(mut fault: Fault) -> Fault {
    if fault.kind == FaultKind::NotFound {
        fault.kind = FaultKind::Unavailable;
    }
    fault
}

fn ends_early(name: &str) -> Fault {
    Fault::invalid(format!("{name} ends before the blob that should be in it"))
}

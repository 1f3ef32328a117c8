//! Sends a layer: its tar in chunks, of which only those go that the cache lacks, then the trees
//! that list them.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ashlar_exec::layer::split::{Chunk, Part, SplitError, split};
use ashlar_model::cas::{CasDigest, DigestFunction, SharedLayer};
use ashlar_model::digest::LayerId;
use ashlar_store::fault::{Fault, FaultKind};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::Instrument as _;

use super::{LayerUpload, Uploader, locked};
use crate::breaker::Use;
use crate::cache::ANSWER;
use crate::tree::ChunkList;

/// Bytes of chunks that are sent at a time.
const BATCH: usize = 512 << 10;
/// Chunks that are sent at a time.
const BATCH_CHUNKS: usize = 256;
/// Batches that are under way for a layer.
const BATCHES: usize = 16;
/// How often a batch is sent.
const ATTEMPTS: u32 = 2;
/// The pause before a batch is sent again.
const PAUSE: Duration = Duration::from_millis(200);

impl Uploader {
    /// Sends a layer, unless that was begun before.
    pub(super) fn upload(
        self: &Arc<Self>,
        layer: LayerId,
        below: Vec<LayerId>,
        function: DigestFunction,
    ) -> LayerUpload {
        let upload = || {
            let uploader = Arc::clone(self);
            async move {
                let span = tracing::info_span!("upload", layer = %layer);
                let upload = uploader.upload_layer(layer, below, function);
                let trees = upload.instrument(span).await?;
                let copy = SharedLayer {
                    cache: uploader.cache.name().to_owned(),
                    trees: trees.clone(),
                };
                // Only time is lost if it cannot be noted.
                drop(uploader.home.note_copy(&layer, copy));
                Some(trees.into())
            }
            .boxed()
            .shared()
        };
        locked(&self.layers)
            .entry(layer)
            .or_insert_with(upload)
            .clone()
    }

    async fn upload_layer(
        &self,
        layer: LayerId,
        below: Vec<LayerId>,
        function: DigestFunction,
    ) -> Option<Vec<CasDigest>> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await.ok()?;
        if !self.cache.is_usable(Use::Write) {
            return None;
        }
        let tar = match self.tars.open(layer, below).await {
            Ok(tar) => tar,
            Err(error) => {
                self.note_unsent(&error);
                return None;
            }
        };
        self.send_split(tar, function).await
    }

    /// Sends the chunks of a tar, and the trees that list them. Gives the trees.
    pub async fn send_tar(&self, tar: Box<dyn Read + Send>) -> Option<Vec<CasDigest>> {
        let function = self.function().await?;
        self.send_split(tar, function).await
    }

    async fn send_split(
        &self,
        tar: Box<dyn Read + Send>,
        function: DigestFunction,
    ) -> Option<Vec<CasDigest>> {
        let (sender, receiver) = channel(1);
        let splitting = tokio::task::spawn_blocking(move || {
            let mut batch = Batch {
                sender,
                chunks: Vec::new(),
                bytes: 0,
            };
            let outcome = split(tar, function, |chunk| batch.take(chunk));
            outcome.and_then(|_| batch.send().map_err(SplitError::Sink))
        });
        let mut list = ChunkList::default();
        let sent = self.send_batches(receiver, &mut list).await;
        match splitting.await {
            Ok(Ok(())) if sent => {}
            // Nobody takes the chunks any more: the user knows why.
            Ok(Ok(()) | Err(SplitError::Sink(Gone))) | Err(_) => return None,
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                self.tell_here(&format!("{error}: {}", cause.unwrap_or_default()));
                return None;
            }
        }
        let trees = list.trees(function);
        let digests = trees.iter().map(|(digest, _)| *digest).collect();
        self.send_blobs(trees).await.then_some(digests)
    }

    /// Sends chunks as they come. Whether all have arrived.
    async fn send_batches(&self, batches: Receiver<Vec<Chunk>>, list: &mut ChunkList) -> bool {
        let batches = stream::unfold(batches, |mut batches| async move {
            Some((batches.recv().await?, batches))
        });
        let named = batches.map(|batch| {
            let mut blobs = Vec::with_capacity(batch.len());
            for chunk in batch {
                match chunk.part {
                    Part::Headers => list.headers.push(chunk.digest),
                    Part::Contents => list.contents.push(chunk.digest),
                }
                blobs.push((chunk.digest, chunk.bytes));
            }
            self.send_blobs(blobs)
        });
        let mut sent = std::pin::pin!(named.buffer_unordered(BATCHES));
        while let Some(arrived) = sent.next().await {
            if !arrived {
                return false;
            }
        }
        true
    }

    /// Sends those of some blobs that the cache lacks. Whether it has them all.
    async fn send_blobs(&self, blobs: Vec<(CasDigest, Bytes)>) -> bool {
        let unknown: Vec<(CasDigest, Bytes)> = {
            let known = locked(&self.known);
            let mut seen = HashSet::new();
            let unknown = blobs
                .into_iter()
                .filter(|(digest, _)| !known.contains(digest) && seen.insert(*digest));
            unknown.collect()
        };
        if unknown.is_empty() {
            return true;
        }
        let digests: Vec<CasDigest> = unknown.iter().map(|(digest, _)| *digest).collect();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.send_missing(&unknown, &digests).await {
                Some(Ok(())) => {
                    locked(&self.known).extend(digests);
                    return true;
                }
                Some(Err(fault))
                    if fault.kind == FaultKind::Unavailable
                        && attempt < ATTEMPTS
                        && self.cache.is_usable(Use::Write) =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                Some(Err(_)) | None => return false,
            }
        }
    }

    /// Sends those of some blobs that the cache lacks, once.
    async fn send_missing(
        &self,
        blobs: &[(CasDigest, Bytes)],
        digests: &[CasDigest],
    ) -> Option<Result<(), Fault>> {
        let asked = self.cache.ask(Use::Write, ANSWER, |service| async move {
            service.blobs.missing(digests).await
        });
        let missing: HashSet<CasDigest> = match asked.await? {
            Ok(missing) => missing.into_iter().collect(),
            Err(fault) => return Some(Err(fault)),
        };
        let blobs: Vec<(CasDigest, Bytes)> = blobs
            .iter()
            .filter(|(digest, _)| missing.contains(digest))
            .cloned()
            .collect();
        if blobs.is_empty() {
            return Some(Ok(()));
        }
        let chunks = blobs.len() as u64;
        let bytes = blobs.iter().map(|(digest, _)| digest.size).sum();
        let blobs = &blobs;
        let sent = self
            .cache
            .transfer(Use::Write, bytes, |service| async move {
                for written in service.blobs.write_many(blobs.clone()).await {
                    written?;
                }
                Ok(())
            });
        let sent = sent.await?;
        if sent.is_ok() {
            self.chunks.fetch_add(chunks, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Some(sent)
    }
}

/// Nobody takes chunks any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody takes the chunks any more")]
struct Gone;

/// Collects chunks in the thread that splits.
struct Batch {
    sender: Sender<Vec<Chunk>>,
    chunks: Vec<Chunk>,
    bytes: usize,
}

impl Batch {
    fn take(&mut self, chunk: Chunk) -> Result<(), Gone> {
        self.bytes += chunk.bytes.len();
        self.chunks.push(chunk);
        if self.bytes >= BATCH || self.chunks.len() >= BATCH_CHUNKS {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Gone> {
        self.bytes = 0;
        let chunks = std::mem::take(&mut self.chunks);
        if chunks.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(chunks).map_err(|_| Gone)
    }
}

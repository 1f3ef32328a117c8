//! A portable cache as the two stores of REAPI.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::BlobDigest;
use ashlar_model::executor::BoxFuture;
use ashlar_model::media_type::OCI_MANIFEST;
use ashlar_proto::action_result::tree_files;
use ashlar_store::action_cache::{PutMode, no_swap};
use ashlar_store::blob_store::{
    ByteRange, ByteStream, collect_blob, is_empty_blob, nothing, once, slice,
};
use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::{ActionCache, BlobStore};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;

use super::container::Container;
use super::index::{Entry, FUNCTION, Index, LARGEST_BLOB, LONGEST_INDEX, Place};
use crate::service::Closing;

/// What the manifest is one of.
const ARTIFACT_TYPE: &str = "application/vnd.ashlar.cache.v1";
/// The index, a zstd frame of JSON.
const INDEX_TYPE: &str = "application/vnd.ashlar.cache.index.v1+zstd";
/// A pack.
const PACK_TYPE: &str = "application/vnd.ashlar.cache.pack.v1";
/// A pack is closed when it has so many bytes.
const FULL_PACK: usize = 8 << 20;
/// How well blobs are compressed.
const LEVEL: i32 = 3;

/// A cache in a container.
#[derive(Debug)]
pub(super) struct Portable {
    container: Arc<dyn Container>,
    state: Mutex<State>,
    /// Files of packs that were fetched.
    files: Mutex<HashMap<BlobDigest, Arc<OnceCell<PathBuf>>>>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// The manifest that the index came from.
    manifest: Option<Bytes>,
    /// The pack that is being filled, and what is in it. It has no digest yet.
    open: Vec<u8>,
    in_open: BTreeMap<CasDigest, (u64, u64)>,
    /// Packs that were filled in this build. They are in the index.
    is_changed: bool,
    /// A pack could not be kept: what refers to it must not be written.
    is_broken: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    artifact_type: Option<String>,
    config: Descriptor,
}

impl Portable {
    pub(super) async fn open(container: Arc<dyn Container>) -> Result<Self, Fault> {
        let manifest = container.manifest().await?;
        let mut index = match &manifest {
            Some(manifest) => read_index(container.as_ref(), manifest).await?,
            None => Index::default(),
        };
        index.generation += 1;
        let state = State {
            index,
            manifest,
            ..State::default()
        };
        Ok(Self {
            container,
            state: Mutex::new(state),
            files: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a pack, fetched once.
    async fn file(&self, pack: BlobDigest, size: u64) -> Result<PathBuf, Fault> {
        let cell = {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(files.entry(pack).or_default())
        };
        let descriptor = Descriptor::new(PACK_TYPE, pack, size);
        let file = cell.get_or_try_init(|| self.container.blob(&descriptor));
        file.await.cloned()
    }

    async fn read_one(&self, blob: &CasDigest) -> Result<Bytes, Fault> {
        if is_empty_blob(blob) {
            return Ok(Bytes::new());
        }
        let gone = || Fault::new(FaultKind::NotFound, format!("{blob} is not in the cache"));
        let place = {
            let state = self.state();
            if let Some((offset, length)) = state.in_open.get(blob) {
                let frame = range(&state.open, *offset, *length).ok_or_else(gone)?;
                return unpacked(blob, frame);
            }
            let place = state.index.blobs.get(blob).copied();
            place.and_then(|place| Some((place, *state.index.packs.get(&place.pack)?)))
        };
        let (place, size) = place.ok_or_else(gone)?;
        let file = self.file(place.pack, size).await?;
        let blob = *blob;
        let read = move || unpacked(&blob, &read_at(&file, place)?);
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|_| Err(Fault::new(FaultKind::Internal, "reading was called off")))
    }

    async fn write_one(&self, blob: &CasDigest, bytes: Bytes) -> Result<(), Fault> {
        if is_empty_blob(blob) || self.has(blob) {
            return Ok(());
        }
        if blob.function != FUNCTION || blob.size > LARGEST_BLOB {
            return Err(Fault::new(
                FaultKind::Unsupported,
                format!("{blob} is none for a portable cache"),
            ));
        }
        if CasDigest::of(FUNCTION, &bytes) != *blob {
            return Err(Fault::invalid(format!("these are not the bytes of {blob}")));
        }
        let frame = zstd::bulk::compress(&bytes, LEVEL)
            .map_err(|error| Fault::new(FaultKind::Internal, "cannot compress").caused_by(error))?;
        let full = {
            let mut state = self.state();
            if state.in_open.contains_key(blob) {
                return Ok(());
            }
            let offset = state.open.len() as u64;
            state.open.extend_from_slice(&frame);
            let length = frame.len() as u64;
            state.in_open.insert(*blob, (offset, length));
            // A tree says in which packs a layer is, once they are closed.
            match tree_files(&bytes, FUNCTION) {
                Ok(chunks) if !chunks.is_empty() => state.note_tree(*blob, &chunks),
                // It is no tree.
                _ => {}
            }
            (state.open.len() >= FULL_PACK).then(|| state.close())
        };
        match full {
            Some((descriptor, bytes)) => self.keep(&descriptor, bytes).await,
            None => Ok(()),
        }
    }

    async fn keep(&self, descriptor: &Descriptor, bytes: Bytes) -> Result<(), Fault> {
        let kept = self.container.put_blob(descriptor, bytes).await;
        if kept.is_err() {
            self.state().is_broken = true;
        }
        kept
    }

    fn has(&self, blob: &CasDigest) -> bool {
        let state = self.state();
        is_empty_blob(blob)
            || state.in_open.contains_key(blob)
            || state.index.blobs.contains_key(blob)
    }

    /// Writes what is new.
    async fn finish(&self) -> Result<(), Fault> {
        let last = {
            let mut state = self.state();
            if !state.is_changed {
                return Ok(());
            }
            if state.is_broken {
                return Err(Fault::new(
                    FaultKind::Unavailable,
                    "not all could be kept, and so nothing is",
                ));
            }
            (!state.open.is_empty()).then(|| state.close())
        };
        if let Some((descriptor, bytes)) = last {
            self.keep(&descriptor, bytes).await?;
        }
        // Somebody else may have exported meanwhile.
        let there = self.container.manifest().await?;
        let other = match &there {
            Some(manifest) if self.state().manifest.as_ref() != Some(manifest) => {
                Some(read_index(self.container.as_ref(), manifest).await?)
            }
            _ => None,
        };
        let (index, packs) = {
            let mut state = self.state();
            if let Some(other) = other {
                state.index.merge(other);
            }
            state.index.prune();
            (state.index.to_bytes(), state.index.packs.clone())
        };
        let index = zstd::bulk::compress(&index, LEVEL)
            .map_err(|error| Fault::new(FaultKind::Internal, "cannot compress").caused_by(error))?;
        let digest = BlobDigest::of(&index);
        let config = Descriptor::new(INDEX_TYPE, digest, index.len() as u64);
        self.container.put_blob(&config, index.into()).await?;
        let layers: Vec<Descriptor> = packs
            .into_iter()
            .map(|(digest, size)| Descriptor::new(PACK_TYPE, digest, size))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": config,
            "layers": layers,
        });
        let manifest = Bytes::from(manifest.to_string());
        self.container.put_manifest(manifest.clone()).await?;
        let mut state = self.state();
        state.manifest = Some(manifest);
        state.is_changed = false;
        Ok(())
    }
}

impl State {
    /// Closes the pack that is being filled.
    fn close(&mut self) -> (Descriptor, Bytes) {
        let bytes = std::mem::take(&mut self.open);
        let pack = BlobDigest::of(&bytes);
        let size = bytes.len() as u64;
        self.index.packs.insert(pack, size);
        let blobs = std::mem::take(&mut self.in_open);
        for packs in self.index.trees.values_mut() {
            if packs.remove(&unclosed()) {
                packs.insert(pack);
            }
        }
        for (blob, (offset, length)) in blobs {
            let place = Place {
                pack,
                offset,
                length,
            };
            self.index.blobs.insert(blob, place);
        }
        self.is_changed = true;
        (Descriptor::new(PACK_TYPE, pack, size), bytes.into())
    }

    /// Notes the packs of a tree's chunks.
    fn note_tree(&mut self, tree: CasDigest, chunks: &[CasDigest]) {
        let packs: BTreeSet<BlobDigest> = chunks
            .iter()
            .filter_map(|chunk| {
                if self.in_open.contains_key(chunk) {
                    Some(unclosed())
                } else {
                    self.index.blobs.get(chunk).map(|place| place.pack)
                }
            })
            .collect();
        self.index.trees.insert(tree, packs);
    }
}

/// Stands for the pack that is being filled.
const fn unclosed() -> BlobDigest {
    BlobDigest::from_bytes([0; 32])
}

fn range(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(start..end)
}

fn read_at(file: &Path, place: Place) -> Result<Vec<u8>, Fault> {
    let read = || -> io::Result<Vec<u8>> {
        let file = std::fs::File::open(file)?;
        let length = usize::try_from(place.length).map_err(io::Error::other)?;
        let mut frame = vec![0; length];
        file.read_exact_at(&mut frame, place.offset)?;
        Ok(frame)
    };
    read().map_err(|error| {
        Fault::new(
            FaultKind::Internal,
            format!("cannot read {}", file.display()),
        )
        .caused_by(error)
    })
}

/// A blob out of its frame.
fn unpacked(blob: &CasDigest, frame: &[u8]) -> Result<Bytes, Fault> {
    let wrong = || Fault::invalid(format!("a pack has something else than {blob}"));
    let size = usize::try_from(blob.size).map_err(|_| wrong())?;
    let bytes = zstd::bulk::decompress(frame, size).map_err(|error| wrong().caused_by(error))?;
    if CasDigest::of(blob.function, &bytes) != *blob {
        return Err(wrong());
    }
    Ok(bytes.into())
}

async fn read_index(container: &dyn Container, manifest: &Bytes) -> Result<Index, Fault> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| Fault::invalid("this is no cache").caused_by(error))?;
    let is_cache = manifest.artifact_type.as_deref() == Some(ARTIFACT_TYPE)
        && manifest.config.media_type == INDEX_TYPE;
    if !is_cache {
        return Err(Fault::invalid("there is something else than a cache"));
    }
    let file = container.blob(&manifest.config).await?;
    let read = move || {
        let open = || -> io::Result<Vec<u8>> {
            use io::Read as _;
            let mut bytes = Vec::new();
            let decoder = zstd::stream::read::Decoder::new(std::fs::File::open(&file)?)?;
            decoder.take(LONGEST_INDEX as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes =
            open().map_err(|error| Fault::invalid("the index cannot be read").caused_by(error))?;
        Index::read(&bytes)
    };
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err(Fault::new(FaultKind::Internal, "reading was called off")))
}

/// A portable cache as the two stores of REAPI.
#[derive(Debug)]
pub(super) struct PortableStore(pub(super) Arc<Portable>);

impl BlobStore for PortableStore {
    fn missing<'a>(
        &'a self,
        blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        let missing = blobs.iter().filter(|blob| !self.0.has(blob));
        let missing = missing.copied().collect();
        Box::pin(std::future::ready(Ok(missing)))
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async move {
            let bytes = self.0.read_one(blob).await?;
            let part = slice(blob, &bytes, range)?;
            Ok(if part.is_empty() {
                nothing()
            } else {
                once(part)
            })
        })
    }

    fn write<'a>(
        &'a self,
        blob: &'a CasDigest,
        bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if blob.size > LARGEST_BLOB {
                let text = format!("{blob} is too large for a portable cache");
                return Err(Fault::new(FaultKind::Unsupported, text));
            }
            let bytes = collect_blob(bytes, blob).await?;
            self.0.write_one(blob, bytes).await
        })
    }
}

impl ActionCache for PortableStore {
    fn get<'a>(
        &'a self,
        keys: &'a [ActionKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>, Fault>> {
        let mut state = self.0.state();
        let State { index, in_open, .. } = &mut *state;
        let generation = index.generation;
        let found = keys.iter().map(|key| {
            let result = index.results.get(&key.action)?.result.clone();
            let has =
                |blob: &CasDigest| in_open.contains_key(blob) || index.blobs.contains_key(blob);
            if !index.is_complete(&result, has) {
                return None;
            }
            let entry = index.results.get_mut(&key.action)?;
            entry.generation = generation;
            Some(result)
        });
        let found = found.collect();
        drop(state);
        Box::pin(std::future::ready(Ok(found)))
    }

    fn put<'a>(
        &'a self,
        key: &'a ActionKey,
        result: Bytes,
        mode: PutMode,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        let mut state = self.0.state();
        let generation = state.index.generation;
        let there = state.index.results.get_mut(&key.action);
        let kept = match there {
            Some(entry) if mode == PutMode::IfAbsent => {
                entry.generation = generation;
                entry.result.clone()
            }
            _ => {
                let entry = Entry {
                    result: result.clone(),
                    generation,
                };
                state.index.results.insert(key.action, entry);
                state.is_changed = true;
                result
            }
        };
        drop(state);
        Box::pin(std::future::ready(Ok(kept)))
    }

    fn remove<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<bool, Fault>> {
        let removed = self.0.state().index.results.remove(&key.action).is_some();
        Box::pin(std::future::ready(Ok(removed)))
    }

    fn swap<'a>(
        &'a self,
        _key: &'a ActionKey,
        _old: Option<&'a Bytes>,
        _new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Fault>> {
        no_swap()
    }
}

impl Closing for PortableStore {
    fn close(&self) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.0.finish())
    }
}

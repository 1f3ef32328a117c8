//! Files of a context from a store: first what they are, then, when a copy needs them, the files.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::digest::FileDigest;
use ashlar_model::layer::LayerPath;
use ashlar_model::step::Selection;
use ashlar_store::BlobStore;
use ashlar_store::home::quota::Meter;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::contents::{Content, Files};
use super::manifest::{Blob, Manifest, Part, decode_listing, parts};
use super::place::{Below, Ground};
use super::send::blocking;
use super::{ContextError, ContextRef, Limits};
use crate::patience::patiently;

/// So many bytes are read at once, and so often at the same time.
const AT_ONCE: u64 = 3 << 20;
const READS: usize = 4;

const LIST: &str = "read from the farm which files a step copies";
const FETCH: &str = "fetch files of the context from the farm";

/// What a selection is, without its files.
#[derive(Debug, Clone)]
pub struct Listing {
    selection: Arc<Selection>,
    files: Arc<Files>,
    blobs: Vec<CasDigest>,
    parts: Vec<Part>,
}

impl Listing {
    /// The selection.
    pub const fn selection(&self) -> &Arc<Selection> {
        &self.selection
    }

    /// How many bytes its files have, each content once.
    pub fn bytes(&self) -> u64 {
        self.files.bytes
    }
}

/// Reads what a selection is. All of it is checked but whether the files are those of the digests.
pub async fn list(
    store: &Arc<dyn BlobStore>,
    reference: &ContextRef,
    limits: &Limits,
) -> Result<Listing, ContextError> {
    let function = reference.manifest.function;
    if reference.manifest.size > limits.manifest {
        return Err(ContextError::TooLarge("its manifest is too long"));
    }
    let manifest = read(store, &[reference.manifest], LIST).await?;
    let manifest = Manifest::decode(&manifest.concat())?;
    let length: u64 = sizes(&manifest.listing);
    let bytes: u64 = sizes(&manifest.contents);
    if length > limits.listing {
        return Err(ContextError::TooLarge("it has too many files"));
    }
    if bytes > limits.contents {
        return Err(ContextError::TooLarge("its files have too many bytes"));
    }
    let chunks = digests(&manifest.listing, function);
    let listing = read(store, &chunks, LIST).await?;
    blocking(move || {
        let selection = decode_listing(&listing.concat())?;
        let files = Files::of(&selection)?;
        check_places(&files)?;
        Ok(Listing {
            selection: Arc::new(selection),
            parts: parts(&manifest.contents, &files.contents)?,
            blobs: digests(&manifest.contents, function),
            files: Arc::new(files),
        })
    })
    .await
}

/// Files that [`fetch`] has brought into a directory, and that are still as they were.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Where they are.
    pub directory: PathBuf,
    /// What they are.
    pub listing: Listing,
}

/// Brings the files below `directory`, which is there and empty. Each is where the selection says,
/// with its contents; all else that the selection says of it is not on the disk. What is `near`, on
/// the same filesystem, is not fetched and not made, but has a name more: to remove many files and to
/// make as many anew takes some filesystems long (ext4 looks at all that it has removed lately).
pub async fn fetch(
    store: &Arc<dyn BlobStore>,
    listing: &Listing,
    directory: &Path,
    meter: &Meter,
    near: &[Fetched],
) -> Result<(), ContextError> {
    let mut target = Target {
        directory: directory.into(),
        meter: meter.clone(),
        files: Arc::clone(&listing.files),
        is_here: Arc::from([]),
    };
    let (near, adopting) = (near.to_vec(), target.clone());
    target.is_here = blocking(move || adopting.adopt(&near)).await?;
    stream::iter(jobs(listing, &target.is_here))
        .map(|job| run(store, listing, &target, job))
        .buffer_unordered(READS)
        .try_collect::<Vec<()>>()
        .await?;
    blocking(move || target.finish()).await
}

/// A path has one content, whatever items name it.
fn check_places(files: &Files) -> Result<(), ContextError> {
    let mut places: HashMap<&LayerPath, Option<usize>> = HashMap::new();
    for file in &files.files {
        if file.path.is_root() {
            return Err(ContextError::Malformed("the context is a file"));
        }
        let before = places.insert(&file.path, file.content);
        if before.is_some_and(|before| before != file.content) {
            return Err(ContextError::Malformed("one path is two files"));
        }
    }
    Ok(())
}

fn sizes(blobs: &[Blob]) -> u64 {
    blobs.iter().map(|blob| u64::from(blob.size)).sum()
}

fn digests(blobs: &[Blob], function: DigestFunction) -> Vec<CasDigest> {
    blobs.iter().map(|blob| blob.digest(function)).collect()
}

async fn read(
    store: &Arc<dyn BlobStore>,
    blobs: &[CasDigest],
    what: &'static str,
) -> Result<Vec<Bytes>, ContextError> {
    let read = || async {
        let answers = store.read_many(blobs).await;
        answers.into_iter().collect::<Result<Vec<Bytes>, _>>()
    };
    let answers = patiently(read)
        .await
        .map_err(|source| ContextError::Store { what, source })?;
    // Stores check what they give, or trust their disk: here nobody is trusted.
    let sound = |(blob, bytes): (&CasDigest, &Bytes)| CasDigest::of(blob.function, bytes) == *blob;
    if answers.len() == blobs.len() && blobs.iter().zip(&answers).all(sound) {
        Ok(answers)
    } else {
        Err(ContextError::Malformed("a blob is not that of its digest"))
    }
}

/// What is fetched in one go: bundles together, or a file of several blobs. Nothing of which all is
/// here.
fn jobs(listing: &Listing, is_here: &[bool]) -> Vec<Vec<Part>> {
    let mut jobs: Vec<Vec<Part>> = Vec::new();
    let mut open = 0_u64;
    let is_missing = |part: &&Part| match part {
        Part::Chunked { content, .. } => !is_here[*content],
        Part::Bundle { first, end, .. } => is_here[*first..*end].contains(&false),
    };
    for part in listing.parts.iter().filter(is_missing) {
        match part {
            Part::Chunked { .. } => {
                jobs.push(vec![part.clone()]);
                open = 0;
            }
            Part::Bundle { blob, .. } => {
                let size = listing.blobs[*blob].size;
                match jobs.last_mut() {
                    Some(job) if open > 0 && open + size <= AT_ONCE => {
                        job.push(part.clone());
                        open += size;
                    }
                    _ => {
                        jobs.push(vec![part.clone()]);
                        open = size;
                    }
                }
            }
        }
    }
    jobs
}

#[derive(Debug, Clone)]
struct Target {
    directory: Arc<Path>,
    meter: Meter,
    files: Arc<Files>,
    /// Which of the contents need not be fetched.
    is_here: Arc<[bool]>,
}

async fn run(
    store: &Arc<dyn BlobStore>,
    listing: &Listing,
    target: &Target,
    job: Vec<Part>,
) -> Result<(), ContextError> {
    if let [
        Part::Chunked {
            first,
            end,
            content,
        },
    ] = *job.as_slice()
    {
        let mut giant = target.begin(content).await?;
        let mut rest = &listing.blobs[first..end];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|blob| {
                bytes += blob.size;
                bytes <= AT_ONCE
            });
            let (now, later) = rest.split_at(fits.count().max(1));
            let chunks = read(store, now, FETCH).await?;
            giant = giant.append(chunks).await?;
            rest = later;
        }
        return giant.finish();
    }
    let blobs = job.iter().filter_map(|part| match part {
        Part::Bundle { blob, .. } => Some(listing.blobs[*blob]),
        Part::Chunked { .. } => None,
    });
    let bundles = read(store, &blobs.collect::<Vec<_>>(), FETCH).await?;
    let target = target.clone();
    blocking(move || {
        let mut ground = target.ground()?;
        for (part, mut bundle) in job.iter().zip(bundles) {
            let Part::Bundle { first, end, .. } = *part else {
                continue;
            };
            let contents = target.files.contents[first..end].iter();
            for (content, is_here) in contents.zip(&target.is_here[first..end]) {
                let size = usize::try_from(content.size).unwrap_or(usize::MAX);
                // The parts were fitted to the contents.
                let bytes = bundle.split_to(size.min(bundle.len()));
                if *is_here {
                    continue;
                }
                if blake3::hash(&bytes).as_bytes() != content.digest.as_bytes() {
                    return Err(corrupt(content));
                }
                ground.write(&content.path, &bytes)?;
            }
        }
        Ok(())
    })
    .await
}

fn corrupt(content: &Content) -> ContextError {
    ContextError::Corrupt {
        path: content.path.to_string(),
    }
}

impl Target {
    fn ground(&self) -> Result<Ground, ContextError> {
        Ground::open(&self.directory, &self.meter)
    }

    /// Takes over what is near. Gives which of the contents that are.
    fn adopt(&self, near: &[Fetched]) -> Result<Arc<[bool]>, ContextError> {
        let mut is_here = vec![false; self.files.contents.len()];
        if near.is_empty() {
            return Ok(is_here.into());
        }
        let mut ground = self.ground()?;
        for fetched in near {
            let Ok(mut below) = Below::open(&fetched.directory) else {
                continue;
            };
            let contents = fetched.listing.files.contents.iter();
            let known: HashMap<&FileDigest, &Content> =
                contents.map(|content| (&content.digest, content)).collect();
            for (content, is_here) in self.files.contents.iter().zip(&mut is_here) {
                let old = known.get(&content.digest).filter(|_| !*is_here);
                if let Some(old) = old {
                    *is_here =
                        ground.adopt(&mut below, (&old.path, content.size), &content.path)?;
                }
            }
        }
        Ok(is_here.into())
    }

    async fn begin(&self, content: usize) -> Result<Giant, ContextError> {
        let target = self.clone();
        blocking(move || {
            let content = target.files.contents[content].clone();
            let mut ground = target.ground()?;
            let file = ground.begin(&content.path, content.size)?;
            Ok(Giant {
                ground,
                content,
                file,
                hasher: blake3::Hasher::new(),
            })
        })
        .await
    }

    /// Makes empty files, and the other names of contents that several files have.
    fn finish(&self) -> Result<(), ContextError> {
        let mut ground = self.ground()?;
        let mut seen = std::collections::HashSet::new();
        for file in &self.files.files {
            if !seen.insert(&file.path) {
                continue;
            }
            match file
                .content
                .and_then(|content| self.files.contents.get(content))
            {
                None => ground.write(&file.path, b"")?,
                Some(content) if content.path == file.path => {}
                Some(content) => ground.link(&content.path, &file.path)?,
            }
        }
        Ok(())
    }
}

/// A file that comes in chunks.
struct Giant {
    ground: Ground,
    content: Content,
    file: File,
    hasher: blake3::Hasher,
}

impl Giant {
    async fn append(mut self, chunks: Vec<Bytes>) -> Result<Self, ContextError> {
        blocking(move || {
            for chunk in chunks {
                self.hasher.update(&chunk);
                let written = self.file.write_all(&chunk);
                written.map_err(|source| self.ground.unwritable(&self.content.path, source))?;
            }
            Ok(self)
        })
        .await
    }

    fn finish(self) -> Result<(), ContextError> {
        if self.hasher.finalize().as_bytes() == self.content.digest.as_bytes() {
            Ok(())
        } else {
            Err(corrupt(&self.content))
        }
    }
}

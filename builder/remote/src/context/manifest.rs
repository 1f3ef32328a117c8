//! Manifest and listing as bytes.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::step::Selection;
use bytes::Bytes;
use fastcdc::v2020::{FastCDC, Normalization};
use serde::{Deserialize, Serialize};

use super::contents::Content;
use super::group::LONGEST_BLOB;
use super::{ContextError, check};

/// The version of manifests that is written. Readers know no other.
const VERSION: u32 = 1;

/// Chunks of a listing. An entry has about 100 bytes.
const SHORTEST_CHUNK: usize = 8 << 10;
const AVERAGE_CHUNK: usize = 32 << 10;
const LONGEST_CHUNK: usize = 128 << 10;

/// A blob, whose function is that of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Blob {
    pub(super) hash: [u8; 32],
    pub(super) size: u32,
}

/// What the blobs of a selection are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    /// Put together they are the listing.
    pub(super) listing: Vec<Blob>,
    /// Put together they are all contents.
    pub(super) contents: Vec<Blob>,
}

impl Blob {
    pub(super) fn of(digest: &CasDigest) -> Self {
        Self {
            hash: digest.hash,
            // No blob of a context is longer than `LONGEST_BLOB`.
            size: u32::try_from(digest.size).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn digest(self, function: DigestFunction) -> CasDigest {
        CasDigest {
            function,
            hash: self.hash,
            size: self.size.into(),
        }
    }
}

impl Manifest {
    pub(super) const fn new(listing: Vec<Blob>, contents: Vec<Blob>) -> Self {
        Self {
            version: VERSION,
            listing,
            contents,
        }
    }

    pub(super) fn encode(&self) -> Result<Bytes, ContextError> {
        let bytes = postcard::to_stdvec(self).map_err(ContextError::broken_off)?;
        Ok(bytes.into())
    }

    /// Reads a manifest; what its blobs are said to be is checked as far as it shows here.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ContextError> {
        // Another version may have other fields.
        let version = postcard::take_from_bytes::<u32>(bytes);
        if !version.is_ok_and(|(version, _)| version == VERSION) {
            return Err(ContextError::Malformed(
                "its manifest is of another version",
            ));
        }
        let Ok((manifest, rest)) = postcard::take_from_bytes::<Self>(bytes) else {
            return Err(ContextError::Malformed("its manifest cannot be read"));
        };
        if !rest.is_empty() {
            return Err(ContextError::Malformed("its manifest has too much"));
        }
        let mut blobs = manifest.listing.iter().chain(&manifest.contents);
        if blobs.any(|blob| blob.size == 0 || u64::from(blob.size) > LONGEST_BLOB) {
            return Err(ContextError::Malformed("a blob is too long"));
        }
        Ok(manifest)
    }
}

/// A selection as chunks.
pub(super) fn encode_listing(selection: &Selection) -> Result<Vec<Bytes>, ContextError> {
    let bytes = postcard::to_stdvec(selection).map_err(ContextError::broken_off)?;
    let bytes = Bytes::from(bytes);
    let level = Normalization::Level2;
    let cutter = FastCDC::with_level(&bytes, SHORTEST_CHUNK, AVERAGE_CHUNK, LONGEST_CHUNK, level);
    let chunks = cutter.map(|chunk| bytes.slice(chunk.offset..chunk.offset + chunk.length));
    Ok(chunks.collect())
}

/// A selection from a listing that somebody else made.
pub(super) fn decode_listing(bytes: &[u8]) -> Result<Selection, ContextError> {
    let Ok((selection, rest)) = postcard::take_from_bytes::<Selection>(bytes) else {
        return Err(ContextError::Malformed("its listing cannot be read"));
    };
    if !rest.is_empty() {
        return Err(ContextError::Malformed("its listing has too much"));
    }
    check::check(&selection)?;
    Ok(selection)
}

/// What contents are in blobs: as [`Piece`](super::group::Piece), but known from the blobs' sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// One blob has these contents, whole.
    Bundle {
        blob: usize,
        first: usize,
        end: usize,
    },
    /// One content is these blobs.
    Chunked {
        first: usize,
        end: usize,
        content: usize,
    },
}

/// Fits blobs to contents. Fails unless each blob is some contents or part of one.
pub(super) fn parts(blobs: &[Blob], contents: &[Content]) -> Result<Vec<Part>, ContextError> {
    let wrong = || ContextError::Malformed("its blobs do not fit its files");
    let mut parts = Vec::new();
    let mut next = 0;
    let mut content = 0;
    while let Some(blob) = blobs.get(next) {
        let size = u64::from(blob.size);
        let mut held = 0;
        let first = content;
        while let Some(this) = contents.get(content)
            && held + this.size <= size
        {
            held += this.size;
            content += 1;
        }
        if held == size {
            parts.push(Part::Bundle {
                blob: next,
                first,
                end: content,
            });
            next += 1;
            continue;
        }
        let this = contents.get(content).ok_or_else(wrong)?;
        if held > 0 {
            return Err(wrong());
        }
        let start = next;
        while held < this.size
            && let Some(blob) = blobs.get(next)
        {
            held += u64::from(blob.size);
            next += 1;
        }
        if held != this.size {
            return Err(wrong());
        }
        parts.push(Part::Chunked {
            first: start,
            end: next,
            content,
        });
        content += 1;
    }
    if content == contents.len() {
        Ok(parts)
    } else {
        Err(wrong())
    }
}

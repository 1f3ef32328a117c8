//! Files of a context into blobs. Each file is checked against the digest that it was hashed to.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ashlar_exec::layer::tree::Root;
use ashlar_model::cas::{CasDigest, DigestFunction};
use bytes::Bytes;
use fastcdc::v2020::{FastCDC, Normalization};
use rustix::io::Errno;

use super::ContextError;
use super::contents::Content;
use super::group::{LONGEST_BLOB, Piece};

/// Chunks of a giant file.
const SHORTEST_CHUNK: usize = 256 << 10;
const AVERAGE_CHUNK: usize = 1 << 20;
const LONGEST_CHUNK: usize = 2 << 20;
const _: () = assert!(LONGEST_CHUNK as u64 == LONGEST_BLOB, "chunks are blobs");

/// A giant file is read in pieces of so many bytes.
const READ_AT_ONCE: usize = 4 * LONGEST_CHUNK;

/// Reads files of a context.
#[derive(Debug)]
pub(super) struct FileReader {
    path: PathBuf,
    root: Root,
    function: DigestFunction,
}

impl FileReader {
    pub(super) fn open(root: &Path, function: DigestFunction) -> Result<Self, ContextError> {
        let opened = Root::open(root).map_err(|source| ContextError::Read {
            path: root.to_owned(),
            source,
        })?;
        Ok(Self {
            path: root.to_owned(),
            root: opened,
            function,
        })
    }

    /// Reads a piece and hands its blobs over, in order. What was handed over before it failed is
    /// of no use.
    pub(super) fn read(
        &self,
        piece: Piece,
        contents: &[Content],
        mut give: impl FnMut(CasDigest, Bytes) -> Result<(), ContextError>,
    ) -> Result<(), ContextError> {
        match piece {
            Piece::Bundle { first, end } => {
                let contents = &contents[first..end];
                let bytes: u64 = contents.iter().map(|content| content.size).sum();
                let mut bundle = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
                for content in contents {
                    self.append(content, &mut bundle)?;
                }
                give(CasDigest::of(self.function, &bundle), bundle.into())
            }
            Piece::Chunked(index) => self.chunks(&contents[index], |chunk| {
                give(CasDigest::of(self.function, &chunk), chunk)
            }),
        }
    }

    fn append(&self, content: &Content, bundle: &mut Vec<u8>) -> Result<(), ContextError> {
        let start = bundle.len();
        // One more than there should be shows a file that has grown.
        let mut file = self.file(content)?.take(content.size + 1);
        file.read_to_end(bundle)
            .map_err(|source| self.unreadable(content, source))?;
        let bytes = &bundle[start..];
        let is_same = bytes.len() as u64 == content.size
            && blake3::hash(bytes).as_bytes() == content.digest.as_bytes();
        is_same.then_some(()).ok_or_else(|| self.changed(content))
    }

    fn chunks(
        &self,
        content: &Content,
        mut give: impl FnMut(Bytes) -> Result<(), ContextError>,
    ) -> Result<(), ContextError> {
        let mut file = self.file(content)?.take(content.size + 1);
        let mut hasher = blake3::Hasher::new();
        let mut length = 0;
        let mut collected = Vec::new();
        loop {
            let kept = collected.len();
            let room = (READ_AT_ONCE - kept) as u64;
            let read = (&mut file).take(room).read_to_end(&mut collected);
            let read = read.map_err(|source| self.unreadable(content, source))?;
            hasher.update(&collected[kept..]);
            length += read as u64;
            let is_last = (read as u64) < room;
            let bytes = Bytes::from(std::mem::take(&mut collected));
            let mut start = 0;
            while start < bytes.len() && (bytes.len() - start >= LONGEST_CHUNK || is_last) {
                let end = start + first_chunk(&bytes[start..]);
                // Not a part of the whole, which would be kept as long as one chunk of it.
                give(Bytes::copy_from_slice(&bytes[start..end]))?;
                start = end;
            }
            if is_last {
                break;
            }
            collected.extend_from_slice(&bytes[start..]);
        }
        let is_same =
            length == content.size && hasher.finalize().as_bytes() == content.digest.as_bytes();
        is_same.then_some(()).ok_or_else(|| self.changed(content))
    }

    fn file(&self, content: &Content) -> Result<File, ContextError> {
        match self.root.open_file(&content.path) {
            Ok(file) => Ok(File::from(file)),
            // What was a file is none any more, or not there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {
                Err(self.changed(content))
            }
            Err(errno) => Err(self.unreadable(content, errno.into())),
        }
    }

    fn changed(&self, content: &Content) -> ContextError {
        ContextError::Changed {
            path: self.path.join(content.path.as_path()),
        }
    }

    fn unreadable(&self, content: &Content, source: io::Error) -> ContextError {
        ContextError::Read {
            path: self.path.join(content.path.as_path()),
            source,
        }
    }
}

/// The length of the first chunk of bytes that are as long as the longest, or the last.
fn first_chunk(bytes: &[u8]) -> usize {
    let level = Normalization::Level2;
    let cutter = FastCDC::with_level(bytes, SHORTEST_CHUNK, AVERAGE_CHUNK, LONGEST_CHUNK, level);
    cutter.cut(0, bytes.len()).1
}

//! Chunks into the tar of a layer of the store.
//!
//! ```text
//!  chunks ─▶ tar ─┬─▶ a temporary file ─▶ renamed, once all of it is right
//!                 ├─▶ reading it as a tar: SHA-256, index
//!                 └─▶ whoever else wants it, while it comes
//! ```
//!
//! So the layer need not be read again to be listed or copied from, and what is not the layer that
//! it should be never gets its name.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ashlar_model::digest::{ContentDigest, DiffId};
use ashlar_model::layer::LayerRecord;
use ashlar_store::home::quota::Metered;
use ashlar_store::home::{Home, StoreError};
use bytes::{Buf as _, Bytes};

use super::{AssembleError, ChunkSource, assemble};
use crate::layer::unpack::{UnpackError, Unpacked, index_only};

/// Bytes of the tar that are handed on at a time.
const PIECE: usize = 256 * 1024;
/// Pieces that may wait for the reader.
const WAITING: usize = 4;

/// Why a layer was not received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A chunk cannot be had.
    #[error("a chunk of the layer cannot be had")]
    Source(#[source] io::Error),
    /// What came is not the layer: the cache has something wrong, or said something wrong.
    #[error("what came is not the layer")]
    Wrong(#[from] WrongLayer),
    /// This machine failed.
    #[error("the local store failed")]
    Store(#[from] StoreError),
}

/// What is wrong with a layer that was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WrongLayer {
    /// Its chunks are not those of such a layer.
    #[error(transparent)]
    Chunks(AssembleError),
    /// It is no tar of a layer.
    #[error(transparent)]
    Tar(UnpackError),
    /// Its digest is another one.
    #[error("its tar has the digest {found}, not {expected}")]
    DiffId {
        /// What it is.
        found: DiffId,
        /// What it should be.
        expected: DiffId,
    },
    /// It contains something else than its record says.
    #[error("its files are not those that its record speaks of")]
    Content {
        /// What it contains.
        found: ContentDigest,
        /// What it should contain.
        expected: ContentDigest,
    },
    /// Its record says too little to tell whether it is right.
    #[error("its record does not say what its tar is")]
    Unknown,
}

/// Somebody who takes a layer's tar while it comes, as long as he likes. He must see himself whether
/// it was the right one: it ends early if it could not be had.
pub struct Beside(Pipe);

enum Pipe {
    /// Not a byte has come so far.
    Waiting(Box<dyn FnOnce() -> Option<File> + Send>),
    Open(File),
    Closed,
}

impl Beside {
    /// At the other end of a pipe, which is asked for when the first bytes have come.
    pub fn new(open: impl FnOnce() -> Option<File> + Send + 'static) -> Self {
        Self(Pipe::Waiting(Box::new(open)))
    }

    fn take(&mut self, bytes: &[u8]) {
        self.0 = match std::mem::replace(&mut self.0, Pipe::Closed) {
            Pipe::Waiting(open) => open().map_or(Pipe::Closed, Pipe::Open),
            pipe => pipe,
        };
        if let Pipe::Open(file) = &mut self.0
            && file.write_all(bytes).is_err()
        {
            self.0 = Pipe::Closed;
        }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").finish_non_exhaustive()
    }
}

/// Puts the tar of a layer together where the store keeps it, and stores its index. On an error
/// nothing is there.
///
/// Blocks; to be called beside a runtime, by one for each layer at a time.
pub fn receive(
    home: &Home,
    layer: &LayerRecord,
    source: &mut (impl ChunkSource + ?Sized),
    beside: Option<Beside>,
) -> Result<(), ReceiveError> {
    let (Some(expected), Some(size)) = (layer.diff_id, layer.tar_size) else {
        return Err(WrongLayer::Unknown.into());
    };
    let scratch = home.scratch()?;
    let path = scratch.path().join("tar");
    let received = write_tar(home, &path, size, source, beside).and_then(|read| {
        if read.diff_id != expected {
            let found = read.diff_id;
            return Err(WrongLayer::DiffId { found, expected }.into());
        }
        let found = read.index.content_digest();
        if let Some(expected) = layer.content.filter(|expected| *expected != found) {
            return Err(WrongLayer::Content { found, expected }.into());
        }
        if home.layer_index(&layer.id)?.is_none() {
            home.put_layer_index(&layer.id, &read.index)?;
        }
        keep(&path, &home.tar_path(&layer.id))
    });
    // What stays is swept later.
    let _ignored = fs::remove_dir_all(scratch.path());
    received
}

fn keep(path: &Path, kept: &Path) -> Result<(), ReceiveError> {
    if let Some(parent) = kept.parent() {
        fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
    }
    fs::rename(path, kept).map_err(|e| StoreError::io("rename", path, e))?;
    Ok(())
}

/// Writes the tar and reads it at the same time.
fn write_tar(
    home: &Home,
    path: &Path,
    size: u64,
    source: &mut (impl ChunkSource + ?Sized),
    beside: Option<Beside>,
) -> Result<Unpacked, ReceiveError> {
    let writing = |e| StoreError::io("write", path, e);
    let file = File::create_new(path).map_err(writing)?;
    thread::scope(|scope| {
        let (pieces, read) = sync_channel(WAITING);
        let reading = scope.spawn(move || {
            index_only(Pieces {
                read,
                piece: Bytes::new(),
            })
        });
        let mut tee = Tee {
            file: Metered::new(file, home.meter()),
            piece: Vec::with_capacity(PIECE),
            pieces: Some(pieces),
            beside,
        };
        let assembled = assemble(source, Some(size), &mut tee)
            .and_then(|()| tee.finish().map_err(AssembleError::Write));
        if assembled.is_err() {
            // The reader fails too, for the tar seems to end too early: that is not why.
            tee.pieces = None;
        }
        let read = reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match assembled {
            Ok(()) => Ok(read.map_err(WrongLayer::Tar)?),
            Err(AssembleError::Source(error)) => Err(ReceiveError::Source(error)),
            Err(AssembleError::Write(error)) => Err(writing(error).into()),
            Err(error @ AssembleError::Malformed(_)) => Err(WrongLayer::Chunks(error).into()),
        }
    })
}

/// A tar on its way into a file and to a reader.
struct Tee<W> {
    file: W,
    piece: Vec<u8>,
    /// `None` once all was handed on, or the reader has failed, which is told at the end.
    pieces: Option<SyncSender<Bytes>>,
    beside: Option<Beside>,
}

impl<W: Write> Tee<W> {
    fn hand_on(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let piece = Bytes::from(piece);
        self.file.write_all(&piece)?;
        if let Some(beside) = &mut self.beside {
            beside.take(&piece);
        }
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).is_err()
        {
            self.pieces = None;
        }
        Ok(())
    }

    /// Hands the rest on, and tells the reader that it was the rest.
    fn finish(&mut self) -> io::Result<()> {
        self.hand_on()?;
        self.pieces = None;
        self.file.flush()
    }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.piece.len() == PIECE {
            self.hand_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reader's end.
struct Pieces {
    read: Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.read.recv() {
                Ok(piece) => self.piece = piece,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

//! Large blobs: a file for each.
//!
//! ```text
//! the blob's bytes
//! 8 bytes for each 256 KiB of them: the beginning of the block's BLAKE3
//! ```
//!
//! The file is called after its digest, which was checked when the bytes came. The checksums let a
//! reader check each block, and so each part of a blob, before giving it out.
//!
//! A file is written under a temporary name and gets its own name, durably, by the commit that
//! puts it into the index.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ashlar_model::cas::CasDigest;
use bytes::Bytes;

use super::layout::fault;
use super::record::checksum;
use crate::checked::Check;
use crate::fault::Fault;

/// Blocks are checked, read and given out whole; gRPC is fastest with messages of this size.
pub(super) const BLOCK: usize = 256 << 10;

/// Length of a checksum.
const CHECKSUM: usize = 8;

const fn blocks(length: u64) -> u64 {
    length.div_ceil(BLOCK as u64)
}

/// How large the file of a blob is.
pub(super) const fn disk_size(length: u64) -> u64 {
    length + CHECKSUM as u64 * blocks(length)
}

/// A file that is being written. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Incoming {
    path: PathBuf,
    file: File,
    check: Check,
    /// The bytes of the block that is not full yet.
    block: Vec<u8>,
    checksums: Vec<u8>,
}

/// A file whose bytes are those of its digest, and on disk. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Finished {
    path: PathBuf,
}

impl Drop for Finished {
    fn drop(&mut self) {
        // It has another name once it was stored. What cannot be removed now is removed when the
        // store is opened the next time.
        let _ignored = fs::remove_file(&self.path);
    }
}

impl Finished {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Incoming {
    pub(super) fn create(path: PathBuf, blob: &CasDigest) -> Result<(Finished, Self), Fault> {
        let file = File::create_new(&path).map_err(fault("create", &path))?;
        let incoming = Self {
            path: path.clone(),
            file,
            check: Check::new(blob),
            block: Vec::with_capacity(BLOCK),
            checksums: Vec::new(),
        };
        Ok((Finished { path }, incoming))
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        self.check.update(bytes)?;
        while !bytes.is_empty() {
            let length = bytes.len().min(BLOCK - self.block.len());
            let (now, later) = bytes.split_at(length);
            bytes = later;
            if self.block.is_empty() && now.len() == BLOCK {
                self.put_block(now)?;
            } else {
                self.block.extend_from_slice(now);
                if self.block.len() == BLOCK {
                    self.flush_block()?;
                }
            }
        }
        Ok(())
    }

    fn put_block(&mut self, block: &[u8]) -> Result<(), Fault> {
        self.checksums.extend_from_slice(&checksum(block));
        self.file
            .write_all(block)
            .map_err(fault("write", &self.path))
    }

    fn flush_block(&mut self) -> Result<(), Fault> {
        let block = std::mem::take(&mut self.block);
        self.put_block(&block)?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    /// Fails unless the bytes are those of the digest; then they are on disk.
    pub(super) fn finish(mut self) -> Result<(), Fault> {
        if !self.block.is_empty() {
            self.flush_block()?;
        }
        self.check.finish()?;
        let mut write = || -> io::Result<()> {
            self.file.write_all(&self.checksums)?;
            self.file.sync_data()
        };
        write().map_err(fault("write", &self.path))
    }
}

/// A large blob to read.
#[derive(Debug)]
pub(super) struct LargeFile {
    file: File,
    length: u64,
    checksums: Vec<u8>,
}

/// What became of a read.
#[derive(Debug)]
pub(super) enum LargeRead {
    Bytes(Bytes),
    Damaged,
}

impl LargeFile {
    /// Opens a blob's file. `None` if there is none; one of the wrong size has damaged blocks.
    pub(super) fn open(path: &Path, length: u64) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = usize::try_from(CHECKSUM as u64 * blocks(length)).unwrap_or(usize::MAX);
        let mut checksums = Vec::new();
        if file.metadata()?.len() == disk_size(length) {
            checksums.resize(size, 0);
            file.read_exact_at(&mut checksums, length)?;
        }
        Ok(Some(Self {
            file,
            length,
            checksums,
        }))
    }

    /// The number of the block that a byte is in, and where that begins.
    pub(super) const fn block_of(offset: u64) -> (u64, u64) {
        let block = offset / BLOCK as u64;
        (block, block * BLOCK as u64)
    }

    /// Reads a block and checks it.
    pub(super) fn block(&self, number: u64) -> io::Result<LargeRead> {
        let start = number * BLOCK as u64;
        let length = self.length.saturating_sub(start).min(BLOCK as u64);
        let place = usize::try_from(number * CHECKSUM as u64).unwrap_or(usize::MAX);
        let expected = self.checksums.get(place..place.saturating_add(CHECKSUM));
        let (Some(expected), Ok(length)) = (expected, usize::try_from(length)) else {
            return Ok(LargeRead::Damaged);
        };
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, start) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(LargeRead::Damaged),
            Err(error) => Err(error),
            Ok(()) if checksum(&bytes) != expected => Ok(LargeRead::Damaged),
            Ok(()) => Ok(LargeRead::Bytes(bytes.into())),
        }
    }

    /// How many blocks there are.
    pub(super) const fn blocks(&self) -> u64 {
        blocks(self.length)
    }
}

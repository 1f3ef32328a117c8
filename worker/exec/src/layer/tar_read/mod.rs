//! Reading tars that others made.
//!
//! Reads what layers are found to be made of: v7, ustar, star, GNU (long names, numbers in
//! base 256, sparse files) and PAX (also its sparse files, versions 0.0, 0.1 and 1.0). Where
//! readers differ, this one does as Go's `archive/tar`, through which nearly all layers are made
//! and read, so that nothing can be in a layer for us that is not there for registries' scanners
//! and other engines, or the other way round:
//!
//! - A PAX record wins over a GNU long name, and both over the header; the `size` record always
//!   says how many bytes follow.
//! - Only regular files have bytes after their header, whatever the header's size says.
//! - Global PAX headers are skipped.
//! - A tar ends with two blocks of zeros or with its last byte; what follows the zeros is nothing.
//!
//! Nothing read from a header is trusted: numbers are checked, and no more than one mebibyte of
//! names and records is ever kept of an entry.
//!
//! | module | subject |
//! |---|---|
//! | `header` | the 512 bytes before each entry |
//! | `pax` | PAX records |
//! | `entry` | what header, records and long names together say |
//! | `sparse` | which bytes of a sparse file are stored |
//! | `error` | what can be wrong |

mod entry;
mod error;
pub(super) mod header;
pub(super) mod pax;
mod sparse;

use std::fmt;
use std::io::{self, Read};

use self::entry::LongNames;
pub use self::entry::{TarEntry, TarKind};
pub use self::error::{Damage, TarError};
use self::header::{BLOCK, Header};
use self::pax::Records;
use self::sparse::{Piece, SparseMap};

/// Longest name or set of records that is read. Go's `archive/tar` has the same limit.
pub(super) const MAX_SPECIAL: u64 = 1024 * 1024;

/// Reads a tar from front to end. As a [`Read`], gives the bytes of the entry that
/// [`next_entry`](Self::next_entry) gave last.
pub struct TarReader<R> {
    input: R,
    /// Bytes read so far.
    offset: u64,
    /// Stored bytes of the present entry that are not read yet, and the padding after them.
    stored: u64,
    padding: u64,
    /// Which of the present entry's bytes are stored, if it is sparse.
    sparse: Option<SparseMap>,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// Of the uncompressed tar `input`, which should be buffered.
    pub const fn new(input: R) -> Self {
        Self {
            input,
            offset: 0,
            stored: 0,
            padding: 0,
            sparse: None,
            ended: false,
        }
    }

    /// The next entry; `None` at the end. What was not read of the present one is skipped.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut records: Option<Records> = None;
        let mut long = LongNames::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.read_header()? else {
                if records.is_some() || long != LongNames::default() {
                    return Err(self.damage(Damage::Truncated));
                }
                self.ended = true;
                return Ok(None);
            };
            match header.type_flag() {
                b'x' => {
                    let bytes = self.read_special(&header)?;
                    records = Some(Records::parse(&bytes).map_err(|d| self.damage(d))?);
                }
                b'g' => self.skip_special(&header)?,
                b'L' => long.name = Some(until_nul(self.read_special(&header)?)),
                b'K' => long.link = Some(until_nul(self.read_special(&header)?)),
                _ => {
                    let records = records.unwrap_or_default();
                    return self.begin_entry(&header, records, long).map(Some);
                }
            }
        }
    }

    /// If the present entry's next bytes are a hole of a sparse file: passes over it, and returns
    /// how many zeros it stands for.
    pub fn skip_hole(&mut self) -> u64 {
        self.sparse.as_mut().map_or(0, SparseMap::skip_hole)
    }

    /// Reads on to the end of the input, past the tar's own end.
    pub fn drain(&mut self) -> Result<(), TarError> {
        match io::copy(&mut self.input, &mut io::sink()) {
            Ok(count) => {
                self.offset += count;
                Ok(())
            }
            Err(source) => Err(self.io_error(source)),
        }
    }

    fn begin_entry(
        &mut self,
        header: &Header,
        mut records: Records,
        long: LongNames,
    ) -> Result<TarEntry, TarError> {
        let mut entry = entry::describe(header, &mut records, long).map_err(|d| self.damage(d))?;
        if entry.kind == TarKind::File {
            self.begin_content(entry.size);
            self.sparse = self.sparse_map(header, &records)?;
            if let Some(sparse) = &self.sparse {
                entry.size = sparse.size();
            }
        }
        Ok(entry)
    }

    /// Which bytes of the entry are stored; reads a map that stands before them.
    fn sparse_map(
        &mut self,
        header: &Header,
        records: &Records,
    ) -> Result<Option<SparseMap>, TarError> {
        if header.type_flag() == b'S' {
            let mut pairs = header.sparse_pairs().map_err(|d| self.damage(d))?;
            let size = header.sparse_size().map_err(|d| self.damage(d))?;
            let mut more = header.sparse_continues();
            while more {
                let block = self
                    .read_block()?
                    .ok_or_else(|| self.damage(Damage::Truncated))?;
                more = header::continuation(&block, &mut pairs).map_err(|d| self.damage(d))?;
                if pairs.len() as u64 > MAX_SPECIAL / 16 {
                    return Err(self.damage(Damage::TooLong));
                }
            }
            return self.checked_map(pairs, size).map(Some);
        }
        let sparse = &records.sparse;
        let Some(size) = sparse.size else {
            return Ok(None);
        };
        let pairs = if sparse.map_in_data {
            self.read_sparse_map()?
        } else {
            sparse.pairs.clone()
        };
        self.checked_map(pairs, size).map(Some)
    }

    fn checked_map(&self, pairs: Vec<Piece>, size: u64) -> Result<SparseMap, TarError> {
        SparseMap::new(pairs, size, self.stored).map_err(|d| self.damage(d))
    }

    /// The map of PAX sparse version 1.0: lines of decimal numbers, filled up to a whole block.
    fn read_sparse_map(&mut self) -> Result<Vec<Piece>, TarError> {
        let mut parser = sparse::MapParser::default();
        let mut read = 0;
        loop {
            if self.stored < BLOCK as u64 || read > MAX_SPECIAL {
                return Err(self.damage(Damage::SparseMap));
            }
            let block = self
                .read_block()?
                .ok_or_else(|| self.damage(Damage::Truncated))?;
            self.stored -= BLOCK as u64;
            read += BLOCK as u64;
            if let Some(pairs) = parser.push(&block).map_err(|d| self.damage(d))? {
                return Ok(pairs);
            }
        }
    }

    /// The next header; `None` at the end of the tar.
    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let Some(block) = self.read_block()? else {
            return Ok(None);
        };
        if block == [0; BLOCK] {
            return match self.read_block()? {
                Some(second) if second != [0; BLOCK] => Err(self.damage(Damage::LoneZeroBlock)),
                _ => Ok(None),
            };
        }
        Header::new(block).map(Some).map_err(|d| self.damage(d))
    }

    /// A block; `None` at the end of the input.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.damage(Damage::Truncated)),
                Ok(count) => {
                    filled += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_error(error)),
            }
        }
        Ok(Some(block))
    }

    /// The bytes after a header that describes the next entry.
    fn read_special(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size().map_err(|d| self.damage(d))?;
        if size > MAX_SPECIAL {
            return Err(self.damage(Damage::TooLong));
        }
        self.begin_content(size);
        let mut bytes = Vec::new();
        match self.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.read_failed(error)),
        }
    }

    fn skip_special(&mut self, header: &Header) -> Result<(), TarError> {
        let size = header.size().map_err(|d| self.damage(d))?;
        self.begin_content(size);
        Ok(())
    }

    fn begin_content(&mut self, size: u64) {
        self.stored = size;
        self.padding = size.next_multiple_of(BLOCK as u64).wrapping_sub(size);
        self.sparse = None;
    }

    /// Passes over what is left of the present entry.
    fn skip_rest(&mut self) -> Result<(), TarError> {
        let rest = self.stored + self.padding;
        self.stored = 0;
        self.padding = 0;
        self.sparse = None;
        if rest == 0 {
            return Ok(());
        }
        let copied = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink());
        match copied {
            Ok(count) => {
                self.offset += count;
                if count < rest {
                    return Err(self.damage(Damage::Truncated));
                }
                Ok(())
            }
            Err(source) => Err(self.io_error(source)),
        }
    }

    /// Turns an error of reading the present entry's bytes into one that says where.
    pub fn read_failed(&self, error: io::Error) -> TarError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.damage(Damage::Truncated);
        }
        self.io_error(error)
    }

    const fn damage(&self, damage: Damage) -> TarError {
        TarError::Damaged {
            offset: self.offset,
            damage,
        }
    }

    const fn io_error(&self, source: io::Error) -> TarError {
        TarError::Io {
            offset: self.offset,
            source,
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    /// # Errors
    ///
    /// `UnexpectedEof` if the tar ends within the entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wanted = usize::try_from(self.stored).map_or(buffer.len(), |n| n.min(buffer.len()));
        if let Some(sparse) = &mut self.sparse {
            match sparse.next(buffer.len()) {
                sparse::Next::Zeros(count) => {
                    buffer[..count].fill(0);
                    return Ok(count);
                }
                sparse::Next::Stored(count) => wanted = wanted.min(count),
            }
        }
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.stored -= count as u64;
        if let Some(sparse) = &mut self.sparse {
            sparse.advance(count as u64);
        }
        Ok(count)
    }
}

impl<R> fmt::Debug for TarReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarReader")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Whether bytes begin with the header of a tar entry: whether a file is a tar.
pub fn is_tar_header(bytes: &[u8]) -> bool {
    bytes
        .first_chunk()
        .is_some_and(|block| Header::new(*block).is_ok())
}

#[cfg(test)]
mod tests;

//! The canonical tar of a layer: a pure function of the layer's entries and their bytes.
//!
//! - Entries in canonical order; ustar headers; PAX records only for what does not fit: names that
//!   are too long or not ASCII, files of 8 GiB and more, ids above 2,097,151, times before 1970 or
//!   beyond 2242, extended attributes.
//! - No names of users and groups; device numbers only for devices; whole seconds, unless
//!   [`TarOptions::subsecond`] is set.
//! - Names without a leading `/`; directories end with `/`, the root is `./`. Hard links have
//!   their target's mode, owner and time, and name it from the root.
//! - A whiteout of `a/b` is an empty file `a/.wh.b` of mode 0, owner 0:0 and time 0; what makes
//!   `a` opaque is such a file `a/.wh..wh..opq`, directly after `a`.
//! - Two blocks of zeros at the end, and nothing more.
//!
//! | module | subject |
//! |---|---|
//! | `header` | the 512 bytes before each entry |
//! | `pax` | records for what does not fit there |
//! | `entry` | an entry into header and records |
//! | `read_ahead` | small files, read in parallel before their turn comes |

mod entry;
mod header;
mod pax;
mod read_ahead;

use std::io::{self, Read as _, Write};

use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath};

use self::header::BLOCK;
use self::read_ahead::{LARGE, ReadAhead};
use super::contents::FileContents;

/// How a tar is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TarOptions {
    /// Whether times keep their fractions of a second.
    pub subsecond: bool,
    /// Whether the bytes of files that have a digest are checked against it.
    pub verify: bool,
}

/// Why a tar could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarWriteError {
    /// A file's bytes cannot be had.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: LayerPath,
        /// Why.
        source: io::Error,
    },
    /// A file's bytes are not those that the index was made of.
    #[error("`{path}` changed during the build; build again when nothing writes to it")]
    Changed {
        /// The file.
        path: LayerPath,
    },
    /// The tar cannot be written.
    #[error("cannot write the tar")]
    Write(#[source] io::Error),
    /// An entry has something that no tar can hold.
    #[error("`{path}` has {what}, which no tar can hold")]
    Unrepresentable {
        /// The entry.
        path: LayerPath,
        /// What.
        what: &'static str,
    },
}

/// Writes the tar of a layer; returns its length in bytes.
///
/// `index` must be in canonical order; `contents` is asked for its regular files.
pub fn write_tar<W: Write + ?Sized>(
    index: &LayerIndex,
    contents: &dyn FileContents,
    options: TarOptions,
    out: &mut W,
) -> Result<u64, TarWriteError> {
    read_ahead::with(index, contents, options.verify, |ahead| {
        let mut writer = TarWriter {
            contents,
            options,
            out,
            ahead,
            length: 0,
            buffer: Vec::new(),
        };
        for (position, entry) in index.entries.iter().enumerate() {
            writer.entry(position, entry)?;
        }
        writer.write(&[0; 2 * BLOCK])?;
        Ok(writer.length)
    })
}

struct TarWriter<'a, W: ?Sized> {
    contents: &'a dyn FileContents,
    options: TarOptions,
    out: &'a mut W,
    ahead: ReadAhead<'a>,
    length: u64,
    buffer: Vec<u8>,
}

impl<W: Write + ?Sized> TarWriter<'_, W> {
    fn entry(&mut self, position: usize, entry: &Entry) -> Result<(), TarWriteError> {
        let header = entry::encode(entry, self.options.subsecond)?;
        self.write(&header)?;
        match &entry.kind {
            EntryKind::File { size, .. } => {
                if *size >= LARGE {
                    self.large_file(position, entry, *size)?;
                } else if *size > 0 {
                    self.small_file(position, entry)?;
                }
                self.pad(*size)
            }
            EntryKind::Directory { opaque: true } => {
                let marker = entry::opaque_marker(&entry.path);
                self.write(&marker)
            }
            _ => Ok(()),
        }
    }

    fn small_file(&mut self, position: usize, entry: &Entry) -> Result<(), TarWriteError> {
        let bytes = self.ahead.next(position, entry)?;
        self.length += bytes.len() as u64;
        self.out.write_all(bytes).map_err(TarWriteError::Write)
    }

    fn large_file(
        &mut self,
        position: usize,
        entry: &Entry,
        size: u64,
    ) -> Result<(), TarWriteError> {
        let read_error = |source| TarWriteError::Read {
            path: entry.path.clone(),
            source,
        };
        let changed = || TarWriteError::Changed {
            path: entry.path.clone(),
        };
        let expected = entry.file_digest().filter(|_| self.options.verify);
        let mut hasher = expected.map(|_| blake3::Hasher::new());
        let mut bytes = self.contents.open(position, entry).map_err(read_error)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let mut left = size;
        loop {
            let count = match bytes.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(read_error(error)),
            };
            left = left.checked_sub(count as u64).ok_or_else(changed)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..count]);
            }
            self.write(&buffer[..count])?;
        }
        self.buffer = buffer;
        let hash = hasher.map(|hasher| hasher.finalize().into());
        if left > 0 || hash != expected {
            return Err(changed());
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), TarWriteError> {
        self.write(entry::padding(size))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TarWriteError> {
        self.length += bytes.len() as u64;
        self.out.write_all(bytes).map_err(TarWriteError::Write)
    }
}

/// Bytes of a large file read at a time.
const PIECE: usize = 256 * 1024;

#[cfg(test)]
mod tests;

//! Parallel compression with one result, whatever the number of threads.
//!
//! - gzip: every mebibyte is a gzip member of its own, which RFC 1952 (section 2.2) allows and
//!   every reader of layers takes. Members need nothing of each other, so they are compressed on
//!   all cores, by libdeflate, which makes up for the lost window: the result is no larger than
//!   zlib's in one stream.
//! - zstd: one frame by zstd's own workers. Where it cuts depends on the level only.
//!
//! | module | subject |
//! |---|---|
//! | `gzip` | members on threads |
//! | `hashing` | [`HashingWriter`] |

mod gzip;
mod hashing;

use std::fmt;
use std::io::{self, Write};

use ashlar_model::executor::BlobForm;
use ashlar_model::media_type::Compression;
use bytes::Bytes;
use zstd::stream::write::Encoder;

pub use self::gzip::GzipWriter;
pub use self::hashing::HashingWriter;

/// More zstd workers than this outrun everything else, and each takes about 25 MB at level 3.
const MAX_ZSTD_WORKERS: u32 = 4;

/// The level that is used when nobody asks for one.
///
/// For zstd, its program's default. For gzip, the first of libdeflate's levels whose results are
/// no larger than those of zlib's default, 6, on all kinds of content that were tried: on a Debian
/// root filesystem 6 would do, on text of random words it gives 3.7 % more. It is still about
/// twice as fast as zlib's 6.
pub const fn default_level(compression: Compression) -> i32 {
    match compression {
        Compression::Uncompressed => 0,
        Compression::Gzip => 7,
        Compression::Zstd => 3,
    }
}

/// Compresses what is written to it.
pub enum CompressedWriter<W: Write> {
    /// As it is.
    Plain(W),
    /// gzip.
    Gzip(GzipWriter<W>),
    /// zstd.
    Zstd(Encoder<'static, W>),
}

impl<W: Write> CompressedWriter<W> {
    /// In front of `out`, with up to `threads` threads beside the caller's. The number of threads
    /// does not change the result.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a level that the format has not: gzip has 0 to 12, of which those above
    /// 9 are libdeflate's; zstd -131072 to 22.
    pub fn new(out: W, form: BlobForm, threads: usize) -> io::Result<Self> {
        match form.compression {
            Compression::Uncompressed => Ok(Self::Plain(out)),
            Compression::Gzip => GzipWriter::new(out, form.level, threads).map(Self::Gzip),
            Compression::Zstd => {
                if !zstd::compression_level_range().contains(&form.level) {
                    return Err(bad_level("zstd", form.level));
                }
                let mut encoder = Encoder::new(out, form.level)?;
                let workers = u32::try_from(threads).unwrap_or(u32::MAX);
                // Never 0, which is another algorithm with another result.
                encoder.multithread(workers.clamp(1, MAX_ZSTD_WORKERS))?;
                encoder.include_checksum(true)?;
                Ok(Self::Zstd(encoder))
            }
        }
    }

    /// Writes bytes that are shared with others. Whole blocks of [`GzipWriter::BLOCK`] bytes are
    /// not copied.
    pub fn write_shared(&mut self, bytes: &Bytes) -> io::Result<()> {
        match self {
            Self::Gzip(writer) => writer.write_shared(bytes),
            Self::Plain(_) | Self::Zstd(_) => self.write_all(bytes),
        }
    }

    /// Writes what is left and the format's end.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(writer) => writer.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for CompressedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(writer) => writer.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does not make the formats flush: where they cut must not depend on who writes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> fmt::Debug for CompressedWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "CompressedWriter::Plain",
            Self::Gzip(_) => "CompressedWriter::Gzip",
            Self::Zstd(_) => "CompressedWriter::Zstd",
        })
    }
}

fn bad_level(format: &str, level: i32) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{format} has no compression level {level}"),
    )
}

#[cfg(test)]
mod tests;

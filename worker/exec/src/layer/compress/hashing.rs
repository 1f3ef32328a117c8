//! A writer that knows what went through it.

use std::fmt;
use std::io::{self, Write};

use ashlar_model::digest::BlobDigest;
use sha2::{Digest as _, Sha256};

/// Passes bytes on, and computes their SHA-256 and number.
pub struct HashingWriter<W> {
    out: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    /// In front of `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            hasher: Sha256::new(),
            size: 0,
        }
    }

    /// What was written to, and the digest and number of the bytes that it took.
    pub fn finish(self) -> (W, BlobDigest, u64) {
        let digest = BlobDigest::from_bytes(self.hasher.finalize().into());
        (self.out, digest, self.size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W> fmt::Debug for HashingWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashingWriter")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes at a time.
    struct Slow(Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(3)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_what_was_taken_is_counted() {
        let mut writer = HashingWriter::new(Slow(Vec::new()));
        writer.write_all(b"hello world").unwrap();
        let (Slow(bytes), digest, size) = writer.finish();
        assert_eq!(bytes, b"hello world");
        assert_eq!(digest, BlobDigest::of(b"hello world"));
        assert_eq!(size, 11);
    }
}

//! Compression of what travels.

use std::io::{self, Write};

use bytes::Bytes;
use zstd::stream::write::{Decoder, Encoder};

use crate::fault::{Fault, FaultKind};

/// Fast: the network is seldom slower than the next level would be.
const LEVEL: i32 = 1;

/// The longest window of a frame, as a power of two: 8 MiB, which RFC 8878 (section 3.1.1.1.2)
/// asks every reader to support. What a server sends decides about no more memory than that.
const WINDOW_LOG: u32 = 23;

/// Compresses a small blob; `None` if that fails.
pub(super) fn compress(bytes: &[u8]) -> Option<Bytes> {
    zstd::bulk::compress(bytes, LEVEL).ok().map(Bytes::from)
}

/// The bytes of a small blob, which are to be `size`.
pub(super) fn decompress(bytes: &[u8], size: u64) -> Result<Bytes, Fault> {
    let mut decompressor = Decompressor::new(size)?;
    let whole = decompressor.push(bytes)?;
    decompressor.finish()?;
    Ok(whole)
}

fn broken(error: io::Error) -> Fault {
    Fault::invalid("the server's compressed bytes cannot be read").caused_by(error)
}

/// Takes what comes out; refuses more than there should be.
#[derive(Debug)]
struct Sink {
    bytes: Vec<u8>,
    left: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("there are more of them than the blob has"))?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decompresses a stream of a blob of known size.
pub(super) struct Decompressor {
    decoder: Decoder<'static, Sink>,
}

impl Decompressor {
    pub(super) fn new(size: u64) -> Result<Self, Fault> {
        let sink = Sink {
            bytes: Vec::new(),
            left: size,
        };
        let mut decoder = Decoder::new(sink).map_err(broken)?;
        decoder.window_log_max(WINDOW_LOG).map_err(broken)?;
        Ok(Self { decoder })
    }

    /// What some more bytes stand for.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Bytes, Fault> {
        self.decoder.write_all(bytes).map_err(broken)?;
        self.decoder.flush().map_err(broken)?;
        Ok(std::mem::take(&mut self.decoder.get_mut().bytes).into())
    }

    /// Fails unless all bytes have come.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        match self.decoder.get_ref().left {
            0 => Ok(()),
            left => Err(Fault::invalid(format!(
                "the server's compressed bytes end {left} bytes too early"
            ))),
        }
    }
}

/// Compresses a stream.
pub(super) struct Compressor {
    encoder: Encoder<'static, Vec<u8>>,
}

impl Compressor {
    pub(super) fn new() -> Result<Self, Fault> {
        let encoder = Encoder::new(Vec::new(), LEVEL).map_err(failed)?;
        Ok(Self { encoder })
    }

    /// What comes out when some more bytes go in; often nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Bytes, Fault> {
        self.encoder.write_all(bytes).map_err(failed)?;
        Ok(std::mem::take(self.encoder.get_mut()).into())
    }

    /// The rest.
    pub(super) fn finish(self) -> Result<Bytes, Fault> {
        Ok(self.encoder.finish().map_err(failed)?.into())
    }
}

fn failed(error: io::Error) -> Fault {
    Fault::new(FaultKind::Internal, "cannot compress").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_too_many_do_not() {
        let bytes = vec![7; 1_000_000];
        let compressed = compress(&bytes).unwrap();
        assert!(compressed.len() < 1000);
        assert!(decompress(&compressed, 1_000_000).unwrap() == bytes);
        for wrong in [999_999, 10, 1_000_001] {
            let fault = decompress(&compressed, wrong).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Invalid, "{wrong}");
        }
        decompress(&compressed[..compressed.len() - 3], 1_000_000).unwrap_err();
        decompress(b"nonsense", 8).unwrap_err();
    }

    #[test]
    fn a_window_that_takes_much_memory_is_refused() {
        let compressed_with = |window| {
            let mut encoder = Encoder::new(Vec::new(), LEVEL).unwrap();
            encoder.window_log(window).unwrap();
            encoder.include_contentsize(false).unwrap();
            encoder.write_all(&[7; 1000]).unwrap();
            encoder.finish().unwrap()
        };
        decompress(&compressed_with(WINDOW_LOG), 1000).unwrap();
        let fault = decompress(&compressed_with(WINDOW_LOG + 1), 1000).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Invalid);
    }

    #[test]
    fn streams_come_back_piece_by_piece() {
        let pieces: Vec<Vec<u8>> = (0..50_u8).map(|n| vec![n; 40_000]).collect();
        let mut compressor = Compressor::new().unwrap();
        let mut decompressor = Decompressor::new(2_000_000).unwrap();
        let mut back = Vec::new();
        for piece in &pieces {
            let compressed = compressor.push(piece).unwrap();
            back.extend_from_slice(&decompressor.push(&compressed).unwrap());
        }
        back.extend_from_slice(&decompressor.push(&compressor.finish().unwrap()).unwrap());
        decompressor.finish().unwrap();
        assert!(back == pieces.concat());
    }
}

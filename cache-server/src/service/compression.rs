//! Zstandard, from clients and to them.
//!
//! What comes from a client is unpacked piece by piece, up to the size that it declared: whatever
//! a small message pretends to hold, no more is held in memory than a piece and the window.

use std::io;

use bytes::Bytes;
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation as _, OutBuffer};

use crate::limits::{PIECE, ZSTD_WINDOW};

/// How hard blobs are compressed on their way out: the link is the bottleneck, not the reader.
const LEVEL: i32 = 1;

/// Compressed bytes that cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum InflateError {
    /// They are not Zstandard's, or need a larger window than is allowed.
    #[error("the compressed bytes are no Zstandard, or need a window of more than 8 MiB")]
    Damaged(#[source] io::Error),
    /// They hold more than was declared.
    #[error("the compressed bytes hold more than the {0} bytes that were declared")]
    TooMuch(u64),
    /// They end too early.
    #[error("the compressed bytes end in the middle of a frame")]
    Truncated,
}

/// Unpacks a stream.
pub struct Inflater {
    decoder: Decoder<'static>,
    /// How much may still come out.
    left: u64,
    declared: u64,
    /// Whether the bytes so far are whole frames.
    at_end: bool,
    /// Whether the last piece was full, so that more may wait inside.
    more: bool,
}

impl Inflater {
    /// For a blob of this size.
    pub fn new(declared: u64) -> Result<Self, InflateError> {
        let mut decoder = Decoder::new().map_err(InflateError::Damaged)?;
        decoder
            .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))
            .map_err(InflateError::Damaged)?;
        Ok(Self {
            decoder,
            left: declared,
            declared,
            at_end: true,
            more: false,
        })
    }

    /// The next piece out of `input`, whose taken bytes are cut off; `None` once it is used up and
    /// nothing waits inside.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, InflateError> {
        while !input.is_empty() || self.more {
            // One byte more than may come tells too much from just enough.
            let room = usize::try_from(self.left.saturating_add(1)).unwrap_or(PIECE);
            let mut piece = vec![0; room.min(PIECE)];
            let mut from = InBuffer::around(&input[..]);
            let mut to = OutBuffer::around(piece.as_mut_slice());
            let hint = self
                .decoder
                .run(&mut from, &mut to)
                .map_err(InflateError::Damaged)?;
            let (taken, given) = (from.pos(), to.pos());
            self.at_end = hint == 0;
            self.more = given == piece.len();
            drop(input.split_to(taken));
            if given as u64 > self.left {
                return Err(InflateError::TooMuch(self.declared));
            }
            self.left -= given as u64;
            if given > 0 {
                piece.truncate(given);
                return Ok(Some(piece.into()));
            }
            if taken == 0 && !self.more {
                break;
            }
        }
        Ok(None)
    }

    /// Fails if the last frame is not whole.
    pub fn finish(&self) -> Result<(), InflateError> {
        if self.at_end {
            Ok(())
        } else {
            Err(InflateError::Truncated)
        }
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Unpacks a small blob whose size was declared.
pub fn inflate(compressed: Bytes, declared: u64) -> Result<Bytes, InflateError> {
    let mut inflater = Inflater::new(declared)?;
    let mut input = compressed;
    let mut whole = Vec::new();
    while let Some(piece) = inflater.next(&mut input)? {
        if whole.is_empty() && piece.len() as u64 == declared && input.is_empty() {
            inflater.finish()?;
            return Ok(piece);
        }
        whole.extend_from_slice(&piece);
    }
    inflater.finish()?;
    Ok(whole.into())
}

/// Packs a stream.
pub struct Deflater {
    encoder: Encoder<'static>,
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// For a blob, of which so many bytes will come.
    pub fn new(size: u64) -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_pledged_src_size(Some(size))?;
        Ok(Self { encoder })
    }

    /// Packs a piece. What comes out may belong to earlier ones, and may be nothing.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(piece.len()));
        let mut from = InBuffer::around(piece);
        while from.pos() < piece.len() {
            let written = packed.len();
            packed.reserve(1 << 10);
            let mut to = OutBuffer::around_pos(&mut packed, written);
            self.encoder.run(&mut from, &mut to)?;
        }
        Ok(packed.into())
    }

    /// The rest.
    pub fn finish(mut self) -> io::Result<Bytes> {
        let mut packed = Vec::with_capacity(PIECE);
        loop {
            let written = packed.len();
            packed.reserve(1 << 10);
            let mut to = OutBuffer::around_pos(&mut packed, written);
            if self.encoder.finish(&mut to, true)? == 0 {
                return Ok(packed.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpack(mut input: Bytes, declared: u64) -> Result<Vec<u8>, InflateError> {
        let mut inflater = Inflater::new(declared)?;
        let mut whole = Vec::new();
        while let Some(piece) = inflater.next(&mut input)? {
            assert!(piece.len() <= PIECE);
            whole.extend_from_slice(&piece);
        }
        inflater.finish()?;
        Ok(whole)
    }

    #[test]
    fn a_bomb_goes_no_further_than_it_declared() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).expect("compressed");
        assert!(bomb.len() < 16 << 10);
        let mut inflater = Inflater::new(1000).expect("an inflater");
        let error = inflater.next(&mut bomb.clone().into());
        assert!(
            matches!(error, Err(InflateError::TooMuch(1000))),
            "{error:?}"
        );
        let error = inflate(bomb.into(), 1000).expect_err("a bomb");
        assert!(matches!(error, InflateError::TooMuch(1000)), "{error:?}");
    }

    #[test]
    fn bytes_that_are_not_zstandard_are_refused() {
        let error = inflate(Bytes::from_static(b"plain text"), 10).expect_err("no frame");
        assert!(matches!(error, InflateError::Damaged(_)), "{error:?}");
        let packed = zstd::bulk::compress(&[7; 5000], 1).expect("compressed");
        let cut = Bytes::from(packed).slice(..9);
        let error = inflate(cut, 5000).expect_err("half a frame");
        assert!(matches!(error, InflateError::Truncated), "{error:?}");
    }

    #[test]
    fn a_window_that_needs_too_much_memory_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
        encoder.long_distance_matching(true).expect("set");
        encoder.window_log(27).expect("set");
        io::copy(&mut io::repeat(3).take(300 << 20), &mut encoder).expect("compressed");
        let packed = encoder.finish().expect("compressed");
        let error = unpack(packed.into(), 300 << 20).expect_err("128 MiB of window");
        assert!(matches!(error, InflateError::Damaged(_)), "{error:?}");
    }

    use std::io::Read as _;

    proptest! {
        #[test]
        fn streams_come_back_as_they_went(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..8),
            repeat in 1_usize..200,
        ) {
            let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.repeat(repeat)).collect();
            let whole = pieces.concat();
            let mut deflater = Deflater::new(whole.len() as u64).expect("an encoder");
            let mut packed = Vec::new();
            for piece in &pieces {
                packed.extend_from_slice(&deflater.push(piece).expect("packed"));
            }
            packed.extend_from_slice(&deflater.finish().expect("packed"));
            let unpacked = unpack(packed.clone().into(), whole.len() as u64).expect("unpacked");
            prop_assert!(unpacked == whole);
            let unpacked = inflate(packed.into(), whole.len() as u64).expect("unpacked");
            prop_assert!(unpacked == whole);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            if bytes.len() > 4 && bytes[0] % 2 == 0 {
                bytes[..4].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd]);
            }
            drop(inflate(bytes.into(), 1000));
        }
    }
}

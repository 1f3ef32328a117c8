//! Streams into chunks: FastCDC of 2020 with normalisation level 2 and no seed.

use bytes::Bytes;
use fastcdc::v2020::{FastCDC, Normalization};

use super::Part;

/// How long the chunks of a part are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) min: usize,
    pub(super) average: usize,
    pub(super) max: usize,
}

impl Sizes {
    /// Contents as measured: with chunks half as long a layer of 300 MB with one dependency bumped
    /// shares a bit more, and has twice as many of them. Headers of one layer are a fiftieth of its
    /// contents, and compress to a tenth on the wire, for which a chunk must not be too short; it
    /// has about 64 entries, so that files that were not written anew are shared.
    pub(super) const fn of(part: Part) -> Self {
        match part {
            Part::Headers => Self {
                min: 8 * 1024,
                average: 32 * 1024,
                max: 128 * 1024,
            },
            Part::Contents => Self {
                min: 32 * 1024,
                average: 128 * 1024,
                max: 512 * 1024,
            },
        }
    }

    /// The length of the first chunk of bytes that are as long as the longest, or the last.
    fn first(self, bytes: &[u8]) -> usize {
        let level = Normalization::Level2;
        let cutter = FastCDC::with_level(bytes, self.min, self.average, self.max, level);
        cutter.cut(0, bytes.len()).1
    }
}

/// Collects a stream and cuts it.
#[derive(Debug)]
pub(super) struct Cutter {
    sizes: Sizes,
    /// Bytes that are collected before they are cut.
    batch: usize,
    collected: Vec<u8>,
}

impl Cutter {
    pub(super) fn new(part: Part) -> Self {
        let sizes = Sizes::of(part);
        Self {
            sizes,
            batch: 4 * sizes.max,
            collected: Vec::new(),
        }
    }

    /// Where more of the stream is appended, and how much at most.
    pub(super) fn collect(&mut self) -> (&mut Vec<u8>, usize) {
        let room = self.batch.saturating_sub(self.collected.len());
        (&mut self.collected, room)
    }

    /// Chunks, if enough was collected.
    pub(super) fn cut_full(&mut self) -> Vec<Bytes> {
        if self.collected.len() < self.batch {
            return Vec::new();
        }
        self.cut(false)
    }

    /// The chunks that are left at the stream's end.
    pub(super) fn cut_rest(&mut self) -> Vec<Bytes> {
        self.cut(true)
    }

    fn cut(&mut self, is_last: bool) -> Vec<Bytes> {
        let mut ends = Vec::new();
        let mut start = 0;
        while let Some(rest) = self.collected.get(start..)
            && (rest.len() >= self.sizes.max || is_last && !rest.is_empty())
        {
            start += self.sizes.first(rest);
            ends.push(start);
        }
        let mut next = Vec::new();
        if !is_last {
            next.reserve(self.batch);
            next.extend_from_slice(self.collected.get(start..).unwrap_or_default());
        }
        self.collected.truncate(start);
        let bytes = Bytes::from(std::mem::replace(&mut self.collected, next));
        let mut start = 0;
        let mut chunk = |end| bytes.slice(std::mem::replace(&mut start, end)..end);
        ends.into_iter().map(&mut chunk).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_same_however_the_stream_comes() {
        let mut state = 1_u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(5_000_000)
        .collect();
        let level = Normalization::Level2;
        for part in [Part::Headers, Part::Contents] {
            let sizes = Sizes::of(part);
            let whole = FastCDC::with_level(&bytes, sizes.min, sizes.average, sizes.max, level);
            let expected: Vec<usize> = whole.map(|chunk| chunk.length).collect();
            for piece in [1_000, 333_333, 10_000_000] {
                let mut cutter = Cutter::new(part);
                let mut chunks = Vec::new();
                for piece in bytes.chunks(piece) {
                    cutter.collect().0.extend_from_slice(piece);
                    chunks.extend(cutter.cut_full());
                }
                chunks.extend(cutter.cut_rest());
                let lengths: Vec<usize> = chunks.iter().map(Bytes::len).collect();
                assert_eq!(lengths, expected);
                assert_eq!(chunks.concat(), bytes);
            }
        }
    }

    #[test]
    fn nothing_has_no_chunk() {
        assert_eq!(Cutter::new(Part::Contents).cut_rest(), Vec::<Bytes>::new());
    }
}

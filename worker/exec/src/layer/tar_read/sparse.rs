//! Which bytes of a sparse file are stored. The others are zeros.

use super::pax::decimal;
use super::{Damage, MAX_SPECIAL};

/// Offset and length of bytes that are stored together.
pub(super) type Piece = (u64, u64);

/// The stored pieces of a file, and how far it has been read.
#[derive(Debug)]
pub(super) struct SparseMap {
    /// Ascending, without overlap, within `size`.
    pieces: Vec<Piece>,
    size: u64,
    /// The piece that is read next or now.
    piece: usize,
    /// Bytes of the file, zeros included, before the next one.
    position: u64,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// That many zeros.
    Zeros(usize),
    /// Up to that many stored bytes; none at the end of the file.
    Stored(usize),
}

impl SparseMap {
    /// For a file of `size` bytes of which `stored` are stored.
    pub(super) fn new(mut pieces: Vec<Piece>, size: u64, stored: u64) -> Result<Self, Damage> {
        // The last pair of some programs only marks the file's end.
        pieces.retain(|(_, length)| *length > 0);
        let mut end = 0;
        let mut sum = 0;
        for (offset, length) in &pieces {
            if *offset < end {
                return Err(Damage::SparseMap);
            }
            end = offset.checked_add(*length).ok_or(Damage::SparseMap)?;
            sum += length;
        }
        if end > size || sum != stored || size > i64::MAX as u64 {
            return Err(Damage::SparseMap);
        }
        Ok(Self {
            pieces,
            size,
            piece: 0,
            position: 0,
        })
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// What comes next, at most `limit` bytes of it. Zeros count as read at once, stored bytes
    /// when [`advance`](Self::advance) says so.
    pub(super) fn next(&mut self, limit: usize) -> Next {
        let hole = self.hole();
        if hole > 0 {
            let count = usize::try_from(hole).map_or(limit, |hole| hole.min(limit));
            self.position += count as u64;
            return Next::Zeros(count);
        }
        let left = self.pieces.get(self.piece).map_or(0, |(offset, length)| {
            length.saturating_sub(self.position - offset)
        });
        Next::Stored(usize::try_from(left).map_or(limit, |left| left.min(limit)))
    }

    /// Notes that stored bytes were read.
    pub(super) fn advance(&mut self, count: u64) {
        self.position += count;
        if let Some((offset, length)) = self.pieces.get(self.piece)
            && self.position == offset + length
        {
            self.piece += 1;
        }
    }

    /// Passes over the hole that comes next; 0 if there is none.
    pub(super) fn skip_hole(&mut self) -> u64 {
        let hole = self.hole();
        self.position += hole;
        hole
    }

    /// Zeros up to the next piece, or to the end.
    fn hole(&self) -> u64 {
        let next = self
            .pieces
            .get(self.piece)
            .map_or(self.size, |piece| piece.0);
        next.saturating_sub(self.position)
    }
}

/// Reads the map that stands before the data in PAX sparse version 1.0: the number of pieces, then
/// offset and length of each, a line for each number.
#[derive(Debug, Default)]
pub(super) struct MapParser {
    line: Vec<u8>,
    numbers: Vec<u64>,
}

impl MapParser {
    /// Takes a block; returns the map once it is whole. The rest of its last block is padding.
    pub(super) fn push(&mut self, block: &[u8]) -> Result<Option<Vec<Piece>>, Damage> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&self.line).ok_or(Damage::SparseMap)?;
            self.line.clear();
            self.numbers.push(number);
            if let Some((count, numbers)) = self.numbers.split_first() {
                if *count > MAX_SPECIAL {
                    return Err(Damage::SparseMap);
                }
                if numbers.len() as u64 == 2 * count {
                    let pairs = numbers.chunks_exact(2);
                    return Ok(Some(pairs.map(|pair| (pair[0], pair[1])).collect()));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_pieces_alternate() {
        let mut map = SparseMap::new(vec![(10, 5), (15, 2), (30, 0)], 30, 7).unwrap();
        assert_eq!(map.next(4), Next::Zeros(4));
        assert_eq!(map.skip_hole(), 6);
        assert_eq!(map.skip_hole(), 0);
        assert_eq!(map.next(100), Next::Stored(5));
        map.advance(3);
        assert_eq!(map.next(100), Next::Stored(2));
        map.advance(2);
        assert_eq!(map.next(1), Next::Stored(1));
        map.advance(2);
        assert_eq!(map.next(100), Next::Zeros(13));
        assert_eq!(map.next(100), Next::Stored(0));
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        for (pieces, size, stored) in [
            (vec![(0, 10)], 5, 10),
            (vec![(0, 5)], 5, 4),
            (vec![(5, 5), (0, 5)], 20, 10),
            (vec![(0, 5), (4, 5)], 20, 10),
            (vec![(u64::MAX, 5)], 20, 5),
            (vec![(0, 0)], u64::MAX, 0),
        ] {
            assert!(
                SparseMap::new(pieces.clone(), size, stored).is_err(),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn maps_may_cross_blocks() {
        let mut parser = MapParser::default();
        assert_eq!(parser.push(b"2\n0\n1"), Ok(None));
        assert_eq!(
            parser.push(b"2\n512\n4\n\0\0"),
            Ok(Some(vec![(0, 12), (512, 4)]))
        );
        assert_eq!(MapParser::default().push(b"0\n\0"), Ok(Some(vec![])));
        MapParser::default().push(b"x\n").unwrap_err();
    }
}

//! The 512 bytes before each entry.
//!
//! ```text
//!    0 name 100 │ 100 mode 8 │ 108 uid 8 │ 116 gid 8 │ 124 size 12 │ 136 mtime 12
//!  148 checksum 8 │ 156 type 1 │ 157 link 100 │ 257 magic 8 │ 329 major 8 │ 337 minor 8
//!  345 prefix: 155 in ustar, 131 in star (which has `tar` and a NUL byte at 508)
//!  GNU sparse: 386 four pairs of 24 │ 482 continues 1 │ 483 size 12
//!  GNU sparse, continued: 0 twenty-one pairs of 24 │ 504 continues 1
//! ```

use super::Damage;
use super::sparse::Piece;

pub(in crate::layer) const BLOCK: usize = 512;

/// A header with the right checksum.
#[derive(Debug)]
pub(in crate::layer) struct Header([u8; BLOCK]);

impl Header {
    pub(in crate::layer) fn new(bytes: [u8; BLOCK]) -> Result<Self, Damage> {
        let stated = number(&bytes[148..156]).ok_or(Damage::Checksum)?;
        let counted = |byte: &u8| i64::from(*byte);
        // Old programs added the bytes up as signed ones.
        let signed = |byte: &u8| i64::from(i8::from_ne_bytes([*byte]));
        let blanks = 8 * i64::from(b' ');
        let (before, after) = (&bytes[..148], &bytes[156..]);
        let unsigned_sum: i64 = before.iter().chain(after).map(counted).sum();
        let signed_sum: i64 = before.iter().chain(after).map(signed).sum();
        if stated != unsigned_sum + blanks && stated != signed_sum + blanks {
            return Err(Damage::Checksum);
        }
        Ok(Self(bytes))
    }

    pub(in crate::layer) const fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match (&self.0[257..263], &self.0[508..512]) {
            (b"ustar\0", b"tar\0") => text(&self.0[345..476]),
            (b"ustar\0", _) => text(&self.0[345..500]),
            // GNU and v7 have no prefix.
            _ => &[],
        };
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, name].join(&b'/')
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u16, Damage> {
        let mode = number(&self.0[100..108]).ok_or(Damage::Number("mode"))?;
        // Some programs store the type's bits too.
        u16::try_from(mode & 0o7777).map_err(|_| Damage::Number("mode"))
    }

    pub(super) fn uid(&self) -> Result<u32, Damage> {
        self.id(108, "owner")
    }

    pub(super) fn gid(&self) -> Result<u32, Damage> {
        self.id(116, "group")
    }

    fn id(&self, at: usize, name: &'static str) -> Result<u32, Damage> {
        let id = number(&self.0[at..at + 8]).ok_or(Damage::Number(name))?;
        u32::try_from(id).map_err(|_| Damage::Number(name))
    }

    pub(in crate::layer) fn size(&self) -> Result<u64, Damage> {
        number(&self.0[124..136])
            .and_then(|size| u64::try_from(size).ok())
            .ok_or(Damage::Number("size"))
    }

    pub(super) fn mtime(&self) -> Result<i64, Damage> {
        number(&self.0[136..148]).ok_or(Damage::Number("time"))
    }

    pub(super) fn major(&self) -> Result<u32, Damage> {
        self.id(329, "device number")
    }

    pub(super) fn minor(&self) -> Result<u32, Damage> {
        self.id(337, "device number")
    }

    /// The pairs of a GNU sparse file that the header itself has.
    pub(super) fn sparse_pairs(&self) -> Result<Vec<Piece>, Damage> {
        let mut pairs = Vec::new();
        read_pairs(&self.0[386..482], &mut pairs)?;
        Ok(pairs)
    }

    pub(in crate::layer) const fn sparse_continues(&self) -> bool {
        self.0[482] != 0
    }

    pub(super) fn sparse_size(&self) -> Result<u64, Damage> {
        number(&self.0[483..495])
            .and_then(|size| u64::try_from(size).ok())
            .ok_or(Damage::SparseMap)
    }
}

/// Reads the pairs of a block that continues a GNU sparse header; returns whether another does.
pub(super) fn continuation(block: &[u8; BLOCK], pairs: &mut Vec<Piece>) -> Result<bool, Damage> {
    read_pairs(&block[..504], pairs)?;
    Ok(block[504] != 0)
}

fn read_pairs(bytes: &[u8], pairs: &mut Vec<Piece>) -> Result<(), Damage> {
    let number = |field| {
        number(field)
            .and_then(|number| u64::try_from(number).ok())
            .ok_or(Damage::SparseMap)
    };
    for pair in bytes.chunks_exact(24) {
        // The first empty pair ends the list.
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        pairs.push((number(&pair[..12])?, number(&pair[12..])?));
    }
    Ok(())
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|b| *b == 0);
    &field[..end.unwrap_or(field.len())]
}

/// A number: octal digits between blanks and NUL bytes, or, with the highest bit set, a big-endian
/// number in base 256, in two's complement if the bit below is set too.
fn number(field: &[u8]) -> Option<i64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        return base_256(field);
    }
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let start = field
        .iter()
        .position(|b| !padding(b))
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(padding).unwrap_or(digits.len());
    if digits[end..].iter().any(|b| !padding(b)) {
        return None;
    }
    let mut number = 0_i64;
    for digit in &digits[..end] {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        number = number.checked_mul(8)? | i64::from(digit);
    }
    Some(number)
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative {
        field[0] | 0x80
    } else {
        field[0] & 0x7F
    };
    let fill = if negative { 0xFF } else { 0 };
    let mut bytes = [fill; 8];
    let split = field.len().checked_sub(8)?;
    bytes.copy_from_slice(&field[split..]);
    if split == 0 {
        bytes[0] = first;
    } else if first != fill || field[1..split].iter().any(|b| *b != fill) {
        return None;
    }
    let number = i64::from_be_bytes(bytes);
    ((number < 0) == negative).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777777\0"), Some(0o777_7777_7777));
        assert_eq!(number(b"777777777777"), Some(0o7777_7777_7777));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-000644\0"), None);
        assert_eq!(number(b"64\x004 \0\0\0"), None);
    }

    #[test]
    fn numbers_in_base_256() {
        assert_eq!(number(b"\x80\0\0\0\0\x20\0\0"), Some(0x0020_0000));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(0x2_0000_0000));
        assert_eq!(number(&[0xFF; 12]), Some(-1));
        assert_eq!(number(&[0xFF; 8]), Some(-1));
        assert_eq!(number(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None);
        assert_eq!(number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None);
        assert_eq!(number(b"\xFF\xFF\xFF\xFF\x7F\0\0\0\0\0\0\0"), None);
    }
}

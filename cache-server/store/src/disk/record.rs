//! A record of a pack.
//!
//! ```text
//!  0   4  "AshR"
//!  4   1  what it says: 1 the key has this value, 2 the key was removed
//!  5   1  zero
//!  6   2  length of the key
//!  8   4  length of the value
//! 12   8  sequence number: among records of one key, the highest counts
//! 20   8  checksum of the value
//! 28   8  checksum of the 28 bytes before and the key
//! 36   …  key
//!      …  value
//! ```
//!
//! Numbers are little-endian, checksums the first eight bytes of a BLAKE3. A record says all that
//! the index knows of it but the time of its last use, so that a lost index can be made again.

use std::ops::Range;

use bytes::Bytes;

use super::key::{Key, LONGEST};

const MAGIC: [u8; 4] = *b"AshR";

/// Length of what comes before the key.
pub(super) const HEAD: usize = 36;

/// What a record says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Value,
    Removed,
}

/// The head of a record and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) says: Says,
    pub(super) key: Key,
    pub(super) value_length: u32,
    pub(super) sequence: u64,
    checksum: [u8; 8],
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They end too early; whether they are the beginning of a record is not known.
    Short,
    /// They are something else.
    Damaged,
}

/// The first eight bytes of a BLAKE3.
pub(super) fn checksum(bytes: &[u8]) -> [u8; 8] {
    short(*blake3::hash(bytes).as_bytes())
}

fn short(hash: [u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = hash;
    [a, b, c, d, e, f, g, h]
}

/// The head and the key of a record, as bytes.
pub(super) fn encode_head(says: Says, key: &Key, value: &[u8], sequence: u64) -> Option<Vec<u8>> {
    let key = key.as_bytes();
    let key_length = u16::try_from(key.len()).ok()?;
    if key.len() > LONGEST {
        return None;
    }
    let value_length = u32::try_from(value.len()).ok()?;
    let mut head = Vec::with_capacity(HEAD + key.len());
    head.extend_from_slice(&MAGIC);
    head.push(match says {
        Says::Value => 1,
        Says::Removed => 2,
    });
    head.push(0);
    head.extend_from_slice(&key_length.to_le_bytes());
    head.extend_from_slice(&value_length.to_le_bytes());
    head.extend_from_slice(&sequence.to_le_bytes());
    head.extend_from_slice(&checksum(value));
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head).update(key);
    head.extend_from_slice(&short(hasher.finalize().into()));
    head.extend_from_slice(key);
    Some(head)
}

/// How long the record of a key and a value is.
pub(super) const fn length(key: usize, value: u64) -> u64 {
    HEAD as u64 + key as u64 + value
}

impl Head {
    /// Reads a head and its key from the beginning of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let head = bytes.get(..HEAD).ok_or(Unreadable::Short)?;
        let field = |range: Range<usize>| -> [u8; 8] {
            let mut number = [0; 8];
            for (to, from) in number.iter_mut().zip(&head[range]) {
                *to = *from;
            }
            number
        };
        if head[..4] != MAGIC {
            return Err(Unreadable::Damaged);
        }
        let key_length = usize::from(u16::from_le_bytes([head[6], head[7]]));
        if key_length > LONGEST {
            return Err(Unreadable::Damaged);
        }
        let key = bytes
            .get(HEAD..HEAD + key_length)
            .ok_or(Unreadable::Short)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head[..28]).update(key);
        if short(hasher.finalize().into()) != field(28..36) {
            return Err(Unreadable::Damaged);
        }
        Ok(Self {
            says: match head[4] {
                1 => Says::Value,
                2 => Says::Removed,
                _ => return Err(Unreadable::Damaged),
            },
            key: Key::from_bytes(key).ok_or(Unreadable::Damaged)?,
            value_length: u32::from_le_bytes([head[8], head[9], head[10], head[11]]),
            sequence: u64::from_le_bytes(field(12..20)),
            checksum: field(20..28),
        })
    }

    /// Length of the whole record.
    pub(super) fn record_length(&self) -> u64 {
        length(self.key.as_bytes().len(), u64::from(self.value_length))
    }

    /// Whether a value is that of the record.
    pub(super) fn fits(&self, value: &[u8]) -> bool {
        value.len() as u64 == u64::from(self.value_length) && checksum(value) == self.checksum
    }
}

/// The value of a whole record that is to be `key`'s. The bytes are not copied.
pub(super) fn value_of(record: &Bytes, key: &Key) -> Option<Bytes> {
    let head = Head::decode(record).ok()?;
    if head.key != *key || head.says != Says::Value {
        return None;
    }
    let start = HEAD + key.as_bytes().len();
    let value = record.slice(start.min(record.len())..);
    head.fits(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::{CasDigest, DigestFunction};

    use super::*;

    fn record(value: &[u8]) -> (Key, Vec<u8>) {
        let key = Key::blob(&CasDigest::of(DigestFunction::Sha256, value));
        let mut bytes = encode_head(Says::Value, &key, value, 7).unwrap();
        bytes.extend_from_slice(value);
        (key, bytes)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (key, bytes) = record(b"a stone");
        assert_eq!(bytes.len() as u64, length(key.as_bytes().len(), 7));
        let head = Head::decode(&bytes).unwrap();
        assert_eq!((head.says, head.sequence), (Says::Value, 7));
        assert_eq!(head.record_length(), bytes.len() as u64);
        assert_eq!(value_of(&bytes.into(), &key).unwrap(), "a stone");
    }

    #[test]
    fn no_bit_can_change_unseen() {
        let (key, bytes) = record(b"a stone");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(value_of(&changed.into(), &key), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..length]);
            assert_eq!(value_of(&cut, &key), None, "{length} bytes");
        }
    }
}

//! The format of packs: many small blobs in one object. `docs/formats.md` has it for others.
//!
//! ```text
//! pack    = magic blob* entry* trailer
//! entry   = function u8, hash [32], offset u64, size u64            49 bytes
//! trailer = length of the entries u64, their BLAKE3 [32], magic     54 bytes
//! ```
//!
//! Numbers are little-endian. A reader of one blob needs none of this: the index has its place, and
//! the bytes are checked against the digest. The entries say what is in a pack when the index does
//! not: after it was lost, and when a pack is evicted or written anew.

use ashlar_model::cas::{CasDigest, DigestFunction};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::fault::Fault;

/// How a pack begins and ends.
pub const MAGIC: [u8; 14] = *b"ashlar pack 1\n";

/// Bytes of an entry.
const ENTRY: usize = 49;

/// Bytes of the trailer.
pub const TRAILER: usize = 8 + 32 + MAGIC.len();

/// The entries of a pack are no longer: more than 300,000 blobs.
pub const MOST_ENTRIES: u64 = 16 << 20;

/// A blob in a pack, and how many bytes of the pack come before it.
pub type Entry = (CasDigest, u64);

/// A pack that is being put together.
#[derive(Debug)]
pub struct PackBuilder {
    pieces: Vec<Bytes>,
    entries: Vec<Entry>,
    length: u64,
}

impl Default for PackBuilder {
    fn default() -> Self {
        Self {
            pieces: vec![Bytes::from_static(&MAGIC)],
            entries: Vec::new(),
            length: MAGIC.len() as u64,
        }
    }
}

impl PackBuilder {
    /// Adds a blob, whose bytes have to be as many as its digest says.
    pub fn add(&mut self, blob: CasDigest, bytes: Bytes) {
        debug_assert_eq!(blob.size, bytes.len() as u64, "{blob}");
        self.entries.push((blob, self.length));
        self.length += bytes.len() as u64;
        self.pieces.push(bytes);
    }

    /// The pack in pieces, its length, and its blobs with their offsets.
    pub fn finish(mut self) -> (Vec<Bytes>, u64, Vec<Entry>) {
        let mut footer = BytesMut::with_capacity(self.entries.len() * ENTRY + TRAILER);
        for (blob, offset) in &self.entries {
            footer.put_u8(number_of(blob.function));
            footer.put_slice(&blob.hash);
            footer.put_u64_le(*offset);
            footer.put_u64_le(blob.size);
        }
        let checksum = blake3::hash(&footer);
        footer.put_u64_le(footer.len() as u64);
        footer.put_slice(checksum.as_bytes());
        footer.put_slice(&MAGIC);
        self.length += footer.len() as u64;
        self.pieces.push(footer.freeze());
        (self.pieces, self.length, self.entries)
    }
}

/// What the end of a pack says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All blobs of the pack.
    Entries(Vec<Entry>),
    /// The end has to be read again, so many bytes of it.
    Longer(u64),
}

/// Reads the end of a pack of `length` bytes: `tail` are its last ones, at least [`TRAILER`].
pub fn read_end(tail: &[u8], length: u64) -> Result<End, Fault> {
    let wrong = |what: &str| Fault::invalid(format!("this is no pack: {what}"));
    let (rest, trailer) = tail
        .split_last_chunk::<TRAILER>()
        .ok_or_else(|| wrong("it is too short"))?;
    let (size, trailer) = trailer
        .split_first_chunk::<8>()
        .ok_or_else(|| wrong("it is too short"))?;
    let (checksum, magic) = trailer
        .split_first_chunk::<32>()
        .ok_or_else(|| wrong("it is too short"))?;
    if magic != MAGIC {
        return Err(wrong("it does not end as one"));
    }
    let size = u64::from_le_bytes(*size);
    // Between the magic and the trailer.
    let room = length.saturating_sub((MAGIC.len() + TRAILER) as u64);
    if size > room.min(MOST_ENTRIES) || !size.is_multiple_of(ENTRY as u64) {
        return Err(wrong("the length of its entries is wrong"));
    }
    let footer = usize::try_from(size)
        .ok()
        .and_then(|size| rest.len().checked_sub(size));
    let Some(footer) = footer.and_then(|start| rest.get(start..)) else {
        return Ok(End::Longer(size + TRAILER as u64));
    };
    if blake3::hash(footer) != *checksum {
        return Err(wrong("the checksum of its entries is wrong"));
    }
    let blobs_end = length - TRAILER as u64 - size;
    let (entries, _) = footer.as_chunks::<ENTRY>();
    let read = entries.iter().map(|entry| read_entry(entry, blobs_end));
    let read: Option<Vec<Entry>> = read.collect();
    read.map(End::Entries)
        .ok_or_else(|| wrong("one of its entries is wrong"))
}

fn read_entry(entry: &[u8; ENTRY], blobs_end: u64) -> Option<Entry> {
    let (function, rest) = entry.split_first()?;
    let (hash, rest) = rest.split_first_chunk::<32>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let size = u64::from_le_bytes(*rest.first_chunk::<8>()?);
    let offset = u64::from_le_bytes(*offset);
    let end = offset.checked_add(size)?;
    let blob = CasDigest {
        function: function_of(*function)?,
        hash: *hash,
        size,
    };
    (offset >= MAGIC.len() as u64 && end <= blobs_end).then_some((blob, offset))
}

const fn number_of(function: DigestFunction) -> u8 {
    match function {
        DigestFunction::Sha256 => 1,
        DigestFunction::Blake3 => 2,
    }
}

const fn function_of(number: u8) -> Option<DigestFunction> {
    match number {
        1 => Some(DigestFunction::Sha256),
        2 => Some(DigestFunction::Blake3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(blobs: &[(DigestFunction, &[u8])]) -> (Vec<u8>, Vec<Entry>) {
        let mut builder = PackBuilder::default();
        for (function, bytes) in blobs {
            builder.add(
                CasDigest::of(*function, bytes),
                Bytes::copy_from_slice(bytes),
            );
        }
        let (pieces, length, entries) = builder.finish();
        let pack = pieces.concat();
        assert_eq!(pack.len() as u64, length);
        (pack, entries)
    }

    fn entries(tail: &[u8], length: usize) -> Vec<Entry> {
        match read_end(tail, length as u64).expect("a pack") {
            End::Entries(entries) => entries,
            End::Longer(bytes) => panic!("{bytes} bytes are needed"),
        }
    }

    #[test]
    fn golden_vector() {
        let (pack, entries) = pack(&[
            (DigestFunction::Sha256, b"a stone"),
            (DigestFunction::Blake3, b"another stone"),
        ]);
        assert_eq!(pack.len(), 14 + 7 + 13 + 2 * 49 + 54);
        assert_eq!(entries[0].1, 14);
        assert_eq!(entries[1].1, 21);
        assert_eq!(
            blake3::hash(&pack).to_hex().as_str(),
            "98acd164d9ebc55c194b116a7166c71dceb0165b96b062827e6416caa7e30af0"
        );
    }

    #[test]
    fn a_short_tail_says_how_much_is_needed() {
        let (pack, expected) = pack(&[(DigestFunction::Blake3, &[7; 1000])]);
        let tail = &pack[pack.len() - TRAILER..];
        let needed = match read_end(tail, pack.len() as u64).expect("a pack") {
            End::Longer(bytes) => usize::try_from(bytes).expect("small"),
            End::Entries(entries) => panic!("{entries:?}"),
        };
        assert_eq!(needed, TRAILER + ENTRY);
        assert_eq!(entries(&pack[pack.len() - needed..], pack.len()), expected);
    }

    #[test]
    fn what_is_no_pack_is_refused() {
        let (pack, _) = pack(&[(DigestFunction::Blake3, &[7; 100])]);
        for place in [
            pack.len() - 1,
            pack.len() - 30,
            pack.len() - 60,
            pack.len() - 100,
        ] {
            let mut damaged = pack.clone();
            damaged[place] ^= 1;
            read_end(&damaged, pack.len() as u64).expect_err("damaged");
        }
        read_end(&pack, 100).expect_err("it has more entries than bytes");
        read_end(b"", 0).expect_err("nothing");
        read_end(&[0; 200], 200).expect_err("zeros");
    }

    proptest! {
        #[test]
        fn what_is_packed_is_found(
            blobs in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..300)), 0..40),
            extra in 0_usize..5000,
        ) {
            let blobs: Vec<(DigestFunction, &[u8])> = blobs
                .iter()
                .map(|(sha, bytes)| {
                    let function = if *sha { DigestFunction::Sha256 } else { DigestFunction::Blake3 };
                    (function, &bytes[..])
                })
                .collect();
            let (pack, expected) = pack(&blobs);
            let tail = TRAILER + blobs.len() * ENTRY + extra;
            let tail = &pack[pack.len().saturating_sub(tail)..];
            prop_assert_eq!(&entries(tail, pack.len()), &expected);
            for ((blob, offset), (_, bytes)) in expected.iter().zip(&blobs) {
                let start = usize::try_from(*offset).expect("small");
                prop_assert_eq!(&pack[start..start + bytes.len()], *bytes);
                prop_assert_eq!(CasDigest::of(blob.function, bytes), *blob);
            }
        }

        #[test]
        fn nothing_makes_it_panic(tail in prop::collection::vec(any::<u8>(), 0..300), length in any::<u64>()) {
            let mut tail = tail;
            drop(read_end(&tail, length));
            tail.extend_from_slice(&MAGIC);
            drop(read_end(&tail, length));
        }
    }
}

//! The stat cache as one file: a header of 64 bytes, then the records, sorted by key.
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 8 | `ASHSTAT1` |
//! | 8 | 8 | number of records, little-endian |
//! | 16 | 16 | zero |
//! | 32 | 32 | BLAKE3 of the records |
//! | 64 | 96 each | the records |

use super::record::{RECORD_LENGTH, Record, number};

/// Names the format and its version. A file with another one is ignored.
const MAGIC: &[u8; 8] = b"ASHSTAT1";

const HEADER_LENGTH: usize = 64;

/// The records of a file, kept as they were read.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
}

impl Table {
    /// Takes the bytes of a file; `None` if it is damaged or of another version.
    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let (header, records) = bytes.split_at_checked(HEADER_LENGTH)?;
        let count = usize::try_from(number(&header[8..])).ok()?;
        let length = count.checked_mul(RECORD_LENGTH)?;
        let whole = header.starts_with(MAGIC) && records.len() == length;
        let mut hasher = blake3::Hasher::new();
        let intact = whole && {
            hasher.update_rayon(records);
            hasher.finalize().as_bytes() == &header[32..]
        };
        let table = Self { bytes };
        intact.then_some(table)
    }

    fn records(&self) -> &[[u8; RECORD_LENGTH]] {
        let (_, records) = self
            .bytes
            .split_at_checked(HEADER_LENGTH)
            .unwrap_or_default();
        records.as_chunks().0
    }

    pub(super) fn len(&self) -> usize {
        self.records().len()
    }

    /// The record number `index`, which must be less than [`Self::len`].
    pub(super) fn record(&self, index: usize) -> Record {
        Record::decode(&self.records()[index])
    }

    /// Finds the record of a key. Since keys are spread evenly, its place follows from its value:
    /// two guesses come within a few records of it.
    pub(super) fn find(&self, key: u64) -> Option<(usize, Record)> {
        let records = self.records();
        let key_at = |index: usize| number(&records[index]);
        let last = records.len().checked_sub(1)?;
        let scale = |distance: u64| {
            let place = (u128::from(distance) * records.len() as u128) >> 64;
            usize::try_from(place).unwrap_or(last)
        };
        let mut index = scale(key).min(last);
        let there = key_at(index);
        index = if there < key {
            (index + scale(key - there)).min(last)
        } else {
            index.saturating_sub(scale(there - key))
        };
        while index < last && key_at(index) < key {
            index += 1;
        }
        while index > 0 && key_at(index) > key {
            index -= 1;
        }
        (key_at(index) == key).then(|| (index, self.record(index)))
    }
}

/// The bytes of a file with these records, which must be sorted by key.
pub(super) fn encode(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + records.len() * RECORD_LENGTH);
    bytes.extend(MAGIC);
    bytes.extend((records.len() as u64).to_le_bytes());
    bytes.resize(HEADER_LENGTH, 0);
    for record in records {
        record.encode(&mut bytes);
    }
    let checksum = blake3::hash(&bytes[HEADER_LENGTH..]);
    bytes[32..HEADER_LENGTH].copy_from_slice(checksum.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use ashlar_model::digest::FileDigest;
    use ashlar_model::layer::Timestamp;
    use proptest::prelude::*;

    use super::super::super::stat::Identity;
    use super::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let time = || {
            (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Timestamp {
                seconds,
                nanoseconds,
            })
        };
        let record = (
            any::<(u64, u64, u64, u16, u8)>(),
            any::<(u32, u32)>(),
            time(),
            time(),
            any::<[u8; 32]>(),
        );
        let record = record.prop_map(|(numbers, device, mtime, ctime, digest)| {
            let (key, inode, size, mode, unused) = numbers;
            Record {
                key,
                identity: Identity { device, inode },
                size,
                mtime,
                ctime,
                mode,
                unused,
                digest: FileDigest::from_bytes(digest),
            }
        });
        prop::collection::btree_map(any::<u64>(), record, 0..50).prop_map(|records| {
            let keyed = records.into_iter();
            keyed
                .map(|(key, record)| Record { key, ..record })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_record_is_found_again_and_no_other(records in records(), absent: u64) {
            let table = Table::decode(encode(&records)).unwrap();
            prop_assert_eq!(table.len(), records.len());
            for (index, record) in records.iter().enumerate() {
                prop_assert_eq!(table.find(record.key), Some((index, record.clone())));
            }
            let there = records.iter().any(|record| record.key == absent);
            prop_assert_eq!(table.find(absent).is_some(), there);
        }

        #[test]
        fn any_damage_is_noticed(records in records(), place: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = encode(&records);
            // The zero bytes of the header are the only ones that say nothing.
            let place = match place.index(bytes.len()) {
                reserved @ 16..32 => reserved - 16,
                place => place,
            };
            bytes[place] ^= 1_u8 << bit;
            prop_assert!(Table::decode(bytes).is_none());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            drop(Table::decode(bytes));
        }
    }

    #[test]
    fn keys_that_lie_close_together_are_found() {
        let digest = FileDigest::from_bytes([7; 32]);
        let record = |key| Record {
            key,
            identity: Identity {
                device: (0, 0),
                inode: 0,
            },
            size: 0,
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            mode: 0,
            unused: 0,
            digest,
        };
        let records: Vec<Record> = [0, 1, 2, 3, u64::MAX - 1, u64::MAX].map(record).into();
        let table = Table::decode(encode(&records)).unwrap();
        for (index, record) in records.iter().enumerate() {
            assert_eq!(table.find(record.key).map(|found| found.0), Some(index));
        }
        assert_eq!(table.find(4), None);
        assert_eq!(Table::default().find(4), None);
    }
}

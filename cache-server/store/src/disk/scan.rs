//! Reading a pack from its beginning to its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::key::LONGEST;
use super::record::{HEAD, Head, Unreadable};

/// So much is read in one go.
const WINDOW: usize = 1 << 20;

/// Goes through the records of a pack.
#[derive(Debug)]
pub(super) struct Scanner {
    file: Arc<File>,
    size: u64,
    /// Where the next record begins.
    offset: u64,
    /// What was read, from `start` on.
    window: Vec<u8>,
    start: u64,
    /// Whether something before was no record: what looks like one may be a part of a blob.
    after_gap: bool,
}

/// A record, or what is left of it.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) offset: u64,
    pub(super) head: Head,
    /// The whole record.
    pub(super) bytes: Bytes,
    /// Whether the value is that of the head.
    pub(super) is_intact: bool,
    /// Whether it stands behind something that is no record.
    pub(super) after_gap: bool,
}

impl Scanner {
    /// From the beginning of a pack, of which `size` bytes count.
    pub(super) const fn new(file: Arc<File>, size: u64) -> Self {
        Self {
            file,
            size,
            offset: 0,
            window: Vec::new(),
            start: 0,
            after_gap: false,
        }
    }

    /// The bytes from `offset` on: `length` of them, or fewer at the end of the pack.
    fn bytes(&mut self, length: usize) -> io::Result<&[u8]> {
        let there = self.size.saturating_sub(self.offset);
        let length = usize::try_from(there).unwrap_or(usize::MAX).min(length);
        let within = self.offset.checked_sub(self.start).and_then(|skip| {
            let skip = usize::try_from(skip).ok()?;
            (skip + length <= self.window.len()).then_some(skip)
        });
        let skip = match within {
            Some(skip) => skip,
            None => {
                let wanted = usize::try_from(there)
                    .unwrap_or(usize::MAX)
                    .min(length.max(WINDOW));
                self.window.resize(wanted, 0);
                self.start = self.offset;
                let read = read_at_most(&self.file, &mut self.window, self.offset)?;
                self.window.truncate(read);
                0
            }
        };
        let end = (skip + length).min(self.window.len());
        Ok(&self.window[skip..end])
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Scanned>> {
        loop {
            let bytes = self.bytes(HEAD + LONGEST)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let head = match Head::decode(bytes) {
                Ok(head) => head,
                Err(Unreadable::Short | Unreadable::Damaged) => {
                    self.skip_to_magic()?;
                    continue;
                }
            };
            let length = usize::try_from(head.record_length()).unwrap_or(usize::MAX);
            let offset = self.offset;
            let after_gap = self.after_gap;
            let record = Bytes::copy_from_slice(self.bytes(length)?);
            self.offset += head.record_length();
            let value = record.slice((HEAD + head.key.length()).min(record.len())..);
            return Ok(Some(Scanned {
                offset,
                is_intact: head.fits(&value),
                head,
                bytes: record,
                after_gap,
            }));
        }
    }

    /// Goes on to what may be the beginning of a record.
    fn skip_to_magic(&mut self) -> io::Result<()> {
        self.after_gap = true;
        self.offset += 1;
        loop {
            let bytes = self.bytes(WINDOW)?;
            if bytes.len() < 4 {
                self.offset = self.size;
                return Ok(());
            }
            let found = bytes.windows(4).position(|four| four == b"AshR");
            // The last three may begin it.
            let skipped = found.unwrap_or(bytes.len() - 3);
            self.offset += skipped as u64;
            if found.is_some() {
                return Ok(());
            }
        }
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use ashlar_model::cas::{CasDigest, DigestFunction};

    use super::*;
    use crate::disk::key::Key;
    use crate::disk::record::{Says, encode_head};

    fn records(count: usize) -> (Vec<u8>, Vec<u64>) {
        let mut pack = Vec::new();
        let mut offsets = Vec::new();
        for number in 0..count {
            let value = vec![u8::try_from(number % 251).unwrap(); number * 37];
            let key = Key::blob(&CasDigest::of(DigestFunction::Blake3, &value));
            offsets.push(pack.len() as u64);
            pack.extend(encode_head(Says::Value, &key, &value, number as u64).unwrap());
            pack.extend(value);
        }
        (pack, offsets)
    }

    fn scan(pack: &[u8]) -> Vec<Scanned> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(pack).unwrap();
        let mut scanner = Scanner::new(Arc::new(file), pack.len() as u64);
        let mut found = Vec::new();
        while let Some(record) = scanner.next().unwrap() {
            found.push(record);
        }
        found
    }

    #[test]
    fn all_records_are_found_where_they_are() {
        let (pack, offsets) = records(400);
        let found = scan(&pack);
        let places: Vec<_> = found.iter().map(|record| record.offset).collect();
        assert_eq!(places, offsets);
        assert!(
            found
                .iter()
                .all(|record| record.is_intact && !record.after_gap)
        );
        assert!(scan(&[]).is_empty());
    }

    #[test]
    fn a_torn_tail_is_no_record_and_a_damaged_one_hides_no_other() {
        let (pack, offsets) = records(30);
        let torn = scan(&pack[..pack.len() - 5]);
        assert_eq!(torn.len(), 30);
        assert!(!torn[29].is_intact);
        let torn = scan(&pack[..usize::try_from(offsets[29]).unwrap() + 10]);
        assert_eq!(torn.len(), 29);
        let mut damaged = pack.clone();
        damaged[usize::try_from(offsets[10]).unwrap() + 9] ^= 1;
        let found = scan(&damaged);
        let places: Vec<_> = found.iter().map(|record| record.offset).collect();
        let expected: Vec<_> = offsets
            .iter()
            .copied()
            .filter(|offset| *offset != offsets[10])
            .collect();
        assert_eq!(places, expected);
        assert!(found[10].after_gap && found[10].is_intact && !found[9].after_gap);
    }
}

//! What the blobs of unchanged files are: a hint that saves reading the files.
//!
//! Blobs are remembered by what is in them: the digests and sizes of their contents. A hint that is
//! wrong makes a farm be asked for a blob that it does not have, or a worker find other files than
//! the listing says: it never makes a wrong image.
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 8 | `ASHBUND1` |
//! | 8 | 32 | BLAKE3 of the rest |
//! | 40 | | the records, as a postcard |
//!
//! Any number of processes may use the file: each replaces it as a whole, with what it has learnt
//! added to what is there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ashlar_model::cas::DigestFunction;
use ashlar_store::home::quota::{Meter, on_disk};
use ashlar_store::home::record::write_atomically;
use serde::{Deserialize, Serialize};

use super::contents::Content;
use super::manifest::Blob;

/// Names the format and its version. A file with another one is ignored.
const MAGIC: &[u8; 8] = b"ASHBUND1";

const HEADER_LENGTH: usize = 40;

/// A longer file is ignored, and none is written that is longer.
const LONGEST_FILE: u64 = 32 << 20;

/// So many blobs are remembered at most, in about 15 MB: those of contexts of some 20 GB.
const MOST_BLOBS: usize = 150_000;

/// Records that this many rewritings have not seen in use are dropped.
const FORGOTTEN_AFTER: u8 = 64;

/// Names contents that are in blobs of their own.
pub(super) type PieceKey = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    key: PieceKey,
    /// How many rewritings have not seen it in use.
    unused: u8,
    blobs: Vec<Blob>,
}

/// Blobs of files that have not changed.
#[derive(Debug, Default)]
pub struct Hints {
    path: Option<PathBuf>,
    known: HashMap<PieceKey, Vec<Blob>>,
    /// Locked for a moment only.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: Vec<PieceKey>,
    learnt: HashMap<PieceKey, Vec<Blob>>,
}

impl Hints {
    /// Reads the file at `path`, if there is to be one. One that is absent, damaged or of another
    /// version is as good as an empty one.
    pub fn load(path: Option<PathBuf>) -> Self {
        let records = path.as_deref().map(read).unwrap_or_default();
        let known = records.into_iter().map(|record| (record.key, record.blobs));
        Self {
            known: known.collect(),
            state: Mutex::default(),
            path,
        }
    }

    /// The blobs of a piece.
    pub(super) fn find(&self, key: &PieceKey) -> Option<Vec<Blob>> {
        let mut state = self.state();
        if let Some(blobs) = state.learnt.get(key) {
            return Some(blobs.clone());
        }
        let known = self.known.get(key)?;
        state.used.push(*key);
        Some(known.clone())
    }

    /// Remembers the blobs of a piece.
    pub(super) fn learn(&self, key: PieceKey, blobs: &[Blob]) {
        if self.known.get(&key).is_none_or(|known| known != blobs) {
            self.state().learnt.insert(key, blobs.to_vec());
        }
    }

    /// Writes the file anew if anything was learnt since it was read; tells whether it did. A
    /// failure costs nothing but time in the next build.
    pub fn save(&self, meter: &Meter) -> io::Result<bool> {
        let state = self.state();
        let Some(path) = self.path.as_deref().filter(|_| !state.learnt.is_empty()) else {
            return Ok(false);
        };
        let bytes = encode(&merge(read(path), &state))?;
        drop(state);
        let _permit = meter.admit_io(on_disk(bytes.len() as u64))?;
        write_atomically(path, &bytes).map_err(io::Error::other)?;
        Ok(true)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What names some contents: what they are, and what the blobs are named with.
pub(super) fn piece_key(function: DigestFunction, contents: &[Content]) -> PieceKey {
    let mut hasher = blake3::Hasher::new_derive_key("ashlar 2026-11 contents of a context's blobs");
    hasher.update(function.name().as_bytes());
    for content in contents {
        hasher.update(content.digest.as_bytes());
        hasher.update(&content.size.to_le_bytes());
    }
    hasher.finalize().into()
}

/// What is there and what was learnt, what was used last first, within the limit.
fn merge(there: Vec<Record>, state: &State) -> Vec<Record> {
    let used: std::collections::HashSet<&PieceKey> = state.used.iter().collect();
    let mut records: Vec<Record> = state
        .learnt
        .iter()
        .map(|(key, blobs)| Record {
            key: *key,
            unused: 0,
            blobs: blobs.clone(),
        })
        .collect();
    let kept = there.into_iter().filter_map(|mut record| {
        if state.learnt.contains_key(&record.key) {
            return None;
        }
        record.unused = if used.contains(&record.key) {
            0
        } else {
            record.unused.saturating_add(1)
        };
        (record.unused <= FORGOTTEN_AFTER).then_some(record)
    });
    records.extend(kept);
    records.sort_by_key(|record| (record.unused, record.key));
    let mut blobs = 0;
    records.retain(|record| {
        blobs += record.blobs.len();
        blobs <= MOST_BLOBS
    });
    records
}

fn encode(records: &[Record]) -> io::Result<Vec<u8>> {
    let bytes = postcard::to_extend(records, vec![0; HEADER_LENGTH]);
    let mut bytes = bytes.map_err(io::Error::other)?;
    let checksum = blake3::hash(&bytes[HEADER_LENGTH..]);
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..HEADER_LENGTH].copy_from_slice(checksum.as_bytes());
    Ok(bytes)
}

fn read(path: &Path) -> Vec<Record> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(LONGEST_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let fits = fs::metadata(path).is_ok_and(|file| file.len() < LONGEST_FILE);
    let bytes = if fits { read().ok() } else { None };
    bytes.and_then(|bytes| decode(&bytes)).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<Vec<Record>> {
    let (header, records) = bytes.split_at_checked(HEADER_LENGTH)?;
    let intact =
        header.starts_with(MAGIC) && blake3::hash(records).as_bytes() == header.get(8..)?;
    intact.then(|| postcard::from_bytes(records).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: u8) -> Blob {
        Blob {
            hash: [number; 32],
            size: 1,
        }
    }

    fn meter(directory: &Path) -> Meter {
        let home = ashlar_store::home::Home::open(&directory.join("home")).unwrap();
        home.meter()
    }

    #[test]
    fn what_was_learnt_is_known_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hints");
        let meter = meter(directory.path());
        let hints = Hints::load(Some(path.clone()));
        assert!(!hints.save(&meter).unwrap());
        hints.learn([1; 32], &[blob(1)]);
        // Two processes at once: neither loses what the other has learnt.
        let other = Hints::load(Some(path.clone()));
        other.learn([2; 32], &[blob(2), blob(3)]);
        assert!(hints.save(&meter).unwrap());
        assert!(other.save(&meter).unwrap());
        let hints = Hints::load(Some(path.clone()));
        assert_eq!(hints.find(&[1; 32]), Some(vec![blob(1)]));
        assert_eq!(hints.find(&[2; 32]), Some(vec![blob(2), blob(3)]));
        assert_eq!(hints.find(&[3; 32]), None);
        hints.learn([1; 32], &[blob(1)]);
        assert!(!hints.save(&meter).unwrap(), "nothing is new");
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hints");
        let meter = meter(directory.path());
        let hints = Hints::load(Some(path.clone()));
        hints.learn([1; 32], &[blob(1)]);
        hints.learn([2; 32], &[blob(2)]);
        hints.save(&meter).unwrap();
        for round in 0..=FORGOTTEN_AFTER {
            let hints = Hints::load(Some(path.clone()));
            hints.find(&[2; 32]).unwrap();
            hints.learn([3; 32], &[blob(round)]);
            assert!(hints.save(&meter).unwrap());
        }
        let hints = Hints::load(Some(path));
        assert_eq!(hints.find(&[1; 32]), None);
        assert_eq!(hints.find(&[2; 32]), Some(vec![blob(2)]));
    }

    #[test]
    fn there_is_a_limit() {
        let mut state = State::default();
        for number in 0..MOST_BLOBS as u64 + 10 {
            let key = *blake3::hash(&number.to_le_bytes()).as_bytes();
            state.learnt.insert(key, vec![blob(0)]);
        }
        let records = merge(Vec::new(), &state);
        assert_eq!(records.len(), MOST_BLOBS);
        assert!((encode(&records).unwrap().len() as u64) < LONGEST_FILE);
    }

    #[test]
    fn damage_is_noticed() {
        let records = vec![Record {
            key: [7; 32],
            unused: 3,
            blobs: vec![blob(1)],
        }];
        let bytes = encode(&records).unwrap();
        assert_eq!(decode(&bytes), Some(records));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_eq!(decode(&damaged), None, "{place}");
            assert_eq!(decode(&bytes[..place]), None, "{place}");
        }
    }
}

//! Small files that are written whole and read whole: JSON, then a line with its BLAKE3.
//!
//! ```text
//! {"layer":"…"}\n
//! 0123…cdef\n         64 hex digits: BLAKE3 of the first line without its newline
//! ```
//!
//! The checksum makes a torn write visible without any fsync: such a file counts as absent.

use std::fs::{self, FileTimes, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// How often a directory is made for a file. Only somebody who forgets it at that very moment makes
/// a second time necessary.
const DIRECTORY_TRIES: usize = 10;

/// Writes `bytes` under a temporary name beside `path` and renames it into place.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", unique_name()?));
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = fs::File::create_new(&temporary)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(&temporary, path)
    };
    let mut result = write();
    for _ in 0..DIRECTORY_TRIES {
        if !matches!(&result, Err(error) if error.kind() == ErrorKind::NotFound) {
            break;
        }
        // The directory is made on first use. It may go again meanwhile, with all that is in it.
        result = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| write());
    }
    result.map_err(|error| {
        // The error that matters is the first one; what is left behind is garbage at worst.
        let _ignored = fs::remove_file(&temporary);
        StoreError::io("write", path, error)
    })
}

/// A name that no process gives twice. Process ids would not do: containers that share a store have
/// the same ones.
pub(super) fn unique_name() -> Result<String, StoreError> {
    static PROCESS: OnceLock<String> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let process = match PROCESS.get() {
        Some(process) => process,
        None => {
            let random = super::layers::random_hex()?;
            PROCESS.get_or_init(|| random)
        }
    };
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{process}-{number}"))
}

/// Stores a record.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec(record)
        .map_err(|e| StoreError::io("encode", path, io::Error::other(e)))?;
    let checksum = blake3::hash(&bytes);
    bytes.push(b'\n');
    bytes.extend_from_slice(checksum.to_hex().as_bytes());
    bytes.push(b'\n');
    write_atomically(path, &bytes)
}

/// Reads a record. `None` if it is absent, torn, or written by a version with other fields.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(StoreError::io("read", path, error)),
    };
    Ok(decode(&bytes))
}

/// Reads a record as [`read`] does, and notes in its access time that it was used.
///
/// The kernel keeps that time to the day at best (`relatime`), or not at all (`noatime`), so it is
/// set here, once an hour. Where it cannot be set, in a store that may only be read, nothing is
/// evicted either.
pub(super) fn read_used<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        if last_use(&file.metadata()?).is_none_or(|used| age(used) > USE_PRECISION) {
            let _ignored = file.set_times(FileTimes::new().set_accessed(now()));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(decode(&bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(StoreError::io("read", path, error)),
    }
}

/// How exactly the last use of a record is known.
const USE_PRECISION: Duration = Duration::from_secs(3600);

/// When a record was last written or used.
pub(super) fn last_use(metadata: &Metadata) -> Option<SystemTime> {
    let times = [metadata.modified(), metadata.accessed()];
    times.into_iter().flatten().max()
}

/// How long ago that was; for ever if it is yet to come.
fn age(used: SystemTime) -> Duration {
    now().duration_since(used).unwrap_or(Duration::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "when the store was used is no part of what it gives"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Reads a record as [`read`] does, but leaves its access time alone: looking is not using.
pub(super) fn read_unnoticed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NOATIME.bits().cast_signed())
            .open(path)?
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(decode(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // Only the owner may ask for it: the file is somebody else's.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => self::read(path),
        Err(error) => Err(StoreError::io("read", path, error)),
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let body = bytes.strip_suffix(b"\n")?;
    let split = body.iter().rposition(|b| *b == b'\n')?;
    let (json, checksum) = (&body[..split], &body[split + 1..]);
    if blake3::hash(json).to_hex().as_bytes() != checksum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_counts_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/record");
        assert_eq!(read::<String>(&path).unwrap(), None);
        write(&path, &"hello").unwrap();
        assert_eq!(read::<String>(&path).unwrap().as_deref(), Some("hello"));

        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(read::<String>(&path).unwrap(), None, "cut at {length}");
        }
        let mut flipped = whole;
        flipped[1] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert_eq!(read::<String>(&path).unwrap(), None);
    }

    #[test]
    fn a_use_is_noted_to_the_hour() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        write(&path, &"hello").unwrap();
        let last = || last_use(&fs::metadata(&path).unwrap()).unwrap();
        for (ago, noted) in [(10, false), (3500, false), (3700, true), (86_000, true)] {
            let then = now() - Duration::from_secs(ago);
            let times = FileTimes::new().set_accessed(then).set_modified(then);
            fs::File::open(&path).unwrap().set_times(times).unwrap();
            assert_eq!(read_unnoticed::<String>(&path).unwrap().unwrap(), "hello");
            assert_eq!(last(), then, "{ago}");
            assert_eq!(read_used::<String>(&path).unwrap().unwrap(), "hello");
            // The kernel may have noted the reading by itself.
            assert!(!noted || age(last()) < Duration::from_secs(1000), "{ago}");
        }
        assert_eq!(read_used::<String>(&path.join("x")).unwrap(), None);
    }

    #[test]
    fn nothing_temporary_is_left() {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("record"), &1).unwrap();
        write(&directory.path().join("record"), &2).unwrap();
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
    }
}

//! Digests of a context's files: read once, remembered in the stat cache.

use std::cell::RefCell;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::{Timestamp, Xattr};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

use super::error::ReadError;
use super::stat::FileStat;
use super::xattr::read_user_xattrs;

/// Files of at least this length are read in pieces of it and hashed on all cores: below, the
/// cores are kept busy by hashing many files at once.
const LARGE: usize = 1 << 20;

/// How much of a smaller file is read at once.
const SMALL_BUFFER: usize = 64 * 1024;

/// How often a file that changed while it was read is read again.
const ATTEMPTS: usize = 4;

/// What was found in a file.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) digest: FileDigest,
    pub(super) xattrs: Vec<Xattr>,
    /// The file as it was while it was read; newer than what the walk saw if it changed since.
    pub(super) stat: FileStat,
    /// When reading began.
    pub(super) read_at: Timestamp,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SMALL_BUFFER]);
}

/// Reads a regular file whose metadata are `stat`; `None` if it has gone, or is no file any more.
pub(super) fn read_content(
    directory: &OwnedFd,
    name: &CStr,
    mut stat: FileStat,
    show: impl Fn() -> PathBuf,
) -> Result<Option<Content>, ReadError> {
    let unreadable = |source: io::Error| ReadError::Content {
        path: show(),
        source,
    };
    for _ in 0..ATTEMPTS {
        let read_at = now();
        // NONBLOCK: should a fifo have taken the file's place, opening it must not wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(unreadable(error.into())),
        };
        let (digest, length) = hash(&file, stat.size).map_err(unreadable)?;
        let xattrs = read_user_xattrs(&file).map_err(unreadable)?;
        let after = FileStat::of(&file).map_err(unreadable)?;
        if after == stat && length == stat.size {
            return Ok(Some(Content {
                digest,
                xattrs,
                stat,
                read_at,
            }));
        }
        if !after.file_type().is_file() {
            return Ok(None);
        }
        stat = after;
    }
    Err(ReadError::Changing { path: show() })
}

/// The digest of an open file, and how many bytes it had. `expected` only chooses the way.
fn hash(file: &OwnedFd, expected: u64) -> io::Result<(FileDigest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut length = 0;
    if expected >= LARGE as u64 {
        // Not the thread's buffer: while a thread waits for its helpers, it hashes other files.
        let mut buffer = vec![0; LARGE];
        loop {
            let filled = fill(file, &mut buffer)?;
            hasher.update_rayon(&buffer[..filled]);
            length += filled as u64;
            if filled < buffer.len() {
                break;
            }
        }
    } else {
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                let filled = retry_on_intr(|| read(file, &mut buffer[..]))?;
                hasher.update(&buffer[..filled]);
                length += filled as u64;
                // Where the length is as expected, the metadata taken afterwards tell whether
                // more has come: no need to read up to the end to find that nothing is there.
                if filled == 0 || length == expected {
                    break io::Result::Ok(());
                }
            }
        })?;
    }
    Ok((hasher.finalize().into(), length))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match retry_on_intr(|| read(file, &mut buffer[filled..]))? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The time of day. It only decides which digests are remembered, never what a build gives.
fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Realtime);
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: u32::try_from(time.tv_nsec).unwrap_or_default(),
    }
}

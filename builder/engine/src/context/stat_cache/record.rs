//! One record of the stat cache: 96 bytes, little-endian.
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 8 | key: the first bytes of the path's BLAKE3 |
//! | 8 | 8 | device: major, minor |
//! | 16 | 8 | inode |
//! | 24 | 8 | size |
//! | 32 | 16 | modification and change time: seconds |
//! | 48 | 8 | modification and change time: nanoseconds |
//! | 56 | 2 | mode |
//! | 58 | 1 | how many rewritings have not seen it in use |
//! | 59 | 5 | zero |
//! | 64 | 32 | digest |

use ashlar_model::digest::FileDigest;
use ashlar_model::layer::Timestamp;

use super::super::stat::{FileStat, Identity};

/// Length of a record in bytes.
pub(super) const RECORD_LENGTH: usize = 96;

/// What a file looked like, and what it contained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: u64,
    pub(super) identity: Identity,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) mode: u16,
    pub(super) unused: u8,
    pub(super) digest: FileDigest,
}

/// What a path is filed under. Spread evenly, which the search relies on.
pub(super) fn path_key(path: &[u8]) -> u64 {
    let hash = blake3::hash(path);
    number(hash.as_bytes())
}

/// The little-endian number at the start of `bytes`; zero if they are too few.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn half(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

impl Record {
    pub(super) fn new(key: u64, stat: &FileStat, digest: FileDigest) -> Self {
        Self {
            key,
            identity: stat.identity,
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
            mode: stat.mode,
            unused: 0,
            digest,
        }
    }

    /// Whether a file still looks as it did.
    pub(super) fn describes(&self, stat: &FileStat) -> bool {
        self.identity == stat.identity
            && self.size == stat.size
            && self.mtime == stat.mtime
            && self.ctime == stat.ctime
            && self.mode == stat.mode
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.key.to_le_bytes());
        out.extend(self.identity.device.0.to_le_bytes());
        out.extend(self.identity.device.1.to_le_bytes());
        out.extend(self.identity.inode.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        out.extend(self.mtime.seconds.to_le_bytes());
        out.extend(self.ctime.seconds.to_le_bytes());
        out.extend(self.mtime.nanoseconds.to_le_bytes());
        out.extend(self.ctime.nanoseconds.to_le_bytes());
        out.extend(self.mode.to_le_bytes());
        out.extend([self.unused, 0, 0, 0, 0, 0]);
        out.extend(self.digest.as_bytes());
    }

    pub(super) fn decode(bytes: &[u8; RECORD_LENGTH]) -> Self {
        let time = |seconds: usize, nanoseconds: usize| Timestamp {
            seconds: number(&bytes[seconds..]).cast_signed(),
            nanoseconds: half(&bytes[nanoseconds..]),
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[64..]);
        Self {
            key: number(bytes),
            identity: Identity {
                device: (half(&bytes[8..]), half(&bytes[12..])),
                inode: number(&bytes[16..]),
            },
            size: number(&bytes[24..]),
            mtime: time(32, 48),
            ctime: time(40, 52),
            mode: u16::from_le_bytes([bytes[56], bytes[57]]),
            unused: bytes[58],
            digest: FileDigest::from_bytes(digest),
        }
    }
}

//! What can be wrong with a tar.

use std::fmt;
use std::io;

/// Why a tar cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// Its bytes cannot be had.
    #[error("cannot read the tar at byte {offset}")]
    Io {
        /// Bytes of the uncompressed tar before the place.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// It is damaged, or no tar.
    #[error("the tar is damaged before byte {offset}: {damage}")]
    Damaged {
        /// Bytes of the uncompressed tar up to where it was noticed.
        offset: u64,
        /// What is wrong.
        damage: Damage,
    },
}

/// What is wrong with a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// It ends within an entry.
    Truncated,
    /// A header's checksum is wrong.
    Checksum,
    /// A header's field is no number, or one that is too large or negative.
    Number(&'static str),
    /// PAX records are malformed.
    Record,
    /// A name, a set of records or a sparse map is too long.
    TooLong,
    /// A sparse file's map does not fit the file.
    SparseMap,
    /// A single block of zeros stands between entries.
    LoneZeroBlock,
    /// An entry's type is not one that layers have.
    Type(u8),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("it ends within an entry"),
            Self::Checksum => f.write_str("a header's checksum is wrong"),
            Self::Number(field) => write!(f, "an entry's {field} is not a number that can be"),
            Self::Record => f.write_str("an entry's PAX records are malformed"),
            Self::TooLong => f.write_str("an entry's name or records are longer than 1 MiB"),
            Self::SparseMap => f.write_str("a sparse file's map does not fit the file"),
            Self::LoneZeroBlock => f.write_str("a block of zeros stands between entries"),
            Self::Type(flag) => {
                write!(f, "an entry has the unknown type `{}`", flag.escape_ascii())
            }
        }
    }
}

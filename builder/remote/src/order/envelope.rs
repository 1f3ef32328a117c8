//! What stands before a body: what it is, and in which version.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::OrderError;

const MAGIC: [u8; 4] = *b"ASHO";

/// The version of all bodies.
pub(super) const VERSION: u16 = 1;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Segment,
    Delivery,
    Build,
    Outcome,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Segment => 1,
            Self::Delivery => 2,
            Self::Build => 3,
            Self::Outcome => 4,
        }
    }

    /// How people call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Segment => "order of a segment",
            Self::Delivery => "order of a delivery",
            Self::Build => "order of a build",
            Self::Outcome => "outcome of a segment",
        }
    }
}

/// Writes a body.
pub(super) fn seal(kind: Kind, body: &impl Serialize) -> Result<Vec<u8>, OrderError> {
    let mut bytes = MAGIC.to_vec();
    bytes.push(kind.code());
    bytes.extend(VERSION.to_le_bytes());
    postcard::to_extend(body, bytes).map_err(|source| OrderError::Damaged {
        kind: kind.name(),
        source,
    })
}

/// Reads a body: all of the bytes, of which there are `most` at most.
pub(super) fn open<T: DeserializeOwned>(
    kind: Kind,
    bytes: &[u8],
    most: usize,
) -> Result<T, OrderError> {
    let name = kind.name();
    if bytes.len() > most {
        return Err(OrderError::TooLong {
            kind: name,
            length: bytes.len(),
            most,
        });
    }
    let body = bytes
        .strip_prefix(&MAGIC)
        .and_then(|rest| rest.strip_prefix(&[kind.code()]))
        .ok_or(OrderError::Kind(name))?;
    let (version, body) = body.split_first_chunk().ok_or(OrderError::Kind(name))?;
    let found = u16::from_le_bytes(*version);
    if found != VERSION {
        return Err(OrderError::Version {
            kind: name,
            found,
            known: VERSION,
        });
    }
    let damaged = |source| OrderError::Damaged { kind: name, source };
    match postcard::take_from_bytes(body).map_err(damaged)? {
        (read, []) => Ok(read),
        (_, _) => Err(damaged(postcard::Error::SerdeDeCustom)),
    }
}

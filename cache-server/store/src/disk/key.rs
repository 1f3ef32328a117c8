//! What entries are called: a byte that says what kind it is, then its name.
//!
//! ```text
//! blob     function (0 SHA-256, 1 BLAKE3) · hash, 32 bytes · size, 8 bytes big-endian
//! result   16 + function · hash · size · instance name
//! name     32 · text
//! pin      48 · the key of a result
//! ```
//!
//! Keys of one kind are together in the index, results of all instances among each other.

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};

const RESULT: u8 = 16;
const NAME: u8 = 32;
const PIN: u8 = 48;
/// The byte, the hash and the size.
const DIGEST: usize = 41;

/// Longest key that a pack's record can have.
pub(super) const LONGEST: usize = 4096;

/// The key of an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(Vec<u8>);

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Blob,
    Result,
    Name,
    Pin,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Blob, Self::Result, Self::Name, Self::Pin];
}

fn digest_bytes(base: u8, digest: &CasDigest) -> Vec<u8> {
    let function = match digest.function {
        DigestFunction::Sha256 => 0,
        DigestFunction::Blake3 => 1,
    };
    let mut bytes = Vec::with_capacity(DIGEST);
    bytes.push(base + function);
    bytes.extend_from_slice(&digest.hash);
    bytes.extend_from_slice(&digest.size.to_be_bytes());
    bytes
}

fn digest_of(base: u8, bytes: &[u8]) -> Option<CasDigest> {
    let function = match bytes.first()?.checked_sub(base)? {
        0 => DigestFunction::Sha256,
        1 => DigestFunction::Blake3,
        _ => return None,
    };
    Some(CasDigest {
        function,
        hash: bytes.get(1..33)?.try_into().ok()?,
        size: u64::from_be_bytes(bytes.get(33..DIGEST)?.try_into().ok()?),
    })
}

impl Key {
    pub(super) fn blob(digest: &CasDigest) -> Self {
        Self(digest_bytes(0, digest))
    }

    pub(super) fn result(key: &ActionKey) -> Self {
        let mut bytes = digest_bytes(RESULT, &key.action);
        bytes.extend_from_slice(key.instance.as_bytes());
        Self(bytes)
    }

    pub(super) fn name(name: &str) -> Self {
        let mut bytes = vec![NAME];
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    pub(super) fn pin(key: &ActionKey) -> Self {
        let mut bytes = vec![PIN];
        bytes.extend_from_slice(&Self::result(key).0);
        Self(bytes)
    }

    /// A key as it was read; `None` if it is none.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let key = Self(bytes.to_vec());
        let is_whole = match key.kind()? {
            Kind::Blob => bytes.len() == DIGEST,
            Kind::Result => key.as_result().is_some(),
            Kind::Name => true,
            Kind::Pin => key.pinned().is_some(),
        };
        (is_whole && bytes.len() <= LONGEST).then_some(key)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) const fn length(&self) -> usize {
        self.0.len()
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        match self.0.first()? {
            0 | 1 => Some(Kind::Blob),
            16 | 17 => Some(Kind::Result),
            32 => Some(Kind::Name),
            48 => Some(Kind::Pin),
            _ => None,
        }
    }

    pub(super) fn as_blob(&self) -> Option<CasDigest> {
        digest_of(0, &self.0)
    }

    pub(super) fn as_result(&self) -> Option<ActionKey> {
        Some(ActionKey {
            action: digest_of(RESULT, &self.0)?,
            instance: String::from_utf8(self.0.get(DIGEST..)?.to_vec()).ok()?,
        })
    }

    /// The result that a pin keeps.
    pub(super) fn pinned(&self) -> Option<ActionKey> {
        if *self.0.first()? != PIN {
            return None;
        }
        Self(self.0.get(1..)?.to_vec()).as_result()
    }

    /// The first key that a kind can have, and the first behind them.
    pub(super) const fn bounds(kind: Kind) -> ([u8; 1], [u8; 1]) {
        match kind {
            Kind::Blob => ([0], [2]),
            Kind::Result => ([RESULT], [RESULT + 2]),
            Kind::Name => ([NAME], [NAME + 1]),
            Kind::Pin => ([PIN], [PIN + 1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_they_were_made_of() {
        for function in [DigestFunction::Sha256, DigestFunction::Blake3] {
            let digest = CasDigest::of(function, b"a");
            let key = Key::blob(&digest);
            assert_eq!(key.as_blob(), Some(digest));
            assert_eq!(Key::from_bytes(key.as_bytes()), Some(key));
            let action = ActionKey {
                instance: "a/b".to_owned(),
                action: digest,
            };
            let key = Key::result(&action);
            assert_eq!(key.as_result(), Some(action.clone()));
            assert_eq!(key.as_blob(), None);
            assert_eq!(Key::pin(&action).pinned(), Some(action));
        }
        assert_eq!(Key::from_bytes(&[]), None);
        assert_eq!(Key::from_bytes(&[1, 2, 3]), None);
        assert_eq!(Key::from_bytes(&[99; 41]), None);
    }
}

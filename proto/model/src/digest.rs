//! Digests and identifiers, each a distinct type so that one can never stand for another.
//!
//! Two families: SHA-256 where OCI prescribes it, written `sha256:<64 hex>`; BLAKE3 for our own
//! identities, written as 64 hex digits with no prefix.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestParseError {
    /// The algorithm is registered with OCI but not one that Ashlar computes.
    #[error("digest algorithm `{0}` is not supported; only sha256 is")]
    UnsupportedAlgorithm(String),
    /// The text lacks the `sha256:` prefix that OCI digests carry.
    #[error("`{0}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
    MissingAlgorithm(String),
    /// The hexadecimal part has the wrong length or characters.
    #[error("`{0}` is not {1} lower-case hexadecimal digits")]
    BadHex(String, usize),
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], DigestParseError> {
    let bad = || DigestParseError::BadHex(text.chars().take(160).collect(), N * 2);
    if text.len() != N * 2 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(bad());
    }
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out).map_err(|_| bad())?;
    Ok(out)
}

macro_rules! common_impls {
    ($name:ident, $len:literal) => {
        impl $name {
            /// Wraps raw bytes that are already known to be such a digest.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The bytes in lower-case hexadecimal, without any prefix.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }

            /// Reads the bare hexadecimal form.
            pub fn from_hex(text: &str) -> Result<Self, DigestParseError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(deserializer).map(Self)
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

macro_rules! sha256_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        common_impls!($name, 32);

        impl $name {
            /// The digest of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(Sha256::digest(bytes).into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = DigestParseError;

            fn from_str(text: &str) -> Result<Self, DigestParseError> {
                match text.split_once(':') {
                    Some(("sha256", rest)) => Self::from_hex(rest),
                    Some((other, _)) => {
                        Err(DigestParseError::UnsupportedAlgorithm(other.chars().take(80).collect()))
                    }
                    None => Err(DigestParseError::MissingAlgorithm(text.chars().take(160).collect())),
                }
            }
        }
    };
}

macro_rules! blake3_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        common_impls!($name, 32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = DigestParseError;

            fn from_str(text: &str) -> Result<Self, DigestParseError> {
                Self::from_hex(text)
            }
        }

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(hash.into())
            }
        }
    };
}

sha256_type! {
    /// SHA-256 of a blob as it is stored and sent: a manifest, a configuration, a compressed layer.
    BlobDigest
}
sha256_type! {
    /// SHA-256 of a layer's uncompressed tar, as listed in an image configuration's `rootfs`.
    DiffId
}
sha256_type! {
    /// OCI chain ID: the identity of a stack of diff IDs.
    ChainId
}
blake3_type! {
    /// BLAKE3 of one file's bytes.
    FileDigest
}
blake3_type! {
    /// BLAKE3 over a canonical encoding of files, as [`crate::content_hash`] defines it: what a
    /// layer or a selection of files contains, modification times left out.
    ContentDigest
}
blake3_type! {
    /// Definition key of a step: its parent's definition key and its own instruction.
    DefinitionKey
}
blake3_type! {
    /// Content key of a step: the content of its parent filesystem and its own instruction.
    ContentKey
}
blake3_type! {
    /// What a step does, its parent left out: the part that both of its keys share.
    InstructionKey
}

impl ChainId {
    /// The chain ID of a stack, bottom first; `None` for an empty stack.
    ///
    /// Source: OCI image specification, `config.md`, "Layer ChainID".
    pub fn of_stack(diff_ids: &[DiffId]) -> Option<Self> {
        let (first, rest) = diff_ids.split_first()?;
        let mut chain = Self(*first.as_bytes());
        for diff_id in rest {
            chain = Self::of(format!("{chain} {diff_id}").as_bytes());
        }
        Some(chain)
    }
}

/// Names one layer in a local store. Random for a layer made here, so that its making need not
/// wait for any hash; derived from the diff ID for a layer that came with an image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId([u8; 16]);

common_impls!(LayerId, 16);

impl LayerId {
    /// The one name of an image's layer: 128 bits of BLAKE3 over its diff ID.
    pub fn of_diff_id(diff_id: &DiffId) -> Self {
        let mut bytes = [0; 16];
        blake3::Hasher::new_derive_key("ashlar 2026-11 layer id of an image layer")
            .update(diff_id.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for LayerId {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, DigestParseError> {
        Self::from_hex(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_digests_read_back_what_they_print() {
        let digest = BlobDigest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn malformed_digests_say_what_is_wrong() {
        assert_eq!(
            "sha512:00".parse::<BlobDigest>(),
            Err(DigestParseError::UnsupportedAlgorithm("sha512".into()))
        );
        assert!(matches!(
            "e3b0".parse::<BlobDigest>(),
            Err(DigestParseError::MissingAlgorithm(_))
        ));
        let upper = format!("sha256:{}", "AB".repeat(32));
        assert!(matches!(
            upper.parse::<BlobDigest>(),
            Err(DigestParseError::BadHex(..))
        ));
    }

    #[test]
    fn chain_id_follows_the_specification() {
        let a = DiffId::of(b"a");
        let b = DiffId::of(b"b");
        assert_eq!(ChainId::of_stack(&[]), None);
        assert_eq!(
            ChainId::of_stack(&[a]).map(|c| *c.as_bytes()),
            Some(*a.as_bytes())
        );
        assert_eq!(
            ChainId::of_stack(&[a, b]),
            Some(ChainId::of(format!("{a} {b}").as_bytes()))
        );
    }

    #[test]
    fn serde_is_text_for_people() {
        let key = DefinitionKey::from(blake3::hash(b"x"));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<DefinitionKey>(&json).unwrap(), key);
    }
}

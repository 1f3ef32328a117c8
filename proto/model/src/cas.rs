//! How a shared cache names what it holds, in the words of the Remote Execution API (REAPI).

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A hash function of blobs. Which one a cache is used with is agreed upon with that cache, and
/// enters no step's key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum DigestFunction {
    /// SHA-256: every server has it.
    Sha256,
    /// BLAKE3 with 256 bits: taken where both sides have it.
    #[default]
    Blake3,
}

impl DigestFunction {
    /// The name that REAPI's resource names and Ashlar's settings have.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }

    /// The hash of some bytes.
    pub fn hash(self, bytes: &[u8]) -> [u8; 32] {
        match self {
            Self::Sha256 => Sha256::digest(bytes).into(),
            Self::Blake3 => blake3::hash(bytes).into(),
        }
    }

    /// A hash that grows with its input.
    pub fn hasher(self) -> CasHasher {
        match self {
            Self::Sha256 => CasHasher::Sha256(Sha256::new()),
            Self::Blake3 => CasHasher::Blake3(Box::default()),
        }
    }
}

impl fmt::Display for DigestFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names a blob: the hash and the length of its bytes. REAPI: `Digest`, with the function that
/// REAPI says beside it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CasDigest {
    /// The function.
    pub function: DigestFunction,
    /// The hash.
    pub hash: [u8; 32],
    /// Length in bytes.
    pub size: u64,
}

impl CasDigest {
    /// The digest of a blob in memory.
    pub fn of(function: DigestFunction, bytes: &[u8]) -> Self {
        Self {
            function,
            hash: function.hash(bytes),
            size: bytes.len() as u64,
        }
    }

    /// The hash in lower-case hexadecimal.
    pub fn hash_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // Questions about thousands of blobs are made of these: `hex` takes several times as long.
        let mut digits = vec![0; 2 * self.hash.len()];
        for (two, byte) in digits.chunks_exact_mut(2).zip(self.hash) {
            two.copy_from_slice(&[
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]);
        }
        String::from_utf8(digits).unwrap_or_default()
    }
}

impl fmt::Display for CasDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.function, self.hash_hex(), self.size)
    }
}

impl fmt::Debug for CasDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CasDigest({self})")
    }
}

/// Computes a [`CasDigest`] of bytes that come in pieces.
#[derive(Debug, Clone)]
pub enum CasHasher {
    /// SHA-256.
    Sha256(Sha256),
    /// BLAKE3; its state is large.
    Blake3(Box<blake3::Hasher>),
}

impl CasHasher {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
        }
    }

    /// The hash of all bytes.
    pub fn finish(self) -> [u8; 32] {
        match self {
            Self::Sha256(hasher) => hasher.finalize().into(),
            Self::Blake3(hasher) => hasher.finalize().into(),
        }
    }
}

/// Names one result: the digest of its `Action`, in the part of the cache that an instance name
/// (which may be empty) stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionKey {
    /// REAPI's instance name.
    pub instance: String,
    /// Digest of the encoded `Action`.
    pub action: CasDigest,
}

/// A split layer in a cache: the digests of its REAPI `Tree`s, which list its chunks in order.
/// The format is that of `docs/formats.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLayer {
    /// Which cache: its address and instance name, as the settings have them.
    pub cache: String,
    /// The trees, in order; one for all but giant layers.
    pub trees: Vec<CasDigest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_functions() {
        let digest = CasDigest::of(DigestFunction::Sha256, b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0"
        );
        let digest = CasDigest::of(DigestFunction::Blake3, b"abc");
        assert_eq!(digest.hash, *blake3::hash(b"abc").as_bytes());
        assert_eq!(digest.size, 3);
    }

    #[test]
    fn pieces_hash_as_the_whole() {
        for function in [DigestFunction::Sha256, DigestFunction::Blake3] {
            let mut hasher = function.hasher();
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish(), function.hash(b"abc"));
        }
    }
}

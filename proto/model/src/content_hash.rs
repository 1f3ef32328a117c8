//! The canonical encoding under every key.
//!
//! A key is 256 bits of BLAKE3 in `derive_key` mode. The context string names what is hashed and
//! carries the format's version, so that two formats can never give the same key. What is hashed
//! is framed, never joined:
//!
//! | value | encoding |
//! |---|---|
//! | unsigned number | 8 bytes, little-endian |
//! | `bool` | one byte, 0 or 1 |
//! | text, bytes | length as a number, then the bytes |
//! | digest, id | its bytes (fixed length) |
//! | `Option` | one byte 0, or one byte 1 and the value |
//! | sequence | number of elements, then each |
//! | pair | first, then second |
//! | enum | its tag as a short text, then the variant's values |
//! | struct | its fields in the order that its `encode` lists them |
//!
//! Maps are encoded as sequences of pairs in key order. Floating-point numbers have no encoding.

/// A value with a canonical encoding.
pub trait ContentHash {
    /// Feeds the value's canonical encoding to `encoder`.
    fn encode(&self, encoder: &mut KeyEncoder);
}

/// Collects canonical encodings into one BLAKE3 hash.
#[derive(Debug, Clone)]
pub struct KeyEncoder {
    hasher: blake3::Hasher,
}

impl KeyEncoder {
    /// Starts a hash for the given purpose. `context` must be unique to it, hard-coded, and
    /// changed whenever the meaning of what is encoded changes.
    pub fn new(context: &'static str) -> Self {
        Self {
            hasher: blake3::Hasher::new_derive_key(context),
        }
    }

    /// Hashes `value` for the purpose named by `context`.
    pub fn hash_of<T: ContentHash + ?Sized>(context: &'static str, value: &T) -> blake3::Hash {
        let mut encoder = Self::new(context);
        value.encode(&mut encoder);
        encoder.finish()
    }

    /// Adds a number.
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.hasher.update(&value.to_le_bytes());
        self
    }

    /// Adds bytes of any length.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.number(value.len() as u64);
        self.hasher.update(value);
        self
    }

    /// Adds bytes whose length the format fixes, such as a digest.
    pub fn fixed<const N: usize>(&mut self, value: &[u8; N]) -> &mut Self {
        self.hasher.update(value);
        self
    }

    /// Adds an enum's tag or a struct's marker.
    pub fn tag(&mut self, tag: &'static str) -> &mut Self {
        self.bytes(tag.as_bytes())
    }

    /// Adds any value.
    pub fn value<T: ContentHash + ?Sized>(&mut self, value: &T) -> &mut Self {
        value.encode(self);
        self
    }

    /// The hash of all that was added.
    pub fn finish(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

impl ContentHash for bool {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.fixed(&[u8::from(*self)]);
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl ContentHash for $number {
            fn encode(&self, encoder: &mut KeyEncoder) {
                encoder.number(u64::from(*self));
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64);

impl ContentHash for str {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.bytes(self.as_bytes());
    }
}

impl ContentHash for String {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.bytes(self.as_bytes());
    }
}

impl<T: ContentHash> ContentHash for Option<T> {
    fn encode(&self, encoder: &mut KeyEncoder) {
        match self {
            None => encoder.value(&false),
            Some(value) => encoder.value(&true).value(value),
        };
    }
}

impl<T: ContentHash> ContentHash for [T] {
    fn encode(&self, encoder: &mut KeyEncoder) {
        encoder.number(self.len() as u64);
        for element in self {
            element.encode(encoder);
        }
    }
}

impl<T: ContentHash> ContentHash for Vec<T> {
    fn encode(&self, encoder: &mut KeyEncoder) {
        self.as_slice().encode(encoder);
    }
}

impl<A: ContentHash, B: ContentHash> ContentHash for (A, B) {
    fn encode(&self, encoder: &mut KeyEncoder) {
        self.0.encode(encoder);
        self.1.encode(encoder);
    }
}

macro_rules! digests {
    ($($digest:ident),*) => {$(
        impl ContentHash for crate::digest::$digest {
            fn encode(&self, encoder: &mut KeyEncoder) {
                encoder.fixed(self.as_bytes());
            }
        }
    )*};
}
digests!(
    BlobDigest,
    DiffId,
    ChainId,
    FileDigest,
    ContentDigest,
    DefinitionKey,
    ContentKey,
    InstructionKey
);

#[cfg(test)]
mod tests {
    use super::*;

    fn hash<T: ContentHash + ?Sized>(value: &T) -> String {
        KeyEncoder::hash_of("ashlar test", value)
            .to_hex()
            .to_string()
    }

    /// Pins the encoding: a change here changes every key, and needs new context strings.
    #[test]
    fn golden_vectors() {
        assert_eq!(
            hash("abc"),
            "a10b1b01a807eb08bae42213f0939f227af6627c13c3a3dc78807d067f45954b"
        );
        assert_eq!(
            hash(&vec![(String::from("K"), 7_u64)]),
            "d83d54f853807a92fd5e4166cfe3f4f35b739a49e3098637a1cd024470767173"
        );
    }

    #[test]
    fn framing_keeps_neighbours_apart() {
        assert_ne!(
            hash(&vec!["ab".to_owned(), "c".to_owned()]),
            hash(&vec!["a".to_owned(), "bc".to_owned()])
        );
        assert_ne!(hash(&Some(0_u64)), hash(&None::<u64>));
        assert_ne!(hash(&Vec::<u64>::new()), hash(&vec![0_u64]));
    }

    #[test]
    fn purposes_never_collide() {
        assert_ne!(
            KeyEncoder::hash_of("one", "x"),
            KeyEncoder::hash_of("two", "x")
        );
    }
}

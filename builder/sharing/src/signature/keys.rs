//! Keys: in PEM, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ashlar_model::digest::BlobDigest;
use ashlar_model::secret::SecretValue;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
    KeypairBytes,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::envelope::{Envelope, pre_authentication_encoding};
use super::statement::{Statement, Subject, is_name};

/// Gives the time, in seconds since 1970.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a key is called: the SHA-256 of its public half, in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The id of a public key.
    pub fn of(key: &VerifyingKey) -> Self {
        Self(*BlobDigest::of(key.as_bytes()).as_bytes())
    }

    /// Reads an id: 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        is_lower.then_some(Self(bytes))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Why a text is no key. It says nothing of what the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no private key.
    #[error("this is no Ed25519 private key in PEM (PKCS #8)")]
    Private,
    /// It is no public key.
    #[error("this is no Ed25519 public key in PEM")]
    Public,
    /// One that everybody can sign for.
    #[error("this public key is weak: anybody can sign for it")]
    Weak,
    /// The builder's name is none.
    #[error("a builder's name has at most 100 letters, digits and characters of `-_.@:/`")]
    Name,
}

/// Public keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, VerifyingKey>,
}

impl KeyRing {
    /// Adds all keys of a PEM file.
    pub fn add_pem(&mut self, text: &str) -> Result<(), KeyError> {
        const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
        const END: &str = "-----END PUBLIC KEY-----";
        let mut rest = text;
        let mut any = false;
        while let Some(begin) = rest.find(BEGIN) {
            let block = &rest[begin..];
            let end = block.find(END).ok_or(KeyError::Public)? + END.len();
            let key = VerifyingKey::from_public_key_pem(&block[..end]);
            self.add(key.map_err(|_| KeyError::Public)?)?;
            rest = &block[end..];
            any = true;
        }
        if any { Ok(()) } else { Err(KeyError::Public) }
    }

    /// Adds a key.
    pub fn add(&mut self, key: VerifyingKey) -> Result<(), KeyError> {
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        self.keys.insert(KeyId::of(&key), key);
        Ok(())
    }

    /// Adds all keys of another.
    pub fn extend(&mut self, other: &Self) {
        self.keys
            .extend(other.keys.iter().map(|(id, key)| (*id, *key)));
    }

    /// The key of an id.
    pub fn get(&self, id: &KeyId) -> Option<&VerifyingKey> {
        self.keys.get(id)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

/// Signs results.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
    id: KeyId,
    name: String,
    now: Now,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Signs with a private key, in PEM, as the builder of this name.
    pub fn of_pem(pem: &SecretValue, name: &str, now: Now) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(pem.reveal()).map_err(|_| KeyError::Private)?;
        let key = SigningKey::from_pkcs8_pem(text.trim()).map_err(|_| KeyError::Private)?;
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        Ok(Self {
            id: KeyId::of(&key.verifying_key()),
            key,
            name: name.to_owned(),
            now,
        })
    }

    /// The id of the key.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The public key.
    pub fn public(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// A signed statement that a step gave a result: `signature.json`.
    pub fn sign(&self, subject: &Subject<'_>) -> Vec<u8> {
        let payload = Statement::new(subject, &self.name, (self.now)()).to_bytes();
        let signature: Signature = self.key.sign(&pre_authentication_encoding(&payload));
        Envelope {
            payload,
            signatures: vec![(self.id, signature)],
        }
        .to_bytes()
    }
}

/// A new pair of keys, in PEM.
#[derive(Debug)]
pub struct NewKey {
    /// The private key.
    pub private: SecretValue,
    /// The public one.
    pub public: String,
    /// What it is called.
    pub id: KeyId,
}

impl NewKey {
    /// The keys that 32 random bytes stand for.
    pub fn of_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(&seed);
        // Without the public half, as OpenSSL writes it: older programs read nothing else.
        let bytes = KeypairBytes {
            secret_key: seed,
            public_key: None,
        };
        let private = bytes
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyError::Private)?;
        let public = key.verifying_key();
        Ok(Self {
            private: SecretValue::new(private.as_bytes().to_vec()),
            public: public
                .to_public_key_pem(LineEnding::LF)
                .map_err(|_| KeyError::Public)?,
            id: KeyId::of(&public),
        })
    }
}

//! Keys of workers, and how they are written.
//!
//! ```text
//! ashlar-farm-key-v1-<43 characters>           a public key: for Describe, settings, `farm-key=`
//! ashlar-farm-secret-key-v1-<43 characters>    its private key: a file, mode 0600, one line
//! ```
//!
//! The characters are 32 bytes in base64url without padding (RFC 4648, section 5).

use std::fmt;
use std::str::FromStr;

use ashlar_model::secret::SecretValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hpke::{Deserializable as _, Serializable as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::SealError;
use super::hpke::{PrivateKey, PublicKey, generate, public};

const PUBLIC: &str = "ashlar-farm-key-v1-";
const PRIVATE: &str = "ashlar-farm-secret-key-v1-";

/// Why a text is no key. It says nothing of what the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no public key.
    #[error("this is no public key of a farm: it begins with {PUBLIC}")]
    Public,
    /// It is no private key.
    #[error("this is no private key of a farm: it begins with {PRIVATE}")]
    Private,
    /// It is a private key where a public one belongs.
    #[error(
        "this is a private key of a farm: only its workers may have it; the public one begins with \
         {PUBLIC}"
    )]
    Secret,
}

/// Whom secrets are sealed to: the public key of workers.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    bytes: [u8; 32],
    key: PublicKey,
}

/// The private key of workers.
#[derive(Clone)]
pub struct FarmKey(PrivateKey);

impl Recipient {
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let key = PublicKey::from_bytes(&bytes).map_err(|_| KeyError::Public)?;
        Ok(Self { bytes, key })
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(super) const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether a text says that it is a public key: a setting may also name a file.
    pub fn is_written(text: &str) -> bool {
        text.trim_start().starts_with(PUBLIC)
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with(PRIVATE) {
            return Err(KeyError::Secret);
        }
        let text = text.strip_prefix(PUBLIC).ok_or(KeyError::Public)?;
        let mut bytes = [0; 32];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        if read != Ok(bytes.len()) {
            return Err(KeyError::Public);
        }
        Self::from_bytes(bytes)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", URL_SAFE_NO_PAD.encode(self.bytes))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl FarmKey {
    /// A new one.
    pub fn generate() -> Result<Self, SealError> {
        generate().map(Self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = PrivateKey::from_bytes(bytes);
        key.map(Self).map_err(|_| KeyError::Private)
    }

    pub(super) fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.0.write_exact(bytes.as_mut_slice());
        bytes
    }

    pub(super) const fn key(&self) -> &PrivateKey {
        &self.0
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        let key = public(&self.0);
        Recipient {
            bytes: key.to_bytes().into(),
            key,
        }
    }

    /// The text of a key's file.
    pub fn to_text(&self) -> SecretValue {
        let mut text = String::with_capacity(PRIVATE.len() + 44);
        text.push_str(PRIVATE);
        URL_SAFE_NO_PAD.encode_string(self.to_bytes().as_slice(), &mut text);
        text.push('\n');
        SecretValue::new(text.into_bytes())
    }

    /// Reads a key's file.
    pub fn parse(text: &SecretValue) -> Result<Self, KeyError> {
        let text = std::str::from_utf8(text.reveal()).map_err(|_| KeyError::Private)?;
        let text = text.trim().strip_prefix(PRIVATE).ok_or(KeyError::Private)?;
        let mut bytes = Zeroizing::new([0; 32]);
        let read = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice());
        if read != Ok(bytes.len()) {
            bytes.zeroize();
            return Err(KeyError::Private);
        }
        Self::from_bytes(bytes.as_slice())
    }
}

impl fmt::Debug for FarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FarmKey(…)")
    }
}

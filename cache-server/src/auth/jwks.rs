//! The public keys of an issuer of tokens: a JSON Web Key Set (RFC 7517).
//!
//! Which algorithm a key is for is the key's to say, never the token's. Keys that are no public
//! ones, are too weak, or are for something else are passed over.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::jwt::Claims;

/// A larger set is refused: those of large issuers have some kilobytes.
pub const LARGEST: usize = 1 << 20;

/// Keys that are kept of a set.
const MOST_KEYS: usize = 256;

/// The shortest modulus of RSA, in bits, that is not too weak.
const RSA_BITS: usize = 2048;

/// The longest one: longer ones cost too much.
const RSA_BITS_MOST: usize = 8192;

/// Tokens whose signatures are remembered as good.
const REMEMBERED: usize = 4096;

/// A set that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is no such set.
    #[error("it is no JSON Web Key Set: {0}")]
    Form(String),
    /// It is too large.
    #[error("it is larger than 1 MiB")]
    Large,
    /// Nothing could be checked with it.
    #[error(
        "it has no key that tokens can be checked with: a public key of RSA with 2048 bits or \
         more, of the curves P-256 or P-384, or of Ed25519"
    )]
    Empty,
}

/// One key.
#[derive(Debug)]
pub struct Key {
    id: Option<String>,
    /// What signatures it is for.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys of an issuer, as they were at a time.
pub struct KeySet {
    keys: Vec<Key>,
    /// Tokens whose signatures were found good, by their hashes. Forgotten with the set.
    good: Mutex<HashMap<blake3::Hash, Arc<Claims>>>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| (&key.id, &key.algorithms)))
            .finish()
    }
}

/// A key as it is written.
#[derive(Deserialize)]
struct Written {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Bytes without the zeros that may stand before a number.
fn number(text: Option<&String>) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text?).ok()?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(start..).map(<[u8]>::to_vec)
}

/// Exactly so many bytes.
fn coordinate(text: Option<&String>, length: usize) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text?).ok()?;
    (bytes.len() == length).then_some(bytes)
}

impl Written {
    fn is_for_signatures(&self) -> bool {
        let purpose = self.purpose.as_deref();
        let operations = self.key_ops.as_deref();
        purpose.is_none_or(|purpose| purpose == "sig")
            && operations.is_none_or(|all| all.iter().any(|operation| operation == "verify"))
    }

    fn key(self) -> Option<Key> {
        if !self.is_for_signatures() {
            return None;
        }
        let curve = self.crv.as_deref();
        let (possible, key): (&[Algorithm], _) = match (self.kty.as_str(), curve) {
            ("RSA", _) => {
                let (n, e) = (number(self.n.as_ref())?, number(self.e.as_ref())?);
                let spare = n.first()?.leading_zeros() as usize;
                if !(RSA_BITS..=RSA_BITS_MOST).contains(&(n.len() * 8 - spare)) {
                    return None;
                }
                let algorithms = &[
                    Algorithm::RS256,
                    Algorithm::RS384,
                    Algorithm::RS512,
                    Algorithm::PS256,
                    Algorithm::PS384,
                    Algorithm::PS512,
                ];
                (algorithms, DecodingKey::from_rsa_raw_components(&n, &e))
            }
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let (length, algorithms): (_, &[Algorithm]) = match curve {
                    "P-256" => (32, &[Algorithm::ES256]),
                    _ => (48, &[Algorithm::ES384]),
                };
                let mut point = vec![4];
                point.extend(coordinate(self.x.as_ref(), length)?);
                point.extend(coordinate(self.y.as_ref(), length)?);
                (algorithms, DecodingKey::from_ec_der(&point))
            }
            ("OKP", Some("Ed25519")) => {
                let bytes = coordinate(self.x.as_ref(), 32)?;
                (&[Algorithm::EdDSA], DecodingKey::from_ed_der(&bytes))
            }
            _ => return None,
        };
        let algorithms = match self.alg.as_deref() {
            None => possible.to_vec(),
            Some(name) => {
                let named = algorithm(name)?;
                possible
                    .iter()
                    .copied()
                    .filter(|one| *one == named)
                    .collect()
            }
        };
        (!algorithms.is_empty()).then_some(Key {
            id: self.kid,
            algorithms,
            key,
        })
    }
}

/// The algorithm of a name; none for those that are not for public keys.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        // The second name is that of RFC 9864.
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// What came of looking for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// A key made the signature.
    Good,
    /// None of the keys that might have did.
    Wrong,
    /// There is no key of that name.
    UnknownKey,
    /// The key of that name is for other signatures.
    OtherAlgorithm,
}

impl KeySet {
    /// The keys of a set as issuers serve it.
    pub fn read(bytes: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if bytes.len() > LARGEST {
            return Err(KeySetError::Large);
        }
        let set: Set =
            serde_json::from_slice(bytes).map_err(|error| KeySetError::Form(error.to_string()))?;
        let read = |value| serde_json::from_value::<Written>(value).ok()?.key();
        let keys: Vec<_> = set
            .keys
            .into_iter()
            .filter_map(read)
            .take(MOST_KEYS)
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self {
            keys,
            good: Mutex::default(),
        })
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether a signature is one of these keys'. Without a name of the key, there may be only one.
    pub fn check(
        &self,
        signed: &str,
        signature: &str,
        name: Option<&str>,
        algorithm: Algorithm,
    ) -> Checked {
        let mut named: Vec<&Key> = match name {
            Some(name) => {
                let is_named = |key: &&Key| key.id.as_deref() == Some(name);
                self.keys.iter().filter(is_named).collect()
            }
            None => self.keys.iter().collect(),
        };
        if named.is_empty() {
            return Checked::UnknownKey;
        }
        named.retain(|key| key.algorithms.contains(&algorithm));
        if named.is_empty() {
            return Checked::OtherAlgorithm;
        }
        if name.is_none() && named.len() > 1 {
            return Checked::UnknownKey;
        }
        let is_by = |key: &&Key| {
            let message = signed.as_bytes();
            jsonwebtoken::crypto::verify(signature, message, &key.key, algorithm).unwrap_or(false)
        };
        if named.iter().any(is_by) {
            Checked::Good
        } else {
            Checked::Wrong
        }
    }

    /// The claims of a token whose signature was found good before.
    pub fn remembered(&self, token: &blake3::Hash) -> Option<Arc<Claims>> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(token).cloned()
    }

    /// Remembers that a token's signature is good.
    pub fn remember(&self, token: blake3::Hash, claims: Arc<Claims>) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= REMEMBERED {
            // Most of those are over by now; the others are checked once more.
            good.clear();
        }
        good.insert(token, claims);
    }
}

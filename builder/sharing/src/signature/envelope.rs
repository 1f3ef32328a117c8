//! The DSSE envelope (Dead Simple Signing Envelope, version 1): a payload, its type, signatures.
//!
//! What is signed is not the payload alone but its *pre-authentication encoding* (PAE), which has
//! the type in it: a signature on something of another type can never be taken for one of ours.
//!
//! An envelope comes from a cache, and so from anybody: it is short, has no field that is not known
//! and none twice, and is written in one way only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature;
use serde::{Deserialize, Serialize};

use super::keys::KeyId;

/// The type of what is signed.
pub const PAYLOAD_TYPE: &str = "application/vnd.ashlar.result+json";
/// The longest envelope that is read, in bytes.
pub const LONGEST_ENVELOPE: usize = 16 << 10;
/// The longest payload, in bytes.
pub const LONGEST_PAYLOAD: usize = 4 << 10;
/// The most signatures of an envelope.
pub const MOST_SIGNATURES: usize = 16;

/// A payload with its signatures. Nothing of it is to be believed before one was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What is signed.
    pub payload: Vec<u8>,
    /// Who has signed it.
    pub signatures: Vec<(KeyId, Signature)>,
}

/// Why bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// It is longer than any.
    #[error("an envelope of {0} bytes is longer than the {LONGEST_ENVELOPE} that are read")]
    TooLong(usize),
    /// It is no JSON, or JSON of another shape.
    #[error("it is not of the format")]
    Shape(#[from] serde_json::Error),
    /// It is one of something else, or has a value that none has.
    #[error("{0}")]
    Wrong(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    payload_type: String,
    payload: String,
    signatures: Vec<WrittenSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSignature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Reads an envelope.
    pub fn read(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > LONGEST_ENVELOPE {
            return Err(EnvelopeError::TooLong(bytes.len()));
        }
        let written: Written = serde_json::from_slice(bytes)?;
        if written.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::Wrong(
                "it signs something else than a result",
            ));
        }
        let payload = decoded(&written.payload)?;
        if payload.len() > LONGEST_PAYLOAD {
            return Err(EnvelopeError::Wrong("its payload is longer than any"));
        }
        if written.signatures.is_empty() || written.signatures.len() > MOST_SIGNATURES {
            return Err(EnvelopeError::Wrong("it has no signatures, or too many"));
        }
        let mut signatures: Vec<(KeyId, Signature)> = Vec::new();
        for one in &written.signatures {
            let key = KeyId::parse(&one.keyid)
                .ok_or(EnvelopeError::Wrong("it has a key id that is none"))?;
            if signatures.iter().any(|(known, _)| *known == key) {
                return Err(EnvelopeError::Wrong("a key has signed it twice"));
            }
            let signature = Signature::from_slice(&decoded(&one.sig)?)
                .map_err(|_| EnvelopeError::Wrong("it has a signature that is none"))?;
            signatures.push((key, signature));
        }
        Ok(Self {
            payload,
            signatures,
        })
    }

    /// The envelope's bytes: the same for the same envelope.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(|(key, sig)| WrittenSignature {
            keyid: key.to_string(),
            sig: STANDARD.encode(sig.to_bytes()),
        });
        let written = Written {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&self.payload),
            signatures: signatures.collect(),
        };
        // Strings in structs with fixed keys: none of them can fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }
}

/// Base64 as it is written: of the standard alphabet, padded, without stray bits.
fn decoded(text: &str) -> Result<Vec<u8>, EnvelopeError> {
    let bytes = STANDARD.decode(text);
    bytes.map_err(|_| EnvelopeError::Wrong("it has base64 that is none"))
}

/// What a signature covers: the pre-authentication encoding of a payload.
pub fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    )
    .into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

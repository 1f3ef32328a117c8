//! Who has signed a result, as it says itself.
//!
//! A builder that signs leaves an envelope of DSSE among the output files of a result
//! (`docs/formats.md`). The server knows no keys: whether a signature is right is for those to check
//! who take the result. But the ids of the keys are there to be read, and no result is believed for
//! the sake of a key whose id it does not name.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::digest_from_wire;
use ashlar_proto::wire::reapi;
use ashlar_store::{Fault, FaultKind};
use bytes::Bytes;
use serde::Deserialize;

/// The path of the envelope.
const PATH: &str = "signature.json";

/// A longer envelope is none of Ashlar's.
const LONGEST: u64 = 64 << 10;

/// So many signers of a result are looked at.
const MOST: usize = 64;

#[derive(Deserialize)]
struct Envelope {
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    keyid: String,
}

/// Where the envelope of a result is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// There is none.
    Nowhere,
    /// Within the result.
    Here(Bytes),
    /// In a blob.
    Blob(CasDigest),
}

/// Where the envelope of a result is.
pub fn envelope_of(result: &reapi::ActionResult, function: DigestFunction) -> Place {
    let mut files = result.output_files.iter();
    let Some(file) = files.find(|file| file.path == PATH) else {
        return Place::Nowhere;
    };
    // What the digest says counts, as for those who take the result.
    let digest = file.digest.as_ref();
    match digest.and_then(|digest| digest_from_wire(digest, function).ok()) {
        Some(blob) if blob.size <= LONGEST => Place::Blob(blob),
        Some(_) => Place::Nowhere,
        None => Place::Here(file.contents.clone()),
    }
}

/// The ids of the keys that an envelope names.
pub fn signers(envelope: &[u8]) -> Vec<String> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(envelope) else {
        return Vec::new();
    };
    let signatures = envelope.signatures.into_iter().take(MOST);
    signatures
        .map(|signature| signature.keyid.to_ascii_lowercase())
        .collect()
}

/// The ids of the keys in an envelope that was read from a store. One that is gone names nobody.
pub fn signers_of(read: Result<Bytes, Fault>) -> Result<Vec<String>, Fault> {
    match read {
        Ok(envelope) => Ok(signers(&envelope)),
        Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::Invalid) => {
            Ok(Vec::new())
        }
        Err(fault) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_names_its_signers_whatever_else_it_has() {
        let text = br#"{"payloadType":"t","payload":"","signatures":[
            {"keyid":"AB12","sig":"x"},{"keyid":"cd34","sig":"y","more":1}]}"#;
        assert_eq!(signers(text), ["ab12", "cd34"]);
        for nothing in [&b""[..], b"{}", b"[]", b"{\"signatures\":[{}]}", b"\xff"] {
            assert_eq!(signers(nothing), [""; 0]);
        }
    }

    #[test]
    fn an_envelope_that_is_gone_is_nobodys_but_a_store_that_is_away_is_no_answer() {
        let gone = signers_of(Err(Fault::not_found("it")));
        assert_eq!(gone.expect("an answer"), [""; 0]);
        let away = signers_of(Err(Fault::new(FaultKind::Unavailable, "away")));
        assert_eq!(away.expect_err("no answer").kind, FaultKind::Unavailable);
    }
}

//! How a server says which blobs it lacks: a `PreconditionFailure` with a violation of the type
//! MISSING for each, in the details of the status.

use ashlar_model::cas::CasDigest;
use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;

use crate::resource_name::{BlobName, Compressor};
use crate::wire::rpc;
use crate::wire::rpc::precondition_failure::Violation;

const MISSING: &str = "MISSING";
const TYPE_URL: &str = "type.googleapis.com/google.rpc.PreconditionFailure";

/// The details of a status (its code and message are repeated in them) that names missing blobs.
pub fn encode(code: i32, message: &str, missing: &[CasDigest]) -> Bytes {
    let violations = missing.iter().map(|blob| Violation {
        r#type: MISSING.to_owned(),
        subject: BlobName {
            instance: String::new(),
            compressor: Compressor::Identity,
            blob: *blob,
        }
        .to_string(),
        description: String::new(),
    });
    let failure = rpc::PreconditionFailure {
        violations: violations.collect(),
    };
    let status = rpc::Status {
        code,
        message: message.to_owned(),
        details: vec![Any {
            type_url: TYPE_URL.to_owned(),
            value: failure.encode_to_vec(),
        }],
    };
    status.encode_to_vec().into()
}

/// The missing blobs that the details of a status name. Details that say something else, or that
/// cannot be read, name none.
pub fn decode(details: &[u8]) -> Vec<CasDigest> {
    let Ok(status) = rpc::Status::decode(details) else {
        return Vec::new();
    };
    let failures = status.details.iter().filter(|any| any.type_url == TYPE_URL);
    let failures = failures.filter_map(|any| rpc::PreconditionFailure::decode(&*any.value).ok());
    failures
        .flat_map(|failure| failure.violations)
        .filter(|violation| violation.r#type == MISSING)
        .filter_map(|violation| violation.subject.parse::<BlobName>().ok())
        .map(|name| name.blob)
        .collect()
}

#[cfg(test)]
mod tests {
    use ashlar_model::cas::DigestFunction;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_blobs_are_read_as_they_were_written() {
        let missing = [
            CasDigest::of(DigestFunction::Sha256, b"one"),
            CasDigest::of(DigestFunction::Blake3, b"two"),
        ];
        assert_eq!(decode(&encode(9, "2 blobs are missing", &missing)), missing);
        assert_eq!(decode(&encode(9, "none", &[])), []);
    }

    proptest! {
        #[test]
        fn no_details_panic(details in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&details));
        }
    }
}

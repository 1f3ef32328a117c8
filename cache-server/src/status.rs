//! What clients are told when something fails. The full story goes to the log.
//!
//! | fault | status |
//! |---|---|
//! | `NotFound` | NOT_FOUND |
//! | `Invalid` | INVALID_ARGUMENT |
//! | `Exhausted`, `OverQuota` | RESOURCE_EXHAUSTED |
//! | `Denied` | PERMISSION_DENIED |
//! | `Unsupported` | UNIMPLEMENTED |
//! | `Precondition` | FAILED_PRECONDITION |
//! | `Unavailable` | UNAVAILABLE |
//! | `Internal` | INTERNAL |

use ashlar_model::cas::CasDigest;
use ashlar_model::error_chain::error_chain;
use ashlar_proto::convert::ConvertError;
use ashlar_proto::resource_name::NameError;
use ashlar_proto::wire::rpc;
use ashlar_proto::{missing, retry};
use ashlar_store::{Fault, FaultKind};
use tonic::{Code, Status};

use crate::fair::TooFast;

/// Words for clients in place of those that name files and machines.
const INTERNAL: &str = "the cache server failed; its log says why";
const EXHAUSTED: &str = "the cache is full";
const UNAVAILABLE: &str = "the cache server cannot reach its store; its log says why";

/// The status for a store's fault. A fault that the server's operator should know is logged.
pub fn of_fault(fault: &Fault) -> Status {
    let (code, message) = match fault.kind {
        FaultKind::NotFound => (Code::NotFound, fault.message.as_str()),
        FaultKind::Invalid => (Code::InvalidArgument, fault.message.as_str()),
        FaultKind::Denied => (Code::PermissionDenied, fault.message.as_str()),
        FaultKind::Unsupported => (Code::Unimplemented, fault.message.as_str()),
        FaultKind::Precondition => (Code::FailedPrecondition, fault.message.as_str()),
        FaultKind::Exhausted => (Code::ResourceExhausted, EXHAUSTED),
        FaultKind::OverQuota => (Code::ResourceExhausted, fault.message.as_str()),
        FaultKind::Unavailable => (Code::Unavailable, UNAVAILABLE),
        _ => (Code::Internal, INTERNAL),
    };
    match code {
        Code::Internal | Code::Unavailable => {
            tracing::error!(kind = ?fault.kind, "{}", error_chain(fault));
        }
        Code::ResourceExhausted => tracing::warn!("{}", error_chain(fault)),
        _ => tracing::debug!(kind = ?fault.kind, "{}", error_chain(fault)),
    }
    Status::new(code, message)
}

/// The status for a digest that is none.
pub fn of_conversion(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status for a resource name that is none.
pub fn of_name(error: &NameError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status for a result that names blobs that are not there. It lists them.
pub fn of_missing(missing: &[CasDigest]) -> Status {
    // A message of gRPC's headers is short: some names do for the start.
    let listed = missing.get(..64).unwrap_or(missing);
    let message = format!(
        "{} blobs that the result names are not there: upload them first",
        missing.len()
    );
    let details = missing::encode(Code::FailedPrecondition.into(), &message, listed);
    Status::with_details(Code::FailedPrecondition, message, details)
}

/// The status for an action whose blobs are not there. It lists them.
pub fn of_missing_inputs(missing: &[CasDigest]) -> Status {
    let message = format!(
        "{} blobs of the action are not there: upload them first",
        missing.len()
    );
    let details = missing::encode(Code::FailedPrecondition.into(), &message, missing);
    Status::with_details(Code::FailedPrecondition, message, details)
}

/// The status for a field that is too long.
pub fn too_long(field: &'static str, most: usize) -> Status {
    Status::invalid_argument(format!("{field} has {most} bytes at most"))
}

/// A status that says to come again later.
pub fn later(code: Code, message: impl Into<String>, wait: std::time::Duration) -> Status {
    let message = message.into();
    let details = retry::encode(code.into(), &message, wait);
    Status::with_details(code, message, details)
}

/// The status for somebody who asks for too much in too little time. It says when to try again.
pub fn of_haste(holder: &str, haste: &TooFast) -> Status {
    let message = format!(
        "`{holder}` may use {} {} a second here and has used more: try again in {:.1} s",
        haste.limit,
        haste.what,
        haste.wait.as_secs_f64()
    );
    let details = retry::encode(Code::ResourceExhausted.into(), &message, haste.wait);
    Status::with_details(Code::ResourceExhausted, message, details)
}

/// The outcome for one blob of a batch.
pub fn of_item(outcome: Result<(), &Status>) -> rpc::Status {
    match outcome {
        Ok(()) => rpc::Status::default(),
        Err(status) => rpc::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use ashlar_model::cas::DigestFunction;

    use super::*;

    #[test]
    fn clients_learn_nothing_of_the_servers_files() {
        for kind in [
            FaultKind::Internal,
            FaultKind::Unavailable,
            FaultKind::Exhausted,
        ] {
            let fault = Fault::new(kind, "cannot write /srv/cache/blobs/ab/cdef")
                .caused_by(io::Error::other("disk of host-7"));
            let status = of_fault(&fault);
            assert!(!status.message().contains("/srv"), "{status:?}");
            assert!(!status.message().contains("host-7"), "{status:?}");
        }
    }

    #[test]
    fn what_the_client_did_wrong_it_is_told() {
        let status = of_fault(&Fault::invalid("the bytes have another hash"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "the bytes have another hash");
    }

    #[test]
    fn missing_blobs_are_listed_as_far_as_headers_go() {
        let blobs: Vec<_> = (0..5000_u32)
            .map(|number| CasDigest::of(DigestFunction::Blake3, &number.to_le_bytes()))
            .collect();
        let status = of_missing(&blobs);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().starts_with("5000 blobs"));
        assert_eq!(missing::decode(status.details()), blobs[..64]);
        assert!(
            status.details().len() < 8 << 10,
            "headers hold no more than 8 KiB by default"
        );
    }
}

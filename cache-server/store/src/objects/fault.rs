//! An object store's words for failures, in ours.

use object_store::Error;

use crate::fault::{Fault, FaultKind};

/// What a store says of a bucket that is not there, in the words of S3, Azure and Google: that an
/// object is not there says nothing about its bytes then.
const NO_BUCKET: [&str; 4] = [
    "NoSuchBucket",
    "ContainerNotFound",
    "specified bucket does not exist",
    "specified container does not exist",
];

/// What a store says if an object ends before a range of it begins: HTTP, and the stores in files
/// and in memory.
const TOO_SHORT: [&str; 3] = [
    "416 Range Not Satisfiable",
    "bytes long",
    "range was invalid",
];

/// What an error says: "cannot `what`". Whatever may go well another time, or needs somebody to set
/// the store right, is [`FaultKind::Unavailable`]: only what is certainly gone is
/// [`FaultKind::NotFound`].
pub(super) fn fault_of(what: &str, error: Error) -> Fault {
    let kind = kind_of(&error);
    Fault::new(kind, format!("cannot {what} the object store")).caused_by(error)
}

fn kind_of(error: &Error) -> FaultKind {
    let says = |words: &[&str]| {
        let text = error.to_string();
        words.iter().any(|word| text.contains(word))
    };
    match error {
        Error::NotFound { .. } if says(&NO_BUCKET) => FaultKind::Unavailable,
        Error::NotFound { .. } => FaultKind::NotFound,
        Error::Generic { .. } if says(&TOO_SHORT) => FaultKind::Invalid,
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => FaultKind::Internal,
        _ => FaultKind::Unavailable,
    }
}

/// The same fault for another of those who wait for the same thing.
pub(super) fn again(fault: &Fault) -> Fault {
    Fault::new(fault.kind, crate::fault::in_one_line(fault))
}

/// What failed because it took too long.
pub(super) fn too_slow(what: &str) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!("cannot {what} the object store: it did not answer in time"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_is_gone_is_no_blob_that_is_gone() {
        let not_found = |text: &str| Error::NotFound {
            path: "packs/ab/cd".to_owned(),
            source: text.to_owned().into(),
        };
        let kind = |error| fault_of("read from", error).kind;
        assert_eq!(kind(not_found("404: NoSuchKey")), FaultKind::NotFound);
        assert_eq!(kind(not_found("404: NoSuchBucket")), FaultKind::Unavailable);
        let generic = |text: &str| Error::Generic {
            store: "S3",
            source: text.to_owned().into(),
        };
        assert_eq!(kind(generic("503 Slow Down")), FaultKind::Unavailable);
        assert_eq!(
            kind(generic("status code: 416 Range Not Satisfiable: ")),
            FaultKind::Invalid
        );
    }
}

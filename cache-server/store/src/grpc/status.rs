//! gRPC's words for failures, in ours.

use std::error::Error as _;

use ashlar_proto::retry;
use tonic::{Code, Status};

use crate::fault::{Fault, FaultKind};

/// A server's message is shown up to this length.
const LONGEST_MESSAGE: usize = 300;

/// What a status says: `what` failed, as in "cannot `what`". The status is the fault's source.
pub fn fault_of(what: &str, status: Status) -> Fault {
    let kind = kind_of(&status);
    Fault::new(
        kind,
        format!("cannot {what}: {}", shown(status.message(), status.code())),
    )
    .caused_by(status)
}

fn kind_of(status: &Status) -> FaultKind {
    match status.code() {
        Code::NotFound => FaultKind::NotFound,
        Code::InvalidArgument | Code::OutOfRange | Code::DataLoss => FaultKind::Invalid,
        // Whoever says when to come again is not full.
        Code::ResourceExhausted if retry::decode(status.details()).is_some() => {
            FaultKind::Unavailable
        }
        Code::ResourceExhausted => FaultKind::Exhausted,
        Code::PermissionDenied | Code::Unauthenticated => FaultKind::Denied,
        Code::Unimplemented => FaultKind::Unsupported,
        Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => FaultKind::Precondition,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => FaultKind::Unavailable,
        // A broken connection has these codes as well, and a cause on this side; what a server
        // says has none.
        Code::Ok | Code::Unknown | Code::Internal => {
            if status.source().is_some() || is_about_connection(status.message()) {
                FaultKind::Unavailable
            } else {
                FaultKind::Internal
            }
        }
    }
}

/// tonic's words for a stream that ended without a status: the connection is gone, or a proxy cut
/// it off.
fn is_about_connection(message: &str) -> bool {
    message.starts_with("h2 protocol error")
        || message.starts_with("transport error")
        || message.contains("Unexpected EOF decoding stream")
        || message.contains("without a grpc-status")
        || message.contains("missing grpc-status")
}

/// A message as one line for people.
fn shown(message: &str, code: Code) -> String {
    if message.is_empty() {
        return code.description().to_owned();
    }
    let mut shown: String = message
        .chars()
        .take(LONGEST_MESSAGE)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if message.chars().nth(LONGEST_MESSAGE).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds() {
        for (code, kind) in [
            (Code::NotFound, FaultKind::NotFound),
            (Code::OutOfRange, FaultKind::Invalid),
            (Code::ResourceExhausted, FaultKind::Exhausted),
            (Code::Unauthenticated, FaultKind::Denied),
            (Code::Unimplemented, FaultKind::Unsupported),
            (Code::FailedPrecondition, FaultKind::Precondition),
            (Code::DeadlineExceeded, FaultKind::Unavailable),
            (Code::Internal, FaultKind::Internal),
        ] {
            let fault = fault_of("do it", Status::new(code, "so it is"));
            assert_eq!(fault.kind, kind, "{code:?}");
            assert_eq!(fault.to_string(), "cannot do it: so it is");
        }
    }

    #[test]
    fn who_says_when_to_come_again_is_not_full() {
        let wait = std::time::Duration::from_secs(1);
        let details = retry::encode(Code::ResourceExhausted.into(), "too fast", wait);
        let status = Status::with_details(Code::ResourceExhausted, "too fast", details);
        assert_eq!(fault_of("do it", status).kind, FaultKind::Unavailable);
    }

    #[test]
    fn a_broken_connection_is_no_error_of_the_server() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let mut status = Status::unknown("something");
        status.set_source(std::sync::Arc::new(broken));
        assert_eq!(fault_of("do it", status).kind, FaultKind::Unavailable);
    }

    #[test]
    fn a_message_cannot_write_over_the_terminal() {
        let status = Status::internal("a\x1b[2Jb\n".repeat(200));
        let fault = fault_of("do it", status).to_string();
        assert!(!fault.contains(char::is_control), "{fault:?}");
        assert!(
            fault.ends_with('…') && fault.chars().count() < 330,
            "{fault:?}"
        );
    }
}

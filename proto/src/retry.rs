//! How a server says when to try again: a `RetryInfo` in the details of the status.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;

use crate::convert::{duration_from_wire, duration_to_wire};
use crate::wire::rpc;

const TYPE_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The details of a status (its code and message are repeated in them) that says to wait.
pub fn encode(code: i32, message: &str, wait: Duration) -> Bytes {
    let info = rpc::RetryInfo {
        retry_delay: Some(duration_to_wire(wait)),
    };
    let status = rpc::Status {
        code,
        message: message.to_owned(),
        details: vec![Any {
            type_url: TYPE_URL.to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    status.encode_to_vec().into()
}

/// How long the details of a status say to wait; `None` if they do not, or cannot be read.
pub fn decode(details: &[u8]) -> Option<Duration> {
    let status = rpc::Status::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url == TYPE_URL)?;
    let info = rpc::RetryInfo::decode(&*info.value).ok()?;
    duration_from_wire(info.retry_delay.as_ref()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let wait = Duration::from_millis(1250);
        assert_eq!(decode(&encode(8, "too fast", wait)), Some(wait));
        assert_eq!(decode(&[]), None);
        let missing = crate::missing::encode(9, "2 blobs are missing", &[]);
        assert_eq!(decode(&missing), None);
    }

    proptest! {
        #[test]
        fn no_details_panic(details in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ignored = decode(&details);
        }
    }
}

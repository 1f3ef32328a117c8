//! What all requests have: an instance name, a digest function, digests.

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert;
use ashlar_proto::resource_name::is_instance_name;
use ashlar_proto::wire::reapi;
use tonic::Status;

use crate::limits::INSTANCE_NAME;
use crate::status;

/// Fails if this cannot be the name of an instance.
pub fn check_instance(name: &str) -> Result<(), Status> {
    if name.len() > INSTANCE_NAME || !is_instance_name(name) {
        return Err(Status::invalid_argument(
            "the instance name is too long, has an empty segment, or one that is a keyword",
        ));
    }
    Ok(())
}

/// The digest function of a request.
pub fn function(value: i32) -> Result<DigestFunction, Status> {
    convert::function_from_wire(value).map_err(|error| status::of_conversion(&error))
}

/// A digest that has to be there.
pub fn digest(
    digest: Option<&reapi::Digest>,
    function: DigestFunction,
    field: &'static str,
) -> Result<CasDigest, Status> {
    convert::required_digest(digest, function, field).map_err(|error| status::of_conversion(&error))
}

/// Digests, all of which have to be right.
pub fn digests(
    digests: &[reapi::Digest],
    function: DigestFunction,
) -> Result<Vec<CasDigest>, Status> {
    digests
        .iter()
        .map(|digest| convert::digest_from_wire(digest, function))
        .collect::<Result<_, _>>()
        .map_err(|error| status::of_conversion(&error))
}

/// The action of a request.
pub fn action(function_value: i32, action: Option<&reapi::Digest>) -> Result<CasDigest, Status> {
    digest(action, function(function_value)?, "action_digest")
}

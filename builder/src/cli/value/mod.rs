//! The values of flags, each read into a type that can hold nothing wrong.

mod assignment;
mod cache;
mod cache_store;
mod call;
mod context;
mod farm;
mod host;
mod image_source;
mod limit;
mod quota;
mod secret;
mod volume;

// Clap shows no causes.
use ashlar_model::error_chain::error_chain as chain;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_model::step::Network;

pub use ashlar_model::amount::Size;
pub(super) use ashlar_workshop::proof::argument::builder_name;
pub use ashlar_workshop::proof::argument::{SignArg, TrustArg};
pub use assignment::{AssignmentError, BuildArg, EnvironmentVariable, Label};
pub use cache::CacheArg;
pub(super) use cache::wait;
pub use cache_store::CacheStore;
pub(super) use cache_store::{cache_from, cache_to};
pub use call::{Call, Method};
pub use context::{ContextSource, NamedContext};
pub use farm::{FarmArg, FarmArgs};
pub use host::extra_host;
pub(super) use image_source::image_source;
pub use limit::{Entitlement, entitlement, ulimit};
pub use quota::Quota;
pub use secret::{SecretArg, SecretOrigin, SshArg};
pub use volume::VolumeMount;

/// A name for an image: a reference without digest.
pub fn tag(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse().map_err(|error| chain(&error))?;
    match reference.digest() {
        None => Ok(reference),
        Some(_) => {
            Err("a name with a digest cannot be given to an image: leave `@sha256:…` out".into())
        }
    }
}

/// One platform.
pub(super) fn platform(text: &str) -> Result<Platform, String> {
    if text.contains(',') {
        return Err(
            "one platform at a time: images for several are not supported yet, \
             run one build for each"
                .into(),
        );
    }
    text.parse().map_err(|error| chain(&error))
}

/// What network a command sees.
pub(super) fn network(text: &str) -> Result<Network, String> {
    match text {
        "host" | "default" => Ok(Network::Host),
        "none" => Ok(Network::None),
        other => Err(format!(
            "there is no network `{other}`: it is `host` (or `default`) or `none`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_no_digest() {
        assert_eq!(tag("a").unwrap().to_string(), "docker.io/library/a:latest");
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert!(tag(&digest).unwrap_err().contains("digest"));
        let error = tag("a@sha256:00").unwrap_err();
        assert!(error.contains("hexadecimal"), "{error}");
    }

    #[test]
    fn docker_names_of_networks_are_known() {
        assert_eq!(network("default").unwrap(), Network::Host);
        assert_eq!(network("none").unwrap(), Network::None);
        network("bridge").unwrap_err();
    }
}

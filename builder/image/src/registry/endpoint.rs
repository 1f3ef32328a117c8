//! Where a registry is reached: host, and the schemes to try.

use std::net::IpAddr;

/// How to reach a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port of its API.
    pub(super) host: String,
    /// Base URLs without a slash at the end, in the order to try them. Never empty.
    pub(super) bases: Vec<String>,
    /// Whether its certificate is checked.
    pub(super) verify: bool,
}

/// Docker Hub's API is not at the name that its images carry.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

impl Endpoint {
    /// The endpoint of the registry that references name `registry`.
    pub(super) fn of(registry: &str, is_insecure: bool) -> Self {
        let host = match registry {
            "docker.io" | "index.docker.io" => DOCKER_HUB_API,
            other => other,
        };
        let http = format!("http://{host}");
        let https = format!("https://{host}");
        let bases = if is_loopback(host) {
            // A registry on this machine usually speaks plain HTTP, and nobody can listen in.
            vec![http, https]
        } else if is_insecure {
            vec![https, http]
        } else {
            vec![https]
        };
        Self {
            host: host.to_owned(),
            bases,
            verify: !is_insecure,
        }
    }
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
pub(super) fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    }
}

/// Whether `host[:port]` is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    name == "localhost"
        || name.ends_with(".localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_is_elsewhere() {
        let endpoint = Endpoint::of("docker.io", false);
        assert_eq!(endpoint.bases, ["https://registry-1.docker.io"]);
        assert!(endpoint.verify);
    }

    #[test]
    fn plain_http_is_only_for_this_machine_and_by_request() {
        for loopback in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5",
        ] {
            let bases = Endpoint::of(loopback, false).bases;
            assert_eq!(bases[0], format!("http://{loopback}"));
            assert_eq!(bases[1], format!("https://{loopback}"));
        }
        for remote in [
            "example.com",
            "10.0.0.1:5000",
            "localhost.example.com",
            "[::2]:5",
        ] {
            assert_eq!(
                Endpoint::of(remote, false).bases,
                [format!("https://{remote}")]
            );
        }
        let insecure = Endpoint::of("example.com:5000", true);
        assert_eq!(insecure.bases.len(), 2);
        assert!(!insecure.verify);
    }
}

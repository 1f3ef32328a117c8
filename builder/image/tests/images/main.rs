//! Images in registries, layouts and archives: against Debian's registry, against a server that
//! misbehaves on purpose, and judged by skopeo, umoci and podman.
//!
//! Needs the Debian packages docker-registry, skopeo, umoci, podman, openssl and apache2-utils. A
//! test that lacks one fails and says which.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod exports;
mod faults;
mod logins;
mod proxies;
mod pulls;
mod pushes;
mod support;
mod tls;
mod uploads;

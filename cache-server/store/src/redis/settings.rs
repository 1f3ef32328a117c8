//! How Redis is reached.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::DEFAULT_PREFIX;

/// How Redis is reached, and what it is to promise.
#[derive(Clone)]
pub struct RedisSettings {
    /// Its address: see `address.rs` for the forms it may have.
    pub url: String,
    /// A file with the password, which is read anew for every connection. Goes before the one in the
    /// address.
    pub password_file: Option<PathBuf>,
    /// A PEM file with the certificates that servers' own are to be signed by; the system's without.
    pub ca_file: Option<PathBuf>,
    /// PEM files with the client's certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// All keys begin with it.
    pub prefix: String,
    /// So many replicas are to have a write before it is acknowledged. With 0, a write that was
    /// acknowledged can be lost when a replica takes over.
    pub replicas: u32,
    /// So long a write waits for the replicas.
    pub replica_timeout: Duration,
    /// So long an answer may take.
    pub response_timeout: Duration,
    /// So long a connection may take to be made.
    pub connect_timeout: Duration,
    /// So long what failed is tried again.
    pub patience: Duration,
}

impl RedisSettings {
    /// The defaults, for an address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            ca_file: None,
            certificate: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            replicas: 0,
            replica_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            patience: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for RedisSettings {
    /// The address may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("prefix", &self.prefix)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

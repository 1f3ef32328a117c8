//! What the registry client is told by its caller. It reads no environment variable itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_http::{HttpEnvironment, RetryPolicy, client};

use super::logins::Logins;

/// The environment variables that matter to a registry client, by value.
#[derive(Debug, Clone, Default)]
pub struct RegistryEnvironment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`; `~/.config` if unset.
    pub config_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_directory: Option<PathBuf>,
    /// `DOCKER_CONFIG`: the directory of Docker's `config.json`; `~/.docker` if unset.
    pub docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`: a file with logins that comes before all others.
    pub registry_auth_file: Option<PathBuf>,
    /// Certificates and proxies.
    pub http: HttpEnvironment,
    /// `PATH`, where credential helpers are looked for.
    pub path: Option<OsString>,
}

impl RegistryEnvironment {
    /// Takes the variables from a lookup function. One that is set to nothing counts as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let path = |name: &str| value(name).map(PathBuf::from);
        Self {
            home: path("HOME"),
            config_home: path("XDG_CONFIG_HOME"),
            runtime_directory: path("XDG_RUNTIME_DIR"),
            docker_config: path("DOCKER_CONFIG"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            http: HttpEnvironment::from_lookup(&lookup),
            path: value("PATH"),
        }
    }

    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    pub(super) fn config_directory(&self) -> Option<PathBuf> {
        self.config_home
            .clone()
            .or_else(|| Some(self.home.as_ref()?.join(".config")))
    }
}

/// How the registry client behaves.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Environment variables.
    pub environment: RegistryEnvironment,
    /// Files with certificate authorities to trust beside the system's, for all registries.
    pub extra_certificates: Vec<PathBuf>,
    /// Registries (`host` or `host:port`) whose certificate is not checked and that may speak
    /// plain HTTP.
    pub insecure: Vec<String>,
    /// Whether that goes for all registries.
    pub all_insecure: bool,
    /// What the client calls itself.
    pub user_agent: String,
    /// When and how often to try again.
    pub retry: RetryPolicy,
    /// Requests to one registry that run at once.
    pub connections_per_host: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a server may send nothing before the request counts as broken.
    pub idle_timeout: Duration,
    /// Logins that somebody has handed over; with them, none of this machine's are looked for.
    pub logins: Option<Arc<Logins>>,
}

/// BuildKit's `maxRegistryConcurrency`. More gains little and trips the rate limits of public
/// registries.
const CONNECTIONS_PER_HOST: usize = 4;

impl RegistrySettings {
    /// Whether a registry's certificate is not checked, and it may speak plain HTTP.
    pub fn is_insecure(&self, registry: &str) -> bool {
        self.all_insecure || self.insecure.iter().any(|name| name == registry)
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            environment: RegistryEnvironment::default(),
            extra_certificates: Vec::new(),
            insecure: Vec::new(),
            all_insecure: false,
            user_agent: client::USER_AGENT.to_owned(),
            retry: RetryPolicy::default(),
            connections_per_host: CONNECTIONS_PER_HOST,
            connect_timeout: client::CONNECT_TIMEOUT,
            idle_timeout: client::IDLE_TIMEOUT,
            logins: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_set_to_nothing_do_not_count() {
        let environment = RegistryEnvironment::from_lookup(|name| match name {
            "HTTPS_PROXY" => Some("http://proxy:1".into()),
            "DOCKER_CONFIG" => Some("".into()),
            "HOME" => Some("/home/u".into()),
            _ => None,
        });
        assert_eq!(
            environment.http.https_proxy.as_deref(),
            Some("http://proxy:1")
        );
        assert_eq!(environment.docker_config, None);
        assert_eq!(
            environment.config_directory(),
            Some(PathBuf::from("/home/u/.config"))
        );
    }
}

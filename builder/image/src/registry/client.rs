//! The client and its connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ashlar_http::certificates::Certificates;
use ashlar_http::retry::{Attempts, is_transient_error};
use ashlar_http::{client, patience};
use reqwest::Client;
use tokio::sync::{OnceCell, Semaphore};

use super::answer::wants_tls;
use super::auth::Authenticator;
use super::certificates;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::settings::RegistrySettings;

/// A client of any number of registries. Cheap to make and to clone: certificates are read and
/// connections made when a registry is first used.
#[derive(Clone)]
pub struct RegistryClient {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<RegistrySettings>,
    certificates: Certificates,
    connections: Mutex<HashMap<String, Arc<Connection>>>,
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryClient")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

impl RegistryClient {
    /// A client with these settings. Does nothing yet.
    pub fn new(settings: RegistrySettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings: Arc::new(settings),
                certificates: Certificates::default(),
                connections: Mutex::default(),
            }),
        }
    }

    /// The connection to a registry.
    pub(super) fn connection(&self, registry: &str) -> Result<Arc<Connection>, RegistryError> {
        let mut connections = self
            .inner
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get(registry) {
            return Ok(Arc::clone(connection));
        }
        let endpoint = Endpoint::of(registry, self.inner.settings.is_insecure(registry));
        let client = self.http_client(registry, &endpoint)?;
        let connection = Arc::new(Connection {
            registry: registry.to_owned(),
            permits: Arc::new(Semaphore::new(
                self.inner.settings.connections_per_host.max(1),
            )),
            settings: Arc::clone(&self.inner.settings),
            authenticator: Authenticator::new(registry),
            base: OnceCell::new(),
            uploads: UploadHabits::default(),
            endpoint,
            client,
        });
        connections.insert(registry.to_owned(), Arc::clone(&connection));
        Ok(connection)
    }

    fn http_client(&self, registry: &str, endpoint: &Endpoint) -> Result<Client, RegistryError> {
        let settings = &self.inner.settings;
        let mut builder = client::builder(&settings.environment.http)?
            .user_agent(&settings.user_agent)
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(settings.connections_per_host);
        builder = if endpoint.verify {
            let tls = self.inner.certificates.config_for(
                registry,
                &settings.environment.http,
                &certificates::extra(registry, settings),
            )?;
            builder.use_preconfigured_tls(tls)
        } else {
            builder.danger_accept_invalid_certs(true)
        };
        builder.build().map_err(|source| RegistryError::Setup {
            registry: registry.to_owned(),
            source,
        })
    }
}

/// What has been learnt about how a registry takes uploads.
#[derive(Debug, Default)]
pub(super) struct UploadHabits {
    /// It does not take a whole blob in one request.
    pub(super) chunks_only: OnceLock<()>,
}

/// All that is known of one registry.
pub(super) struct Connection {
    pub(super) registry: String,
    pub(super) client: Client,
    pub(super) permits: Arc<Semaphore>,
    pub(super) settings: Arc<RegistrySettings>,
    pub(super) authenticator: Authenticator,
    pub(super) uploads: UploadHabits,
    endpoint: Endpoint,
    base: OnceCell<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("registry", &self.registry)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The base URL. Where there are several possible ones, they are tried in their order.
    pub(super) async fn base(&self) -> Result<&str, RegistryError> {
        if let [only] = self.endpoint.bases.as_slice() {
            return Ok(only);
        }
        self.base
            .get_or_try_init(|| self.probe())
            .await
            .map(String::as_str)
    }

    async fn probe(&self) -> Result<String, RegistryError> {
        let idle = self.settings.idle_timeout;
        let mut attempts = Attempts::new(self.settings.retry);
        loop {
            let mut first_error = None;
            for base in &self.endpoint.bases {
                let url = format!("{base}/v2/");
                match patience::send(self.client.get(&url), None, idle).await {
                    Ok(mut response) => {
                        if !wants_tls(&mut response, idle).await {
                            return Ok(base.clone());
                        }
                    }
                    Err(source) => {
                        first_error.get_or_insert((url, source));
                    }
                }
            }
            let Some((url, source)) = first_error else {
                // Every scheme was turned away by words; the first is as good as any.
                return Ok(self.endpoint.bases[0].clone());
            };
            if !is_transient_error(&source) || !attempts.wait(None).await {
                return Err(RegistryError::Unreachable {
                    registry: self.registry.clone(),
                    action: format!("GET {url}"),
                    source,
                });
            }
        }
    }

    /// Host and port of the registry's API.
    pub(super) fn host(&self) -> &str {
        &self.endpoint.host
    }
}

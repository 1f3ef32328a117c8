//! The farm as a cache: a connection for each namespace, kept as long as the worker is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::executor::BoxFuture;
use ashlar_sharing::address::CacheSpec;
use ashlar_sharing::cache::Cache;
use ashlar_sharing::grpc::{GrpcConnect, TrustSource};
use ashlar_sharing::service::{Connect, Service};
use ashlar_store::fault::Fault;
use ashlar_store::grpc::{ClientIdentity, GrpcSettings, TokenSource};
use ashlar_workshop::servers::{Servers, identity};
use ashlar_workshop::{WarningSink, WorkshopError};
use tokio::sync::OnceCell;

/// How the farm is reached.
pub struct Farm {
    spec: CacheSpec,
    token: Option<Arc<dyn TokenSource>>,
    trust: TrustSource,
    identity: Option<ClientIdentity>,
    services: Mutex<BTreeMap<String, Arc<OnceCell<Service>>>>,
}

impl std::fmt::Debug for Farm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Farm")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Farm {
    /// Reads what is needed to reach the farm. Nothing is connected to.
    pub fn new(spec: CacheSpec, servers: &Servers) -> Result<Self, WorkshopError> {
        Ok(Self {
            token: servers.token(&spec)?,
            trust: servers.trust(&spec)?,
            identity: identity(&spec)?,
            spec,
            services: Mutex::default(),
        })
    }

    /// How to connect for what is of no namespace.
    pub fn settings(&self) -> GrpcSettings {
        let mut settings = GrpcSettings::new(self.spec.address.to_string());
        settings.token.clone_from(&self.token);
        settings.identity.clone_from(&self.identity);
        if settings.address.starts_with("grpcs:") {
            settings.certificates = (self.trust)();
        }
        settings
    }

    /// How to connect as a client of a namespace.
    pub fn client_settings(&self, instance: &str) -> GrpcSettings {
        let mut settings = self.settings();
        instance.clone_into(&mut settings.instance);
        settings
    }

    /// The stores of a namespace.
    pub async fn service(&self, instance: &str) -> Result<Service, Fault> {
        let cell = {
            let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(services.entry(instance.to_owned()).or_default())
        };
        let connect = || async {
            let spec = self.of(instance);
            let connect = GrpcConnect::new(&spec, self.token.clone(), Arc::clone(&self.trust));
            connect.showing(self.identity.clone()).connect().await
        };
        cell.get_or_try_init(connect).await.cloned()
    }

    fn of(&self, instance: &str) -> CacheSpec {
        let mut spec = self.spec.clone();
        instance.clone_into(&mut spec.instance);
        spec
    }

    /// A namespace's cache, over the connection that is there.
    pub fn cache(self: &Arc<Self>, instance: &str, warnings: WarningSink) -> Cache {
        let spec = self.of(instance);
        let connect = Arc::new(OfInstance {
            farm: Arc::clone(self),
            instance: instance.to_owned(),
        });
        let (name, mode) = (spec.name(), spec.mode);
        Cache::new(name, spec.instance, mode, connect, warnings)
    }
}

/// Connects to one namespace.
#[derive(Debug)]
struct OfInstance {
    farm: Arc<Farm>,
    instance: String,
}

impl Connect for OfInstance {
    fn connect(&self) -> BoxFuture<'_, Result<Service, Fault>> {
        Box::pin(self.farm.service(&self.instance))
    }
}

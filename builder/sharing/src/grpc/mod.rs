//! Caches behind gRPC: REAPI through [`ashlar_store::grpc`], and `ashlar.cache.v1`.

mod extension;

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::executor::BoxFuture;
use ashlar_store::fault::Fault;
use ashlar_store::grpc::{ClientIdentity, GrpcEndpoint, GrpcSettings, GrpcStore, TokenSource};

use crate::action::RECORD_PATH;
use crate::address::CacheSpec;
use crate::service::{Connect, Service};
use crate::signature::SIGNATURE_PATH;
use extension::GrpcExtension;

/// Whoever asks a cache sets a limit of its own, which depends on how fast it was so far.
const CALL: Duration = Duration::from_secs(300);

/// Gives certificates to trust, in PEM. Called when they are needed first.
pub type TrustSource = Arc<dyn Fn() -> Vec<Vec<u8>> + Send + Sync>;

/// Connects to a cache.
pub struct GrpcConnect {
    settings: GrpcSettings,
    trust: TrustSource,
}

impl std::fmt::Debug for GrpcConnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcConnect")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl GrpcConnect {
    /// A cache that is reached so.
    pub fn new(spec: &CacheSpec, token: Option<Arc<dyn TokenSource>>, trust: TrustSource) -> Self {
        let mut settings = GrpcSettings::new(spec.address.to_string());
        settings.instance.clone_from(&spec.instance);
        settings.token = token;
        settings.call_timeout = CALL;
        // For servers that can only be asked for one result at a time.
        settings.inline_output_files = vec![RECORD_PATH.to_owned(), SIGNATURE_PATH.to_owned()];
        Self { settings, trust }
    }

    /// The same, which says who we are.
    #[must_use]
    pub fn showing(mut self, identity: Option<ClientIdentity>) -> Self {
        self.settings.identity = identity;
        self
    }
}

/// What a server that was connected to offers.
pub fn service(endpoint: GrpcEndpoint) -> Service {
    let endpoint = Arc::new(endpoint);
    let function = endpoint.function();
    let doubt = Arc::clone(endpoint.channel().doubt());
    let extension = GrpcExtension::new(Arc::clone(&endpoint));
    let store = Arc::new(GrpcStore::new(endpoint));
    Service {
        function,
        blobs: store.clone(),
        actions: store,
        extension: Some(Arc::new(extension)),
        closing: None,
        doubt,
    }
}

impl Connect for GrpcConnect {
    fn connect(&self) -> BoxFuture<'_, Result<Service, Fault>> {
        Box::pin(async move {
            let mut settings = self.settings.clone();
            if settings.address.starts_with("grpcs:") {
                settings.certificates = (self.trust)();
            }
            let endpoint = GrpcEndpoint::connect(settings).await?;
            Ok(service(endpoint))
        })
    }
}

//! Connections to cache servers.

mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_http::HttpEnvironment;
use ashlar_http::certificates;
use ashlar_model::secret::SecretValue;
use ashlar_sharing::address::{CacheSpec, Mode};
use ashlar_sharing::cache::Cache;
use ashlar_sharing::grpc::{GrpcConnect, TrustSource};
use ashlar_store::grpc::{ClientIdentity, TokenSource};

use crate::error::WorkshopError;
use crate::variables::Variables;
use crate::workshop::WarningSink;

/// Opens servers. Nothing is connected to before it is needed.
pub struct Servers {
    variables: Variables,
    token_file: Option<PathBuf>,
    warnings: WarningSink,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers")
            .field("token_file", &self.token_file)
            .finish_non_exhaustive()
    }
}

impl Servers {
    /// Opens servers, those that name no token of their own with that of a file, if there is one.
    pub const fn new(
        variables: Variables,
        token_file: Option<PathBuf>,
        warnings: WarningSink,
    ) -> Self {
        Self {
            variables,
            token_file,
            warnings,
        }
    }

    /// The cache of a server.
    pub fn cache(&self, spec: &CacheSpec) -> Result<Cache, WorkshopError> {
        let token = self.token(spec)?;
        self.connected(spec, token)
    }

    /// The token for a server, if there is one.
    pub fn token(&self, spec: &CacheSpec) -> Result<Option<Arc<dyn TokenSource>>, WorkshopError> {
        if let Some(name) = &spec.token_env {
            return token::of_variable(&self.variables, name).map(Some);
        }
        let token_file = spec.token_file.as_ref().or(self.token_file.as_ref());
        token_file.map(|path| token::of_file(path)).transpose()
    }

    /// Whose certificates a server may show.
    pub fn trust(&self, spec: &CacheSpec) -> Result<TrustSource, WorkshopError> {
        Ok(match &spec.ca {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|error| {
                    let what = format!("cannot read the certificates in {}", path.display());
                    WorkshopError::environment(what).caused_by(error)
                })?;
                Arc::new(move || vec![pem.clone()])
            }
            None => {
                let environment = HttpEnvironment::from_lookup(|name| self.variables.get(name));
                Arc::new(move || certificates::system_pem(&environment))
            }
        })
    }

    fn connected(
        &self,
        spec: &CacheSpec,
        token: Option<Arc<dyn TokenSource>>,
    ) -> Result<Cache, WorkshopError> {
        let trust = self.trust(spec)?;
        let identity = identity(spec)?;
        let connect = Arc::new(GrpcConnect::new(spec, token, trust).showing(identity));
        let (name, instance) = (spec.name(), spec.instance.clone());
        let warnings = Arc::clone(&self.warnings);
        let cache = Cache::new(name, instance, spec.mode, connect, warnings);
        Ok(cache.sharing_mounts(spec.mounts.clone()))
    }

    /// A cache of which only the name is known, to read. It was used once, but is not one that the
    /// user names now: the token for all caches does not go to it where others could read it.
    pub fn by_name(&self, name: &str) -> Option<Cache> {
        let mut spec: CacheSpec = name.parse().ok()?;
        spec.mode = Mode::Read;
        let token_file = self.token_file.as_ref();
        let token_file = token_file.filter(|_| spec.address.is_private());
        let token = token_file.map(|path| token::of_file(path)).transpose();
        self.connected(&spec, token.ok()?).ok()
    }
}

/// Who we are to servers that ask for a certificate.
pub fn identity(spec: &CacheSpec) -> Result<Option<ClientIdentity>, WorkshopError> {
    let (Some(certificate), Some(key)) = (&spec.cert, &spec.key) else {
        return Ok(None);
    };
    let read = |what: &str, path: &Path| {
        std::fs::read(path).map_err(|error| {
            let what = format!("cannot read the {what} in {}", path.display());
            WorkshopError::environment(what).caused_by(error)
        })
    };
    Ok(Some(ClientIdentity {
        certificates: read("certificate", certificate)?,
        key: SecretValue::new(read("certificate's key", key)?),
    }))
}

/// Who we are to those that wait for us.
pub fn holder(variables: &Variables) -> String {
    let machine = rustix::system::uname();
    let user = variables
        .text("USER")
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!(
        "{user}@{} (process {})",
        machine.nodename().to_string_lossy(),
        std::process::id()
    )
}

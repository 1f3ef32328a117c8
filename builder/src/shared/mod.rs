//! The shared caches of a command.

pub(crate) mod proof;
mod registry;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_http::certificates;
use ashlar_image::registry::RegistryClient;
use ashlar_model::reference::Reference;
use ashlar_model::secret::SecretValue;
use ashlar_sharing::address::{CacheSpec, Mode};
use ashlar_sharing::cache::Cache;
use ashlar_sharing::fetch::CacheOpener;
use ashlar_sharing::grpc::{GrpcConnect, TrustSource};
use ashlar_sharing::portable::{Container, DirectoryContainer, PortableConnect};
use ashlar_sharing::sharing::{Proof, Sharing};
use ashlar_store::grpc::{ClientIdentity, TokenSource};
use ashlar_store::home::Home;

use crate::cli::value::{CacheArg, CacheStore, SignArg, TrustArg};
use crate::diagnostics::CliError;
use crate::settings::Settings;
use crate::settings::env::Environment;
use crate::workshop::WarningSink;
use registry::RegistryContainer;

/// The caches that flags name.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheFlags<'a> {
    /// `--cache`.
    pub servers: &'a [CacheArg],
    /// `--cache-from`.
    pub from: &'a [CacheStore],
    /// `--cache-to`.
    pub to: &'a [CacheStore],
    /// `--cache-sign`.
    pub sign: Option<&'a SignArg>,
    /// `--cache-trust`.
    pub trust: Option<&'a TrustArg>,
    /// Whether results are looked up and sent: other commands only fetch layers.
    pub is_build: bool,
}

/// Makes a registry client; with `insecure`, one that trusts the registries of these names.
pub type ClientSource = Arc<dyn Fn(bool, &[Reference]) -> RegistryClient + Send + Sync>;

/// Sets the caches of a command out: those of the flags, and servers, if no flag names one, of the
/// environment or the configuration file. Nothing is connected to.
pub fn open(
    flags: CacheFlags<'_>,
    home: &Home,
    settings: &Settings,
    clients: ClientSource,
    warnings: &WarningSink,
) -> Result<Sharing, CliError> {
    let proof = if flags.is_build {
        proof::read(&flags, settings, warnings)?
    } else {
        Proof::default()
    };
    let opening = Opening::new(settings, warnings);
    let stores = Stores {
        home: home.clone(),
        clients,
        warnings: Arc::clone(warnings),
    };
    let specs = settings.caches(flags.servers)?;
    let trusting = |cache: Cache| {
        let origin = cache.origin();
        let trust = proof.policy.of(&origin.address, &origin.instance);
        Arc::new(cache.trusting(Arc::clone(trust)))
    };
    let caches = specs.iter().map(|spec| opening.cache(spec).map(trusting));
    let mut caches: Vec<Arc<Cache>> = caches.collect::<Result<_, _>>()?;
    let only_to = flags.to.iter().filter(|store| !flags.from.contains(store));
    for store in flags.from.iter().chain(only_to) {
        let mode = match (flags.from.contains(store), flags.to.contains(store)) {
            (true, true) => Mode::ReadWrite,
            (true, false) => Mode::Read,
            (false, _) => Mode::Write,
        };
        caches.push(trusting(stores.cache(store, mode)));
    }
    let without = flags.servers.contains(&CacheArg::None);
    let opener: Option<CacheOpener> = (!without).then(|| -> CacheOpener {
        Arc::new(move |name| match CacheStore::of_name(name) {
            Some(store) => Some(Arc::new(stores.cache(&store, Mode::Read))),
            None => opening.by_name(name).map(Arc::new),
        })
    });
    let holder = holder(settings);
    Ok(Sharing::new(home.clone(), caches, opener, holder, proof))
}

/// Opens one cache.
pub fn open_one(
    spec: &CacheSpec,
    settings: &Settings,
    warnings: &WarningSink,
) -> Result<Arc<Cache>, CliError> {
    Opening::new(settings, warnings).cache(spec).map(Arc::new)
}

/// Opens caches without a server.
struct Stores {
    home: Home,
    clients: ClientSource,
    warnings: WarningSink,
}

impl Stores {
    fn cache(&self, store: &CacheStore, mode: Mode) -> Cache {
        let container: Arc<dyn Container> = match store {
            CacheStore::Registry {
                reference,
                insecure,
            } => {
                let client = (self.clients)(*insecure, std::slice::from_ref(reference));
                let home = self.home.clone();
                Arc::new(RegistryContainer::new(client, reference.clone(), home))
            }
            CacheStore::Directory { path, tag } => {
                Arc::new(DirectoryContainer::new(path.clone(), tag.clone()))
            }
        };
        let connect = Arc::new(PortableConnect::new(container));
        let warnings = Arc::clone(&self.warnings);
        let cache = Cache::new(store.to_string(), String::new(), mode, connect, warnings);
        cache.portable()
    }
}

/// Opens servers.
struct Opening {
    environment: Environment,
    token_file: Option<PathBuf>,
    warnings: WarningSink,
}

impl Opening {
    fn new(settings: &Settings, warnings: &WarningSink) -> Self {
        Self {
            environment: settings.environment().clone(),
            token_file: settings.environment().cache_token_file(),
            warnings: Arc::clone(warnings),
        }
    }

    fn cache(&self, spec: &CacheSpec) -> Result<Cache, CliError> {
        if let Some(name) = &spec.token_env {
            let token = token::of_variable(&self.environment, name)?;
            return self.connected(spec, Some(token));
        }
        let token_file = spec.token_file.as_ref().or(self.token_file.as_ref());
        let token = token_file.map(|path| token::of_file(path)).transpose()?;
        self.connected(spec, token)
    }

    fn connected(
        &self,
        spec: &CacheSpec,
        token: Option<Arc<dyn TokenSource>>,
    ) -> Result<Cache, CliError> {
        let trust: TrustSource = match &spec.ca {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|error| {
                    let what = format!("cannot read the certificates in {}", path.display());
                    CliError::environment(what).caused_by(error)
                })?;
                Arc::new(move || vec![pem.clone()])
            }
            None => {
                let environment = self.environment.http();
                Arc::new(move || certificates::system_pem(&environment))
            }
        };
        let identity = identity(spec)?;
        let connect = Arc::new(GrpcConnect::new(spec, token, trust).showing(identity));
        let (name, instance) = (spec.name(), spec.instance.clone());
        let warnings = Arc::clone(&self.warnings);
        let cache = Cache::new(name, instance, spec.mode, connect, warnings);
        Ok(cache.sharing_mounts(spec.mounts.clone()))
    }

    /// A cache of which only the name is known, to read. It was used once, but is not one that the
    /// user names now: the token for all caches does not go to it where others could read it.
    fn by_name(&self, name: &str) -> Option<Cache> {
        let mut spec: CacheSpec = name.parse().ok()?;
        spec.mode = Mode::Read;
        let token_file = self.token_file.as_ref();
        let token_file = token_file.filter(|_| spec.address.is_private());
        let token = token_file.map(|path| token::of_file(path)).transpose();
        self.connected(&spec, token.ok()?).ok()
    }
}

/// Who we are to servers that ask for a certificate.
fn identity(spec: &CacheSpec) -> Result<Option<ClientIdentity>, CliError> {
    let (Some(certificate), Some(key)) = (&spec.cert, &spec.key) else {
        return Ok(None);
    };
    let read = |what: &str, path: &Path| {
        std::fs::read(path).map_err(|error| {
            let what = format!("cannot read the {what} in {}", path.display());
            CliError::environment(what).caused_by(error)
        })
    };
    Ok(Some(ClientIdentity {
        certificates: read("certificate", certificate)?,
        key: SecretValue::new(read("certificate's key", key)?),
    }))
}

/// Who we are to those that wait for us.
fn holder(settings: &Settings) -> String {
    let machine = rustix::system::uname();
    let user = settings.environment().text("USER").map_or_else(
        || format!("uid {}", rustix::process::getuid().as_raw()),
        ToOwned::to_owned,
    );
    format!(
        "{user}@{} (process {})",
        machine.nodename().to_string_lossy(),
        std::process::id()
    )
}

//! The shared caches of a command.

mod registry;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_http::{HttpEnvironment, certificates};
use ashlar_image::registry::RegistryClient;
use ashlar_model::reference::Reference;
use ashlar_model::secret::SecretValue;
use ashlar_sharing::address::{CacheSpec, Mode};
use ashlar_sharing::cache::Cache;
use ashlar_sharing::fetch::CacheOpener;
use ashlar_sharing::grpc::{GrpcConnect, TrustSource};
use ashlar_sharing::portable::{Container, DirectoryContainer, PortableConnect};
use ashlar_sharing::sharing::Sharing;
use ashlar_store::home::Home;

use crate::cli::value::{CacheArg, CacheStore};
use crate::diagnostics::CliError;
use crate::settings::Settings;
use crate::workshop::WarningSink;
use registry::RegistryContainer;

/// The longest token that is read, in bytes.
const LONGEST_TOKEN: u64 = 64 << 10;

/// The caches that flags name.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheFlags<'a> {
    /// `--cache`.
    pub servers: &'a [CacheArg],
    /// `--cache-from`.
    pub from: &'a [CacheStore],
    /// `--cache-to`.
    pub to: &'a [CacheStore],
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
    let opening = Opening::new(settings, warnings);
    let stores = Stores {
        home: home.clone(),
        clients,
        warnings: Arc::clone(warnings),
    };
    let specs = settings.caches(flags.servers)?;
    let caches = specs.iter().map(|spec| opening.cache(spec));
    let mut caches: Vec<Arc<Cache>> = caches.collect::<Result<_, _>>()?;
    let only_to = flags.to.iter().filter(|store| !flags.from.contains(store));
    for store in flags.from.iter().chain(only_to) {
        let mode = match (flags.from.contains(store), flags.to.contains(store)) {
            (true, true) => Mode::ReadWrite,
            (true, false) => Mode::Read,
            (false, _) => Mode::Write,
        };
        caches.push(stores.cache(store, mode));
    }
    let without = flags.servers.contains(&CacheArg::None);
    let opener: Option<CacheOpener> = (!without).then(|| -> CacheOpener {
        Arc::new(move |name| match CacheStore::of_name(name) {
            Some(store) => Some(stores.cache(&store, Mode::Read)),
            None => opening.by_name(name),
        })
    });
    Ok(Sharing::new(home.clone(), caches, opener, holder(settings)))
}

/// Opens one cache.
pub fn open_one(
    spec: &CacheSpec,
    settings: &Settings,
    warnings: &WarningSink,
) -> Result<Arc<Cache>, CliError> {
    Opening::new(settings, warnings).cache(spec)
}

/// Opens caches without a server.
struct Stores {
    home: Home,
    clients: ClientSource,
    warnings: WarningSink,
}

impl Stores {
    fn cache(&self, store: &CacheStore, mode: Mode) -> Arc<Cache> {
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
        Arc::new(cache.portable())
    }
}

/// Opens servers.
struct Opening {
    environment: HttpEnvironment,
    token_file: Option<PathBuf>,
    warnings: WarningSink,
}

impl Opening {
    fn new(settings: &Settings, warnings: &WarningSink) -> Self {
        Self {
            environment: settings.environment().http(),
            token_file: settings.environment().cache_token_file(),
            warnings: Arc::clone(warnings),
        }
    }

    fn cache(&self, spec: &CacheSpec) -> Result<Arc<Cache>, CliError> {
        let token_file = spec.token_file.as_ref().or(self.token_file.as_ref());
        self.connected(spec, token_file.map(PathBuf::as_path))
    }

    fn connected(
        &self,
        spec: &CacheSpec,
        token_file: Option<&Path>,
    ) -> Result<Arc<Cache>, CliError> {
        let token = token_file.map(token).transpose()?;
        let trust: TrustSource = match &spec.ca {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|error| {
                    let what = format!("cannot read the certificates in {}", path.display());
                    CliError::environment(what).caused_by(error)
                })?;
                Arc::new(move || vec![pem.clone()])
            }
            None => {
                let environment = self.environment.clone();
                Arc::new(move || certificates::system_pem(&environment))
            }
        };
        let connect = Arc::new(GrpcConnect::new(spec, token, trust));
        let (name, instance) = (spec.name(), spec.instance.clone());
        let warnings = Arc::clone(&self.warnings);
        let cache = Cache::new(name, instance, spec.mode, connect, warnings);
        Ok(Arc::new(cache.sharing_mounts(spec.mounts.clone())))
    }

    /// A cache of which only the name is known, to read. It was used once, but is not one that the
    /// user names now: the token for all caches does not go to it where others could read it.
    fn by_name(&self, name: &str) -> Option<Arc<Cache>> {
        let mut spec: CacheSpec = name.parse().ok()?;
        spec.mode = Mode::Read;
        let token_file = self.token_file.as_ref();
        let token_file = token_file.filter(|_| spec.address.is_private()).cloned();
        self.connected(&spec, token_file.as_deref()).ok()
    }
}

/// The token in a file: its first line.
fn token(path: &Path) -> Result<SecretValue, CliError> {
    use std::io::Read as _;
    let cannot = |error| {
        let what = format!("cannot read the token of the cache in {}", path.display());
        CliError::environment(what).caused_by(error)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(LONGEST_TOKEN)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.trim_ascii();
    if line.is_empty() {
        let what = format!("the file {} holds no token", path.display());
        return Err(CliError::usage(what).hint("write the token into its first line"));
    }
    Ok(SecretValue::new(line.to_vec()))
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

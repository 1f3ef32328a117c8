//! The shared caches of a command.

mod registry;

use std::sync::Arc;

use ashlar_sharing::address::{CacheSpec, Mode};
use ashlar_sharing::cache::Cache;
use ashlar_sharing::fetch::CacheOpener;
use ashlar_sharing::portable::{Container, DirectoryContainer, PortableConnect};
use ashlar_sharing::sharing::{Proof, Sharing};
use ashlar_store::home::Home;
use ashlar_workshop::proof;
use ashlar_workshop::servers::{Servers, holder};
use ashlar_workshop::workshop::ClientSource;

use crate::cli::value::{CacheArg, CacheStore, SignArg, TrustArg};
use crate::diagnostics::CliError;
use crate::settings::Settings;
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
    /// The farm that the build runs on: its cache is the only one.
    pub farm: Option<FarmCache<'a>>,
}

/// The cache of a farm.
#[derive(Debug, Clone, Copy)]
pub struct FarmCache<'a> {
    /// Where it is.
    pub server: &'a CacheSpec,
    /// Whether the build cannot go on without it.
    pub is_needed: bool,
}

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
        read_proof(flags, settings, warnings)?
    } else {
        Proof::default()
    };
    let opening = servers(settings, warnings);
    let stores = Stores {
        home: home.clone(),
        clients,
        warnings: Arc::clone(warnings),
    };
    let specs = match flags.farm {
        Some(farm) => vec![farm.server.clone()],
        None => settings.caches(flags.servers)?,
    };
    let is_needed = flags.farm.is_some_and(|farm| farm.is_needed);
    let trusting = |cache: Cache| {
        let cache = if is_needed { cache.needed() } else { cache };
        Arc::new(proof.demanded_of(cache))
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
    let holder = holder(&settings.environment().variables());
    Ok(Sharing::new(home.clone(), caches, opener, holder, proof))
}

/// The keys that the flags, the environment and the configuration file name.
fn read_proof(
    flags: CacheFlags<'_>,
    settings: &Settings,
    warnings: &WarningSink,
) -> Result<Proof, CliError> {
    let sign = settings.cache_sign(flags.sign)?;
    let trust = settings.cache_trust(flags.trust)?;
    let clock = settings.clock();
    let environment = settings.environment();
    let around = proof::Around {
        variable: &|name| environment.text(name).map(ToOwned::to_owned),
        now: Arc::new(move || clock.now().seconds),
        warnings,
    };
    Ok(proof::read(sign.as_ref(), &trust, &around)?)
}

/// Opens one cache.
pub fn open_one(
    spec: &CacheSpec,
    settings: &Settings,
    warnings: &WarningSink,
) -> Result<Arc<Cache>, CliError> {
    Ok(Arc::new(servers(settings, warnings).cache(spec)?))
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

/// Opens servers as the settings say.
fn servers(settings: &Settings, warnings: &WarningSink) -> Servers {
    let environment = settings.environment();
    let token_file = environment.cache_token_file();
    Servers::new(environment.variables(), token_file, Arc::clone(warnings))
}

//! What a build is asked for besides its Dockerfile.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_model::remote::RemoteSource;
use ashlar_model::step::{ExtraHost, Network, Ulimit};

/// What a build is asked for.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// `--target`; the last stage if there is none.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// What the image is to run on.
    pub platform: Platform,
    /// Nobody asked for that platform: it is the machine's. A base image for another one that the
    /// machine runs is taken as it is.
    pub implicit_platform: bool,
    /// What the build runs on.
    pub build_platform: Platform,
    /// Other platforms whose programs run here.
    pub emulated: Vec<Platform>,
    /// `--build-context`, by lower-case name: `name`, or `name::platform` for that platform only.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Network of RUN where the instruction does not say.
    pub network: Network,
    /// `--add-host`.
    pub extra_hosts: Vec<ExtraHost>,
    /// `--shm-size`: bytes of `/dev/shm`, if not 64 MiB.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--allow`.
    pub allowed: Allowed,
}

/// What RUN may ask for only with the user's consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowed {
    /// `--security=insecure`
    pub insecure: bool,
    /// `--network=host`, where the build as a whole has no network.
    pub host_network: bool,
}

impl PlanOptions {
    /// A build of the last stage on a platform for the same one, with nothing asked for.
    pub fn new(platform: Platform) -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            build_platform: platform.clone(),
            platform,
            implicit_platform: true,
            emulated: Vec::new(),
            contexts: BTreeMap::new(),
            network: Network::Host,
            extra_hosts: Vec::new(),
            shm_size: None,
            ulimits: Vec::new(),
            allowed: Allowed::default(),
        }
    }
}

/// Where a named context lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory.
    Directory(PathBuf),
    /// Files from elsewhere.
    Remote(RemoteSource),
    /// An image of a registry or of the local store.
    Image(Reference),
    /// An image of an OCI layout on disk.
    OciLayout {
        /// The layout's directory.
        directory: PathBuf,
        /// Tag or digest in it; the only image if there is none.
        selector: Option<String>,
    },
}

impl NamedContext {
    /// Whether it is the empty image by name: `docker-image://scratch`.
    pub(super) fn is_scratch(&self) -> bool {
        matches!(self, Self::Image(reference) if reference.familiar() == "scratch:latest")
    }
}

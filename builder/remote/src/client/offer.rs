//! What only the client of a build has, and gives to the workers that run it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ashlar_engine::graph::{Graph, NodeKind};
use ashlar_model::layer::LayerOrigin;
use ashlar_model::reference::Reference;
use ashlar_model::secret::SecretValue;
use ashlar_store::home::Home;
use bytes::Bytes;

use super::session::{Agents, Session};
use super::{FarmClient, FarmError};
use crate::context::ContextError;
use crate::seal::{Recipient, SealError, Secrets, seal};

/// Gives the login for a repository, if this machine has one. May block.
pub type LoginSource = Arc<dyn Fn(&Reference) -> Option<SecretValue> + Send + Sync>;

/// Secrets, agents, and logins of a build.
#[derive(Clone)]
pub struct Offer {
    /// By id.
    pub secrets: BTreeMap<String, SecretValue>,
    /// Sockets of ssh agents, by id.
    pub agents: Agents,
    /// Logins: those for the images that the build names travel with it, and no others.
    pub logins: LoginSource,
    /// Repositories that the build's image is pushed to.
    pub pushes: Vec<Reference>,
    /// Whom all of it is sealed to.
    pub recipients: Vec<Recipient>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("secrets", &self.secrets.keys())
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            secrets: BTreeMap::new(),
            agents: Agents::new(),
            logins: Arc::new(|_| None),
            pushes: Vec::new(),
            recipients: Vec::new(),
        }
    }
}

/// An offer, sealed.
#[derive(Debug)]
pub(super) struct Sealed {
    bytes: Bytes,
    /// Logins that no worker can be given, since none has a key.
    withheld: Vec<String>,
}

impl Offer {
    /// Seals what a build of some graph needs.
    pub(super) async fn seal(
        &self,
        build: &str,
        graph: &Arc<Graph>,
        home: &Home,
    ) -> Result<Sealed, FarmError> {
        let (offer, build) = (self.clone(), build.to_owned());
        let (graph, home) = (Arc::clone(graph), home.clone());
        let work = move || offer.seal_now(&build, &graph, &home);
        // Logins may be asked of programs.
        tokio::task::spawn_blocking(work)
            .await
            .map_err(ContextError::broken_off)?
    }

    fn seal_now(&self, build: &str, graph: &Graph, home: &Home) -> Result<Sealed, FarmError> {
        let mut logins = BTreeMap::new();
        for image in repositories(graph, home).iter().chain(&self.pushes) {
            let host = image.registry().to_owned();
            if logins.contains_key(&host) {
                continue;
            }
            if let Some(login) = (self.logins)(image) {
                logins.insert(host, login);
            }
        }
        let secrets = Secrets {
            secrets: self.secrets.clone(),
            agents: self.agents.keys().cloned().collect(),
            logins,
        };
        if secrets.is_empty() {
            return Ok(Sealed {
                bytes: Bytes::new(),
                withheld: Vec::new(),
            });
        }
        let only_logins = self.secrets.is_empty() && self.agents.is_empty();
        match seal(&secrets, build, &self.recipients) {
            Ok(bytes) => Ok(Sealed {
                bytes: bytes.into(),
                withheld: Vec::new(),
            }),
            // Most images can be had by anybody.
            Err(SealError::NoRecipient) if only_logins => Ok(Sealed {
                bytes: Bytes::new(),
                withheld: secrets.logins.into_keys().collect(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the session in which it is given. `warn` hears what is not given.
    pub(super) async fn open(
        &self,
        client: &FarmClient,
        build: &str,
        sealed: Sealed,
        warn: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Session, FarmError> {
        if !sealed.withheld.is_empty() {
            warn(format!(
                "the farm's workers have no key to seal logins to: images of {} are had without",
                sealed.withheld.join(", ")
            ));
        }
        client
            .session(build, sealed.bytes, self.agents.clone())
            .await
    }
}

/// The repositories that have the layers of a graph's bases, each registry once.
fn repositories(graph: &Graph, home: &Home) -> Vec<Reference> {
    let mut found: BTreeMap<String, Reference> = BTreeMap::new();
    for (_, node) in graph.nodes() {
        let NodeKind::Base(base) = &node.kind else {
            continue;
        };
        for layer in &base.layers {
            // Whoever needs the layer says what is wrong with it.
            let Ok(Some(record)) = home.layer(layer) else {
                continue;
            };
            if let LayerOrigin::Image { repositories } = record.origin {
                for repository in repositories {
                    let host = repository.registry().to_owned();
                    found.entry(host).or_insert(repository);
                }
            }
        }
    }
    found.into_values().collect()
}

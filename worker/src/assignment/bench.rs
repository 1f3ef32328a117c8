//! What an assignment works with: the store of its namespace, the farm's cache, registries with the
//! build's logins, secrets, agents.

use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::event::EventSink;
use ashlar_engine::key::NodeKeys;
use ashlar_engine::share::{MadeResult, SharedResults as _};
use ashlar_exec::executor::{BlobFetcher, LocalExecutor};
use ashlar_image::registry::RegistrySettings;
use ashlar_model::digest::DefinitionKey;
use ashlar_remote::seal::Secrets;
use ashlar_sharing::sharing::Sharing;
use ashlar_store::home::Home;
use ashlar_workshop::sources::Sources;
use ashlar_workshop::workshop::{Basics, registry_settings};
use ashlar_workshop::{WarningSink, Workshop, WorkshopError};

use super::agents::Agents;
use super::secrets::{self, Offered};
use super::watch::Watch;
use crate::attach::ledger::Given;
use crate::worker::Worker;

/// How often it is looked whether all was sent.
const LOOK: Duration = Duration::from_secs(1);

/// All of it, set out.
pub struct Bench {
    /// The tools.
    pub workshop: Workshop,
    /// Where steps run, with the build's secrets.
    pub executor: LocalExecutor,
    /// Files from elsewhere.
    pub sources: Arc<Sources>,
    /// Who is told what happens.
    pub events: Arc<dyn EventSink>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench")
            .field("workshop", &self.workshop)
            .finish_non_exhaustive()
    }
}

impl Bench {
    /// Sets all of it out in the store of a namespace.
    pub fn set_out(
        worker: &Arc<Worker>,
        home: &Home,
        instance: &str,
        given: &Given,
        secrets: &Secrets,
        blobs: Option<Arc<dyn BlobFetcher>>,
    ) -> Result<Self, WorkshopError> {
        let watch = Watch::new(Arc::clone(&worker.line), given.clone());
        let events: Arc<dyn EventSink> = Arc::new(watch.clone());
        let warnings: WarningSink = Arc::new(move |text: &str| watch.warn(text));
        let registries = RegistrySettings {
            logins: Some(secrets::logins(secrets)),
            insecure: worker.insecure_registries.clone(),
            ..registry_settings(&worker.variables, true)
        };
        let cache = worker.farm.cache(instance, Arc::clone(&warnings));
        // What is made here and does not arrive there was made for nobody.
        let cache = worker.proof.demanded_of(cache.needed());
        let proof = worker.proof.clone();
        let basics = Basics {
            registries,
            blobs,
            warnings,
        };
        let store = home.clone();
        let holder = worker.holder.clone();
        let workshop = Workshop::new(home.clone(), basics, |_| {
            let cache = vec![Arc::new(cache)];
            Ok::<_, WorkshopError>(Sharing::new(store, cache, None, holder, proof))
        })?;
        let agents =
            Agents::listen(home, &worker.line, given, &secrets.agents).map_err(|error| {
                WorkshopError::environment("cannot offer the client's ssh agents").caused_by(error)
            })?;
        let offered = Arc::new(Offered::new(secrets, agents));
        let sources = Sources::new(home.clone(), &worker.variables, Arc::clone(&offered) as _);
        let executor = workshop.executor().clone().offering(offered);
        Ok(Self {
            workshop,
            executor,
            sources: Arc::new(sources),
            events,
        })
    }

    /// The farm's cache.
    pub const fn sharing(&self) -> &Sharing {
        self.workshop.sharing()
    }

    /// Waits until all results were sent, or for as long as there is time. Whether nothing is left
    /// to be sent, and nothing failed.
    pub async fn send(&self, limit: Option<Duration>) -> bool {
        let sharing = self.sharing();
        let is_done = match limit {
            Some(limit) => sharing.finish(limit).await,
            // Whoever sends has limits of its own.
            None => loop {
                if sharing.finish(LOOK).await {
                    break true;
                }
            },
        };
        is_done && sharing.progress().failed == 0
    }

    /// Those of some results that the farm does not have.
    pub async fn missing(&self, results: &[DefinitionKey]) -> Vec<DefinitionKey> {
        let found = self.sharing().probe(results, &[]).await.definitions;
        let missing = results.iter().filter(|key| !found.contains(key));
        missing.copied().collect()
    }

    /// Offers results of the store to the farm.
    pub fn offer<'a>(&self, results: impl Iterator<Item = &'a NodeKeys>) {
        for keys in results {
            let (definition, home) = (keys.definition, self.workshop.home());
            // What the store does not have any more was lost on the way: the client comes again.
            let (Some(instruction), Ok(Some(result))) =
                (keys.instruction, home.result_by_definition(&definition))
            else {
                continue;
            };
            self.sharing().offer(MadeResult {
                name: String::new(),
                definition,
                instruction,
                content: None,
                stack: result.stack,
                made: Vec::new(),
                word: result.word,
                replaces: false,
            });
        }
    }

    /// Saves what cache mounts hold that are shared.
    pub async fn save_mounts(&self) {
        let used = self.executor.used_caches();
        self.sharing().save_mounts(&used, &self.executor).await;
    }

    /// Tells what was sent, for those who look after the worker.
    pub fn count(&self, worker: &Worker) {
        let progress = self.sharing().progress();
        let results = progress.done.saturating_sub(progress.failed);
        worker.metrics.sent(progress.sent.bytes, results);
    }
}

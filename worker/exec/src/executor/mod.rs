//! Runs steps on this machine: the [`StepExecutor`] of a local build.
//!
//! What a step needs decides where it runs:
//!
//! - Files of the context onto a filesystem that nothing mounts: in this process, streamed into a
//!   tar. No namespace is entered.
//! - Everything else: in the sandbox helper, which is started by the first step that needs it.
//!   Files are handled by its file worker ([`request`]), commands by its launcher.
//!
//! | module | subject |
//! |---|---|
//! | `trees` | layers as directories, made when something mounts them |
//! | `packed` | layers as tars and blobs |
//! | `damage` | trees that are not what they were |
//! | `views` | layers as something to look into, without mounting |
//! | `run`, `copy`, `pack`, `export` | one operation each |
//! | `layer_tar` | a layer's tar as a stream, to be sent elsewhere |
//! | `stream` | what the file worker writes, as it comes |
//! | `mounts` | what a RUN sees besides its filesystem: caches, secrets, agents |
//! | `container` | containers of finished images (`ashlar run`) |
//! | `allowance` | what containers may write in a store with a quota |
//! | [`request`] | what the file worker is asked, and its answers |
//! | `isolation` | how ids are mapped, as far as it matters to results |

mod allowance;
mod clock;
mod container;
mod copy;
mod damage;
mod error;
mod export;
pub mod files;
mod isolation;
mod layer_tar;
mod mounts;
mod pack;
mod packed;
pub mod request;
mod run;
mod stream;
mod trees;
mod views;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ashlar_model::cas::SharedLayer;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::LayerId;
use ashlar_model::executor::{
    BoxFuture, PackRequest, StepError, StepExecutor, StepOutcome, StepOutput, StepRequest,
};
use ashlar_model::layer::LayerRecord;
use ashlar_model::mount::CacheMount;
use ashlar_model::reference::Reference;
use ashlar_model::secret::{NoSecrets, SecretSource};
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{Selection, StepOp};
use ashlar_store::home::Home;
use tokio::sync::{OnceCell, Semaphore};

pub use container::{ContainerControl, ContainerRequest};
pub use damage::ExaminedTrees;
pub use error::of_store as store_failed;
pub use isolation::isolation_class;
pub use layer_tar::LayerTar;
pub use mounts::{CacheSnapshots, CacheTar, Snapshot};

use crate::layer::split::Beside;
use crate::sandbox::{IdChoice, SandboxConfig, SandboxHelper};
use request::Request;

/// Brings blobs of image layers into the store.
pub trait BlobFetcher: Send + Sync {
    /// Fetches a blob that one of the repositories has, unless the store has it.
    fn fetch<'a>(
        &'a self,
        blob: &'a Descriptor,
        repositories: &'a [Reference],
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

/// Brings layers that steps made on other machines into the store.
pub trait SharedLayerFetcher: Send + Sync {
    /// Puts a layer's tar where the store [keeps it](Home::tar_path), from one of the copies. What
    /// has not the layer's diff ID must never get there:
    /// [`split::receive`](crate::layer::split::receive) sees to it.
    ///
    /// Where no copy can be had (any more), nothing is put there, and that is no error: the layer
    /// is [lost](StepError::LayersLost) then, and made again by its step. An error is what is
    /// wrong with this machine, such as a full disk.
    ///
    /// `beside` takes the tar of the first attempt while it comes. It must be gone when this ends.
    ///
    /// No two calls for the same layer run at once, in whatever process.
    fn fetch_layer<'a>(
        &'a self,
        layer: &'a LayerRecord,
        copies: &'a [SharedLayer],
        beside: Option<Beside>,
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

/// Receives what users should know, a line each.
pub type WarningSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Runs steps in this machine's sandbox. Cheap to clone.
#[derive(Clone)]
pub struct LocalExecutor {
    inner: Arc<Inner>,
    secrets: Arc<dyn SecretSource>,
    shared: Option<Arc<dyn SharedLayerFetcher>>,
    snapshots: Option<Arc<dyn CacheSnapshots>>,
    used_caches: Arc<Mutex<Vec<CacheMount>>>,
}

struct Inner {
    home: Home,
    ids: IdChoice,
    fetcher: Arc<dyn BlobFetcher>,
    warnings: WarningSink,
    helper: OnceCell<Arc<SandboxHelper>>,
    /// For layers that are unpacked while they are fetched.
    arriving: Arc<Semaphore>,
}

/// How many layers are unpacked while they are fetched: fewer than the file worker has threads.
const ARRIVING: usize = 4;

impl std::fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalExecutor")
            .field("home", &self.inner.home)
            .finish_non_exhaustive()
    }
}

impl LocalExecutor {
    /// An executor over a store. Nothing is started yet. `warnings` receives what users should
    /// know, a line each.
    pub fn new(
        home: Home,
        ids: IdChoice,
        fetcher: Arc<dyn BlobFetcher>,
        warnings: WarningSink,
    ) -> Self {
        let helper = OnceCell::new();
        Self {
            inner: Arc::new(Inner {
                home,
                ids,
                fetcher,
                warnings,
                helper,
                arriving: Arc::new(Semaphore::new(ARRIVING)),
            }),
            secrets: Arc::new(NoSecrets),
            shared: None,
            snapshots: None,
            used_caches: Arc::default(),
        }
    }

    /// The same executor, which gets layers of other machines through `shared`. Without, they
    /// count as lost when something needs their files.
    #[must_use]
    pub fn fetching(self, shared: Arc<dyn SharedLayerFetcher>) -> Self {
        Self {
            shared: Some(shared),
            ..self
        }
    }

    /// The same executor, whose steps may be given what `secrets` offers.
    #[must_use]
    pub fn offering(self, secrets: Arc<dyn SecretSource>) -> Self {
        Self { secrets, ..self }
    }

    /// The same executor, whose cache mounts begin with what other machines saved of them.
    #[must_use]
    pub fn restoring(self, snapshots: Arc<dyn CacheSnapshots>) -> Self {
        Self {
            snapshots: Some(snapshots),
            ..self
        }
    }

    fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            (self.inner.warnings)(warning);
        }
    }

    fn home(&self) -> &Home {
        &self.inner.home
    }

    /// The sandbox, started by the first who asks.
    async fn helper(&self) -> Result<Arc<SandboxHelper>, StepError> {
        let start = || async {
            let config = SandboxConfig {
                directory: self.sandbox_directory(),
                ids: self.inner.ids,
            };
            let started = tokio::task::spawn_blocking(move || SandboxHelper::start(&config)).await;
            match started {
                Ok(Ok(helper)) => {
                    let helper = Arc::new(helper);
                    self.warn(helper.id_map().unused_ids_warning().as_slice());
                    self.join(&helper).await?;
                    self.sweep(&helper).await?;
                    Ok(helper)
                }
                Ok(Err(failure)) => Err(error::of_start(failure)),
                Err(_) => Err(StepError::Cancelled),
            }
        };
        self.inner.helper.get_or_try_init(start).await.cloned()
    }

    fn sandbox_directory(&self) -> PathBuf {
        self.home().root().join("sandbox")
    }

    /// Lets the file worker ask for admission as this process does, if the store has a quota.
    async fn join(&self, helper: &SandboxHelper) -> Result<(), StepError> {
        let Some(user) = self.home().user_name() else {
            return Ok(());
        };
        let home = self.home().root().to_owned();
        let request = Request::Join { home, user };
        request::call(helper, &request).await?.done().map(drop)
    }

    /// Removes what killed builds have left.
    async fn sweep(&self, helper: &SandboxHelper) -> Result<(), StepError> {
        self.home().sweep_locks().map_err(error::of_store)?;
        let stale = self.home().stale_scratch().map_err(error::of_store)?;
        if stale.is_empty() {
            return Ok(());
        }
        let paths = stale.iter().map(|one| one.path().to_owned()).collect();
        request::call(helper, &Request::Remove { paths })
            .await?
            .done()?;
        Ok(())
    }

    /// Removes directory trees that may hold files of other ids.
    pub async fn remove_trees(&self, paths: Vec<PathBuf>) -> Result<(), StepError> {
        let helper = self.helper().await?;
        request::call(&helper, &Request::Remove { paths })
            .await?
            .done()?;
        Ok(())
    }
}

impl StepExecutor for LocalExecutor {
    fn execute<'a>(
        &'a self,
        request: StepRequest,
        output: Arc<dyn StepOutput>,
    ) -> BoxFuture<'a, Result<StepOutcome, StepError>> {
        Box::pin(async move {
            let StepRequest {
                op,
                parent,
                will_be_mounted,
                wanted,
            } = request;
            let layer = match op {
                StepOp::Run(spec) => self.run_step(&spec, &parent, output).await?,
                StepOp::Copy(spec) => {
                    self.copy_step(spec, &parent, will_be_mounted, &wanted)
                        .await?
                }
                StepOp::MakeDirectory(spec) => {
                    self.directory_step(spec, &parent, will_be_mounted, &wanted)
                        .await?
                }
            };
            Ok(StepOutcome { layer })
        })
    }

    fn pack<'a>(
        &'a self,
        layer: LayerId,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>> {
        Box::pin(self.pack_layer(layer, below, wanted))
    }

    fn select<'a>(
        &'a self,
        layers: Vec<LayerId>,
        sources: Vec<SourceQuery>,
    ) -> BoxFuture<'a, Result<Vec<Selection>, StepError>> {
        Box::pin(self.select_files(layers, sources))
    }

    fn forget_caches<'a>(
        &'a self,
        caches: Vec<CacheMount>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(self.empty_caches(caches))
    }
}

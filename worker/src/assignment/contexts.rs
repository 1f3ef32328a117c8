//! Files of the client's contexts: brought here just before the step that copies them runs.
//!
//! What a step finds in the cache needs no files. So only what they are is read when work begins;
//! the files themselves come when a COPY is run, into a directory of this assignment. It is
//! [kept](crate::kept) for the next one, most of whose files are often the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::digest::LayerId;
use ashlar_model::error_chain::error_chain;
use ashlar_model::executor::{
    BoxFuture, PackRequest, StepError, StepExecutor, StepOutcome, StepOutput, StepRequest,
};
use ashlar_model::layer::LayerRecord;
use ashlar_model::mount::CacheMount;
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{CopySource, Selection, StepOp};
use ashlar_remote::context::{self, ContextError, ContextRef, Fetched, Limits, Listing};
use ashlar_store::BlobStore;
use ashlar_store::fault::FaultKind;
use ashlar_store::home::quota::Meter;
use ashlar_store::home::scratch::Scratch;
use ashlar_store::home::{Home, StoreError};
use tokio::sync::OnceCell;

use crate::kept::{Kept, KeptContexts};

/// The contexts of one assignment.
#[derive(Debug)]
pub struct Contexts {
    store: Arc<dyn BlobStore>,
    meter: Meter,
    contexts: HashMap<PathBuf, Lazy>,
    in_order: Vec<(PathBuf, Arc<Selection>)>,
    /// Why one could not be had.
    trouble: Mutex<Option<String>>,
    /// Holds the directories.
    scratch: Option<Scratch>,
    /// What earlier work of the namespace has left, once it was asked for.
    near: OnceCell<Option<Kept>>,
    kept: Arc<KeptContexts>,
    namespace: String,
}

#[derive(Debug)]
struct Lazy {
    listing: Listing,
    fetched: OnceCell<()>,
}

/// Why contexts cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
    /// One is not there, or not what it should be.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// There is no place for it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Contexts {
    /// Reads what contexts are.
    pub async fn list(
        home: &Home,
        store: &Arc<dyn BlobStore>,
        (kept, namespace): (&Arc<KeptContexts>, &str),
        references: &[ContextRef],
    ) -> Result<Self, ContextsError> {
        let scratch = match references {
            [] => None,
            _ => Some(home.scratch()?),
        };
        let mut contexts = HashMap::new();
        let mut in_order = Vec::with_capacity(references.len());
        if let Some(scratch) = &scratch {
            for (index, reference) in references.iter().enumerate() {
                let listing = context::list(store, reference, &Limits::default()).await?;
                let root = scratch.path().join(format!("context-{index}"));
                in_order.push((root.clone(), Arc::clone(listing.selection())));
                let fetched = OnceCell::new();
                contexts.insert(root, Lazy { listing, fetched });
            }
        }
        Ok(Self {
            store: Arc::clone(store),
            meter: home.meter(),
            contexts,
            in_order,
            trouble: Mutex::default(),
            scratch,
            near: OnceCell::new(),
            kept: Arc::clone(kept),
            namespace: namespace.to_owned(),
        })
    }

    /// Where each of them will be, and what it is, in the order of the references.
    pub fn places(&self) -> Vec<(PathBuf, Arc<Selection>)> {
        self.in_order.clone()
    }

    /// Why one could not be had, if that was so: then it is not the step that is wrong.
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Brings the files of a context here, if they are not.
    async fn bring(&self, root: &Path) -> Result<(), StepError> {
        let Some(lazy) = self.contexts.get(root) else {
            return Ok(());
        };
        let fetch = || async {
            std::fs::create_dir_all(root).map_err(|source| {
                let error = StoreError::io("create", root, source);
                ashlar_exec::executor::store_failed(error)
            })?;
            let take = || async { self.kept.take(&self.namespace) };
            let near = self.near.get_or_init(take).await;
            let near = near.as_ref().map_or(&[][..], Kept::fetched);
            let fetch = context::fetch(&self.store, &lazy.listing, root, &self.meter, near);
            fetch.await.map_err(|error| self.failed(error))
        };
        lazy.fetched.get_or_try_init(fetch).await.copied()
    }
}

impl Contexts {
    fn failed(&self, error: ContextError) -> StepError {
        // The farm has lost what the client sent: it comes again, and sends what is missing.
        if let ContextError::Store { source, .. } = &error
            && source.kind == FaultKind::NotFound
        {
            return StepError::LayersLost { layers: Vec::new() };
        }
        let message = error_chain(&error);
        let hint = error.hint().map(ToOwned::to_owned);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        StepError::Environment {
            message: "the files of the context cannot be had".to_owned(),
            hint,
            source: Some(Box::new(error)),
        }
    }
}

impl Drop for Contexts {
    /// Leaves the files to the work that comes next.
    fn drop(&mut self) {
        let Some(scratch) = self.scratch.take() else {
            return;
        };
        let contexts = std::mem::take(&mut self.contexts).into_iter();
        let fetched = contexts.filter(|(_, lazy)| lazy.fetched.initialized());
        let fetched = fetched.map(|(directory, lazy)| Fetched {
            directory,
            listing: lazy.listing,
        });
        let own = Kept::new(scratch, fetched.collect());
        let before = self.near.take().flatten();
        // Work that needed no files leaves what there was.
        let left = if own.fetched().is_empty() {
            before
        } else {
            Some(own)
        };
        if let Some(left) = left {
            self.kept.put(&self.namespace, left);
        }
    }
}

/// Runs steps, and brings the files here that they copy.
#[derive(Debug, Clone)]
pub struct WithContexts<E> {
    executor: E,
    contexts: Arc<Contexts>,
}

impl<E> WithContexts<E> {
    /// An executor that has these contexts.
    pub const fn new(executor: E, contexts: Arc<Contexts>) -> Self {
        Self { executor, contexts }
    }
}

impl<E: StepExecutor> StepExecutor for WithContexts<E> {
    fn execute<'a>(
        &'a self,
        request: StepRequest,
        output: Arc<dyn StepOutput>,
    ) -> BoxFuture<'a, Result<StepOutcome, StepError>> {
        Box::pin(async move {
            if let StepOp::Copy(copy) = &request.op {
                for source in &copy.sources {
                    if let CopySource::Directory { root, .. } = source {
                        self.contexts.bring(root).await?;
                    }
                }
            }
            self.executor.execute(request, output).await
        })
    }

    fn pack<'a>(
        &'a self,
        layer: LayerId,
        below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>> {
        self.executor.pack(layer, below, wanted)
    }

    fn select<'a>(
        &'a self,
        layers: Vec<LayerId>,
        sources: Vec<SourceQuery>,
    ) -> BoxFuture<'a, Result<Vec<Selection>, StepError>> {
        self.executor.select(layers, sources)
    }

    fn forget_caches<'a>(
        &'a self,
        caches: Vec<CacheMount>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        self.executor.forget_caches(caches)
    }
}

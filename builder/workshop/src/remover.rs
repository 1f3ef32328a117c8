//! Removes from the store what belongs to subordinate ids.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_exec::executor::{BlobFetcher, LocalExecutor};
use ashlar_exec::sandbox::IdChoice;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::reference::Reference;
use ashlar_store::home::Home;
use ashlar_store::home::gc::TreeRemover;

/// Lets a sandbox of its own remove things. It is started only if there is something.
#[derive(Debug)]
pub struct SandboxRemover {
    home: Home,
}

impl SandboxRemover {
    /// A remover for this store.
    pub const fn new(home: Home) -> Self {
        Self { home }
    }

    fn remove_now(&self, paths: Vec<PathBuf>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let quiet = Arc::new(|_: &str| {});
        let executor =
            LocalExecutor::new(self.home.clone(), IdChoice::Best, Arc::new(Nothing), quiet);
        Ok(runtime.block_on(executor.remove_trees(paths))?)
    }
}

impl TreeRemover for SandboxRemover {
    fn remove(&self, paths: &[PathBuf]) -> Result<(), Box<dyn Error + Send + Sync>> {
        // A build that makes room calls this from a thread of its own runtime, which must not be
        // entered again.
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| self.remove_now(paths.to_vec()));
            removing
                .join()
                .unwrap_or_else(|_| Err("the thread that removes things ended early".into()))
        })
    }
}

/// Whoever only removes needs no image.
struct Nothing;

impl BlobFetcher for Nothing {
    fn fetch<'a>(
        &'a self,
        _blob: &'a Descriptor,
        _repositories: &'a [Reference],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Cancelled) })
    }
}

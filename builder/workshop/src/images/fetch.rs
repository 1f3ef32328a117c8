//! Brings blobs of image layers into the store, when something needs them.

use std::sync::Arc;

use ashlar_exec::executor::BlobFetcher;
use ashlar_image::registry::{Progress, RegistryClient};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::reference::Reference;
use ashlar_store::home::Home;

use super::failure::to_step_error;

/// Told of a blob's bytes as they come: digest, bytes so far, bytes in all.
pub type FetchProgress = Arc<dyn Fn(&Descriptor, u64) + Send + Sync>;

/// Fetches blobs from the registries that layers came from.
#[derive(Clone)]
pub struct Fetch {
    client: RegistryClient,
    home: Home,
    progress: FetchProgress,
    elsewhere: Option<Arc<dyn BlobFetcher>>,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetch")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl Fetch {
    /// Fetches through this client into this store.
    pub fn new(client: RegistryClient, home: Home, progress: FetchProgress) -> Self {
        Self {
            client,
            home,
            progress,
            elsewhere: None,
        }
    }

    /// The same, which asks somebody else for what no repository has.
    #[must_use]
    pub fn or_from(self, elsewhere: Option<Arc<dyn BlobFetcher>>) -> Self {
        Self { elsewhere, ..self }
    }

    /// Fetches a blob that one of the repositories has, unless the store has it.
    pub async fn blob(
        &self,
        blob: &Descriptor,
        repositories: &[Reference],
    ) -> Result<(), StepError> {
        if self.home.blobs().has(blob) {
            return Ok(());
        }
        let mut first_error = None;
        for repository in repositories {
            let told = Arc::clone(&self.progress);
            let which = blob.clone();
            let progress: Progress = Arc::new(move |bytes| told(&which, bytes));
            match self
                .client
                .fetch_blob(repository, blob, &self.home, Some(&progress))
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(elsewhere) = &self.elsewhere {
            let fetched = elsewhere.fetch(blob, repositories).await;
            if fetched.is_ok() || first_error.is_none() {
                return fetched;
            }
        }
        Err(first_error.map_or_else(|| nowhere(blob), to_step_error))
    }
}

/// The error of a blob of which nobody is known to have it.
pub fn nowhere(blob: &Descriptor) -> StepError {
    StepError::Environment {
        message: format!(
            "the layer {} of a base image is not in the store, and no registry is known to have it",
            blob.digest
        ),
        hint: Some(
            "the image came from an OCI layout: build again from there, and it is read anew".into(),
        ),
        source: None,
    }
}

impl BlobFetcher for Fetch {
    fn fetch<'a>(
        &'a self,
        blob: &'a Descriptor,
        repositories: &'a [Reference],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(self.blob(blob, repositories))
    }
}

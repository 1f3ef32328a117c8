//! Brings files from elsewhere here, for the steps that have to run.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_model::digest::ContentDigest;
use ashlar_model::executor::{StepError, StepOutput};
use ashlar_model::remote::RemoteFiles;
use ashlar_model::select::SourceQuery;
use ashlar_model::step::Selection;
use tokio::sync::OnceCell;

use super::output::VertexOutput;
use super::runner::Runner;
use crate::graph::{PlannedOp, PlannedSource, RemoteId};
use crate::plan::source::Fault;
use crate::plan::{ContextSource, SourceError};

/// The sources from elsewhere of one schedule, once they are here.
#[derive(Default)]
pub(super) struct Remotes(Vec<OnceCell<Arc<dyn ContextSource>>>);

impl Remotes {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|_| OnceCell::new()).collect())
    }
}

/// What a step takes of something that is here.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) root: PathBuf,
    pub(super) selection: Arc<Selection>,
}

impl Runner {
    /// What a step takes from elsewhere, in the order of its sources.
    pub(super) async fn fetch_sources(
        &self,
        op: &PlannedOp,
        output: &Arc<VertexOutput>,
    ) -> Result<Vec<Fetched>, StepError> {
        let PlannedOp::Copy(copy) = op else {
            return Ok(Vec::new());
        };
        let mut fetched = Vec::new();
        for source in &copy.sources {
            if let PlannedSource::Remote { remote, query, .. } = source {
                let output: Arc<dyn StepOutput> = output.clone();
                fetched.push(self.fetch(*remote, query, Some(output)).await?);
            }
        }
        Ok(fetched)
    }

    /// The content of what a step takes from elsewhere. That of a URL's file is known without it.
    pub(super) async fn remote_content(
        &self,
        remote: RemoteId,
        query: &SourceQuery,
    ) -> Result<ContentDigest, StepError> {
        if let Some(RemoteFiles::Http(file)) = self.graph.remotes().get(remote.index()) {
            return Ok(file.content_digest());
        }
        let fetched = self.fetch(remote, query, None).await?;
        Ok(fetched.selection.content_digest())
    }

    async fn fetch(
        &self,
        remote: RemoteId,
        query: &SourceQuery,
        output: Option<Arc<dyn StepOutput>>,
    ) -> Result<Fetched, StepError> {
        let index = remote.index();
        let (Some(files), Some(cell)) =
            (self.graph.remotes().get(index), self.remotes.0.get(index))
        else {
            return Err(StepError::Input {
                message: format!("internal error: there is no source number {index}"),
                hint: None,
            });
        };
        let remotes = &self.surroundings.remotes;
        let context = cell.get_or_try_init(|| remotes.fetch(files, output)).await;
        let context = Arc::clone(context.map_err(of_source)?);
        let query = query.clone();
        let selecting = tokio::task::spawn_blocking(move || {
            let selected = context.select(std::slice::from_ref(&query))?;
            Ok((context.root().to_owned(), selected))
        });
        // Only a build that is called off leaves it behind.
        let selected = selecting.await.map_err(|_| StepError::Cancelled)?;
        let (root, selected) = selected.map_err(of_source)?;
        Ok(Fetched {
            root,
            selection: selected.into_iter().next().unwrap_or_default(),
        })
    }
}

fn of_source(error: SourceError) -> StepError {
    let SourceError {
        message,
        hint,
        fault,
        cause,
    } = error;
    match fault {
        Fault::Environment => StepError::Environment {
            message,
            hint,
            source: cause,
        },
        Fault::Input => {
            let mut message = message;
            let mut next: Option<&(dyn std::error::Error + 'static)> =
                cause.as_deref().map(|error| error as _);
            while let Some(error) = next {
                let said = error.to_string();
                if !message.contains(&said) {
                    message = format!("{message}: {said}");
                }
                next = error.source();
            }
            StepError::Input { message, hint }
        }
    }
}

//! Selects and hashes the context files that the steps of a graph name.

use std::path::Path;
use std::sync::Arc;

use ashlar_model::select::SourceQuery;
use ashlar_model::step::Selection;

use super::error::{Place, PlanError};
use super::source::ContextSource;
use crate::graph::{Graph, NodeId};

/// A source of a copy whose files are still to be selected.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) node: NodeId,
    /// Which of the copy's sources.
    pub(super) source: usize,
    /// Which of the contexts.
    pub(super) context: usize,
    pub(super) query: SourceQuery,
    pub(super) place: Place,
}

/// Selects all, each context in one go, so that its walking and hashing runs on all cores. That
/// may take long: it is done beside the runtime, so that a build can be called off meanwhile.
pub(super) async fn select(
    graph: &mut Graph,
    contexts: &[Arc<dyn ContextSource>],
    pending: &[Pending],
) -> Result<(), PlanError> {
    for (number, context) in contexts.iter().enumerate() {
        let mine: Vec<Pending> = pending
            .iter()
            .filter(|one| one.context == number)
            .cloned()
            .collect();
        let source = Arc::clone(context);
        let work = move || select_of(source.as_ref(), &mine).map(|selected| (mine, selected));
        let done = tokio::task::spawn_blocking(work).await;
        let (mine, selections) =
            done.map_err(|error| PlanError::new(format!("internal error: {error}")))??;
        for (one, selection) in mine.iter().zip(selections) {
            graph.fill_selection(one.node, one.source, context.root(), selection);
        }
    }
    Ok(())
}

fn select_of(
    context: &dyn ContextSource,
    pending: &[Pending],
) -> Result<Vec<Arc<Selection>>, PlanError> {
    let sources: Vec<SourceQuery> = pending.iter().map(|one| one.query.clone()).collect();
    context.select(&sources).map_err(|error| {
        // One by one, to find the instruction at fault.
        for one in pending {
            if let Err(error) = context.select(std::slice::from_ref(&one.query)) {
                return PlanError::from(error).placed(&one.place);
            }
        }
        error.into()
    })
}

impl Graph {
    fn fill_selection(
        &mut self,
        node: NodeId,
        source: usize,
        directory: &Path,
        files: Arc<Selection>,
    ) {
        if let Some(crate::graph::PlannedSource::Directory { root, selection }) =
            self.copy_source_mut(node, source)
        {
            root.clear();
            root.push(directory);
            *selection = files;
        }
    }
}

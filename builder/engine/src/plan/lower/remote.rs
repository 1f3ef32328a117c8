//! Sources from elsewhere: noted while stages are lowered, and asked for all at once in the end.

use ashlar_model::remote::RemoteSource;
use ashlar_model::select::SourceQuery;
use futures::future::join_all;

use super::Lowering;
use crate::dockerfile::source::SourceRange;
use crate::event::VertexId;
use crate::graph::{Node, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedSource, RemoteId};
use crate::plan::error::{Place, PlanError};

/// A source from elsewhere that some instruction names first.
#[derive(Debug, Clone)]
pub(super) struct WantedRemote {
    source: RemoteSource,
    place: Place,
}

impl Lowering<'_> {
    /// The id of a source from elsewhere. One that is named twice is one.
    pub(super) fn remote(&mut self, source: RemoteSource, place: Place) -> RemoteId {
        let known = self.remotes.iter().position(|one| one.source == source);
        RemoteId::of(known.unwrap_or_else(|| {
            self.remotes.push(WantedRemote { source, place });
            self.remotes.len() - 1
        }))
    }

    /// Finds out what all sources from elsewhere are.
    pub(super) async fn resolve_remotes(&mut self) -> Result<(), PlanError> {
        let wanted = std::mem::take(&mut self.remotes);
        let vertices: Vec<_> = wanted
            .iter()
            .map(|one| self.start_internal(&format!("[internal] resolve {}", one.source)))
            .collect();
        let remotes = &self.sources.remotes;
        let found = join_all(wanted.iter().map(|one| remotes.resolve(&one.source))).await;
        let mut resolved = Vec::with_capacity(wanted.len());
        let mut first_error = None;
        for ((one, result), work) in wanted.iter().zip(found).zip(vertices) {
            match result {
                Ok(files) => {
                    self.end_internal(work, Ok(()));
                    resolved.push(files);
                }
                Err(error) => {
                    let error = PlanError::from(error).placed(&one.place);
                    self.end_internal(work, Err(&error));
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        self.graph.set_remotes(resolved);
        Ok(())
    }

    /// All files of a source from elsewhere, as a filesystem.
    pub(super) fn remote_node(
        &mut self,
        name: &str,
        source: &RemoteSource,
        range: SourceRange,
    ) -> NodeId {
        let place = self.place(range);
        let remote = self.remote(source.clone(), place);
        let parent = self.scratch_node(range);
        self.graph.add(Node {
            vertex: VertexId(0),
            name: format!("[context {name}] {source}").into(),
            range: Some(range),
            kind: NodeKind::Step {
                parent,
                op: PlannedOp::Copy(PlannedCopy {
                    sources: vec![PlannedSource::Remote {
                        remote,
                        query: SourceQuery::from("/"),
                        unpack: false,
                    }],
                    destination: "/".to_owned(),
                    owner: None,
                    mode: None,
                    unpack: false,
                }),
            },
        })
    }

    /// The place of some lines, as a whole.
    pub(super) fn place(&self, range: SourceRange) -> Place {
        Place {
            source: self.dockerfile.source.clone(),
            range,
            caret: None,
        }
    }
}

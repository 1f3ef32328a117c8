//! Asks the store for results.

use std::sync::Arc;

use ashlar_model::digest::{ContentDigest, LayerId};
use ashlar_model::mount::MountSpec;
use ashlar_model::select::{SourceQuery, literal};
use ashlar_model::step::Selection;
use ashlar_store::home::results::{ContentResult, DefinitionResult, Word};
use futures::FutureExt as _;

use super::failure::Failure;
use super::runner::{Ready, Runner, Settled, contents_of};
use crate::graph::{NodeId, PlannedOp, PlannedSource};
use crate::key::content_key;
use crate::share::{Belief, FoundLayer, ResultKey};

/// What the content key gave.
pub(super) enum ContentLookup {
    /// The instruction ran before on a parent with the same content.
    Hit(Ready),
    /// It did not.
    Miss {
        /// The contents of the step's other inputs, if they had to be read for the lookup.
        source_contents: Option<Vec<ContentDigest>>,
    },
}

/// Whose word a result is that was made here.
pub(super) const fn made_from(proven: bool) -> Word {
    if proven { Word::Own } else { Word::Bare(None) }
}

impl Runner {
    pub(super) fn look_up_definition(
        self: &Arc<Self>,
        id: NodeId,
    ) -> Result<Option<(Ready, Word)>, Failure> {
        if self.runs_anew(id) {
            return Ok(None);
        }
        let Some(result) = self.local_result(id)? else {
            return Ok(None);
        };
        let definition = &self.keys[id.index()].definition;
        let belief = self.belief(ResultKey::Definition(definition), &result.word);
        let ready = self.ready_from_store(result.stack.into(), belief == Belief::Proven);
        Ok(Some((ready, result.word)))
    }

    /// A filesystem whose layers were all read before. Nothing is read until someone asks.
    pub(super) fn ready_from_store(self: &Arc<Self>, stack: Arc<[LayerId]>, proven: bool) -> Ready {
        let runner = Arc::clone(self);
        let layers = Arc::clone(&stack);
        let settled = async move {
            let contents = contents_of(&runner.records(&layers)?)?.into();
            Ok(Settled {
                stack: layers,
                contents,
            })
        };
        Ready {
            stack,
            settled: settled.boxed().shared(),
            proven,
        }
    }

    /// Looks the step up by what its inputs contain, here and on other machines. Waits until they
    /// are read, but only if the instruction ever ran: else there is nothing to find.
    pub(super) async fn look_up_content(
        self: &Arc<Self>,
        id: NodeId,
        op: &PlannedOp,
        parent: &Ready,
        sources: &[Ready],
    ) -> Result<ContentLookup, Failure> {
        let home = &self.surroundings.home;
        let miss = |source_contents| Ok(ContentLookup::Miss { source_contents });
        let Some(instruction) = self.keys[id.index()].instruction else {
            return miss(None);
        };
        let elsewhere = self.ran_elsewhere(&instruction);
        if self.runs_anew(id) || !elsewhere && !home.instruction_ever_ran(&instruction) {
            return miss(None);
        }
        let settled = parent.settled.clone().await?;
        let source_contents = self.source_contents(id, op, sources).await?;
        let key = content_key(&instruction, &settled.contents, &source_contents);
        let here = home.result_by_content(&key)?;
        let here = here.filter(|result| !self.losses.hit(&[result.layer]));
        let refused = |word: &Word| self.belief(ResultKey::Content(&key), word) == Belief::Refused;
        let here = here.filter(|result| !refused(&result.word));
        let here = match here {
            Some(result) if self.is_for_audience(&[result.layer])? => Some(result),
            _ => None,
        };
        let found = if let Some(ContentResult { layer, word }) = here {
            FoundLayer { layer, word }
        } else {
            let shared = match elsewhere {
                true => self.shared_by_content(&key).await,
                false => None,
            };
            let Some(FoundLayer { layer, word }) = shared else {
                return miss(Some(source_contents));
            };
            let result = ContentResult {
                layer,
                word: word.clone(),
            };
            home.put_content_result(&instruction, &key, &result)?;
            FoundLayer { layer, word }
        };
        let FoundLayer { layer, word } = found;
        // What this step is, is put together here from what is believed.
        let proven = parent.proven
            && sources.iter().all(|source| source.proven)
            && self.belief(ResultKey::Content(&key), &word) == Belief::Proven;
        let word = made_from(proven);
        let stack: Arc<[LayerId]> = settled.stack.iter().copied().chain([layer]).collect();
        let definition = &self.keys[id.index()].definition;
        home.put_definition_result(
            definition,
            &DefinitionResult {
                stack: stack.to_vec(),
                word: word.clone(),
            },
        )?;
        // Whoever has the same steps need not look at contents any more.
        self.publish(id, key, (&stack, word), None);
        Ok(ContentLookup::Hit(self.ready_from_store(stack, proven)))
    }

    /// What to think of a result of the local store.
    pub(super) fn belief(&self, key: ResultKey<'_>, word: &Word) -> Belief {
        match (&self.surroundings.shared, word) {
            (_, Word::Own) => Belief::Proven,
            (Some(shared), word) => shared.belief(key, word),
            (None, _) => Belief::Taken,
        }
    }

    /// What a step takes from each of the other filesystems, and from elsewhere.
    pub(super) async fn source_contents(
        &self,
        id: NodeId,
        op: &PlannedOp,
        sources: &[Ready],
    ) -> Result<Vec<ContentDigest>, Failure> {
        let mut sources = sources.iter();
        let mut contents = Vec::new();
        match op {
            PlannedOp::MakeDirectory(_) => {}
            PlannedOp::Run(run) => {
                let shown = run.spec.mounts.iter().filter_map(MountSpec::source);
                for (source, ready) in shown.zip(sources) {
                    let query = literal(&source.path).into();
                    let selections = self.selections(id, ready, query).await?;
                    contents.extend(selections.iter().map(Selection::mount_digest));
                }
            }
            PlannedOp::Copy(copy) => {
                for source in &copy.sources {
                    match source {
                        PlannedSource::Directory { .. } | PlannedSource::Inline { .. } => {}
                        PlannedSource::Node { query, .. } => {
                            let Some(ready) = sources.next() else {
                                continue;
                            };
                            let selections = self.selections(id, ready, query.clone()).await?;
                            contents.extend(selections.iter().map(Selection::content_digest));
                        }
                        PlannedSource::Remote { remote, query, .. } => {
                            let content = self.remote_content(*remote, query).await;
                            let content =
                                content.map_err(|e| self.step_failure(id, e, Vec::new()))?;
                            contents.push(content);
                        }
                    }
                }
            }
        }
        Ok(contents)
    }

    /// What a query selects of another filesystem of the build.
    async fn selections(
        &self,
        id: NodeId,
        ready: &Ready,
        query: SourceQuery,
    ) -> Result<Vec<Selection>, Failure> {
        let executor = &self.surroundings.executor;
        let selected = executor.select(ready.stack.to_vec(), vec![query]).await;
        selected.map_err(|error| self.step_failure(id, error, Vec::new()))
    }
}

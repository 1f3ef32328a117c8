//! Asks for the results of other machines, and gives them ours.
//!
//! What is asked when is said at [`SharedResults`]. A build whose target is in the local store
//! talks to nobody: one look at a file tells whether the result should be offered to a cache that
//! was not there when it was made.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use ashlar_model::digest::{ContentKey, DefinitionKey, InstructionKey, LayerId};
use ashlar_model::layer::LayerOrigin;
use ashlar_model::mount::MountSpec;
use ashlar_store::home::results::{DefinitionResult, Word};
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::failure::Failure;
use super::fresh::{Audience, Fresh};
use super::runner::{Runner, contents_of, locked};
use crate::graph::{NodeId, NodeKind, PlannedOp, PlannedSource};
use crate::key::content_key;
use crate::share::{Belief, FoundLayer, Leave, MadeResult, ResultKey, SharedResults, StepLease};

/// What is known before the first step is demanded.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// What the local store has of what is wanted most.
    found: Mutex<HashMap<DefinitionKey, DefinitionResult>>,
    /// Results that other machines have given.
    pub(super) adopted: Mutex<HashSet<DefinitionKey>>,
    /// Instructions that ran on other machines.
    instructions: Mutex<HashSet<InstructionKey>>,
    /// What was found, but cannot be a result of its step.
    wrong: Mutex<HashSet<DefinitionKey>>,
}

/// What other machines are asked in one go.
#[derive(Default)]
struct Asked {
    definitions: Vec<DefinitionKey>,
    /// Each once.
    instructions: Vec<InstructionKey>,
    /// Steps of which nothing below was looked at: whoever finds them needs no more.
    last: Vec<NodeId>,
}

/// What came of waiting for one's turn to run a step.
pub(super) enum Turn<'a> {
    /// It may run.
    Run {
        /// Its place among those that run here.
        permit: SemaphorePermit<'a>,
        /// Its right against those that run elsewhere.
        lease: Option<Box<dyn StepLease>>,
    },
    /// Another machine has run it.
    Made,
}

impl Runner {
    /// The results of other machines, if any of them are to be used.
    fn asked(&self) -> Option<&Arc<dyn SharedResults>> {
        let shared = self.surroundings.shared.as_ref();
        shared.filter(|_| self.options.fresh != Fresh::All)
    }

    /// Whether a step runs though a result may be known. What a segment that does so stands on runs
    /// as well, if the caches do not have it any more.
    pub(super) fn runs_anew(&self, id: NodeId) -> bool {
        let fresh = &self.options.fresh;
        let key = &self.keys[id.index()].definition;
        fresh.runs(id) || fresh.is_of_segment() && !self.is_adopted(key)
    }

    /// Whether those who are to use what this build makes can have these layers: a cache has said so
    /// just now, or they can be sent from here.
    pub(super) fn is_for_audience(&self, layers: &[LayerId]) -> Result<bool, Failure> {
        if !self.options.audience.is_farm() {
            return Ok(true);
        }
        let home = &self.surroundings.home;
        for layer in layers {
            let Some(mut record) = home.layer(layer)? else {
                return Ok(false);
            };
            if !record.origin.is_of_step() {
                continue;
            }
            // As if it had been made here: then only files that are here count.
            record.origin = LayerOrigin::Step;
            if !home.holds_files_of(&record)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks up what is wanted, tip first, here and then, in one go, on other machines. A worker asks
    /// for its segment and what that stands on; for what lies below only where that is lost.
    pub(super) async fn survey(&self, target: NodeId) -> Result<(), Failure> {
        let Some(shared) = self.asked() else {
            return Ok(());
        };
        let mut seen = HashSet::new();
        let mut pending = VecDeque::from([target]);
        while !pending.is_empty() {
            let asked = self.what_to_ask(pending, &mut seen)?;
            if !asked.definitions.is_empty() {
                self.ask(shared, &asked).await?;
            }
            let lost = asked.last.into_iter();
            let lost = lost.filter(|id| !self.is_adopted(&self.keys[id.index()].definition));
            pending = lost.flat_map(|id| self.graph.node(id).inputs()).collect();
        }
        Ok(())
    }

    /// What the local store lacks of some filesystems and of what lies below them.
    fn what_to_ask(
        &self,
        mut pending: VecDeque<NodeId>,
        seen: &mut HashSet<DefinitionKey>,
    ) -> Result<Asked, Failure> {
        let mut asked = Asked::default();
        while let Some(id) = pending.pop_front() {
            let keys = self.keys[id.index()];
            if !seen.insert(keys.definition) {
                continue;
            }
            if let Some(instruction) = keys.instruction
                && !self.options.fresh.runs(id)
            {
                // A worker's own store says nothing of what the farm has.
                if !self.options.audience.is_farm()
                    && !self.options.fresh.is_of_segment()
                    && let Some(found) = self.local_result(id)?
                {
                    locked(&self.survey.found).insert(keys.definition, found);
                    continue;
                }
                asked.definitions.push(keys.definition);
                asked.instructions.push(instruction);
            }
            let own = self.options.own.as_ref();
            if keys.instruction.is_some() && own.is_some_and(|own| !own.contains(&id)) {
                asked.last.push(id);
            } else {
                pending.extend(self.graph.node(id).inputs());
            }
        }
        let mut seen = HashSet::new();
        asked
            .instructions
            .retain(|instruction| seen.insert(*instruction));
        Ok(asked)
    }

    async fn ask(&self, shared: &Arc<dyn SharedResults>, asked: &Asked) -> Result<(), Failure> {
        self.fates.begin();
        let span = tracing::info_span!(
            "lookup",
            keys = asked.definitions.len() + asked.instructions.len(),
            found = Empty,
        );
        let probe = shared.probe(&asked.definitions, &asked.instructions);
        let probed = probe.instrument(span.clone()).await;
        span.record("found", probed.definitions.len());
        let adopted = match self.options.audience {
            Audience::FarmAfterLoss => self.without_lost(probed.definitions, shared).await?,
            Audience::Here | Audience::Farm => probed.definitions,
        };
        locked(&self.survey.adopted).extend(adopted);
        locked(&self.survey.instructions).extend(probed.instructions);
        Ok(())
    }

    /// Those of some results whose layers a cache still has, after it had lost one.
    async fn without_lost(
        &self,
        mut given: Vec<DefinitionKey>,
        shared: &Arc<dyn SharedResults>,
    ) -> Result<Vec<DefinitionKey>, Failure> {
        let home = &self.surroundings.home;
        let mut stacks = HashMap::new();
        for key in &given {
            let found = home.result_by_definition(key)?;
            stacks.insert(*key, found.map(|found| found.stack).unwrap_or_default());
        }
        let layers: HashSet<LayerId> = stacks.values().flatten().copied().collect();
        let layers: Vec<LayerId> = layers.into_iter().collect();
        let lost = shared.lost(&layers).await;
        if !lost.is_empty() {
            for layer in &lost {
                home.forget_layer(layer)?;
            }
            shared.distrust(&lost);
            given.retain(|key| {
                let stack = stacks.get(key);
                stack.is_some_and(|stack| !stack.iter().any(|layer| lost.contains(layer)))
            });
        }
        Ok(given)
    }

    /// A result of the local store, unless layers of it are lost, or it is none of such a step.
    pub(super) fn local_result(&self, id: NodeId) -> Result<Option<DefinitionResult>, Failure> {
        let key = &self.keys[id.index()].definition;
        if let Some(found) = locked(&self.survey.found).get(key) {
            return Ok(Some(found.clone()));
        }
        let found = self.surroundings.home.result_by_definition(key)?;
        let found = found.filter(|found| !self.losses.hit(&found.stack));
        let refused =
            |word: &Word| self.belief(ResultKey::Definition(key), word) == Belief::Refused;
        let found = found.filter(|found| !refused(&found.word));
        let found = match found {
            Some(found) if !self.is_adopted(key) && !self.is_for_audience(&found.stack)? => None,
            found => found,
        };
        Ok(match found {
            Some(found) if self.fits(id, &found.stack)? => Some(found),
            Some(_) => {
                locked(&self.survey.wrong).insert(*key);
                None
            }
            None => None,
        })
    }

    /// Whether these can be the layers of a node: as many as it has steps and its images layers, and
    /// those of the images where they belong. Other machines may say anything.
    fn fits(&self, id: NodeId, stack: &[LayerId]) -> Result<bool, Failure> {
        let shape = self.graph.shape(id);
        if shape.len() != stack.len() {
            return Ok(false);
        }
        let home = &self.surroundings.home;
        for (wanted, found) in shape.into_iter().zip(stack) {
            let Some(wanted) = wanted.filter(|wanted| wanted != found) else {
                continue;
            };
            // An image that was made here and one that was pulled have the same layers under
            // different names.
            let diff_id = |layer| Ok::<_, Failure>(home.layer(layer)?.and_then(|one| one.diff_id));
            let wanted = diff_id(&wanted)?;
            if wanted.is_none() || wanted != diff_id(found)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether another machine gave this result.
    pub(super) fn is_adopted(&self, key: &DefinitionKey) -> bool {
        locked(&self.survey.adopted).contains(key)
    }

    /// Whether another machine ever ran an instruction.
    pub(super) fn ran_elsewhere(&self, instruction: &InstructionKey) -> bool {
        locked(&self.survey.instructions).contains(instruction)
    }

    /// The layer that an instruction gave on another machine.
    pub(super) async fn shared_by_content(&self, key: &ContentKey) -> Option<FoundLayer> {
        let span = tracing::info_span!("lookup", keys = 1);
        let found = self.asked()?.by_content(key).instrument(span).await?;
        (!self.losses.hit(&[found.layer])).then_some(found)
    }

    /// Waits until a step may run: for its place among those of this machine, then for others that
    /// run the same step. Whoever waits for others leaves its place to those that need not.
    pub(super) async fn turn(&self, id: NodeId) -> Result<Turn<'_>, Failure> {
        let permit = self.place().await?;
        let asked = self.asked().filter(|_| !self.runs_anew(id));
        let Some(shared) = asked else {
            let lease = None;
            return Ok(Turn::Run { permit, lease });
        };
        let permit = Mutex::new(Some(permit));
        let waiting = |holder: &str| {
            drop(locked(&permit).take());
            self.report.waiting(id, Some(holder));
        };
        let definition = &self.keys[id.index()].definition;
        let name = &self.graph.node(id).name;
        let span = tracing::info_span!("lease wait", key = %definition);
        let leave = tokio::select! {
            leave = shared.leave(definition, name, &waiting).instrument(span) => leave,
            () = self.stopped() => return Err(Failure::Cancelled),
        };
        let lease = match leave {
            Leave::Made => return Ok(Turn::Made),
            Leave::Run(lease) => lease,
        };
        let kept = locked(&permit).take();
        let permit = match kept {
            Some(permit) => permit,
            None => self.place().await?,
        };
        Ok(Turn::Run { permit, lease })
    }

    /// A place among the steps that run.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        // The semaphore is never closed.
        let permit = self.jobs.acquire().await.map_err(|_| Failure::Cancelled)?;
        if *self.stop.borrow() {
            return Err(Failure::Cancelled);
        }
        Ok(permit)
    }

    /// Gives a result that other machines lack to them.
    pub(super) fn publish(
        &self,
        id: NodeId,
        content: ContentKey,
        (stack, word): (&[LayerId], Word),
        lease: Option<Box<dyn StepLease>>,
    ) {
        if let Some(shared) = &self.surroundings.shared
            && let Some(result) = self.made_result(id, Some(content), stack, word)
        {
            shared.publish(result, lease);
        }
    }

    /// Offers a result that the local store had, if it was never sent anywhere.
    pub(super) fn offer(&self, id: NodeId, stack: &[LayerId], word: Word) -> Result<(), Failure> {
        let definition = &self.keys[id.index()].definition;
        if let Some(shared) = self.asked()
            && !self.is_adopted(definition)
            && (self.options.audience.is_farm() || shared.wants(definition))
            && let Some(result) = self.made_result(id, self.content_key_of(id, stack)?, stack, word)
        {
            shared.offer(result);
        }
        Ok(())
    }

    /// What was lost, with all else that is lost of what the build stands on: it is made again in
    /// one round, and others find it whole.
    pub(super) async fn all_lost(
        &self,
        mut lost: HashSet<LayerId>,
    ) -> Result<HashSet<LayerId>, Failure> {
        let Some(shared) = self.asked() else {
            return Ok(lost);
        };
        let mut known = HashSet::new();
        for keys in self.keys.iter() {
            let found = self
                .surroundings
                .home
                .result_by_definition(&keys.definition)?;
            known.extend(found.into_iter().flat_map(|found| found.stack));
        }
        let known: Vec<LayerId> = known.difference(&lost).copied().collect();
        if !known.is_empty() {
            lost.extend(shared.lost(&known).await);
        }
        Ok(lost)
    }

    fn made_result(
        &self,
        id: NodeId,
        content: Option<ContentKey>,
        stack: &[LayerId],
        word: Word,
    ) -> Option<MadeResult> {
        let keys = self.keys[id.index()];
        Some(MadeResult {
            name: self.graph.node(id).name.to_string(),
            definition: keys.definition,
            instruction: keys.instruction?,
            content,
            stack: stack.to_vec(),
            made: self.graph.shape(id).iter().map(Option::is_none).collect(),
            word,
            replaces: self.runs_anew(id) || locked(&self.survey.wrong).contains(&keys.definition),
        })
    }

    /// The content key of a step whose result is known, where records alone tell it: it reads no
    /// other filesystem, and nothing from elsewhere.
    fn content_key_of(&self, id: NodeId, stack: &[LayerId]) -> Result<Option<ContentKey>, Failure> {
        let NodeKind::Step { op, .. } = &self.graph.node(id).kind else {
            return Ok(None);
        };
        let reads_others = match op {
            PlannedOp::MakeDirectory(_) => false,
            PlannedOp::Run(run) => run
                .spec
                .mounts
                .iter()
                .any(|m| MountSpec::source(m).is_some()),
            PlannedOp::Copy(copy) => copy.sources.iter().any(|source| match source {
                PlannedSource::Directory { .. } | PlannedSource::Inline { .. } => false,
                PlannedSource::Node { .. } | PlannedSource::Remote { .. } => true,
            }),
        };
        let (Some(instruction), Some((_, below)), false) = (
            self.keys[id.index()].instruction,
            stack.split_last(),
            reads_others,
        ) else {
            return Ok(None);
        };
        let contents = contents_of(&self.records(below)?)?;
        Ok(Some(content_key(&instruction, &contents, &[])))
    }
}

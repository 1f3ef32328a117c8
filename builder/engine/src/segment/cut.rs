//! Cuts what is missing of a build into pieces, each for one worker.
//!
//! A piece goes on as long as there is one way to go on:
//!
//! - At a *fork*, where several steps need one, that one ends its piece: those after it run side by
//!   side, on different machines.
//! - At a *join*, where a step needs several (`COPY --from`, a mount `from`, what lies below
//!   `COPY --link`), the step begins a piece, so that what it joins runs side by side. A step that
//!   needs only one other is no join, be it copied from or stood upon: its files are where that ran.
//! - *Cheap* steps, which run nothing, that only the next one needs belong to the piece of the next
//!   one: a worker's time to get them would be longer than what they take.
//!
//! So of two commands that do not depend on each other, no piece ever has both, and no piece waits
//! for what only its later steps need.
//!
//! Of steps with the same definition key, the first of the graph stands for all.

use std::collections::{BTreeSet, HashMap, HashSet};

use ashlar_model::digest::DefinitionKey;

use crate::graph::{Graph, NodeId, NodeKind, PlannedOp, PlannedSource};
use crate::key::NodeKeys;

/// Steps that go to one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The steps, inputs before what needs them.
    pub steps: Vec<NodeId>,
    /// The filesystem that all of it is for: the last step's, or the target if that is a stack.
    pub tip: NodeId,
    /// What its steps need beyond one another: bases, what was found, and tips of other pieces.
    pub needs: Vec<NodeId>,
    /// The pieces that must have ended before, by their places; all of them earlier.
    pub after: Vec<usize>,
}

/// Cuts what is missing of `target`. `is_missing` is asked of steps only.
pub fn cut(
    graph: &Graph,
    keys: &[NodeKeys],
    target: NodeId,
    is_missing: &dyn Fn(NodeId) -> bool,
) -> Vec<Piece> {
    let view = View::new(graph, keys);
    let mut cutter = Cutter::new(view, target, is_missing);
    for step in cutter.missing.clone() {
        cutter.place(step);
    }
    cutter.place_target(target);
    cutter.pieces()
}

/// A graph without stacks and without steps that are there twice.
pub(crate) struct View<'a> {
    graph: &'a Graph,
    keys: &'a [NodeKeys],
    first_of: HashMap<DefinitionKey, NodeId>,
}

impl<'a> View<'a> {
    pub(crate) fn new(graph: &'a Graph, keys: &'a [NodeKeys]) -> Self {
        let mut first_of = HashMap::with_capacity(keys.len());
        for (id, _) in graph.nodes() {
            first_of.entry(keys[id.index()].definition).or_insert(id);
        }
        Self {
            graph,
            keys,
            first_of,
        }
    }

    /// The node that stands for this one.
    pub(crate) fn first(&self, id: NodeId) -> NodeId {
        self.first_of[&self.keys[id.index()].definition]
    }

    /// The steps and bases whose layers a filesystem has, its own step or those that a stack puts
    /// together: bottom first, and as often as their layers are there.
    pub(crate) fn parts(&self, id: NodeId) -> Vec<NodeId> {
        let mut parts = Vec::new();
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let id = self.first(id);
            match &self.graph.node(id).kind {
                NodeKind::Stack { below, above } => pending.extend([*above, *below]),
                NodeKind::Base(_) | NodeKind::Step { .. } => parts.push(id),
            }
        }
        parts
    }

    /// What a step needs: steps and bases, each once.
    pub(crate) fn needs(&self, step: NodeId) -> Vec<NodeId> {
        let inputs = self.graph.node(step).inputs();
        each_once(inputs.into_iter().flat_map(|input| self.parts(input)))
    }

    /// The steps that have to run if those have to for which `is_missing` says so: ascending, so
    /// that inputs come first.
    pub(crate) fn missing(
        &self,
        target: NodeId,
        is_missing: &dyn Fn(NodeId) -> bool,
    ) -> Vec<NodeId> {
        let mut missing = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut pending = self.parts(target);
        while let Some(id) = pending.pop() {
            if seen.insert(id) && self.graph.node(id).is_step() && is_missing(id) {
                missing.insert(id);
                pending.extend(self.needs(id));
            }
        }
        missing.into_iter().collect()
    }
}

fn each_once(nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut seen = HashSet::new();
    nodes.filter(|node| seen.insert(*node)).collect()
}

/// Whether a step takes no more than moving files about that are here, or in the farm.
fn is_cheap(graph: &Graph, step: NodeId) -> bool {
    match &graph.node(step).kind {
        NodeKind::Step { op, .. } => match op {
            PlannedOp::Run(_) => false,
            PlannedOp::MakeDirectory(_) => true,
            PlannedOp::Copy(copy) => {
                let is_elsewhere =
                    |source: &PlannedSource| matches!(source, PlannedSource::Remote { .. });
                !copy.sources.iter().any(is_elsewhere)
            }
        },
        NodeKind::Base(_) | NodeKind::Stack { .. } => true,
    }
}

/// A piece that grows.
#[derive(Debug)]
struct Draft {
    steps: Vec<NodeId>,
    tip: NodeId,
    /// Whether all its steps are cheap.
    is_cheap: bool,
    /// The drafts that come before it, and all that come before those.
    after: BTreeSet<usize>,
}

struct Cutter<'a> {
    view: View<'a>,
    /// What is laid over one another in the end.
    wanted: Vec<NodeId>,
    /// The steps to place, ascending.
    missing: Vec<NodeId>,
    /// How many need a step; that it is wanted in the end counts as well.
    users: HashMap<NodeId, usize>,
    /// `None` for one that another has taken in.
    drafts: Vec<Option<Draft>>,
    /// Where each placed step is.
    owner: HashMap<NodeId, usize>,
}

/// What a step finds among the drafts.
struct Around {
    /// Drafts that run commands and that only this step goes on from.
    costly: Vec<usize>,
    /// The same of drafts that run none.
    cheap: Vec<usize>,
    /// Drafts that must come before, whatever else: those that others need as well, and what the
    /// cheap ones wait for.
    before: BTreeSet<usize>,
}

impl<'a> Cutter<'a> {
    fn new(view: View<'a>, target: NodeId, is_missing: &dyn Fn(NodeId) -> bool) -> Self {
        let missing = view.missing(target, is_missing);
        let mut users: HashMap<NodeId, usize> = missing.iter().map(|step| (*step, 0)).collect();
        let wanted = each_once(view.parts(target).into_iter());
        let needed = missing.iter().flat_map(|step| view.needs(*step));
        for need in needed.chain(wanted.iter().copied()) {
            if let Some(count) = users.get_mut(&need) {
                *count += 1;
            }
        }
        Self {
            view,
            wanted,
            missing,
            users,
            drafts: Vec::new(),
            owner: HashMap::new(),
        }
    }

    /// Puts a step where it belongs. Its inputs have been placed.
    fn place(&mut self, step: NodeId) {
        let is_cheap = is_cheap(self.view.graph, step);
        let around = self.around(&self.view.needs(step));
        let place = match self.goes_on(&around) {
            Some(place) => place,
            None => {
                let mut after = around.before;
                for place in around.costly {
                    after.extend(
                        self.draft(place)
                            .map(|draft| &draft.after)
                            .into_iter()
                            .flatten(),
                    );
                    after.insert(place);
                }
                self.drafts.push(Some(Draft {
                    steps: Vec::new(),
                    tip: step,
                    is_cheap: true,
                    after,
                }));
                self.drafts.len() - 1
            }
        };
        self.take_in(place, &around.cheap);
        self.owner.insert(step, place);
        if let Some(draft) = self.draft_mut(place) {
            draft.steps.push(step);
            draft.tip = step;
            draft.is_cheap &= is_cheap;
        }
    }

    /// Puts what the target lays over one another into one piece, where none of it waits for that.
    fn place_target(&mut self, target: NodeId) {
        let around = self.around(&self.wanted);
        let is_one = around.costly.len() + around.cheap.len() < 2;
        if is_one {
            return;
        }
        let place = match (self.goes_on(&around), around.cheap.first()) {
            (Some(place), _) => place,
            (None, Some(first)) if around.costly.is_empty() && around.before.is_empty() => *first,
            _ => return,
        };
        let others: Vec<usize> = around
            .cheap
            .into_iter()
            .filter(|one| *one != place)
            .collect();
        self.take_in(place, &others);
        if let Some(draft) = self.draft_mut(place) {
            draft.tip = target;
        }
    }

    fn around(&self, needs: &[NodeId]) -> Around {
        let mut around = Around {
            costly: Vec::new(),
            cheap: Vec::new(),
            before: BTreeSet::new(),
        };
        for need in needs {
            let Some(place) = self.owner.get(need) else {
                continue;
            };
            let Some(draft) = self.draft(*place) else {
                continue;
            };
            let is_ours = draft.tip == *need && self.users.get(need) == Some(&1);
            if is_ours && draft.is_cheap {
                around.cheap.push(*place);
                around.before.extend(&draft.after);
            } else if is_ours {
                around.costly.push(*place);
            } else {
                around.before.insert(*place);
                around.before.extend(&draft.after);
            }
        }
        around
    }

    /// The draft that goes on: the only one that runs commands, if nothing else has to be waited for
    /// that it does not wait for anyway.
    fn goes_on(&self, around: &Around) -> Option<usize> {
        let &[place] = around.costly.as_slice() else {
            return None;
        };
        let draft = self.draft(place)?;
        let waits = |other: &usize| draft.after.contains(other);
        around.before.iter().all(waits).then_some(place)
    }

    /// Takes the steps of other drafts into one.
    fn take_in(&mut self, place: usize, others: &[usize]) {
        for other in others {
            let Some(taken) = self.drafts.get_mut(*other).and_then(Option::take) else {
                continue;
            };
            for step in &taken.steps {
                self.owner.insert(*step, place);
            }
            if let Some(draft) = self.draft_mut(place) {
                draft.steps.extend(taken.steps);
                draft.after.extend(taken.after);
                draft.is_cheap &= taken.is_cheap;
            }
        }
    }

    fn draft(&self, place: usize) -> Option<&Draft> {
        self.drafts.get(place)?.as_ref()
    }

    fn draft_mut(&mut self, place: usize) -> Option<&mut Draft> {
        self.drafts.get_mut(place)?.as_mut()
    }

    fn pieces(self) -> Vec<Piece> {
        let mut drafts: Vec<(usize, Draft)> = self
            .drafts
            .into_iter()
            .enumerate()
            .filter_map(|(place, draft)| Some((place, draft?)))
            .collect();
        for (_, draft) in &mut drafts {
            draft.steps.sort_unstable();
        }
        // Whoever needs a piece has a step that comes after all of its steps.
        drafts.sort_by_key(|(_, draft)| draft.steps.last().copied());
        let places: HashMap<usize, usize> = drafts
            .iter()
            .enumerate()
            .map(|(new, (old, _))| (*old, new))
            .collect();
        let pieces = drafts.into_iter().map(|(old, draft)| {
            let mut needs = BTreeSet::new();
            let mut after = BTreeSet::new();
            for need in draft.steps.iter().flat_map(|step| self.view.needs(*step)) {
                match self.owner.get(&need) {
                    Some(owner) if *owner == old => continue,
                    Some(owner) => after.extend(places.get(owner)),
                    None => {}
                }
                needs.insert(need);
            }
            Piece {
                steps: draft.steps,
                tip: draft.tip,
                needs: needs.into_iter().collect(),
                after: after.into_iter().collect(),
            }
        });
        pieces.collect()
    }
}

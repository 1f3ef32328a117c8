//! What holds of every graph.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;

/// How a node of a random graph is made: what it needs is chosen by remainder.
#[derive(Debug, Clone)]
enum Kind {
    Scratch,
    Run { parent: usize, sources: Vec<usize> },
    Copy { parent: usize, from: usize },
    Files { parent: usize },
    Directory { parent: usize },
    Stack { below: usize, above: usize },
}

fn kind() -> impl Strategy<Value = Kind> {
    let near = 0..6usize;
    prop_oneof![
        1 => Just(Kind::Scratch),
        6 => (near.clone(), prop::collection::vec(0..12usize, 0..3))
            .prop_map(|(parent, sources)| Kind::Run { parent, sources }),
        3 => (near.clone(), 0..12usize).prop_map(|(parent, from)| Kind::Copy { parent, from }),
        2 => near.clone().prop_map(|parent| Kind::Files { parent }),
        2 => near.clone().prop_map(|parent| Kind::Directory { parent }),
        3 => (near.clone(), near).prop_map(|(below, above)| Kind::Stack { below, above }),
    ]
}

/// The last node is the target. Commands and files have few names, so that some are made alike.
fn graph() -> impl Strategy<Value = (Graph, Vec<bool>)> {
    prop::collection::vec((kind(), 0..6u8, prop::bool::weighted(0.2)), 1..24).prop_map(|kinds| {
        let mut plan = Plan::default();
        plan.scratch();
        let mut found = vec![false];
        for (kind, name, is_found) in kinds {
            let len = plan.0.len();
            let ids: Vec<NodeId> = plan.0.nodes().map(|(id, _)| id).collect();
            // Counted from the end: what is near is needed more often.
            let at = |back: usize| ids[len - 1 - back % len];
            let name = name.to_string();
            match kind {
                Kind::Scratch => plan.scratch(),
                Kind::Run { parent, sources } => {
                    let sources: Vec<NodeId> = sources.into_iter().map(at).collect();
                    plan.run_with(at(parent), &name, &sources)
                }
                Kind::Copy { parent, from } => plan.copy(at(parent), at(from)),
                Kind::Files { parent } => plan.files(at(parent), &name),
                Kind::Directory { parent } => plan.directory(at(parent), &name),
                Kind::Stack { below, above } => plan.stack(at(below), at(above)),
            };
            found.push(is_found);
        }
        (plan.0, found)
    })
}

/// What each missing step needs of the missing, found out in the plainest way.
fn missing(
    graph: &Graph,
    keys: &[NodeKeys],
    target: NodeId,
    found: &[bool],
) -> HashMap<NodeId, BTreeSet<NodeId>> {
    let view = View::new(graph, keys);
    let mut missing = HashMap::new();
    let is_missing = |id: NodeId| graph.node(id).is_step() && !found[id.index()];
    let mut pending: Vec<NodeId> = view.parts(target);
    while let Some(id) = pending.pop() {
        if is_missing(id) && !missing.contains_key(&id) {
            let inputs = graph.node(id).inputs();
            let needs: Vec<NodeId> = inputs.into_iter().flat_map(|id| view.parts(id)).collect();
            pending.extend(&needs);
            missing.insert(id, needs.into_iter().filter(|id| is_missing(*id)).collect());
        }
    }
    missing
}

fn below(needs: &HashMap<NodeId, BTreeSet<NodeId>>, id: NodeId) -> BTreeSet<NodeId> {
    let mut all = BTreeSet::new();
    let mut pending = vec![id];
    while let Some(id) = pending.pop() {
        for need in &needs[&id] {
            if all.insert(*need) {
                pending.push(*need);
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pieces_are_right((graph, found) in graph()) {
        let keys = keys(&graph);
        let target = graph.nodes().last().unwrap().0;
        let needs = missing(&graph, &keys, target, &found);
        let pieces = cut(&graph, &keys, target, &|id| !found[id.index()]);

        // Each missing step is in exactly one piece, and no key is made twice.
        let mut owner = HashMap::new();
        for (place, piece) in pieces.iter().enumerate() {
            prop_assert!(!piece.steps.is_empty());
            for step in &piece.steps {
                prop_assert_eq!(owner.insert(*step, place), None);
            }
        }
        let mut all: Vec<NodeId> = owner.keys().copied().collect();
        let mut wanted: Vec<NodeId> = needs.keys().copied().collect();
        all.sort();
        wanted.sort();
        prop_assert_eq!(&all, &wanted);
        let unique: BTreeSet<_> = all.iter().map(|id| keys[id.index()].definition.to_hex()).collect();
        prop_assert_eq!(unique.len(), all.len());

        for (place, piece) in pieces.iter().enumerate() {
            // Inputs come first, in the piece and among pieces.
            prop_assert!(piece.steps.is_sorted());
            prop_assert!(piece.after.iter().all(|before| *before < place));
            let last = *piece.steps.last().unwrap();
            prop_assert!(piece.tip == last || piece.tip == target);
            let mut after = BTreeSet::new();
            for need in piece.steps.iter().flat_map(|step| &needs[step]) {
                let of = owner[need];
                if of != place {
                    // Others are needed whole.
                    prop_assert_eq!(pieces[of].tip, *need);
                    prop_assert!(piece.needs.contains(need));
                    after.insert(of);
                }
            }
            prop_assert_eq!(after.into_iter().collect::<Vec<_>>(), piece.after.clone());

            // Who makes the tip makes all of it.
            let view = View::new(&graph, &keys);
            let tips = view.parts(piece.tip);
            let made: BTreeSet<NodeId> = tips
                .iter()
                .filter(|tip| needs.contains_key(tip))
                .flat_map(|tip| std::iter::once(*tip).chain(below(&needs, *tip)))
                .collect();
            prop_assert!(piece.steps.iter().all(|step| made.contains(step)));

            // Commands that do not need each other are apart.
            let is_run = |id: &&NodeId| {
                matches!(&graph.node(**id).kind, NodeKind::Step { op: PlannedOp::Run(_), .. })
            };
            let runs: Vec<NodeId> = piece.steps.iter().filter(is_run).copied().collect();
            for pair in runs.windows(2) {
                prop_assert!(below(&needs, pair[1]).contains(&pair[0]));
            }
            // The first waits only for what it needs.
            if let Some(first) = runs.first() {
                let needed = below(&needs, *first);
                prop_assert!(piece.after.iter().all(|place| needed.contains(&pieces[*place].tip)));
            }
        }
    }
}

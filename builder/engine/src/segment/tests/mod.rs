//! Cutting: what goes to one worker, and what does not.

mod properties;

use std::collections::HashSet;

use ashlar_model::platform::Platform;
use ashlar_model::remote::{HttpFile, HttpSource, RemoteFiles};
use ashlar_model::step::{MakeDirectorySpec, Network, RunSpec, Security};

use super::*;
use crate::event::VertexId;
use crate::graph::{Base, Node, NodeKind, PlannedCopy, PlannedOp, PlannedRun, PlannedSource};
use crate::key::{graph_keys, scratch_key};

/// Builds graphs: each method returns the new node.
#[derive(Default)]
pub(super) struct Plan(pub(super) Graph);

impl Plan {
    fn add(&mut self, kind: NodeKind) -> NodeId {
        self.0.add(Node {
            vertex: VertexId(0),
            name: format!("node {}", self.0.len()).into(),
            range: None,
            kind,
        })
    }

    pub(super) fn scratch(&mut self) -> NodeId {
        self.add(NodeKind::Base(Base {
            key: scratch_key(),
            layers: Vec::new(),
            image: None,
        }))
    }

    /// A command that sees other filesystems.
    pub(super) fn run_with(&mut self, parent: NodeId, text: &str, sources: &[NodeId]) -> NodeId {
        let spec = RunSpec {
            args: vec![text.to_owned()],
            env: Vec::new(),
            unkeyed_env: Vec::new(),
            cwd: "/".into(),
            user: String::new(),
            network: Network::Host,
            hostname: String::new(),
            extra_hosts: Vec::new(),
            script: None,
            mounts: Vec::new(),
            security: Security::Sandbox,
            ulimits: Vec::new(),
        };
        let op = PlannedOp::Run(Box::new(PlannedRun {
            spec,
            sources: sources.to_vec(),
        }));
        self.add(NodeKind::Step { parent, op })
    }

    pub(super) fn run(&mut self, parent: NodeId, text: &str) -> NodeId {
        self.run_with(parent, text, &[])
    }

    fn copy_of(&mut self, parent: NodeId, source: PlannedSource) -> NodeId {
        let op = PlannedOp::Copy(PlannedCopy {
            sources: vec![source],
            destination: "/".into(),
            owner: None,
            mode: None,
            unpack: false,
        });
        self.add(NodeKind::Step { parent, op })
    }

    pub(super) fn copy(&mut self, parent: NodeId, from: NodeId) -> NodeId {
        self.copy_of(
            parent,
            PlannedSource::Node {
                node: from,
                query: "/".into(),
            },
        )
    }

    pub(super) fn files(&mut self, parent: NodeId, name: &str) -> NodeId {
        self.copy_of(
            parent,
            PlannedSource::Inline {
                name: name.to_owned(),
                data: Vec::new(),
            },
        )
    }

    /// A file behind a URL.
    fn fetch(&mut self, parent: NodeId, url: &str) -> NodeId {
        let mut remotes = self.0.remotes().to_vec();
        remotes.push(RemoteFiles::Http(HttpFile {
            source: HttpSource::parse(url).unwrap(),
            digest: ashlar_model::digest::BlobDigest::of(url.as_bytes()),
        }));
        self.0.set_remotes(remotes);
        let remote = self.0.remote_at(self.0.remotes().len() - 1).unwrap();
        self.copy_of(
            parent,
            PlannedSource::Remote {
                remote,
                query: "/".into(),
                unpack: false,
            },
        )
    }

    pub(super) fn directory(&mut self, parent: NodeId, path: &str) -> NodeId {
        let op = PlannedOp::MakeDirectory(MakeDirectorySpec {
            path: path.to_owned(),
            user: String::new(),
            created: None,
        });
        self.add(NodeKind::Step { parent, op })
    }

    pub(super) fn stack(&mut self, below: NodeId, above: NodeId) -> NodeId {
        self.add(NodeKind::Stack { below, above })
    }

    /// Cuts all of it, but for what was found.
    fn cut(&self, target: NodeId, found: &[NodeId]) -> Vec<Piece> {
        let found: HashSet<NodeId> = found.iter().copied().collect();
        let keys = keys(&self.0);
        cut(&self.0, &keys, target, &|id| !found.contains(&id))
    }
}

pub(super) fn keys(graph: &Graph) -> Vec<NodeKeys> {
    let scope = KeyScope {
        isolation: String::new(),
        platform: Platform::new("linux", "amd64", None),
    };
    graph_keys(graph, &scope)
}

/// The steps of each piece, and which come before it.
fn shape(pieces: &[Piece]) -> Vec<(Vec<NodeId>, Vec<usize>)> {
    let shape = |piece: &Piece| (piece.steps.clone(), piece.after.clone());
    pieces.iter().map(shape).collect()
}

#[test]
fn a_chain_is_one_piece() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let mut node = base;
    let mut steps = Vec::new();
    for text in ["a", "b", "c"] {
        node = plan.run(node, text);
        steps.push(node);
    }
    let pieces = plan.cut(node, &[]);
    assert_eq!(shape(&pieces), [(steps.clone(), vec![])]);
    assert_eq!((pieces[0].tip, &pieces[0].needs), (node, &vec![base]));

    // What was found ends the looking; the rest stands on it.
    let pieces = plan.cut(node, &[steps[0]]);
    assert_eq!(shape(&pieces), [(steps[1..].to_vec(), vec![])]);
    assert_eq!(pieces[0].needs, [steps[0]]);
    assert_eq!(plan.cut(node, &[node]), []);
    assert_eq!(plan.cut(base, &[]), []);
}

#[test]
fn independent_stages_are_pieces_of_their_own() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let stages: Vec<NodeId> = ["a", "b", "c", "d"].map(|text| plan.run(base, text)).into();
    let mut target = base;
    let mut copies = Vec::new();
    for stage in &stages {
        target = plan.copy(target, *stage);
        copies.push(target);
    }
    let pieces = plan.cut(target, &[]);
    // The first copy needs nothing but the first stage: it is made where that was.
    assert_eq!(
        shape(&pieces),
        [
            (vec![stages[1]], vec![]),
            (vec![stages[2]], vec![]),
            (vec![stages[3]], vec![]),
            (vec![stages[0], copies[0]], vec![]),
            (copies[1..].to_vec(), vec![0, 1, 2, 3]),
        ]
    );
    assert_eq!(pieces[4].needs, [&stages[1..], &copies[..1]].concat());
}

#[test]
fn linked_copies_are_made_where_their_files_are() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let stages: Vec<NodeId> = ["a", "b"].map(|text| plan.run(base, text)).into();
    let copies: Vec<NodeId> = stages.iter().map(|stage| plan.copy(base, *stage)).collect();
    let own = plan.run(base, "own");
    let first = plan.stack(own, copies[0]);
    let both = plan.stack(first, copies[1]);
    // Nothing has to wait for anything: the layers are only laid over one another.
    assert_eq!(
        shape(&plan.cut(both, &[])),
        [
            (vec![stages[0], copies[0]], vec![]),
            (vec![stages[1], copies[1]], vec![]),
            (vec![own], vec![]),
        ]
    );
    let after = plan.run(both, "after");
    let pieces = plan.cut(after, &[]);
    assert_eq!(pieces.len(), 4);
    assert_eq!(shape(&pieces)[3], (vec![after], vec![0, 1, 2]));
    assert_eq!(pieces[3].needs, [&copies[..], &[own]].concat());
}

#[test]
fn cheap_linked_layers_go_with_what_they_lie_on() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let own = plan.run(base, "own");
    let linked = plan.files(base, "linked");
    let stack = plan.stack(own, linked);
    let pieces = plan.cut(stack, &[]);
    assert_eq!(shape(&pieces), [(vec![own, linked], vec![])]);
    assert_eq!(pieces[0].tip, stack);
    let other = plan.files(base, "other");
    let both = plan.stack(stack, other);
    let after = plan.run(both, "after");
    let pieces = plan.cut(after, &[]);
    assert_eq!(shape(&pieces), [(vec![own, linked, other, after], vec![])]);
    assert_eq!(pieces[0].tip, after);
    // One layer of the stack was found: the other is the tip itself.
    let pieces = plan.cut(stack, &[own]);
    assert_eq!((pieces[0].tip, &pieces[0].needs), (linked, &vec![base]));
}

#[test]
fn a_fork_ends_a_piece() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let common = plan.run(base, "common");
    let left = plan.run(common, "left");
    let right = plan.run(common, "right");
    let join = plan.run_with(left, "join", &[right]);
    let after = plan.run(join, "after");
    assert_eq!(
        shape(&plan.cut(after, &[])),
        [
            (vec![common], vec![]),
            (vec![left], vec![0]),
            (vec![right], vec![0]),
            (vec![join, after], vec![1, 2]),
        ]
    );
    // No fork and no join is left.
    assert_eq!(
        shape(&plan.cut(after, &[common, right])),
        [(vec![left, join, after], vec![])]
    );
}

#[test]
fn what_was_waited_for_before_is_no_join() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let tools = plan.run(base, "tools");
    let first = plan.run_with(base, "first", &[tools]);
    let second = plan.run_with(first, "second", &[tools]);
    assert_eq!(
        shape(&plan.cut(second, &[])),
        [(vec![tools], vec![]), (vec![first, second], vec![0])]
    );
}

#[test]
fn cheap_steps_belong_to_the_next() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let configuration = plan.files(base, "configuration");
    let build = plan.run(base, "build");
    let directory = plan.directory(base, "/app");
    let copy = plan.copy(directory, build);
    let last = plan.run_with(copy, "last", &[configuration]);
    assert_eq!(
        shape(&plan.cut(last, &[])),
        [(vec![configuration, build, directory, copy, last], vec![])]
    );

    // Several need it.
    let other = plan.run_with(base, "other", &[configuration]);
    let both = plan.copy(last, other);
    assert_eq!(
        shape(&plan.cut(both, &[])),
        [
            (vec![configuration], vec![]),
            (vec![build, directory, copy], vec![]),
            (vec![last], vec![0, 1]),
            (vec![other], vec![0]),
            (vec![both], vec![2, 3]),
        ]
    );
}

#[test]
fn what_comes_from_elsewhere_is_not_cheap() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let fetched = plan.fetch(base, "https://h/x");
    let run = plan.run(base, "run");
    let join = plan.copy(run, fetched);
    assert_eq!(plan.cut(join, &[]).len(), 3);
}

#[test]
fn no_piece_waits_for_what_only_its_later_steps_need() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let slow = plan.run(base, "slow");
    let needs_slow = plan.copy(base, slow);
    let slow_too = plan.run(slow, "slow too");
    let main = plan.run(base, "main");
    // The copy is cheap and only `join` needs it, but `main` must not wait for `slow`.
    let join = plan.run_with(main, "join", &[needs_slow]);
    let target = plan.copy(join, slow_too);
    let pieces = plan.cut(target, &[]);
    let of_main = pieces.iter().find(|piece| piece.steps.contains(&main));
    assert_eq!(of_main.unwrap().steps, [main]);
    assert_eq!(of_main.unwrap().after, [0_usize; 0]);
    let of_join = pieces.iter().find(|piece| piece.steps.contains(&join));
    assert_eq!(of_join.unwrap().steps, [needs_slow, join]);
}

#[test]
fn steps_that_are_made_alike_are_cut_once() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let one = plan.run(base, "same");
    let two = plan.run(base, "same");
    let left = plan.run(one, "left");
    let right = plan.run(two, "right");
    let target = plan.copy(left, right);
    assert_eq!(
        shape(&plan.cut(target, &[])),
        [
            (vec![one], vec![]),
            (vec![left], vec![0]),
            (vec![right], vec![0]),
            (vec![target], vec![1, 2]),
        ]
    );
    // The copy from what it stands on is no join.
    let target = plan.copy(one, two);
    assert_eq!(shape(&plan.cut(target, &[])), [(vec![one, target], vec![])]);
}

#[test]
fn layers_move_at_the_cost_of_what_moves() {
    use ashlar_model::descriptor::Descriptor;
    use ashlar_model::digest::{BlobDigest, ContentDigest};
    use ashlar_model::layer::StoredBlob;
    use ashlar_model::media_type::{Compression, OCI_LAYER_GZIP};

    let diff_id = DiffId::of(b"tar");
    let blob = StoredBlob {
        descriptor: Descriptor::new(OCI_LAYER_GZIP, BlobDigest::of(b"gz"), 7),
        compression: Compression::Gzip,
        level: None,
    };
    let image = LayerRecord::of_image(diff_id, blob, None);
    assert_eq!(moved(&image), Some((diff_id, 7)));
    let content = ContentDigest::from_bytes([1; 32]);
    let shared = LayerRecord::of_shared(diff_id, 20, content, Vec::new());
    assert_eq!(moved(&shared), Some((diff_id, 20)));
}

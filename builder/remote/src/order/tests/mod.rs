//! Orders there and back, and what is no order.

mod fakes;
mod farm;
mod graphs;
mod image;
mod outcome;
mod properties;
mod random;

use std::path::PathBuf;

use ashlar_engine::schedule::{Audience, Fresh};
use ashlar_engine::segment::Segment;
use ashlar_model::digest::{BlobDigest, LayerId};
use ashlar_model::layer::LayerOrigin;

use super::envelope::{Kind, open, seal};
use super::segment::WireSegment;
use super::wire::{LayerPlace, NodePlace, WireKind};
use super::*;
use graphs::{Everything, everything};

/// The order of the whole of a graph.
fn encoded(of: &Everything) -> Encoded {
    encode(&of.segment(), &of.home, &of.names).unwrap()
}

/// The order, changed.
fn changed(of: &Everything, change: impl FnOnce(&mut WireSegment)) -> Vec<u8> {
    let mut wire: WireSegment = open(Kind::Segment, &encoded(of).bytes, usize::MAX).unwrap();
    change(&mut wire);
    seal(Kind::Segment, &wire).unwrap()
}

/// Why an order cannot be read or planned.
fn refused(of: &Everything, bytes: &[u8]) -> OrderError {
    match Order::read(bytes) {
        Err(error) => error,
        Ok(order) => order.plan(&of.contexts(&order), "here").unwrap_err(),
    }
}

#[test]
fn all_that_a_worker_needs_is_there() {
    let of = everything();
    let encoded = encoded(&of);
    let order = Order::read(&encoded.bytes).unwrap();
    assert_eq!(order.platform(), of.plan.scope.platform);
    assert_eq!(
        order.contexts(),
        of.names.0.values().copied().collect::<Vec<_>>()
    );
    let planned = order.plan(&of.contexts(&order), "here").unwrap();

    // Each key is computed anew, and is what the client has.
    let keys = encoded.nodes.iter().map(|node| of.plan.keys[node.index()]);
    assert_eq!(planned.plan.keys.to_vec(), keys.collect::<Vec<_>>());
    let nodes = planned.plan.graph.nodes().zip(&encoded.nodes);
    for (number, ((_, read), written)) in (1..).zip(nodes) {
        assert_eq!(read.name, of.plan.graph.node(*written).name);
        assert_eq!(read.vertex.0, number);
    }
    let step = planned.steps.iter().map(|step| encoded.nodes[step.index()]);
    assert_eq!(step.collect::<Vec<_>>(), of.segment().steps);
    assert_eq!(encoded.nodes[planned.target.index()], of.target);
    assert_eq!(planned.results(), [planned.target]);
    assert_eq!(planned.plan.graph.remotes(), of.plan.graph.remotes());
    assert_eq!(
        (planned.fresh, planned.audience),
        (Fresh::None, Audience::Farm)
    );
    assert_eq!(order.name(), &*of.plan.graph.node(of.target).name);

    let [pulled, sent] = order.layers() else {
        panic!("{:?}", order.layers());
    };
    assert!(
        matches!(&pulled.record.origin, LayerOrigin::Image { repositories } if repositories.len() == 1)
    );
    assert_eq!(pulled.cas, None);
    assert_eq!(sent.cas, of.names.1);
    for layer in order.layers() {
        let diff_id = layer.record.diff_id.unwrap();
        assert_eq!(layer.record.id, LayerId::of_diff_id(&diff_id));
    }
}

#[test]
fn only_what_the_tip_needs_is_sent() {
    let of = everything();
    let mut segment = of.segment();
    segment.tip = segment.steps[0];
    segment.steps.truncate(1);
    let encoded = encode(&segment, &of.home, &of.names).unwrap();
    let base = of.plan.graph.node(segment.tip).inputs()[0];
    assert_eq!(encoded.nodes, [base, segment.tip]);
    let order = Order::read(&encoded.bytes).unwrap();
    assert!(order.contexts().is_empty());
    order.plan(&[], "here").unwrap();
}

#[test]
fn what_is_to_run_anew_are_the_segments_own_steps() {
    let of = everything();
    let segment = Segment {
        no_cache: true,
        after_loss: true,
        steps: vec![of.target],
        ..of.segment()
    };
    let encoded = encode(&segment, &of.home, &of.names).unwrap();
    let order = Order::read(&encoded.bytes).unwrap();
    let planned = order.plan(&of.contexts(&order), "here").unwrap();
    let Fresh::Segment(steps) = &planned.fresh else {
        panic!("{:?}", planned.fresh);
    };
    assert_eq!(steps.iter().copied().collect::<Vec<_>>(), [planned.target]);
    assert_eq!(planned.audience, Audience::FarmAfterLoss);
}

#[test]
fn nothing_is_made_under_the_name_of_another_image() {
    let of = everything();
    let wrong = |change: &dyn Fn(&mut WireSegment)| {
        let bytes = changed(&of, |order| change(order));
        let error = refused(&of, &bytes);
        assert!(matches!(error, OrderError::Wrong(_)), "{error}");
    };
    // Other layers.
    wrong(&|order| order.graph.layers.reverse());
    wrong(&|order| order.graph.layers[0].diff_id = ashlar_model::digest::DiffId::of(b"mine"));
    wrong(&|order| {
        for node in &mut order.graph.nodes {
            if let WireKind::Image { layers, .. } = &mut node.kind {
                layers.pop();
            }
        }
    });
    // Other documents.
    wrong(&|order| order.graph.documents.clear());
    wrong(&|order| order.graph.documents[0].push(b' '));
    wrong(&|order| drop(order.graph.documents.pop()));
    // Another image is another key.
    let bytes = changed(&of, |order| {
        for node in &mut order.graph.nodes {
            if let WireKind::Image { platform, .. } = &mut node.kind {
                platform.arch = "arm64".to_owned();
            }
        }
    });
    assert!(matches!(refused(&of, &bytes), OrderError::Keys { .. }));
}

#[test]
fn who_computes_other_keys_says_so() {
    let of = everything();
    let bytes = changed(&of, |order| {
        order.graph.client = "0.0.7".to_owned();
        order.graph.key[0] ^= 1;
    });
    let error = refused(&of, &bytes);
    let text = error.to_string();
    assert!(text.contains("0.0.7") && text.contains("last"), "{text}");
    assert!(error.hint().unwrap().contains("same version"));

    let order = Order::read(&encoded(&of).bytes).unwrap();
    let error = order.plan(&of.contexts(&order), "elsewhere").unwrap_err();
    assert!(matches!(error, OrderError::Isolation { .. }), "{error}");
    // Other files than those that were hashed are another key.
    let mut contexts = of.contexts(&order);
    contexts[0].1 = std::sync::Arc::default();
    let error = order.plan(&contexts, "here").unwrap_err();
    assert!(matches!(error, OrderError::Keys { .. }), "{error}");
}

#[test]
fn other_versions_and_other_things_are_told_apart() {
    let of = everything();
    let mut bytes = encoded(&of).bytes;
    bytes[5] = 9;
    let error = Order::read(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this order of a segment has version 9 of its format, and only version 1 is understood here"
    );
    bytes[4] = 2;
    assert!(matches!(Order::read(&bytes), Err(OrderError::Kind(_))));
    assert!(matches!(Order::read(b""), Err(OrderError::Kind(_))));
    let mut bytes = encoded(&of).bytes;
    bytes.push(0);
    assert!(matches!(
        Order::read(&bytes),
        Err(OrderError::Damaged { .. })
    ));
    bytes.resize(LONGEST_ORDER + 1, 0);
    assert!(matches!(
        Order::read(&bytes),
        Err(OrderError::TooLong { .. })
    ));
}

#[test]
fn what_no_client_writes_is_refused() {
    let of = everything();
    let last = |order: &WireSegment| u32::try_from(order.graph.nodes.len() - 1).unwrap();
    type Change = Box<dyn Fn(&mut WireSegment)>;
    let changes: Vec<(&str, Change)> = vec![
        ("no steps", Box::new(|order| order.steps.clear())),
        ("twice", Box::new(|order| order.steps.push(order.steps[0]))),
        ("no step", Box::new(|order| order.steps[0] = NodePlace(0))),
        (
            "nowhere",
            Box::new(|order| order.steps.push(NodePlace(9999))),
        ),
        (
            "target",
            Box::new(|order| order.graph.target = NodePlace(9999)),
        ),
        ("remote", Box::new(|order| order.graph.remotes.clear())),
        ("context", Box::new(|order| order.graph.contexts.clear())),
        ("layer", Box::new(|order| order.graph.layers.clear())),
        (
            "circle",
            Box::new(move |order| {
                let last = NodePlace(last(order));
                for node in &mut order.graph.nodes {
                    if let WireKind::Stack { below, .. } = &mut node.kind {
                        *below = last;
                    }
                }
            }),
        ),
        (
            "mounts",
            Box::new(|order| {
                for node in &mut order.graph.nodes {
                    if let WireKind::Run { sources, .. } = &mut node.kind {
                        sources.push(NodePlace(0));
                    }
                }
            }),
        ),
        (
            "layers of a store",
            Box::new(|order| {
                for node in &mut order.graph.nodes {
                    if let WireKind::Run { spec, .. } = &mut node.kind {
                        for mount in &mut spec.mounts {
                            if let Some(source) = mount.source_mut() {
                                source.layers.push(LayerId::from_bytes([1; 16]));
                            }
                        }
                    }
                }
            }),
        ),
        (
            "relative path",
            Box::new(|order| {
                for node in &mut order.graph.nodes {
                    if let WireKind::Copy { copy, .. } = &mut node.kind {
                        copy.destination = "../x".to_owned();
                    }
                }
            }),
        ),
    ];
    for (what, change) in changes {
        let bytes = changed(&of, |order| change(order));
        let error = refused(&of, &bytes);
        assert!(matches!(error, OrderError::Wrong(_)), "{what}: {error}");
    }
}

#[test]
fn stacks_that_double_have_an_end() {
    let of = everything();
    let bytes = changed(&of, |order| {
        // 64 filesystems, each twice in the next: nobody could look through that.
        for _ in 0..64 {
            let last = NodePlace(u32::try_from(order.graph.nodes.len() - 1).unwrap());
            order.graph.nodes.push(wire::WireNode {
                name: "twice".to_owned(),
                kind: WireKind::Stack {
                    below: last,
                    above: last,
                },
            });
        }
    });
    assert!(matches!(Order::read(&bytes), Err(OrderError::Wrong(_))));
    let bytes = changed(&of, |order| {
        for node in &mut order.graph.nodes {
            if let WireKind::Image { layers, .. } = &mut node.kind {
                *layers = vec![LayerPlace(0); 5_000];
            }
        }
    });
    assert!(matches!(Order::read(&bytes), Err(OrderError::Wrong(_))));
}

#[test]
fn bases_that_no_worker_can_get_are_named() {
    let mut of = everything();
    of.names.1 = None;
    let error = encode(&of.segment(), &of.home, &of.names).unwrap_err();
    assert!(matches!(error, OrderError::BaseOnlyHere { .. }), "{error}");
    assert!(error.to_string().contains("FROM base"), "{error}");
    assert!(error.hint().unwrap().contains("push"));

    let mut of = everything();
    of.names.0.clear();
    let error = encode(&of.segment(), &of.home, &of.names).unwrap_err();
    assert!(matches!(error, OrderError::ContextNotSent(_)), "{error}");
}

#[test]
fn passwords_stay_here() {
    use ashlar_engine::graph::{NodeKind, PlannedOp};
    use ashlar_model::remote::{HttpFile, HttpSource, RemoteFiles};

    let refused = |change: &dyn Fn(&mut ashlar_engine::graph::Graph)| {
        let mut of = everything();
        let mut graph = (*of.plan.graph).clone();
        change(&mut graph);
        of.plan = ashlar_engine::key::KeyedGraph::new(graph, (*of.plan.scope).clone());
        let error = encode(&of.segment(), &of.home, &of.names).unwrap_err();
        assert!(matches!(error, OrderError::Password { .. }), "{error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    };
    refused(&|graph| {
        let mut remotes = graph.remotes().to_vec();
        remotes[0] = RemoteFiles::Http(HttpFile {
            source: HttpSource::parse("https://me:hidden@h/x").unwrap(),
            digest: BlobDigest::of(b"x"),
        });
        graph.set_remotes(remotes);
    });
    refused(&|graph| {
        let mut changed = ashlar_engine::graph::Graph::default();
        changed.set_remotes(graph.remotes().to_vec());
        for (_, node) in graph.nodes() {
            let mut node = node.clone();
            if let NodeKind::Step {
                op: PlannedOp::Run(run),
                ..
            } = &mut node.kind
            {
                run.spec.unkeyed_env[0].1 = "http://me:hidden@proxy".into();
            }
            changed.add(node);
        }
        *graph = changed;
    });
}

#[test]
fn the_format_is_held() {
    // Another digest is another format: raise its version.
    let of = everything();
    let mut wire: WireSegment = open(Kind::Segment, &encoded(&of).bytes, usize::MAX).unwrap();
    wire.graph.client = "1".to_owned();
    let bytes = seal(Kind::Segment, &wire).unwrap();
    assert_eq!(
        BlobDigest::of(&bytes).to_hex(),
        "c59dd42304c5c1a493ec23bd286421611e8afbf600ee5d91cd8df21f71f59954"
    );
}

#[test]
fn places_are_given_in_order() {
    let of = everything();
    let order = Order::read(&encoded(&of).bytes).unwrap();
    let error = order.plan(&[], "here").unwrap_err();
    assert!(matches!(error, OrderError::Wrong(_)), "{error}");
    let roots: Vec<PathBuf> = of
        .contexts(&order)
        .into_iter()
        .map(|(root, _)| root)
        .collect();
    assert_eq!(roots, [PathBuf::from("/places/0")]);
}

//! Whole builds through orders as they are sent: each worker knows nothing but the bytes.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ashlar_engine::event::{BuildEvent, EventSink, VertexId};
use ashlar_engine::graph::{Graph, Node, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedSource};
use ashlar_engine::key::{KeyScope, KeyedGraph};
use ashlar_engine::schedule::{self, Failure, Farm, ScheduleOptions};
use ashlar_engine::segment::{
    SegmentError, SegmentEvent, SegmentMade, SegmentRunner, SegmentWatch,
};
use ashlar_model::cas::CasDigest;
use ashlar_model::digest::DiffId;
use ashlar_model::executor::{BoxFuture, ExitStatus, StepError};
use ashlar_model::layer::LayerRecord;
use ashlar_model::step::Selection;

use super::fakes::{Cache, Machine};
use super::*;
use crate::context::ContextRef;

/// The farm has all contexts under one name.
struct AnyName;

impl ContextNames for AnyName {
    fn reference(&self, _root: &Path, _selection: &Arc<Selection>) -> Option<ContextRef> {
        None
    }

    fn blob(&self, digest: &BlobDigest) -> Option<CasDigest> {
        Some(CasDigest::of(Default::default(), digest.as_bytes()))
    }
}

#[derive(Debug)]
pub(super) struct Workers {
    client: ashlar_store::home::Home,
    machines: Vec<Machine>,
    next: AtomicUsize,
    /// The bytes of all orders.
    orders: Mutex<Vec<usize>>,
}

impl Workers {
    pub(super) fn ran(&self) -> Vec<String> {
        let mut ran: Vec<String> = self.machines.iter().flat_map(Machine::ran).collect();
        ran.sort();
        ran
    }

    pub(super) fn orders(&self) -> usize {
        std::mem::take(&mut *self.orders.lock().unwrap()).len()
    }
}

impl SegmentRunner for Workers {
    fn run<'a>(
        &'a self,
        segment: &'a Segment,
        watch: Arc<dyn SegmentWatch>,
    ) -> BoxFuture<'a, Result<SegmentMade, SegmentError>> {
        Box::pin(async move {
            let sent = encode(segment, &self.client, &AnyName).unwrap();
            self.orders.lock().unwrap().push(sent.bytes.len());
            let worker =
                &self.machines[self.next.fetch_add(1, Ordering::SeqCst) % self.machines.len()];
            let events = Arc::new(Translated {
                nodes: sent.nodes.clone(),
                watch,
            });
            let outcome = work(worker, &sent.bytes, events).await;
            SegmentOutcome::decode(&outcome)
                .unwrap()
                .into_result(&sent.nodes)
        })
    }
}

/// What a worker makes of an order.
async fn work(worker: &Machine, order: &[u8], events: Arc<dyn EventSink>) -> Vec<u8> {
    let order = Order::read(order).unwrap();
    for layer in order.layers() {
        worker.home.put_layer(&layer.record).unwrap();
    }
    let planned = order.plan(&[], "here").unwrap();
    let options = ScheduleOptions {
        fresh: planned.fresh.clone(),
        audience: planned.audience,
        own: planned.own(),
        ..worker.options()
    };
    let mut surroundings = worker.surroundings();
    surroundings.events = events;
    let made = schedule::make(planned.plan.clone(), planned.target, options, surroundings).await;
    SegmentOutcome::of(&made, &planned).encode().unwrap()
}

struct Translated {
    nodes: Vec<NodeId>,
    watch: Arc<dyn SegmentWatch>,
}

impl EventSink for Translated {
    fn emit(&self, event: BuildEvent) {
        let node = |vertex: VertexId| self.nodes[vertex.0 as usize - 1];
        self.watch.event(match event {
            BuildEvent::Started { vertex } => SegmentEvent::Started(node(vertex)),
            BuildEvent::Cached { vertex } => SegmentEvent::Cached(node(vertex)),
            BuildEvent::Finished { vertex, elapsed } => SegmentEvent::Finished {
                node: node(vertex),
                elapsed,
            },
            BuildEvent::Output {
                vertex,
                stream,
                bytes,
            } => SegmentEvent::Output {
                node: node(vertex),
                stream,
                bytes,
            },
            _ => return,
        });
    }
}

/// A client and its farm.
pub(super) struct Bench {
    pub(super) client: Machine,
    pub(super) workers: Arc<Workers>,
    fresh: Fresh,
}

impl Bench {
    pub(super) fn new(machines: usize) -> Self {
        let cache: Arc<Mutex<Cache>> = Arc::default();
        let client = Machine::new(Some(&cache), false);
        let workers = Workers {
            client: client.home.clone(),
            machines: (0..machines)
                .map(|_| Machine::new(Some(&cache), true))
                .collect(),
            next: AtomicUsize::new(0),
            orders: Mutex::default(),
        };
        Self {
            client,
            workers: Arc::new(workers),
            fresh: Fresh::None,
        }
    }

    pub(super) async fn build(
        &self,
        plan: &Plan,
        target: NodeId,
    ) -> Result<Vec<LayerRecord>, Failure> {
        let mut surroundings = self.client.surroundings();
        surroundings.farm = Some(Farm {
            runner: self.workers.clone(),
            fall_back: false,
        });
        let options = ScheduleOptions {
            fresh: self.fresh.clone(),
            ..self.client.options()
        };
        let made = schedule::make(plan.keyed(), target, options, surroundings).await;
        assert!(self.client.ran().is_empty());
        made.layers
    }
}

/// Builds graphs: each method returns the new node.
#[derive(Default)]
pub(super) struct Plan(pub(super) Graph);

impl Plan {
    pub(super) fn keyed(&self) -> KeyedGraph {
        let scope = KeyScope {
            isolation: "here".into(),
            platform: ashlar_model::platform::Platform::new("linux", "amd64", None),
        };
        KeyedGraph::new(self.0.clone(), scope)
    }

    fn add(&mut self, name: &str, kind: NodeKind) -> NodeId {
        let vertex = VertexId(u32::try_from(self.0.len()).unwrap());
        self.0.add(Node {
            vertex,
            name: name.into(),
            range: None,
            kind,
        })
    }

    /// A base with layers, of the client's store.
    pub(super) fn base(&mut self, home: &ashlar_store::home::Home) -> NodeId {
        let base = graphs::image(home);
        self.add("FROM base", NodeKind::Base(base))
    }

    pub(super) fn run(&mut self, parent: NodeId, text: &str) -> NodeId {
        let spec = ashlar_model::step::RunSpec {
            args: vec![text.to_owned()],
            ..graphs::command("")
        };
        let op = PlannedOp::Run(Box::new(ashlar_engine::graph::PlannedRun {
            spec,
            sources: Vec::new(),
        }));
        self.add(text, NodeKind::Step { parent, op })
    }

    pub(super) fn copy(&mut self, parent: NodeId, from: NodeId, path: &str) -> NodeId {
        let op = PlannedOp::Copy(PlannedCopy {
            sources: vec![PlannedSource::Node {
                node: from,
                query: path.into(),
            }],
            destination: "/".into(),
            owner: None,
            mode: None,
            unpack: false,
        });
        self.add(path, NodeKind::Step { parent, op })
    }

    pub(super) fn stack(&mut self, below: NodeId, above: NodeId) -> NodeId {
        self.add("linked", NodeKind::Stack { below, above })
    }

    /// Stages on one base, and a last one that copies from all.
    fn stages(home: &ashlar_store::home::Home, texts: &[&str]) -> (Self, NodeId) {
        let mut plan = Self::default();
        let base = plan.base(home);
        let stages: Vec<NodeId> = texts.iter().map(|text| plan.run(base, text)).collect();
        let mut target = base;
        for (stage, text) in stages.iter().zip(texts) {
            target = plan.copy(target, *stage, text);
        }
        (plan, target)
    }
}

pub(super) fn diff_ids(layers: &[LayerRecord]) -> Vec<Option<DiffId>> {
    layers.iter().map(|layer| layer.diff_id).collect()
}

#[tokio::test]
async fn a_farms_build_has_the_layers_of_a_local_one() {
    let texts = ["a", "b", "c", "d"];
    let bench = Bench::new(4);
    let (plan, target) = Plan::stages(&bench.client.home, &texts);
    let made = bench.build(&plan, target).await.unwrap();
    assert_eq!(bench.workers.ran().len(), 8);
    assert_eq!(bench.workers.orders(), 5);

    let local = Machine::new(None, false);
    let (plan, target) = Plan::stages(&local.home, &texts);
    let here = schedule::make(plan.keyed(), target, local.options(), local.surroundings()).await;
    assert_eq!(diff_ids(&made), diff_ids(&here.layers.unwrap()));

    bench.build(&plan, target).await.unwrap();
    assert_eq!(bench.workers.orders(), 0);
}

#[tokio::test]
async fn a_chain_is_one_order() {
    let bench = Bench::new(2);
    let mut plan = Plan::default();
    let mut node = plan.base(&bench.client.home);
    for text in ["a", "b", "c"] {
        node = plan.run(node, text);
    }
    bench.build(&plan, node).await.unwrap();
    assert_eq!(bench.workers.machines[0].ran(), ["a", "b", "c"]);
    // What comes after it is for another worker, which has only its records.
    let next = plan.run(node, "d");
    bench.build(&plan, next).await.unwrap();
    assert_eq!(bench.workers.machines[1].ran(), ["d"]);
}

#[tokio::test]
async fn a_failing_step_is_told_with_what_it_wrote() {
    let bench = Bench::new(2);
    let (plan, target) = Plan::stages(&bench.client.home, &["a", "fail"]);
    let failure = bench.build(&plan, target).await.unwrap_err();
    let Failure::Step(step) = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(
        (&*step.name, step.last_output.join(",").as_str()),
        ("fail", "one,two")
    );
    assert!(matches!(
        step.error,
        StepError::Failed {
            status: ExitStatus::Code(3),
            ..
        }
    ));
    let events = bench.client.events.0.lock().unwrap();
    let output = |event: &BuildEvent| matches!(event, BuildEvent::Output { bytes, .. } if bytes == b"one\ntwo\n");
    assert!(events.iter().any(output));
}

#[tokio::test]
async fn lost_layers_are_made_again() {
    let bench = Bench::new(4);
    let mut plan = Plan::default();
    let base = plan.base(&bench.client.home);
    let one = plan.run(base, "a");
    let (left, right) = (plan.run(one, "b"), plan.run(one, "c"));
    let target = plan.copy(left, right, "x");
    // The fourth order goes to the fourth worker, which has nothing of its own.
    let loses = &bench.workers.machines[3].executor.loses;
    loses.lock().unwrap().insert("copy x".to_owned());
    bench.build(&plan, target).await.unwrap();
    // That worker has made it again: it knows how from the order.
    assert_eq!(bench.workers.ran(), ["a", "b", "b", "c", "copy x"]);
    assert_eq!(bench.workers.orders(), 4);
}

#[tokio::test]
async fn without_cache_all_runs_once_more() {
    let mut bench = Bench::new(3);
    let (plan, target) = Plan::stages(&bench.client.home, &["a", "b", "c"]);
    let first = bench.build(&plan, target).await.unwrap();
    let all = ["a", "b", "c", "copy a", "copy b", "copy c"];
    assert_eq!(bench.workers.ran(), all);
    bench.fresh = Fresh::All;
    let second = bench.build(&plan, target).await.unwrap();
    assert_eq!(bench.workers.ran(), all);
    assert_eq!(diff_ids(&first), diff_ids(&second));
}

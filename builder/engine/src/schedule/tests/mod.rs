//! The scheduler over an executor that counts: what ran, what did not, what ran at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ashlar_model::digest::{BlobDigest, ContentDigest, DiffId, LayerId};
use ashlar_model::executor::{
    BoxFuture, ExitStatus, StepError, StepOutcome, StepOutput, StepRequest,
};

use ashlar_model::descriptor::Descriptor;
use ashlar_model::layer::StoredBlob;
use ashlar_model::media_type::OCI_LAYER_GZIP;
use ashlar_model::mount::{BindMount, CacheSharing, MountSource, OptionalOwner};
use ashlar_model::platform::Platform;
use ashlar_model::remote::{GitCommit, GitSource, HttpFile, HttpSource, RemoteFiles, RemoteSource};
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{CopySource, Network, RunSpec, Security, Selection, StepOp};
use ashlar_store::home::lock::FileLock;

use super::*;
use crate::event::{BuildEvent, VertexId};
use crate::graph::{Base, Node, PlannedCopy, PlannedRun, PlannedSource, RemoteId};
use crate::key::{KeyScope, NodeKeys, scratch_key};
use crate::plan::source::Fault;
use crate::plan::{ContextSource, SourceError};

mod farm;
mod fates;
mod losses;
mod sharing;

/// Runs `RUN text` by remembering it. The layer's content is the text up to the first `#`, so that
/// `same #1` and `same #2` are different commands with the same result.
#[derive(Debug)]
struct Fake {
    home: Home,
    ran: Mutex<Vec<String>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    packing: AtomicUsize,
    most_packing: AtomicUsize,
    /// Layers whose files are gone, whatever their records say.
    lost: Mutex<Vec<LayerId>>,
    /// Whether files are gone as soon as they are made.
    loses_all: AtomicBool,
    /// The commands whose layers were said to be mounted later.
    to_be_mounted: Mutex<Vec<String>>,
    contents: Mutex<HashMap<LayerId, String>>,
    /// How many layers each mount's source had.
    mounted: Mutex<Vec<usize>>,
    /// Names of the caches that were to be emptied.
    forgotten: Mutex<Vec<String>>,
}

/// Which mount a command has.
#[derive(Clone, Copy)]
enum MountKind {
    Bind,
    Cache,
}

impl Fake {
    /// Fails if files of these layers are gone.
    fn check(&self, layers: &[LayerId]) -> Result<(), StepError> {
        let lost = self.lost.lock().unwrap();
        let mut layers = layers.to_vec();
        let loses_all = self.loses_all.load(Ordering::SeqCst);
        layers.retain(|layer| loses_all || lost.contains(layer));
        if layers.is_empty() {
            return Ok(());
        }
        Err(StepError::LayersLost { layers })
    }

    fn ran(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.ran.lock().unwrap());
        ran.sort();
        ran
    }
}

fn content_of(text: &str) -> ContentDigest {
    blake3::hash(text.split('#').next().unwrap().as_bytes()).into()
}

impl StepExecutor for Fake {
    fn execute<'a>(
        &'a self,
        request: StepRequest,
        output: Arc<dyn StepOutput>,
    ) -> BoxFuture<'a, Result<StepOutcome, StepError>> {
        Box::pin(async move {
            let text = match &request.op {
                StepOp::Run(run) => {
                    let sources = run.mounts.iter().filter_map(MountSpec::source);
                    let layers = sources.map(|source| source.layers.len());
                    self.mounted.lock().unwrap().extend(layers);
                    run.args[0].clone()
                }
                StepOp::Copy(copy) => match &copy.sources[0] {
                    CopySource::Layers { query, .. } => format!("copy {}", query.path),
                    CopySource::Fetched { root, .. } => format!("add {}", root.display()),
                    _ => "copy".to_owned(),
                },
                StepOp::MakeDirectory(_) => "directory".to_owned(),
            };
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_running.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            self.check(&request.parent)?;
            if request.will_be_mounted {
                self.to_be_mounted.lock().unwrap().push(text.clone());
            }
            self.ran.lock().unwrap().push(text.clone());
            if text.starts_with("fail") {
                output.write(ashlar_model::executor::OutputStream::Stderr, b"one\ntwo\n");
                let status = ExitStatus::Code(3);
                return Err(StepError::Failed {
                    command: text,
                    status,
                });
            }
            let layer = self.home.new_layer_id().unwrap();
            self.contents.lock().unwrap().insert(layer, text);
            self.home
                .put_layer(&LayerRecord::made_by_step(layer))
                .unwrap();
            std::fs::create_dir_all(self.home.tree_path("map", &layer)).unwrap();
            Ok(StepOutcome { layer })
        })
    }

    fn pack<'a>(
        &'a self,
        layer: LayerId,
        _below: Vec<LayerId>,
        wanted: PackRequest,
    ) -> BoxFuture<'a, Result<LayerRecord, StepError>> {
        Box::pin(async move {
            self.check(&[layer])?;
            let now = self.packing.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_packing.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.packing.fetch_sub(1, Ordering::SeqCst);
            let mut record = self.home.layer(&layer).unwrap().unwrap();
            if let Some(text) = self.contents.lock().unwrap().get(&layer) {
                record.content = Some(content_of(text));
            }
            if wanted.diff_id {
                record.diff_id.get_or_insert(DiffId::of(layer.as_bytes()));
            }
            for form in wanted.blobs {
                let digest = BlobDigest::of(layer.as_bytes());
                record.blobs.push(StoredBlob {
                    descriptor: Descriptor::new(OCI_LAYER_GZIP, digest, 1),
                    compression: form.compression,
                    level: Some(form.level),
                });
            }
            self.home.put_layer(&record).unwrap();
            Ok(record)
        })
    }

    fn select<'a>(
        &'a self,
        layers: Vec<LayerId>,
        sources: Vec<SourceQuery>,
    ) -> BoxFuture<'a, Result<Vec<Selection>, StepError>> {
        Box::pin(async move {
            self.check(&layers)?;
            Ok(sources.iter().map(|_| Selection::default()).collect())
        })
    }

    fn forget_caches<'a>(
        &'a self,
        caches: Vec<CacheMount>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        let names = caches.into_iter().map(|cache| cache.id);
        self.forgotten.lock().unwrap().extend(names);
        Box::pin(async { Ok(()) })
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<BuildEvent>>);

impl EventSink for Recorder {
    fn emit(&self, event: BuildEvent) {
        self.0.lock().unwrap().push(event);
    }
}

struct Bench {
    _directory: tempfile::TempDir,
    fake: Arc<Fake>,
    elsewhere: Arc<Elsewhere>,
    recorder: Arc<Recorder>,
    surroundings: Surroundings,
    jobs: usize,
    no_cache: bool,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        let fake = Arc::new(Fake {
            home: home.clone(),
            ran: Mutex::default(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            packing: AtomicUsize::new(0),
            most_packing: AtomicUsize::new(0),
            lost: Mutex::default(),
            loses_all: AtomicBool::new(false),
            to_be_mounted: Mutex::default(),
            contents: Mutex::default(),
            mounted: Mutex::default(),
            forgotten: Mutex::default(),
        });
        let recorder = Arc::new(Recorder::default());
        let elsewhere = Arc::new(Elsewhere::default());
        let surroundings = Surroundings {
            home,
            remotes: elsewhere.clone(),
            executor: fake.clone(),
            shared: None,
            farm: None,
            events: recorder.clone(),
        };
        Self {
            _directory: directory,
            fake,
            elsewhere,
            recorder,
            surroundings,
            jobs: 4,
            no_cache: false,
        }
    }

    async fn make(&self, graph: Graph, target: NodeId) -> Result<Vec<LayerRecord>, Failure> {
        let made = make(
            keyed(graph),
            target,
            self.options(),
            self.surroundings.clone(),
        );
        made.await.layers
    }

    fn options(&self) -> ScheduleOptions {
        ScheduleOptions {
            jobs: self.jobs,
            fresh: match self.no_cache {
                true => Fresh::All,
                false => Fresh::None,
            },
            wanted: PackRequest {
                diff_id: true,
                blobs: Vec::new(),
            },
            blobs_here: false,
            audience: Audience::Here,
            own: None,
        }
    }

    /// How each vertex ended, by its number.
    fn ends(&self) -> BTreeMap<u32, &'static str> {
        let events = std::mem::take(&mut *self.recorder.0.lock().unwrap());
        let mut ends = BTreeMap::new();
        for event in events {
            let (vertex, end) = match event {
                BuildEvent::Cached { vertex } => (vertex, "cached"),
                BuildEvent::Finished { vertex, .. } => (vertex, "finished"),
                BuildEvent::Failed { vertex, .. } => (vertex, "failed"),
                BuildEvent::Cancelled { vertex } => (vertex, "cancelled"),
                _ => continue,
            };
            assert_eq!(ends.insert(vertex.0, end), None, "{vertex:?} ended twice");
        }
        ends
    }
}

fn keyed(graph: Graph) -> KeyedGraph {
    let scope = KeyScope {
        isolation: String::new(),
        platform: Platform::new("linux", "amd64", None),
    };
    KeyedGraph::new(graph, scope)
}

fn keys(graph: &Graph) -> Arc<[NodeKeys]> {
    keyed(graph.clone()).keys
}

/// Builds graphs: each method returns the new node.
#[derive(Default)]
struct Plan(Graph);

impl Plan {
    fn add(&mut self, kind: NodeKind) -> NodeId {
        let number = u32::try_from(self.0.len()).unwrap();
        let name = format!("node {number}").into();
        self.0.add(Node {
            vertex: VertexId(number),
            name,
            range: None,
            kind,
        })
    }

    fn scratch(&mut self) -> NodeId {
        self.add(NodeKind::Base(Base {
            key: scratch_key(),
            layers: Vec::new(),
            image: None,
        }))
    }

    fn run(&mut self, parent: NodeId, text: &str) -> NodeId {
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
        self.add(NodeKind::Step {
            parent,
            op: PlannedOp::Run(Box::new(PlannedRun {
                spec,
                sources: Vec::new(),
            })),
        })
    }

    /// A command that sees another filesystem.
    fn run_with(&mut self, parent: NodeId, text: &str, source: NodeId, kind: MountKind) -> NodeId {
        let node = self.run(parent, text);
        let shown = MountSource {
            layers: Vec::new(),
            path: "/x".into(),
        };
        if let Some(run) = self.0.run_mut(node) {
            run.sources.push(source);
            run.spec.mounts.push(match kind {
                MountKind::Bind => MountSpec::Bind(BindMount {
                    target: "/m".into(),
                    source: shown,
                    read_only: true,
                }),
                MountKind::Cache => MountSpec::Cache(CacheMount {
                    target: "/m".into(),
                    id: "the cache".into(),
                    sharing: CacheSharing::Shared,
                    seed: Some(shown),
                    owner: OptionalOwner::default(),
                    read_only: false,
                }),
            });
        }
        node
    }

    fn copy(&mut self, parent: NodeId, from: NodeId, pattern: &str) -> NodeId {
        let copy = PlannedCopy {
            sources: vec![PlannedSource::Node {
                node: from,
                query: pattern.into(),
            }],
            destination: "/".into(),
            owner: None,
            mode: None,
            unpack: false,
        };
        self.add(NodeKind::Step {
            parent,
            op: PlannedOp::Copy(copy),
        })
    }
}

impl Plan {
    fn stack(&mut self, below: NodeId, above: NodeId) -> NodeId {
        self.add(NodeKind::Stack { below, above })
    }
}

/// What a step makes on nothing (vertex 3), on what other steps make (1 and 2), and what follows.
fn linked(base: &[&str], above: &str, after: &str) -> (Graph, NodeId) {
    let mut plan = Plan::default();
    let mut below = plan.scratch();
    for text in base {
        below = plan.run(below, text);
    }
    let scratch = plan.scratch();
    let linked = plan.run(scratch, above);
    let stack = plan.stack(below, linked);
    let target = plan.run(stack, after);
    (plan.0, target)
}

#[tokio::test]
async fn a_linked_layer_is_made_once_whatever_it_lies_on() {
    let bench = Bench::new();
    let (graph, target) = linked(&["a", "b"], "linked", "after");
    let first = bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "after", "b", "linked"]);
    assert_eq!(first.len(), 4);

    // Another base: the linked layer is kept, what stands on both is made anew.
    let (rebased, target) = linked(&["c"], "linked", "after");
    let second = bench.make(rebased, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["after", "c"]);
    assert_eq!(second[1].id, first[2].id);

    // Another linked layer: the base is kept, and comes in its place.
    let (changed, target) = linked(&["a", "b"], "other", "after");
    let third = bench.make(changed, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["after", "other"]);
    assert_eq!([third[0].id, third[1].id], [first[0].id, first[1].id]);

    // Nothing changed; the stack itself may be what is wanted.
    let stack = graph.node(last_node(&graph)).inputs()[0];
    let records = bench.make(graph, stack).await.unwrap();
    assert!(bench.fake.ran().is_empty());
    assert_eq!(records, first[..3]);
}

fn last_node(graph: &Graph) -> NodeId {
    graph.nodes().last().unwrap().0
}

#[tokio::test]
async fn a_stack_fails_with_either_of_its_parts() {
    for (base, above) in [("fail below", "linked"), ("base", "fail above")] {
        let bench = Bench::new();
        let (graph, target) = linked(&[base], above, "after");
        let failure = bench.make(graph, target).await.unwrap_err();
        assert!(matches!(failure, Failure::Step(_)));
        assert!(!bench.fake.ran().contains(&"after".to_owned()));
    }
}

fn chain(texts: &[&str]) -> (Graph, NodeId) {
    let mut plan = Plan::default();
    let mut node = plan.scratch();
    for text in texts {
        node = plan.run(node, text);
    }
    (plan.0, node)
}

#[tokio::test]
async fn a_second_build_runs_nothing() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b"]);
    let first = bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b"]);
    assert_eq!(
        bench.ends(),
        BTreeMap::from([(1, "finished"), (2, "finished")])
    );
    let second = bench.make(graph, target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
    assert_eq!(first, second);
    assert_eq!(bench.ends(), BTreeMap::from([(1, "cached"), (2, "cached")]));
}

#[tokio::test]
async fn a_changed_step_runs_and_what_follows_it() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b", "c"]);
    bench.make(graph, target).await.unwrap();
    bench.fake.ran();
    let (graph, target) = chain(&["a", "x", "c"]);
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["c", "x"]);
}

#[tokio::test]
async fn equal_content_cuts_the_rest_off() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "same #1", "c", "d"]);
    let first = bench.make(graph, target).await.unwrap();
    bench.fake.ran();
    let (graph, target) = chain(&["a", "same #2", "c", "d"]);
    let second = bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["same #2"]);
    assert_eq!(first, second, "the earlier layers are kept");
    // And now by definition.
    bench.make(graph, target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
}

#[tokio::test]
async fn branches_run_side_by_side_up_to_jobs() {
    for (jobs, most) in [(1, 1), (4, 3)] {
        let mut bench = Bench::new();
        bench.jobs = jobs;
        let mut plan = Plan::default();
        let base = plan.scratch();
        let mut target = plan.run(base, "target");
        for text in ["x", "y"] {
            let branch = plan.run(base, text);
            target = plan.copy(target, branch, text);
        }
        bench.make(plan.0, target).await.unwrap();
        assert_eq!(bench.fake.ran(), ["copy x", "copy y", "target", "x", "y"]);
        assert_eq!(bench.fake.most_running.load(Ordering::SeqCst), most);
    }
}

#[tokio::test]
async fn what_is_made_alike_is_made_once() {
    let bench = Bench::new();
    let mut plan = Plan::default();
    let base = plan.scratch();
    let one = plan.run(base, "same");
    let other = plan.run(base, "same");
    let target = plan.copy(other, one, "p");
    let target = plan.copy(target, other, "q");
    bench.make(plan.0, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["copy p", "copy q", "same"]);
    assert_eq!(bench.ends()[&2], "cached");
}

#[tokio::test]
async fn what_stands_for_several_is_made_so_that_all_can_use_it() {
    let bench = Bench::new();
    let mut plan = Plan::default();
    let base = plan.scratch();
    let target = plan.run(base, "same");
    let other = plan.run(base, "same");
    let mounts = plan.run(other, "mounts");
    let target = plan.copy(target, mounts, "p");
    bench.make(plan.0, target).await.unwrap();
    let mounted = bench.fake.to_be_mounted.lock().unwrap().clone();
    assert_eq!(mounted, ["same", "mounts"]);
}

#[tokio::test]
async fn what_cached_branches_share_is_reported_once() {
    let bench = Bench::new();
    let branches = |last: &str| {
        let mut plan = Plan::default();
        let base = plan.scratch();
        let shared = plan.run(base, "shared");
        let one = plan.run(shared, "one");
        let other = plan.run(shared, "other");
        let target = plan.copy(one, other, last);
        (plan.0, target)
    };
    let (graph, target) = branches("p");
    bench.make(graph, target).await.unwrap();
    bench.ends();
    let (graph, target) = branches("q");
    bench.make(graph, target).await.unwrap();
    assert_eq!(
        bench.ends(),
        BTreeMap::from([(1, "cached"), (2, "cached"), (3, "cached"), (4, "finished")])
    );
}

#[tokio::test]
async fn a_branch_that_misses_below_a_hit_does_not_report_twice() {
    let bench = Bench::new();
    let branches = |text: &str| {
        let mut plan = Plan::default();
        let base = plan.scratch();
        let shared = plan.run(base, "shared");
        let one = plan.run(shared, "one");
        let other = plan.run(shared, text);
        let target = plan.copy(one, other, "p");
        (plan.0, target)
    };
    let (graph, target) = branches("other");
    bench.make(graph, target).await.unwrap();
    bench.ends();
    let (graph, target) = branches("changed");
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.ends()[&1], "cached");
}

#[tokio::test]
async fn a_failing_store_ends_the_build_and_every_vertex() {
    let bench = Bench::new();
    let root = bench.surroundings.home.root().to_owned();
    std::fs::remove_dir_all(root.join("locks")).unwrap();
    let (graph, target) = chain(&["a", "b"]);
    let failure = bench.make(graph, target).await.unwrap_err();
    assert!(matches!(failure, Failure::Store(_)), "{failure}");
    assert_eq!(
        bench.ends(),
        BTreeMap::from([(1, "failed"), (2, "cancelled")])
    );
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_is_an_error_wherever_it_is_in_the_graph() {
    let bench = Bench::new();
    let note = bench.surroundings.home.root().join("content");
    std::fs::create_dir(note.join(content_of("source").to_hex())).unwrap();
    let mut plan = Plan::default();
    let base = plan.scratch();
    let source = plan.run(base, "source");
    let target = plan.run(base, "target");
    let target = plan.copy(target, source, "p");
    let failure = bench.make(plan.0, target).await.unwrap_err();
    assert!(matches!(failure, Failure::Store(_)), "{failure}");
}

#[tokio::test]
async fn who_waits_for_another_process_is_called_off_by_a_failure() {
    let bench = Bench::new();
    let mut plan = Plan::default();
    let base = plan.scratch();
    let held = plan.run(base, "held");
    let bad = plan.run(base, "fail");
    let target = plan.copy(held, bad, "p");
    let key = keys(&plan.0)[held.index()].definition;
    let path = bench.surroundings.home.root().join("locks");
    let lock = FileLock::try_acquire(&path.join(format!("step-{key}"))).unwrap();
    assert!(lock.is_some());
    let build = bench.make(plan.0, target);
    let failure = tokio::time::timeout(Duration::from_secs(5), build).await;
    assert!(matches!(failure.unwrap(), Err(Failure::Step(_))));
    assert_eq!(
        bench.ends(),
        BTreeMap::from([(1, "cancelled"), (2, "failed"), (3, "cancelled")])
    );
}

#[tokio::test]
async fn nothing_starts_after_the_build_was_called_off() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a"]);
    let surroundings = bench.surroundings.clone();
    let lasting = Lasting::new(&graph, &surroundings);
    let around = (surroundings, lasting);
    let runner = Runner::new(keyed(graph), target, bench.options(), around);
    drop(runner.abort_guard());
    let made = runner.demand(target).await;
    assert!(matches!(made, Err(Failure::Cancelled)));
    assert!(bench.fake.ran().is_empty());
}

#[tokio::test]
async fn no_more_layers_are_read_at_once_than_jobs() {
    let mut bench = Bench::new();
    bench.jobs = 2;
    let (graph, target) = chain(&["a", "b", "c", "d", "e", "f"]);
    let mut options = bench.options();
    options.wanted.diff_id = false;
    let plan = keyed(graph);
    let surroundings = bench.surroundings.clone();
    let unread = make(plan.clone(), target, options, surroundings);
    assert_eq!(unread.await.layers.unwrap()[0].diff_id, None);
    bench.fake.most_packing.store(0, Ordering::SeqCst);
    let surroundings = bench.surroundings.clone();
    let read = make(plan, target, bench.options(), surroundings);
    assert!(
        read.await
            .layers
            .unwrap()
            .iter()
            .all(|layer| layer.diff_id.is_some())
    );
    assert_eq!(bench.fake.most_packing.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_build_without_cache_makes_layers_anew_for_those_that_follow() {
    let mut bench = Bench::new();
    let (graph, target) = chain(&["a"]);
    let old = bench.make(graph.clone(), target).await.unwrap();
    bench.no_cache = true;
    let new = bench.make(graph.clone(), target).await.unwrap();
    assert_ne!(old[0].id, new[0].id);
    bench.no_cache = false;
    assert_eq!(bench.make(graph, target).await.unwrap(), new);
}

#[tokio::test]
async fn an_earlier_layer_that_cannot_be_read_gives_way() {
    let bench = Bench::new();
    let (graph, target) = chain(&["same #1"]);
    let old = bench.make(graph, target).await.unwrap();
    bench.fake.lost.lock().unwrap().push(old[0].id);
    let (graph, target) = chain(&["same #2"]);
    let new = bench.make(graph, target).await.unwrap();
    assert_ne!(old[0].id, new[0].id);
    let content = content_of("same ");
    let noted = bench.surroundings.home.layer_with_content(&content);
    assert_eq!(noted.unwrap(), Some(new[0].id));
}

#[tokio::test]
async fn nodes_that_nobody_needs_are_not_made() {
    let bench = Bench::new();
    let mut plan = Plan::default();
    let base = plan.scratch();
    plan.run(base, "unused");
    let target = plan.run(base, "used");
    bench.make(plan.0, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["used"]);
}

#[tokio::test]
async fn a_failure_names_its_step_and_keeps_what_ran_beside_it() {
    let bench = Bench::new();
    let mut plan = Plan::default();
    let base = plan.scratch();
    let good = plan.run(base, "good");
    let after_good = plan.run(good, "after good");
    let bad = plan.run(base, "fail");
    let after_bad = plan.run(bad, "after fail");
    let target = plan.copy(after_good, after_bad, "p");
    let failure = bench.make(plan.0.clone(), target).await.unwrap_err();
    let Failure::Step(step) = failure else {
        panic!("{failure}")
    };
    assert_eq!(&*step.name, "node 3");
    assert_eq!(step.last_output, ["one", "two"]);
    let ran = bench.fake.ran();
    assert!(
        ran.contains(&"good".to_owned()) && !ran.contains(&"after fail".to_owned()),
        "{ran:?}"
    );
    let ends = bench.ends();
    assert_eq!(ends[&3], "failed");
    assert_eq!(ends[&4], "cancelled");
    assert_eq!(ends[&5], "cancelled");
    // What ran well is not run again.
    bench.make(plan.0, good).await.unwrap();
    assert!(bench.fake.ran().is_empty());
}

#[tokio::test]
async fn no_cache_runs_all_and_stores_it() {
    let mut bench = Bench::new();
    let (graph, target) = chain(&["a", "b"]);
    bench.make(graph.clone(), target).await.unwrap();
    bench.fake.ran();
    bench.no_cache = true;
    bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b"]);
    bench.no_cache = false;
    bench.make(graph, target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
}

#[tokio::test]
async fn a_lost_layer_is_made_again() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b"]);
    let made = bench.make(graph.clone(), target).await.unwrap();
    bench.fake.ran();
    bench.surroundings.home.forget_layer(&made[1].id).unwrap();
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["b"]);
}

#[tokio::test]
async fn two_builds_at_once_run_each_step_once() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b"]);
    let (one, two) = tokio::join!(
        bench.make(graph.clone(), target),
        bench.make(graph.clone(), target)
    );
    assert_eq!(bench.fake.ran(), ["a", "b"]);
    assert_eq!(one.unwrap(), two.unwrap());
}

#[tokio::test]
async fn dropping_the_build_calls_it_off() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b"]);
    let build = bench.make(graph, target);
    tokio::time::timeout(Duration::from_millis(5), build)
        .await
        .unwrap_err();
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(bench.fake.ran().is_empty());
}

#[tokio::test]
async fn a_long_chain_does_not_exhaust_the_stack() {
    let bench = Bench::new();
    let texts: Vec<String> = (0..1500).map(|n| format!("fail {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (graph, target) = chain(&texts);
    bench.make(graph, target).await.unwrap_err();
    assert_eq!(bench.fake.ran(), ["fail 0"]);
}

/// Sources from elsewhere: a file is of URL and content alike. Remembers what was fetched.
#[derive(Default)]
struct Elsewhere {
    fetched: Mutex<Vec<String>>,
}

impl Elsewhere {
    fn fetched(&self) -> Vec<String> {
        std::mem::take(&mut *self.fetched.lock().unwrap())
    }
}

impl RemoteSources for Elsewhere {
    fn resolve<'a>(
        &'a self,
        _source: &'a RemoteSource,
    ) -> BoxFuture<'a, Result<RemoteFiles, SourceError>> {
        unreachable!("a schedule is of what is resolved")
    }

    fn fetch<'a>(
        &'a self,
        files: &'a RemoteFiles,
        _output: Option<Arc<dyn StepOutput>>,
    ) -> BoxFuture<'a, Result<Arc<dyn ContextSource>, SourceError>> {
        let name = match files {
            RemoteFiles::Http(file) => file.source.file_name(),
            RemoteFiles::Git(commit) => commit.commit.clone(),
        };
        self.fetched.lock().unwrap().push(name.clone());
        Box::pin(async move {
            if name == "missing" {
                return Err(SourceError {
                    message: "no such file".to_owned(),
                    hint: Some("look elsewhere".to_owned()),
                    fault: Fault::Input,
                    cause: Some("the cause".into()),
                });
            }
            let root = format!("/{name}").into();
            Ok(Arc::new(Empty(root)) as Arc<dyn ContextSource>)
        })
    }
}

struct Empty(std::path::PathBuf);

impl ContextSource for Empty {
    fn root(&self) -> &std::path::Path {
        &self.0
    }

    fn select(&self, sources: &[SourceQuery]) -> Result<Vec<Arc<Selection>>, SourceError> {
        Ok(sources.iter().map(|_| Arc::default()).collect())
    }
}

fn url(name: &str) -> RemoteFiles {
    let url = format!("https://h/{name}");
    RemoteFiles::Http(HttpFile {
        digest: BlobDigest::of(name.as_bytes()),
        source: HttpSource::parse(&url).unwrap(),
    })
}

fn commit(id: &str) -> RemoteFiles {
    RemoteFiles::Git(GitCommit {
        source: GitSource::parse("https://h/x.git").unwrap().unwrap(),
        reference: "refs/heads/main".to_owned(),
        object: id.to_owned(),
        commit: id.to_owned(),
    })
}

/// ADD of something on what a command makes.
fn added(below: &str, remote: RemoteFiles) -> (Graph, NodeId) {
    let mut plan = Plan::default();
    let scratch = plan.scratch();
    let parent = plan.run(scratch, below);
    let copy = PlannedCopy {
        sources: vec![PlannedSource::Remote {
            remote: RemoteId::of(0),
            query: "/".into(),
            unpack: false,
        }],
        destination: "/".into(),
        owner: None,
        mode: None,
        unpack: true,
    };
    let target = plan.add(NodeKind::Step {
        parent,
        op: PlannedOp::Copy(copy),
    });
    plan.0.set_remotes(vec![remote]);
    (plan.0, target)
}

#[tokio::test]
async fn sources_from_elsewhere_are_fetched_only_for_steps_that_run() {
    let bench = Bench::new();
    let (graph, target) = added("below", url("file"));
    bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["add /file", "below"]);
    assert_eq!(bench.elsewhere.fetched(), ["file"]);
    bench.make(graph, target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
    assert!(bench.elsewhere.fetched().is_empty());
    // Another parent with the same content: the file's content is known without the file.
    let (graph, target) = added("below#again", url("file"));
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["below#again"]);
    assert!(bench.elsewhere.fetched().is_empty());
    let (graph, target) = added("below", url("other"));
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["add /other"]);
}

#[tokio::test]
async fn another_commit_with_the_same_files_is_as_good() {
    let bench = Bench::new();
    let (graph, target) = added("below", commit("one"));
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["add /one", "below"]);
    let (graph, target) = added("below", commit("two"));
    bench.make(graph.clone(), target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
    assert_eq!(bench.elsewhere.fetched(), ["one", "two"]);
    bench.make(graph, target).await.unwrap();
    assert!(bench.elsewhere.fetched().is_empty());
}

#[tokio::test]
async fn what_cannot_be_fetched_fails_its_step() {
    let bench = Bench::new();
    let (graph, target) = added("below", url("missing"));
    let failure = bench.make(graph, target).await.unwrap_err();
    let Failure::Step(step) = failure else {
        panic!("{failure:?}");
    };
    match &step.error {
        StepError::Input { message, hint } => {
            assert_eq!(message, "no such file: the cause");
            assert_eq!(hint.as_deref(), Some("look elsewhere"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_mounts_show_is_made_first_and_found_again() {
    let bench = Bench::new();
    let mut plan = Plan::default();
    let scratch = plan.scratch();
    let shown = plan.run(scratch, "shown");
    let shown = plan.run(shown, "also shown");
    let bound = plan.run_with(scratch, "bound", shown, MountKind::Bind);
    let target = plan.run_with(bound, "seeded", shown, MountKind::Cache);
    bench.make(plan.0.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["also shown", "bound", "seeded", "shown"]);
    assert_eq!(*bench.fake.mounted.lock().unwrap(), [2, 2]);
    let mut mounted = bench.fake.to_be_mounted.lock().unwrap().clone();
    mounted.sort();
    assert_eq!(mounted, ["also shown", "bound", "shown"]);
    bench.make(plan.0, target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
    assert!(bench.fake.forgotten.lock().unwrap().is_empty());
}

#[tokio::test]
async fn another_source_with_the_same_files_is_as_good() {
    let bench = Bench::new();
    let graph = |text: &str| {
        let mut plan = Plan::default();
        let scratch = plan.scratch();
        let shown = plan.run(scratch, text);
        let target = plan.run_with(scratch, "bound", shown, MountKind::Bind);
        (plan.0, target)
    };
    let (first, target) = graph("one");
    bench.make(first, target).await.unwrap();
    let (second, target) = graph("two");
    bench.make(second, target).await.unwrap();
    // The fake selects nothing of either.
    assert_eq!(bench.fake.ran(), ["bound", "one", "two"]);
}

#[tokio::test]
async fn without_cache_the_caches_of_mounts_are_emptied_once() {
    let mut bench = Bench::new();
    bench.no_cache = true;
    let mut plan = Plan::default();
    let scratch = plan.scratch();
    let target = plan.run_with(scratch, "seeded", scratch, MountKind::Cache);
    bench.make(plan.0, target).await.unwrap();
    assert_eq!(*bench.fake.forgotten.lock().unwrap(), ["the cache"]);
}

//! A farm of workers that are engines of their own, with stores of their own and a cache in common.

use ashlar_model::executor::OutputStream;

use super::sharing::{Machine, Service, filled, machine};
use super::*;
use crate::segment::{
    Segment, SegmentError, SegmentEvent, SegmentMade, SegmentRunner, SegmentWatch, moved,
};

/// What a farm does with a segment, if not its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It has no worker.
    NoWorker,
    /// It says that the work is done.
    Lies,
    /// It has lost a layer.
    Loses,
    /// It never comes to it.
    Waits,
}

#[derive(Debug)]
struct TestFarm {
    workers: Vec<(Bench, Arc<Machine>)>,
    next: AtomicUsize,
    /// The names of the steps of each segment, as they came.
    segments: Mutex<Vec<Vec<String>>>,
    after_loss: Mutex<Vec<bool>>,
    inputs: Mutex<Vec<usize>>,
    /// How many results the worker of each segment asked for, each time.
    probes: Mutex<Vec<Vec<usize>>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// By the name of a segment's last step.
    troubles: Mutex<HashMap<String, Trouble>>,
    /// Whether a trouble is over when it has been.
    passes: bool,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bench")
    }
}

/// A client that has a farm, the farm, and what the client asks of their cache.
fn farm(service: &Arc<Mutex<Service>>, workers: usize) -> (Bench, Arc<TestFarm>, Arc<Machine>) {
    let farm = Arc::new(TestFarm {
        workers: (0..workers).map(|_| machine(service)).collect(),
        next: AtomicUsize::new(0),
        segments: Mutex::default(),
        after_loss: Mutex::default(),
        inputs: Mutex::default(),
        probes: Mutex::default(),
        running: AtomicUsize::new(0),
        most_running: AtomicUsize::new(0),
        troubles: Mutex::default(),
        passes: true,
    });
    let (mut bench, asked) = machine(service);
    bench.surroundings.farm = Some(Farm {
        runner: farm.clone(),
        fall_back: false,
    });
    (bench, farm, asked)
}

impl TestFarm {
    /// What all workers ran.
    fn ran(&self) -> Vec<String> {
        let ran = self.workers.iter().flat_map(|(bench, _)| bench.fake.ran());
        let mut ran: Vec<String> = ran.collect();
        ran.sort();
        ran
    }

    fn segments(&self) -> Vec<Vec<String>> {
        let mut segments = std::mem::take(&mut *self.segments.lock().unwrap());
        segments.sort();
        segments
    }

    fn trouble(&self, name: &str, trouble: Trouble) {
        self.troubles
            .lock()
            .unwrap()
            .insert(name.to_owned(), trouble);
    }

    async fn work(
        &self,
        segment: &Segment,
        watch: Arc<dyn SegmentWatch>,
    ) -> Result<SegmentMade, SegmentError> {
        let names = segment
            .steps
            .iter()
            .map(|id| segment.graph.node(*id).name.to_string());
        self.segments.lock().unwrap().push(names.collect());
        self.after_loss.lock().unwrap().push(segment.after_loss);
        self.inputs.lock().unwrap().push(segment.inputs.len());
        let name = segment.name().to_string();
        let trouble = {
            let mut troubles = self.troubles.lock().unwrap();
            match self.passes {
                true => troubles.remove(&name),
                false => troubles.get(&name).copied(),
            }
        };
        match trouble {
            Some(Trouble::NoWorker) => {
                return Err(SegmentError::Farm {
                    message: "no worker is there".to_owned(),
                    hint: None,
                    source: None,
                });
            }
            Some(Trouble::Lies) => return Ok(SegmentMade::default()),
            Some(Trouble::Loses) => {
                return Err(SegmentError::Step {
                    node: segment.tip,
                    error: StepError::LayersLost { layers: Vec::new() },
                    last_output: Vec::new(),
                });
            }
            Some(Trouble::Waits) => {
                watch.event(SegmentEvent::Queued {
                    why: "others come first".to_owned(),
                });
                return std::future::pending().await;
            }
            None => {}
        }
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let (bench, machine) = &self.workers[number % self.workers.len()];
        watch.event(SegmentEvent::Assigned {
            worker: number.to_string(),
            attempt: 1,
        });
        let mut surroundings = bench.surroundings.clone();
        surroundings.events = Arc::new(Told {
            graph: Arc::clone(&segment.graph),
            watch,
        });
        let mut options = bench.options();
        options.audience = match segment.after_loss {
            true => Audience::FarmAfterLoss,
            false => Audience::Farm,
        };
        let own: Arc<HashSet<NodeId>> = Arc::new(segment.steps.iter().copied().collect());
        options.own = Some(Arc::clone(&own));
        if segment.no_cache {
            options.fresh = Fresh::Segment(own);
        }
        let plan = KeyedGraph {
            graph: Arc::clone(&segment.graph),
            keys: Arc::clone(&segment.keys),
            scope: Arc::clone(&segment.scope),
        };
        let made = make(plan, segment.tip, options, surroundings).await;
        // As the cache takes what it is offered and lacks.
        let asked = machine.asked();
        let probes = asked.probes.iter().map(Vec::len).collect();
        self.probes.lock().unwrap().push(probes);
        for offered in asked.offered {
            machine.publish(offered, None);
        }
        let fates = made.fates.unwrap_or_default();
        match made.layers {
            Ok(layers) => Ok(SegmentMade {
                fates: segment
                    .steps
                    .iter()
                    .map(|id| (*id, fates[id.index()]))
                    .collect(),
                layers: layers.iter().filter_map(moved).collect(),
            }),
            Err(Failure::Step(step)) => Err(SegmentError::Step {
                node: step.node.unwrap_or(segment.tip),
                error: match &step.error {
                    StepError::Failed { command, status } => StepError::Failed {
                        command: command.clone(),
                        status: *status,
                    },
                    StepError::LayersLost { layers } => StepError::LayersLost {
                        layers: layers.clone(),
                    },
                    other => panic!("{other:?}"),
                },
                last_output: step.last_output.clone(),
            }),
            Err(failure) => panic!("{failure:?}"),
        }
    }
}

impl SegmentRunner for TestFarm {
    fn run<'a>(
        &'a self,
        segment: &'a Segment,
        watch: Arc<dyn SegmentWatch>,
    ) -> BoxFuture<'a, Result<SegmentMade, SegmentError>> {
        struct Running<'a>(&'a AtomicUsize);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        Box::pin(async move {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            let _running = Running(&self.running);
            self.most_running.fetch_max(now, Ordering::SeqCst);
            self.work(segment, watch).await
        })
    }
}

/// A worker's events as the client gets them. Vertices are nodes here.
struct Told {
    graph: Arc<Graph>,
    watch: Arc<dyn SegmentWatch>,
}

impl EventSink for Told {
    fn emit(&self, event: BuildEvent) {
        let node = |vertex: VertexId| {
            let mut nodes = self.graph.nodes().map(|(id, _)| id);
            nodes.nth(vertex.0 as usize).unwrap()
        };
        let event = match event {
            BuildEvent::Started { vertex } => SegmentEvent::Started(node(vertex)),
            BuildEvent::Cached { vertex } => SegmentEvent::Cached(node(vertex)),
            BuildEvent::Finished { vertex, elapsed } => SegmentEvent::Finished {
                node: node(vertex),
                elapsed,
            },
            BuildEvent::Failed {
                vertex,
                elapsed,
                error,
            } => SegmentEvent::Failed {
                node: node(vertex),
                elapsed,
                error: error.to_string(),
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
        };
        self.watch.event(event);
    }
}

fn contents(layers: &[LayerRecord]) -> Vec<Option<ContentDigest>> {
    layers.iter().map(|layer| layer.content).collect()
}

/// Stages that do not need each other (vertices 1 to 4), and what is copied from each (5 to 8).
fn stages(texts: [&str; 4]) -> (Graph, NodeId) {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let stages = texts.map(|text| plan.run(base, text));
    let mut target = base;
    for (stage, text) in stages.into_iter().zip(texts) {
        target = plan.copy(target, stage, text);
    }
    (plan.0, target)
}

#[tokio::test]
async fn stages_run_at_once_and_nothing_runs_here() {
    let (graph, target) = stages(["a", "b", "c", "d"]);
    let (bench, farm, asked) = farm(&Arc::default(), 4);
    let made = bench.make(graph.clone(), target).await.unwrap();
    let all = ["a", "b", "c", "copy a", "copy b", "copy c", "copy d", "d"];
    assert_eq!(farm.ran(), all);
    assert!(bench.fake.ran().is_empty());
    assert_eq!(farm.most_running.load(Ordering::SeqCst), 4);
    let segments = farm.segments();
    assert_eq!(segments.len(), 5);
    assert!(segments.contains(&vec!["node 1".to_owned(), "node 5".to_owned()]));
    assert!(segments.contains(&["node 6", "node 7", "node 8"].map(str::to_owned).into()));
    assert_eq!(
        bench.ends(),
        (1..=8).map(|vertex| (vertex, "finished")).collect()
    );
    // All is asked for once, and what is wanted once more.
    assert_eq!(asked.asked().probes.len(), 2);
    let local = Bench::new().make(graph.clone(), target).await.unwrap();
    assert_eq!(contents(&made), contents(&local));

    // What is in the cache asks nothing of the farm, for whoever comes.
    let again = bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(again, made);
    let (other, idle, asked) = self::farm(&farm.workers[0].1.service, 1);
    assert_eq!(other.make(graph, target).await.unwrap(), made);
    assert!(farm.segments().is_empty() && idle.segments().is_empty());
    assert_eq!(asked.asked().probes.len(), 1);
    assert!(other.ends().values().all(|end| *end == "cached"));
}

#[tokio::test]
async fn a_chain_stays_where_it_is() {
    let (graph, target) = chain(&["a", "b", "c"]);
    let (bench, farm, _) = farm(&Arc::default(), 2);
    bench.make(graph, target).await.unwrap();
    assert_eq!(farm.segments(), [["node 1", "node 2", "node 3"]]);
    assert_eq!(farm.workers[0].0.fake.ran(), ["a", "b", "c"]);

    // What was found is what the rest stands on: its layers decide where that goes.
    let (graph, target) = chain(&["a", "b", "x"]);
    farm.inputs.lock().unwrap().clear();
    bench.make(graph, target).await.unwrap();
    assert_eq!(farm.segments(), [["node 3"]]);
    assert_eq!(*farm.inputs.lock().unwrap(), [2]);
    // The worker has asked for no more than that.
    assert_eq!(*farm.probes.lock().unwrap(), [vec![3], vec![2]]);
}

#[tokio::test]
async fn a_step_that_fails_is_shown_as_if_it_had_run_here() {
    let (graph, target) = stages(["a", "fail b", "c", "d"]);
    let (bench, farm, _) = farm(&Arc::default(), 4);
    let failure = bench.make(graph.clone(), target).await.unwrap_err();
    let Failure::Step(step) = &failure else {
        panic!("{failure:?}");
    };
    assert!(matches!(
        step.error,
        StepError::Failed {
            status: ExitStatus::Code(3),
            ..
        }
    ));
    assert_eq!(
        (&*step.name, &step.last_output[..]),
        ("node 2", &["one".to_owned(), "two".to_owned()][..])
    );
    // What ran has ended, what stands on it has not begun.
    let mut ran = farm.ran();
    // It may have begun before.
    ran.retain(|text| text != "copy a");
    assert_eq!(ran, ["a", "c", "d", "fail b"]);
    let ends = bench.ends();
    assert_eq!(
        (ends[&1], ends[&2], ends[&3]),
        ("finished", "failed", "finished")
    );
    assert!(
        (6..=8).all(|vertex| ends[&vertex] == "cancelled"),
        "{ends:?}"
    );
    // And is kept.
    let (graph, target) = stages(["a", "b", "c", "d"]);
    bench.make(graph, target).await.unwrap();
    let ran = farm.ran();
    assert!(
        ran.contains(&"b".to_owned()) && !ran.contains(&"a".to_owned()),
        "{ran:?}"
    );
}

#[tokio::test]
async fn what_waits_for_a_worker_is_called_off_when_something_fails() {
    let (graph, target) = stages(["a", "fail b", "c", "d"]);
    let (bench, farm, _) = farm(&Arc::default(), 4);
    farm.trouble("node 4", Trouble::Waits);
    let failure = tokio::time::timeout(Duration::from_secs(10), bench.make(graph, target));
    assert!(matches!(failure.await.unwrap(), Err(Failure::Step(_))));
    assert_eq!(farm.running.load(Ordering::SeqCst), 0);
    let events = bench.recorder.0.lock().unwrap();
    let queued = events.iter().any(|event| {
        matches!(event, BuildEvent::Queued { vertex, why } if vertex.0 == 4 && why.contains("others"))
    });
    assert!(queued);
    drop(events);
    assert_eq!(bench.ends()[&4], "cancelled");
}

#[tokio::test]
async fn dropping_a_build_calls_its_segments_off() {
    let (graph, target) = stages(["a", "b", "c", "d"]);
    let (bench, farm, _) = farm(&Arc::default(), 4);
    for name in ["node 2", "node 3", "node 4"] {
        farm.trouble(name, Trouble::Waits);
    }
    let made = tokio::time::timeout(Duration::from_millis(200), bench.make(graph, target));
    made.await.unwrap_err();
    assert_eq!(farm.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_loss_leads_to_another_round() {
    let (graph, target) = chain(&["a", "b"]);
    let (bench, farm, _) = farm(&Arc::default(), 1);
    farm.trouble("node 2", Trouble::Loses);
    bench.make(graph, target).await.unwrap();
    assert_eq!(*farm.after_loss.lock().unwrap(), [false, true]);
    assert_eq!(
        bench.ends(),
        BTreeMap::from([(1, "finished"), (2, "finished")])
    );
}

#[tokio::test]
async fn losses_have_an_end() {
    let (graph, target) = chain(&["a", "b"]);
    let (mut bench, farm, _) = farm(&Arc::default(), 1);
    let mut farm = Arc::into_inner({
        bench.surroundings.farm = None;
        farm
    })
    .unwrap();
    farm.passes = false;
    let farm = Arc::new(farm);
    bench.surroundings.farm = Some(Farm {
        runner: farm.clone(),
        fall_back: false,
    });
    farm.trouble("node 2", Trouble::Loses);
    let failure = bench.make(graph.clone(), target).await.unwrap_err();
    assert!(failure.lost_layers().is_some());
    assert_eq!(farm.segments().len(), 5);
    assert_eq!(bench.ends()[&2], "failed");

    // A farm that has never made what it says is asked three times.
    farm.trouble("node 2", Trouble::Lies);
    let failure = bench.make(graph, target).await.unwrap_err();
    let Failure::Farm(why) = failure else {
        panic!("{failure:?}");
    };
    assert_eq!(why.fault, FarmFault::Vanished);
    assert!(why.message.contains("node 2"), "{why}");
    assert_eq!(farm.segments().len(), 3);
}

#[tokio::test]
async fn what_the_cache_has_lost_is_sent_again_by_who_has_it() {
    let (graph, target) = chain(&["a", "b"]);
    let service: Arc<Mutex<Service>> = Arc::default();
    let (bench, farm, _) = farm(&service, 1);
    let first = bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(farm.ran(), ["a", "b"]);
    service.lock().unwrap().clear();
    let second = bench.make(graph, target).await.unwrap();
    assert!(farm.ran().is_empty());
    assert_eq!(contents(&first), contents(&second));
}

#[tokio::test]
async fn a_worker_makes_again_what_it_knows_of_and_nobody_has() {
    let (graph, target) = chain(&["a", "b"]);
    // Another machine has made it: the worker has only records.
    let service = filled(&graph, target).await;
    let (bench, farm, _) = farm(&service, 1);
    let (worker, _) = &farm.workers[0];
    worker.make(graph.clone(), target).await.unwrap();
    assert!(farm.ran().is_empty());
    service.lock().unwrap().clear();
    bench.make(graph, target).await.unwrap();
    assert_eq!(farm.ran(), ["a", "b"]);
}

#[tokio::test]
async fn without_cache_each_step_runs_once_and_on_what_is_new() {
    let (graph, target) = stages(["a", "b", "c", "d"]);
    let service: Arc<Mutex<Service>> = Arc::default();
    let (mut bench, farm, _) = farm(&service, 2);
    let first = bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(farm.ran().len(), 8);
    bench.no_cache = true;
    let second = bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(farm.ran().len(), 8);
    assert_eq!(contents(&first), contents(&second));
    assert!(
        first
            .iter()
            .zip(&second)
            .all(|(one, other)| one.diff_id != other.diff_id)
    );
    // What is new took the place of what was there.
    bench.no_cache = false;
    assert_eq!(bench.make(graph, target).await.unwrap(), second);
    assert!(farm.ran().is_empty());
}

#[tokio::test]
async fn equal_steps_are_given_away_once() {
    let mut plan = Plan::default();
    let base = plan.scratch();
    let one = plan.run(base, "same");
    let two = plan.run(base, "same");
    let left = plan.run(one, "left");
    let right = plan.run(two, "right");
    let target = plan.copy(left, right, "x");
    let (bench, farm, _) = farm(&Arc::default(), 2);
    bench.make(plan.0, target).await.unwrap();
    assert_eq!(farm.ran(), ["copy x", "left", "right", "same"]);
    let ends = bench.ends();
    assert_eq!((ends[&1], ends[&2]), ("finished", "cached"));
}

#[tokio::test]
async fn linked_layers_come_together_here() {
    let (graph, target) = linked(&["a", "b"], "linked", "after");
    let stack = graph.node(target).inputs()[0];
    let (bench, farm, _) = farm(&Arc::default(), 2);
    let made = bench.make(graph.clone(), stack).await.unwrap();
    assert_eq!(farm.ran(), ["a", "b", "linked"]);
    let local = Bench::new().make(graph, stack).await.unwrap();
    assert_eq!(contents(&made), contents(&local));
}

#[tokio::test]
async fn without_a_farm_the_build_goes_on_here_if_it_may() {
    let (graph, target) = chain(&["a", "b"]);
    for fall_back in [false, true] {
        let (mut bench, farm, _) = farm(&Arc::default(), 1);
        bench.surroundings.farm.as_mut().unwrap().fall_back = fall_back;
        farm.trouble("node 2", Trouble::NoWorker);
        let made = bench.make(graph.clone(), target).await;
        let warnings = {
            let events = bench.recorder.0.lock().unwrap();
            let is_warning = |event: &&BuildEvent| matches!(event, BuildEvent::Warning { .. });
            events.iter().filter(is_warning).count()
        };
        if fall_back {
            made.unwrap();
            assert_eq!(
                (bench.fake.ran(), warnings),
                (vec!["a".to_owned(), "b".to_owned()], 1)
            );
            assert!(bench.ends().values().all(|end| *end == "finished"));
        } else {
            let failure = made.unwrap_err();
            assert!(matches!(&failure, Failure::Farm(why) if why.fault == FarmFault::NotDone));
            assert!(bench.fake.ran().is_empty());
            assert!(bench.ends().values().all(|end| *end == "cancelled"));
        }
    }
}

#[tokio::test]
async fn fates_are_those_of_a_local_build() {
    let (graph, target) = chain(&["a", "same #1", "c", "d"]);
    let (bench, _farm, _) = farm(&Arc::default(), 1);
    use Fate::{Found, FoundByContent, Missed, Ran};
    assert_eq!(
        bench.fates(&graph, target).await,
        Some(vec![Found, Ran, Ran, Ran, Ran])
    );
    let (graph, target) = chain(&["a", "same #2", "c", "fail"]);
    let fates = bench.fates(&graph, target).await.unwrap();
    assert_eq!(fates, [Found, Found, Ran, FoundByContent, Missed]);
    let (graph, target) = chain(&["a", "same #2", "c"]);
    assert_eq!(bench.fates(&graph, target).await, Some(vec![Found; 4]));
    assert_eq!(bench.fates(&graph, target).await, None);
}

#[tokio::test]
async fn output_passes_through() {
    let (graph, target) = chain(&["fail"]);
    let (bench, _farm, _) = farm(&Arc::default(), 1);
    bench.make(graph, target).await.unwrap_err();
    let events = bench.recorder.0.lock().unwrap();
    let output = events.iter().find_map(|event| match event {
        BuildEvent::Output {
            vertex,
            stream,
            bytes,
        } => Some((vertex.0, *stream, bytes.clone())),
        _ => None,
    });
    assert_eq!(
        output,
        Some((1, OutputStream::Stderr, b"one\ntwo\n".to_vec()))
    );
}

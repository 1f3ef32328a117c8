//! Results of other machines: what is asked, what is told, and how often.

use ashlar_model::digest::{ContentKey, DefinitionKey, InstructionKey};
use ashlar_store::home::results::{DefinitionResult, Word};

use super::*;
use crate::share::{
    Belief, FoundLayer, Leave, MadeResult, Probed, ResultKey, StepLease, WaitingSink,
};

/// What all machines share.
#[derive(Debug, Default)]
pub(super) struct Service {
    results: HashMap<DefinitionKey, Vec<LayerRecord>>,
    contents: HashMap<ContentKey, LayerRecord>,
    instructions: HashSet<InstructionKey>,
}

/// What another machine that runs a step comes to, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Makes(Duration),
    Dies(Duration),
    Lies,
    Hangs,
}

/// One machine's view, which remembers what it was asked.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) service: Arc<Mutex<Service>>,
    home: Mutex<Option<Home>>,
    pub(super) asked: Mutex<Asked>,
    /// Steps that others run: by name.
    holders: Mutex<HashMap<String, Holder>>,
    /// Whether everything is wanted.
    wants: AtomicBool,
    /// Whether nothing is taken on anybody's bare word.
    strict: AtomicBool,
    leases: Arc<AtomicUsize>,
    /// Layers that it has lost, if it is asked for them.
    pub(super) gone: Mutex<HashSet<LayerId>>,
}

#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) probes: Vec<Vec<DefinitionKey>>,
    contents: usize,
    leaves: Vec<String>,
    pub(super) published: Vec<MadeResult>,
    pub(super) offered: Vec<MadeResult>,
    pub(super) distrusted: Vec<LayerId>,
}

#[derive(Debug)]
struct Lease(Arc<AtomicUsize>);

impl StepLease for Lease {}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service {
    /// Loses everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Machine {
    fn home(&self) -> Home {
        self.home.lock().unwrap().clone().unwrap()
    }

    pub(super) fn asked(&self) -> Asked {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn names(results: &[MadeResult]) -> Vec<String> {
        let mut names: Vec<String> = results.iter().map(|one| one.name.clone()).collect();
        names.sort();
        names
    }

    /// Puts what others have made into the store, unless it is lost.
    fn adopt(&self, key: &DefinitionKey) -> bool {
        let home = self.home();
        let service = self.service.lock().unwrap();
        let Some(records) = service.results.get(key) else {
            return false;
        };
        let asked = self.asked.lock().unwrap();
        let stack: Vec<LayerId> = records.iter().map(|record| record.id).collect();
        if stack.iter().any(|layer| asked.distrusted.contains(layer)) {
            return false;
        }
        for record in records {
            if home.layer(&record.id).unwrap().is_none() {
                home.put_layer(record).unwrap();
            }
        }
        let word = Word::Bare(None);
        home.put_definition_result(key, &DefinitionResult { stack, word })
            .unwrap();
        true
    }
}

impl SharedResults for Machine {
    fn probe<'a>(
        &'a self,
        definitions: &'a [DefinitionKey],
        instructions: &'a [InstructionKey],
    ) -> BoxFuture<'a, Probed> {
        Box::pin(async move {
            let asked = definitions.to_vec();
            self.asked.lock().unwrap().probes.push(asked);
            let unique: HashSet<_> = instructions.iter().collect();
            assert_eq!(unique.len(), instructions.len());
            let found = definitions.iter().filter(|key| self.adopt(key));
            let definitions = found.copied().collect();
            let service = self.service.lock().unwrap();
            let ran = |key: &&InstructionKey| service.instructions.contains(*key);
            Probed {
                definitions,
                instructions: instructions.iter().filter(ran).copied().collect(),
            }
        })
    }

    fn by_content<'a>(&'a self, key: &'a ContentKey) -> BoxFuture<'a, Option<FoundLayer>> {
        Box::pin(async move {
            self.asked.lock().unwrap().contents += 1;
            let record = self.service.lock().unwrap().contents.get(key).cloned()?;
            self.home().put_layer(&record).unwrap();
            Some(FoundLayer {
                layer: record.id,
                word: Word::Bare(None),
            })
        })
    }

    fn belief(&self, _key: ResultKey<'_>, _word: &Word) -> Belief {
        if self.strict.load(Ordering::SeqCst) {
            Belief::Refused
        } else {
            Belief::Taken
        }
    }

    fn refusal(&self, _definition: &DefinitionKey) -> Option<String> {
        None
    }

    fn demands_proof(&self) -> bool {
        self.strict.load(Ordering::SeqCst)
    }

    fn leave<'a>(
        &'a self,
        definition: &'a DefinitionKey,
        name: &'a str,
        waiting: WaitingSink<'a>,
    ) -> BoxFuture<'a, Leave> {
        Box::pin(async move {
            self.asked.lock().unwrap().leaves.push(name.to_owned());
            let holder = self.holders.lock().unwrap().get(name).copied();
            if holder.is_some() {
                waiting("the other machine");
            }
            match holder {
                Some(Holder::Makes(after)) => {
                    tokio::time::sleep(after).await;
                    assert!(self.adopt(definition));
                    return Leave::Made;
                }
                Some(Holder::Lies) => return Leave::Made,
                Some(Holder::Dies(after)) => tokio::time::sleep(after).await,
                Some(Holder::Hangs) => std::future::pending().await,
                None => {}
            }
            self.leases.fetch_add(1, Ordering::SeqCst);
            Leave::Run(Some(Box::new(Lease(Arc::clone(&self.leases)))))
        })
    }

    fn publish(&self, result: MadeResult, lease: Option<Box<dyn StepLease>>) {
        let home = self.home();
        let mut service = self.service.lock().unwrap();
        let shared = |layer: &LayerId| {
            let record = home.layer(layer).unwrap().unwrap();
            if !record.origin.is_of_step() {
                return record;
            }
            let diff_id = record.diff_id.unwrap_or(DiffId::of(layer.as_bytes()));
            LayerRecord::of_shared(diff_id, 1, record.content.unwrap(), Vec::new())
        };
        let records: Vec<LayerRecord> = result.stack.iter().map(shared).collect();
        let own = records.last().unwrap().clone();
        service.contents.insert(result.content.unwrap(), own);
        service.results.insert(result.definition, records);
        service.instructions.insert(result.instruction);
        drop(service);
        self.asked.lock().unwrap().published.push(result);
        drop(lease);
    }

    fn wants(&self, _definition: &DefinitionKey) -> bool {
        self.wants.load(Ordering::SeqCst)
    }

    fn offer(&self, result: MadeResult) {
        self.asked.lock().unwrap().offered.push(result);
    }

    fn lost<'a>(&'a self, layers: &'a [LayerId]) -> BoxFuture<'a, Vec<LayerId>> {
        let gone = self.gone.lock().unwrap();
        let lost = layers.iter().filter(|layer| gone.contains(*layer));
        let lost = lost.copied().collect();
        Box::pin(async move { lost })
    }

    fn distrust(&self, layers: &[LayerId]) {
        let distrusted = &mut self.asked.lock().unwrap().distrusted;
        distrusted.extend_from_slice(layers);
    }
}

/// A machine of its own, with a store of its own.
pub(super) fn machine(service: &Arc<Mutex<Service>>) -> (Bench, Arc<Machine>) {
    let mut bench = Bench::new();
    let machine = Arc::new(Machine {
        service: Arc::clone(service),
        home: Mutex::new(Some(bench.surroundings.home.clone())),
        ..Machine::default()
    });
    bench.surroundings.shared = Some(machine.clone());
    (bench, machine)
}

/// A service that one machine has filled.
pub(super) async fn filled(graph: &Graph, target: NodeId) -> Arc<Mutex<Service>> {
    let service = Arc::default();
    let (bench, machine) = machine(&service);
    bench.make(graph.clone(), target).await.unwrap();
    assert!(!machine.asked().published.is_empty());
    service
}

#[tokio::test]
async fn a_hit_at_the_tip_asks_once_and_runs_nothing() {
    let (graph, target) = chain(&["a", "b", "c"]);
    let service = filled(&graph, target).await;
    let (bench, machine) = machine(&service);
    let made = bench.make(graph.clone(), target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
    assert_eq!(made.len(), 3);
    let asked = machine.asked();
    let keys = keys(&graph);
    let tip_first = [keys[3], keys[2], keys[1]].map(|keys| keys.definition);
    assert_eq!(asked.probes, [tip_first]);
    assert_eq!((asked.contents, asked.leaves.len()), (0, 0));
    assert!(asked.published.is_empty() && asked.offered.is_empty());
    // Nothing was read either: what the other machine knows does.
    assert_eq!(bench.fake.most_packing.load(Ordering::SeqCst), 0);
    assert_eq!(
        bench.ends(),
        BTreeMap::from([(1, "cached"), (2, "cached"), (3, "cached")])
    );
}

#[tokio::test]
async fn what_is_here_is_asked_of_nobody() {
    let (graph, target) = chain(&["a", "b"]);
    let (bench, machine) = machine(&Arc::default());
    bench.make(graph.clone(), target).await.unwrap();
    machine.asked();
    bench.make(graph, target).await.unwrap();
    let asked = machine.asked();
    assert!(asked.probes.is_empty() && asked.leaves.is_empty());
    assert_eq!(asked.contents, 0);
    assert!(asked.published.is_empty() && asked.offered.is_empty());
    // Of what follows, only what is missing is asked for: nothing below what is here.
    let (graph, target) = chain(&["a", "b", "c", "d"]);
    bench.make(graph.clone(), target).await.unwrap();
    let keys = keys(&graph);
    let missing = [keys[4], keys[3]].map(|keys| keys.definition);
    assert_eq!(machine.asked().probes, [missing]);
}

#[tokio::test]
async fn what_was_made_before_the_cache_was_there_is_offered_at_the_tip() {
    let (graph, target) = chain(&["a", "b"]);
    let (mut bench, machine) = machine(&Arc::default());
    let shared = bench.surroundings.shared.take();
    let made = bench.make(graph.clone(), target).await.unwrap();
    bench.surroundings.shared = shared;
    machine.wants.store(true, Ordering::SeqCst);
    bench.make(graph.clone(), target).await.unwrap();
    let asked = machine.asked();
    assert!(asked.probes.is_empty() && asked.published.is_empty());
    let [offered] = &asked.offered[..] else {
        panic!("{:?}", asked.offered);
    };
    assert_eq!(offered.definition, keys(&graph)[2].definition);
    assert_eq!(offered.stack, [made[0].id, made[1].id]);
    let below = [content_of("a")];
    let key = crate::key::content_key(&offered.instruction, &below, &[]);
    assert_eq!(offered.content, Some(key));
}

#[tokio::test]
async fn a_changed_step_runs_and_what_follows_it_and_both_are_published() {
    let (graph, target) = chain(&["a", "b", "c"]);
    let service = filled(&graph, target).await;
    let (bench, machine) = machine(&service);
    let (changed, target) = chain(&["a", "x", "c"]);
    let made = bench.make(changed.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["c", "x"]);
    let asked = machine.asked();
    assert_eq!(asked.probes.len(), 1);
    assert_eq!(asked.leaves, ["node 2", "node 3"]);
    // `c` ran elsewhere, on something else.
    assert_eq!(asked.contents, 1);
    let ids: Vec<LayerId> = made.iter().map(|layer| layer.id).collect();
    for (depth, result) in [(2, &asked.published[0]), (3, &asked.published[1])] {
        assert_eq!(result.definition, keys(&changed)[depth].definition);
        assert_eq!(result.stack, ids[..depth]);
    }
    assert_eq!(asked.published.len(), 2);
    assert_eq!(machine.leases.load(Ordering::SeqCst), 0);
    let (third, _) = self::machine(&service);
    third.make(changed, target).await.unwrap();
    assert!(third.fake.ran().is_empty());
}

#[tokio::test]
async fn what_stands_on_a_bare_word_is_nobodys_own() {
    let (graph, target) = chain(&["a", "b"]);
    let service = Arc::default();
    let (bench, machine) = machine(&service);
    bench.make(graph, target).await.unwrap();
    let words = |asked: Asked| -> Vec<Word> {
        let published = asked.published.into_iter();
        published.map(|result| result.word).collect()
    };
    assert_eq!(words(machine.asked()), [Word::Own, Word::Own]);

    let (graph, target) = chain(&["a", "b", "c", "d"]);
    let (bench, machine) = self::machine(&service);
    bench.make(graph.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["c", "d"]);
    assert_eq!(words(machine.asked()), [Word::Bare(None), Word::Bare(None)]);
    let home = &bench.surroundings.home;
    let stored = home.result_by_definition(&keys(&graph)[4].definition);
    assert_eq!(stored.unwrap().unwrap().word, Word::Bare(None));
}

#[tokio::test]
async fn who_demands_proof_runs_what_the_store_has_on_a_bare_word() {
    let (graph, target) = chain(&["a", "b"]);
    let service = filled(&graph, target).await;
    let (bench, machine) = machine(&service);
    let (more, tip) = chain(&["a", "b", "c"]);
    bench.make(more.clone(), tip).await.unwrap();
    assert_eq!(bench.fake.ran(), ["c"]);
    machine.strict.store(true, Ordering::SeqCst);
    // What the service has is on its bare word as well.
    *service.lock().unwrap() = Service::default();
    bench.make(more.clone(), tip).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b", "c"]);
    let published = machine.asked().published;
    let last: Vec<&Word> = published
        .iter()
        .rev()
        .take(3)
        .map(|one| &one.word)
        .collect();
    assert_eq!(last, [&Word::Own; 3]);
    // Now it is this machine's own.
    bench.make(more, tip).await.unwrap();
    assert!(bench.fake.ran().is_empty());
}

#[tokio::test]
async fn equal_content_is_found_elsewhere_and_told() {
    let (graph, target) = chain(&["a", "same #1", "c", "d"]);
    let service = filled(&graph, target).await;
    let (bench, machine) = machine(&service);
    let (changed, target) = chain(&["a", "same #2", "c", "d"]);
    bench.make(changed.clone(), target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["same #2"]);
    let asked = machine.asked();
    // Not asked for the command that never ran anywhere.
    assert_eq!((asked.probes.len(), asked.contents), (1, 2));
    assert_eq!(asked.leaves, ["node 2"]);
    assert_eq!(
        Machine::names(&asked.published),
        ["node 2", "node 3", "node 4"]
    );
    // Known here by content as well, from now on.
    let home = bench.surroundings.home.clone();
    let instruction = keys(&changed)[3].instruction.unwrap();
    assert!(home.instruction_ever_ran(&instruction));
    let (third, machine) = self::machine(&service);
    third.make(changed, target).await.unwrap();
    assert!(third.fake.ran().is_empty());
    assert_eq!(machine.asked().contents, 0);
}

#[tokio::test]
async fn a_step_that_another_machine_runs_is_waited_for_and_named() {
    let (graph, target) = chain(&["a"]);
    let service = filled(&graph, target).await;
    let (bench, machine) = machine(&service);
    // It was not there yet when it was asked for.
    let made = std::mem::take(&mut *service.lock().unwrap());
    let holder = Holder::Makes(Duration::from_millis(50));
    machine
        .holders
        .lock()
        .unwrap()
        .insert("node 1".into(), holder);
    let late = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        *service.lock().unwrap() = made;
    };
    let (made, ()) = tokio::join!(bench.make(graph, target), late);
    made.unwrap();
    assert!(bench.fake.ran().is_empty());
    assert!(machine.asked().published.is_empty());
    let named = |event: &BuildEvent| {
        matches!(event, BuildEvent::Waiting { holder: Some(holder), .. }
            if &**holder == "the other machine")
    };
    assert!(bench.recorder.0.lock().unwrap().iter().any(named));
    assert_eq!(bench.ends(), BTreeMap::from([(1, "cached")]));
}

#[tokio::test]
async fn who_waits_leaves_its_place_to_others() {
    let (mut bench, machine) = machine(&Arc::default());
    bench.jobs = 1;
    let mut plan = Plan::default();
    let base = plan.scratch();
    let held = plan.run(base, "held");
    let other = plan.run(base, "other");
    let target = plan.copy(held, other, "p");
    let holder = Holder::Dies(Duration::from_millis(100));
    machine
        .holders
        .lock()
        .unwrap()
        .insert("node 1".into(), holder);
    bench.make(plan.0, target).await.unwrap();
    // In the order in which they ran.
    let ran = std::mem::take(&mut *bench.fake.ran.lock().unwrap());
    assert_eq!(ran, ["other", "held", "copy p"]);
    assert_eq!(bench.fake.most_running.load(Ordering::SeqCst), 1);
    assert_eq!(machine.asked().published.len(), 3);
}

#[tokio::test]
async fn a_result_that_is_not_there_after_all_is_made() {
    let (bench, machine) = machine(&Arc::default());
    machine
        .holders
        .lock()
        .unwrap()
        .insert("node 1".into(), Holder::Lies);
    let (graph, target) = chain(&["a", "b"]);
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b"]);
    assert_eq!(machine.asked().leaves, ["node 1", "node 2"]);
}

#[tokio::test]
async fn a_failure_ends_the_waiting() {
    let (bench, machine) = machine(&Arc::default());
    let mut plan = Plan::default();
    let base = plan.scratch();
    let held = plan.run(base, "held");
    let bad = plan.run(base, "fail");
    let target = plan.copy(held, bad, "p");
    machine
        .holders
        .lock()
        .unwrap()
        .insert("node 1".into(), Holder::Hangs);
    let build = bench.make(plan.0, target);
    let failure = tokio::time::timeout(Duration::from_secs(5), build).await;
    assert!(matches!(failure.unwrap(), Err(Failure::Step(_))));
    assert_eq!(
        bench.ends(),
        BTreeMap::from([(1, "cancelled"), (2, "failed"), (3, "cancelled")])
    );
}

#[tokio::test]
async fn failures_are_not_published_and_give_their_leave_back() {
    let (bench, machine) = machine(&Arc::default());
    let (graph, target) = chain(&["a", "fail"]);
    bench.make(graph, target).await.unwrap_err();
    let asked = machine.asked();
    assert_eq!(asked.leaves, ["node 1", "node 2"]);
    assert_eq!(Machine::names(&asked.published), ["node 1"]);
    assert_eq!(machine.leases.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn without_cache_nothing_is_asked_and_all_is_published() {
    let (graph, target) = chain(&["a", "b"]);
    let service = filled(&graph, target).await;
    let (mut bench, machine) = machine(&service);
    bench.no_cache = true;
    bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b"]);
    let asked = machine.asked();
    assert!(asked.probes.is_empty() && asked.leaves.is_empty());
    assert_eq!(asked.contents, 0);
    assert_eq!(Machine::names(&asked.published), ["node 1", "node 2"]);
    assert!(asked.published.iter().all(|one| one.replaces));
}

#[tokio::test]
async fn other_stages_and_stacks_are_asked_for_in_the_same_go() {
    let graph = |linked: &str, stage: &str| {
        let (graph, stacked) = linked_graph(linked);
        let mut plan = Plan(graph);
        let scratch = plan.scratch();
        let stage = plan.run(scratch, stage);
        let target = plan.copy(stacked, stage, "p");
        (plan.0, target)
    };
    let (first, target) = graph("linked", "stage");
    let service = filled(&first, target).await;
    let (bench, machine) = machine(&service);
    let (second, target) = graph("linked", "other stage");
    bench.make(second, target).await.unwrap();
    // The copy's files are as before.
    assert_eq!(bench.fake.ran(), ["other stage"]);
    let asked = machine.asked();
    assert_eq!(asked.probes.len(), 1);
    assert_eq!(asked.probes[0].len(), 5);
}

fn linked_graph(above: &str) -> (Graph, NodeId) {
    linked(&["a"], above, "after")
}

#[tokio::test]
async fn what_cannot_be_the_layers_of_a_step_is_no_result_of_it() {
    let (graph, target) = chain(&["a", "b"]);
    let tip = keys(&graph)[2].definition;
    let changes: [fn(&mut Vec<LayerRecord>); 2] = [
        |stack| drop(stack.remove(0)),
        |stack| stack.push(stack[0].clone()),
    ];
    for change in changes {
        let service = filled(&graph, target).await;
        service.lock().unwrap().contents.clear();
        change(service.lock().unwrap().results.get_mut(&tip).unwrap());
        let (bench, machine) = machine(&service);
        assert_eq!(bench.make(graph.clone(), target).await.unwrap().len(), 2);
        assert_eq!(bench.fake.ran(), ["b"]);
        assert!(machine.asked().published[0].replaces);
    }

    // The layers of another image are where those of this one should be.
    let pulled = |name: &[u8]| {
        let blob = StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, BlobDigest::of(name), 1),
            compression: ashlar_model::media_type::Compression::Gzip,
            level: None,
        };
        LayerRecord::of_image(DiffId::of(name), blob, None)
    };
    let (own, other) = (pulled(b"own"), pulled(b"other"));
    let mut plan = Plan::default();
    let base = plan.add(NodeKind::Base(Base {
        key: scratch_key(),
        layers: vec![own.id],
        image: None,
    }));
    let target = plan.run(base, "a");
    for (below, ran) in [(&own, &[][..]), (&other, &["a"][..])] {
        let (bench, machine) = machine(&Arc::default());
        for record in [&own, &other] {
            bench.surroundings.home.put_layer(record).unwrap();
        }
        bench.make(plan.0.clone(), target).await.unwrap();
        assert_eq!(bench.fake.ran(), ["a"]);
        let key = keys(&plan.0)[1].definition;
        let change = |service: &mut Service| {
            service.contents.clear();
            service.results.get_mut(&key).unwrap()[0] = below.clone();
        };
        change(&mut machine.service.lock().unwrap());
        let (second, _) = self::machine(&machine.service);
        second.surroundings.home.put_layer(&own).unwrap();
        second.make(plan.0.clone(), target).await.unwrap();
        assert_eq!(second.fake.ran(), ran);
    }
}

//! Layers that are known, and whose files are gone.

use ashlar_model::executor::BlobForm;
use ashlar_model::media_type::Compression;

use super::sharing::{filled, machine};
use super::*;
use crate::share::MadeResult;

impl Bench {
    fn lose(&self, layers: &[LayerId]) {
        self.fake.lost.lock().unwrap().extend(layers);
    }

    /// Builds for an output that needs blobs of all layers.
    async fn compress(&self, graph: &Graph, target: NodeId) -> Result<Vec<LayerRecord>, Failure> {
        let mut options = self.options();
        options.wanted.blobs = vec![BlobForm {
            compression: Compression::Gzip,
            level: 6,
        }];
        let plan = keyed(graph.clone());
        let made = make(plan, target, options, self.surroundings.clone());
        tokio::time::timeout(Duration::from_secs(20), made)
            .await
            .unwrap()
            .layers
    }
}

#[tokio::test]
async fn a_lost_layer_that_an_output_needs_is_made_again_and_only_it() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b", "c"]);
    let old = bench.make(graph.clone(), target).await.unwrap();
    bench.fake.ran();
    bench.ends();
    bench.lose(&[old[1].id]);
    let new = bench.compress(&graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["b"]);
    assert_eq!([new[0].id, new[2].id], [old[0].id, old[2].id]);
    assert_ne!(new[1].id, old[1].id);
    assert!(new.iter().all(|layer| layer.blobs.len() == 1));
    // And it is known from now on.
    bench.compress(&graph, target).await.unwrap();
    assert!(bench.fake.ran().is_empty());
}

#[tokio::test]
async fn a_lost_layer_that_a_step_needs_is_made_again_and_only_it() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b", "c"]);
    let old = bench.make(graph, target).await.unwrap();
    bench.fake.ran();
    bench.ends();
    bench.lose(&[old[0].id]);
    let (graph, target) = chain(&["a", "b", "c", "d"]);
    let new = bench.make(graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "d"]);
    assert_eq!([new[1].id, new[2].id], [old[1].id, old[2].id]);
    let events = std::mem::take(&mut *bench.recorder.0.lock().unwrap());
    let bad = |event: &&BuildEvent| {
        matches!(
            event,
            BuildEvent::Failed { .. } | BuildEvent::Cancelled { .. }
        )
    };
    assert_eq!(events.iter().filter(bad).count(), 0, "{events:?}");
    let last = |number: u32| {
        let mut events = events.iter().rev();
        events.find_map(|event| match event {
            BuildEvent::Cached { vertex } if vertex.0 == number => Some("cached"),
            BuildEvent::Finished { vertex, .. } if vertex.0 == number => Some("finished"),
            _ => None,
        })
    };
    assert_eq!(
        [1, 2, 3, 4].map(last),
        ["finished", "cached", "cached", "finished"].map(Some)
    );
}

#[tokio::test]
async fn what_runs_beside_a_loss_is_kept() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a"]);
    let old = bench.make(graph, target).await.unwrap();
    bench.fake.ran();
    bench.lose(&[old[0].id]);
    let mut plan = Plan::default();
    let base = plan.scratch();
    let below = plan.run(base, "a");
    let branch = plan.run(base, "beside");
    let above = plan.run(below, "b");
    let target = plan.copy(above, branch, "p");
    bench.make(plan.0, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b", "beside", "copy p"]);
}

#[tokio::test]
async fn a_lost_layer_that_a_lookup_reads_is_made_again() {
    let bench = Bench::new();
    let graph = |below: &str| {
        let mut plan = Plan::default();
        let base = plan.scratch();
        let stage = plan.run(base, "stage");
        let below = plan.run(base, below);
        let target = plan.copy(below, stage, "p");
        (plan.0, target, stage)
    };
    let (first, target, stage) = graph("one");
    bench.make(first.clone(), target).await.unwrap();
    let stage = bench.make(first, stage).await.unwrap();
    bench.fake.ran();
    bench.lose(&[stage[0].id]);
    let (second, target, _) = graph("two");
    bench.make(second, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["copy p", "stage", "two"]);
}

#[tokio::test]
async fn layers_that_are_lost_one_after_the_other_are_all_made_again() {
    let bench = Bench::new();
    let texts = ["a", "b", "c", "d", "e", "f"];
    let (graph, target) = chain(&texts);
    let old = bench.make(graph.clone(), target).await.unwrap();
    bench.fake.ran();
    // The records go one by one, as each is looked at.
    bench.lose(&old.iter().map(|layer| layer.id).collect::<Vec<_>>());
    bench.compress(&graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), texts);
}

#[tokio::test]
async fn a_store_that_keeps_nothing_ends_the_build() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "lost"]);
    bench.fake.loses_all.store(true, Ordering::SeqCst);
    let failure = bench.compress(&graph, target).await.unwrap_err();
    assert!(failure.lost_layers().is_some(), "{failure:?}");
    assert!(bench.fake.ran().len() <= 2);
}

#[tokio::test]
async fn layers_of_a_base_are_not_made_and_not_forgotten() {
    let bench = Bench::new();
    let home = &bench.surroundings.home;
    let layer = home.new_layer_id().unwrap();
    let mut record = LayerRecord::made_by_step(layer);
    record.content = Some(content_of("base"));
    home.put_layer(&record).unwrap();
    let mut plan = Plan::default();
    let base = plan.add(NodeKind::Base(Base {
        key: scratch_key(),
        layers: vec![layer],
        image: None,
    }));
    let target = plan.run(base, "a");
    bench.lose(&[layer]);
    let failure = bench.make(plan.0, target).await.unwrap_err();
    assert_eq!(failure.lost_layers(), Some(&[layer][..]));
    assert_eq!(bench.ends(), BTreeMap::from([(1, "failed")]));
    assert!(home.layer(&layer).unwrap().is_some());
}

#[tokio::test]
async fn a_failing_step_counts_more_than_a_loss() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a"]);
    let old = bench.make(graph, target).await.unwrap();
    bench.ends();
    bench.fake.ran();
    bench.lose(&[old[0].id]);
    let mut plan = Plan::default();
    let base = plan.scratch();
    let below = plan.run(base, "a");
    let above = plan.run(below, "b");
    let bad = plan.run(base, "fail");
    let target = plan.copy(above, bad, "p");
    let failure = bench.make(plan.0.clone(), target).await.unwrap_err();
    assert_eq!(failure.lost_layers(), None);
    let ends = bench.ends();
    assert_eq!((ends[&3], ends[&4]), ("failed", "cancelled"), "{ends:?}");
    // It is forgotten all the same.
    bench.fake.ran();
    bench.make(plan.0, above).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b"]);
}

#[tokio::test]
async fn a_shared_layer_that_has_vanished_is_made_here_and_shared_anew() {
    let (graph, target) = chain(&["a", "b", "c"]);
    let service = filled(&graph, target).await;
    let (bench, one) = machine(&service);
    let first = bench.make(graph.clone(), target).await.unwrap();
    let lost = first[1].id;
    bench.lose(&[lost]);
    let made = bench.compress(&graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["b"]);
    assert_eq!([made[0].id, made[2].id], [first[0].id, first[2].id]);
    let asked = one.asked();
    assert_eq!(asked.distrusted, [lost]);
    // Once for the first build; once for what was lost.
    assert_eq!(asked.probes.len(), 2);
    let stacks: Vec<usize> = asked.published.iter().map(|one| one.stack.len()).collect();
    assert_eq!(stacks, [2, 3]);
    assert!(asked.published.iter().all(|one| !one.stack.contains(&lost)));
    // Another machine is not led astray.
    let (next, _) = machine(&service);
    next.lose(&[lost]);
    next.compress(&graph, target).await.unwrap();
    assert!(next.fake.ran().is_empty());
}

#[tokio::test]
async fn what_else_is_lost_of_a_build_is_made_again_in_the_same_round() {
    let (graph, target) = chain(&["a", "b", "c"]);
    let service = filled(&graph, target).await;
    let (bench, one) = machine(&service);
    let first = bench.make(graph.clone(), target).await.unwrap();
    // `b` is needed, as a step stands on it; `a` only lies below.
    bench.lose(&[first[1].id]);
    one.gone.lock().unwrap().insert(first[0].id);
    bench.compress(&graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b"]);
    let asked = one.asked();
    assert_eq!(asked.probes.len(), 2);
    let lost = [first[0].id, first[1].id];
    let is_lost = |one: &MadeResult| one.stack.iter().any(|layer| lost.contains(layer));
    assert_eq!(asked.distrusted.len(), 2);
    assert!(!asked.published.iter().any(is_lost));
    // The whole of it is sound for the next machine.
    let (next, _) = machine(&service);
    next.lose(&lost);
    next.compress(&graph, target).await.unwrap();
    assert!(next.fake.ran().is_empty());
}

#[tokio::test]
async fn a_cache_that_has_lost_everything_costs_only_the_steps() {
    let texts = ["a", "b", "c", "d"];
    let (graph, target) = chain(&texts);
    let service = filled(&graph, target).await;
    let (bench, _) = machine(&service);
    let known = bench.make(graph.clone(), target).await.unwrap();
    bench.lose(&known.iter().map(|layer| layer.id).collect::<Vec<_>>());
    let (graph, target) = chain(&["a", "b", "c", "d", "e"]);
    bench.compress(&graph, target).await.unwrap();
    assert_eq!(bench.fake.ran(), ["a", "b", "c", "d", "e"]);
}

//! What a build says of its lookups, and what is explained with it.

use super::*;
use crate::explain::{BuildRecord, Cause, StoredBuild, explain};

impl Bench {
    pub(super) async fn fates(&self, graph: &Graph, target: NodeId) -> Option<Vec<Fate>> {
        let plan = keyed(graph.clone());
        let made = make(plan, target, self.options(), self.surroundings.clone());
        made.await.fates
    }
}

#[tokio::test]
async fn a_build_that_finds_all_says_nothing() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "b"]);
    let fates = bench.fates(&graph, target).await;
    assert_eq!(fates, Some(vec![Fate::Found, Fate::Ran, Fate::Ran]));
    assert_eq!(bench.fates(&graph, target).await, None);
}

#[tokio::test]
async fn what_another_machine_made_is_remembered_for_later() {
    let (graph, target) = chain(&["a", "b"]);
    let service = sharing::filled(&graph, target).await;
    let (bench, _) = sharing::machine(&service);
    let fates = bench.fates(&graph, target).await;
    assert_eq!(fates, Some(vec![Fate::Found; 3]));
    assert_eq!(bench.fates(&graph, target).await, None);
}

#[tokio::test]
async fn each_step_has_its_fate() {
    let bench = Bench::new();
    let (graph, target) = chain(&["a", "same #1", "c", "d"]);
    bench.make(graph, target).await.unwrap();
    let (graph, target) = chain(&["a", "same #2", "c", "fail"]);
    let fates = bench.fates(&graph, target).await.unwrap();
    use Fate::{Found, FoundByContent, Missed, Ran};
    assert_eq!(fates, [Found, Found, Ran, FoundByContent, Missed]);
}

#[tokio::test]
async fn what_ran_is_explained_by_the_build_before() {
    let bench = Bench::new();
    let scope = KeyScope {
        isolation: String::new(),
        platform: Platform::new("linux", "amd64", None),
    };
    let mut records = Vec::new();
    for texts in [["a", "b", "c"], ["a", "x", "c"]] {
        let (graph, target) = chain(&texts);
        let fates = bench.fates(&graph, target).await.unwrap();
        let keys = keys(&graph);
        let record = BuildRecord::new(&graph, &keys, &scope, &fates, false);
        record.store(&bench.surroundings.home).unwrap();
        records = crate::explain::builds(&bench.surroundings.home).unwrap();
    }
    let [StoredBuild { record, .. }, earlier @ ..] = &records[..] else {
        panic!("{records:?}");
    };
    let explained = explain(record, earlier);
    let steps: Vec<&str> = explained.iter().map(|one| one.step.as_str()).collect();
    assert_eq!(steps, ["node 2", "node 3"]);
    let inputs = explained.iter().map(|one| match &one.cause {
        Cause::Differs { differences, .. } => {
            let inputs = differences.iter().map(|one| one.input.as_str());
            inputs.collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    });
    let inputs: Vec<Vec<&str>> = inputs.collect();
    assert_eq!(inputs, [vec!["command"], vec!["filesystem"]]);
}

//! `du`, `prune`.

use super::environment::TestEnvironment;

/// Two images, a cached result beside them, and a layer that nobody needs.
fn environment() -> TestEnvironment {
    let environment = TestEnvironment::with_images();
    let base = environment.home.images().unwrap()[0].layers[0];
    let cached = environment.layer("RUN cached", 10);
    environment.result(1, &[base, cached]);
    environment.layer("RUN orphan", 10);
    environment
}

#[test]
fn du_tells_what_is_needed() {
    let environment = environment();
    let lines = environment.run(&["du", "--format", "json"]).json_lines();
    let trees = lines
        .iter()
        .find(|line| line["Type"] == "Layer trees")
        .unwrap();
    assert_eq!(trees["Count"], 4);
    for kind in ["InUse", "Cached", "Unused"] {
        assert!(trees[kind].as_u64().unwrap() >= 5000, "{trees}");
    }
    let table = environment.run(&["du"]).stdout();
    assert!(table.starts_with("TYPE"), "{table}");
    assert!(table.contains("\nTotal "), "{table}");
}

#[test]
fn du_tells_what_images_share() {
    let environment = environment();
    let table = environment.run(&["du", "-v"]).stdout();
    assert!(table.contains("SHARED SIZE"), "{table}");
    let lines = environment
        .run(&["du", "-v", "--format", "json"])
        .json_lines();
    let of = |name: &str| lines.iter().find(|line| line["Image"] == name).unwrap();
    let (app, base) = (of("app:1"), of("localhost:5000/team/base:2"));
    assert_eq!(app["Shared"], base["Shared"]);
    assert!(app["Unique"].as_u64() > base["Unique"].as_u64());
}

#[test]
fn prune_removes_what_nobody_needs() {
    let environment = environment();
    let said = environment.run(&["prune", "--force"]).stdout();
    assert!(
        said.starts_with("Removed 1 layer\nRemoved 1 blob\n"),
        "{said}"
    );
    assert!(said.contains("Total reclaimed space: "), "{said}");
    assert_eq!(environment.home.layer_ids().unwrap().len(), 3);
    assert_eq!(
        environment.run(&["prune", "--force"]).stdout(),
        "Total reclaimed space: 0B\n"
    );
}

#[test]
fn prune_all_removes_cached_results_and_keeps_images() {
    let environment = environment();
    // Standard input is no terminal: nobody can be asked.
    let removed = environment
        .run(&["prune", "--all", "--format", "json"])
        .json_lines();
    assert_eq!(removed[0]["Results"], 1);
    assert_eq!(removed[0]["Layers"], 2);
    assert_eq!(removed[0]["OnlyLeftovers"], false);
    assert!(removed[0]["Freed"].as_u64().unwrap() >= 10_000);
    assert_eq!(environment.names().len(), 2);
    environment.run(&["inspect", "app:1"]).stdout();

    let gone = ["app:1", "localhost:5000/team/base:2"];
    environment.run(&["rmi", gone[0], gone[1]]).stdout();
    environment.run(&["prune", "--all", "-f"]).stdout();
    assert!(environment.home.layer_ids().unwrap().is_empty());
    assert!(environment.home.blobs().list().unwrap().is_empty());
}

#[test]
fn prune_keeps_as_much_as_it_is_told() {
    let environment = environment();
    environment
        .run(&["prune", "-f", "--keep-storage", "1GB"])
        .stdout();
    assert_eq!(environment.home.layer_ids().unwrap().len(), 3);
    environment
        .run(&["prune", "-f", "--keep-storage", "1kB"])
        .stdout();
    assert_eq!(environment.home.layer_ids().unwrap().len(), 2);
}

//! The files, and what they are made of.

use std::fs;
use std::path::{Path, PathBuf};

use yaml_rust2::{Yaml, YamlLoader};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.parent().expect("a workspace").to_owned()
}

/// A file of `examples/farm`.
pub(crate) fn path(name: &str) -> PathBuf {
    root().join("examples/farm").join(name)
}

pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a file.
pub(crate) fn documents(name: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The only document of a file.
pub(crate) fn document(name: &str) -> Yaml {
    let mut documents = documents(name);
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// All files below `examples/farm` with an ending.
pub(crate) fn all(ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![path("")];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let entry = entry.expect("an entry").path();
            if entry.is_dir() {
                pending.push(entry);
            } else if entry.extension().is_some_and(|it| it == ending) {
                let name = entry.strip_prefix(path("")).expect("below");
                found.push(name.to_str().expect("a name").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A list; empty if it is none.
pub(crate) fn list(yaml: &Yaml) -> &[Yaml] {
    yaml.as_vec().map_or(&[], Vec::as_slice)
}

/// A text.
#[track_caller]
pub(crate) fn string(yaml: &Yaml) -> &str {
    yaml.as_str().unwrap_or_else(|| panic!("no text: {yaml:?}"))
}

#[test]
fn every_file_can_be_read() {
    let yaml = all("yaml");
    assert!(yaml.len() > 12, "{yaml:?}");
    for name in yaml {
        for document in documents(&name) {
            assert!(!document.is_badvalue() && !document.is_null(), "{name}");
        }
    }
    let json: serde_json::Value =
        serde_json::from_str(&text("grafana-dashboard.json")).expect("JSON");
    assert!(json["panels"].as_array().is_some_and(|all| all.len() > 20));
}

#[test]
fn what_is_linked_is_there() {
    for page in ["examples/farm/README.md", "docs/farm.md"] {
        let page = root().join(page);
        let text = fs::read_to_string(&page).expect("a page");
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let mut count = 0;
        for link in links.filter(|link| !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            let target = page.parent().expect("a directory").join(file);
            assert!(target.exists(), "{}: {link}", page.display());
            count += 1;
        }
        assert!(count >= 5, "{}", page.display());
    }
}

#[test]
fn the_cluster_and_the_single_machine_have_the_same_alerts() {
    let plain = document("compose/rules.yaml");
    let wrapped = document("kubernetes/alerts.yaml");
    assert_eq!(plain["groups"], wrapped["spec"]["groups"]);
    assert!(list(&plain["groups"][0]["rules"]).len() > 8);
}

#[test]
fn all_manifests_are_applied() {
    let named = document("kubernetes/kustomization.yaml");
    let mut named: Vec<_> = list(&named["resources"]).iter().map(string).collect();
    named.sort_unstable();
    let there = all("yaml");
    let there = there
        .iter()
        .filter_map(|name| name.strip_prefix("kubernetes/"));
    // The secret is an example: whoever applies it has replaced it.
    let own = ["kustomization.yaml", "secret.example.yaml"];
    let there: Vec<_> = there.filter(|name| !own.contains(name)).collect();
    assert_eq!(named, there);
}

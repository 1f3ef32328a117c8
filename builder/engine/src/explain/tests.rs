use std::sync::Arc;
use std::time::SystemTime;

use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata};
use ashlar_model::platform::Platform;
use ashlar_model::step::{Network, RunSpec, Security, SelectedItem, Selection};
use ashlar_store::home::Home;

use super::*;
use crate::event::VertexId;
use crate::graph::{
    Base, Graph, Node, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedRun, PlannedSource,
};
use crate::key::{KeyScope, graph_keys, scratch_key};
use crate::schedule::Fate;

/// A Dockerfile with one stage.
struct Stage {
    graph: Graph,
    last: NodeId,
}

impl Stage {
    fn new(base: &[u8]) -> Self {
        let mut graph = Graph::default();
        let key = if base.is_empty() {
            scratch_key()
        } else {
            blake3::hash(base).into()
        };
        let last = graph.add(Node {
            vertex: VertexId(0),
            name: "[1/9] FROM base".into(),
            range: None,
            kind: NodeKind::Base(Base {
                key,
                layers: Vec::new(),
                image: None,
            }),
        });
        Self { graph, last }
    }

    fn step(mut self, text: &str, op: PlannedOp) -> Self {
        let number = self.graph.len() + 1;
        self.last = self.graph.add(Node {
            vertex: VertexId(u32::try_from(number - 1).unwrap()),
            name: format!("[{number}/9] {text}").into(),
            range: None,
            kind: NodeKind::Step {
                parent: self.last,
                op,
            },
        });
        self
    }

    fn run(self, text: &str, env: &[(&str, &str)]) -> Self {
        let pairs = env.iter();
        let spec = RunSpec {
            args: vec!["/bin/sh".into(), "-c".into(), text.into()],
            env: pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            unkeyed_env: vec![("http_proxy".into(), "http://user:password@proxy".into())],
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
        let sources = Vec::new();
        let op = PlannedOp::Run(Box::new(PlannedRun { spec, sources }));
        self.step(&format!("RUN {text}"), op)
    }

    fn copy(self, files: &[(&str, &str, u16)]) -> Self {
        let entries = files.iter().map(|(path, body, mode)| Entry {
            path: LayerPath::new(path.as_bytes()).unwrap(),
            kind: EntryKind::File {
                size: 1,
                digest: Some(blake3::hash(body.as_bytes()).into()),
            },
            metadata: Metadata {
                mode: *mode,
                ..Metadata::default()
            },
        });
        let root = Entry {
            path: LayerPath::ROOT,
            kind: EntryKind::Directory { opaque: false },
            metadata: Metadata::default(),
        };
        let selection = Arc::new(Selection {
            items: vec![SelectedItem {
                name: b"src".to_vec(),
                path: LayerPath::new(b"src").unwrap(),
                entries: std::iter::once(root).chain(entries).collect(),
                ways: Vec::new(),
            }],
        });
        let op = PlannedOp::Copy(PlannedCopy {
            sources: vec![PlannedSource::Directory {
                root: "/context".into(),
                selection,
            }],
            destination: "/src/".into(),
            owner: None,
            mode: None,
            unpack: false,
        });
        self.step("COPY src /src/", op)
    }

    /// What is written down if only the first steps were found.
    fn record(&self, found: usize) -> BuildRecord {
        self.record_with(found, Fate::Ran)
    }

    fn record_with(&self, found: usize, rest: Fate) -> BuildRecord {
        let scope = KeyScope {
            isolation: String::new(),
            platform: Platform::new("linux", "amd64", None),
        };
        let keys = graph_keys(&self.graph, &scope);
        let fate = |index| if index <= found { Fate::Found } else { rest };
        let fates: Vec<Fate> = (0..self.graph.len()).map(fate).collect();
        BuildRecord::new(&self.graph, &keys, &scope, &fates, false)
    }
}

fn before(records: &[BuildRecord]) -> Vec<StoredBuild> {
    let stored = records.iter().map(|record| StoredBuild {
        time: SystemTime::UNIX_EPOCH,
        record: record.clone(),
    });
    stored.collect()
}

fn differences(explanation: &Explanation) -> &[Difference] {
    match &explanation.cause {
        Cause::Differs { differences, .. } => differences,
        other => panic!("{other:?}"),
    }
}

const SOURCES: [(&str, &str, u16); 3] = [("a", "1", 0o644), ("b", "2", 0o644), ("c", "3", 0o644)];

#[test]
fn changed_files_are_named_and_what_follows_blames_the_copy() {
    let old = Stage::new(b"").copy(&SOURCES).run("make", &[]).record(0);
    let changed = [("a", "1", 0o644), ("b", "x", 0o644), ("d/e", "4", 0o755)];
    let new = Stage::new(b"").copy(&changed).run("make", &[]).record(0);
    let explained = explain(&new, &before(&[old]));
    assert_eq!(explained.len(), 2);
    assert_eq!(explained[0].step, "[2/9] COPY src /src/");
    let files = |path: &str, change| FileChange {
        path: path.to_owned(),
        change,
    };
    assert_eq!(
        differences(&explained[0]),
        [Difference {
            input: "files of the context".into(),
            change: Change::Files {
                files: vec![
                    files("/src/b", FileChangeKind::Content),
                    files("/src/c", FileChangeKind::Removed),
                    files("/src/d/e", FileChangeKind::Added),
                ]
            }
        }]
    );
    assert_eq!(
        differences(&explained[1]),
        [Difference {
            input: "filesystem".into(),
            change: Change::Filesystem {
                of: "[2/9] COPY src /src/".into(),
                was: None,
                missed: true,
                base: false,
            }
        }]
    );
}

#[test]
fn a_mode_is_told_from_content() {
    let old = Stage::new(b"").copy(&[("a", "1", 0o644)]).record(0);
    let new = Stage::new(b"").copy(&[("a", "1", 0o755)]).record(0);
    let explained = explain(&new, &before(&[old]));
    let [Difference { change, .. }] = differences(&explained[0]) else {
        panic!("{explained:?}");
    };
    let Change::Files { files } = change else {
        panic!("{change:?}");
    };
    assert_eq!(files[0].change, FileChangeKind::Metadata);
}

#[test]
fn variables_are_compared_one_by_one() {
    let old = Stage::new(b"").run("make", &[("A", "1"), ("B", "2"), ("C", "3")]);
    let new = Stage::new(b"").run("make", &[("A", "1"), ("B", "x"), ("D", "4")]);
    let explained = explain(&new.record(0), &before(&[old.record(0)]));
    assert_eq!(
        differences(&explained[0]),
        [Difference {
            input: "environment".into(),
            change: Change::Values {
                removed: vec!["B=2".into(), "C=3".into()],
                added: vec!["B=x".into(), "D=4".into()],
            }
        }]
    );
}

#[test]
fn what_enters_no_key_is_not_written_down() {
    let record = Stage::new(b"").run("make", &[]).record(0);
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains("password"), "{text}");
}

#[test]
fn another_command_and_another_image_are_named() {
    let old = Stage::new(b"one").run("make", &[]).run("test", &[]);
    let new = Stage::new(b"two").run("make", &[]).run("test -v", &[]);
    let explained = explain(&new.record(0), &before(&[old.record(0)]));
    assert_eq!(
        differences(&explained[0])[0].change,
        Change::Filesystem {
            of: "[1/9] FROM base".into(),
            was: None,
            missed: false,
            base: true,
        }
    );
    let command = &differences(&explained[1])[0];
    assert_eq!(command.input, "command");
    assert_eq!(
        command.change,
        Change::Values {
            removed: vec!["test".into()],
            added: vec!["test -v".into()],
        }
    );
}

#[test]
fn a_step_that_moved_is_found_by_what_it_does() {
    let old = Stage::new(b"").run("one", &[]).run("two", &[]);
    let new = Stage::new(b"")
        .run("one", &[])
        .run("between", &[])
        .run("two", &[]);
    let explained = explain(&new.record(1), &before(&[old.record(0)]));
    let two = explained.last().unwrap();
    let Cause::Differs { step, .. } = &two.cause else {
        panic!("{two:?}");
    };
    assert_eq!(step, "[3/9] RUN two");
    assert_eq!(
        differences(two)[0].change,
        Change::Filesystem {
            of: "[3/9] RUN between".into(),
            was: Some("[2/9] RUN one".into()),
            missed: true,
            base: false,
        }
    );
}

#[test]
fn the_same_dockerfile_comes_before_others_and_results_before_failures() {
    let old = Stage::new(b"").run("one", &[]).run("make", &[("A", "1")]);
    let other = Stage::new(b"")
        .run("something", &[])
        .run("make", &[("A", "2")]);
    let new = Stage::new(b"").run("one", &[]).run("make", &[("A", "3")]);
    let records = [
        new.record_with(1, Fate::Missed),
        other.record(0),
        old.record(0),
    ];
    let explained = explain(&new.record(1), &before(&records));
    let Cause::Differs { earlier, .. } = &explained[0].cause else {
        panic!("{explained:?}");
    };
    assert_eq!(*earlier, EarlierBuild(3));
}

#[test]
fn what_was_never_built_is_new_and_what_was_lost_is_gone() {
    let build = Stage::new(b"").run("one", &[]).run("two", &[]);
    let explained = explain(&build.record(0), &[]);
    assert!(explained.iter().all(|one| one.cause == Cause::New));
    let explained = explain(&build.record(0), &before(&[build.record(0)]));
    let earlier = EarlierBuild(1);
    let gone = |one: &Explanation| one.cause == Cause::Gone { earlier };
    assert!(explained.iter().all(gone), "{explained:?}");
    let mut record = build.record(0);
    record.no_cache = true;
    let explained = explain(&record, &before(&[build.record(0)]));
    assert!(explained.iter().all(|one| one.cause == Cause::NoCache));
}

#[test]
fn very_many_files_are_told_by_their_directories() {
    let name = |number: usize| format!("{}/{number}", number % 7);
    // In the order of a walk.
    let mut names: Vec<String> = (0..5000).map(name).collect();
    names.sort();
    let files = |changed: &str| {
        let files = names.iter().map(|name| {
            let body = if name == changed { "x" } else { "y" };
            (name.as_str(), body, 0o644)
        });
        Stage::new(b"").copy(&files.collect::<Vec<_>>()).record(0)
    };
    let (old, new) = (files(""), files("5/12"));
    assert!(serde_json::to_string(&new).unwrap().len() < 20_000);
    let explained = explain(&new, &before(&[old]));
    let [Difference { change, .. }] = differences(&explained[0]) else {
        panic!("{explained:?}");
    };
    let below = FileChange {
        path: "/src/5/".into(),
        change: FileChangeKind::Content,
    };
    assert_eq!(*change, Change::Files { files: vec![below] });
}

#[test]
fn the_last_builds_are_kept_and_damaged_records_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let build = |text: &str| Stage::new(b"").run(text, &[]).record(0);
    for number in 0..30 {
        build(&number.to_string()).store(&home).unwrap();
    }
    let stored = builds(&home).unwrap();
    assert_eq!(stored.len(), 24);
    assert_eq!(stored[0].record, build("29"));
    assert_eq!(stored[23].record, build("6"));
    for entry in std::fs::read_dir(home.hints()).unwrap() {
        std::fs::write(entry.unwrap().path(), "damage").unwrap();
    }
    assert!(builds(&home).unwrap().is_empty());
    std::fs::remove_dir_all(home.hints()).unwrap();
    assert!(builds(&home).unwrap().is_empty());
    build("again").store(&home).unwrap();
    assert_eq!(builds(&home).unwrap().len(), 1);
}

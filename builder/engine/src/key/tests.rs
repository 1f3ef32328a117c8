use std::sync::Arc;

use ashlar_model::digest::{DiffId, LayerId};
use ashlar_model::layer::{Entry, EntryKind, LayerPath, Metadata};
use ashlar_model::mount::{
    BindMount, CacheMount, CacheSharing, MountSource, MountSpec, OptionalOwner, Owner, SecretFile,
    SecretMount, SshMount, TmpfsMount,
};
use ashlar_model::remote::{GitCommit, GitSource, HttpFile, HttpSource};
use ashlar_model::step::{ExtraHost, Script, SelectedItem, Selection, Ulimit};

use super::*;
use crate::event::VertexId;
use crate::graph::{Base, PlannedRun, RemoteId};

fn scope() -> KeyScope {
    KeyScope {
        isolation: "ids".to_owned(),
        platform: Platform::new("linux", "amd64", None),
    }
}

fn run_spec() -> RunSpec {
    RunSpec {
        args: vec!["/bin/sh".into(), "-c".into(), "true".into()],
        env: vec![("PATH".into(), "/bin".into())],
        unkeyed_env: Vec::new(),
        cwd: "/".into(),
        user: String::new(),
        network: Network::Host,
        hostname: "h".into(),
        extra_hosts: Vec::new(),
        script: None,
        mounts: Vec::new(),
        security: Security::Sandbox,
        ulimits: Vec::new(),
    }
}

fn planned(spec: RunSpec) -> PlannedRun {
    PlannedRun {
        spec,
        sources: Vec::new(),
    }
}

fn file(name: &str, mode: u16, body: &[u8]) -> Entry {
    Entry {
        path: LayerPath::new(name.as_bytes()).unwrap(),
        kind: EntryKind::File {
            size: body.len() as u64,
            digest: Some(blake3::hash(body).into()),
        },
        metadata: Metadata {
            mode,
            ..Metadata::default()
        },
    }
}

fn copy_of(entry: Entry) -> PlannedCopy {
    PlannedCopy {
        sources: vec![PlannedSource::Directory {
            root: "/context".into(),
            selection: Arc::new(Selection {
                items: vec![SelectedItem {
                    name: b"f".to_vec(),
                    path: LayerPath::new(b"f").unwrap(),
                    entries: vec![entry],
                    ways: Vec::new(),
                }],
            }),
        }],
        destination: "/d".into(),
        owner: None,
        mode: None,
        unpack: false,
    }
}

fn run_key(change: impl FnOnce(&mut RunSpec)) -> InstructionKey {
    let mut spec = run_spec();
    change(&mut spec);
    instruction_key(&PlannedOp::Run(Box::new(planned(spec))), &scope())
}

fn copy_key(change: impl FnOnce(&mut PlannedCopy)) -> InstructionKey {
    let mut copy = copy_of(file("", 0o644, b"x"));
    change(&mut copy);
    instruction_key(&PlannedOp::Copy(copy), &scope())
}

/// Pins the format: if one of these changes, change the context strings too.
#[test]
fn golden_vectors() {
    let mounts = vec![
        MountSpec::Bind(bind()),
        MountSpec::Cache(cache()),
        MountSpec::Secret(secret()),
        MountSpec::Ssh(ssh()),
    ];
    assert_eq!(
        [
            run_key(|_| {}).to_hex(),
            mount_key(mounts).to_hex(),
            copy_key(|_| {}).to_hex(),
            scratch_key().to_hex(),
        ],
        [
            "4711b2854668734be69223946bce0f6d546c9531cdca5c45d964875f5f3351cc",
            "2315ca86be954a5bc7e0454e1d9a7b5a1cfe2dfd8ddda9ec292eff2f165a391b",
            "050c212d9d1f169825663165b45d8d5e56babf98152a56f70076891fe03a9d27",
            "0c90b16a9efbccb6cb35044d4a2b89a840f974f1bb07098bae95612caace7fef"
        ]
    );
}

#[test]
fn every_input_of_run_enters() {
    let base = run_key(|_| {});
    type Change = (&'static str, fn(&mut RunSpec));
    let changes: [Change; 11] = [
        ("args", |s| s.args.push("x".into())),
        ("argument borders", |s| {
            s.args = vec!["/bin/sh".into(), "-ctrue".into()];
        }),
        ("env", |s| s.env.push(("A".into(), "b".into()))),
        ("cwd", |s| s.cwd = "/x".into()),
        ("user", |s| s.user = "1".into()),
        ("network", |s| s.network = Network::None),
        ("hostname", |s| s.hostname = "g".into()),
        ("hosts", |s| {
            s.extra_hosts.push(ExtraHost {
                name: "a".into(),
                address: [1, 2, 3, 4].into(),
            });
        }),
        ("script", |s| {
            s.script = Some(Script {
                path: "/p".into(),
                body: "b".into(),
            });
        }),
        ("security", |s| s.security = Security::Insecure),
        ("ulimits", |s| {
            s.ulimits.push(Ulimit {
                name: "nofile".into(),
                soft: Some(1),
                hard: None,
            });
        }),
    ];
    let mut keys: Vec<_> = changes
        .iter()
        .map(|(name, change)| (*name, run_key(*change)))
        .collect();
    keys.push(("base", base));
    for (i, (one, a)) in keys.iter().enumerate() {
        for (other, b) in &keys[i + 1..] {
            assert_ne!(a, b, "{one} and {other}");
        }
    }
}

#[test]
fn proxies_enter_no_key() {
    assert_eq!(
        run_key(|_| {}),
        run_key(|s| s.unkeyed_env.push(("http_proxy".into(), "p".into())))
    );
}

#[test]
fn every_input_of_copy_enters() {
    let base = copy_key(|_| {});
    type Change = (&'static str, fn(&mut PlannedCopy));
    let changed: [Change; 6] = [
        ("destination", |c| c.destination.push('/')),
        ("owner", |c| c.owner = Some("1".into())),
        ("mode", |c| c.mode = Some("600".into())),
        ("unpack", |c| c.unpack = true),
        ("bytes", |c| *c = copy_of(file("", 0o644, b"y"))),
        ("file mode", |c| *c = copy_of(file("", 0o600, b"x"))),
    ];
    for (name, change) in changed {
        assert_ne!(base, copy_key(change), "{name}");
    }
}

#[test]
fn every_input_of_a_directory_enters() {
    let key = |path: &str, user: &str, created: Option<i64>| {
        let spec = MakeDirectorySpec {
            path: path.to_owned(),
            user: user.to_owned(),
            created: created.map(|seconds| Timestamp {
                seconds,
                nanoseconds: 0,
            }),
        };
        instruction_key(&PlannedOp::MakeDirectory(spec), &scope())
    };
    let keys = [
        key("/w", "", None),
        key("/v", "", None),
        key("/w", "u", None),
        key("/w", "", Some(0)),
        key("/w", "", Some(-1)),
    ];
    for (number, one) in keys.iter().enumerate() {
        assert!(!keys[..number].contains(one), "{number}");
    }
}

#[test]
fn a_layer_that_was_given_a_time_stands_for_none_of_another() {
    let content = ContentDigest::from(blake3::hash(b"layer"));
    let identity = |seconds: Option<i64>| {
        let spec = MakeDirectorySpec {
            path: "/w".to_owned(),
            user: String::new(),
            created: seconds.map(|seconds| Timestamp {
                seconds,
                nanoseconds: 0,
            }),
        };
        layer_identity(&PlannedOp::MakeDirectory(spec), &content)
    };
    assert_eq!(identity(None), content);
    assert_eq!(identity(Some(1)), identity(Some(1)));
    assert_ne!(identity(Some(1)), identity(Some(2)));
    assert_ne!(identity(Some(1)), content);
}

#[test]
fn every_part_of_a_query_enters() {
    let key = |path: &str, parents, exclude: &[&str]| {
        copy_key(|c| {
            let mut graph = Graph::default();
            c.sources = vec![PlannedSource::Node {
                node: base(&mut graph, scratch_key()),
                query: SourceQuery {
                    path: path.into(),
                    parents,
                    exclude: exclude.iter().map(|text| (*text).to_owned()).collect(),
                },
            }];
        })
    };
    let keys = [
        key("a", false, &[]),
        key("b", false, &[]),
        key("a", true, &[]),
        key("a", false, &["x"]),
        key("a", false, &["x", "y"]),
        key("a", false, &["y", "x"]),
    ];
    for (place, one) in keys.iter().enumerate() {
        assert!(!keys[place + 1..].contains(one), "{place}");
    }
}

#[test]
fn a_directory_that_is_only_the_way_to_others_is_told_apart() {
    let digest = |ways: Vec<usize>| {
        let mut directory = file("d", 0o755, b"");
        directory.kind = EntryKind::Directory { opaque: false };
        let item = SelectedItem {
            name: Vec::new(),
            path: LayerPath::ROOT,
            entries: vec![directory.clone(), directory, file("d/f", 0o644, b"")],
            ways,
        };
        Selection { items: vec![item] }.content_digest()
    };
    assert_ne!(digest(Vec::new()), digest(vec![1]));
}

#[test]
fn place_and_time_of_files_enter_no_key() {
    let base = copy_key(|_| {});
    assert_eq!(
        base,
        copy_key(|c| {
            let mut entry = file("", 0o644, b"x");
            entry.metadata.mtime.seconds = 77;
            *c = copy_of(entry);
            if let PlannedSource::Directory { root, .. } = &mut c.sources[0] {
                *root = "/elsewhere".into();
            }
        })
    );
}

#[test]
fn a_directorys_own_mode_is_not_content() {
    let directory = |own: u16, below: u16| {
        let mut entry = file("", own, b"");
        entry.kind = EntryKind::Directory { opaque: false };
        let selection = Selection {
            items: vec![SelectedItem {
                name: b"d".to_vec(),
                path: LayerPath::ROOT,
                entries: vec![entry, file("a", below, b"")],
                ways: Vec::new(),
            }],
        };
        selection.content_digest()
    };
    assert_eq!(directory(0o755, 0o644), directory(0o700, 0o644));
    assert_ne!(directory(0o755, 0o644), directory(0o755, 0o600));
}

fn step(graph: &mut Graph, parent: NodeId, op: PlannedOp) -> NodeId {
    graph.add(Node {
        vertex: VertexId(0),
        name: "n".into(),
        range: None,
        kind: NodeKind::Step { parent, op },
    })
}

fn base(graph: &mut Graph, key: DefinitionKey) -> NodeId {
    graph.add(Node {
        vertex: VertexId(0),
        name: "b".into(),
        range: None,
        kind: NodeKind::Base(Base {
            key,
            layers: Vec::new(),
            image: None,
        }),
    })
}

#[test]
fn definition_keys_chain_parents_and_sources() {
    let mut graph = Graph::default();
    let scratch = base(&mut graph, scratch_key());
    let image = base(
        &mut graph,
        image_key(
            &BlobDigest::of(b"manifest"),
            &Platform::new("linux", "amd64", None),
        ),
    );
    let run = || PlannedOp::Run(Box::new(planned(run_spec())));
    let on_scratch = step(&mut graph, scratch, run());
    let on_image = step(&mut graph, image, run());
    let from = |node| {
        let mut copy = copy_of(file("", 0o644, b"x"));
        copy.sources = vec![PlannedSource::Node {
            node,
            query: "/x".into(),
        }];
        PlannedOp::Copy(copy)
    };
    let from_scratch = step(&mut graph, image, from(on_scratch));
    let from_image = step(&mut graph, image, from(on_image));
    let keys = graph_keys(&graph, &scope());
    let definition = |id: NodeId| keys[id.index()].definition;
    assert_ne!(definition(on_scratch), definition(on_image));
    assert_ne!(definition(from_scratch), definition(from_image));
    assert_eq!(
        keys[from_scratch.index()].instruction,
        keys[from_image.index()].instruction
    );
    assert_eq!(
        keys[on_scratch.index()].instruction,
        keys[on_image.index()].instruction
    );
}

#[test]
fn a_linked_copy_has_the_same_keys_on_every_base() {
    let mut graph = Graph::default();
    let image = |graph: &mut Graph, name: &str| {
        let platform = Platform::new("linux", "amd64", None);
        base(
            graph,
            image_key(&BlobDigest::of(name.as_bytes()), &platform),
        )
    };
    let mut linked_on = |name: &str| {
        let below = image(&mut graph, name);
        let scratch = base(&mut graph, scratch_key());
        let op = PlannedOp::Copy(copy_of(file("", 0o644, b"x")));
        let above = step(&mut graph, scratch, op);
        let stack = graph.add(Node {
            vertex: VertexId(0),
            name: "linked".into(),
            range: None,
            kind: NodeKind::Stack { below, above },
        });
        (below, above, stack)
    };
    let (below, above, stack) = linked_on("one");
    let (other_below, other_above, other_stack) = linked_on("two");
    let keys = graph_keys(&graph, &scope());
    let definition = |id: NodeId| keys[id.index()].definition;
    assert_eq!(keys[above.index()], keys[other_above.index()]);
    assert_ne!(definition(stack), definition(other_stack));
    let all = [below, above, stack, other_below].map(definition);
    assert!(!all.contains(&definition(other_stack)));
    assert_ne!(definition(stack), definition(above));
}

#[test]
fn scope_enters_every_instruction() {
    let op = PlannedOp::Run(Box::new(planned(run_spec())));
    let other = KeyScope {
        isolation: "one id".to_owned(),
        ..scope()
    };
    assert_ne!(instruction_key(&op, &scope()), instruction_key(&op, &other));
    let other = KeyScope {
        platform: Platform::new("linux", "arm64", None),
        ..scope()
    };
    assert_ne!(instruction_key(&op, &scope()), instruction_key(&op, &other));
}

#[test]
fn content_keys_know_layer_borders() {
    let instruction = run_key(|_| {});
    let digest = |text: &str| ContentDigest::from(blake3::hash(text.as_bytes()));
    let (a, b) = (digest("a"), digest("b"));
    assert_ne!(
        content_key(&instruction, &[a, b], &[]),
        content_key(&instruction, &[a], &[b])
    );
    assert_ne!(
        content_key(&instruction, &[a, b], &[]),
        content_key(&instruction, &[b, a], &[])
    );
}

/// The definition key of a step that takes something from elsewhere.
fn remote_key(remote: RemoteFiles, change: impl FnOnce(&mut PlannedSource)) -> DefinitionKey {
    let mut source = PlannedSource::Remote {
        remote: RemoteId::of(0),
        query: "/".into(),
        unpack: false,
    };
    change(&mut source);
    let mut copy = copy_of(file("", 0o644, b"x"));
    copy.sources = vec![source];
    let mut graph = Graph::default();
    let base = |kind| Node {
        vertex: VertexId(0),
        name: "".into(),
        range: None,
        kind,
    };
    let parent = graph.add(base(NodeKind::Base(Base {
        key: scratch_key(),
        layers: Vec::new(),
        image: None,
    })));
    let op = PlannedOp::Copy(copy);
    graph.add(base(NodeKind::Step { parent, op }));
    graph.set_remotes(vec![remote]);
    graph_keys(&graph, &scope())[1].definition
}

#[test]
fn what_comes_from_elsewhere_enters_by_what_it_is() {
    let url = |url: &str, content: &[u8]| {
        RemoteFiles::Http(HttpFile {
            source: HttpSource::parse(url).unwrap(),
            digest: BlobDigest::of(content),
        })
    };
    let commit = |id: &str| {
        RemoteFiles::Git(GitCommit {
            source: GitSource::parse("https://h/x.git").unwrap().unwrap(),
            reference: "refs/heads/main".to_owned(),
            object: id.to_owned(),
            commit: id.to_owned(),
        })
    };
    let key = |remote| remote_key(remote, |_| {});
    let one = key(url("https://h/x", b"1"));
    assert_eq!(one, key(url("https://mirror/y/x?token=2", b"1")));
    assert_ne!(one, key(url("https://h/x", b"2")));
    assert_ne!(one, key(url("https://h/y", b"1")));
    assert_ne!(key(commit("1")), key(commit("2")));
    let changed = |change: fn(&mut SourceQuery, &mut bool)| {
        remote_key(commit("1"), |source| {
            if let PlannedSource::Remote { query, unpack, .. } = source {
                change(query, unpack);
            }
        })
    };
    assert_ne!(key(commit("1")), changed(|query, _| query.path.push('a')));
    assert_ne!(
        key(commit("1")),
        changed(|query, _| query.exclude.push("a".into()))
    );
    assert_ne!(key(commit("1")), changed(|_, unpack| *unpack = true));
    // Pinned: a change here makes all earlier results unknown.
    assert_eq!(
        [one.to_hex(), key(commit("1")).to_hex()],
        [
            "faea8605c84d8b3261f4cdb0049a981fdd0abcdfe9d3b361c3b789e2a1916769",
            "81663030ef3aab78849927aaca8249d24474ef723e2407183cd303769f2f36b1",
        ]
    );
}
fn bind() -> BindMount {
    BindMount {
        target: "/t".into(),
        source: MountSource {
            layers: Vec::new(),
            path: "/s".into(),
        },
        read_only: true,
    }
}

fn cache() -> CacheMount {
    CacheMount {
        target: "/t".into(),
        id: "i".into(),
        sharing: CacheSharing::Shared,
        seed: None,
        owner: OptionalOwner::default(),
        read_only: false,
    }
}

fn secret() -> SecretMount {
    SecretMount {
        id: "i".into(),
        file: Some(SecretFile {
            target: "/t".into(),
            owner: owner(0o400),
        }),
        env: None,
        required: false,
    }
}

fn ssh() -> SshMount {
    SshMount {
        id: "i".into(),
        target: "/t".into(),
        owner: owner(0o600),
        required: false,
    }
}

fn owner(mode: u32) -> Owner {
    Owner {
        mode,
        uid: 0,
        gid: 0,
    }
}

fn mount_key(mounts: Vec<MountSpec>) -> InstructionKey {
    run_key(|spec| spec.mounts = mounts)
}

#[test]
fn every_visible_part_of_a_mount_enters() {
    let tmpfs = |size, read_only| {
        MountSpec::Tmpfs(TmpfsMount {
            target: "/t".into(),
            size,
            read_only,
        })
    };
    let with_bind = |change: fn(&mut BindMount)| {
        let mut mount = bind();
        change(&mut mount);
        MountSpec::Bind(mount)
    };
    let with_cache = |change: fn(&mut CacheMount)| {
        let mut mount = cache();
        change(&mut mount);
        MountSpec::Cache(mount)
    };
    let with_secret = |change: fn(&mut SecretMount)| {
        let mut mount = secret();
        change(&mut mount);
        MountSpec::Secret(mount)
    };
    let with_ssh = |change: fn(&mut SshMount)| {
        let mut mount = ssh();
        change(&mut mount);
        MountSpec::Ssh(mount)
    };
    let all = [
        with_bind(|_| {}),
        with_bind(|m| m.target = "/o".into()),
        with_bind(|m| m.source.path = "/o".into()),
        with_bind(|m| m.read_only = false),
        with_cache(|_| {}),
        with_cache(|m| m.target = "/o".into()),
        with_cache(|m| m.read_only = true),
        with_cache(|m| m.owner.mode = Some(0o700)),
        with_cache(|m| m.owner.uid = Some(1)),
        with_cache(|m| m.owner.gid = Some(1)),
        with_cache(|m| m.seed = Some(bind().source)),
        tmpfs(None, false),
        tmpfs(Some(1), false),
        tmpfs(None, true),
        with_secret(|_| {}),
        with_secret(|m| m.id = "o".into()),
        with_secret(|m| m.env = Some("E".into())),
        with_secret(|m| m.file = None),
        with_secret(|m| m.required = true),
        with_secret(|m| m.file.as_mut().unwrap().owner = owner(0o444)),
        with_ssh(|_| {}),
        with_ssh(|m| m.id = "o".into()),
        with_ssh(|m| m.target = "/o".into()),
        with_ssh(|m| m.owner = owner(0o666)),
        with_ssh(|m| m.required = true),
    ];
    let mut keys: Vec<_> = all.iter().map(|one| mount_key(vec![one.clone()])).collect();
    keys.push(run_key(|_| {}));
    keys.push(mount_key(vec![all[0].clone(), all[4].clone()]));
    keys.push(mount_key(vec![all[4].clone(), all[0].clone()]));
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(keys.iter().position(|other| other == key), Some(number));
    }
}

#[test]
fn names_and_sharing_of_caches_and_layers_of_sources_enter_no_instruction_key() {
    let plain = mount_key(vec![MountSpec::Cache(cache())]);
    let mut other = cache();
    other.id = "o".into();
    other.sharing = CacheSharing::Locked;
    assert_eq!(plain, mount_key(vec![MountSpec::Cache(other)]));
    let mut made = bind();
    made.source.layers = vec![LayerId::of_diff_id(&DiffId::of(b"l"))];
    assert_eq!(
        mount_key(vec![MountSpec::Bind(bind())]),
        mount_key(vec![MountSpec::Bind(made)])
    );
}

#[test]
fn what_mounts_show_enters_the_definition() {
    let mut graph = Graph::default();
    let base = |graph: &mut Graph, key| {
        graph.add(Node {
            vertex: VertexId(0),
            name: "b".into(),
            range: None,
            kind: NodeKind::Base(Base {
                key,
                layers: Vec::new(),
                image: None,
            }),
        })
    };
    let scratch = base(&mut graph, scratch_key());
    let image = base(
        &mut graph,
        image_key(
            &BlobDigest::of(b"manifest"),
            &Platform::new("linux", "amd64", None),
        ),
    );
    let with = |source| {
        let mut run = planned(run_spec());
        run.spec.mounts = vec![MountSpec::Bind(bind())];
        run.sources = vec![source];
        PlannedOp::Run(Box::new(run))
    };
    let one = step(&mut graph, scratch, with(scratch));
    let other = step(&mut graph, scratch, with(image));
    let keys = graph_keys(&graph, &scope());
    assert_eq!(
        keys[one.index()].instruction,
        keys[other.index()].instruction
    );
    assert_ne!(keys[one.index()].definition, keys[other.index()].definition);
}

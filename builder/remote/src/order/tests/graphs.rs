//! A graph that has everything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_engine::event::VertexId;
use ashlar_engine::graph::{
    Base, Graph, ImageIdentity, Node, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedRun,
    PlannedSource,
};
use ashlar_engine::key::{KeyScope, KeyedGraph, image_key, scratch_key};
use ashlar_engine::segment::Segment;
use ashlar_image::manifest::{ImageManifest, ManifestFormat};
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::config::ImageConfig;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{BlobDigest, DiffId, FileDigest};
use ashlar_model::layer::{
    Entry, EntryKind, LayerPath, LayerRecord, Metadata, StoredBlob, Timestamp,
};
use ashlar_model::media_type::{Compression, OCI_CONFIG, OCI_LAYER_GZIP};
use ashlar_model::mount::{
    BindMount, CacheMount, CacheSharing, MountSource, MountSpec, OptionalOwner, Owner, SecretFile,
    SecretMount, SshMount, TmpfsMount,
};
use ashlar_model::platform::Platform;
use ashlar_model::remote::{GitCommit, GitSource, HttpFile, HttpSource, RemoteFiles};
use ashlar_model::step::{
    ExtraHost, MakeDirectorySpec, Network, RunSpec, Script, Security, SelectedItem, Selection,
    Ulimit,
};
use ashlar_store::home::Home;

use crate::context::ContextRef;
use crate::order::{ContextNames, Order};

/// What a farm has: contexts by their roots, and the blob of a base that no registry has.
#[derive(Debug, Clone)]
pub(super) struct Names(
    pub(super) BTreeMap<PathBuf, ContextRef>,
    pub(super) Option<CasDigest>,
);

impl ContextNames for Names {
    fn reference(&self, root: &Path, _selection: &Arc<Selection>) -> Option<ContextRef> {
        self.0.get(root).copied()
    }

    fn blob(&self, _digest: &BlobDigest) -> Option<CasDigest> {
        self.1
    }
}

pub(super) struct Everything {
    _directory: tempfile::TempDir,
    pub(super) home: Home,
    pub(super) plan: KeyedGraph,
    pub(super) target: NodeId,
    pub(super) names: Names,
    pub(super) selection: Arc<Selection>,
}

impl Everything {
    /// All steps.
    pub(super) fn segment(&self) -> Segment {
        let steps = self.plan.graph.nodes().filter(|(_, node)| node.is_step());
        Segment {
            graph: Arc::clone(&self.plan.graph),
            keys: Arc::clone(&self.plan.keys),
            scope: Arc::clone(&self.plan.scope),
            steps: steps.map(|(id, _)| id).collect(),
            tip: self.target,
            inputs: Vec::new(),
            no_cache: false,
            after_loss: false,
        }
    }

    /// Where the contexts of an order are on a worker.
    pub(super) fn contexts(&self, order: &Order) -> Vec<(PathBuf, Arc<Selection>)> {
        let contexts = order.contexts().iter().enumerate();
        let place = |number| PathBuf::from(format!("/places/{number}"));
        contexts
            .map(|(number, _)| (place(number), Arc::clone(&self.selection)))
            .collect()
    }
}

fn add(graph: &mut Graph, name: &str, kind: NodeKind) -> NodeId {
    graph.add(Node {
        vertex: VertexId(0),
        name: name.into(),
        range: None,
        kind,
    })
}

fn selection() -> Arc<Selection> {
    let entry = |path: &str, kind| Entry {
        path: LayerPath::new(path.as_bytes()).unwrap(),
        kind,
        metadata: Metadata::default(),
    };
    let file = EntryKind::File {
        size: 2,
        digest: Some(FileDigest::from(blake3::hash(b"hi"))),
    };
    Arc::new(Selection {
        items: vec![SelectedItem {
            name: b"d".to_vec(),
            path: LayerPath::new(b"d").unwrap(),
            entries: vec![
                entry("", EntryKind::Directory { opaque: false }),
                entry("f", file),
            ],
            ways: Vec::new(),
        }],
    })
}

/// An image of two layers, one of which a registry has.
pub(super) fn image(home: &Home) -> Base {
    let layer = |text: &str, repository: Option<&str>| {
        let blob = StoredBlob {
            descriptor: Descriptor::new(OCI_LAYER_GZIP, BlobDigest::of(text.as_bytes()), 9),
            compression: Compression::Gzip,
            level: None,
        };
        let diff_id = DiffId::of(text.as_bytes());
        let repository = repository.map(|text| text.parse().unwrap());
        let record = LayerRecord::of_image(diff_id, blob, repository);
        home.put_layer(&record).unwrap();
        record
    };
    let records = [
        layer("below", Some("registry.example.com/base")),
        layer("above", None),
    ];
    let mut config = ImageConfig::default();
    config.rootfs.diff_ids = records.iter().filter_map(|one| one.diff_id).collect();
    let config = config.to_vec();
    home.blobs().put(&config).unwrap();
    let config = Descriptor::new(OCI_CONFIG, BlobDigest::of(&config), config.len() as u64);
    let layers: Vec<Descriptor> = records
        .iter()
        .map(|one| one.blobs[0].descriptor.clone())
        .collect();
    let manifest = ImageManifest::new(ManifestFormat::Oci, &config, &layers).to_vec();
    home.blobs().put(&manifest).unwrap();
    let platform = Platform::new("linux", "amd64", None);
    let digest = BlobDigest::of(&manifest);
    Base {
        key: image_key(&digest, &platform),
        layers: records.iter().map(|one| one.id).collect(),
        image: Some(ImageIdentity { digest, platform }),
    }
}

fn mounts() -> Vec<MountSpec> {
    let owner = Owner {
        mode: 0o400,
        uid: 1,
        gid: 2,
    };
    let source = || MountSource {
        layers: Vec::new(),
        path: "/x".into(),
    };
    vec![
        MountSpec::Bind(BindMount {
            target: "/bind".into(),
            source: source(),
            read_only: true,
        }),
        MountSpec::Cache(CacheMount {
            target: "/cache".into(),
            id: "id".into(),
            sharing: CacheSharing::Locked,
            seed: Some(source()),
            owner: OptionalOwner {
                mode: Some(0o700),
                ..OptionalOwner::default()
            },
            read_only: false,
        }),
        MountSpec::Tmpfs(TmpfsMount {
            target: "/tmp".into(),
            size: Some(1 << 20),
            read_only: false,
        }),
        MountSpec::Secret(SecretMount {
            id: "s".into(),
            file: Some(SecretFile {
                target: "/run/secrets/s".into(),
                owner,
            }),
            env: Some("S".into()),
            required: true,
        }),
        MountSpec::Ssh(SshMount {
            id: "default".into(),
            target: "/run/ssh".into(),
            owner,
            required: false,
        }),
    ]
}

pub(super) fn command(text: &str) -> RunSpec {
    RunSpec {
        args: vec!["/bin/sh".into(), "-c".into(), text.into()],
        env: vec![("PATH".into(), "/bin".into())],
        unkeyed_env: vec![("http_proxy".into(), "http://proxy:1".into())],
        cwd: "/w".into(),
        user: "u:g".into(),
        network: Network::None,
        hostname: "h".into(),
        extra_hosts: vec![ExtraHost {
            name: "other".into(),
            address: "::1".parse().unwrap(),
        }],
        script: Some(Script {
            path: "/script".into(),
            body: "#!/bin/sh\n".into(),
        }),
        mounts: Vec::new(),
        security: Security::Insecure,
        ulimits: vec![Ulimit {
            name: "nofile".into(),
            soft: Some(1),
            hard: None,
        }],
    }
}

fn remotes() -> Vec<RemoteFiles> {
    let http = |source: HttpSource| {
        RemoteFiles::Http(HttpFile {
            source,
            digest: BlobDigest::of(b"file"),
        })
    };
    let id = "0123456789012345678901234567890123456789";
    let git = |text: &str| {
        RemoteFiles::Git(GitCommit {
            source: GitSource::parse(text).unwrap().unwrap(),
            reference: "refs/tags/v1".into(),
            object: id.into(),
            commit: id.into(),
        })
    };
    let url = HttpSource::parse("https://h/a/file").unwrap();
    vec![
        http(url.clone()),
        http(url.as_context()),
        git("https://h/x.git?keep-git-dir=true&mtime=commit#v1:sub/dir"),
        git("git@h:x"),
    ]
}

/// All kinds of nodes, steps and sources; the target is called `last`.
pub(super) fn everything() -> Everything {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let mut graph = Graph::default();
    graph.set_remotes(remotes());
    let scratch = add(
        &mut graph,
        "FROM scratch",
        NodeKind::Base(Base {
            key: scratch_key(),
            layers: Vec::new(),
            image: None,
        }),
    );
    let base = add(&mut graph, "FROM base", NodeKind::Base(image(&home)));
    let step =
        |graph: &mut Graph, name: &str, parent, op| add(graph, name, NodeKind::Step { parent, op });
    let directory_op = PlannedOp::MakeDirectory(MakeDirectorySpec {
        path: "/w".into(),
        user: "u".into(),
        created: Some(Timestamp {
            seconds: 7,
            nanoseconds: 0,
        }),
    });
    let made = step(&mut graph, "WORKDIR", base, directory_op);
    let selection = selection();
    let root = PathBuf::from("/context");
    let mut sources = vec![
        PlannedSource::Directory {
            root: root.clone(),
            selection: Arc::clone(&selection),
        },
        PlannedSource::Node {
            node: base,
            query: "/etc/*".into(),
        },
        PlannedSource::Inline {
            name: "EOF".into(),
            data: b"inline".to_vec(),
        },
    ];
    for number in 0..graph.remotes().len() {
        sources.push(PlannedSource::Remote {
            remote: graph.remote_at(number).unwrap(),
            query: "/".into(),
            unpack: number == 0,
        });
    }
    let copy = PlannedOp::Copy(PlannedCopy {
        sources,
        destination: "/d/".into(),
        owner: Some("1:2".into()),
        mode: Some("0644".into()),
        unpack: true,
    });
    let copied = step(&mut graph, "COPY", scratch, copy);
    let stack = add(
        &mut graph,
        "linked",
        NodeKind::Stack {
            below: made,
            above: copied,
        },
    );
    let mut spec = command("make");
    spec.mounts = mounts();
    let run = PlannedOp::Run(Box::new(PlannedRun {
        spec,
        sources: vec![base, copied],
    }));
    let target = step(&mut graph, "last", stack, run);
    let scope = KeyScope {
        isolation: "here".into(),
        platform: Platform::new("linux", "arm", Some("v7")),
    };
    let reference = ContextRef {
        manifest: CasDigest::of(DigestFunction::Blake3, b"manifest"),
    };
    Everything {
        _directory: directory,
        home,
        plan: KeyedGraph::new(graph, scope),
        target,
        names: Names(
            BTreeMap::from([(root, reference)]),
            Some(CasDigest::of(DigestFunction::Blake3, b"blob")),
        ),
        selection,
    }
}

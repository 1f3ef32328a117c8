//! The keys under which results are stored.
//!
//! Which input enters which key (encoding: [`ashlar_model::content_hash`]):
//!
//! | input | instruction | definition | content |
//! |---|---|---|---|
//! | kind of step (run, copy, directory) | x | x | x |
//! | platform | x | x | x |
//! | isolation class (how ids are mapped: what makes results not interchangeable) | x | x | x |
//! | RUN: arguments, visible environment in order, working directory, user, host name, network, extra host *names and addresses*, script path and body, rights, limits | x | x | x |
//! | RUN: each mount in order: type, target, read-only or not; a bind's path in its source; a cache's mode and owner; a tmpfs's size; a secret's or agent's id, mode, owner, variable, whether it is required | x | x | x |
//! | RUN: definition keys of what mounts show or begin with | | x | |
//! | RUN: what those contain at the mounted path, mode and owner of the path itself included | | | x |
//! | COPY, ADD: destination, owner, mode, whether archives are unpacked | x | x | x |
//! | COPY of context files: name, type, mode, xattrs, link target, bytes of each selected file, and which directories are only the way to others. `--parents` and `--exclude` enter by what they select | x | x | x |
//! | COPY of inline files: name, bytes | x | x | x |
//! | COPY `--from`: source, `--parents`, `--exclude` | x | x | x |
//! | COPY `--from`: the source's definition key | | x | |
//! | COPY `--from`: content of the selected files | | | x |
//! | ADD of a URL or git, COPY `--from` a context from elsewhere: source in it, `--exclude`, whether archives are unpacked | x | x | x |
//! | the same: a URL's file by SHA-256 and name; a commit by its id, directory, submodules, times, and with `--keep-git-dir` its name and remote | | x | |
//! | the same: content of the selected files (of a URL's file: its SHA-256 and name) | | | x |
//! | WORKDIR: path, user, `SOURCE_DATE_EPOCH` where there is one | x | x | x |
//! | parent's definition key (a base: manifest digest and platform, or "scratch") | | x | |
//! | content digests of the parent's layers (an image's layer: its diff ID) | | | x |
//!
//! A copy with `--link` has the empty filesystem as its parent, whatever its layer will lie on.
//! What follows it has a stack as its parent, whose definition key is made of those of the two
//! filesystems.
//!
//! All inputs of a step's keys but those of the content key go through [`inputs`], which also writes
//! them down for `ashlar cache explain`.
//!
//! What enters no key: where a URL or commit comes from, values of secrets, what agents hold, names of
//! caches, how they are shared and what is in them, times of files, proxy variables, the present
//! time, where the context
//! lies, names of stages, comments, how an instruction is written.

use ashlar_model::content_hash::KeyEncoder;
use ashlar_model::digest::{BlobDigest, ContentDigest, ContentKey, DefinitionKey, InstructionKey};
use ashlar_model::layer::Timestamp;
use ashlar_model::platform::Platform;
use ashlar_model::remote::RemoteFiles;
use ashlar_model::select::SourceQuery;
use ashlar_model::step::{MakeDirectorySpec, Network, RunSpec, Security};

use crate::graph::{Graph, Node, NodeId, NodeKind, PlannedCopy, PlannedOp, PlannedSource};

mod inputs;
mod keyed;
mod mount;

pub use inputs::{KeyInput, Shown, ShownFile};
pub use keyed::KeyedGraph;

use inputs::{Inputs, Tag, With};
use mount::{encode_mount, shown_mount};

const BASE_CONTEXT: &str = "ashlar 2026-11 base definition v1";
const INSTRUCTION_CONTEXT: &str = "ashlar 2026-11 instruction v3";
const STACK_CONTEXT: &str = "ashlar 2026-11 stacked layers definition v1";
const DEFINITION_CONTEXT: &str = "ashlar 2026-11 step definition v2";
const DATED_CONTEXT: &str = "ashlar 2026-11 dated layer content v1";
const CONTENT_CONTEXT: &str = "ashlar 2026-11 step content v1";

/// How the filesystem that a step stands on is called among its inputs.
pub(crate) const PARENT: &str = "filesystem";
/// How another filesystem that a step reads is called among its inputs.
pub(crate) const SOURCE: &str = "other filesystem";

/// What all steps of a build share and every key holds.
#[derive(Debug, Clone)]
pub struct KeyScope {
    /// How this machine maps ids, where that makes results not interchangeable.
    pub isolation: String,
    /// The platform that steps run on.
    pub platform: Platform,
}

/// Definition key of an image: its manifest and the platform chosen from it.
pub fn image_key(manifest: &BlobDigest, platform: &Platform) -> DefinitionKey {
    let mut encoder = KeyEncoder::new(BASE_CONTEXT);
    encoder.tag("image").value(manifest).value(platform);
    encoder.finish().into()
}

/// Definition key of the empty filesystem.
pub fn scratch_key() -> DefinitionKey {
    let mut encoder = KeyEncoder::new(BASE_CONTEXT);
    encoder.tag("scratch");
    encoder.finish().into()
}

/// Definition key of one filesystem's layers on those of another.
fn stack_key(below: &DefinitionKey, above: &DefinitionKey) -> DefinitionKey {
    let mut encoder = KeyEncoder::new(STACK_CONTEXT);
    encoder.value(below).value(above);
    encoder.finish().into()
}

/// The keys of all nodes of a graph, by node index. What is no step has no instruction: its entry
/// holds only the definition key.
pub fn graph_keys(graph: &Graph, scope: &KeyScope) -> Vec<NodeKeys> {
    let mut keys: Vec<NodeKeys> = Vec::with_capacity(graph.len());
    for (_, node) in graph.nodes() {
        let next = match &node.kind {
            NodeKind::Base(base) => NodeKeys {
                definition: base.key,
                instruction: None,
            },
            NodeKind::Stack { below, above } => NodeKeys {
                definition: stack_key(
                    &keys[below.index()].definition,
                    &keys[above.index()].definition,
                ),
                instruction: None,
            },
            NodeKind::Step { op, .. } => {
                let instruction = instruction_key(op, scope);
                let mut encoder = KeyEncoder::new(DEFINITION_CONTEXT);
                definition_inputs(graph, node, &instruction, &keys, &mut encoder);
                NodeKeys {
                    definition: encoder.finish().into(),
                    instruction: Some(instruction),
                }
            }
        };
        keys.push(next);
    }
    keys
}

fn definition_inputs(
    graph: &Graph,
    node: &Node,
    instruction: &InstructionKey,
    keys: &[NodeKeys],
    inputs: &mut dyn Inputs,
) {
    let key_of = |node: NodeId| keys[node.index()].definition;
    if let NodeKind::Step { parent, .. } = node.kind {
        let parent = key_of(parent);
        inputs.input(PARENT, &parent, &Shown::nothing);
    }
    inputs.input("instruction", instruction, &Shown::nothing);
    let sources = node.source_nodes();
    inputs.input(
        "number of other filesystems",
        &(sources.len() as u64),
        &|| Shown::value(&sources.len()),
    );
    for source in sources {
        let key = key_of(source);
        inputs.input(SOURCE, &key, &Shown::nothing);
    }
    let remotes = node.source_remotes();
    inputs.input(
        "number of sources from elsewhere",
        &(remotes.len() as u64),
        &|| Shown::value(&remotes.len()),
    );
    for remote in remotes {
        let files = &graph.remotes()[remote.index()];
        inputs.input("source from elsewhere", files, &|| {
            Shown::value(&shown_remote(files))
        });
    }
}

/// What enters the definition key of a step, one by one, to be compared with that of another
/// build. The parts of the instruction come first.
pub fn shown_inputs(
    graph: &Graph,
    node: &Node,
    keys: &[NodeKeys],
    scope: &KeyScope,
) -> Vec<KeyInput> {
    let mut inputs = Vec::new();
    if let NodeKind::Step { op, .. } = &node.kind {
        instruction_inputs(op, scope, &mut inputs);
        let instruction = instruction_key(op, scope);
        definition_inputs(graph, node, &instruction, keys, &mut inputs);
    }
    inputs
}

fn shown_remote(files: &RemoteFiles) -> String {
    match files {
        RemoteFiles::Http(file) => format!("{} {}", file.source.file_name(), file.digest),
        RemoteFiles::Git(commit) => format!("commit {}", commit.commit),
    }
}

/// The keys of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKeys {
    /// Identifies the node's filesystem by how it is made.
    pub definition: DefinitionKey,
    /// What the node's step does; `None` where there is no step.
    pub instruction: Option<InstructionKey>,
}

/// Content key of a step: `parent` are the content digests of the parent's layers, bottom first;
/// `sources` the contents of what the step copies from other filesystems, in order.
pub fn content_key(
    instruction: &InstructionKey,
    parent: &[ContentDigest],
    sources: &[ContentDigest],
) -> ContentKey {
    let mut encoder = KeyEncoder::new(CONTENT_CONTEXT);
    encoder.value(instruction).value(parent).value(sources);
    encoder.finish().into()
}

/// What a layer is known by, so that one with the same content stands for it: its content, and
/// the time that its step was told to give it, if it was told any.
pub fn layer_identity(op: &PlannedOp, content: &ContentDigest) -> ContentDigest {
    match op {
        PlannedOp::MakeDirectory(MakeDirectorySpec {
            created: Some(created),
            ..
        }) => {
            let mut encoder = KeyEncoder::new(DATED_CONTEXT);
            encoder.value(content);
            encode_time(created, &mut encoder);
            encoder.finish().into()
        }
        _ => *content,
    }
}

/// What a step does, its parent and the contents of other filesystems left out.
pub fn instruction_key(op: &PlannedOp, scope: &KeyScope) -> InstructionKey {
    let mut encoder = KeyEncoder::new(INSTRUCTION_CONTEXT);
    instruction_inputs(op, scope, &mut encoder);
    encoder.finish().into()
}

fn instruction_inputs(op: &PlannedOp, scope: &KeyScope, inputs: &mut dyn Inputs) {
    let KeyScope {
        isolation,
        platform,
    } = scope;
    inputs.input("platform", platform, &|| Shown::value(platform));
    inputs.input("isolation", isolation, &|| Shown::value(isolation));
    match op {
        // The filesystems of its mounts are inputs like its parent.
        PlannedOp::Run(run) => run_inputs(&run.spec, inputs),
        PlannedOp::Copy(copy) => copy_inputs(copy, inputs),
        PlannedOp::MakeDirectory(directory) => directory_inputs(directory, inputs),
    }
}

fn kind(tag: &'static str, inputs: &mut dyn Inputs) {
    inputs.input("kind of step", &Tag(tag), &|| Shown::value(&tag));
}

fn run_inputs(run: &RunSpec, inputs: &mut dyn Inputs) {
    // Named one by one, so that a new field cannot be forgotten here.
    let RunSpec {
        args,
        env,
        unkeyed_env: _,
        cwd,
        user,
        network,
        hostname,
        extra_hosts,
        script,
        mounts,
        security,
        ulimits,
    } = run;
    kind("run", inputs);
    inputs.input("command", args, &|| Shown::values(args.iter().cloned()));
    inputs.input("environment", env, &|| {
        Shown::values(env.iter().map(|(name, value)| format!("{name}={value}")))
    });
    inputs.input("working directory", cwd, &|| Shown::value(cwd));
    inputs.input("user", user, &|| Shown::value(user));
    inputs.input("network", network, &|| {
        Shown::value(&match network {
            Network::Host => "host",
            Network::None => "none",
        })
    });
    inputs.input("host name", hostname, &|| Shown::value(hostname));
    let encoded = With(|to: &mut KeyEncoder| {
        to.number(extra_hosts.len() as u64);
        for host in extra_hosts {
            to.value(&host.name).value(&host.address.to_string());
        }
    });
    inputs.input("extra hosts", &encoded, &|| {
        let hosts = extra_hosts.iter();
        Shown::values(hosts.map(|host| format!("{} {}", host.name, host.address)))
    });
    let encoded = With(|to: &mut KeyEncoder| {
        let script = script.as_ref();
        to.value(&script.map(|script| (script.path.clone(), script.body.clone())));
    });
    inputs.input("script", &encoded, &|| {
        let script = script.iter();
        Shown::values(script.flat_map(|script| [script.path.clone(), script.body.clone()]))
    });
    let encoded = With(|to: &mut KeyEncoder| {
        to.number(mounts.len() as u64);
        for mount in mounts {
            encode_mount(mount, to);
        }
    });
    inputs.input("mounts", &encoded, &|| {
        Shown::values(mounts.iter().map(shown_mount))
    });
    inputs.input("rights", security, &|| {
        Shown::value(&match security {
            Security::Sandbox => "sandbox",
            Security::Insecure => "insecure",
        })
    });
    inputs.input("limits", ulimits, &|| {
        let amount =
            |limit: Option<u64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
        let limits = ulimits.iter();
        Shown::values(limits.map(|limit| {
            let (soft, hard) = (amount(limit.soft), amount(limit.hard));
            format!("{}={soft}:{hard}", limit.name)
        }))
    });
}

fn copy_inputs(copy: &PlannedCopy, inputs: &mut dyn Inputs) {
    let PlannedCopy {
        sources,
        destination,
        owner,
        mode,
        unpack,
    } = copy;
    kind("copy", inputs);
    inputs.input("destination", destination, &|| Shown::value(destination));
    inputs.input("owner", owner, &|| Shown::values(owner.clone()));
    inputs.input("mode", mode, &|| Shown::values(mode.clone()));
    inputs.input("unpacking of archives", unpack, &|| Shown::value(unpack));
    inputs.input("number of sources", &(sources.len() as u64), &|| {
        Shown::value(&sources.len())
    });
    for source in sources {
        match source {
            PlannedSource::Directory { root: _, selection } => {
                inputs.input(
                    "files of the context",
                    &(Tag("context"), selection.content_digest()),
                    &|| Shown::files(selection),
                );
            }
            PlannedSource::Node { node: _, query } => {
                inputs.input(
                    "source in another filesystem",
                    &With(|to: &mut KeyEncoder| {
                        to.tag("from").value(query);
                    }),
                    &|| shown_query(query),
                );
            }
            PlannedSource::Remote {
                remote: _,
                query,
                unpack,
            } => {
                inputs.input(
                    "source in files from elsewhere",
                    &With(|to: &mut KeyEncoder| {
                        to.tag("remote").value(query).value(unpack);
                    }),
                    &|| shown_query(query),
                );
            }
            PlannedSource::Inline { name, data } => {
                inputs.input(
                    "file in the Dockerfile",
                    &With(|to: &mut KeyEncoder| {
                        to.tag("inline").value(name).bytes(data);
                    }),
                    &|| Shown::values([name.clone(), String::from_utf8_lossy(data).into_owned()]),
                );
            }
        }
    }
}

fn shown_query(query: &SourceQuery) -> Shown {
    let SourceQuery {
        path,
        parents,
        exclude,
    } = query;
    let mut shown = vec![path.clone()];
    shown.extend(parents.then(|| "--parents".to_owned()));
    shown.extend(exclude.iter().map(|pattern| format!("--exclude={pattern}")));
    Shown::values(shown)
}

fn directory_inputs(directory: &MakeDirectorySpec, inputs: &mut dyn Inputs) {
    let MakeDirectorySpec {
        path,
        user,
        created,
    } = directory;
    kind("directory", inputs);
    inputs.input("directory", path, &|| Shown::value(path));
    inputs.input("user", user, &|| Shown::value(user));
    if let Some(created) = created {
        inputs.input(
            "SOURCE_DATE_EPOCH",
            &With(|to: &mut KeyEncoder| encode_time(created, to)),
            &|| Shown::value(&created.seconds),
        );
    }
}

fn encode_time(time: &Timestamp, encoder: &mut KeyEncoder) {
    encoder
        .tag("created")
        .number(time.seconds.cast_unsigned())
        .number(u64::from(time.nanoseconds));
}

#[cfg(test)]
mod tests;

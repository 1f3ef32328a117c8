//! What no client writes: found out before anything is made of an order.
//!
//! What a step does is not judged here: its sandbox bounds it, as it bounds any Dockerfile. Judged is
//! what this program takes for granted of its own plans, and how much work it is to look at them.

use ashlar_model::mount::MountSpec;
use ashlar_model::step::RunSpec;

use super::OrderError;
use super::wire::{NodePlace, WireCopy, WireGraph, WireKind, WireNode, WireSource};

/// The most nodes of a graph.
const MOST_NODES: usize = 20_000;
/// The most layers of a filesystem.
const MOST_LAYERS: usize = 4_096;
/// The most filesystems that lie in and below one, counted as often as they are come by.
const MOST_STEPS_DOWN: usize = 40_000;
/// The most context selections, and files from elsewhere.
const MOST_SOURCES: usize = 10_000;
/// The longest name of a node.
const LONGEST_NAME: usize = 64 << 10;

fn wrong<T>(what: impl Into<String>) -> Result<T, OrderError> {
    Err(OrderError::Wrong(what.into()))
}

/// Checks a graph but for its bases and its sources from elsewhere, which are checked when they are
/// read.
pub(super) fn graph(graph: &WireGraph) -> Result<(), OrderError> {
    let sources = graph.contexts.len().max(graph.remotes.len());
    if graph.nodes.len() > MOST_NODES || sources > MOST_SOURCES {
        return wrong("it has more steps or sources than any Dockerfile");
    }
    if graph.target.index() >= graph.nodes.len() {
        return wrong("its target is none of its nodes");
    }
    let mut sizes: Vec<Size> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        if node.name.len() > LONGEST_NAME {
            return wrong("a step has a name that is too long");
        }
        let inputs = node.inputs();
        if inputs.iter().any(|input| input.index() >= sizes.len()) {
            return wrong(format!("{} comes before what it needs", node.name));
        }
        let size = Size::of(node, &sizes);
        if size.layers > MOST_LAYERS || size.down > MOST_STEPS_DOWN {
            return wrong(format!("{} has too many layers", node.name));
        }
        sizes.push(size);
        check_kind(graph, node)?;
    }
    Ok(())
}

/// How much a filesystem is.
#[derive(Clone, Copy)]
struct Size {
    layers: usize,
    /// Filesystems in it and below it, each as often as one comes by it.
    down: usize,
}

impl Size {
    fn of(node: &WireNode, sizes: &[Self]) -> Self {
        let of = |place: &NodePlace| {
            let none = Self { layers: 0, down: 0 };
            sizes.get(place.index()).copied().unwrap_or(none)
        };
        match &node.kind {
            WireKind::Scratch => Self { layers: 0, down: 1 },
            WireKind::Image { layers, .. } => Self {
                layers: layers.len(),
                down: 1,
            },
            WireKind::Stack { below, above } => {
                let (below, above) = (of(below), of(above));
                Self {
                    layers: below.layers.saturating_add(above.layers),
                    down: below.down.saturating_add(above.down).saturating_add(1),
                }
            }
            WireKind::Run { parent, .. }
            | WireKind::Copy { parent, .. }
            | WireKind::MakeDirectory { parent, .. } => {
                let parent = of(parent);
                Self {
                    layers: parent.layers.saturating_add(1),
                    down: parent.down.saturating_add(1),
                }
            }
        }
    }
}

fn check_kind(graph: &WireGraph, node: &WireNode) -> Result<(), OrderError> {
    match &node.kind {
        WireKind::Scratch | WireKind::Stack { .. } => Ok(()),
        WireKind::Image { layers, .. } => {
            let is_there = |place: &super::wire::LayerPlace| place.index() < graph.layers.len();
            match layers.iter().all(is_there) {
                true => Ok(()),
                false => wrong(format!("{} has a layer that is none", node.name)),
            }
        }
        WireKind::Run { spec, sources, .. } => check_run(spec, sources.len(), &node.name),
        WireKind::Copy { copy, .. } => check_copy(graph, copy, &node.name),
        WireKind::MakeDirectory { spec, .. } => check_path(&spec.path, &node.name),
    }
}

fn check_run(run: &RunSpec, sources: usize, name: &str) -> Result<(), OrderError> {
    if run.args.is_empty() {
        return wrong(format!("{name} runs nothing"));
    }
    let words = run.args.iter().chain([&run.user, &run.hostname]);
    let variables = run.env.iter().chain(&run.unkeyed_env);
    let words = words.chain(variables.clone().map(|(_, value)| value));
    if words.into_iter().any(|word| word.contains('\0')) {
        return wrong(format!("{name} has a word that no command can have"));
    }
    let mut names = variables.map(|(name, _)| name);
    if names.any(|name| name.is_empty() || name.contains(['\0', '='])) {
        return wrong(format!("{name} has a variable that has no name"));
    }
    check_path(&run.cwd, name)?;
    if let Some(script) = &run.script {
        check_path(&script.path, name)?;
    }
    let mut with_source = 0;
    for mount in &run.mounts {
        if let Some(source) = mount.source() {
            with_source += 1;
            if !source.layers.is_empty() {
                return wrong(format!("{name} mounts layers of somebody's store"));
            }
            check_path(&source.path, name)?;
        }
        match mount {
            MountSpec::Bind(bind) => check_path(&bind.target, name)?,
            MountSpec::Cache(cache) => check_path(&cache.target, name)?,
            MountSpec::Tmpfs(tmpfs) => check_path(&tmpfs.target, name)?,
            MountSpec::Ssh(ssh) => check_path(&ssh.target, name)?,
            MountSpec::Secret(secret) => {
                if let Some(file) = &secret.file {
                    check_path(&file.target, name)?;
                }
            }
        }
    }
    match with_source == sources {
        true => Ok(()),
        false => wrong(format!("{name} mounts other filesystems than it needs")),
    }
}

fn check_copy(graph: &WireGraph, copy: &WireCopy, name: &str) -> Result<(), OrderError> {
    check_path(&copy.destination, name)?;
    for source in &copy.sources {
        let is_right = match source {
            WireSource::Context(place) => place.index() < graph.contexts.len(),
            WireSource::Remote { remote, .. } => remote.index() < graph.remotes.len(),
            WireSource::Node { .. } => true,
            WireSource::Inline { name, .. } => {
                !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0'])
            }
        };
        if !is_right {
            return wrong(format!("{name} copies what is nowhere"));
        }
    }
    Ok(())
}

/// Paths in containers are absolute in all plans.
fn check_path(path: &str, name: &str) -> Result<(), OrderError> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    wrong(format!(
        "{name} names a path that is not absolute: {path:?}"
    ))
}

/// Checks the steps of a segment: ascending, each of them a step.
pub(super) fn steps(graph: &WireGraph, steps: &[NodePlace]) -> Result<(), OrderError> {
    let is_step = |place: &NodePlace| {
        graph
            .nodes
            .get(place.index())
            .is_some_and(WireNode::is_step)
    };
    if steps.is_empty() || !steps.iter().all(is_step) {
        return wrong("a step of the segment is none");
    }
    let is_ascending = |pair: &[NodePlace]| matches!(pair, [one, other] if one < other);
    match steps.windows(2).all(is_ascending) {
        true => Ok(()),
        false => wrong("the segment's steps are in no order"),
    }
}

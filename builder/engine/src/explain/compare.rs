//! Finds the nearest earlier result of a step, and tells what differs.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::record::{BuildRecord, NodeRecord, StoredBuild};
use crate::key::{KeyInput, PARENT, SOURCE, Shown, ShownFile};
use crate::schedule::Fate;

/// Why a step was not found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// The step as people read it.
    pub step: String,
    /// Its number in progress displays.
    pub vertex: u32,
    /// What came of looking it up.
    pub fate: Fate,
    /// Why.
    #[serde(flatten)]
    pub cause: Cause,
    /// Why a result that a cache had of it was passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Why a step was not found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "Cause",
    rename_all = "kebab-case",
    rename_all_fields = "PascalCase"
)]
pub enum Cause {
    /// Nothing was looked up.
    NoCache,
    /// Nothing like it was built before, as far as is remembered.
    New,
    /// The same was built before. Its result is not in the store any more.
    Gone {
        /// When.
        earlier: EarlierBuild,
    },
    /// Its key is another one.
    Differs {
        /// Of which build the nearest result is.
        earlier: EarlierBuild,
        /// How the step was called there.
        #[serde(rename = "EarlierStep")]
        step: String,
        /// What differs.
        differences: Vec<Difference>,
    },
}

/// Names a build by its place before the one that is explained: 1 for the last before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EarlierBuild(pub usize);

/// An input that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Difference {
    /// How people call it.
    pub input: String,
    /// What differs.
    #[serde(flatten)]
    pub change: Change,
}

/// How an input differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "Kind",
    rename_all = "kebab-case",
    rename_all_fields = "PascalCase"
)]
pub enum Change {
    /// Values that were there and are not, and the other way round.
    Values {
        /// What was.
        removed: Vec<String>,
        /// What is.
        added: Vec<String>,
    },
    /// Files of the context.
    Files {
        /// Those that differ.
        files: Vec<FileChange>,
    },
    /// What it is made from was made in another way.
    Filesystem {
        /// The step or image that differs.
        of: String,
        /// Its counterpart in the earlier build, if it is called otherwise.
        was: Option<String>,
        /// Whether it is a step that was not found either.
        missed: bool,
        /// Whether it is an image.
        base: bool,
    },
    /// Only that it differs is known.
    Unknown,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FileChange {
    /// Where it is in the context; with `/` at the end all below it.
    pub path: String,
    /// How.
    pub change: FileChangeKind,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It contains something else.
    Content,
    /// Its type, mode or attributes are others.
    Metadata,
}

/// Explains every step of a build that was not found at once, in the order of the Dockerfile. The
/// builds before it come the last one first.
pub fn explain(build: &BuildRecord, earlier: &[StoredBuild]) -> Vec<Explanation> {
    let likeness: Vec<usize> = earlier
        .iter()
        .map(|other| likeness(build, &other.record))
        .collect();
    let missed = build.nodes.iter().filter(|node| node.fate != Fate::Found);
    let mut explanations: Vec<Explanation> = missed
        .map(|node| Explanation {
            step: node.name.clone(),
            vertex: node.vertex,
            fate: node.fate,
            cause: cause(build, node, earlier, &likeness),
            refused: node.refused.clone(),
        })
        .collect();
    explanations.sort_by_key(|one| one.vertex);
    explanations
}

/// How many names two builds share: a measure of whether they are of one Dockerfile.
fn likeness(one: &BuildRecord, other: &BuildRecord) -> usize {
    let names: HashSet<&str> = other.nodes.iter().map(|node| node.name.as_str()).collect();
    let shared = |node: &&NodeRecord| names.contains(node.name.as_str());
    one.nodes.iter().filter(shared).count()
}

fn cause(
    build: &BuildRecord,
    node: &NodeRecord,
    earlier: &[StoredBuild],
    likeness: &[usize],
) -> Cause {
    if build.no_cache {
        return Cause::NoCache;
    }
    // What failed has no result.
    let with_result = |node: &&NodeRecord| node.fate != Fate::Missed && !node.inputs.is_empty();
    let results = earlier.iter().enumerate().flat_map(|(index, other)| {
        let nodes = other.record.nodes.iter().filter(with_result);
        nodes.map(move |node| (index, &other.record, node))
    });
    let mut nearest: Option<(Nearness, usize, &BuildRecord, &NodeRecord)> = None;
    for (index, record, other) in results {
        if other.definition == node.definition {
            return Cause::Gone {
                earlier: EarlierBuild(index + 1),
            };
        }
        let Some(nearness) = nearness(node, other, likeness.get(index).copied().unwrap_or(0))
        else {
            continue;
        };
        // Of equally near ones the last.
        if nearest.as_ref().is_none_or(|(best, ..)| nearness > *best) {
            nearest = Some((nearness, index, record, other));
        }
    }
    let Some((_, index, record, other)) = nearest else {
        return Cause::New;
    };
    Cause::Differs {
        earlier: EarlierBuild(index + 1),
        step: other.name.clone(),
        differences: differences((build, node), (record, other)),
    }
}

/// How near an earlier step is, the most important first.
type Nearness = (bool, Class, usize, bool, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Most of its inputs are the same.
    Similar,
    /// It stood at the same place.
    SamePlace,
    /// It did the same, to something else.
    SameInstruction,
}

fn nearness(node: &NodeRecord, other: &NodeRecord, likeness: usize) -> Option<Nearness> {
    let digest = |node: &NodeRecord, label: &str| {
        let input = node.inputs.iter().find(|input| input.label == label);
        input.map(|input| input.digest.clone())
    };
    let same = |label| digest(node, label) == digest(other, label);
    let same_place = place(&node.name) == place(&other.name);
    let theirs: HashSet<(&str, &str)> = labelled(other).collect();
    let equal = labelled(node)
        .filter(|input| theirs.contains(input))
        .count();
    let class = if same("instruction") {
        Class::SameInstruction
    } else if !same("kind of step") {
        return None;
    } else if same_place && likeness > 0 {
        Class::SamePlace
    } else if equal * 2 > node.inputs.len() {
        Class::Similar
    } else {
        return None;
    };
    Some((likeness > 0, class, likeness, same_place, equal))
}

fn labelled(node: &NodeRecord) -> impl Iterator<Item = (&str, &str)> {
    let inputs = node.inputs.iter();
    inputs.map(|input| (input.label.as_str(), input.digest.as_str()))
}

/// `build 2` of `[build 2/5] RUN make`.
fn place(name: &str) -> &str {
    let inside = name.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let inside = inside.map_or(name, |(inside, _)| inside);
    inside.split_once('/').map_or(inside, |(place, _)| place)
}

fn differences(
    (build, node): (&BuildRecord, &NodeRecord),
    (other_build, other): (&BuildRecord, &NodeRecord),
) -> Vec<Difference> {
    let mut theirs: BTreeMap<(&str, usize), &KeyInput> = numbered(other).collect();
    let mut found = Vec::new();
    for (key, input) in numbered(node) {
        let counterpart = theirs.remove(&key);
        if key.0 == "instruction" || counterpart.is_some_and(|one| one.digest == input.digest) {
            continue;
        }
        let change = match key {
            (PARENT, _) => filesystem((build, node), (other_build, other), 0),
            (SOURCE, number) => filesystem((build, node), (other_build, other), number + 1),
            _ => shown(counterpart.map(|one| &one.shown), Some(&input.shown)),
        };
        found.push(Difference {
            input: input.label.clone(),
            change,
        });
    }
    for ((label, _), input) in theirs {
        if label != SOURCE {
            found.push(Difference {
                input: label.to_owned(),
                change: shown(Some(&input.shown), None),
            });
        }
    }
    found
}

/// Inputs with the same label are told apart by their order.
fn numbered(node: &NodeRecord) -> impl Iterator<Item = ((&str, usize), &KeyInput)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    node.inputs.iter().map(move |input| {
        let count = counts.entry(&input.label).or_default();
        *count += 1;
        ((input.label.as_str(), *count - 1), input)
    })
}

fn filesystem(
    (build, node): (&BuildRecord, &NodeRecord),
    (other_build, other): (&BuildRecord, &NodeRecord),
    need: usize,
) -> Change {
    let Some(of) = maker(build, node, need) else {
        return Change::Unknown;
    };
    let was = maker(other_build, other, need).map(|was| was.name.clone());
    Change::Filesystem {
        of: of.name.clone(),
        was: was.filter(|was| *was != of.name),
        missed: of.fate != Fate::Found,
        base: of.needs.is_empty(),
    }
}

/// The step or image that makes a filesystem. Where the layers of one lie on those of another, the
/// one that was not found.
fn maker<'a>(build: &'a BuildRecord, node: &NodeRecord, need: usize) -> Option<&'a NodeRecord> {
    let mut maker = build.nodes.get(*node.needs.get(need)?)?;
    // Inputs come before what needs them, so there is an end.
    while maker.inputs.is_empty() && !maker.needs.is_empty() {
        let mut below = maker.needs.iter().filter_map(|need| build.nodes.get(*need));
        let missed = below.clone().find(|node| node.fate != Fate::Found);
        maker = missed.or_else(|| below.next_back())?;
    }
    Some(maker)
}

fn shown(before: Option<&Shown>, after: Option<&Shown>) -> Change {
    const NO_FILES: &[ShownFile] = &[];
    const NO_VALUES: &[String] = &[];
    if let (None | Some(Shown::Files(_)), None | Some(Shown::Files(_))) = (before, after) {
        let of = |shown: Option<&'_ Shown>| match shown {
            Some(Shown::Files(files)) => files.clone(),
            _ => NO_FILES.to_vec(),
        };
        return files(&of(before), &of(after));
    }
    let of = |shown: Option<&'_ Shown>| match shown {
        Some(Shown::Values(values)) => values.clone(),
        _ => NO_VALUES.to_vec(),
    };
    let (before, after) = (of(before), of(after));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let those: HashSet<&String> = those.iter().collect();
        let these = these.iter().filter(|value| !those.contains(value));
        these.cloned().collect()
    };
    let (removed, added) = (only(&before, &after), only(&after, &before));
    match (removed.is_empty(), added.is_empty()) {
        // The same values in another order.
        (true, true) if before != after => Change::Values {
            removed: before,
            added: after,
        },
        (true, true) => Change::Unknown,
        _ => Change::Values { removed, added },
    }
}

fn files(before: &[ShownFile], after: &[ShownFile]) -> Change {
    let mut old: BTreeMap<&str, &ShownFile> = before
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    let mut changes = Vec::new();
    for file in after {
        let change = match old.remove(file.path.as_str()) {
            None => FileChangeKind::Added,
            Some(was) if was.content != file.content => FileChangeKind::Content,
            Some(was) if was.rest != file.rest => FileChangeKind::Metadata,
            Some(_) => continue,
        };
        changes.push(FileChange {
            path: file.path.clone(),
            change,
        });
    }
    changes.extend(old.into_keys().map(|path| FileChange {
        path: path.to_owned(),
        change: FileChangeKind::Removed,
    }));
    changes.sort();
    if changes.is_empty() {
        return Change::Unknown;
    }
    Change::Files { files: changes }
}

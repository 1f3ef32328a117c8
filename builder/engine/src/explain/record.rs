//! What is written down of a build: `hints/explain-<number>-<key>` in the store, the last few.
//!
//! It is lost with the other hints when everything is pruned.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::SystemTime;

use ashlar_model::digest::DefinitionKey;
use ashlar_store::home::record::{read, write};
use ashlar_store::home::{Home, StoreError};
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, NodeId};
use crate::key::{KeyInput, KeyScope, NodeKeys, shown_inputs};
use crate::schedule::Fate;

/// How many builds are remembered.
const MOST_BUILDS: usize = 24;
const PREFIX: &str = "explain-";
/// What a record takes in the store's reckoning. Few are longer.
const RECKONED: u64 = 64 << 10;

/// What is written down of one build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Whether it was to use nothing old.
    pub no_cache: bool,
    /// Its filesystems, inputs before what needs them.
    pub nodes: Vec<NodeRecord>,
}

/// What is written down of one filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// How people call it: `[build 2/5] RUN make`.
    pub name: String,
    /// The number that progress displays gave it; 0 if it is no step.
    pub vertex: u32,
    /// Its definition key.
    pub definition: String,
    /// What came of looking it up.
    pub fate: Fate,
    /// The filesystems that it is made from, by their places in the record: what it stands on
    /// first.
    pub needs: Vec<usize>,
    /// What entered its key; nothing if it is no step.
    pub inputs: Vec<KeyInput>,
    /// Why a result that a cache had of it was passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A build that was written down.
#[derive(Debug, Clone)]
pub struct StoredBuild {
    /// When it was over.
    pub time: SystemTime,
    /// What was written.
    pub record: BuildRecord,
}

impl BuildRecord {
    /// What is to be written of a build.
    pub fn new(
        graph: &Graph,
        keys: &[NodeKeys],
        scope: &KeyScope,
        fates: &[Fate],
        no_cache: bool,
    ) -> Self {
        let nodes = graph.nodes().zip(keys).zip(fates);
        let nodes = nodes.map(|(((_, node), keys_of), fate)| NodeRecord {
            name: node.name.to_string(),
            vertex: node.vertex.0,
            definition: keys_of.definition.to_hex(),
            fate: *fate,
            needs: node.inputs().into_iter().map(NodeId::index).collect(),
            inputs: shown_inputs(graph, node, keys, scope),
            refused: None,
        });
        Self {
            no_cache,
            nodes: nodes.collect(),
        }
    }

    /// The same with results that were passed over.
    #[must_use]
    pub fn with_refusals(
        mut self,
        keys: &[NodeKeys],
        refusal: impl Fn(&DefinitionKey) -> Option<String>,
    ) -> Self {
        for (node, keys) in self.nodes.iter_mut().zip(keys) {
            node.refused = refusal(&keys.definition);
        }
        self
    }

    /// Writes it into the store, in the place of the oldest.
    pub fn store(&self, home: &Home) -> Result<(), StoreError> {
        let known = numbered(home)?;
        let next = known.last().map_or(1, |(number, _)| number + 1);
        // Of builds that end at the same time, those that made the same stand for each other.
        let tip = self.nodes.last();
        let tip: String =
            tip.map_or_else(String::new, |tip| tip.definition.chars().take(16).collect());
        let _permit = home.admit(RECKONED)?;
        write(&home.hints().join(format!("{PREFIX}{next:08}-{tip}")), self)?;
        let surplus = (known.len() + 1).saturating_sub(MOST_BUILDS);
        for (_, path) in &known[..surplus] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The files of records with their numbers, in order.
fn numbered(home: &Home) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let hints = home.hints();
    let entries = match fs::read_dir(&hints) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("list", &hints, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("list", &hints, e))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok());
        found.extend(number.map(|number: u64| (number, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// The builds that were written down, the last one first. Damaged records are passed over.
pub fn builds(home: &Home) -> Result<Vec<StoredBuild>, StoreError> {
    let mut builds = Vec::new();
    for (_, path) in numbered(home)?.into_iter().rev() {
        let Ok(time) = fs::metadata(&path).and_then(|found| found.modified()) else {
            continue;
        };
        builds.extend(read(&path)?.map(|record| StoredBuild { time, record }));
    }
    Ok(builds)
}

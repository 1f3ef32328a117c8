//! Work as an action: what a client stores before it calls Execute.

use std::collections::BTreeMap;

use ashlar_model::cas::CasDigest;
use ashlar_model::digest::DiffId;
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::{farm, reapi};
use bytes::Bytes;
use futures::FutureExt as _;
use prost::Message as _;

use super::{FarmClient, FarmError};
use crate::patience::patiently;

/// The most layers that are said of work, and the most bytes of its name.
const MOST_INPUTS: usize = 4096;
const LONGEST_NAME: usize = 200;

/// What kind of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// Some steps of a build, on one worker.
    Segment,
    /// An image made of results, sent to registries by a worker.
    Delivery,
    /// A whole build, which no client need wait for.
    Build,
}

impl WorkKind {
    /// The one argument of the action's command.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Segment => "ashlar.segment/1",
            Self::Delivery => "ashlar.delivery/1",
            Self::Build => "ashlar.build/1",
        }
    }

    /// The kind that a command stands for.
    pub fn of_command(command: &str) -> Option<Self> {
        [Self::Segment, Self::Delivery, Self::Build]
            .into_iter()
            .find(|kind| kind.command() == command)
    }
}

/// What the queue has to know of work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// The layers that it stands on, with the bytes that it takes to move them.
    pub inputs: Vec<(DiffId, u64)>,
    /// What a worker must have.
    pub requirements: BTreeMap<String, String>,
    /// For people.
    pub name: String,
    /// How many steps it is at most.
    pub steps: u32,
    /// The build that it belongs to.
    pub build: String,
    /// It waits for other work and does next to nothing itself.
    pub light: bool,
}

/// Something to do for a farm.
#[derive(Debug, Clone)]
pub struct Work {
    /// What kind it is.
    pub kind: WorkKind,
    /// What to do; only clients and workers read it.
    pub order: Bytes,
    /// What the queue has to know.
    pub placement: Placement,
    /// Nothing old is to be used.
    pub fresh: bool,
    /// Larger numbers are less urgent.
    pub priority: i32,
}

/// The first eight bytes of a diff ID, as the queue names layers.
pub fn layer_number(layer: &DiffId) -> u64 {
    let bytes = layer.as_bytes().first_chunk();
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Placement {
    fn to_wire(&self) -> farm::Placement {
        let inputs = self.inputs.iter().take(MOST_INPUTS);
        let inputs = inputs.map(|(layer, bytes)| farm::placement::Input {
            layer: layer_number(layer),
            bytes: *bytes,
        });
        farm::Placement {
            inputs: inputs.collect(),
            requirements: self.requirements.clone().into_iter().collect(),
            name: short(&self.name).to_owned(),
            steps: self.steps,
            build: self.build.clone(),
            light: self.light,
        }
    }
}

/// As much of a name as the queue takes.
fn short(name: &str) -> &str {
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Encodes a message whose maps have one order: the same work is the same action.
fn encode_placement(placement: &farm::Placement) -> Bytes {
    let mut rest = placement.clone();
    let requirements: BTreeMap<_, _> = std::mem::take(&mut rest.requirements).into_iter().collect();
    let mut bytes = Vec::new();
    for (name, value) in requirements {
        let one = farm::Placement {
            requirements: [(name, value)].into(),
            ..Default::default()
        };
        bytes.extend(one.encode_to_vec());
    }
    // Encoded messages that are put together are one message with the fields of all of them.
    bytes.extend(rest.encode_to_vec());
    bytes.into()
}

impl FarmClient {
    /// Stores an action and all that it names; gives its digest.
    pub(super) async fn store_work(&self, work: &Work) -> Result<CasDigest, FarmError> {
        let function = self.function();
        let mut blobs: Vec<(CasDigest, Bytes)> = Vec::new();
        let mut add = |bytes: Bytes| {
            let digest = CasDigest::of(function, &bytes);
            blobs.push((digest, bytes));
            digest
        };
        let file = |name: &str, digest: &CasDigest| reapi::FileNode {
            name: name.to_owned(),
            digest: Some(digest_to_wire(digest)),
            ..Default::default()
        };
        let order = add(work.order.clone());
        let placement = add(encode_placement(&work.placement.to_wire()));
        let root = reapi::Directory {
            files: vec![file("order", &order), file("placement", &placement)],
            ..Default::default()
        };
        let root = add(root.encode_to_vec().into());
        let command = reapi::Command {
            arguments: vec![work.kind.command().to_owned()],
            ..Default::default()
        };
        let command = add(command.encode_to_vec().into());
        let action = reapi::Action {
            command_digest: Some(digest_to_wire(&command)),
            input_root_digest: Some(digest_to_wire(&root)),
            do_not_cache: true,
            ..Default::default()
        };
        let action = add(action.encode_to_vec().into());
        let store = || {
            let written = self.store.write_many(blobs.clone());
            written.map(|answers| answers.into_iter().collect::<Result<(), _>>())
        };
        patiently(store).await.map_err(FarmError::of_fault)?;
        Ok(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_placement_has_the_same_bytes() {
        let requirements = (0..20).map(|number| (format!("label-{number}"), "x".to_owned()));
        let placement = Placement {
            requirements: requirements.collect(),
            inputs: vec![(DiffId::of(b"layer"), 7)],
            name: "ä".repeat(150),
            steps: 3,
            build: "build".to_owned(),
            light: true,
        };
        let one = encode_placement(&placement.to_wire());
        for _ in 0..20 {
            assert_eq!(encode_placement(&placement.to_wire()), one);
        }
        let read = farm::Placement::decode(one).unwrap();
        assert_eq!(read, placement.to_wire());
        assert_eq!(read.name.len(), 200);
    }

    #[test]
    fn kinds_are_commands() {
        for kind in [WorkKind::Segment, WorkKind::Delivery, WorkKind::Build] {
            assert_eq!(WorkKind::of_command(kind.command()), Some(kind));
        }
        assert_eq!(WorkKind::of_command("rm"), None);
    }
}

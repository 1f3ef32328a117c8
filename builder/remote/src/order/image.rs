//! An image that is to be made and sent to registries: what deliveries and whole builds have in
//! common.

use ashlar_engine::driver::Prepared;
use ashlar_image::export::{EpochChoice, ImageOptions, LayerOptions, TimeOptions};
use ashlar_image::manifest::ManifestFormat;
use ashlar_model::config::ImageConfig;
use ashlar_model::media_type::Compression;
use ashlar_model::reference::Reference;
use ashlar_store::home::Home;
use serde::{Deserialize, Serialize};

use super::OrderError;
use super::wire::{WireGraph, WirePlatform};
use super::write::{ContextNames, Writer};

/// The most registries that an image goes to.
const MOST_PUSHES: usize = 64;
/// The most names that it is given in each.
const MOST_NAMES: usize = 256;

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Whether the registry's certificate is not checked.
    pub insecure: bool,
    /// How it is made.
    pub options: ImageOptions,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireImage {
    pub(super) graph: WireGraph,
    /// The configuration but for layers and times, as JSON.
    config: Vec<u8>,
    inherited_history: u64,
    platform: WirePlatform,
    epoch: Option<i64>,
    pushes: Vec<WirePush>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WirePush {
    insecure: bool,
    names: Vec<Reference>,
    format: WireFormat,
    compression: Compression,
    level: Option<i32>,
    force: bool,
    rewrite: bool,
    epoch: WireEpoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WireFormat {
    Oci,
    Docker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum WireEpoch {
    OfBuild,
    None,
    At(i64),
}

impl WireImage {
    /// Writes a build that was planned.
    pub(super) fn of(
        prepared: &Prepared,
        pushes: &[Push],
        home: &Home,
        names: &dyn ContextNames,
    ) -> Result<(Self, Vec<ashlar_engine::graph::NodeId>), OrderError> {
        let Prepared {
            plan,
            target,
            config,
            inherited_history,
            platform,
            epoch,
            vertices: _,
        } = prepared;
        let (graph, nodes) = Writer::write_all(plan, *target, home, names)?;
        let image = Self {
            graph,
            config: config.to_vec(),
            inherited_history: *inherited_history as u64,
            platform: platform.into(),
            epoch: *epoch,
            pushes: pushes.iter().map(WirePush::from).collect(),
        };
        Ok((image, nodes))
    }

    /// The image but for its layers.
    pub(super) fn read(&self) -> Result<ImageParts, OrderError> {
        let wrong = |what: &str| OrderError::Wrong(what.to_owned());
        if self.pushes.len() > MOST_PUSHES
            || self.pushes.iter().any(|push| push.names.len() > MOST_NAMES)
        {
            return Err(wrong("it goes to more places than any image"));
        }
        if self.pushes.iter().any(|push| push.names.is_empty()) {
            return Err(wrong("an image without a name goes nowhere"));
        }
        let config = ImageConfig::from_slice(&self.config);
        let config = config.map_err(|_| wrong("its configuration cannot be read"))?;
        let inherited_history = usize::try_from(self.inherited_history).unwrap_or(usize::MAX);
        if inherited_history > config.history.len() {
            return Err(wrong("it inherits more history than there is"));
        }
        Ok(ImageParts {
            config,
            inherited_history,
            pushes: self.pushes.iter().map(Push::from).collect(),
        })
    }
}

/// What an order says of an image beside its graph.
#[derive(Debug, Clone)]
pub(super) struct ImageParts {
    pub(super) config: ImageConfig,
    pub(super) inherited_history: usize,
    pub(super) pushes: Vec<Push>,
}

impl WireImage {
    /// The build again. Its vertices are those of its nodes.
    pub(super) fn prepared(
        &self,
        parts: &ImageParts,
        (plan, target): (ashlar_engine::key::KeyedGraph, ashlar_engine::graph::NodeId),
    ) -> Prepared {
        Prepared {
            vertices: u32::try_from(plan.graph.len()).unwrap_or(u32::MAX / 2),
            plan,
            target,
            config: parts.config.clone(),
            inherited_history: parts.inherited_history,
            platform: self.platform.clone().into(),
            epoch: self.epoch,
        }
    }
}

impl From<&Push> for WirePush {
    fn from(push: &Push) -> Self {
        let Push { insecure, options } = push;
        // Named one by one, so that a new field cannot be forgotten here.
        let ImageOptions {
            names,
            format,
            layers:
                LayerOptions {
                    compression,
                    level,
                    force,
                },
            times: TimeOptions { rewrite, epoch },
        } = options.clone();
        Self {
            insecure: *insecure,
            names,
            format: match format {
                ManifestFormat::Oci => WireFormat::Oci,
                ManifestFormat::Docker => WireFormat::Docker,
            },
            compression,
            level,
            force,
            rewrite,
            epoch: match epoch {
                EpochChoice::OfBuild => WireEpoch::OfBuild,
                EpochChoice::None => WireEpoch::None,
                EpochChoice::At(seconds) => WireEpoch::At(seconds),
            },
        }
    }
}

impl From<&WirePush> for Push {
    fn from(push: &WirePush) -> Self {
        let WirePush {
            insecure,
            names,
            format,
            compression,
            level,
            force,
            rewrite,
            epoch,
        } = push.clone();
        Self {
            insecure,
            options: ImageOptions {
                names,
                format: match format {
                    WireFormat::Oci => ManifestFormat::Oci,
                    WireFormat::Docker => ManifestFormat::Docker,
                },
                layers: LayerOptions {
                    compression,
                    level,
                    force,
                },
                times: TimeOptions {
                    rewrite,
                    epoch: match epoch {
                        WireEpoch::OfBuild => EpochChoice::OfBuild,
                        WireEpoch::None => EpochChoice::None,
                        WireEpoch::At(seconds) => EpochChoice::At(seconds),
                    },
                },
            },
        }
    }
}

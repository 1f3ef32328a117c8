//! The image of `ashlar run`.

use ashlar_image::pull::ImageSource;
use ashlar_model::config::ImageConfig;
use ashlar_model::digest::LayerId;
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_store::home::Home;
use ashlar_store::home::images::ImageRecord;

use super::super::lookup::{self, config_of, repository_and_tag};
use crate::cli::run::RunArgs;
use crate::diagnostics::CliError;
use crate::failure::to_cli_error;
use crate::settings::Settings;
use crate::workshop::Workshop;

/// An image, as far as a container of it needs to know it.
#[derive(Debug)]
pub(super) struct Image {
    /// Its configuration.
    pub(super) config: ImageConfig,
    /// Its layers, bottom first. Their blobs need not be in the store.
    pub(super) layers: Vec<LayerId>,
}

impl Image {
    /// Finds the image: by name in the store, by ID in the store, in a registry, or in a layout.
    pub(super) async fn find(
        args: &RunArgs,
        settings: &Settings,
        workshop: &Workshop,
    ) -> Result<Self, CliError> {
        let platform = args.platform.clone().unwrap_or_else(Platform::host);
        let library = workshop.library(false, settings.clock().now());
        match &args.image {
            ImageSource::Layout(layout) => {
                let (layers, image) = library
                    .open_layout(layout, &platform)
                    .await
                    .map_err(to_cli_error)?;
                Ok(Self {
                    config: image.config,
                    layers,
                })
            }
            ImageSource::Registry(reference) => {
                if let Some((record, config)) = library.local(reference, &platform)? {
                    return Ok(Self {
                        config,
                        layers: record.layers,
                    });
                }
                if let Some(record) = by_id(workshop.home(), reference)? {
                    return Ok(Self {
                        config: config_of(workshop.home(), &record)?,
                        layers: record.layers,
                    });
                }
                let (record, image) = library
                    .fetch(reference, &platform)
                    .await
                    .map_err(to_cli_error)?;
                Ok(Self {
                    config: image.config,
                    layers: record.layers,
                })
            }
        }
    }
}

/// An ID, or the beginning of one, reads as a name without registry and tag; with `sha256:`, as
/// one with a tag.
fn by_id(home: &Home, reference: &Reference) -> Result<Option<ImageRecord>, CliError> {
    let (repository, tag) = repository_and_tag(reference);
    let text = match (repository.as_str(), tag.as_str()) {
        ("sha256", digits) => digits,
        (digits, "latest") => digits,
        _ => return Ok(None),
    };
    let is_id = text.len() >= SHORTEST_ID && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_id {
        return Ok(None);
    }
    Ok(lookup::find(home, text)?.and_then(lookup::Found::into_image))
}

/// Digits that are needed for an ID to be taken for one where a registry could be asked for a name
/// as well: words such as `cafe` are names.
const SHORTEST_ID: usize = 6;

//! `ashlar inspect`.
//!
//! One JSON array with an object for each image, with the field names of `docker image inspect`.
//! `History` is added, and `Size` is in bytes, unpacked.

use std::io::Write as _;

use ashlar_model::config::{ContainerConfig, DateTime, HistoryEntry, ImageConfig};
use ashlar_model::digest::{BlobDigest, DiffId};
use ashlar_store::home::Home;
use ashlar_store::home::images::ImageRecord;
use serde::Serialize;

use super::lookup::{self, config_of, layer_size};
use super::output::print;
use crate::cli::inspect::InspectArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: BlobDigest,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<DateTime>,
    author: String,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    size: u64,
    config: ContainerConfig,
    #[serde(rename = "RootFS")]
    root_filesystem: RootFilesystem,
    history: Vec<HistoryEntry>,
    metadata: Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFilesystem {
    r#type: String,
    layers: Vec<DiffId>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: DateTime,
}

/// Runs the command.
pub(super) fn run(args: &InspectArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let all = home.images()?;
    let mut inspected = Vec::with_capacity(args.images.len());
    for text in &args.images {
        let image = lookup::image(&home, text)?;
        inspected.push(inspect(&home, &image, &all)?);
    }
    print(|out| {
        serde_json::to_writer_pretty(&mut *out, &inspected)?;
        writeln!(out)
    })
}

fn inspect(home: &Home, image: &ImageRecord, all: &[ImageRecord]) -> Result<Inspected, CliError> {
    let config = config_of(home, image)?;
    let mut size = 0;
    for layer in &image.layers {
        size += layer_size(home, layer)?;
    }
    let same = || {
        all.iter()
            .filter(|other| other.config.digest == image.config.digest)
    };
    let digests = same().filter_map(|other| {
        let manifest = other.manifest.as_ref()?;
        Some(other.reference.with_digest(manifest.digest).familiar())
    });
    let mut repo_digests: Vec<String> = digests.collect();
    repo_digests.dedup();
    let ImageConfig {
        created,
        author,
        architecture,
        variant,
        os,
        config,
        rootfs,
        history,
        ..
    } = config;
    Ok(Inspected {
        id: image.config.digest,
        repo_tags: same().map(|other| other.reference.familiar()).collect(),
        repo_digests,
        created,
        author,
        architecture,
        variant,
        os,
        size,
        config,
        root_filesystem: RootFilesystem {
            r#type: rootfs.kind,
            layers: rootfs.diff_ids,
        },
        history,
        metadata: Metadata {
            last_tag_time: image.tagged.into(),
        },
    })
}

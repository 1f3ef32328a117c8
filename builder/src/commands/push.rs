//! `ashlar push`.
//!
//! An image that came with a manifest is sent with that manifest, so that its digest stays what it
//! was. One that was built here gets a manifest, and its layers are compressed if they were not.

use std::sync::Arc;

use ashlar_engine::driver::Built;
use ashlar_image::export::registry::{PushProgress, PushedImage, push};
use ashlar_image::export::{ExportImage, ImageOptions, LayerOptions, TimeOptions};
use ashlar_image::manifest::{ImageManifest, Manifest, ManifestFormat};
use ashlar_model::descriptor::Descriptor;
use ashlar_model::layer::LayerRecord;
use ashlar_model::reference::Reference;
use ashlar_store::home::images::ImageRecord;
use ashlar_store::home::{Home, StoreError};

use super::lookup::{self, config_of, short_id};
use super::output::line;
use super::vertex::{Vertex, warnings};
use crate::cli::push::PushArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::failure::registry_to_cli_error;
use crate::settings::Settings;
use crate::ui::{Progress, ProgressMode};
use crate::workshop::{self, Workshop, run_interruptible};

/// Runs the command.
pub(super) fn run(args: &PushArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let mode = if args.quiet {
        ProgressMode::Quiet
    } else {
        settings.progress(args.progress)?
    };
    let home = settings.open_home()?;
    // Taken before the image is looked up: it must not go in between.
    let in_use = home.in_use()?;
    let image = lookup::image(&home, &args.image)?;
    let target = args
        .destination
        .clone()
        .unwrap_or_else(|| image.reference.clone());
    let progress = Progress::start(mode, settings);
    let workshop = workshop::open(home, settings, warnings(&progress))?;
    drop(in_use);
    let vertex = Vertex::begin(&progress, format!("push {}", target.familiar()));
    let outcome = run_interruptible(send(&image, &target, &workshop, &vertex));
    vertex.end(&outcome);
    progress.finish();
    let pushed = outcome?;
    pushed
        .iter()
        .try_for_each(|pushed| line(&pushed.manifest.digest.to_string()).map(drop))?;
    Ok(ExitCode::Success)
}

async fn send(
    image: &ImageRecord,
    target: &Reference,
    workshop: &Workshop,
    vertex: &Vertex,
) -> Result<Vec<PushedImage>, CliError> {
    let records = layer_records(workshop.home(), image)?;
    let export = match &image.manifest {
        Some(manifest) => with_its_manifest(workshop, image, manifest, &records, target)?,
        None => {
            vertex.work("compressing layers", 0, None);
            let config = config_of(workshop.home(), image)?;
            let built = Built {
                epoch: None,
                inherited_history: config.history.len(),
                vertices: 0,
                config,
                layers: records.clone(),
                platform: image.platform.clone(),
                prepared: None,
            };
            let options = ImageOptions {
                names: vec![target.clone()],
                format: ManifestFormat::Oci,
                layers: LayerOptions::default(),
                times: TimeOptions::default(),
            };
            workshop.export_image(&built, &options, false).await?
        }
    };
    let client = workshop.client(false, &[]);
    let told = push_progress(vertex, &export);
    push(&client, &export, Some(&told))
        .await
        .map_err(registry_to_cli_error)
}

fn layer_records(home: &Home, image: &ImageRecord) -> Result<Vec<LayerRecord>, CliError> {
    let mut records = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        records.push(home.layer(layer)?.ok_or_else(|| damaged(image))?);
    }
    Ok(records)
}

fn damaged(image: &ImageRecord) -> CliError {
    let name = image.reference.familiar();
    CliError::environment(format!("parts of {name} are missing in the store"))
        .hint("build or pull the image again")
}

fn with_its_manifest(
    workshop: &Workshop,
    image: &ImageRecord,
    descriptor: &Descriptor,
    records: &[LayerRecord],
    target: &Reference,
) -> Result<ExportImage, CliError> {
    let read = |digest| {
        let lost = |error: StoreError| damaged(image).caused_by(error);
        workshop.home().blobs().read(digest).map_err(lost)
    };
    let bytes = read(&descriptor.digest)?;
    let manifest = image_manifest(&bytes, &descriptor.media_type)
        .filter(|manifest| manifest.layers.len() == records.len())
        .ok_or_else(|| damaged(image))?;
    let config = read(&manifest.config.digest)?;
    let layers = manifest.layers.iter().zip(records);
    let layers = layers
        .map(|(descriptor, record)| workshop.blob_of(record, descriptor.clone()))
        .collect();
    Ok(ExportImage::with_manifest(
        &manifest,
        bytes.into(),
        config.into(),
        layers,
        vec![target.clone()],
    ))
}

/// A record points to the manifest of one image, never to an index.
fn image_manifest(bytes: &[u8], media_type: &str) -> Option<ImageManifest> {
    match Manifest::read(bytes, media_type) {
        Ok(Manifest::Image(manifest)) => Some(manifest),
        _ => None,
    }
}

fn push_progress(vertex: &Vertex, export: &ExportImage) -> PushProgress {
    let vertex = vertex.clone();
    let layers: Vec<(Arc<str>, u64)> = export
        .layers
        .iter()
        .map(|layer| {
            (
                short_id(&layer.descriptor.digest).into(),
                layer.descriptor.size,
            )
        })
        .collect();
    Arc::new(move |index, bytes| {
        if let Some((label, size)) = layers.get(index) {
            vertex.work_on(label, bytes, Some(*size));
        }
    })
}

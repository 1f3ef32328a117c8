//! `ashlar pull`.

use std::sync::Arc;

use ashlar_image::pull::{ImageHandle, LayerProgress};
use ashlar_model::platform::Platform;
use ashlar_store::home::images::ImageRecord;
use ashlar_workshop::images::register::register_image;
use futures::TryStreamExt as _;

use super::lookup::short_id;
use super::output::line;
use super::vertex::Vertex;
use crate::cli::pull::PullArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::failure::to_cli_error;
use crate::settings::Settings;
use crate::ui::{Progress, ProgressMode};
use crate::workshop::{self, Workshop, run_interruptible};

/// Runs the command. The name is given when all layers are there: a pull that breaks off leaves
/// what had the name before, and its downloads to be taken up again.
pub(super) fn run(args: &PullArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let mode = if args.quiet {
        ProgressMode::Quiet
    } else {
        settings.progress(args.progress)?
    };
    let home = settings.open_home()?;
    let progress = Progress::start(mode, settings);
    let workshop = workshop::open(home, settings, super::vertex::warnings(&progress))?;
    let vertex = Vertex::begin(&progress, format!("pull {}", args.image.familiar()));
    let outcome = run_interruptible(pull(args, settings, &workshop, &vertex));
    vertex.end(&outcome);
    progress.finish();
    let image = outcome?;
    line(&image.config.digest.to_string())
}

async fn pull(
    args: &PullArgs,
    settings: &Settings,
    workshop: &Workshop,
    vertex: &Vertex,
) -> Result<ImageRecord, CliError> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let now = settings.clock().now();
    let library = workshop.library(true, now);
    let fetcher = library.fetcher();
    vertex.work("resolving", 0, None);
    let image = fetcher
        .pull(&args.image, &platform)
        .await
        .map_err(to_cli_error)?;
    let told = layer_progress(vertex, &image);
    fetcher
        .fetch_layers(&image, 0..image.manifest.layers.len(), Some(&told))
        .try_for_each(|_| async { Ok(()) })
        .await
        .map_err(to_cli_error)?;
    Ok(register_image(
        workshop.home(),
        &args.image,
        &image,
        &platform,
        now,
    )?)
}

fn layer_progress(vertex: &Vertex, image: &ImageHandle) -> LayerProgress {
    let vertex = vertex.clone();
    let layers: Vec<(Arc<str>, u64)> = image
        .manifest
        .layers
        .iter()
        .map(|layer| (short_id(&layer.digest).into(), layer.size))
        .collect();
    Arc::new(move |index, bytes| {
        if let Some((label, size)) = layers.get(index) {
            vertex.work_on(label, bytes, Some(*size));
        }
    })
}

//! An image made of results, to registries: its layers go from the farm's cache to the registry, and
//! never through the client.
//!
//! All steps should be found. What was lost meanwhile is made again, as in any build; if that comes
//! out otherwise, it is another image than the client was told of, and nothing is sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_engine::driver::{self, Built};
use ashlar_engine::event::{BuildEvent, VertexId};
use ashlar_engine::schedule::{Audience, Failure, ScheduleOptions};
use ashlar_exec::executor::isolation_class;
use ashlar_image::blob_source::LayerBlob;
use ashlar_image::export::ExportImage;
use ashlar_image::export::registry::{self, PushProgress};
use ashlar_model::digest::BlobDigest;
use ashlar_model::error_chain::error_chain;
use ashlar_model::executor::{BoxFuture, PackRequest, StepError};
use ashlar_remote::client::image::{DeliveredImage, ImageFailure, ImageOutcome};
use ashlar_remote::order::{DeliveryOrder, Push};
use ashlar_workshop::WorkshopError;
use ashlar_workshop::error::ErrorKind;
use ashlar_workshop::workshop::blob_form;

use super::bench::Bench;
use super::contexts::Contexts;
use super::ending::{Ended, Trouble, Unfinished};
use super::segment::{of_order, set_out, surroundings, trouble};
use super::{Job, LAST_RESULTS};
use crate::worker::stop_of;

/// How much of a layer's digest people see.
const SHORT: usize = 12;
/// How often it is told how far a layer is.
const SHOWN: Duration = Duration::from_millis(200);

/// Makes an image and sends it.
pub(super) fn run(job: Job<'_>) -> BoxFuture<'_, Result<Ended, Unfinished>> {
    Box::pin(run_delivery(job))
}

async fn run_delivery(job: Job<'_>) -> Result<Ended, Unfinished> {
    let mut told = job.stopped.clone();
    let order = DeliveryOrder::read(&job.action.order).map_err(|error| of_order(&error))?;
    let (contexts, bench) = tokio::select! {
        set_up = set_up(&job, &order) => set_up?,
        why = stop_of(&mut told) => return Err(Unfinished::Stopped(why)),
    };
    let delivered = tokio::select! {
        delivered = deliver(&job, &order, &contexts, &bench) => delivered,
        why = stop_of(&mut told) => Err(Unfinished::Stopped(why)),
    };
    // What had to be made again is there for others.
    job.send_rest(&bench, LAST_RESULTS).await;
    let outcome = match delivered? {
        Ok(image) => ImageOutcome::Made(image),
        Err(failure) => ImageOutcome::Failed(failure),
    };
    Ok(of_image(&outcome))
}

/// The end of work that was to make an image.
pub(super) fn of_image(outcome: &ImageOutcome) -> Ended {
    Ended {
        outcome: outcome.encode(),
        failed: outcome.failure().map(ToOwned::to_owned),
    }
}

async fn set_up(
    job: &Job<'_>,
    order: &DeliveryOrder,
) -> Result<(Arc<Contexts>, Bench), Unfinished> {
    let kept = (&job.worker.kept, job.assign.instance_name.as_str());
    let contexts = Contexts::list(&job.home, &job.files, kept, order.contexts()).await;
    let contexts = contexts.map_err(|error| Trouble::of(&error))?;
    let bench = set_out(job, order.layers())?;
    Ok((Arc::new(contexts), bench))
}

type Delivered = Result<DeliveredImage, ImageFailure>;

/// The image, or why the client's input gives none. An error is this worker's.
fn deliver<'a>(
    job: &'a Job<'_>,
    order: &'a DeliveryOrder,
    contexts: &'a Arc<Contexts>,
    bench: &'a Bench,
) -> BoxFuture<'a, Result<Delivered, Unfinished>> {
    Box::pin(deliver_it(job, order, contexts, bench))
}

async fn deliver_it(
    job: &Job<'_>,
    order: &DeliveryOrder,
    contexts: &Arc<Contexts>,
    bench: &Bench,
) -> Result<Delivered, Unfinished> {
    let prepared = order.plan(&contexts.places(), isolation_class());
    let prepared = prepared.map_err(|error| of_order(&error))?;
    let options = ScheduleOptions {
        jobs: 2,
        wanted: wanted(order.pushes()),
        audience: Audience::Farm,
        ..ScheduleOptions::default()
    };
    let made = driver::make(prepared, options, surroundings(job, bench, contexts)).await;
    let mut built = match made {
        Ok(built) => built,
        Err(failure) => return of_failure(job, &failure, contexts),
    };
    if built.config.rootfs.diff_ids != order.config().rootfs.diff_ids {
        return Ok(Err(ImageFailure {
            message: "the image is not the one that was built".to_owned(),
            causes: vec![
                "results were lost meanwhile, and came out otherwise when they were made again"
                    .to_owned(),
            ],
            hint: Some("build again".to_owned()),
            ..ImageFailure::default()
        }));
    }
    // Times of layers depend on the store that has them: those that the client was told count.
    built.config.clone_from(order.config());
    let mut delivered = DeliveredImage {
        id: BlobDigest::of(&built.config.to_vec()),
        manifest: None,
        names: Vec::new(),
    };
    for push in order.pushes() {
        match send(bench, &built, push).await {
            Ok(image) => note(&mut delivered, &image),
            Err(error) => return of_registry(job, error),
        }
    }
    Ok(Ok(delivered))
}

/// The forms of layers that registries are sent.
fn wanted(pushes: &[Push]) -> PackRequest {
    let mut blobs = Vec::new();
    for push in pushes {
        let form = blob_form(&push.options.layers);
        if !blobs.contains(&form) {
            blobs.push(form);
        }
    }
    PackRequest {
        diff_id: true,
        blobs,
    }
}

fn send<'a>(
    bench: &'a Bench,
    built: &'a Built,
    push: &'a Push,
) -> BoxFuture<'a, Result<ExportImage, WorkshopError>> {
    let workshop = &bench.workshop;
    let client = workshop.client(push.insecure, &push.options.names);
    Box::pin(async move {
        let image = workshop.export_image(built, &push.options, false).await?;
        let told = progress(bench, &image);
        registry::push(&client, &image, Some(&told)).await?;
        Ok(image)
    })
}

/// Tells how far each layer is, now and then.
fn progress(bench: &Bench, image: &ExportImage) -> PushProgress {
    let of_layer = |layer: &LayerBlob| {
        let digest = layer.descriptor.digest.to_hex();
        let label: Arc<str> = digest[..SHORT].into();
        (label, layer.descriptor.size, Mutex::new(None::<Instant>))
    };
    let layers: Vec<_> = image.layers.iter().map(of_layer).collect();
    let events = Arc::clone(&bench.events);
    Arc::new(move |index, done| {
        let Some((label, size, told)) = layers.get(index) else {
            return;
        };
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if done < *size && told.is_some_and(|told| told.elapsed() < SHOWN) {
            return;
        }
        *told = Some(Instant::now());
        // It is all that a delivery does, so it need not say of what.
        events.emit(BuildEvent::Progress {
            vertex: VertexId(0),
            label: Arc::clone(label),
            done,
            total: Some(*size),
        });
    })
}

/// Notes where an image is now.
fn note(delivered: &mut DeliveredImage, image: &ExportImage) {
    if delivered.manifest.is_none() {
        delivered.manifest = Some(image.manifest.clone());
        // An output may have bounded the times of the configuration.
        delivered.id = image.config.digest;
    }
    for name in &image.names {
        if !delivered.names.contains(name) {
            delivered.names.push(name.clone());
        }
    }
}

/// A registry that does not take the image: another worker may reach it, up to the last attempt.
fn of_registry<T>(
    job: &Job<'_>,
    error: WorkshopError,
) -> Result<Result<T, ImageFailure>, Unfinished> {
    let is_input = error.kind == ErrorKind::Input;
    if !is_input {
        let trouble = Trouble::of(&error);
        if trouble.is_exhaustion || !job.is_last_attempt() {
            return Err(trouble.into());
        }
    }
    Ok(Err(ImageFailure {
        causes: causes(&error, &error.message),
        hint: error.hints.into_iter().next(),
        message: error.message,
        details: Vec::new(),
        is_input,
    }))
}

fn of_failure<T>(
    job: &Job<'_>,
    failure: &Failure,
    contexts: &Contexts,
) -> Result<Result<T, ImageFailure>, Unfinished> {
    if let Some(trouble) = trouble(failure, contexts.trouble())
        && (trouble.is_exhaustion || !job.is_last_attempt())
    {
        return Err(trouble.into());
    }
    Ok(Err(failed(failure)))
}

/// A failure of a build, for the client.
pub(super) fn failed(failure: &Failure) -> ImageFailure {
    let (details, hint, is_input) = match failure {
        Failure::Step(step) => (
            step.last_output.clone(),
            step.error.hint().map(ToOwned::to_owned),
            matches!(
                step.error,
                StepError::Failed { .. } | StepError::Input { .. }
            ),
        ),
        Failure::Farm(farm) => (Vec::new(), farm.hint.clone(), false),
        _ => (Vec::new(), None, false),
    };
    let message = failure.to_string();
    ImageFailure {
        causes: causes(failure, &message),
        message,
        details,
        hint,
        is_input,
    }
}

/// What lies behind an error, each cause once.
fn causes(error: &(dyn std::error::Error + 'static), said: &str) -> Vec<String> {
    let chain = error.source().map(error_chain);
    chain
        .into_iter()
        .filter(|cause| !said.contains(cause.as_str()))
        .collect()
}

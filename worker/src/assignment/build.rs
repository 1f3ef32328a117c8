//! A whole build: this worker is its client. It gives segments to the farm, then a delivery, and runs
//! nothing itself.
//!
//! Secrets stay where the client that submitted the build has left them: with the farm, sealed, under
//! the build's name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ashlar_engine::driver::{self, Built, Prepared};
use ashlar_engine::event::{BuildEvent, VertexId};
use ashlar_engine::schedule::{self, ScheduleOptions, Surroundings};
use ashlar_model::digest::BlobDigest;
use ashlar_model::executor::{BoxFuture, PackRequest, StepExecutor};
use ashlar_remote::client::image::{DeliveredImage, ImageFailure, ImageOutcome};
use ashlar_remote::client::{
    BuildOptions, FarmClient, FarmError, FarmRunner, Offer, Placement, Work, WorkKind, output_event,
};
use ashlar_remote::order::{BuildOrder, DeliveryOrder};
use ashlar_store::home::Home;

use super::Job;
use super::bench::Bench;
use super::contexts::Contexts;
use super::delivery::{failed, of_image};
use super::ending::{Ended, Trouble, Unfinished};
use super::segment::{of_order, set_out};
use crate::worker::stop_of;

/// Segments that are given to the farm at once: as many as there are.
const JOBS: usize = 1024;
/// What every client asks for, so that the rest are the labels that this one asked for.
const NO_LABELS: [&str; 4] = ["os", "arch", "variant", "isolation"];

/// Drives a build.
pub(super) fn run(job: Job<'_>) -> BoxFuture<'_, Result<Ended, Unfinished>> {
    Box::pin(run_build(job))
}

async fn run_build(job: Job<'_>) -> Result<Ended, Unfinished> {
    let mut told = job.stopped.clone();
    let order = BuildOrder::read(&job.action.order).map_err(|error| of_order(&error))?;
    let settings = job.worker.farm.client_settings(&job.assign.instance_name);
    let client = tokio::select! {
        client = FarmClient::connect(settings) => client,
        why = stop_of(&mut told) => return Err(Unfinished::Stopped(why)),
    };
    let client = client.map_err(|error| Trouble::of(&error))?;
    let driven = tokio::select! {
        driven = drive(&job, &order, &client) => driven,
        why = stop_of(&mut told) => Err(Unfinished::Stopped(why)),
    };
    // The farm hears that what was given to it is not wanted any more.
    client.settle().await;
    Ok(of_image(&driven?))
}

fn drive<'a>(
    job: &'a Job<'_>,
    order: &'a BuildOrder,
    client: &'a FarmClient,
) -> BoxFuture<'a, Result<ImageOutcome, Unfinished>> {
    Box::pin(drive_it(job, order, client))
}

async fn drive_it(
    job: &Job<'_>,
    order: &BuildOrder,
    client: &FarmClient,
) -> Result<ImageOutcome, Unfinished> {
    let kept = (&job.worker.kept, job.assign.instance_name.as_str());
    let contexts = Contexts::list(&job.home, &job.files, kept, order.contexts()).await;
    let contexts = contexts.map_err(|error| Trouble::of(&error))?;
    let bench = set_out(job, order.layers())?;
    keep_documents(&job.home, order.documents()).map_err(Trouble::from)?;
    // Where it is driven says nothing of where it runs.
    let prepared = order.plan(&contexts.places(), order.isolation());
    let prepared = prepared.map_err(|error| of_order(&error))?;
    announce(&bench, &prepared);
    let runner = Arc::new(runner(job, order, client, &bench, &contexts));
    let options = ScheduleOptions {
        jobs: JOBS,
        fresh: order.fresh(),
        wanted: PackRequest {
            diff_id: true,
            blobs: Vec::new(),
        },
        ..ScheduleOptions::default()
    };
    let made = driver::make(prepared, options, surroundings(job, &bench, &runner)).await;
    let built = match made {
        Ok(built) => built,
        Err(failure) => return Ok(ImageOutcome::Failed(failed(&failure))),
    };
    if order.pushes().is_empty() {
        return Ok(ImageOutcome::Made(DeliveredImage {
            id: BlobDigest::of(&built.config.to_vec()),
            manifest: None,
            names: Vec::new(),
        }));
    }
    deliver(job, order, (client, &runner), &built, &bench).await
}

/// The documents that say what bases are, for the orders of segments.
fn keep_documents(
    home: &Home,
    documents: &[Vec<u8>],
) -> Result<(), ashlar_store::home::StoreError> {
    for document in documents {
        home.blobs().put(document)?;
    }
    Ok(())
}

/// Tells what will be done.
fn announce(bench: &Bench, prepared: &Prepared) {
    for (_, node) in prepared.plan.graph.nodes() {
        if node.is_step() {
            bench.events.emit(BuildEvent::Announced {
                vertex: node.vertex,
                name: Arc::clone(&node.name),
            });
        }
    }
}

fn runner(
    job: &Job<'_>,
    order: &BuildOrder,
    client: &FarmClient,
    bench: &Bench,
    contexts: &Contexts,
) -> FarmRunner {
    let options = BuildOptions {
        build: job.assign.build.clone(),
        priority: job.assign.priority,
        labels: labels(job),
    };
    let executor: Arc<dyn StepExecutor> = Arc::new(bench.executor.clone());
    let local = (job.home.clone(), executor);
    let runner = FarmRunner::new(
        client.clone(),
        options,
        Offer::default(),
        local,
        Arc::new(|_: &Path| None),
    );
    let known = contexts.places().into_iter().zip(order.contexts());
    let known = known.map(|((root, selection), reference)| (root, selection, *reference));
    let blobs = order.layers().iter().filter_map(|layer| {
        let blob = layer.record.blobs.first()?;
        Some((blob.descriptor.digest, layer.cas?))
    });
    runner.knowing(known).knowing_blobs(blobs)
}

/// What the client asked of workers, beyond platform and isolation.
fn labels(job: &Job<'_>) -> BTreeMap<String, String> {
    let required = job.action.placement.requirements.iter();
    let labels = required.filter(|(name, _)| !NO_LABELS.contains(&name.as_str()));
    labels
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn surroundings(job: &Job<'_>, bench: &Bench, runner: &Arc<FarmRunner>) -> Surroundings {
    Surroundings {
        home: job.home.clone(),
        remotes: Arc::clone(&bench.sources) as _,
        executor: Arc::new(bench.executor.clone()),
        shared: Some(Arc::new(bench.sharing().clone())),
        farm: Some(schedule::Farm {
            runner: Arc::clone(runner) as _,
            fall_back: false,
        }),
        events: Arc::clone(&bench.events),
    }
}

/// Lets the farm send the image to its registries.
async fn deliver(
    job: &Job<'_>,
    order: &BuildOrder,
    (client, runner): (&FarmClient, &Arc<FarmRunner>),
    built: &Built,
    bench: &Bench,
) -> Result<ImageOutcome, Unfinished> {
    let encoded = DeliveryOrder::encode(built, order.pushes(), &job.home, runner.as_ref());
    let encoded = encoded.ok_or_else(|| Trouble::new("the build has no plan"))?;
    let encoded = encoded.map_err(|error| of_order(&error))?;
    let mut requirements = job.action.placement.requirements.clone();
    requirements.insert("isolation".to_owned(), order.isolation().to_owned());
    let inputs = built
        .layers
        .iter()
        .filter_map(ashlar_engine::segment::moved);
    let work = Work {
        kind: WorkKind::Delivery,
        order: encoded.bytes.into(),
        placement: Placement {
            inputs: inputs.collect(),
            requirements: requirements.into_iter().collect(),
            name: format!("sending {}", order.name()),
            steps: 1,
            build: job.assign.build.clone(),
            light: false,
        },
        fresh: false,
        priority: job.assign.priority,
    };
    let vertex = VertexId(built.vertices.saturating_add(1));
    let begun = begin_output(bench, order, vertex);
    let events = Arc::clone(&bench.events);
    let events = Arc::new(move |event| {
        if let Some(event) = output_event(event, vertex) {
            events.emit(event);
        }
    });
    let outcome = client.run(&work, events).await;
    let elapsed = begun.elapsed();
    bench.events.emit(match &outcome {
        Ok(outcome) if !outcome.failed => BuildEvent::Finished { vertex, elapsed },
        Ok(outcome) => BuildEvent::Failed {
            vertex,
            elapsed,
            error: outcome.message.as_str().into(),
        },
        Err(error) => BuildEvent::Failed {
            vertex,
            elapsed,
            error: error.to_string().into(),
        },
    });
    match outcome {
        Ok(outcome) => match ImageOutcome::decode(&outcome.bytes) {
            Ok(image) => Ok(image),
            Err(error) => Ok(ImageOutcome::Failed(of_farm(&error))),
        },
        Err(error) => Ok(ImageOutcome::Failed(of_farm(&error))),
    }
}

/// Tells that the image is sent now.
fn begin_output(bench: &Bench, order: &BuildOrder, vertex: VertexId) -> Instant {
    let pushes = order.pushes().iter();
    let names = pushes.flat_map(|push| push.options.names.iter().map(ToString::to_string));
    let names: Vec<String> = names.collect();
    let name = format!("pushing {}", names.join(", ")).into();
    bench.events.emit(BuildEvent::Announced { vertex, name });
    bench.events.emit(BuildEvent::Started { vertex });
    Instant::now()
}

/// A farm that does not do its part.
fn of_farm(error: &FarmError) -> ImageFailure {
    ImageFailure {
        message: error.to_string(),
        hint: error.hint(),
        ..ImageFailure::default()
    }
}

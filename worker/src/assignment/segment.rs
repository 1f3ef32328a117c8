//! Some steps of a build: as in a local build, with the segment's tip as its target.
//!
//! What the order says is not believed: all keys are computed here, from what steps do and from what
//! files are. What the steps stand on is found in the farm's cache, as a local build finds it; if it
//! was lost meanwhile, it is made again. Results go to the cache while the next steps run; the work
//! has ended when all of them have arrived.

use std::sync::Arc;

use ashlar_engine::key::NodeKeys;
use ashlar_engine::schedule::{self, Failure, Made, ScheduleOptions, Surroundings};
use ashlar_exec::executor::{BlobFetcher, isolation_class};
use ashlar_model::executor::{BoxFuture, PackRequest, StepError};
use ashlar_remote::order::{BaseLayer, Order, OrderError, Planned, SegmentOutcome};
use ashlar_store::home::{Home, StoreError};
use ashlar_workshop::images::register::note_layer;

use super::bench::Bench;
use super::blobs::FarmBlobs;
use super::contexts::{Contexts, WithContexts};
use super::ending::{Ended, Trouble, Unfinished, is_exhaustion};
use super::{Job, LAST_RESULTS, RESULTS_OF_FAILED};
use crate::worker::stop_of;

/// Steps that run at once: those beside the main chain are few and small.
const JOBS: usize = 2;

/// Runs a segment.
pub(super) fn run(job: Job<'_>) -> BoxFuture<'_, Result<Ended, Unfinished>> {
    Box::pin(run_segment(job))
}

async fn run_segment(mut job: Job<'_>) -> Result<Ended, Unfinished> {
    let mut told = job.stopped.clone();
    let set_up = tokio::select! {
        set_up = set_up(&job) => set_up?,
        why = stop_of(&mut told) => return Err(Unfinished::Stopped(why)),
    };
    let SetUp {
        planned,
        contexts,
        bench,
    } = set_up;
    let made = {
        let making = schedule::make(
            planned.plan.clone(),
            planned.target,
            options(&planned),
            surroundings(&job, &bench, &contexts),
        );
        // When it is told to end, dropping it kills what runs.
        tokio::select! {
            made = making => Ok(made),
            why = stop_of(&mut told) => Err(why),
        }
    };
    let made = match made {
        Ok(made) => made,
        Err(why) => {
            job.send_rest(&bench, LAST_RESULTS).await;
            return Err(Unfinished::Stopped(why));
        }
    };
    bench.save_mounts().await;
    if made.layers.is_ok() {
        job.send(&bench, &keys(&planned)).await?;
    } else {
        job.send_rest(&bench, RESULTS_OF_FAILED).await;
    }
    ended(&job, &made, &planned, &contexts)
}

struct SetUp {
    planned: Planned,
    contexts: Arc<Contexts>,
    bench: Bench,
}

async fn set_up(job: &Job<'_>) -> Result<SetUp, Unfinished> {
    let bytes = job.action.order.clone();
    let reading = tokio::task::spawn_blocking(move || Order::read(&bytes)).await;
    let order = reading.map_err(|error| Trouble::of(&error))?;
    let order = order.map_err(|error| of_order(&error))?;
    let kept = (&job.worker.kept, job.assign.instance_name.as_str());
    let contexts = Contexts::list(&job.home, &job.files, kept, order.contexts()).await;
    let contexts = Arc::new(contexts.map_err(|error| Trouble::of(&error))?);
    let bench = set_out(job, order.layers())?;
    let planned = order.plan(&contexts.places(), isolation_class());
    Ok(SetUp {
        planned: planned.map_err(|error| of_order(&error))?,
        contexts,
        bench,
    })
}

/// An order that this worker cannot read: maybe another one can.
pub(super) fn of_order(error: &OrderError) -> Trouble {
    let mut trouble = Trouble::of(error);
    if let Some(hint) = error.hint() {
        trouble.message = format!("{} ({hint})", trouble.message);
    }
    trouble
}

/// Sets the tools out, with base layers that an order names.
pub(super) fn set_out(job: &Job<'_>, layers: &[BaseLayer]) -> Result<Bench, Unfinished> {
    let of_farm = layers.iter().filter_map(|layer| {
        let blob = layer.record.blobs.first()?;
        Some((blob.descriptor.digest, layer.cas?))
    });
    let store = Arc::clone(&job.service.blobs);
    let blobs = FarmBlobs::new(job.home.clone(), store, of_farm.collect());
    let blobs: Arc<dyn BlobFetcher> = Arc::new(blobs);
    let bench = Bench::set_out(
        job.worker,
        &job.home,
        &job.assign.instance_name,
        job.given,
        &job.secrets,
        Some(blobs),
    );
    let bench = bench.map_err(Trouble::from)?;
    // After the store was noted as used: nothing of it is evicted any more.
    note_layers(&job.home, layers).map_err(Trouble::from)?;
    Ok(bench)
}

fn note_layers(home: &Home, layers: &[BaseLayer]) -> Result<(), StoreError> {
    layers
        .iter()
        .try_for_each(|layer| note_layer(home, &layer.record))
}

fn options(planned: &Planned) -> ScheduleOptions {
    ScheduleOptions {
        jobs: JOBS,
        fresh: planned.fresh.clone(),
        wanted: PackRequest {
            diff_id: true,
            blobs: Vec::new(),
        },
        blobs_here: false,
        audience: planned.audience,
        own: planned.own(),
    }
}

pub(super) fn surroundings(job: &Job<'_>, bench: &Bench, contexts: &Arc<Contexts>) -> Surroundings {
    let executor = WithContexts::new(bench.executor.clone(), Arc::clone(contexts));
    Surroundings {
        home: job.home.clone(),
        remotes: Arc::clone(&bench.sources) as _,
        executor: Arc::new(executor),
        shared: Some(Arc::new(bench.sharing().clone())),
        farm: None,
        events: Arc::clone(&bench.events),
    }
}

/// The keys of the results that the farm must have in the end.
fn keys(planned: &Planned) -> Vec<NodeKeys> {
    let keys = &planned.plan.keys;
    // Where these are found, nobody looks at those below.
    let results = planned.results();
    results
        .iter()
        .filter_map(|step| keys.get(step.index()).copied())
        .collect()
}

/// What came of it: for the client, or for the farm to try another worker.
fn ended(
    job: &Job<'_>,
    made: &Made,
    planned: &Planned,
    contexts: &Contexts,
) -> Result<Ended, Unfinished> {
    if let Err(failure) = &made.layers
        && let Some(trouble) = trouble(failure, contexts.trouble())
        // There is always room elsewhere, as far as we know.
        && (trouble.is_exhaustion || !job.is_last_attempt())
    {
        return Err(trouble.into());
    }
    let outcome = SegmentOutcome::of(made, planned);
    Ok(Ended {
        outcome: outcome.encode().map_err(|error| of_order(&error))?,
        failed: outcome.message(),
    })
}

/// What a failure says of this worker, if it is not the step's.
pub(super) fn trouble(failure: &Failure, of_contexts: Option<String>) -> Option<Trouble> {
    let mut trouble = match failure {
        Failure::Step(step) => match &step.error {
            error @ StepError::Environment { hint, .. } => {
                let mut trouble = Trouble::of(error);
                if let Some(hint) = hint {
                    trouble.message = format!("{} ({hint})", trouble.message);
                }
                trouble.message = format!("{}: {}", step.name, trouble.message);
                trouble
            }
            StepError::Cancelled => Trouble::new("a step was broken off"),
            _ => return None,
        },
        other => Trouble::of(other),
    };
    if let Some(of_contexts) = of_contexts {
        trouble.message = of_contexts;
    }
    trouble.is_exhaustion |= is_exhaustion(failure);
    Some(trouble)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use ashlar_engine::schedule::StepFailure;
    use ashlar_model::executor::ExitStatus;

    use super::*;

    fn failure(error: StepError) -> Failure {
        Failure::Step(Arc::new(StepFailure {
            name: "RUN make".into(),
            range: None,
            node: None,
            error,
            last_output: Vec::new(),
        }))
    }

    #[test]
    fn a_failing_step_is_no_trouble_of_the_worker() {
        let failed = StepError::Failed {
            command: "make".to_owned(),
            status: ExitStatus::Code(2),
        };
        assert_eq!(trouble(&failure(failed), None), None);
        let lost = StepError::LayersLost { layers: Vec::new() };
        assert_eq!(trouble(&failure(lost), None), None);
        let unable = StepError::Environment {
            message: "no user namespaces".to_owned(),
            hint: Some("allow them".to_owned()),
            source: None,
        };
        let found = trouble(&failure(unable), None).unwrap();
        let text = "RUN make: no user namespaces (allow them)";
        assert_eq!((found.message.as_str(), found.is_exhaustion), (text, false));
    }

    #[test]
    fn want_of_room_is_found_below_a_step() {
        let full = StoreError::io("write", Path::new("/x"), io::ErrorKind::StorageFull.into());
        let error = ashlar_exec::executor::store_failed(full);
        assert!(trouble(&failure(error), None).unwrap().is_exhaustion);
    }
}

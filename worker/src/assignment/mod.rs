//! One piece of work that the farm gave: what it is, how it is done, how it ended.
//!
//! | module | subject |
//! |---|---|
//! | [`action`] | what is to be done, read from the farm's store |
//! | `segment` | some steps of a build |
//! | `delivery` | an image made of results, to registries |
//! | `build` | a whole build |
//! | [`mod@bench`] | what all of them work with |
//! | [`contexts`], [`blobs`] | what the client has sent: files that steps copy, layers of bases |
//! | [`secrets`], [`agents`] | what the client gives to steps and to nobody else |
//! | [`watch`] | what happens, as the farm hears of it |
//! | [`ending`] | how work ends, and what the farm makes of it |

pub mod action;
pub mod agents;
pub mod bench;
pub mod blobs;
mod build;
pub mod contexts;
mod delivery;
pub mod ending;
pub mod secrets;
mod segment;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::key::NodeKeys;
use ashlar_model::executor::BoxFuture;
use ashlar_proto::wire::farm::queue_message::Assign;
use ashlar_remote::client::WorkKind;
use ashlar_remote::seal::Secrets;
use ashlar_sharing::service::Service;
use ashlar_store::BlobStore;
use ashlar_store::home::Home;

use crate::attach::ledger::{Given, Outcome};
use crate::worker::{Stopped, Worker, stop_of};
use action::Action;
use bench::Bench;
use ending::{Trouble, Unfinished};
pub use ending::{outcome_of_stop, why, word};

/// So long what steps have made is sent after the work was told to end.
const LAST_RESULTS: Duration = Duration::from_secs(8);
/// The same after a step has failed, of which the client waits to hear.
const RESULTS_OF_FAILED: Duration = Duration::from_secs(20);

/// How long is waited before results are offered again that the farm did not take.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(10),
];

/// A piece of work, and what it is done with.
struct Job<'a> {
    worker: &'a Arc<Worker>,
    given: &'a Given,
    assign: &'a Assign,
    service: Service,
    /// Where files of contexts are had.
    files: Arc<dyn BlobStore>,
    home: Home,
    secrets: Secrets,
    action: Action,
    stopped: Stopped,
}

/// Does some work, until it has ended or is told to.
pub fn run<'a>(
    worker: &'a Arc<Worker>,
    given: &'a Given,
    assign: &'a Assign,
    stopped: Stopped,
) -> BoxFuture<'a, Outcome> {
    // As an object: the compiler does not see through all of it.
    Box::pin(run_it(worker, given, assign, stopped))
}

async fn run_it(worker: &Arc<Worker>, given: &Given, assign: &Assign, stopped: Stopped) -> Outcome {
    let mut told = stopped.clone();
    let begun = tokio::select! {
        begun = begin(worker, given, assign, stopped) => begun,
        why = stop_of(&mut told) => Err(Unfinished::Stopped(why)),
    };
    let ended = match begun {
        Err(unfinished) => Err(unfinished),
        Ok(job) => match job.action.kind {
            WorkKind::Segment => segment::run(job).await,
            WorkKind::Delivery => delivery::run(job).await,
            WorkKind::Build => build::run(job).await,
        },
    };
    ending::outcome(ended)
}

/// Finds out what the work is.
async fn begin<'a>(
    worker: &'a Arc<Worker>,
    given: &'a Given,
    assign: &'a Assign,
    stopped: Stopped,
) -> Result<Job<'a>, Unfinished> {
    let service = worker.farm.service(&assign.instance_name).await;
    let service = service.map_err(|fault| Trouble::of(&fault))?;
    let action = action::read(&service.blobs, assign).await;
    let action = action.map_err(|error| Trouble::of(&error))?;
    worker
        .line
        .set_takes_slot(given, action.kind != WorkKind::Build);
    worker.tell_capacity();
    let secrets = secrets::open(&assign.sealed, &assign.build, &worker.key);
    let secrets = secrets.map_err(|error| Trouble::of(&error))?;
    let (opener, instance) = (Arc::clone(worker), assign.instance_name.clone());
    let far = Arc::clone(&service.blobs);
    let opening = tokio::task::spawn_blocking(move || {
        (
            opener.homes.of(&instance),
            opener.near.before(&instance, &far),
        )
    });
    let (home, files) = opening.await.map_err(|error| Trouble::of(&error))?;
    Ok(Job {
        worker,
        given,
        assign,
        service,
        files,
        home: home.map_err(Trouble::from)?,
        secrets,
        action,
        stopped,
    })
}

impl Job<'_> {
    /// Whether another worker will be asked if this one cannot do it.
    const fn is_last_attempt(&self) -> bool {
        self.assign.attempt >= ending::LAST_ATTEMPT
    }

    /// Sends what was made to the farm, and sees that it has all of `wanted` then. What it has not is
    /// offered again: a server may have been away for a moment.
    async fn send(&mut self, bench: &Bench, wanted: &[NodeKeys]) -> Result<(), Unfinished> {
        let definitions: Vec<_> = wanted.iter().map(|keys| keys.definition).collect();
        let mut pauses = PAUSES.iter();
        loop {
            let sending = async {
                bench.send(None).await;
                bench.missing(&definitions).await
            };
            let missing = tokio::select! {
                missing = sending => missing,
                why = stop_of(&mut self.stopped) => return Err(Unfinished::Stopped(why)),
            };
            if missing.is_empty() {
                bench.count(self.worker);
                return Ok(());
            }
            let Some(pause) = pauses.next() else {
                bench.count(self.worker);
                let (lacking, all) = (missing.len(), wanted.len());
                let message = format!("the farm's cache does not take {lacking} of {all} results");
                return Err(Trouble::new(message).into());
            };
            tokio::time::sleep(*pause).await;
            let again = wanted.iter();
            bench.offer(again.filter(|keys| missing.contains(&keys.definition)));
        }
    }

    /// Sends what was made before something failed or the work was told to end, as far as there is
    /// time: nobody need do it again.
    async fn send_rest(&self, bench: &Bench, limit: Duration) {
        bench.send(Some(limit)).await;
        bench.count(self.worker);
    }
}

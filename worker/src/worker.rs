//! The worker: what it is made of, and the work that it has taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ashlar_proto::wire::farm as wire;
use ashlar_remote::seal::FarmKey;
use ashlar_sharing::sharing::Proof;
use ashlar_store::task::{Task, spawn};
use ashlar_workshop::Variables;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use wire::queue_message::Assign;
use wire::worker_message::outcome::HandedBack;

use crate::assignment;
use crate::attach::ledger::{Given, Outcome};
use crate::attach::{Hand, Line};
use crate::capacity::{self, Limits};
use crate::farm::Farm;
use crate::homes::Homes;
use crate::kept::KeptContexts;
use crate::metrics::Metrics;
use crate::near::NearStores;
use crate::pressure::Gauge;

/// Why work is to end before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its client does not want it any more.
    Cancelled,
    /// Somebody else was given it.
    Forgotten,
    /// This worker is being stopped.
    HandedBack,
}

/// Tells work to end.
pub type Stopped = watch::Receiver<Option<Stop>>;

/// So long work that was told to end may take to keep what it has done.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What all work of this worker shares.
#[derive(Debug)]
pub struct Worker {
    /// What there is to say to the farm.
    pub line: Arc<Line>,
    /// The farm as a cache.
    pub farm: Arc<Farm>,
    /// The stores.
    pub homes: Homes,
    /// Blobs with files of contexts that were here before.
    pub near: NearStores,
    /// Such files themselves.
    pub kept: Arc<KeptContexts>,
    /// What opens the secrets of builds.
    pub key: FarmKey,
    /// Who signs what is made here, and what is demanded of results of others.
    pub proof: Proof,
    /// The environment, as those see it who fetch for a build.
    pub variables: Variables,
    /// Registries whose certificates are not checked.
    pub insecure_registries: Vec<String>,
    /// Who this worker is to those that wait for it.
    pub holder: String,
    /// What is counted.
    pub metrics: Metrics,
    /// What it is set to.
    pub limits: Limits,
    gauge: Gauge,
    is_draining: AtomicBool,
    jobs: Mutex<HashMap<Given, Job>>,
    job_ended: Notify,
    layers_changed: Notify,
}

/// Work that goes on.
#[derive(Debug)]
struct Job {
    stop: watch::Sender<Option<Stop>>,
    _task: Task<()>,
}

impl Job {
    /// Tells the work to end. The first word counts.
    fn end(&self, why: Stop) {
        self.stop.send_if_modified(|before| {
            let is_first = before.is_none();
            *before = before.or(Some(why));
            is_first
        });
    }
}

/// What a worker is made of.
#[derive(Debug)]
#[expect(missing_docs, reason = "they are documented at `Worker`")]
pub struct Parts {
    pub line: Arc<Line>,
    pub farm: Arc<Farm>,
    pub homes: Homes,
    pub key: FarmKey,
    pub proof: Proof,
    pub variables: Variables,
    pub insecure_registries: Vec<String>,
    pub holder: String,
    pub limits: Limits,
}

impl Worker {
    /// A worker without work.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            line,
            farm,
            homes,
            key,
            proof,
            variables,
            insecure_registries,
            holder,
            limits,
        } = parts;
        Arc::new(Self {
            near: NearStores::new(homes.root().join("near"), homes.limit()),
            kept: Arc::new(KeptContexts::new(homes.limit())),
            line,
            farm,
            homes,
            key,
            proof,
            variables,
            insecure_registries,
            holder,
            metrics: Metrics::default(),
            limits,
            gauge: Gauge::new(),
            is_draining: AtomicBool::new(false),
            jobs: Mutex::default(),
            job_ended: Notify::new(),
            layers_changed: Notify::new(),
        })
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<Given, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is being stopped.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Takes no more work from now on.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        self.tell_capacity();
    }

    /// Says how much more work is taken now.
    pub fn tell_capacity(&self) {
        let taken = self.line.slots_taken();
        let pressure = self.gauge.read();
        let capacity = capacity::capacity(self.limits, taken, self.is_draining(), &pressure);
        if !capacity.is_draining {
            let was_short = !self.line.capacity().why.is_empty();
            match capacity.why.as_str() {
                "" if was_short => tracing::info!("taking work again"),
                why if !why.is_empty() && !was_short => {
                    tracing::warn!(why, "taking no more work for now");
                }
                _ => {}
            }
        }
        self.line.set_capacity(capacity);
    }

    /// Waits until some work has ended.
    pub async fn job_ended(&self) {
        self.job_ended.notified().await;
    }

    /// Waits until there may be other layers here than before.
    pub async fn layers_changed(&self) {
        self.layers_changed.notified().await;
    }

    /// Whether nothing goes on.
    pub fn is_idle(&self) -> bool {
        self.jobs().is_empty()
    }

    /// Ends all work.
    pub fn stop_all(&self, why: Stop) {
        self.jobs().values().for_each(|job| job.end(why));
    }

    fn stop(&self, given: &Given, why: Stop) {
        if let Some(job) = self.jobs().get(given) {
            job.end(why);
        }
    }
}

/// Does what the farm says.
#[derive(Debug, Clone)]
pub struct Hands(pub Arc<Worker>);

impl Hand for Hands {
    fn begin(&self, given: Given, assign: Assign) {
        let worker = &self.0;
        if worker.is_draining() {
            worker
                .line
                .ended(&given, Outcome::HandedBack(HandedBack {}));
            return;
        }
        let (stop, stopped) = watch::channel(None);
        let work = work(Arc::clone(worker), given.clone(), assign, stopped);
        // It cannot end before it is noted.
        let mut jobs = worker.jobs();
        let job = Job {
            stop,
            _task: spawn(work),
        };
        drop(jobs.insert(given, job));
        drop(jobs);
        worker.tell_capacity();
    }

    fn cancel(&self, given: &Given) {
        self.0.stop(given, Stop::Cancelled);
    }

    fn forget(&self, given: &Given) {
        self.0.stop(given, Stop::Forgotten);
    }
}

/// Does some work, and says how it ended.
async fn work(worker: Arc<Worker>, given: Given, assign: Assign, stopped: Stopped) {
    let began = Instant::now();
    tracing::info!(
        operation = given.operation,
        fence = given.fence,
        attempt = assign.attempt,
        instance = assign.instance_name,
        requester = assign.requester,
        "begun"
    );
    let mut told = stopped.clone();
    let running = assignment::run(&worker, &given, &assign, stopped);
    let mut running = std::pin::pin!(running);
    // What was told to end ends in time, whatever it waits for.
    let outcome = tokio::select! {
        outcome = &mut running => outcome,
        why = stop_of(&mut told) => match timeout(LAST_WORDS, &mut running).await {
            Ok(outcome) => outcome,
            Err(_) => assignment::outcome_of_stop(why),
        },
    };
    // There may be no room, or what is kept may be damaged.
    if matches!(&outcome, Outcome::Infrastructure(_)) {
        worker.kept.clear();
    }
    let word = assignment::word(&outcome);
    let seconds = began.elapsed().as_secs_f64();
    worker.metrics.ended(word, seconds);
    tracing::info!(
        operation = given.operation,
        fence = given.fence,
        outcome = word,
        why = assignment::why(&outcome),
        seconds,
        "ended"
    );
    worker.line.ended(&given, outcome);
    let own = worker.jobs().remove(&given);
    worker.tell_capacity();
    worker.job_ended.notify_one();
    worker.layers_changed.notify_one();
    // This ends the task itself: there must be nothing after it.
    drop(own);
}

/// Waits until work is told to end.
pub async fn stop_of(stopped: &mut Stopped) -> Stop {
    let told = stopped.wait_for(Option::is_some).await;
    match told.map(|told| *told) {
        Ok(Some(why)) => why,
        // Whoever would tell is gone: so is the worker.
        Ok(None) | Err(_) => Stop::HandedBack,
    }
}

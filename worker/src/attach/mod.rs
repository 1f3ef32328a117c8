//! The connection to the farm: one stream each way, for as long as the worker is there.
//!
//! | module | subject |
//! |---|---|
//! | [`ledger`] | what this worker was given, and what of it the farm does not know yet |
//! | [`channels`] | agents of builds' clients, as steps reach them |
//! | `session` | one connection, from Hello to its end |
//!
//! A connection that breaks is made anew, by a worker of the same id that says what it still runs.
//! Work goes on meanwhile: its results go to the farm's cache, and what it has to say is kept.

pub mod channels;
pub mod ledger;
mod session;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ashlar_model::error_chain::error_chain;
use ashlar_proto::wire::farm;
use ashlar_store::fault::Fault;
use ashlar_store::grpc::{GrpcEndpoint, GrpcSettings};
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};

use crate::capacity::Capacity;
use channels::{Channels, Messages};
use ledger::{Given, Ledger, Outcome, Taken};

/// So long is waited before the second attempt to connect, and at most before any later one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often it is said that work goes on, if the farm does not say.
const RENEW: Duration = Duration::from_secs(10);

/// Who this worker is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// At random.
    pub id: String,
    /// For people.
    pub name: String,
    /// How many segments run at once.
    pub slots: u32,
    /// What it has.
    pub properties: Vec<(String, String)>,
    /// Namespaces whose work it takes.
    pub instances: Vec<String>,
    /// Versions of orders that it reads.
    pub order_versions: Vec<u32>,
    /// Its public key.
    pub recipient: String,
}

/// Does what the farm says.
pub trait Hand: Send + Sync {
    /// Begins work.
    fn begin(&self, given: Given, assign: farm::queue_message::Assign);
    /// Ends work: its client does not want it any more. The answer is an outcome.
    fn cancel(&self, given: &Given);
    /// Ends work that somebody else was given. There is no answer.
    fn forget(&self, given: &Given);
}

/// What connects to the farm.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<GrpcSettings, Fault>> + Send + Sync>;

/// What the worker has to say, and what it knows of the connection. Shared by all of it.
#[derive(Debug)]
pub struct Line {
    ledger: Mutex<Ledger>,
    changed: Notify,
    channels: Channels,
    is_attached: watch::Sender<bool>,
    /// How often the farm wants to hear what goes on.
    renew_every: Mutex<Duration>,
    capacity: watch::Sender<Capacity>,
    holdings: watch::Sender<Arc<BTreeSet<u64>>>,
}

impl Line {
    /// A line that is not connected, and what comes out of its channels.
    pub fn new() -> (Arc<Self>, Messages) {
        let (channels, messages) = Channels::new();
        let line = Self {
            ledger: Mutex::default(),
            changed: Notify::new(),
            channels,
            is_attached: watch::Sender::new(false),
            renew_every: Mutex::new(RENEW),
            capacity: watch::Sender::new(Capacity::default()),
            holdings: watch::Sender::new(Arc::default()),
        };
        (Arc::new(line), messages)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event of some work.
    pub fn happened(&self, given: &Given, event: farm::Event) {
        if self.ledger().happened(given, event) {
            self.changed.notify_one();
        }
    }

    /// Notes how some work ended.
    pub fn ended(&self, given: &Given, outcome: Outcome) {
        self.ledger().ended(given, outcome);
        self.changed.notify_one();
    }

    /// Notes whether some work takes a slot.
    pub fn set_takes_slot(&self, given: &Given, takes_slot: bool) {
        self.ledger().set_takes_slot(given, takes_slot);
        self.changed.notify_one();
    }

    /// Work that goes on.
    pub fn running(&self) -> Vec<Given> {
        self.ledger().running()
    }

    /// How many slots are taken.
    pub fn slots_taken(&self) -> u32 {
        self.ledger().slots_taken()
    }

    /// Whether the farm knows all there is to say.
    pub fn is_told_all(&self) -> bool {
        self.ledger().is_empty()
    }

    /// Whether there is a connection, now and whenever that changes.
    pub fn attached(&self) -> watch::Receiver<bool> {
        self.is_attached.subscribe()
    }

    /// The channels.
    pub const fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Says how much more work is taken.
    pub fn set_capacity(&self, capacity: Capacity) {
        self.capacity.send_if_modified(|before| {
            let changed = *before != capacity;
            *before = capacity;
            changed
        });
    }

    /// How much more work is taken, as was said last.
    pub fn capacity(&self) -> Capacity {
        self.capacity.borrow().clone()
    }

    /// Says which layers are here.
    pub fn set_holdings(&self, layers: BTreeSet<u64>) {
        self.holdings.send_if_modified(|before| {
            let changed = **before != layers;
            *before = Arc::new(layers);
            changed
        });
    }

    /// There is a connection, over which the farm wants to hear this often what goes on.
    fn attached_to(&self, renew_every: Duration) {
        *self.renewal() = renew_every;
        self.is_attached.send_replace(true);
    }

    fn renewal(&self) -> MutexGuard<'_, Duration> {
        let renewal = self.renew_every.lock();
        renewal.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has changed in what there is to say.
    async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes work, if it is not known already.
    fn give(&self, given: &Given) -> Taken {
        self.ledger().give(given, true)
    }
}

/// Stays connected to the farm, until the future is dropped.
pub async fn stay(
    identity: &Identity,
    connect: &Connect,
    line: &Line,
    messages: &mut Messages,
    hand: &dyn Hand,
) {
    let mut pause = FIRST_PAUSE;
    let mut told = None;
    loop {
        let began = tokio::time::Instant::now();
        let ended = once(identity, connect, line, messages, hand).await;
        let was_attached = line.is_attached.send_replace(false);
        line.channels.connected(false);
        let why = match &ended {
            Ok(()) => "the farm ended the connection".to_owned(),
            Err(fault) => error_chain(fault),
        };
        // A farm that is away is told of once.
        if was_attached || told.as_ref() != Some(&why) {
            tracing::warn!(%why, "not connected to the farm: trying again");
        }
        told = Some(why);
        let renew_every = *line.renewal();
        if was_attached && began.elapsed() > renew_every {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(jittered(pause)).await;
        // A farm that was away believes in what goes on here for some renewals' time.
        pause = (pause * 2).min(LONGEST_PAUSE).min(renew_every);
    }
}

async fn once(
    identity: &Identity,
    connect: &Connect,
    line: &Line,
    messages: &mut Messages,
    hand: &dyn Hand,
) -> Result<(), Fault> {
    let settings = connect().await?;
    let endpoint = GrpcEndpoint::connect(settings).await?;
    session::run(&endpoint, identity, line, messages, hand).await
}

/// Between a half and the whole: not all workers come back at the same time.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without it, all wait the same time.
    let _read = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty());
    pause / 2 + pause * u32::from(byte[0]) / 512
}

#[cfg(test)]
mod tests;

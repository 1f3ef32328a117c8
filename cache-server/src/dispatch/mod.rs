//! The farm's queue at work: the state machine of [`ashlar_queue`], with real clients, workers and
//! time.
//!
//! ```text
//!   Execute, WaitExecution ──┐                        ┌── Assign, Cancel, Revoke ──▶ workers
//!   Operations, Farm ────────┼─▶ Dispatcher ─ Queue ──┤
//!   Workers.Attach ──────────┘       │                └── stages, events ──▶ clients
//!                                 journal (several servers)
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`dispatcher`] | steps the queue, and tells it the time |
//! | [`state`] | what is around the queue, and what its effects do |
//! | [`clients`], [`work`] | what clients ask, what workers say |
//! | [`action`] | what a client wants done, read from its blobs |
//! | [`operation`], [`log`], [`name`] | an operation as clients see it, its events, its name |
//! | [`session`] | sealed bundles, and channels to agents |
//! | [`link`], [`outbox`], [`convert`] | connections of workers, what waits for them, what they say |
//! | [`leader`], [`journal`] | which of several servers has the queue, and what outlives it |
//! | [`forward`] | what is passed on to that server |
//! | [`counts`] | metrics |
//!
//! What a client seals is in memory alone, and in what a worker is sent: no log, no event, no audit
//! entry and no journal has it.

pub mod action;
pub mod clients;
pub mod convert;
pub mod counts;
pub mod dispatcher;
pub mod forward;
pub mod journal;
pub mod leader;
pub mod link;
pub mod log;
pub mod name;
pub mod operation;
pub mod outbox;
pub mod session;
pub mod state;
pub mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ashlar_queue::Settings;
use ashlar_store::clock::Clock;
use ashlar_store::task::{Task, spawn};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use counts::{QueueNow, Tally};
use dispatcher::{Dispatcher, Start};
use forward::Forward;
use leader::Candidate;

/// So long a server that stops may take to say that it does.
const RESIGN: Duration = Duration::from_secs(3);

/// Where the queue is, if it is not here.
#[derive(Debug, Clone)]
pub enum Place {
    /// At another server.
    At(Leader),
    /// Nobody has it, as far as is known.
    Nowhere,
}

/// A server that has the queue.
#[derive(Debug, Clone)]
pub struct Leader {
    /// Where it is reached.
    pub address: Arc<str>,
    /// Another one has the queue.
    pub over: CancellationToken,
}

/// The queue, wherever it is.
#[derive(Debug, Clone, Default)]
pub struct Dispatch {
    /// The queue while it is here.
    here: Arc<ArcSwapOption<Dispatcher>>,
    /// Where it is else.
    there: Arc<ArcSwapOption<Place>>,
    /// How that server is reached. `None`: there are no others.
    forward: Option<Forward>,
    tally: Arc<Tally>,
    stop: CancellationToken,
    /// Who sees to it that this server leads, if no other does.
    leading: Arc<Mutex<Option<Task<()>>>>,
}

impl Dispatch {
    /// A queue that is here for as long as the server runs, and in memory alone. Has to be called
    /// within a runtime.
    pub fn alone(settings: Settings, clock: &Clock) -> Self {
        let dispatch = Self::default();
        let seconds = state::since_epoch(clock()).as_secs();
        let start = Start {
            epoch: u32::try_from(seconds).unwrap_or(u32::MAX),
            ..Start::default()
        };
        let tally = dispatch.tally.clone();
        dispatch.lead(Dispatcher::start(settings, start, clock, tally));
        dispatch
    }

    /// The queue of several servers, of which one has it. Has to be called within a runtime.
    pub fn among_others(candidate: Candidate, forward: Forward) -> Self {
        let dispatch = Self {
            forward: Some(forward),
            ..Self::default()
        };
        let running = candidate.run(dispatch.clone(), dispatch.stop.clone());
        *dispatch.task() = Some(spawn(running));
        dispatch
    }

    fn task(&self) -> MutexGuard<'_, Option<Task<()>>> {
        self.leading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue is here from now on.
    fn lead(&self, dispatcher: Arc<Dispatcher>) {
        self.here.store(Some(dispatcher));
        self.is_at(None);
    }

    /// Another server has the queue.
    fn follow(&self, address: &str) {
        if let Some(Place::At(known)) = self.there.load().as_deref()
            && *known.address == *address
        {
            return;
        }
        self.is_at(Some(Place::At(Leader {
            address: address.into(),
            over: CancellationToken::new(),
        })));
    }

    /// It is not known who has the queue: what was passed on goes on.
    fn wonder(&self) {
        self.there.store(Some(Arc::new(Place::Nowhere)));
    }

    /// What was passed on to a server that does not have the queue any more ends: such a server may
    /// not say so itself.
    fn is_at(&self, place: Option<Place>) {
        if let Some(Place::At(before)) = self.there.swap(place.map(Arc::new)).as_deref() {
            before.over.cancel();
        }
    }

    /// The queue is not here any more: streams end.
    fn leave(&self, why: &Status) {
        if let Some(dispatcher) = self.here.swap(None) {
            dispatcher.end(why);
        }
    }

    /// This server does not have the queue from now on, and another one may begin at once.
    pub async fn stop(&self) {
        self.stop.cancel();
        let task = self.task().take();
        match task {
            // It leaves, and says so.
            Some(task) => drop(tokio::time::timeout(RESIGN, task).await),
            None => self.leave(&clients::moved()),
        }
    }

    /// Where the queue is and how it is reached, if it is not here.
    pub fn elsewhere(&self) -> Option<(Place, Forward)> {
        if self.here.load().is_some() {
            return None;
        }
        let there = self.there.load_full()?;
        Some(((*there).clone(), self.forward.clone()?))
    }

    /// The queue, if it is here.
    pub fn leading(&self) -> Result<Arc<Dispatcher>, Status> {
        self.here.load_full().ok_or_else(|| {
            let message = "no server has the queue right now: come again";
            crate::status::later(Code::Unavailable, message, clients::SOON)
        })
    }

    /// What was counted.
    pub const fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// What there is now.
    pub fn counted(&self, namespaces: &[String]) -> QueueNow {
        let here = self.here.load_full();
        here.map_or_else(QueueNow::default, |here| here.counted(namespaces))
    }
}

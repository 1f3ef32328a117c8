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
//! | [`journal`] | what outlives the server that leads |
//! | [`counts`] | metrics |
//!
//! What a client seals is in memory alone, and in what a worker is sent: no log, no event, no audit
//! entry and no journal has it.

pub mod action;
pub mod clients;
pub mod convert;
pub mod counts;
pub mod dispatcher;
pub mod journal;
pub mod link;
pub mod log;
pub mod name;
pub mod operation;
pub mod outbox;
pub mod session;
pub mod state;
pub mod work;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ashlar_queue::Settings;
use ashlar_store::clock::Clock;
use tonic::{Code, Status};

use counts::{QueueNow, Tally};
use dispatcher::{Dispatcher, Start};

/// The queue, wherever it is.
#[derive(Debug, Clone, Default)]
pub struct Dispatch {
    /// The queue while it is here.
    here: Arc<ArcSwapOption<Dispatcher>>,
    tally: Arc<Tally>,
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
        dispatch.lead(Dispatcher::start(settings, start, clock, dispatch.tally.clone()));
        dispatch
    }

    /// The queue is here from now on.
    pub fn lead(&self, dispatcher: Arc<Dispatcher>) {
        self.here.store(Some(dispatcher));
    }

    /// The queue is not here any more: streams end.
    pub fn leave(&self, why: &Status) {
        if let Some(dispatcher) = self.here.swap(None) {
            dispatcher.end(why);
        }
    }

    /// The queue, if it is here.
    pub fn leading(&self) -> Result<Arc<Dispatcher>, Status> {
        self.here.load_full().ok_or_else(|| {
            let message = "the queue is not ready: come again";
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

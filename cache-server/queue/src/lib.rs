//! The farm's queue: which worker runs what, and when.
//!
//! A state machine without clock, threads, network or disk. The caller tells it what happened and
//! when ([`Event`], [`Queue::step`]), and does what it answers ([`Effect`]). The server drives it
//! with real streams; the simulator (`examples/simulate`) drives the same code with ten thousand
//! workers that are not there.
//!
//! # How to drive it
//!
//! - One thread, or one lock: steps take microseconds.
//! - `now` is the time since 1970 as the machine's clock had it when the server started, and from
//!   then on advanced by a monotonic clock. It never goes back; another server's is about the same.
//! - [`Event::Tick`] at [`Queue::next_wake`], and at least every second.
//! - Effects in order. In a farm, [`Effect::Persist`] is written before later effects are seen.
//! - What is only in memory and belongs to a build (what its client has sealed, open channels) goes
//!   with [`Effect::BuildGone`]; an operation's events go with [`Effect::Forget`].
//!
//! # What is promised
//!
//! - An operation that was submitted ends once: [`Effect::Ended`], whatever workers do, as long as
//!   there are some.
//! - At most one assignment of an operation counts at a time, the one with the largest fencing
//!   number; what comes of others is refused.
//! - No worker is given more than it has slots for.
//! - Whatever others submit, work for which there are workers gets its turn ([`fairness`]).
//!
//! [`fairness`]: crate::Settings::overdue
#![forbid(unsafe_code)]

mod effect;
mod event;
mod hash;
mod id;
mod queue;
mod record;
mod settings;
mod view;

pub use effect::{Effect, End, Failure, Poison, Refusal};
pub use event::{Canceller, Done, Event, Hello, Input, Outcome, Submission};
pub use id::{Action, Assignment, BuildKey, ConnectionId, OperationId, SessionId, WaiterId};
pub use queue::Queue;
pub use record::{Record, RecordState};
pub use settings::Settings;
pub use view::{Counts, Cursor, Filter, KindView, OperationView, Stage, Waiting, WorkerView};

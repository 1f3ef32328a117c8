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
//! # The journal
//!
//! In one server the queue is in memory, and [`Effect::Persist`] and [`Effect::Forget`] are not
//! carried out: what is lost with it is submitted again by who waits, and made again or found in
//! the cache. In a farm one server leads, and another goes on where it ended:
//!
//! - A [`Record`] is all of an operation, as it is after the step, and takes the place of the one
//!   before: a map from operation to record is enough, in no order. Records are complete, so those of
//!   one step may be written together.
//! - A grant is persisted before its [`Effect::Assign`], an end before its [`Effect::Ended`] and
//!   before the worker is told that its outcome has arrived ([`Effect::OutcomeTaken`]). Who carries
//!   effects out in order, and waits for the journal before those three, loses nothing: a worker keeps
//!   an outcome until it is taken, and says of it in its next Hello.
//! - A journal that loses its last writes (a failover of Redis) costs repeats only. Fencing numbers
//!   begin with the epoch, which comes from the lease that makes a server the leader and not from the
//!   journal; a worker's assignment that nobody knows is revoked; the action cache takes one result
//!   for each key.
//! - Only the leader writes: the write has the leader's fencing number, or a condition on it. A
//!   leader that is not sure any more stops before it carries out anything else.
//! - [`Queue::restore`] takes all records, in any order; it gives no effects. The next step does.
//!   Sessions, waiters, holdings and connections are not journaled: clients and workers come again by
//!   themselves, builds have their grace, and leases a full term from then on.
//! - What clients have sealed is in no record.
//!
//! # What is promised
//!
//! - An operation that was submitted ends once: [`Effect::Ended`], whatever workers do, as long as
//!   there are some.
//! - At most one assignment of an operation counts at a time, the one with the largest fencing
//!   number; what comes of others is refused.
//! - No worker is given more than it has slots for.
//! - Whatever others submit, work for which there are workers gets its turn: shares of namespaces,
//!   users and builds are of time on workers, weighted, and where that does not help,
//!   [`Settings::overdue`] does.
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

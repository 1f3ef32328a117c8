//! The audit log: who changed what, and who was refused.
//!
//! ```text
//! a service, the gate ──note──▶ queue (bounded) ──▶ one thread ──▶ a file, or standard error
//! ```
//!
//! Requests never wait for it. What finds the queue full is lost, but not silently: the next line
//! that is written says how many events are missing, and so does the server's log. The last
//! quarter of the queue is kept from refusals, so that nobody can hide what they did behind a
//! flood of requests that are refused.
//!
//! | module | subject |
//! |---|---|
//! | [`event`] | what is noted |
//! | [`queue`] | the way from the services to the writer |
//! | [`writer`] | the file |

pub mod event;
pub mod queue;
pub mod writer;

pub use event::{Event, Outcome, What};
pub use queue::{Audit, Queue};
pub use writer::{AuditFile, AuditLog};

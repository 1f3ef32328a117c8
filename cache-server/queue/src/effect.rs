//! What the queue wants done.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Assignment, BuildKey, ConnectionId, Done, OperationId, Record, Submission, WaiterId};

/// Something to do. Effects are carried out in their order; [`Persist`](Self::Persist) is where
/// the journal has it before those after it are seen by anybody, so that no number is ever given
/// out twice.
#[derive(Debug, Clone)]
pub enum Effect {
    /// To keep this in place of what was kept of the operation before.
    Persist(Box<Record>),
    /// To keep nothing of the operation any more, its events included.
    Forget(OperationId),

    /// The answer to a submission.
    Submitted {
        /// As it was asked.
        asked: OperationId,
        /// What the client waits for: the one it asked for, or one that it joined.
        operation: OperationId,
    },
    /// The answer to a submission that was not taken.
    Refused {
        /// As it was asked.
        operation: OperationId,
        /// Why.
        refusal: Refusal,
    },
    /// The answer to who wants to wait.
    Attached {
        /// Who.
        waiter: WaiterId,
        /// For what.
        operation: OperationId,
        /// Whether it is there. One that has ended already is: its end is in
        /// [`Queue::view`](crate::Queue::view), and no [`Ended`](Self::Ended) comes.
        found: bool,
    },
    /// The operation is on a worker, for its clients to be told.
    Started {
        /// Which.
        operation: OperationId,
        /// The worker's name for people.
        worker: Arc<str>,
        /// Counted from 1. An attempt that cost nothing is not counted.
        attempt: u32,
    },
    /// The operation is not on a worker any more, and waits again.
    Requeued {
        /// Which.
        operation: OperationId,
        /// Why, for people.
        why: Arc<str>,
    },
    /// The operation has ended, for all who wait.
    Ended {
        /// Which.
        operation: OperationId,
        /// How.
        end: End,
    },
    /// Nothing is left of a build, neither its client nor its work: what was kept in memory for it
    /// can go.
    BuildGone(BuildKey),

    /// The answer to a worker's Hello.
    Welcome {
        /// The stream.
        connection: ConnectionId,
        /// How long it is believed.
        lease: Duration,
        /// How often it is to renew.
        renew_every: Duration,
    },
    /// Work for a worker.
    Assign {
        /// The stream.
        connection: ConnectionId,
        /// Which, under what number.
        assignment: Assignment,
        /// What.
        submission: Arc<Submission>,
        /// The builds that want it, in the order in which they came.
        builds: Vec<BuildKey>,
        /// Counted from 1.
        attempt: u32,
    },
    /// Work that a worker is to stop; it answers with an outcome.
    Cancel {
        /// The stream.
        connection: ConnectionId,
        /// Which.
        assignment: Assignment,
    },
    /// Work that a worker is to forget; no answer.
    Revoke {
        /// The stream.
        connection: ConnectionId,
        /// Which.
        assignment: Assignment,
    },
    /// An outcome has arrived.
    OutcomeTaken {
        /// The stream.
        connection: ConnectionId,
        /// Of which.
        assignment: Assignment,
        /// It does not count.
        too_late: bool,
    },
    /// A stream that is of no use any more: the worker has come again on another, or has been
    /// silent for too long. [`Event::WorkerGone`](crate::Event::WorkerGone) need not follow.
    Disconnect {
        /// The stream.
        connection: ConnectionId,
        /// For logs.
        why: &'static str,
    },
}

/// Why a submission is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Too much waits: later.
    Full {
        /// What waits.
        queued: usize,
        /// Where: in the namespace, or in all.
        everywhere: bool,
        /// When to try again.
        retry_after: Duration,
    },
    /// The action took workers down with it a short time ago.
    Poison {
        /// What happened.
        end: Poison,
        /// How long it is refused.
        retry_after: Duration,
    },
    /// The name is taken: the caller chose one twice.
    Duplicate,
    /// It asks for more than there may be.
    Invalid {
        /// What is wrong.
        message: &'static str,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full {
                queued,
                everywhere: false,
                ..
            } => {
                write!(f, "{queued} operations of this namespace wait already")
            }
            Self::Full {
                queued,
                everywhere: true,
                ..
            } => {
                write!(f, "{queued} operations wait in this farm already")
            }
            Self::Poison { end, retry_after } => {
                write!(
                    f,
                    "{end}; it is set aside for {} s more",
                    retry_after.as_secs().max(1)
                )
            }
            Self::Duplicate => f.write_str("there is an operation of this name already"),
            Self::Invalid { message } => f.write_str(message),
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum End {
    /// A worker did it, well or badly.
    Done(Done),
    /// No worker could.
    Poison(Poison),
    /// Nobody wanted it any more, or an operator did not.
    Cancelled {
        /// Why, for people.
        why: Arc<str>,
    },
}

/// Work that worker after worker failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poison {
    /// The work's name for people.
    pub name: Arc<str>,
    /// What happened, in order.
    pub failures: Vec<Failure>,
}

/// An attempt that failed for want of a working worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The worker's id.
    pub worker: Arc<str>,
    /// The worker's name for people.
    pub name: Arc<str>,
    /// It was not heard of again, instead of saying what was wrong.
    pub lost: bool,
    /// What was wrong.
    pub message: Arc<str>,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = match self.failures.len() {
            1 => "a worker".to_owned(),
            several => format!("{several} workers"),
        };
        write!(
            f,
            "`{}` failed on {workers}, not by a step of its own",
            self.name
        )?;
        for (at, failure) in self.failures.iter().enumerate() {
            let sign = if at == 0 { ": " } else { "; " };
            write!(f, "{sign}{}: {}", failure.name, failure.message)?;
        }
        Ok(())
    }
}

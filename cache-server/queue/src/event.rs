//! What happens to the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Action, Assignment, BuildKey, ConnectionId, OperationId, SessionId, WaiterId};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Nothing but that time went by.
    Tick,
    /// A client wants an action executed. Answered by [`Effect::Submitted`] or
    /// [`Effect::Refused`].
    ///
    /// [`Effect::Submitted`]: crate::Effect::Submitted
    /// [`Effect::Refused`]: crate::Effect::Refused
    Submit {
        /// What it is called if it joins no other.
        operation: OperationId,
        /// The stream that waits for it; nobody, if the caller is gone already or does not wait.
        waiter: Option<WaiterId>,
        /// What is wanted.
        submission: Arc<Submission>,
    },
    /// Someone waits for an operation. Answered by [`Effect::Attached`](crate::Effect::Attached).
    Attach {
        /// For which.
        operation: OperationId,
        /// The stream.
        waiter: WaiterId,
        /// The build it belongs to. Without one it counts for itself.
        build: Option<BuildKey>,
    },
    /// The stream of a waiter has ended. Unknown waiters are nobody's.
    Detach {
        /// The stream.
        waiter: WaiterId,
    },
    /// A build's client is there.
    SessionOpened {
        /// The stream.
        session: SessionId,
        /// Whose it is.
        build: BuildKey,
    },
    /// The stream of a build's client has ended.
    SessionClosed {
        /// The stream.
        session: SessionId,
    },
    /// Someone does not want an operation any more.
    Cancel {
        /// Which.
        operation: OperationId,
        /// Who.
        by: Canceller,
    },
    /// A client does not want its build any more: all its operations that nobody else wants end.
    CancelBuild {
        /// Which.
        build: BuildKey,
    },
    /// A worker is there. Answered by [`Effect::Welcome`](crate::Effect::Welcome). A connection
    /// that the same worker had before counts as gone.
    Hello {
        /// The stream.
        connection: ConnectionId,
        /// Who it is.
        hello: Box<Hello>,
    },
    /// The stream of a worker has ended. What it runs is its own until its lease ends.
    WorkerGone {
        /// The stream.
        connection: ConnectionId,
    },
    /// Layers that a worker has, or has not any more.
    Holdings {
        /// The stream.
        connection: ConnectionId,
        /// Nothing but `added` is there.
        all: bool,
        /// New ones.
        added: Vec<u64>,
        /// Those that are gone.
        removed: Vec<u64>,
    },
    /// What a worker takes now.
    Capacity {
        /// The stream.
        connection: ConnectionId,
        /// How many more, light ones apart.
        free: u32,
        /// It takes nothing more, and will go.
        draining: bool,
        /// Why it takes less, for people.
        why: Arc<str>,
    },
    /// A worker still runs these. Workers say so also when they run nothing: it is how the queue
    /// knows that they are there.
    Renew {
        /// The stream.
        connection: ConnectionId,
        /// What runs, and what has ended without an [`Effect::OutcomeTaken`] so far.
        ///
        /// [`Effect::OutcomeTaken`]: crate::Effect::OutcomeTaken
        running: Vec<Assignment>,
    },
    /// What came of an assignment. Answered by
    /// [`Effect::OutcomeTaken`](crate::Effect::OutcomeTaken).
    Outcome {
        /// The stream.
        connection: ConnectionId,
        /// Of which.
        assignment: Assignment,
        /// What.
        outcome: Outcome,
    },
    /// Shares have changed, and only shares are taken over.
    Weights {
        /// As [`Settings::namespace_weights`](crate::Settings::namespace_weights).
        namespaces: Vec<(Arc<str>, u32)>,
        /// As [`Settings::user_weights`](crate::Settings::user_weights).
        users: Vec<(Arc<str>, u32)>,
    },
}

/// Who cancels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canceller {
    /// A build: others that want the operation keep it.
    Build(BuildKey),
    /// All builds of a user in a namespace: others that want the operation keep it.
    User {
        /// The instance name.
        namespace: Arc<str>,
        /// Who.
        user: Arc<str>,
    },
    /// Who may end what others want.
    Operator,
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// For whom, in which build.
    pub build: BuildKey,
    /// What to execute.
    pub action: Action,
    /// As REAPI has it: lower is more urgent. Beyond ±1,000 it counts as that.
    pub priority: i32,
    /// Nothing old is to be used: it joins no other and none joins it.
    pub skip_cache_lookup: bool,
    /// It waits for other work of the farm, and takes no slot. Not for clients to say: real work that
    /// is called light has no bounds.
    pub light: bool,
    /// A whole build: it goes on when its client is gone, and keeps what its build has submitted.
    pub whole: bool,
    /// Layers that it stands on, bottom first. The 64 with the most bytes are kept, until it ends.
    pub inputs: Vec<Input>,
    /// What a worker must have.
    pub requirements: BTreeMap<String, String>,
    /// For people.
    pub name: Arc<str>,
    /// Steps at most.
    pub steps: u32,
    /// Who asked, as the audit log has it.
    pub requester: Arc<str>,
}

/// A layer that work stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The first eight bytes of its diff ID, little endian.
    pub layer: u64,
    /// What it takes to bring it to a worker that lacks it.
    pub bytes: u64,
}

/// What a worker says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its own for as long as its process lives.
    pub worker: Arc<str>,
    /// For people.
    pub name: Arc<str>,
    /// How much it runs at once.
    pub slots: u32,
    /// What it has.
    pub properties: BTreeMap<String, String>,
    /// Whose work it takes, as far as its token allows it: each with all below it (`a` has `a/b`,
    /// not `ab`); the empty name is all.
    pub namespaces: Vec<Arc<str>>,
    /// What it still runs from before.
    pub running: Vec<Assignment>,
}

/// What came of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, well or badly.
    Done(Done),
    /// The worker could not.
    Infrastructure {
        /// Why.
        message: Arc<str>,
        /// For want of room, which costs no attempt.
        is_exhaustion: bool,
    },
    /// The worker drains.
    HandedBack,
    /// It was cancelled.
    Cancelled,
}

/// What came of work that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// For the client; the queue does not read it.
    pub outcome: Arc<[u8]>,
    /// A step failed.
    pub failed: bool,
    /// For people, if it failed.
    pub message: Arc<str>,
}

//! How work ends, and what the farm makes of it.
//!
//! | what happened | outcome | the farm |
//! |---|---|---|
//! | it was done; or a step failed, or cannot be done as it was asked for | done | tells the client |
//! | this machine could not: no registry, a store that fails, a cache that cannot be reached | infrastructure | tries another worker, three in all |
//! | there was no room on the disk | infrastructure, of exhaustion | tries another worker, and it costs nothing |
//! | the worker is being stopped | handed back | gives it to another, and it costs nothing |
//! | the client does not want it any more | cancelled | tells whoever asks |
//!
//! What the third worker cannot do either is told to the client as if the client's own machine could
//! not: with cause and hint.

use std::error::Error;

use ashlar_model::error_chain::error_chain;
use ashlar_proto::wire::farm::worker_message::outcome::{
    Cancelled, Done, HandedBack, Infrastructure,
};
use ashlar_store::home::StoreError;
use ashlar_workshop::WorkshopError;

use crate::attach::ledger::Outcome;
use crate::text::shortened;
use crate::worker::Stop;

/// The attempt after which the farm gives up.
pub const LAST_ATTEMPT: u32 = 3;
/// The longest message.
const LONGEST_MESSAGE: usize = 8 << 10;

/// What this worker could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Why.
    pub message: String,
    /// Whether it was for want of room.
    pub is_exhaustion: bool,
}

impl Trouble {
    /// Something else than an error stood in the way.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_exhaustion: false,
        }
    }

    /// An error stood in the way.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        Self {
            message: error_chain(error),
            is_exhaustion: is_exhaustion(error),
        }
    }
}

impl From<WorkshopError> for Trouble {
    fn from(error: WorkshopError) -> Self {
        Self::of(&error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::of(&error)
    }
}

/// Whether there was no room on a disk, or in a store's quota.
pub fn is_exhaustion(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(StoreError::Quota(_)) = cause.downcast_ref() {
            return true;
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>()
            && matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::OutOfMemory
            )
        {
            return true;
        }
        next = cause.source();
    }
    false
}

/// Why work did not come to its end here.
#[derive(Debug)]
pub enum Unfinished {
    /// It was told to end.
    Stopped(Stop),
    /// This worker could not do it.
    Trouble(Trouble),
}

impl From<Trouble> for Unfinished {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What came of work that has come to its end, well or badly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What came of it, for the client.
    pub outcome: Vec<u8>,
    /// Why it went badly, if it did, for people.
    pub failed: Option<String>,
}

/// What the farm is told.
pub fn outcome(ended: Result<Ended, Unfinished>) -> Outcome {
    match ended {
        Ok(Ended { outcome, failed }) => Outcome::Done(Done {
            outcome: outcome.into(),
            failed: failed.is_some(),
            message: bounded(&failed.unwrap_or_default()),
        }),
        Err(Unfinished::Stopped(why)) => outcome_of_stop(why),
        Err(Unfinished::Trouble(trouble)) => Outcome::Infrastructure(Infrastructure {
            message: bounded(&trouble.message),
            is_exhaustion: trouble.is_exhaustion,
        }),
    }
}

/// What the farm is told of work that was told to end.
pub const fn outcome_of_stop(why: Stop) -> Outcome {
    match why {
        Stop::Cancelled => Outcome::Cancelled(Cancelled {}),
        // Nobody hears it of work that was forgotten.
        Stop::Forgotten | Stop::HandedBack => Outcome::HandedBack(HandedBack {}),
    }
}

/// An outcome in a word, for logs and numbers.
pub const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(done) if done.failed => "failed",
        Outcome::Done(_) => "done",
        Outcome::Infrastructure(_) => "infrastructure",
        Outcome::HandedBack(_) => "handed-back",
        Outcome::Cancelled(_) => "cancelled",
    }
}

/// Why work did not end well, for logs; empty if it did.
pub fn why(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done(done) => &done.message,
        Outcome::Infrastructure(trouble) => &trouble.message,
        Outcome::HandedBack(_) | Outcome::Cancelled(_) => "",
    }
}

fn bounded(text: &str) -> String {
    shortened(text, LONGEST_MESSAGE).to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    #[test]
    fn want_of_room_is_told_apart() {
        let full = StoreError::io("write", Path::new("/x"), io::ErrorKind::StorageFull.into());
        assert!(Trouble::from(full).is_exhaustion);
        let denied = StoreError::io(
            "write",
            Path::new("/x"),
            io::ErrorKind::PermissionDenied.into(),
        );
        let trouble = Trouble::from(denied);
        assert!(!trouble.is_exhaustion);
        assert!(trouble.message.contains("/x"), "{}", trouble.message);
    }

    #[test]
    fn each_end_has_its_word() {
        let done = |failed: Option<&str>| Ended {
            outcome: vec![1],
            failed: failed.map(ToOwned::to_owned),
        };
        assert_eq!(word(&outcome(Ok(done(None)))), "done");
        let failed = outcome(Ok(done(Some("exit code: 1"))));
        assert_eq!((word(&failed), why(&failed)), ("failed", "exit code: 1"));
        let stopped = |why| outcome(Err(Unfinished::Stopped(why)));
        assert_eq!(word(&stopped(Stop::Cancelled)), "cancelled");
        assert_eq!(word(&stopped(Stop::HandedBack)), "handed-back");
        let trouble = outcome(Err(Trouble::new("x".repeat(100_000)).into()));
        assert_eq!(word(&trouble), "infrastructure");
        assert_eq!(why(&trouble).len(), LONGEST_MESSAGE);
    }
}

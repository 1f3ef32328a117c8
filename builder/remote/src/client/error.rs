//! Why a farm has not done what it was asked.

use std::error::Error;

use ashlar_store::fault::{Fault, FaultKind};
use tonic::{Code, Status};

use crate::context::ContextError;
use crate::order::OrderError;
use crate::seal::SealError;

/// A farm's refusal or failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FarmError {
    /// The farm cannot be reached, or does not answer.
    #[error("{message}")]
    Unreachable {
        /// What was to be done, and what came of it.
        message: String,
        /// The underlying error.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The farm does not do it.
    #[error("{message}")]
    Refused {
        /// What was to be done, and what came of it.
        message: String,
        /// Of what kind the refusal is.
        kind: FaultKind,
        /// The underlying error.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// There is no such operation, or not any more.
    #[error("the farm knows of no operation {0}")]
    Unknown(String),
    /// Work ended without an outcome.
    #[error("{message}")]
    Ended {
        /// How.
        code: Code,
        /// What the farm says.
        message: String,
    },
    /// What the farm says cannot be understood.
    #[error("the farm gave an answer that cannot be: {0}")]
    Malformed(&'static str),
    /// The files of a context did not get there.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Secrets could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Work cannot be written down so that a farm takes it.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A layer of a base image that is on this machine only cannot be sent.
    #[error("a layer of a base image that is on this machine only cannot be sent to the farm")]
    Base(#[source] Box<dyn Error + Send + Sync>),
}

impl FarmError {
    /// What a fault means.
    pub(super) fn of_fault(fault: Fault) -> Self {
        let Fault {
            kind,
            message,
            source,
        } = fault;
        // What a status says is in the message.
        let source = source.filter(|source| !source.is::<Status>());
        match kind {
            FaultKind::Unavailable => Self::Unreachable { message, source },
            _ => Self::Refused {
                message,
                kind,
                source,
            },
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Unreachable { .. } => {
                "look whether the farm's servers run and can be reached from here, or build without \
                 --remote"
            }
            Self::Refused { kind, .. } => match kind {
                FaultKind::Denied => {
                    "show a token that may queue work: token-file=FILE in the farm's address"
                }
                FaultKind::Unsupported => {
                    "the server is a cache without workers: start it with --worker-listen, or build \
                     without --remote"
                }
                _ => return None,
            },
            Self::Ended {
                code: Code::Cancelled,
                ..
            } => return None,
            Self::Context(error) => return error.hint().map(str::to_owned),
            Self::Order(error) => return error.hint().map(str::to_owned),
            Self::Seal(SealError::NoRecipient) => {
                "give the farm's workers a key with ashlar-worker keygen"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the work was called off.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Ended {
                code: Code::Cancelled,
                ..
            }
        )
    }

    /// Whether the build's input is at fault, not the farm.
    pub const fn is_input(&self) -> bool {
        match self {
            Self::Context(error) => error.is_input(),
            Self::Seal(SealError::TooLarge) => true,
            Self::Order(error) => matches!(error, OrderError::BaseOnlyHere { .. }),
            _ => false,
        }
    }
}

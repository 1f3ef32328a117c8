//! Why a schedule gave nothing.

use std::error::Error;
use std::sync::Arc;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::StepError;
use ashlar_store::home::StoreError;

use crate::dockerfile::source::SourceRange;
use crate::graph::NodeId;

/// Why a build gave no filesystem. Shared, for several nodes may fail for one cause.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// A step failed.
    #[error("{}", .0.name)]
    Step(#[source] Arc<StepFailure>),
    /// The local store failed.
    #[error("the local store failed")]
    Store(#[source] Arc<StoreError>),
    /// The farm that was to build did not.
    #[error("the farm has not built it")]
    Farm(#[source] Arc<FarmFailure>),
    /// Called off since something else failed.
    #[error("cancelled")]
    Cancelled,
    /// A task of the scheduler died: a defect of ours.
    #[error("internal error: {0}")]
    Internal(Arc<str>),
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StepFailure {
    /// Which step, if it is one of the build's.
    pub node: Option<NodeId>,
    /// How people call it.
    pub name: Arc<str>,
    /// Its lines in the Dockerfile.
    pub range: Option<SourceRange>,
    /// Why.
    pub error: StepError,
    /// The last lines that it wrote, oldest first.
    pub last_output: Vec<String>,
}

/// Why a farm did not do its part.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FarmFailure {
    /// What is wrong.
    pub message: String,
    /// What to do about it, if there is anything to say.
    pub hint: Option<String>,
    /// What kind of failure it is.
    pub fault: FarmFault,
    /// The underlying error.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// How a farm fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarmFault {
    /// It cannot be reached, has no worker for the work, or lost too many over it.
    NotDone,
    /// It says that it has done the work, but there is no result.
    Vanished,
    /// Somebody has told it to stop.
    CalledOff,
}

impl Failure {
    /// A layer that nobody has any more.
    pub(super) fn lost(layer: LayerId) -> Self {
        Self::Step(Arc::new(StepFailure {
            node: None,
            name: "reading the local store".into(),
            range: None,
            error: StepError::LayersLost {
                layers: vec![layer],
            },
            last_output: Vec::new(),
        }))
    }

    /// Which of two failures says more of why there is no filesystem: what is lost may be made again,
    /// and without a farm the build may go on here.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::Farm(_) => 1,
            failure => u8::from(failure.lost_layers().is_none()) * 2,
        }
    }

    /// The layers whose files turned out to be nowhere, if that is what failed.
    pub fn lost_layers(&self) -> Option<&[LayerId]> {
        match self {
            Self::Step(step) => match &step.error {
                StepError::LayersLost { layers } => Some(layers),
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

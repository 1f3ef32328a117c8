//! Why a schedule gave nothing.

use std::sync::Arc;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::StepError;
use ashlar_store::home::StoreError;

use crate::dockerfile::source::SourceRange;

/// Why a build gave no filesystem. Shared, for several nodes may fail for one cause.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// A step failed.
    #[error("{}", .0.name)]
    Step(#[source] Arc<StepFailure>),
    /// The local store failed.
    #[error("the local store failed")]
    Store(#[source] Arc<StoreError>),
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
    /// How people call it.
    pub name: Arc<str>,
    /// Its lines in the Dockerfile.
    pub range: Option<SourceRange>,
    /// Why.
    pub error: StepError,
    /// The last lines that it wrote, oldest first.
    pub last_output: Vec<String>,
}

impl Failure {
    /// A layer that nobody has any more.
    pub(super) fn lost(layer: LayerId) -> Self {
        Self::Step(Arc::new(StepFailure {
            name: "reading the local store".into(),
            range: None,
            error: StepError::LayersLost {
                layers: vec![layer],
            },
            last_output: Vec::new(),
        }))
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

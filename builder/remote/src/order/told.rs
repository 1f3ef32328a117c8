//! Errors of steps, as they are told to another machine.

use std::error::Error;
use std::fmt;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::{ExitStatus, StepError};
use serde::{Deserialize, Serialize};

/// The longest text of an error.
const LONGEST_TEXT: usize = 16 << 10;
/// The most causes of an error.
const MOST_CAUSES: usize = 16;
/// The most lost layers that are named.
const MOST_LAYERS: usize = 4_096;

/// An error of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WireError {
    Failed {
        command: String,
        status: WireStatus,
    },
    Input {
        message: String,
        hint: Option<String>,
    },
    Environment {
        message: String,
        hint: Option<String>,
        /// The outermost first.
        causes: Vec<String>,
    },
    LayersLost(Vec<LayerId>),
    Cancelled,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WireStatus {
    Code(i32),
    Signal(i32),
    OutOfMemory,
}

/// The beginning of a text.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next.filter(|_| causes.len() < MOST_CAUSES) {
        causes.push(cut(&error.to_string()));
        next = error.source();
    }
    causes
}

impl From<&StepError> for WireError {
    fn from(error: &StepError) -> Self {
        let hint = error.hint().map(cut);
        match error {
            StepError::Failed { command, status } => Self::Failed {
                command: cut(command),
                status: match status {
                    ExitStatus::Code(code) => WireStatus::Code(*code),
                    ExitStatus::Signal(signal) => WireStatus::Signal(*signal),
                    ExitStatus::OutOfMemory => WireStatus::OutOfMemory,
                },
            },
            StepError::Input { message, .. } => Self::Input {
                message: cut(message),
                hint,
            },
            StepError::Environment {
                message, source, ..
            } => Self::Environment {
                message: cut(message),
                hint,
                causes: source
                    .as_deref()
                    .map_or_else(Vec::new, |error| causes(error)),
            },
            StepError::LayersLost { layers } => {
                let layers = layers.iter().take(MOST_LAYERS).copied();
                Self::LayersLost(layers.collect())
            }
            StepError::Cancelled => Self::Cancelled,
            other => Self::Environment {
                message: cut(&other.to_string()),
                hint,
                causes: other.source().map_or_else(Vec::new, causes),
            },
        }
    }
}

impl From<WireError> for StepError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Failed { command, status } => Self::Failed {
                command,
                status: match status {
                    WireStatus::Code(code) => ExitStatus::Code(code),
                    WireStatus::Signal(signal) => ExitStatus::Signal(signal),
                    WireStatus::OutOfMemory => ExitStatus::OutOfMemory,
                },
            },
            WireError::Input { message, hint } => Self::Input { message, hint },
            WireError::Environment {
                message,
                hint,
                causes,
            } => {
                let inner_first = causes.into_iter().rev();
                let source = inner_first.fold(None, |source, message| {
                    Some(Box::new(Told { message, source }))
                });
                Self::Environment {
                    message,
                    hint,
                    source: source.map(|told| told as Box<dyn Error + Send + Sync>),
                }
            }
            WireError::LayersLost(layers) => Self::LayersLost { layers },
            WireError::Cancelled => Self::Cancelled,
        }
    }
}

/// A cause that another machine told.
#[derive(Debug)]
struct Told {
    message: String,
    source: Option<Box<Self>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|told| told as _)
    }
}

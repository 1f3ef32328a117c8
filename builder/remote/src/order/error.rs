//! What can be wrong with an order.

use ashlar_store::home::StoreError;

/// An order that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// It is not what it was taken for.
    #[error("this is no {0}")]
    Kind(&'static str),
    /// Another version of the format.
    #[error(
        "this {kind} has version {found} of its format, and only version {known} is understood here"
    )]
    Version {
        /// What it is.
        kind: &'static str,
        /// Its version.
        found: u16,
        /// The one that is known.
        known: u16,
    },
    /// It is longer than any.
    #[error("this {kind} has {length} bytes, and no more than {most} are read")]
    TooLong {
        /// What it is.
        kind: &'static str,
        /// Its length.
        length: usize,
        /// The most.
        most: usize,
    },
    /// Its bytes are damaged.
    #[error("this {kind} cannot be read")]
    Damaged {
        /// What it is.
        kind: &'static str,
        /// Why.
        #[source]
        source: postcard::Error,
    },
    /// It says what no client says.
    #[error("this order is wrong: {0}")]
    Wrong(String),
    /// It was written for workers that isolate steps in another way.
    #[error(
        "this order is for steps that are isolated as `{order}`, and they are isolated as `{here}` here"
    )]
    Isolation {
        /// That of the order.
        order: String,
        /// That of who reads it.
        here: String,
    },
    /// Both sides compute different keys.
    #[error(
        "the client (version {client}) and this program (version {here}) compute different keys of {name}"
    )]
    Keys {
        /// The step.
        name: String,
        /// The client's version.
        client: String,
        /// Ours.
        here: &'static str,
    },
    /// A base image that no worker can get.
    #[error("{image} is on this machine only: {why}")]
    BaseOnlyHere {
        /// How people call it.
        image: String,
        /// What is missing.
        why: &'static str,
    },
    /// A password would lie in the farm's store, where others may read it.
    #[error("{what} of {name} has a password in it, which no order takes to a farm")]
    Password {
        /// What has it.
        what: String,
        /// The step.
        name: String,
    },
    /// Files of a context that were not sent.
    #[error("the files that {0} copies were not sent to the farm")]
    ContextNotSent(String),
    /// The local store failed.
    #[error("the local store failed")]
    Store(#[from] StoreError),
}

impl OrderError {
    /// What to do about it, if there is anything to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Version { .. } | Self::Keys { .. } => {
                Some("run the same version of Ashlar on this machine and on the farm's workers")
            }
            Self::BaseOnlyHere { .. } => {
                Some("push it to a registry that the farm's workers can reach, and name it by that")
            }
            Self::Password { .. } => Some(
                "let the workers know it, or give it to a step as a secret (RUN --mount=type=secret)",
            ),
            _ => None,
        }
    }
}

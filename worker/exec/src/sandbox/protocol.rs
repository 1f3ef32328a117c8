//! What the processes of the sandbox say to each other.
//!
//! ```text
//! builder ── Start: Enter, Proceed ──▶ launcher      once, before anything runs
//!         ◀─ StartReport ────────────
//! builder ── Launch + descriptors ───▶ launcher      once for each container
//! builder ── Control ────────────────▶ supervisor    on the container's own channel
//!         ◀─ Report ─────────────────
//! init    ── InitReport ─────────────▶ supervisor
//!         ◀─ InitOrder + SIGPWR ─────
//! ```

use std::path::PathBuf;

use ashlar_model::executor::ExitStatus;
use serde::{Deserialize, Serialize};

use super::errno::SystemError;
use super::error::SetupError;
use super::spec::ContainerSpec;

/// First message to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Enter {
    /// Whether to leave the user namespace.
    pub(super) new_user_namespace: bool,
}

/// Second message to the helper, when its ids are mapped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Directory with the mount point and the stub layer.
    #[serde(with = "super::spec::path_as_bytes")]
    pub(super) directory: PathBuf,
    /// Whether there is one id only, so that `setgroups` is forbidden.
    pub(super) single: bool,
    /// The longest id ranges, to refuse users that do not exist with good words.
    pub(super) users: Vec<super::id_map::IdRange>,
    /// The same for groups.
    pub(super) groups: Vec<super::id_map::IdRange>,
}

/// How the helper gets on while it starts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StartReport {
    /// It is in its new namespaces and waits for its map.
    Entered,
    /// It serves.
    Ready,
    /// The kernel refused a namespace.
    NoNamespace {
        /// `user` or `mount`.
        kind: String,
        /// Why.
        error: SystemError,
    },
    /// Something else failed.
    Failed {
        /// What.
        operation: String,
        /// Why.
        error: SystemError,
    },
}

/// Asks for a container. Its descriptors: a memory file with a [`LaunchRequest`], the container's
/// channel, then the standard streams, if they are files.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Launch {
    /// The only request so far. (A message must have at least one byte, so this is no unit.)
    Container,
}

/// What to launch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LaunchRequest {
    /// The container.
    pub(super) spec: ContainerSpec,
    /// Its standard streams.
    pub(super) streams: Streams,
}

/// What a container's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Streams {
    /// Descriptors that came with the request.
    Files {
        /// Whether they are pipes of our own, which may be given to the container's user.
        own: bool,
    },
    /// A new terminal.
    Terminal {
        /// Height in characters.
        rows: u16,
        /// Width in characters.
        columns: u16,
    },
}

/// What the builder says to a running container. If it goes without a word, the container is
/// killed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Control {
    /// Pass this signal to the command.
    Signal(i32),
    /// Ask the command to end, then make it.
    Cancel,
    /// End all of it now.
    Kill,
    /// Stop all processes of the container.
    Pause,
    /// Let them go on.
    Resume,
}

/// What a container says to the builder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The master side of the terminal comes with this message.
    Terminal,
    /// It is over, and nothing of it is left.
    Finished(Result<WireStatus, SetupError>),
}

/// What a container's init says to its supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum InitReport {
    /// Mount points that had to be made in the upper directory.
    Stubs(Vec<Stub>),
    /// The command could not be started.
    Failed(SetupError),
    /// The command has ended.
    Exited(WireStatus),
}

/// What a supervisor tells a container's init, which looks for it when it gets `SIGPWR`. Whoever
/// sends that signal from inside gives no order with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum InitOrder {
    /// Stop all processes.
    Pause,
    /// Let them go on.
    Resume,
}

/// A mount point made for a container, to be removed after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stub {
    /// Path below the upper directory, as bytes.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) kind: StubKind,
}

/// What kind of thing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StubKind {
    /// An empty file.
    File,
    /// An empty directory.
    Directory,
    /// A directory of a lower layer that was copied up because something was made in it.
    CopiedUp {
        /// Change time right after that: seconds and nanoseconds. If it is still the same, the
        /// command did not touch the directory.
        changed: (i64, i64),
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WireStatus {
    /// It returned this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel ended it for want of memory.
    OutOfMemory,
}

impl From<WireStatus> for ExitStatus {
    fn from(status: WireStatus) -> Self {
        match status {
            WireStatus::Code(code) => Self::Code(code),
            WireStatus::Signal(signal) => Self::Signal(signal),
            WireStatus::OutOfMemory => Self::OutOfMemory,
        }
    }
}

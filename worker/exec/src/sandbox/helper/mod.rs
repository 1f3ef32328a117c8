//! The builder's side of the sandbox.
//!
//! A [`SandboxHelper`] is a process (and its children) in namespaces of its own, started once and
//! used for many containers and file requests. Its methods may be called from any thread; running
//! containers needs a tokio runtime, everything else does not.

pub(super) mod calls;
mod directory;
mod run;
mod start;

use std::io;
use std::path::PathBuf;
use std::process::Child;

use super::channel::Channel;
use super::error::{CallError, StartError};
use super::id_map::IdMap;
use super::spec::{ContainerSpec, Stdio};

use calls::Calls;
pub(super) use directory::{MOUNT, STUBS};
pub use run::{Run, RunControl};

/// Name under which the helper starts this program again: `run_if_child` looks for it in the
/// place of the program's name.
pub(super) const HELPER_NAME: &str = "ashlar-sandbox";

/// What a sandbox needs to know.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// A directory for mount points and the stub layer, made if missing; best on the filesystem
    /// of the layers. Many sandboxes may share it; nothing in it ever changes.
    pub directory: PathBuf,
    /// Which ids to have.
    pub ids: IdChoice,
}

/// Which ids a sandbox shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdChoice {
    /// As many as can be had.
    #[default]
    Best,
    /// Only one's own, even if there are more.
    Single,
}

/// A running sandbox. Dropping it kills what runs in it and waits until nothing is left.
#[derive(Debug)]
pub struct SandboxHelper {
    /// To the launcher; `None` only while being dropped.
    launcher: Option<Channel>,
    calls: Calls,
    process: Child,
    id_map: IdMap,
}

impl SandboxHelper {
    /// Starts the helper: this program once more, which must call
    /// [`run_if_child`](super::run_if_child) first thing. Takes a few milliseconds.
    pub fn start(config: &SandboxConfig) -> Result<Self, StartError> {
        start::start(config)
    }

    /// The ids that exist inside.
    pub const fn id_map(&self) -> &IdMap {
        &self.id_map
    }

    /// Starts a container. The returned future gives the command's exit status when nothing of
    /// the container is left; dropping it calls the container off: SIGTERM to the command, then,
    /// after a grace of two seconds, SIGKILL to everything.
    ///
    /// The future must be polled in a tokio runtime, or captured output comes to a standstill.
    pub fn run(&self, spec: ContainerSpec, stdio: Stdio) -> Run {
        run::run(self.launcher.as_ref(), spec, stdio)
    }

    /// Sends a request to the file worker, whose handler was given to
    /// [`run_if_child`](super::run_if_child), and waits for the answer. Requests are handled many
    /// at once. Dropping the future abandons the answer, not the work.
    pub async fn call(&self, request: &[u8]) -> Result<Vec<u8>, CallError> {
        self.calls
            .call(request)?
            .await
            .unwrap_or(Err(CallError::HelperLost))
    }

    /// Process id of the helper, for messages and tests.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for SandboxHelper {
    fn drop(&mut self) {
        // The end of its channel is what tells the launcher to kill and clean up. It ends when
        // all its children have; killed processes take a moment to die, so this wait is short.
        drop(self.launcher.take());
        self.calls.close();
        let _status: io::Result<_> = self.process.wait();
    }
}

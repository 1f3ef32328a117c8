//! Containers of finished images: `ashlar run`.

use std::path::PathBuf;

use ashlar_model::digest::LayerId;
use ashlar_model::executor::{ExitStatus, StepError};
use ashlar_model::step::{ExtraHost, Network, Security};

use super::LocalExecutor;
use super::error::{of_run, of_store};
use super::run::{make_directory, make_upper, shell_words};
use crate::sandbox::{
    BindMount, ContainerSpec, Mount, RootFilesystem, RunControl, Stdio, Writable,
};

/// A container to run.
#[derive(Debug)]
pub struct ContainerRequest {
    /// Its filesystem, bottom layer first. What the container changes is thrown away.
    pub layers: Vec<LayerId>,
    /// The command with its arguments; not empty.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub cwd: String,
    /// `user[:group]`, empty for root.
    pub user: String,
    /// Network access.
    pub network: Network,
    /// Host name.
    pub hostname: String,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Directories and files of this machine to show inside.
    pub binds: Vec<BindMount>,
}

/// What a container's caller may do to it while it runs.
pub type ContainerControl = RunControl;

impl LocalExecutor {
    /// Runs a container to its end. `started` gets a handle to signal the command.
    pub async fn run_container(
        &self,
        request: ContainerRequest,
        stdio: Stdio,
        started: impl FnOnce(ContainerControl) + Send,
    ) -> Result<ExitStatus, StepError> {
        let helper = self.helper().await?;
        let lowers = self.trees(&helper, &request.layers).await?;
        let scratch = self.home().scratch().map_err(of_store)?;
        let writable = Writable {
            upper: scratch.path().join("upper"),
            work: scratch.path().join("work"),
        };
        make_upper(&writable.upper, lowers.last().map(PathBuf::as_path))?;
        make_directory(&writable.work, 0o700)?;
        let command = shell_words(&request.args);
        let container = ContainerSpec {
            root: RootFilesystem {
                lowers,
                writable: Some(writable),
            },
            args: request.args,
            env: request.env,
            cwd: request.cwd,
            user: request.user,
            network: request.network,
            hostname: request.hostname,
            extra_hosts: request.extra_hosts,
            script: None,
            mounts: request.binds.into_iter().map(Mount::Host).collect(),
            security: Security::Sandbox,
            ulimits: Vec::new(),
        };
        let run = helper.run(container, stdio);
        started(run.control());
        let ended = self.run_within_quota(&helper, run, &scratch).await?;
        self.discard_allowed(&helper, &scratch, ended.allowance)
            .await;
        ended
            .outcome
            .map_err(|error| of_run(error, &command, helper.id_map().missing_ids_hint()))
    }
}

//! What a RUN sees besides its filesystem, made ready before the container starts.
//!
//! | module | subject |
//! |---|---|
//! | `caches` | directories that outlive the step, and who waits for whom |
//! | `snapshots` | what such directories hold, to other machines and from them |
//! | `agent` | a socket inside, behind which the user's SSH agent answers |
//! | `mask` | keeping the values of secrets out of what is shown |

mod agent;
mod caches;
mod mask;
mod snapshots;

use std::path::Path;

use ashlar_model::executor::{StepError, StepOutput};
use ashlar_model::mount::{BindMount, MountSpec, SecretMount, SshMount};
use ashlar_model::secret::{SecretError, SecretValue};
use ashlar_store::home::caches::CacheLock;

use super::LocalExecutor;
use super::run::{make_directory, make_upper};
use crate::sandbox::{
    self, LayersMount, MemoryMount, Mount, RootFilesystem, SandboxHelper, SocketMount, Writable,
};
use agent::AgentProxy;
pub(super) use mask::Masked;
pub use snapshots::{CacheSnapshots, CacheTar, Snapshot};

/// The mounts of a step, ready to be made.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<Mount>,
    /// Variables that hold secrets.
    pub(super) env: Vec<(String, String)>,
    /// The secrets that the step sees.
    pub(super) values: Vec<SecretValue>,
    pub(super) held: Held,
}

/// What must be kept while the command runs.
#[derive(Debug, Default)]
pub(super) struct Held {
    _caches: Vec<CacheLock>,
    agents: Vec<AgentProxy>,
}

impl LocalExecutor {
    /// Makes everything ready that the mounts of a step need: waits for caches, asks for secrets,
    /// begins to listen for those who want an agent.
    pub(super) async fn prepare_mounts(
        &self,
        helper: &SandboxHelper,
        specs: &[MountSpec],
        scratch: &Path,
        output: &dyn StepOutput,
    ) -> Result<Prepared, StepError> {
        let mut prepared = Prepared::default();
        // Before anything is waited for: what is not offered will not be, however long it takes.
        for (number, spec) in specs.iter().enumerate() {
            match spec {
                MountSpec::Secret(mount) => self.prepare_secret(mount, &mut prepared)?,
                MountSpec::Ssh(mount) => {
                    let socket = scratch.join(format!("ssh-{number}"));
                    self.prepare_agent(mount, &socket, &mut prepared)?;
                }
                MountSpec::Tmpfs(mount) => prepared.mounts.push(Mount::Memory(MemoryMount {
                    destination: mount.target.clone(),
                    size: mount.size,
                    read_only: mount.read_only,
                })),
                MountSpec::Bind(mount) => {
                    let place = scratch.join(format!("bind-{number}"));
                    let mount = self.prepare_bind(helper, mount, &place).await?;
                    prepared.mounts.push(mount);
                }
                MountSpec::Cache(_) => {}
            }
        }
        let caches = self.use_caches(helper, specs, scratch, output).await?;
        prepared.mounts.extend(caches.mounts);
        prepared.held._caches = caches.locks;
        Ok(prepared)
    }

    fn prepare_secret(
        &self,
        mount: &SecretMount,
        prepared: &mut Prepared,
    ) -> Result<(), StepError> {
        let id = &mount.id;
        let Some(value) = self.secrets.secret(id).map_err(of_secret)? else {
            if !mount.required {
                return Ok(());
            }
            return Err(StepError::Input {
                message: format!("secret {id}: not found"),
                hint: Some(format!(
                    "give it to the build: --secret id={id},src=FILE or --secret id={id},env=NAME"
                )),
            });
        };
        if let Some(name) = &mount.env {
            let text = std::str::from_utf8(value.reveal()).map_err(|_| StepError::Input {
                message: format!("secret {id} cannot be the variable {name}: it is no text"),
                hint: Some("mount it as a file: leave env= out".to_owned()),
            })?;
            prepared.env.push((name.clone(), text.to_owned()));
        }
        if let Some(file) = &mount.file {
            prepared.mounts.push(Mount::Secret(sandbox::SecretMount {
                destination: file.target.clone(),
                value: value.clone(),
                owner: file.owner,
            }));
        }
        prepared.values.push(value);
        Ok(())
    }

    fn prepare_agent(
        &self,
        mount: &SshMount,
        socket: &Path,
        prepared: &mut Prepared,
    ) -> Result<(), StepError> {
        let id = &mount.id;
        let Some(agent) = self.secrets.ssh_agent(id) else {
            if !mount.required {
                return Ok(());
            }
            return Err(StepError::Input {
                message: format!("no SSH key {id:?} forwarded from the client"),
                hint: Some(format!(
                    "start an agent (ssh-agent, ssh-add) and give it to the build: --ssh {id}"
                )),
            });
        };
        let proxy = AgentProxy::start(socket, agent).map_err(|error| {
            super::error::environment("cannot listen for users of the SSH agent", None, error)
        })?;
        prepared.held.agents.push(proxy);
        prepared.mounts.push(Mount::Socket(SocketMount {
            source: socket.to_owned(),
            destination: mount.target.clone(),
            owner: mount.owner,
        }));
        Ok(())
    }

    async fn prepare_bind(
        &self,
        helper: &SandboxHelper,
        mount: &BindMount,
        place: &Path,
    ) -> Result<Mount, StepError> {
        let lowers = self.trees(helper, &mount.source.layers).await?;
        let writable = if mount.read_only {
            None
        } else {
            // Thrown away with the step.
            make_directory(place, 0o700)?;
            let writable = Writable {
                upper: place.join("upper"),
                work: place.join("work"),
            };
            make_upper(
                &writable.upper,
                lowers.last().map(std::path::PathBuf::as_path),
            )?;
            make_directory(&writable.work, 0o700)?;
            Some(writable)
        };
        Ok(Mount::Layers(LayersMount {
            layers: RootFilesystem { lowers, writable },
            path: mount.source.path.clone(),
            destination: mount.target.clone(),
        }))
    }
}

fn of_secret(error: SecretError) -> StepError {
    StepError::Input {
        message: error.message,
        hint: error.hint,
    }
}

//! `RUN --mount`.
//!
//! Files of the context are mounted from a filesystem of their own, which a step copies them to:
//! it is made once for all mounts and builds that see the same files, owners and modes are those
//! that COPY gives, and nothing of the user's directory is ever in reach of a command.

use ashlar_model::mount::{
    BindMount, CacheMount, MountSource, MountSpec, OptionalOwner, Owner, SecretFile, SecretMount,
    SshMount, TmpfsMount,
};
use ashlar_model::select::literal;

use super::Lowering;
use super::metadata::clean;
use super::origin::Origin;
use super::stage::StageState;
use crate::dockerfile::Instruction;
use crate::dockerfile::instruction::mount::{Mount, MountError, MountType};
use crate::graph::NodeId;
use crate::plan::builder_arguments::cache_namespace;
use crate::plan::error::{Place, PlanError};
use crate::plan::stages::stage_by_name;

/// Where the files of a context lie in the filesystem that is made for them.
const CONTEXT_FILES: &str = "/files";

/// Names the agent's socket for programs.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// The mounts of one RUN.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) specs: Vec<MountSpec>,
    /// One for each spec that has a source.
    pub(super) sources: Vec<NodeId>,
    /// Variables that tell programs of mounts.
    pub(super) env: Vec<(String, String)>,
}

impl From<MountError> for PlanError {
    fn from(error: MountError) -> Self {
        let plan_error = Self::new(error.to_string());
        match error.hint() {
            Some(hint) => plan_error.hinted(hint),
            None => plan_error,
        }
    }
}

impl Lowering<'_> {
    /// Reads the mounts of a RUN, and finds what they show.
    pub(super) async fn lower_mounts<K>(
        &mut self,
        index: usize,
        state: &StageState,
        instruction: &Instruction<K>,
        written: &[String],
    ) -> Result<Mounts, PlanError> {
        let mut mounts = Mounts::default();
        if let Some(size) = self.options.shm_size {
            mounts.specs.push(MountSpec::Tmpfs(TmpfsMount {
                target: "/dev/shm".to_owned(),
                size: Some(size),
                read_only: false,
            }));
        }
        for text in written {
            let mount = Mount::parse(text, |word| self.word(state, word));
            let lowered = match mount {
                Ok(mount) => {
                    self.lower_mount(index, state, instruction, mount, &mut mounts)
                        .await
                }
                Err(error) => Err(error),
            };
            lowered.map_err(|error| error.about(text))?;
        }
        Ok(mounts)
    }

    async fn lower_mount<K>(
        &mut self,
        index: usize,
        state: &StageState,
        instruction: &Instruction<K>,
        mount: Mount,
        mounts: &mut Mounts,
    ) -> Result<(), PlanError> {
        let place = |target: &str| target_path(state.working_directory(), target);
        let spec = match mount.kind {
            MountType::Bind => {
                let target = place(&mount.target)?;
                let (node, path) = self.mount_source(index, instruction, &mount).await?;
                mounts.sources.push(node);
                MountSpec::Bind(BindMount {
                    target,
                    source: source_at(path),
                    read_only: mount.read_only,
                })
            }
            MountType::Cache => {
                let target = place(&mount.target)?;
                let seed = if mount.from.is_empty() {
                    if clean(&mount.source) != "/" {
                        return Err(PlanError::new(format!("{:?}: not found", mount.source))
                            .hinted("an empty cache has no files: say with from= where they are"));
                    }
                    None
                } else {
                    let (node, path) = self.mount_source(index, instruction, &mount).await?;
                    mounts.sources.push(node);
                    Some(source_at(path))
                };
                MountSpec::Cache(CacheMount {
                    target,
                    id: self.cache_id(&mount),
                    sharing: mount.sharing,
                    seed,
                    owner: OptionalOwner {
                        mode: mount.mode,
                        uid: mount.uid,
                        gid: mount.gid,
                    },
                    read_only: mount.read_only,
                })
            }
            MountType::Tmpfs => MountSpec::Tmpfs(TmpfsMount {
                target: place(&mount.target)?,
                size: mount.size,
                read_only: mount.read_only,
            }),
            MountType::Secret => MountSpec::Secret(secret(mount, place)?),
            MountType::Ssh => {
                let number = mounts
                    .specs
                    .iter()
                    .filter(|spec| matches!(spec, MountSpec::Ssh(_)))
                    .count();
                let ssh = agent(mount, number, place)?;
                if number == 0 && state.environment.get(AGENT_VARIABLE).is_none() {
                    let variable = (AGENT_VARIABLE.to_owned(), ssh.target.clone());
                    mounts.env.push(variable);
                }
                MountSpec::Ssh(ssh)
            }
        };
        mounts.specs.push(spec);
        Ok(())
    }

    /// The cache that a mount means: its `id`, or where it is, below the build's namespace.
    fn cache_id(&self, mount: &Mount) -> String {
        let cleaned = clean(&mount.target);
        let id = match (mount.id.as_str(), mount.target.starts_with('/')) {
            ("", true) => &cleaned,
            // As written: the working directory does not matter.
            ("", false) => cleaned.trim_start_matches('/'),
            (id, _) => id,
        };
        format!("{}/{id}", cache_namespace(self.options))
    }

    /// The filesystem that a mount's files are in, and their path there.
    async fn mount_source<K>(
        &mut self,
        index: usize,
        instruction: &Instruction<K>,
        mount: &Mount,
    ) -> Result<(NodeId, String), PlanError> {
        let path = clean(&mount.source);
        let origin = if mount.from.is_empty() {
            Origin::Context(self.main_context()?)
        } else {
            self.mount_origin(index, instruction, mount).await?
        };
        match origin {
            Origin::Node(node) => Ok((node, path)),
            Origin::Remote(source) => {
                let node = self.remote_node(&mount.from, &source, instruction.range);
                Ok((node, path))
            }
            Origin::Context(context) => {
                let of = if mount.from.is_empty() {
                    String::new()
                } else {
                    format!(" of {}", mount.from)
                };
                let source = &self.dockerfile.source;
                let place = Place::of(source, instruction, Some(&mount.source));
                let name = format!("[internal] load {path}{of} to be mounted");
                let query = literal(&path).into();
                let node = self.context_node(context, name, query, CONTEXT_FILES, place);
                Ok((node, CONTEXT_FILES.to_owned()))
            }
        }
    }

    /// What `from` names: an earlier stage, else a named context or an image. Unlike COPY's, it
    /// is no stage's number.
    async fn mount_origin<K>(
        &mut self,
        index: usize,
        instruction: &Instruction<K>,
        mount: &Mount,
    ) -> Result<Origin, PlanError> {
        let from = &mount.from;
        let Some(stage) = stage_by_name(self.dockerfile, from) else {
            return self.external_origin(from, instruction.range).await;
        };
        if stage >= index {
            return Err(PlanError::new(format!(
                "cannot mount from stage {from:?} to {:?}, stage needs to be defined before \
                 current command",
                mount.target
            )));
        }
        let state = self.done[stage].as_ref();
        let state =
            state.ok_or_else(|| PlanError::new(format!("stage {from:?} was not planned")))?;
        Ok(Origin::Node(state.node))
    }
}

/// A source whose filesystem is not there yet.
const fn source_at(path: String) -> MountSource {
    MountSource {
        layers: Vec::new(),
        path,
    }
}

/// Where a mount is seen: below the working directory unless it is absolute.
fn target_path(working_directory: &str, target: &str) -> Result<String, PlanError> {
    let path = if target.starts_with('/') {
        clean(target)
    } else {
        clean(&format!("{working_directory}/{target}"))
    };
    if path == "/" {
        return Err(PlanError::new(format!("invalid mount target {path:?}"))
            .hinted("the root filesystem is the stage's own: mount below it"));
    }
    Ok(path)
}

fn secret(
    mount: Mount,
    place: impl Fn(&str) -> Result<String, PlanError>,
) -> Result<SecretMount, PlanError> {
    let base = |path: &str| {
        let path = clean(path);
        path.rsplit('/').next().unwrap_or_default().to_owned()
    };
    // One of the three is there: the mount was checked.
    let id = [&mount.source, &mount.id]
        .into_iter()
        .find(|name| !name.is_empty());
    let id = id.cloned().unwrap_or_else(|| base(&mount.target));
    let target = match (mount.target.is_empty(), &mount.env) {
        (false, _) => Some(place(&mount.target)?),
        (true, None) => Some(place(&format!("/run/secrets/{}", base(&id)))?),
        (true, Some(_)) => None,
    };
    let owner = OptionalOwner {
        mode: mount.mode,
        uid: mount.uid,
        gid: mount.gid,
    };
    Ok(SecretMount {
        id,
        file: target.map(|target| SecretFile {
            target,
            owner: owner.or(Owner {
                mode: 0o400,
                uid: 0,
                gid: 0,
            }),
        }),
        env: mount.env,
        required: mount.required,
    })
}

fn agent(
    mount: Mount,
    number: usize,
    place: impl Fn(&str) -> Result<String, PlanError>,
) -> Result<SshMount, PlanError> {
    let owner = OptionalOwner {
        mode: mount.mode,
        uid: mount.uid,
        gid: mount.gid,
    };
    Ok(SshMount {
        id: if mount.id.is_empty() {
            "default".to_owned()
        } else {
            mount.id
        },
        target: if mount.target.is_empty() {
            format!("/run/buildkit/ssh_agent.{number}")
        } else {
            place(&mount.target)?
        },
        owner: owner.or(Owner {
            mode: 0o600,
            uid: 0,
            gid: 0,
        }),
        required: mount.required,
    })
}

#[cfg(test)]
mod tests;

//! What can go wrong in the sandbox, and what to do about it.

use ashlar_model::step::Network;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::errno::SystemError;
use super::id_map::MapWriteError;
use super::user::UserError;

/// Why the sandbox helper could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The directory for mount points cannot be prepared.
    #[error("{path} cannot be prepared for the sandbox")]
    Directory {
        /// The directory or a file in it.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// This program could not be started once more.
    #[error("the sandbox helper cannot be started")]
    Spawn(#[source] std::io::Error),
    /// The helper ended without a word, or talks nonsense: the program does not call
    /// `run_if_child` first.
    #[error("the sandbox helper does not answer")]
    NoAnswer(#[source] std::io::Error),
    /// The kernel gives us no namespaces.
    #[error("the kernel refuses a new {kind} namespace")]
    Namespace {
        /// `user` or `mount`.
        kind: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// Ids could not be mapped.
    #[error("user ids cannot be mapped into the sandbox")]
    Map(#[source] MapWriteError),
    /// The helper could not become root in its namespace or prepare its mounts.
    #[error("the sandbox cannot be prepared: {operation}")]
    Prepare {
        /// What failed.
        operation: String,
        /// Why.
        #[source]
        source: SystemError,
    },
}

impl StartError {
    /// What to do about it, in one or two sentences, where we know.
    pub fn hint(&self) -> Option<String> {
        let refused = matches!(
            self,
            Self::Map(_) | Self::Prepare { .. } | Self::Namespace { .. }
        );
        if refused && sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
            return Some(
                "AppArmor takes away what user namespaces give: as root, sysctl -w \
                 kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for this \
                 program with `flags=(unconfined) { userns, }` in /etc/apparmor.d"
                    .to_owned(),
            );
        }
        match self {
            Self::Namespace { kind, source } => namespace_hint(kind, *source),
            Self::Map(_) => Some(
                "see that newuidmap and newgidmap are set-uid root on a file system that is not \
                 mounted nosuid, and that the container around us, if any, allows privilege \
                 escalation"
                    .to_owned(),
            ),
            Self::Directory { .. } => {
                Some("set ASHLAR_HOME to a directory that you can write to".to_owned())
            }
            _ => None,
        }
    }
}

/// What makes the kernel give a namespace that it has refused.
fn namespace_hint(kind: &str, error: SystemError) -> Option<String> {
    let set = |name: &str, value: &str| {
        format!(
            "as root: sysctl -w {name}={value}, and the line {name}={value} in \
             /etc/sysctl.d/99-ashlar.conf"
        )
    };
    if error.is(Errno::NOSPC) {
        let name = if kind == "user" {
            "user.max_user_namespaces"
        } else {
            "user.max_mnt_namespaces"
        };
        return Some(format!(
            "the limit on {kind} namespaces is reached or zero; {}",
            set(name, "28633")
        ));
    }
    if error.is(Errno::PERM) || error.is(Errno::ACCESS) {
        if sysctl("kernel/unprivileged_userns_clone") == Some(0) {
            return Some(set("kernel.unprivileged_userns_clone", "1"));
        }
        return Some(
            "a container runtime's system call filter probably forbids it: run the outer \
             container with --security-opt seccomp=unconfined (Docker, Podman) or seccompProfile \
             Unconfined (Kubernetes), or send RUN steps to a remote worker"
                .to_owned(),
        );
    }
    let unknown = error.is(Errno::NOSYS) || error.is(Errno::INVAL);
    unknown.then(|| format!("this kernel is built without {kind} namespaces"))
}

/// The number in a file below `/proc/sys`.
fn sysctl(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(std::path::Path::new("/proc/sys").join(name)).ok()?;
    text.trim().parse().ok()
}

/// Why a container did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The container could not be made or its command not be started.
    #[error("the container cannot be started")]
    Setup(#[source] SetupError),
    /// The run was called off.
    #[error("the run was called off")]
    Cancelled,
    /// The sandbox helper has ended: it was killed, or this program is being torn down.
    #[error("the sandbox helper has ended")]
    HelperLost,
    /// The helper could not be talked to.
    #[error("the sandbox helper cannot be reached")]
    Channel(#[source] std::io::Error),
}

/// Why a request to the file worker got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The sandbox helper has ended.
    #[error("the sandbox helper has ended")]
    HelperLost,
    /// The request could not be sent.
    #[error("the sandbox helper cannot be reached")]
    Channel(#[source] std::io::Error),
    /// The request is longer than a message can be.
    #[error("a request of {length} bytes is too long for the sandbox helper")]
    TooLong {
        /// Length of the request.
        length: usize,
    },
    /// The handler panicked: a bug in the program.
    #[error("the sandbox helper failed on a request: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// One operation of a container's set-up that failed. Made in the sandbox, read by the builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The specification makes no sense.
    #[error("{message}")]
    BadSpec {
        /// What is wrong with it.
        message: String,
    },
    /// A layer's directory cannot be opened.
    #[error("layer {path} cannot be opened")]
    Layer {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// The layers cannot be put together.
    #[error("the root filesystem cannot be mounted{}{message}", if message.is_empty() { "" } else { ": " })]
    Overlay {
        /// What the kernel says, if it says more than an error number.
        message: String,
        /// Whether the directory for changes is itself on an overlay.
        nested: bool,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// The kernel cannot stack so many layers.
    #[error("{count} layers are more than the {limit} that this kernel can stack")]
    TooManyLayers {
        /// Layers wanted.
        count: usize,
        /// Layers possible.
        limit: usize,
    },
    /// A place to mount something on is missing and cannot be made.
    #[error("mount point {path} cannot be made in the container")]
    MountPoint {
        /// Path inside the container.
        path: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// Something cannot be mounted.
    #[error("{path} cannot be mounted in the container")]
    Mount {
        /// Path inside the container.
        path: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// What is to be shown of other layers cannot be reached there.
    #[error("{path:?} cannot be mounted from the layers that it is in")]
    MountSource {
        /// Path inside the layers.
        path: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// A file or directory of this machine cannot be shown inside.
    #[error("{host} cannot be mounted at {path} in the container")]
    Bind {
        /// Path on this machine.
        host: String,
        /// Path inside the container.
        path: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// A namespace cannot be made.
    #[error("the kernel refuses new namespaces for a container (network: {network:?})")]
    Namespace {
        /// The network that was asked for.
        network: Network,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// The user cannot be found in the container.
    #[error("the container's user cannot be determined")]
    User(#[source] UserError),
    /// The user or group does not exist in the sandbox's map.
    #[error("{kind} id {id} does not exist inside the sandbox")]
    UnmappedId {
        /// `user` or `group`.
        kind: String,
        /// The id.
        id: u32,
    },
    /// The working directory is missing and cannot be made, or is none.
    #[error("working directory {path} cannot be entered")]
    WorkingDirectory {
        /// Path inside the container.
        path: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// A limit on a resource cannot be set.
    #[error("the limit {name} cannot be set to {}:{}", shown(*soft), shown(*hard))]
    Limit {
        /// Its name.
        name: String,
        /// What the command was to get.
        soft: Option<u64>,
        /// How far it may raise that.
        hard: Option<u64>,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// No such command.
    #[error("exec: \"{command}\": executable file not found in $PATH")]
    CommandNotFound {
        /// The command's name as given.
        command: String,
    },
    /// The command cannot be executed.
    #[error("exec: \"{command}\"")]
    CommandNotExecutable {
        /// The command's path as given.
        command: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// Another system call failed.
    #[error("{operation}")]
    System {
        /// What was to be done.
        operation: String,
        /// Why.
        #[source]
        source: SystemError,
    },
    /// The container's init ended before it had done its work: it was killed from outside.
    #[error("the container's init was killed before it started the command")]
    InitLost,
}

/// A limit as people write it.
fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

impl SetupError {
    /// A failed system call with the words for what it was to do; for use with `map_err`.
    pub(crate) fn system<E: Into<SystemError>>(operation: &str) -> impl FnOnce(E) -> Self {
        let operation = operation.to_owned();
        move |source| Self::System {
            operation,
            source: source.into(),
        }
    }

    /// What to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Overlay { nested: true, .. } => {
                "overlays do not stack: keep Ashlar's store on a volume of the surrounding \
                 container (or a tmpfs), not on its root filesystem; set ASHLAR_HOME"
            }
            Self::Overlay { source, .. }
                if source.is(Errno::INVAL) || source.is(Errno::OPNOTSUPP) =>
            {
                "the store's filesystem cannot take an overlay's changes (NFS, eCryptfs and some \
                 FUSE filesystems cannot); set ASHLAR_HOME to a directory on ext4, xfs, btrfs or \
                 tmpfs"
            }
            Self::Overlay { source, .. } if source.is(Errno::PERM) => {
                "mounting an overlay without root needs Linux 5.11 or newer"
            }
            Self::MountPoint { source, .. } if source.is(Errno::ROFS) => {
                "what it lies in is mounted read-only: make the mount point in the source, or \
                 mount that with rw"
            }
            Self::MountPoint { source, .. }
                if source.is(Errno::NOTDIR) || source.is(Errno::ISDIR) =>
            {
                "a file is mounted on a file, a directory on a directory"
            }
            Self::Limit { source, .. } if source.is(Errno::PERM) => {
                "an ordinary user can only lower hard limits: raise the one of your own session \
                 first (`ulimit -H`, /etc/security/limits.conf)"
            }
            Self::Limit { source, .. } if source.is(Errno::INVAL) => {
                "the soft limit must not be above the hard one"
            }
            Self::CommandNotExecutable { source, .. } if source.is(Errno::NOEXEC) => {
                "the file is neither a program of this machine's kind nor a script that begins \
                 with #!"
            }
            Self::UnmappedId { .. } => {
                "only the ids of your user's subordinate ranges exist there: give your user a \
                 larger range of subordinate ids in /etc/subuid and /etc/subgid"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(kind: &str, errno: Errno) -> StartError {
        StartError::Namespace {
            kind: kind.to_owned(),
            source: errno.into(),
        }
    }

    #[test]
    fn a_limit_on_namespaces_comes_with_the_setting_that_lifts_it() {
        let hint = namespace("user", Errno::NOSPC).hint().unwrap();
        assert!(
            hint.contains("sysctl -w user.max_user_namespaces=28633"),
            "{hint}"
        );
        let hint = namespace("mount", Errno::NOSPC).hint().unwrap();
        assert!(
            hint.contains("sysctl -w user.max_mnt_namespaces=28633"),
            "{hint}"
        );
    }

    #[test]
    fn a_refusal_names_who_refuses() {
        let hint = namespace("user", Errno::PERM).hint().unwrap();
        let known = [
            "seccomp=unconfined",
            "unprivileged_userns_clone",
            "AppArmor",
        ];
        assert!(known.iter().any(|word| hint.contains(word)), "{hint}");
        let hint = namespace("user", Errno::NOSYS).hint().unwrap();
        assert!(hint.contains("built without user namespaces") || hint.contains("AppArmor"));
    }

    #[test]
    fn an_overlay_that_cannot_be_mounted_comes_with_the_cause() {
        let overlay = |nested, errno: Errno| SetupError::Overlay {
            message: "overlay: filesystem on upper not supported as upperdir".to_owned(),
            nested,
            source: errno.into(),
        };
        let error = overlay(true, Errno::INVAL);
        assert!(
            error
                .to_string()
                .ends_with("mounted: overlay: filesystem on upper not supported as upperdir")
        );
        assert!(error.hint().unwrap().contains("on a volume"));
        assert!(
            overlay(false, Errno::INVAL)
                .hint()
                .unwrap()
                .contains("ext4")
        );
    }

    #[test]
    fn no_message_repeats_its_source() {
        use std::error::Error as _;

        let errors: [&dyn std::error::Error; 4] = [
            &namespace("user", Errno::PERM),
            &StartError::Map(MapWriteError::ProgramFailed {
                program: "newuidmap",
                message: "write to uid_map failed".to_owned(),
            }),
            &RunError::Setup(SetupError::InitLost),
            &SetupError::Layer {
                path: "/l".to_owned(),
                source: Errno::NOENT.into(),
            },
        ];
        for error in errors {
            let source = error.source().unwrap().to_string();
            assert!(!error.to_string().contains(&source), "{error}");
        }
        assert!(SetupError::InitLost.source().is_none());
    }
}

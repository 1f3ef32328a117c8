//! The sandbox: commands in containers of their own, files with the rights of their root.
//!
//! | module | subject |
//! |---|---|
//! | `helper` | the builder's side: starting the sandbox, running containers, calling the file worker |
//! | `child` | the sandbox's processes: how they come to be, watch each other, and end |
//! | `container` | one container from inside: root filesystem, mounts, user, privileges, PID 1 |
//! | [`id_map`] | which user and group ids exist inside |
//! | [`user`] | `user[:group]` in an image's passwd and group files |
//! | `spec` | what a container is to be |
//! | `channel`, `protocol` | what the processes say to each other, and how |
//! | `error`, `errno` | what can go wrong, and what to do about it |
//!
//! The sandbox is this program started once more: the first line of `main` must call
//! [`run_if_child`]. A [`SandboxHelper`] is started once and runs any number of containers, many at
//! a time; one costs about four milliseconds beside its command.
//!
//! What holds whatever happens, also after `kill -9` of any of the processes: no container
//! outlives the builder, no mount is ever seen outside, and a container's work directory is empty
//! when its run is over, with nothing in the upper directory but what the command did.

mod channel;
mod child;
mod container;
mod errno;
mod error;
mod helper;
pub mod id_map;
mod protocol;
mod spec;
pub mod user;

pub use child::{FileHandler, run_if_child};
pub use errno::SystemError;
pub use error::{CallError, RunError, SetupError, StartError};
pub use helper::{IdChoice, Run, RunControl, SandboxConfig, SandboxHelper};
pub use id_map::{IdMap, IdMode, IdRange, SingleReason};
pub use spec::{
    BindMount, ContainerSpec, LayersMount, MemoryMount, Mount, RootFilesystem, SecretMount,
    SocketMount, Stdio, Writable,
};

//! Linux system calls behind safe functions: the only `unsafe` code of Ashlar.
//!
//! [`rustix`] covers most of what the sandbox asks of the kernel, safely. Here is the rest.
//!
//! | module | subject |
//! |---|---|
//! | [`account`] | login names |
//! | [`descriptor`] | closing all descriptors at once |
//! | [`keyring`] | session keyrings |
//! | [`mount`] | changing the attributes of mounts |
//! | [`namespace`] | leaving namespaces |
//! | [`network`] | the loopback interface |
//! | [`process`] | fork, exec, immediate exit |
//! | [`seccomp`] | system call filters |
//! | [`signal`] | masks, dispositions and synchronous waiting |
#![allow(
    unsafe_code,
    reason = "this crate is the fence: everything unsafe is here"
)]

pub mod account;
pub mod descriptor;
pub mod keyring;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod process;
pub mod seccomp;
pub mod signal;

//! What a command may do: Docker's defaults, or, with `--security=insecure`, all that the user
//! namespace gives.

use std::os::fd::OwnedFd;

use ashlar_model::step::Security;
use rustix::fs::fchown;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::super::user::UserIdentity;
use super::runtime::Runtime;

/// Docker's and containerd's 14 default capabilities.
pub(super) const DEFAULT_CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Highest capability number that a kernel can have.
const LAST_CAPABILITY: u32 = 63;

/// Gives our pipes to the command's user, who else could not open `/dev/stdout` by name.
pub(super) fn give_streams(files: &[OwnedFd], identity: &UserIdentity) {
    for file in files.iter().skip(1) {
        // Writing to the inherited descriptor works in any case.
        let _given = fchown(file, Some(Uid::from_raw(identity.uid)), None);
    }
}

/// Takes away what a command does not get. Called in the process that becomes it.
///
/// Why this order: dropping from the bounding set needs `CAP_SETPCAP`, the filter
/// `CAP_SYS_ADMIN`, and the ids `CAP_SETGID` and `CAP_SETUID`; so the sets come last. A user
/// other than root loses all of them with the change of the user id.
pub(super) fn give_up(
    runtime: &Runtime,
    identity: &UserIdentity,
    security: Security,
) -> Result<(), (&'static str, Errno)> {
    let at = |operation: &'static str| move |errno| (operation, errno);
    let confined = security == Security::Sandbox;
    if confined {
        restrict_bounding_set().map_err(at("the capability bounding set cannot be restricted"))?;
    }
    if runtime.single() {
        // Set-uid programs could only fail half-way through.
        set_no_new_privs(true).map_err(at("no_new_privs cannot be set"))?;
    }
    if confined {
        runtime
            .filter()
            .install()
            .map_err(at("the system call filter cannot be installed"))?;
    }
    if !runtime.single() {
        let groups: Vec<Gid> = identity
            .groups
            .iter()
            .map(|id| Gid::from_raw(*id))
            .collect();
        set_thread_groups(&groups).map_err(at("the user's groups cannot be set"))?;
    }
    let group = Some(Gid::from_raw(identity.gid));
    set_thread_res_gid(group, group, group).map_err(at("the group id cannot be set"))?;
    let user = Some(Uid::from_raw(identity.uid));
    set_thread_res_uid(user, user, user).map_err(at("the user id cannot be set"))?;

    let held = capabilities(None).map_err(at("capabilities cannot be read"))?;
    let kept = if confined {
        held.permitted & DEFAULT_CAPABILITIES
    } else {
        held.permitted
    };
    set_capabilities(
        None,
        CapabilitySets {
            effective: held.effective & kept,
            permitted: kept,
            // Empty, as Docker has it since CVE-2022-24769: inheritable ones would give a user
            // other than root the capabilities of files that ask for them.
            inheritable: CapabilitySet::empty(),
        },
    )
    .map_err(at("capabilities cannot be given up"))
}

fn restrict_bounding_set() -> Result<(), Errno> {
    for number in 0..=LAST_CAPABILITY {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if DEFAULT_CAPABILITIES.contains(capability) {
            continue;
        }
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // Beyond the last one that this kernel has.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

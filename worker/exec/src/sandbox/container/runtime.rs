//! What all containers of a sandbox have in common, prepared once by the launcher.
//!
//! A tmpfs in the launcher's mount namespace, which every container's init gets a copy of and
//! leaves behind when it enters its root:
//!
//! ```text
//! root/          mount point of a container's root filesystem
//! lower/         mount point of an overlay of the bottom layers, if there are very many
//! other/         mount point of stacks of layers, part of which a container sees
//! empty/         an empty directory, to cover what containers must not see
//! nothing        an empty file: resolv.conf of containers without network
//! resolv.conf    a copy of the machine's
//! runs/ID/       generated files of one container
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use ashlar_model::mount::Owner;
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, move_mount};
use rustix::process::Rlimit;

use super::super::errno::SystemError;
use super::super::error::SetupError;
use super::super::helper::{MOUNT, STUBS};
use super::super::id_map::IdRange;
use super::super::protocol::Settings;
use super::super::user::UserIdentity;
use super::mount::new_filesystem;
use super::seccomp::Filter;

/// What a launcher has prepared.
#[derive(Debug)]
pub(in super::super) struct Runtime {
    settings: Settings,
    /// Where the tmpfs is mounted.
    directory: PathBuf,
    /// The stub layer.
    stubs: PathBuf,
    /// The descriptor limit that commands get.
    descriptor_limit: Rlimit,
    filter: Filter,
}

impl Runtime {
    /// Mounts the tmpfs and fills it. An error comes with what was to be done.
    pub(in super::super) fn prepare(
        settings: Settings,
        descriptor_limit: Rlimit,
    ) -> Result<Self, (String, SystemError)> {
        let directory = settings.directory.join(MOUNT);
        let failed = |what: &str| {
            let what = format!("{what} {}", directory.display());
            move |error: SystemError| (what, error)
        };
        let protection = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        new_filesystem("tmpfs", &[("mode", Some("0755"))], protection)
            .and_then(|tmpfs| {
                move_mount(
                    tmpfs,
                    "",
                    CWD,
                    &directory,
                    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
                )
            })
            .map_err(|errno| failed("mounting a tmpfs on")(errno.into()))?;
        let fill = || {
            for name in ["root", "lower", "other", "empty", "runs"] {
                fs::create_dir(directory.join(name))?;
            }
            fs::write(directory.join("nothing"), "")?;
            // Without the file, names are looked up on this machine itself: an empty copy is the
            // same thing.
            let resolver = fs::read("/etc/resolv.conf").unwrap_or_default();
            fs::write(directory.join("resolv.conf"), resolver)
        };
        fill().map_err(|error: std::io::Error| failed("writing files in")(error.into()))?;
        Ok(Self {
            stubs: settings.directory.join(STUBS),
            settings,
            directory,
            descriptor_limit,
            filter: Filter::docker_default(),
        })
    }

    /// A file or directory of the tmpfs.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The layer of mount points.
    pub(super) fn stubs(&self) -> &Path {
        &self.stubs
    }

    /// Whether there is one id only.
    pub(super) const fn single(&self) -> bool {
        self.settings.single
    }

    /// The descriptor limit that commands get.
    pub(super) const fn descriptor_limit(&self) -> Rlimit {
        self.descriptor_limit
    }

    /// The system call filter of commands.
    pub(super) const fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether a group id exists inside.
    pub(super) fn has_group(&self, id: u32) -> bool {
        contains(&self.settings.groups, id)
    }

    /// Refuses an owner that does not exist inside.
    pub(super) fn check_owner(&self, owner: Owner) -> Result<(), SetupError> {
        self.check_mapped(&UserIdentity {
            uid: owner.uid,
            gid: owner.gid,
            groups: Vec::new(),
            home: String::new(),
        })
    }

    /// Refuses ids that do not exist inside.
    pub(super) fn check_mapped(&self, identity: &UserIdentity) -> Result<(), SetupError> {
        let unmapped = |kind: &str, id| {
            Err(SetupError::UnmappedId {
                kind: kind.to_owned(),
                id,
            })
        };
        if !contains(&self.settings.users, identity.uid) {
            return unmapped("user", identity.uid);
        }
        let mut groups = identity.groups.iter().chain([&identity.gid]);
        match groups.find(|id| !self.has_group(**id)) {
            Some(id) => unmapped("group", *id),
            None => Ok(()),
        }
    }
}

fn contains(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| {
        id.checked_sub(range.inside)
            .is_some_and(|offset| offset < range.count)
    })
}

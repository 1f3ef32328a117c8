//! The directory in which a command starts.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, mkdirat};
use rustix::io::Errno;

use super::super::error::SetupError;
use super::super::user::UserIdentity;
use super::inside::{open_inside, open_or_make};

/// Opens the working directory, making what is missing of it: mode 0755, owned by the user, as
/// BuildKit does.
pub(super) fn open(
    root: &OwnedFd,
    path: &str,
    identity: &UserIdentity,
) -> Result<OwnedFd, SetupError> {
    let path = if path.is_empty() { "/" } else { path };
    try_open(root, Path::new(path), identity).map_err(|errno| SetupError::WorkingDirectory {
        path: path.to_owned(),
        source: errno.into(),
    })
}

fn try_open(root: &OwnedFd, path: &Path, identity: &UserIdentity) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_inside(root, path, flags) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    open_or_make(root, path, |parent, name, _| {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        let user = Some(Uid::from_raw(identity.uid));
        let group = Some(Gid::from_raw(identity.gid));
        chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)
    })
}

//! A terminal inside a container, for `ashlar run -it`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, openat};
use rustix::mount::MountAttrFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::super::channel::Channel;
use super::super::error::SetupError;
use super::super::protocol::Report;
use super::super::user::UserIdentity;
use super::mount::{attach, clone_tree_at};

/// Both sides of a terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Opens one of the container's own, so that its name (`/dev/pts/0`) means something inside.
    pub(super) fn open(device: &OwnedFd, rows: u16, columns: u16) -> Result<Self, SetupError> {
        let failed = || SetupError::system("a terminal cannot be opened in the container");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = openat(device, "pts/ptmx", flags, Mode::empty()).map_err(failed())?;
        unlockpt(&master).map_err(failed())?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).map_err(failed())?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).map_err(failed())?;
        // The terminal is the console too, as in Docker: syslog and its like write there.
        let console = clone_tree_at(&slave, Path::new(""), MountAttrFlags::empty(), false)
            .and_then(|console| {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = openat(device, "console", flags, Mode::from_raw_mode(0o600))?;
                attach(&console, &target)
            });
        console.map_err(failed())?;
        Ok(Self { master, slave })
    }

    /// Sends the master side to the builder.
    pub(super) fn announce(&self, channel: &Channel) -> Result<(), SetupError> {
        channel
            .send(&Report::Terminal, &[self.master.as_fd()])
            .map_err(SetupError::system(
                "the terminal cannot be handed to the builder",
            ))
    }

    /// The slave side as standard streams, owned by the command's user. The master side stays
    /// with the builder alone.
    pub(super) fn streams(self, identity: &UserIdentity) -> Result<Vec<OwnedFd>, SetupError> {
        let what = "the terminal cannot be given to the user";
        // The group stays that of terminals.
        fchown(&self.slave, Some(Uid::from_raw(identity.uid)), None::<Gid>)
            .map_err(SetupError::system(what))?;
        let copy = || self.slave.try_clone().map_err(SetupError::system(what));
        Ok(vec![copy()?, copy()?, copy()?])
    }
}

//! `-t`: our terminal and the container's, coupled.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use ashlar_exec::sandbox::Stdio;
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use ashlar_engine::task::{Task, spawn};

/// The coupling, from before the container starts until after it ends.
pub(super) struct Terminal {
    /// As our terminal was before; `None` if standard input is none.
    before: Option<Termios>,
    output: Task<()>,
    _resize: Task<()>,
}

impl Terminal {
    /// Puts our terminal into raw mode: keys, ^C included, are the container's.
    pub(super) fn open(interactive: bool) -> io::Result<(Stdio, Self)> {
        let stdin = io::stdin();
        let before = if interactive && isatty(&stdin) {
            let before = tcgetattr(&stdin)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&stdin, OptionalActions::Now, &raw)?;
            Some(before)
        } else {
            None
        };
        let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(&stdin));
        let size = size.unwrap_or(Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        });
        let (sender, receiver) = oneshot::channel();
        let (shared, resized) = oneshot::channel();
        let output = spawn(couple(receiver, shared, interactive));
        let resize = spawn(follow_size(resized));
        let stdio = Stdio::Terminal {
            rows: size.ws_row,
            columns: size.ws_col,
            master: sender,
        };
        Ok((
            stdio,
            Self {
                before,
                output,
                _resize: resize,
            },
        ))
    }

    /// Waits for the last output.
    pub(super) async fn finish(mut self) {
        // It ends with the container's terminal. A command's children may hold that open.
        let last = std::time::Duration::from_millis(500);
        drop(tokio::time::timeout(last, &mut self.output).await);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // There is nobody to tell of a failure.
            let _ignored = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Copies bytes to and fro until the container's terminal is closed.
async fn couple(
    master: oneshot::Receiver<OwnedFd>,
    shared: oneshot::Sender<Arc<OwnedFd>>,
    interactive: bool,
) {
    let Ok(master) = master.await else { return };
    let master = Arc::new(master);
    drop(shared.send(Arc::clone(&master)));
    if interactive {
        let keys = Arc::clone(&master);
        // A thread of its own, which nobody waits for: reading a terminal cannot be interrupted.
        drop(
            std::thread::Builder::new()
                .name("keys".to_owned())
                .spawn(move || copy_keys(&keys)),
        );
    }
    drop(tokio::task::spawn_blocking(move || copy_output(&master)).await);
}

fn copy_keys(master: &OwnedFd) {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
            Ok(0) => {
                // The end of input, as a terminal says it.
                let _ignored = rustix::io::write(master, &[4]);
                return;
            }
            Ok(count) => {
                if write_all(master, &buffer[..count]).is_err() {
                    return;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn copy_output(master: &OwnedFd) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match rustix::io::read(master, &mut buffer) {
            // EIO is how a terminal's master says that the other side is closed.
            Ok(0) | Err(rustix::io::Errno::IO) => return,
            Ok(count) => {
                if write_all(io::stdout().as_fd(), &buffer[..count]).is_err() {
                    return;
                }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

fn write_all(to: impl std::os::fd::AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives the container's terminal our size whenever that changes.
async fn follow_size(master: oneshot::Receiver<Arc<OwnedFd>>) {
    let Ok(master) = master.await else { return };
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    while changes.recv().await.is_some() {
        if let Ok(size) = tcgetwinsize(io::stdout()) {
            // A size that cannot be set is only ugly.
            let _ignored = tcsetwinsize(&*master, size);
        }
    }
}

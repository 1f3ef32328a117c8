//! The sandbox's own processes.
//!
//! ```text
//! builder ─▶ launcher            one thread for ever, so that it may fork and go on in Rust
//!              ├─▶ file worker   many threads; handles requests with the rights of root inside
//!              └─▶ supervisor    one for each container: prepares, watches, cancels, cleans up
//!                    └─▶ init    PID 1 of the container's namespaces: mounts, reaps
//!                          └─▶ the command
//! ```
//!
//! How they end: whoever loses the process before it in this picture kills the ones after it.
//! The launcher and the file worker see the end of their sockets; supervisors, the end of a pipe
//! whose other end only the launcher has; init, a signal (`PR_SET_PDEATHSIG`); and with an init
//! the kernel ends everything in its process namespace.

mod cleanup;
mod enter;
mod file_worker;
mod launcher;
mod memory;
mod supervisor;

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::channel::Channel;
use super::errno::SystemError;
use super::helper::HELPER_NAME;
use super::protocol::StartReport;

pub(super) use cleanup::{change_time, times};
pub use file_worker::FileHandler;

/// First argument of the helper after it has entered its namespaces.
const SERVE: &str = "serve";

/// Exit code of a sandbox process that could not go on.
const FAILURE: u8 = 70;

/// Serves if this process was started as a sandbox helper; gives the code to exit with then. Must
/// be called first thing in `main`, before any thread is started. `handler` is what the file
/// worker does with the requests of [`SandboxHelper::call`](super::SandboxHelper::call).
///
/// Either way, a limit of file sizes is from now on an error and no end of the process.
pub fn run_if_child(handler: FileHandler) -> Option<ExitCode> {
    ashlar_sys::signal::ignore_file_size_limit();
    let mut arguments = std::env::args_os();
    if arguments.next().as_deref() != Some(OsStr::new(HELPER_NAME)) {
        return None;
    }
    // What ps(1) shows, or it would be the number of the descriptor that was executed.
    let _named = rustix::thread::set_name(c"ashlar-sandbox");
    let serving = arguments.next().as_deref() == Some(OsStr::new(SERVE));
    let Ok((channel, files)) = inherited() else {
        return Some(FAILURE.into());
    };
    let result = if serving {
        launcher::serve(channel, files, handler)
    } else {
        // Comes back only if it fails; otherwise this program is started once more.
        let failure = enter::enter(&channel);
        Err((channel, failure))
    };
    let Err((channel, failure)) = result else {
        return Some(ExitCode::SUCCESS);
    };
    if let Failure::Report(report) = failure {
        // The builder may have gone; then nobody wants to know.
        let _sent = channel.send(&report, &[]);
    }
    Some(FAILURE.into())
}

/// The two sockets, which came as standard input and output. They stay open there until the exec
/// into the serving process is done, and are replaced in every container's command.
fn inherited() -> std::io::Result<(Channel, UnixStream)> {
    let duplicate = |file: std::os::fd::BorrowedFd<'_>| -> std::io::Result<OwnedFd> {
        file.try_clone_to_owned()
    };
    Ok((
        duplicate(std::io::stdin().as_fd())?.into(),
        duplicate(std::io::stdout().as_fd())?.into(),
    ))
}

/// Why a helper cannot go on.
enum Failure {
    /// The builder has gone or talks nonsense.
    Lost,
    /// The builder is to hear this.
    Report(StartReport),
}

impl Failure {
    /// A failed operation; for use with `map_err`.
    fn of<E: Into<SystemError>>(operation: &str) -> impl FnOnce(E) -> Self {
        let operation = operation.to_owned();
        move |error| {
            Self::Report(StartReport::Failed {
                operation,
                error: error.into(),
            })
        }
    }
}

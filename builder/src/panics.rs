//! What is shown when the program cannot go on: threads that cannot be started, and bugs.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;

/// How the libraries that start threads say, by panics, that the kernel would give none: tokio,
/// rayon and the standard library.
const NO_THREAD: [&str; 3] = [
    "can't spawn worker thread",
    "thread pool has not been initialized",
    "failed to spawn thread",
];

/// Runs a command line. A panic is shown as a bug; one for want of threads as what it is.
pub(crate) fn guarded(run: impl FnOnce() -> ExitCode) -> ExitCode {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = message(info);
        if NO_THREAD.iter().any(|sign| said.contains(sign)) {
            give_up(&no_thread());
        }
        default(info);
    }));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        // What happened was said by the hook.
        show(&CliError::bug("internal error"));
        ExitCode::Bug
    })
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let formatted = payload.downcast_ref::<String>().map(String::as_str);
    let literal = || payload.downcast_ref::<&str>().copied();
    formatted.or_else(literal).unwrap_or_default()
}

fn no_thread() -> CliError {
    CliError::environment("cannot start another thread").hint(
        "there is a limit of processes and threads (`ulimit -u`, the pids limit of a container), \
         or no memory left",
    )
}

fn show(error: &CliError) {
    // There is nobody else to tell.
    let _ignored = std::io::stderr().write_all(error.render(false).as_bytes());
}

/// Ends the process at once: what the thread was for will never be done, and others wait for it.
/// The sandbox ends with us.
#[expect(
    clippy::disallowed_methods,
    reason = "a panic in any thread has no way to main"
)]
fn give_up(error: &CliError) -> ! {
    show(error);
    std::process::exit(i32::from(error.exit_code().code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_bug() {
        assert_eq!(guarded(|| ExitCode::Success), ExitCode::Success);
        let code = guarded(|| {
            std::panic::panic_any("a test of panics");
        });
        assert_eq!(code, ExitCode::Bug);
    }
}

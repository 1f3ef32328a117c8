//! `ashlar-worker`.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

/// Answers `--version`; anything else fails, for there is nothing here yet that could be run.
fn main() -> ExitCode {
    let version = concat!("ashlar-worker ", env!("CARGO_PKG_VERSION"), "\n");
    if std::env::args()
        .nth(1)
        .is_some_and(|arg| arg == "--version")
    {
        return match std::io::stdout().write_all(version.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let message = "ashlar-worker: Remote builds are not part of this version. Nothing was done.\n";
    match std::io::stderr().write_all(message.as_bytes()) {
        Ok(()) | Err(_) => ExitCode::from(2),
    }
}

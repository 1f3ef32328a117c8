//! `ashlar-worker`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use ashlar_exec::executor::request::serve;
use ashlar_exec::sandbox::run_if_child;

fn main() -> ExitCode {
    // First of all: the sandbox is this program once more, and must be without threads.
    if let Some(code) = run_if_child(serve) {
        return code;
    }
    ashlar_worker::run(std::env::args_os())
}

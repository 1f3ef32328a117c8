//! `ashlar-cache`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ashlar_cache_server::run(std::env::args_os())
}

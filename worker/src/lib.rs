//! Takes segments and whole builds from a farm's queue and runs them.
//!
//! ```text
//! farm ◀──(one stream)──▶ attach ──▶ worker ──▶ assignment ──▶ the engine, in the sandbox of `ashlar`
//!   ▲                                              │
//!   └───────────── results, layers ◀───────────────┘
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`attach`] | the connection to the farm, and what is said over it |
//! | [`worker`] | the work that was taken, and how it is ended |
//! | [`assignment`] | one piece of work: what it is, how it is done, how it ended |
//! | [`farm`] | the farm as a cache |
//! | [`homes`], [`holdings`] | the stores, one for each namespace, and which layers are there |
//! | [`near`], [`kept`] | files of contexts that were here before: as blobs, and as files |
//! | [`capacity`], [`pressure`] | how much more work is taken |
//! | [`drain`] | how the worker stops |
//! | [`http`], [`metrics`] | pages for those who look after it |
//! | [`cli`], [`settings`], [`commands`], [`failure`], [`log`], [`notify`], [`text`] | the command `ashlar-worker` |
#![forbid(unsafe_code)]

pub mod assignment;
pub mod attach;
pub mod capacity;
pub mod cli;
pub mod commands;
pub mod drain;
pub mod failure;
pub mod farm;
pub mod holdings;
pub mod homes;
pub mod http;
pub mod kept;
pub mod log;
pub mod metrics;
pub mod near;
pub mod notify;
pub mod pressure;
pub mod settings;
pub mod text;
pub mod worker;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use settings::env::Environment;

/// Runs a command line, program name included. Errors are shown before this returns.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output; a reader that has left is no error.
            let _ignored = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match commands::dispatch(cli.command, &Environment::of_process()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // There is nobody else to tell.
            let _ignored = std::io::stderr().write_all(failure.render().as_bytes());
            ExitCode::from(failure.code)
        }
    }
}

//! The cache service: shares step results and layers between machines.
//!
//! | module | subject |
//! |---|---|
//! | [`service`] | the gRPC services, one file each |
//! | [`routes`] | all services put together |
//! | [`stores`], [`namespaces`] | what they serve from, and what each caller sees of it |
//! | [`fair`] | what one caller takes is not taken from the others |
//! | [`dispatch`] | the farm's queue at work |
//! | [`auth`] | who may read and who may write |
//! | [`audit`] | who did, and who was refused |
//! | [`limits`] | what a client can ask for |
//! | [`status`] | what clients are told when something fails |
//! | [`http`], [`metrics`] | pages for those who look after the server |
//! | [`trace`] | what requests do, for OpenTelemetry |
//! | [`cli`], [`settings`], [`commands`] | the command `ashlar-cache` |
//! | [`peers`] | what servers of a farm do for each other |
//! | [`security`], [`tls`] | what keeps strangers out, and how it follows its files |
//! | [`listen`], [`log`], [`notify`], [`failure`] | the server and the system around it |
#![forbid(unsafe_code)]

pub mod audit;
pub mod auth;
pub mod cli;
pub mod commands;
pub mod dispatch;
pub mod failure;
pub mod fair;
pub mod http;
pub mod limits;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod namespaces;
pub mod notify;
pub mod peers;
pub mod routes;
pub mod security;
pub mod service;
pub mod settings;
pub mod status;
pub mod stores;
pub mod tls;
pub mod trace;

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

//! The `ashlar` command: command line, settings, progress; wires the other crates together.
//!
//! | module | subject |
//! |---|---|
//! | [`cli`] | what may be written on the command line, and the help |
//! | [`settings`] | flag, else environment, else default |
//! | [`commands`] | what each command does |
//! | [`ui`] | progress while a build runs |
//! | [`diagnostics`] | errors as the user meets them |
//! | [`exit_code`] | what the process returns |
//! | `panics` | threads that cannot be started, and bugs |
//! | [`failure`] | errors of registries, stores and steps, as errors of commands |
//! | [`workshop`] | store, registry client and executor, set out for a command |
//! | [`shared`] | the shared caches of a command |
//!
//! Standard output is data, standard error is talk.
#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod diagnostics;
pub mod exit_code;
pub mod failure;
mod human;
mod panics;
pub mod settings;
pub mod shared;
mod trace;
pub mod ui;
pub mod workshop;

use std::ffi::OsString;
use std::io::Write as _;

use exit_code::ExitCode;
use settings::Settings;
use settings::clock::Clock;
use settings::env::Environment;

/// Runs a command line, program name included. Errors are shown before this returns.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    panics::guarded(|| run_unguarded(arguments))
}

fn run_unguarded(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output; a reader that has left is no error.
            let _ignored = error.print();
            return if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Success
            };
        }
    };
    let settings = Settings::resolve(&cli.global, Environment::of_process(), Clock::System);
    match commands::dispatch(&cli.command, &settings) {
        Ok(code) => code,
        Err(error) => {
            // There is nobody else to tell.
            let _ignored = std::io::stderr().write_all(error.render(settings.color()).as_bytes());
            error.exit_code()
        }
    }
}

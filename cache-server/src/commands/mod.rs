//! What each command does.

pub mod check_config;
pub mod fsck;
pub mod invalidate;
pub mod reindex;
pub mod serve;

use std::io::Write as _;
use std::path::PathBuf;

use crate::cli::Command;
use crate::failure::Failure;
use crate::settings::env::Environment;
use crate::settings::source::Source;
use crate::settings::{Options, Settings};

/// Does what a command says. Gives the exit code.
pub fn dispatch(command: Command, environment: &Environment) -> Result<u8, Failure> {
    match command {
        Command::Serve(args) => {
            let args = *args;
            let (source, settings) = settings(args.config, args.options, environment)?;
            serve::run(&settings, source, environment)
        }
        Command::CheckConfig(args) => {
            let args = *args;
            let connect = args.connect;
            let (_, settings) = settings(args.config, args.options, environment)?;
            check_config::run(&settings, environment, connect)
        }
        Command::Reindex(args) => {
            let args = *args;
            let (_, settings) = settings(args.config, args.options, environment)?;
            reindex::run(&settings, environment)
        }
        Command::Fsck(args) => fsck::run(&args, environment),
        Command::Invalidate(args) => invalidate::run(&args, environment),
        Command::Version => {
            print(concat!("ashlar-cache ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(0)
        }
    }
}

/// Writes to standard output. A reader that has left is no error.
fn print(text: &str) {
    let _ignored = std::io::stdout().write_all(text.as_bytes());
}

/// Where the settings are from, and what they are.
fn settings(
    config: Option<PathBuf>,
    flags: Options,
    environment: &Environment,
) -> Result<(Source, Settings), Failure> {
    let source = Source::new(config, flags, environment).map_err(Failure::usage)?;
    let settings = source.read().map_err(Failure::usage)?;
    Ok((source, settings))
}

/// A runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start threads").caused_by(error))
}

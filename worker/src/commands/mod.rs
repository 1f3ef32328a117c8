//! What each command does.

pub mod keygen;
pub mod run;

use std::io::Write as _;

use crate::cli::Command;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::settings::env::Environment;

/// Does what a command says. Gives the exit code.
pub fn dispatch(command: Command, environment: &Environment) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => {
            let args = *args;
            let settings = Settings::read(args.config.as_deref(), args.options, environment)?;
            run::run(&settings, environment)
        }
        Command::Keygen(args) => keygen::run(&args),
        Command::Version => {
            print(concat!("ashlar-worker ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(0)
        }
    }
}

/// Writes to standard output. A reader that has left is no error.
fn print(text: &str) {
    let _ignored = std::io::stdout().write_all(text.as_bytes());
}

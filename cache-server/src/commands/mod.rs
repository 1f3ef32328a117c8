//! What each command does.

pub mod check_config;
pub mod fsck;
pub mod serve;

use std::io::Write as _;
use std::path::PathBuf;

use crate::auth::{Access, Tokens, Writers};
use crate::cli::Command;
use crate::failure::Failure;
use crate::settings::env::Environment;
use crate::settings::{Options, Settings, file};

/// Does what a command says. Gives the exit code.
pub fn dispatch(command: Command, environment: &Environment) -> Result<u8, Failure> {
    match command {
        Command::Serve(args) => {
            let args = *args;
            serve::run(
                &settings(args.config, args.options, environment)?,
                environment,
            )
        }
        Command::CheckConfig(args) => {
            let args = *args;
            check_config::run(&settings(args.config, args.options, environment)?)
        }
        Command::Fsck(args) => fsck::run(&args, environment),
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

/// Flags over environment over file.
fn settings(
    config: Option<PathBuf>,
    flags: Options,
    environment: &Environment,
) -> Result<Settings, Failure> {
    let from_environment = environment.options().map_err(Failure::usage)?;
    let from_file = match config.or_else(|| environment.config()) {
        Some(path) => file::read(&path).map_err(Failure::usage)?,
        None => Options::default(),
    };
    let options = flags.over(from_environment).over(from_file);
    Settings::resolve(options).map_err(Failure::usage)
}

/// Who may do what. `is_local` says whether only this machine can come in.
fn access(settings: &Settings, is_local: bool) -> Result<Access, Failure> {
    let read = |path: &PathBuf| Tokens::read(path).map_err(Failure::usage);
    let writers = match &settings.write_token_file {
        Some(path) => Writers::With(read(path)?),
        None if settings.read_only => Writers::Nobody,
        None if is_local => Writers::Everyone,
        None => {
            return Err(Failure::new(format!(
                "{} can be reached from other machines, and nothing keeps anyone from writing",
                settings.listen
            ))
            .as_usage()
            .hinted(
                "name a file with tokens by --write-token-file, listen on a loopback address or \
                 a Unix socket, or give --read-only",
            ));
        }
    };
    let readers = settings.read_token_file.as_ref().map(read).transpose()?;
    Ok(Access { writers, readers })
}

/// The certificate and the key for TLS.
fn identity(settings: &Settings) -> Result<Option<tonic::transport::Identity>, Failure> {
    let Some(tls) = &settings.tls else {
        return Ok(None);
    };
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| {
            Failure::new(format!("cannot read {}", path.display()))
                .caused_by(error)
                .as_usage()
        })
    };
    let identity = tonic::transport::Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?);
    // Whether they fit is known only to the server that uses them.
    tonic::transport::Server::builder()
        .tls_config(tonic::transport::ServerTlsConfig::new().identity(identity.clone()))
        .map_err(|error| {
            Failure::new(format!(
                "{} and {} are no certificate and key",
                tls.certificate.display(),
                tls.key.display()
            ))
            .caused_by(error)
            .as_usage()
        })?;
    Ok(Some(identity))
}

/// A runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start threads").caused_by(error))
}

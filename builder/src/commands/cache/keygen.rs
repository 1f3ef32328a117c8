//! `ashlar cache keygen`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ashlar_sharing::signature::keys::NewKey;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::cli::cache::keygen::KeygenArgs;
use crate::commands::output::line;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use ashlar_workshop::proof;

/// Runs the command.
pub(super) fn run(args: &KeygenArgs) -> Result<ExitCode, CliError> {
    let mut seed = [0; 32];
    let got = getrandom(&mut seed, GetRandomFlags::empty()).map_err(|errno| {
        CliError::environment("the kernel gives no random numbers")
            .caused_by(std::io::Error::from(errno))
    })?;
    if got != seed.len() {
        return Err(CliError::bug("the kernel gave too few random numbers"));
    }
    let key = NewKey::of_seed(seed).map_err(|error| CliError::bug(error.to_string()))?;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| proof::name_of_path(&args.file));
    let mut public = args.file.clone().into_os_string();
    public.push(".pub");
    let head = format!("{}{name}\n", proof::NAME_LINE);
    let private = [head.as_bytes(), key.private.reveal()].concat();
    write(&args.file, &private, 0o600)?;
    let public = PathBuf::from(public);
    write(&public, format!("{head}{}", key.public).as_bytes(), 0o644)?;
    line(&key.id.to_string())
}

/// Writes a file that is not there yet.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| {
        CliError::environment(format!("cannot write {}", path.display())).caused_by(error)
    })
}

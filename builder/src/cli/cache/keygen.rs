//! `ashlar cache keygen`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::value;

/// Make a pair of keys to sign results with.
///
/// The private key goes to FILE, which nobody else may read, the public one to FILE.pub; no file is
/// overwritten. The id of the key is printed: by it `ashlar-cache invalidate --signer` knows what
/// the key has signed. The files are those of `openssl genpkey -algorithm ed25519`, with the
/// builder's name before them.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar cache keygen --name ci ci.pem
  ashlar build --cache-sign ci.pem --cache-trust signed=ci.pem.pub .")]
pub struct KeygenArgs {
    /// What the builder is called, of those who trust it [default: the name of FILE]
    #[arg(long, value_name = "NAME", value_parser = value::builder_name)]
    pub name: Option<String>,

    /// Where the private key goes
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

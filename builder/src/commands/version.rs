//! `ashlar version`.

use std::io::Write as _;

use ashlar_model::platform::Platform;
use serde::Serialize;

use super::output::print;
use crate::cli::Format;
use crate::cli::version::VersionArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;

/// What is known of this program.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: &'static str,
    platform: String,
}

/// Runs the command.
pub(super) fn run(args: &VersionArgs) -> Result<ExitCode, CliError> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        platform: Platform::host().to_string(),
    };
    print(|out| match args.format {
        Format::Table => writeln!(out, "ashlar {} ({})", version.version, version.platform),
        Format::Json => {
            serde_json::to_writer(&mut *out, &version)?;
            writeln!(out)
        }
    })
}

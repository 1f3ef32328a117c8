//! `ashlar tag`.

use super::lookup;
use crate::cli::tag::TagArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;

/// Runs the command.
pub(super) fn run(args: &TagArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    // The image must not go between its finding and its new name.
    let in_use = home.in_use()?;
    let mut image = lookup::image(&home, &args.image)?;
    image.reference = args.name.clone();
    image.tagged = settings.clock().now();
    home.put_image(&image)?;
    drop(in_use);
    Ok(ExitCode::Success)
}

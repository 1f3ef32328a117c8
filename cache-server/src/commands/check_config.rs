//! `ashlar-cache check-config`.

use super::{access, identity, print, runtime};
use crate::failure::Failure;
use crate::listen::{is_local, resolve};
use crate::log;
use crate::settings::Settings;

/// Checks settings, and shows what would be in force.
pub fn run(settings: &Settings) -> Result<u8, Failure> {
    log::filter(&settings.log).map_err(Failure::usage)?;
    let addresses = runtime()?
        .block_on(resolve(&settings.listen))
        .map_err(Failure::usage)?;
    access(settings, is_local(&addresses))?;
    identity(settings)?;
    print(&settings.as_file());
    Ok(0)
}

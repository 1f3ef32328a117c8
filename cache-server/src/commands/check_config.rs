//! `ashlar-cache check-config`.

use super::{print, runtime};
use crate::failure::Failure;
use crate::listen::{is_local, resolve};
use crate::log;
use crate::peers::PeerTokens;
use crate::security;
use crate::settings::Settings;
use crate::settings::env::Environment;
use crate::settings::farm::FarmSettings;
use crate::stores::backing::failure;
use crate::stores::farm::FarStores;

/// Checks settings, and shows what would be in force.
pub fn run(settings: &Settings, environment: &Environment, connect: bool) -> Result<u8, Failure> {
    log::filter(&settings.log).map_err(Failure::usage)?;
    let mut addresses = Vec::new();
    for listen in [Some(&settings.listen), settings.worker_listen.as_ref()] {
        let Some(listen) = listen else { continue };
        let found = runtime()?.block_on(resolve(listen));
        addresses.extend(found.map_err(Failure::usage)?);
    }
    security::check(settings, environment, is_local(&addresses))?;
    if let Some(farm) = &settings.farm {
        check_farm(farm, environment, connect)?;
    }
    print(&settings.as_file());
    Ok(0)
}

/// Checks the addresses and files of a farm; with `connect`, calls who is there.
fn check_farm(
    farm: &FarmSettings,
    environment: &Environment,
    connect: bool,
) -> Result<(), Failure> {
    if let Some(peers) = &farm.peers {
        PeerTokens::read(&peers.token_file).map_err(Failure::usage)?;
    }
    runtime()?.block_on(async {
        let far = FarStores::open(farm, environment, &Default::default()).map_err(failure)?;
        if !connect {
            return Ok(());
        }
        far.redis.ready().await.map_err(|fault| {
            Failure::new(format!("{} cannot be used", far.redis.place())).caused_by(fault)
        })?;
        far.objects.bucket().ready().await.map_err(|fault| {
            Failure::new(format!("{} cannot be used", farm.objects)).caused_by(fault)
        })
    })
}

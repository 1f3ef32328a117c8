//! Which stores the settings ask for, opened.

use std::sync::Arc;

use ashlar_store::clock::Clock;
use ashlar_store::counters::Counters;
use ashlar_store::disk::{DiskSettings, DiskStore};
use ashlar_store::redis::queue::RedisQueue;

use super::Engines;
use super::farm::{Farm, FarmError};
use crate::failure::Failure;
use crate::peers::PeerTokens;
use crate::settings::env::Environment;
use crate::settings::{Settings, SettingsError};

/// The stores of a server, for as long as it runs.
#[derive(Debug)]
pub enum Backing {
    /// A directory.
    Disk(Arc<DiskStore>),
    /// Redis and an object store, and a directory in front of them.
    Farm {
        /// What is far, and what is made of it.
        farm: Box<Farm>,
        /// What is near.
        near: Option<Arc<DiskStore>>,
    },
}

impl Backing {
    /// Opens what settings name. Has to be called within a runtime.
    pub fn open(
        settings: &Settings,
        environment: &Environment,
        clock: &Clock,
    ) -> Result<Self, Failure> {
        let Some(farm) = &settings.farm else {
            let disk = open_disk(settings, clock)?;
            let disk = disk.ok_or_else(|| Failure::usage(SettingsError::NoRoot))?;
            return Ok(Self::Disk(disk));
        };
        let near = open_disk(settings, clock)?;
        let counters = Arc::<Counters>::default();
        let farm = Farm::open(settings, farm, near.as_ref(), environment, &counters, clock);
        Ok(Self::Farm {
            farm: Box::new(farm.map_err(failure)?),
            near,
        })
    }

    /// What the services are made of.
    pub fn engines(&self) -> Engines {
        match self {
            Self::Disk(store) => Engines::on_disk(store),
            Self::Farm { farm, .. } => farm.engines().clone(),
        }
    }

    /// What the queue of several servers needs.
    pub fn for_queue(&self) -> Option<(RedisQueue, Arc<PeerTokens>)> {
        match self {
            Self::Disk(_) => None,
            Self::Farm { farm, .. } => farm.for_queue(),
        }
    }

    /// What other servers may read, and the tokens for that.
    pub fn for_peers(&self) -> Option<(Engines, Arc<PeerTokens>)> {
        match self {
            Self::Disk(_) => None,
            Self::Farm { farm, .. } => farm.for_peers(),
        }
    }
}

/// What a command says that cannot use the settings of a farm.
pub fn failure(error: FarmError) -> Failure {
    Failure::usage(error)
}

/// The store in the directory, if one is set.
fn open_disk(settings: &Settings, clock: &Clock) -> Result<Option<Arc<DiskStore>>, Failure> {
    let Some(root) = &settings.root else {
        return Ok(None);
    };
    let base = match settings.limit.given() {
        Some(limit) => DiskSettings::with_limit(limit),
        None => DiskSettings::default(),
    };
    let disk = DiskSettings {
        high_watermark: settings.high_watermark.0,
        low_watermark: settings.low_watermark.0,
        unused_for: settings.unused_for.given(),
        scrub: settings.scrub.given(),
        ..base
    };
    let store = DiskStore::open(root, disk, clock.clone());
    store.map(|store| Some(Arc::new(store))).map_err(|fault| {
        Failure::new(format!("cannot open the store in {}", root.display())).caused_by(fault)
    })
}

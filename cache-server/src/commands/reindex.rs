//! `ashlar-cache reindex`.

use ashlar_model::size::HumanSize;
use ashlar_store::clock;
use ashlar_store::objects::reindex::{Reindexed, reindex};

use super::{print, runtime};
use crate::failure::Failure;
use crate::log;
use crate::settings::Settings;
use crate::settings::env::Environment;
use crate::stores::backing::failure;
use crate::stores::farm::FarStores;

/// Makes the index of blobs again from what lies in the object store.
pub fn run(settings: &Settings, environment: &Environment) -> Result<u8, Failure> {
    let farm = settings.farm.as_ref().ok_or_else(|| {
        Failure::new("only a farm has an index of an object store")
            .as_usage()
            .hinted("set --redis and --objects; `ashlar-cache fsck` is for a store on disk")
    })?;
    let filter = log::filter(&settings.log).map_err(Failure::usage)?;
    log::start(filter, settings.log_format, environment.no_color(), None);
    let runtime = runtime()?;
    let now = clock::system()();
    let done = runtime.block_on(async {
        let far = FarStores::open(farm, environment, &Default::default()).map_err(failure)?;
        reindex(&far.objects, now, tell).await.map_err(|fault| {
            Failure::new("cannot make the index again")
                .caused_by(fault)
                .hinted("what was done is done: run it again when both stores are there")
        })
    });
    print(&rendered(&done?));
    Ok(0)
}

fn tell(so_far: &Reindexed) {
    tracing::info!(objects = so_far.objects, blobs = so_far.blobs, "indexing");
}

fn rendered(done: &Reindexed) -> String {
    let Reindexed {
        objects,
        blobs,
        bytes,
        damaged,
        others,
    } = done;
    format!(
        "{objects} objects with {blobs} blobs, {}: they are in the index\n\
         {damaged} damaged objects, {others} that are none of ours or are to be deleted\n",
        HumanSize(*bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_told() {
        let done = Reindexed {
            objects: 2,
            blobs: 7,
            bytes: 3 << 20,
            damaged: 1,
            others: 0,
        };
        assert_eq!(
            rendered(&done),
            "2 objects with 7 blobs, 3.15MB: they are in the index\n\
             1 damaged objects, 0 that are none of ours or are to be deleted\n"
        );
    }
}

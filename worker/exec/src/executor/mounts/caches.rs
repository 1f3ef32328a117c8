//! Cache mounts: which directory a step gets, and when.
//!
//! | sharing | the step gets |
//! |---|---|
//! | shared | the first copy, beside all others that share it |
//! | locked | the first copy alone; it waits until nobody uses it, and who shares waits for it |
//! | private | the first copy that nobody uses, a new one if there is none |
//!
//! A step that wants several caches takes them in the order of their directories, as every other
//! step does, so that no two wait for each other. All mounts of one cache in a step are the same
//! directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ashlar_model::content_hash::KeyEncoder;
use ashlar_model::executor::{OutputStream, StepError, StepOutput};
use ashlar_model::mount::{CacheMount, CacheSharing, MountSpec, OptionalOwner};
use ashlar_model::select::literal;
use ashlar_store::home::StoreError;
use ashlar_store::home::caches::{Cache, CacheLock};

use super::super::LocalExecutor;
use super::super::error::of_store;
use super::super::files::CacheJob;
use super::super::request::{self, Request};
use crate::sandbox::{BindMount, Mount, SandboxHelper};

/// The shortest and longest time between two looks at a cache that somebody uses.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// After so long the user is told what is waited for.
const SILENT_WAIT: Duration = Duration::from_secs(1);

/// The copy that those use who share.
pub(super) const COMMON: u32 = 0;

/// The caches of a step.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) mounts: Vec<Mount>,
    pub(super) locks: Vec<CacheLock>,
}

/// All mounts of one cache in a step.
struct Wanted<'a> {
    mounts: Vec<&'a CacheMount>,
    sharing: CacheSharing,
}

/// What a step that shares a cache has found.
enum Shared {
    /// The files, which stay as long as the lock.
    Files(CacheLock),
    /// That there are none yet; nobody else makes them.
    Nothing(CacheLock),
}

impl LocalExecutor {
    /// Gets the caches of a step, waiting for those that others hold alone.
    pub(super) async fn use_caches(
        &self,
        helper: &SandboxHelper,
        specs: &[MountSpec],
        scratch: &Path,
        output: &dyn StepOutput,
    ) -> Result<Caches, StepError> {
        let id_map = helper.id_map().fingerprint();
        let mut wanted: BTreeMap<Cache, Wanted<'_>> = BTreeMap::new();
        for spec in specs {
            let MountSpec::Cache(mount) = spec else {
                continue;
            };
            let cache = self.home().cache(&id_map, &mount.id, &beginning(mount));
            let entry = wanted
                .entry(cache.map_err(of_store)?)
                .or_insert_with(|| Wanted {
                    mounts: Vec::new(),
                    sharing: mount.sharing,
                });
            entry.mounts.push(mount);
            entry.sharing = stricter(entry.sharing, mount.sharing);
        }
        let mut caches = Caches::default();
        for (cache, wanted) in wanted {
            let Some(first) = wanted.mounts.first() else {
                continue;
            };
            let wait = Wait::new(first, output);
            let (copy, lock) = match wanted.sharing {
                CacheSharing::Private => {
                    let (copy, lock) = first_free(&cache)?;
                    self.make_if_missing(helper, &cache, copy, first, scratch)
                        .await?;
                    (copy, lock)
                }
                CacheSharing::Locked => {
                    let lock = wait.until(|| cache.try_hold(COMMON)).await?;
                    self.make_if_missing(helper, &cache, COMMON, first, scratch)
                        .await?;
                    (COMMON, lock)
                }
                CacheSharing::Shared => {
                    let lock = loop {
                        // While somebody else makes it: until it is there to be shared.
                        let alone = wait.until(|| match cache.files(COMMON).is_dir() {
                            true => Ok(cache.try_share(COMMON)?.map(Shared::Files)),
                            false => Ok(cache.try_hold(COMMON)?.map(Shared::Nothing)),
                        });
                        match alone.await? {
                            Shared::Files(lock) => break lock,
                            Shared::Nothing(_alone) => {
                                self.make_if_missing(helper, &cache, COMMON, first, scratch)
                                    .await?;
                            }
                        }
                    };
                    (COMMON, lock)
                }
            };
            caches.locks.push(lock);
            self.note_use(&wanted.mounts);
            let source = cache.files(copy);
            caches.mounts.extend(wanted.mounts.iter().map(|mount| {
                Mount::Host(BindMount {
                    source: source.clone(),
                    destination: mount.target.clone(),
                    read_only: mount.read_only,
                    recursive: false,
                })
            }));
        }
        Ok(caches)
    }

    /// Makes a copy's directory. The caller holds it alone.
    async fn make_if_missing(
        &self,
        helper: &SandboxHelper,
        cache: &Cache,
        copy: u32,
        mount: &CacheMount,
        scratch: &Path,
    ) -> Result<(), StepError> {
        let files = cache.files(copy);
        if files.is_dir() {
            return Ok(());
        }
        if self.restore(helper, mount, &files, scratch).await? {
            return Ok(());
        }
        let seed = match &mount.seed {
            None => None,
            Some(seed) => {
                let layers = self.tree_view(helper, &seed.layers).await?;
                Some((layers, literal(&seed.path)))
            }
        };
        let job = CacheJob {
            home: self.home().root().to_owned(),
            files,
            scratch: scratch.to_owned(),
            owner: mount.owner,
            seed,
        };
        let made = request::call(helper, &Request::MakeCache(job)).await?;
        self.warn(&made.done()?);
        Ok(())
    }

    /// Takes away what caches hold, unless somebody uses them.
    pub(in super::super) async fn empty_caches(
        &self,
        mounts: Vec<CacheMount>,
    ) -> Result<(), StepError> {
        let helper = self.helper().await?;
        let id_map = helper.id_map().fingerprint();
        let scratch = self.home().scratch().map_err(of_store)?;
        let mut taken = 0;
        for mount in mounts {
            let caches = self.home().caches_of(&id_map, &mount.id);
            for cache in caches.map_err(of_store)? {
                for copy in cache.copies().map_err(of_store)? {
                    // Held until it is out of the way: nobody begins to use it meanwhile.
                    let Some(_alone) = cache.try_hold(copy).map_err(of_store)? else {
                        continue;
                    };
                    taken += 1;
                    let to: PathBuf = scratch.path().join(format!("cache-{taken}"));
                    let from = cache.files(copy);
                    let request = Request::Move { from, to };
                    request::call(&helper, &request).await?.done()?;
                }
            }
        }
        self.discard(&helper, scratch.path()).await;
        Ok(())
    }
}

/// What a cache began with, and whose it is: what makes two caches of one name different.
pub(super) fn beginning(mount: &CacheMount) -> blake3::Hash {
    let mut encoder = KeyEncoder::new("ashlar 2026-11 beginning of a cache v1");
    let OptionalOwner { mode, uid, gid } = mount.owner;
    encoder.value(&mode).value(&uid).value(&gid);
    encoder.value(&mount.seed.is_some());
    if let Some(seed) = &mount.seed {
        encoder.number(seed.layers.len() as u64);
        for layer in &seed.layers {
            encoder.bytes(layer.as_bytes());
        }
        encoder.value(&seed.path);
    }
    encoder.finish()
}

const fn stricter(one: CacheSharing, other: CacheSharing) -> CacheSharing {
    match (one, other) {
        (CacheSharing::Locked, _) | (_, CacheSharing::Locked) => CacheSharing::Locked,
        (CacheSharing::Private, _) | (_, CacheSharing::Private) => CacheSharing::Private,
        (CacheSharing::Shared, CacheSharing::Shared) => CacheSharing::Shared,
    }
}

/// The first copy that nobody uses.
fn first_free(cache: &Cache) -> Result<(u32, CacheLock), StepError> {
    let mut copy = COMMON;
    loop {
        if let Some(lock) = cache.try_hold(copy).map_err(of_store)? {
            return Ok((copy, lock));
        }
        copy += 1;
    }
}

/// Waiting for a cache.
struct Wait<'a> {
    target: &'a str,
    output: &'a dyn StepOutput,
}

impl<'a> Wait<'a> {
    fn new(mount: &'a CacheMount, output: &'a dyn StepOutput) -> Self {
        Self {
            target: &mount.target,
            output,
        }
    }

    /// Looks again and again, more rarely the longer it takes. A thread that waits in the kernel
    /// would know at once, but could not be called off.
    async fn until<T>(
        &self,
        try_lock: impl Fn() -> Result<Option<T>, StoreError>,
    ) -> Result<T, StepError> {
        let begin = Instant::now();
        let mut told = false;
        loop {
            if let Some(lock) = try_lock().map_err(of_store)? {
                return Ok(lock);
            }
            if !told && begin.elapsed() >= SILENT_WAIT {
                told = true;
                let line = format!(
                    "waiting for the cache mount {}, which another step uses\n",
                    self.target
                );
                self.output.write(OutputStream::Stderr, line.as_bytes());
            }
            let (shortest, longest) = PAUSES;
            tokio::time::sleep((begin.elapsed() / 8).clamp(shortest, longest)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_model::digest::{DiffId, LayerId};
    use ashlar_model::mount::MountSource;

    use super::*;

    fn mount() -> CacheMount {
        CacheMount {
            target: "/c".to_owned(),
            id: "/c".to_owned(),
            sharing: CacheSharing::Shared,
            seed: None,
            owner: OptionalOwner::default(),
            read_only: false,
        }
    }

    #[test]
    fn a_cache_is_another_if_it_begins_differently() {
        let plain = beginning(&mount());
        let mut owned = mount();
        owned.owner.uid = Some(1);
        let mut seeded = mount();
        let layer = LayerId::of_diff_id(&DiffId::of(b"layer"));
        seeded.seed = Some(MountSource {
            layers: vec![layer],
            path: "/".to_owned(),
        });
        let mut elsewhere = seeded.clone();
        elsewhere.seed = Some(MountSource {
            layers: vec![layer],
            path: "/sub".to_owned(),
        });
        let all = [
            plain,
            beginning(&owned),
            beginning(&seeded),
            beginning(&elsewhere),
        ];
        for (number, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(number));
        }
        let mut shown_elsewhere = mount();
        shown_elsewhere.target = "/d".to_owned();
        shown_elsewhere.sharing = CacheSharing::Locked;
        shown_elsewhere.read_only = true;
        assert_eq!(beginning(&shown_elsewhere), plain);
    }

    #[test]
    fn the_strictest_way_of_sharing_counts() {
        use CacheSharing::{Locked, Private, Shared};
        assert_eq!(stricter(Shared, Shared), Shared);
        assert_eq!(stricter(Shared, Private), Private);
        assert_eq!(stricter(Locked, Private), Locked);
    }
}

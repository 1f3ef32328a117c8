//! Contents of `RUN --mount=type=cache` directories, shared for the ids that the user names.
//!
//! A directory that a machine has not begins with what another one saved; after a build that went
//! well, what it holds is saved. The last one to save is the one that is found: these are caches,
//! and nobody may rely on what they hold.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_exec::executor::{CacheSnapshots, Snapshot};
use ashlar_model::cas::CasDigest;
use ashlar_model::executor::BoxFuture;
use ashlar_model::mount::CacheMount;
use ashlar_store::fault::{Fault, FaultKind};

use crate::breaker::{Trouble, Use};
use crate::cache::{ANSWER, Cache};
use crate::fetch::{Arriving, chunks_of};
use crate::service::MountSnapshot;
use crate::upload::Uploader;

/// Cache mounts, and the caches that have their contents.
#[derive(Debug)]
pub struct MountSharing {
    caches: Vec<Arc<Cache>>,
    /// Whether what others saved is used at all.
    takes: bool,
    /// What was last known to be saved: cache, name, trees.
    known: Mutex<Vec<Known>>,
}

/// What a cache has of a mount.
#[derive(Debug)]
struct Known {
    cache: String,
    name: String,
    trees: Vec<CasDigest>,
}

impl MountSharing {
    /// The mounts that these caches are to [share](Cache::shares_mount).
    /// What others saved is nobody's signed word: it is not used where signatures are demanded, nor
    /// with `takes` unset, by who signs what comes of it.
    pub fn new(caches: &[Arc<Cache>], takes: bool) -> Self {
        Self {
            caches: caches.to_vec(),
            takes,
            known: Mutex::default(),
        }
    }

    fn note(&self, cache: &Cache, name: &str, trees: &[CasDigest]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.cache != cache.name() || one.name != name);
        known.push(Known {
            cache: cache.name().to_owned(),
            name: name.to_owned(),
            trees: trees.to_vec(),
        });
    }

    async fn find(&self, mount: &CacheMount) -> Option<Snapshot> {
        let name = snapshot_name(mount)?;
        for cache in &self.caches {
            if !cache.shares_mount(&mount.id) || !cache.is_usable(Use::Read) {
                continue;
            }
            if !self.takes || cache.trust().demands() {
                let text = "what it has of cache mounts is not used: nobody signs that, and \
                            this build signs its results or demands signatures";
                cache.breaker().tell(Trouble::Mounts, text);
                continue;
            }
            let Some(saved) = latest(cache, Use::Read, &name).await else {
                continue;
            };
            if let Some(chunks) = chunks_of(cache, &saved.trees).await {
                self.note(cache, &name, &saved.trees);
                return Some(Box::new(Arriving::new(cache, &chunks)));
            }
        }
        None
    }

    /// Saves what a mount holds in one cache. `tar` gives its files; whether it is saved.
    pub(crate) async fn save(
        &self,
        uploader: &Uploader,
        mount: &CacheMount,
        tar: Box<dyn Read + Send>,
    ) -> bool {
        let cache = uploader.cache();
        let Some(name) = snapshot_name(mount) else {
            return false;
        };
        let Some(trees) = uploader.send_tar(tar).await else {
            return false;
        };
        let is_known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known
                .iter()
                .any(|one| one.cache == cache.name() && one.name == name && one.trees == trees)
        };
        if is_known {
            return true;
        }
        let replaces = match latest(cache, Use::Write, &name).await {
            Some(saved) if saved.trees == trees => return true,
            Some(saved) => saved.generation,
            None => 0,
        };
        let (asked_name, asked_trees) = (&name, &trees);
        let asked = cache.ask(Use::Write, ANSWER, |service| async move {
            match &service.extension {
                Some(extension) => {
                    let saved = extension.save_mount(asked_name, asked_trees, replaces);
                    saved.await.map(drop)
                }
                None => Err(Fault::new(FaultKind::Unsupported, "no cache mounts")),
            }
        });
        match asked.await {
            Some(Ok(())) => {
                self.note(cache, &name, &trees);
                true
            }
            // Somebody else was faster.
            Some(Err(fault)) if fault.kind == FaultKind::Precondition => true,
            Some(Err(fault)) => {
                tell_unsupported(cache, &fault);
                false
            }
            None => false,
        }
    }
}

/// What was saved last under a name.
async fn latest(cache: &Cache, purpose: Use, name: &str) -> Option<MountSnapshot> {
    let asked = cache.ask(purpose, ANSWER, |service| async move {
        match &service.extension {
            Some(extension) => extension.latest_mount(name).await,
            None => Err(Fault::new(FaultKind::Unsupported, "no cache mounts")),
        }
    });
    match asked.await? {
        Ok(saved) => saved.filter(|saved| !saved.trees.is_empty()),
        Err(fault) => {
            tell_unsupported(cache, &fault);
            None
        }
    }
}

fn tell_unsupported(cache: &Cache, fault: &Fault) {
    if fault.kind == FaultKind::Unsupported {
        let text = "it keeps no cache mounts: those of this build stay on this machine";
        cache.breaker().tell(Trouble::Lacking, text);
    }
}

/// The name under which what a mount holds is saved: what makes contents not interchangeable is in
/// it. One that begins with files of a layer is shared with nobody.
fn snapshot_name(mount: &CacheMount) -> Option<String> {
    if mount.seed.is_some() {
        return None;
    }
    let owner = &mount.owner;
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    Some(format!(
        "ashlar.mount/1/{}/{}/{}/{}/{}",
        std::env::consts::ARCH,
        number(owner.mode),
        number(owner.uid),
        number(owner.gid),
        mount.id
    ))
}

impl CacheSnapshots for MountSharing {
    fn latest<'a>(&'a self, mount: &'a CacheMount) -> BoxFuture<'a, Option<Snapshot>> {
        Box::pin(self.find(mount))
    }
}

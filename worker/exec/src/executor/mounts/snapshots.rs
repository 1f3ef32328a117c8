//! What cache mounts hold, to other machines and from them.
//!
//! A cache is saved from the copy that all share, while nobody uses it. It is restored when a step
//! is about to use one that is not there: under the lock that the step holds alone then, so nobody
//! sees half of it. A cache that cannot be restored begins as it would without: what steps keep
//! for later steps is never needed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::PoisonError;

use ashlar_model::error_chain::error_chain;
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::mount::CacheMount;
use ashlar_store::home::caches::CacheLock;

use super::super::LocalExecutor;
use super::super::error::{environment, of_store};
use super::super::files::FillJob;
use super::super::request::{self, Answer, Request};
use super::super::stream::{WorkerStream, open_ends};
use super::super::views::blocking;
use super::caches::{COMMON, beginning};
use crate::layer::split::{AssembleError, ChunkSource, assemble};
use crate::sandbox::{IdMode, SandboxHelper};

/// What other machines saved of cache mounts.
pub trait CacheSnapshots: Send + Sync {
    /// The chunks of what was saved of a cache last; `None` if nothing was, or it cannot be had, or
    /// is not asked for.
    fn latest<'a>(&'a self, mount: &'a CacheMount) -> BoxFuture<'a, Option<Snapshot>>;
}

/// The chunks of a snapshot: those of its tar as a split layer.
pub type Snapshot = Box<dyn ChunkSource + Send>;

/// What a cache holds, as a tar. Nobody else uses the cache as long as this is there. Reading
/// blocks, so it belongs beside the runtime.
pub struct CacheTar {
    bytes: WorkerStream,
    _alone: CacheLock,
}

impl Read for CacheTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl fmt::Debug for CacheTar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheTar").finish_non_exhaustive()
    }
}

impl LocalExecutor {
    /// The cache mounts that steps have used and may have written to, each cache once.
    pub fn used_caches(&self) -> Vec<CacheMount> {
        let used = self.used_caches.lock();
        used.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_use(&self, mounts: &[&CacheMount]) {
        let Some(mount) = mounts.iter().find(|mount| !mount.read_only) else {
            return;
        };
        let used = self.used_caches.lock();
        let mut used = used.unwrap_or_else(PoisonError::into_inner);
        let same =
            |known: &CacheMount| known.id == mount.id && beginning(known) == beginning(mount);
        if !used.iter().any(same) {
            used.push((*mount).clone());
        }
    }

    /// What a cache holds; `None` if there is no such cache, or somebody uses it right now.
    pub async fn save_cache(&self, mount: &CacheMount) -> Result<Option<CacheTar>, StepError> {
        let helper = self.helper().await?;
        let id_map = helper.id_map().fingerprint();
        let cache = self.home().cache(&id_map, &mount.id, &beginning(mount));
        let cache = cache.map_err(of_store)?;
        let Some(alone) = cache.try_hold(COMMON).map_err(of_store)? else {
            return Ok(None);
        };
        let files = cache.files(COMMON);
        if !files.is_dir() {
            return Ok(None);
        }
        let bytes = WorkerStream::start(self.home(), |output| async move {
            let request = Request::WriteCache { files, output };
            let answer = request::call(&helper, &request).await;
            answer.and_then(Answer::done).map(drop)
        })?;
        Ok(Some(CacheTar {
            bytes,
            _alone: alone,
        }))
    }

    /// Makes a cache's directory of what another machine saved. `false` if that cannot be had.
    pub(super) async fn restore(
        &self,
        helper: &SandboxHelper,
        mount: &CacheMount,
        files: &Path,
        scratch: &Path,
    ) -> Result<bool, StepError> {
        let Some(snapshots) = &self.snapshots else {
            return Ok(false);
        };
        let Some(snapshot) = snapshots.latest(mount).await else {
            return Ok(false);
        };
        let made = scratch.join("restored");
        let filled = self.fill(helper, snapshot, &made, scratch).await;
        let Err(error) = filled else {
            let (from, to) = (made, files.to_owned());
            let moved = request::call(helper, &Request::Move { from, to }).await?;
            moved.done()?;
            return Ok(true);
        };
        let paths = vec![made];
        request::call(helper, &Request::Remove { paths })
            .await?
            .done()?;
        if matches!(error, StepError::Cancelled) {
            return Err(error);
        }
        self.warn(&[format!(
            "the cache mount {} does not begin with what another machine saved: {}",
            mount.target,
            error_chain(&error)
        )]);
        Ok(false)
    }

    /// Unpacks a snapshot while it comes.
    async fn fill(
        &self,
        helper: &SandboxHelper,
        mut snapshot: Snapshot,
        made: &Path,
        scratch: &Path,
    ) -> Result<(), StepError> {
        let input = scratch.join("snapshot");
        let ends = open_ends(&input)
            .map_err(|e| environment(&format!("cannot make {}", input.display()), None, e));
        let (reader, writer) = ends?;
        let assembling = blocking(move || assemble_into(&mut *snapshot, writer));
        let request = Request::FillCache(FillJob {
            home: self.home().root().to_owned(),
            files: made.to_owned(),
            input: input.clone(),
            single_owner: helper.id_map().mode() == IdMode::Single,
        });
        let unpacking = async {
            let answer = request::call(helper, &request).await;
            // If the worker has failed, nobody reads any more.
            drop(reader);
            answer.and_then(Answer::done).map(drop)
        };
        let (assembled, unpacked) = tokio::join!(assembling, unpacking);
        let _ignored = std::fs::remove_file(&input);
        match assembled? {
            // Whoever writes fails too once the reader has.
            Ok(()) | Err(AssembleError::Write(_)) => unpacked,
            Err(error) => Err(environment("its chunks cannot be had", None, error)),
        }
    }
}

fn assemble_into(snapshot: &mut dyn ChunkSource, writer: File) -> Result<(), AssembleError> {
    let mut writer = io::BufWriter::with_capacity(256 * 1024, writer);
    assemble(snapshot, None, &mut writer)?;
    writer.flush().map_err(AssembleError::Write)
}

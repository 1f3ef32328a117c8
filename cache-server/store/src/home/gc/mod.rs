//! Garbage collection: what the store has that nobody needs, and its removal.
//!
//! # Who needs what
//!
//! ```text
//! tag (images/) ──> config, manifest blobs
//!     └──> layers ──> blobs of the layer, trees, index, tar
//! result (results/) ──> layers
//! source (sources/) ──> blob of the URL's file
//! manifest blob of a base image ──> kept while all layers that it lists are kept
//! ```
//!
//! Tags are always kept, results and sources as the [`Policy`] says. What is reached from there stays;
//! everything else goes, and with it what dead processes have left: scratch directories, partial
//! downloads, lock files, files under temporary names.
//!
//! # Results that go
//!
//! The least recently used results and sources go first. One counts as used when it was written or
//! read: the later of the file's modification and access time, which is kept to the hour. Listing
//! the store does not count. A result all of whose layers some tag keeps costs nothing, and stays. Hints (`hints/`) go only
//! if nothing but tags is to stay.
//!
//! Layers that can be had from elsewhere, those of images and of shared caches, go whole, with their
//! records: a record takes next to nothing, but only a result or a tag leads to it, and whoever
//! looks for that in a registry or a shared cache again gets the record anew.
//!
//! Directories of cache mounts (`caches/`) hold what nobody else has: they go when they are asked
//! for, and, as hints do, if nothing but tags is to stay.
//!
//! # Beside running builds
//!
//! Layers, blobs and results are removed only while nobody holds [`InUse`](super::in_use::InUse);
//! if somebody does for longer than the caller has patience, only leftovers of dead processes go.
//! In a store with a [quota] running builds note what they use instead, and all else
//! can go beside them.
//! Under the lock nothing is deleted: what goes is renamed into a scratch directory, so that builds
//! wait for milliseconds, and is deleted after the lock is free. A crash in between leaves a stale
//! scratch directory for the next time.

mod inventory;
mod leftovers;
mod mark;
mod removal;
mod sweep;
mod usage;

use std::time::Duration;

pub use inventory::{Inventory, LayerUsage, ResultUsage, SourceUsage, measure};
pub(super) use leftovers::forget;
pub use removal::{RemoveError, TreeRemover};
pub use usage::{ImageUsage, Kind, Share, Usage};

use super::quota::{self, Account, Claims, Ledger};
use super::{Home, StoreError};
use removal::Removal;

/// Which cached results are kept beside tagged images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// All.
    KeepResults,
    /// The most recently used, as long as the whole store takes no more than so many bytes.
    KeepUpTo(u64),
    /// All; what goes is what steps keep for later ones, and nothing else.
    OnlyCaches,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Cached results that were removed.
    pub results: usize,
    /// Layers that were removed.
    pub layers: usize,
    /// Blobs that were removed.
    pub blobs: usize,
    /// Sources (files of URLs, git repositories, their checkouts) that were removed.
    pub sources: usize,
    /// Directories of cache mounts that were removed.
    pub caches: usize,
    /// Leftovers of dead processes that were removed.
    pub leftovers: usize,
    /// Bytes on disk that all of them took.
    pub freed: u64,
    /// Whether somebody used the store, so that only leftovers were removed.
    pub only_leftovers: bool,
}

/// Removes what nobody needs. `remover` removes what belongs to subordinate ids; it is asked only
/// if there is such a thing.
pub fn collect(
    home: &Home,
    policy: Policy,
    patience: Duration,
    remover: &dyn TreeRemover,
) -> Result<Report, CollectError> {
    let ledger = match home.quota()? {
        Some(_) => Some(Ledger::lock(home.root())?),
        None => None,
    };
    let cleared = clear(home, policy, patience, remover)?;
    if let Some(ledger) = ledger {
        let known = ledger.read()?.unwrap_or_default();
        ledger.write(&Account {
            used: cleared.left + cleared.claims.outstanding,
            counts: known.counts + 1,
            unasked: cleared.report.only_leftovers,
        })?;
    }
    Ok(cleared.report)
}

/// What a collection did and left.
#[derive(Debug)]
pub(super) struct Cleared {
    pub(super) report: Report,
    /// What there was after leftovers were removed.
    pub(super) inventory: Inventory,
    /// What running builds use.
    pub(super) claims: Claims,
    /// Bytes on disk of what is there now.
    pub(super) left: u64,
}

/// Removes what nobody needs, without a word to the ledger, which the caller holds.
pub(super) fn clear(
    home: &Home,
    policy: Policy,
    patience: Duration,
    remover: &dyn TreeRemover,
) -> Result<Cleared, CollectError> {
    let mut report = Report::default();
    let mut removal = Removal::new(remover);
    leftovers::remove(home, &mut report, &mut removal)?;
    removal.finish()?;
    let before = report.freed;
    let alone = home.alone(patience)?;
    let claims = quota::claims(home.root())?;
    let inventory = Inventory::take(home)?;
    match alone {
        None => report.only_leftovers = true,
        Some(alone) => {
            let marks = mark::mark(home, &inventory, policy, &claims)?;
            let mut trash = sweep::Trash::new(home);
            if policy != Policy::OnlyCaches {
                sweep::sweep(home, &inventory, &marks, &mut trash, &mut report)?;
            }
            if matches!(policy, Policy::KeepUpTo(0) | Policy::OnlyCaches) {
                sweep::sweep_caches(home, &inventory, &mut trash, &mut report)?;
            }
            let trash = trash.into_scratch();
            if claims.users == 0 {
                leftovers::remove_names(home)?;
            }
            leftovers::forget_sizes(home)?;
            if policy == Policy::KeepUpTo(0) {
                report.freed += leftovers::remove_hints(home)?;
            }
            drop(alone);
            if let Some(trash) = trash {
                removal.remove(trash.path())?;
                removal.finish()?;
            }
        }
    }
    let left = inventory.total().saturating_sub(report.freed - before);
    Ok(Cleared {
        report,
        inventory,
        claims,
        left,
    })
}

/// Why a collection stopped. What it has removed by then is gone; the rest is whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The store cannot be read or changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something cannot be deleted.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

#[cfg(test)]
mod tests;

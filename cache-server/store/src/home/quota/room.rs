//! Counting what the store takes, and making room in it.
//!
//! Called by who holds the ledger: meanwhile nobody is admitted, and nobody notes new bytes that
//! are still to be written.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::gc::{Cleared, Inventory, Policy, TreeRemover, clear};
use super::super::{Home, StoreError};
use super::{QuotaFull, claims, usable};

/// How long is waited until builds that ask for no admission have ended: they end in minutes, if
/// at all, so only a moment.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Counts what all files take, with what is about to be written.
pub(in super::super) fn count(home: &Home) -> Result<u64, StoreError> {
    // In this order: what is written between the two counts twice, not never.
    let outstanding = claims(home.root())?.outstanding;
    Ok(Inventory::take(home)?.total() + outstanding)
}

/// Makes room for so many bytes, and tells what is used then. More is evicted than is needed now,
/// so that the next question is not followed by another search.
pub(super) fn make(
    home: &Home,
    bytes: u64,
    limit: u64,
    remover: Option<&Arc<dyn TreeRemover>>,
) -> Result<u64, StoreError> {
    let usable = usable(limit);
    let fits = |used: u64| used.saturating_add(bytes) <= usable;
    let used = count(home)?;
    if fits(used) {
        return Ok(used);
    }
    let target = usable.saturating_sub(bytes).saturating_sub(usable / 10);
    let mut full = QuotaFull::default();
    // Only if the least recently used is not enough, all goes that can.
    for keep in [target, 0] {
        let outstanding = claims(home.root())?.outstanding;
        let policy = Policy::KeepUpTo(keep.saturating_sub(outstanding));
        let cleared = match remover {
            Some(remover) => clear(home, policy, PATIENCE, &**remover),
            None => clear(home, policy, PATIENCE, &Direct),
        };
        let cleared = cleared.map_err(StoreError::from)?;
        let used = cleared.left + outstanding;
        if fits(used) {
            return Ok(used);
        }
        full = explain(&cleared, outstanding);
        if full.blocked {
            break;
        }
    }
    Err(StoreError::Quota(QuotaFull {
        limit,
        wanted: bytes,
        ..full
    }))
}

/// Who needs what is left.
fn explain(cleared: &Cleared, outstanding: u64) -> QuotaFull {
    let Cleared {
        inventory,
        claims,
        left,
        report,
    } = cleared;
    let tagged: BTreeSet<_> = inventory.images.iter().flat_map(|i| &i.layers).collect();
    let size = |layers: &mut dyn Iterator<Item = &ashlar_model::digest::LayerId>| -> u64 {
        layers.map(|layer| inventory.size_with_blobs(layer)).sum()
    };
    let claimed = size(&mut claims.layers.iter().filter(|layer| !tagged.contains(layer)));
    QuotaFull {
        used: left + outstanding,
        images: size(&mut tagged.iter().copied()),
        builds: claimed + inventory.scratch.1 + inventory.partial.1 + outstanding,
        blocked: report.only_leftovers,
        ..QuotaFull::default()
    }
}

/// Removes nothing beyond what this process may remove itself, which in the sandbox is all.
struct Direct;

impl TreeRemover for Direct {
    fn remove(&self, _paths: &[PathBuf]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("they belong to subordinate ids, and this process has no sandbox".into())
    }
}

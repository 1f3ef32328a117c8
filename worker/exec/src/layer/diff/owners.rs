//! Ids that stand for "not mapped".

use std::fs;

use ashlar_model::layer::{EntryKind, LayerIndex};

use super::DiffError;

/// The ids that the kernel shows for owners that have none in this user namespace
/// (`user_namespaces(7)`); `None` where such an id is itself mapped, and so may be a real owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnmappedIds {
    /// For owners.
    pub uid: Option<u32>,
    /// For groups.
    pub gid: Option<u32>,
}

impl UnmappedIds {
    /// Those of the user namespace that this process is in.
    pub fn of_this_process() -> Self {
        Self {
            uid: unmapped("/proc/sys/kernel/overflowuid", "/proc/self/uid_map"),
            gid: unmapped("/proc/sys/kernel/overflowgid", "/proc/self/gid_map"),
        }
    }

    /// Whether one of a file's ids means that the real one is not mapped.
    pub fn contain(&self, uid: u32, gid: u32) -> bool {
        self.uid == Some(uid) || self.gid == Some(gid)
    }
}

/// Refuses an index with an owner that is not mapped.
pub(super) fn check(index: &LayerIndex, unmapped: UnmappedIds) -> Result<(), DiffError> {
    let owner_unknown = |entry: &&ashlar_model::layer::Entry| {
        entry.kind != EntryKind::Whiteout
            && unmapped.contain(entry.metadata.uid, entry.metadata.gid)
    };
    match index.entries.iter().find(owner_unknown) {
        None => Ok(()),
        Some(entry) => Err(DiffError::UnmappedOwner {
            path: entry.path.clone(),
            uid: entry.metadata.uid,
            gid: entry.metadata.gid,
        }),
    }
}

/// The kernel's default for both ids (`DEFAULT_OVERFLOWUID`).
const DEFAULT_OVERFLOW: u32 = 65534;

fn unmapped(overflow: &str, map: &str) -> Option<u32> {
    let overflow = fs::read_to_string(overflow)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_OVERFLOW);
    // Without a readable map nothing can be told apart, so nothing is refused.
    let map = fs::read_to_string(map).ok()?;
    (!map_contains(&map, overflow)).then_some(overflow)
}

/// Whether an id map (lines of: first id inside, first id outside, count) maps the id `inside`.
fn map_contains(map: &str, inside: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&inside.into())
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_the_overflow_id_or_not() {
        assert!(map_contains("0 0 4294967295\n", 65534));
        assert!(map_contains("0 1000 1\n1 100000 65536\n", 65534));
        assert!(!map_contains("0 1000 1\n", 65534));
        assert!(!map_contains("0 1000 1\n1 100000 65533\n", 65534));
        assert!(!map_contains("", 0));
        assert!(!map_contains("garbage\n", 0));
    }
}

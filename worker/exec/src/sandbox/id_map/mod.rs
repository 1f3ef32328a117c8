//! Which user and group ids exist in the sandbox, and what they are on the machine.
//!
//! | mode | how the map is written | ids inside |
//! |---|---|---|
//! | [`IdMode::HostRoot`] | not at all, or one to one by ourselves | those that we have |
//! | [`IdMode::Range`] | by `newuidmap` and `newgidmap` | 0 is the user, from 1 on the subordinate ranges |
//! | [`IdMode::Single`] | by ourselves | 0 is the user; there is no other |

mod subordinate;
mod write;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use subordinate::SubordinateError;
pub(super) use subordinate::subordinate_ranges;
pub(super) use write::{MapWriteError, write_single, write_with_helpers};

/// The rung of the ladder on which the sandbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMode {
    /// Root of the machine, or of a container with many ids: ids are the same in- and outside.
    HostRoot,
    /// An ordinary user with subordinate ids.
    Range,
    /// One user id and one group id; whatever needs another fails.
    Single,
}

/// Why an ordinary user's sandbox has one id only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SingleReason {
    /// The caller wanted it.
    #[error("one-uid mode was asked for")]
    Asked,
    /// The user has no subordinate ids, or they could not be read.
    #[error("{0}")]
    NoRange(SubordinateError),
    /// `newuidmap` or `newgidmap` is missing or failed.
    #[error("{0}")]
    HelperFailed(String),
    /// We are root of a container that has one id itself.
    #[error("the surrounding container has only one user id")]
    Surroundings,
}

/// Ids that follow each other both in- and outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside the sandbox.
    pub inside: u32,
    /// First id on the machine.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    fn to_outside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside)?;
        (offset < self.count).then(|| self.outside.wrapping_add(offset))
    }

    fn to_inside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.outside)?;
        (offset < self.count).then(|| self.inside.wrapping_add(offset))
    }
}

impl fmt::Display for IdRange {
    /// As a line of `/proc/self/uid_map`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// The ids of a sandbox. Ids that the map lacks do not exist inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    mode: IdMode,
    users: Vec<IdRange>,
    groups: Vec<IdRange>,
    single_reason: Option<SingleReason>,
}

impl IdMap {
    /// Ids as they are, where `users` and `groups` are what we have (`/proc/self/uid_map`, of
    /// which only the inner side counts).
    pub(super) fn identity(users: &[IdRange], groups: &[IdRange]) -> Self {
        let same = |ranges: &[IdRange]| -> Vec<IdRange> {
            ranges
                .iter()
                .map(|range| IdRange {
                    outside: range.inside,
                    ..*range
                })
                .collect()
        };
        let alone = users
            .iter()
            .map(|range| u64::from(range.count))
            .sum::<u64>()
            <= 1;
        Self {
            mode: if alone {
                IdMode::Single
            } else {
                IdMode::HostRoot
            },
            users: same(users),
            groups: same(groups),
            single_reason: alone.then_some(SingleReason::Surroundings),
        }
    }

    /// The user is root inside; the subordinate ranges (first id, count) follow from id 1 on.
    pub(super) fn range(
        (user, group): (u32, u32),
        users: &[(u32, u32)],
        groups: &[(u32, u32)],
    ) -> Self {
        Self {
            mode: IdMode::Range,
            users: following(user, users),
            groups: following(group, groups),
            single_reason: None,
        }
    }

    /// The user is root inside and alone.
    pub(super) fn single((user, group): (u32, u32), reason: SingleReason) -> Self {
        Self {
            mode: IdMode::Single,
            users: following(user, &[]),
            groups: following(group, &[]),
            single_reason: Some(reason),
        }
    }

    /// How the map came to be.
    pub const fn mode(&self) -> IdMode {
        self.mode
    }

    /// Why there is one id only; `None` in the other modes.
    pub const fn single_reason(&self) -> Option<&SingleReason> {
        self.single_reason.as_ref()
    }

    /// The ranges of user ids.
    pub fn users(&self) -> &[IdRange] {
        &self.users
    }

    /// The ranges of group ids.
    pub fn groups(&self) -> &[IdRange] {
        &self.groups
    }

    /// What a container's user id is on the machine.
    pub fn user_to_host(&self, id: u32) -> Option<u32> {
        self.users.iter().find_map(|range| range.to_outside(id))
    }

    /// What a container's group id is on the machine.
    pub fn group_to_host(&self, id: u32) -> Option<u32> {
        self.groups.iter().find_map(|range| range.to_outside(id))
    }

    /// What a user id of the machine is inside.
    pub fn user_from_host(&self, id: u32) -> Option<u32> {
        self.users.iter().find_map(|range| range.to_inside(id))
    }

    /// What a group id of the machine is inside.
    pub fn group_from_host(&self, id: u32) -> Option<u32> {
        self.groups.iter().find_map(|range| range.to_inside(id))
    }

    /// A short text that two maps share only if a tree of files made under one of them has the
    /// same owners under the other: `root`, `range-100000-65536`, `single-1000`.
    pub fn fingerprint(&self) -> String {
        let own = self.users.first().map_or(0, |range| range.outside);
        match self.mode {
            IdMode::HostRoot => "root".to_owned(),
            IdMode::Single => format!("single-{own}"),
            IdMode::Range => {
                let users = ranges_text(self.users.get(1..).unwrap_or_default());
                let groups = ranges_text(self.groups.get(1..).unwrap_or_default());
                if users == groups {
                    format!("range-{users}")
                } else {
                    format!("range-{users}-groups-{groups}")
                }
            }
        }
    }

    /// What to tell a user who has subordinate ids that could not be used: then this is not how it
    /// was meant to be.
    pub fn unused_ids_warning(&self) -> Option<String> {
        match &self.single_reason {
            Some(SingleReason::HelperFailed(why)) => Some(format!(
                "only one user id is used, although there are subordinate ids: {why}; \
                 newuidmap and newgidmap (package uidmap) have to be installed set-uid root, or \
                 with the capabilities cap_setuid and cap_setgid, on a filesystem without nosuid, \
                 and not be run in a container that forbids new privileges"
            )),
            _ => None,
        }
    }

    /// Why a command that needs other users or groups fails in one-uid mode and what to do about
    /// it; `None` where there are such ids.
    pub fn missing_ids_hint(&self) -> Option<String> {
        let reason = self.single_reason.as_ref()?;
        Some(format!(
            "only one user id exists inside the sandbox ({reason}), so files cannot be given to \
             other users and no program can become another user; install the package uidmap and \
             give yourself subordinate ids, as root: usermod --add-subuids 100000-165535 --add-subgids \
             100000-165535 $USER"
        ))
    }
}

/// One's own id as 0, then the ranges one after the other from 1 on.
fn following(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut all = vec![IdRange {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside = 1_u32;
    for &(outside, count) in ranges {
        // Ids end at u32::MAX - 1: the last value means "no id" to the kernel.
        let count = count.min(u32::MAX - inside);
        if count > 0 {
            all.push(IdRange {
                inside,
                outside,
                count,
            });
            inside += count;
        }
    }
    all
}

fn ranges_text(ranges: &[IdRange]) -> String {
    let texts: Vec<_> = ranges
        .iter()
        .map(|range| format!("{}-{}", range.outside, range.count))
        .collect();
    texts.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_own_id_without_gaps() {
        let map = IdMap::range(
            (1000, 1001),
            &[(100_000, 10), (500_000, 5)],
            &[(100_000, 10)],
        );
        assert_eq!(map.user_to_host(0), Some(1000));
        assert_eq!(map.group_to_host(0), Some(1001));
        assert_eq!(map.user_to_host(1), Some(100_000));
        assert_eq!(map.user_to_host(10), Some(100_009));
        assert_eq!(map.user_to_host(11), Some(500_000));
        assert_eq!(map.user_to_host(15), Some(500_004));
        assert_eq!(map.user_to_host(16), None);
        assert_eq!(map.group_to_host(11), None);
    }

    #[test]
    fn host_ids_lead_back_to_container_ids() {
        let map = IdMap::range((1000, 1000), &[(100_000, 65536)], &[(100_000, 65536)]);
        for id in [0, 1, 33, 65534, 65536] {
            assert_eq!(
                map.user_to_host(id)
                    .and_then(|host| map.user_from_host(host)),
                Some(id)
            );
            assert_eq!(
                map.group_to_host(id)
                    .and_then(|host| map.group_from_host(host)),
                Some(id)
            );
        }
        assert_eq!(
            map.user_from_host(0),
            None,
            "the machine's root does not exist inside"
        );
        assert_eq!(map.user_from_host(1001), None);
    }

    #[test]
    fn fingerprints_tell_maps_apart() {
        let range = IdMap::range((1000, 1000), &[(100_000, 65536)], &[(100_000, 65536)]);
        assert_eq!(range.fingerprint(), "range-100000-65536");
        let uneven = IdMap::range((1000, 1000), &[(100_000, 65536)], &[(200_000, 65536)]);
        assert_eq!(
            uneven.fingerprint(),
            "range-100000-65536-groups-200000-65536"
        );
        let two = IdMap::range((1, 1), &[(10, 2), (20, 3)], &[(10, 2), (20, 3)]);
        assert_eq!(two.fingerprint(), "range-10-2+20-3");
        let single = IdMap::single((1000, 100), SingleReason::Asked);
        assert_eq!(single.fingerprint(), "single-1000");
    }

    #[test]
    fn a_container_with_one_id_is_one_uid_mode() {
        let one = [IdRange {
            inside: 0,
            outside: 1000,
            count: 1,
        }];
        let map = IdMap::identity(&one, &one);
        assert_eq!(map.mode(), IdMode::Single);
        assert_eq!(map.user_to_host(0), Some(0));
        assert!(map.missing_ids_hint().unwrap().contains("uidmap"));

        let all = [IdRange {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        }];
        let map = IdMap::identity(&all, &all);
        assert_eq!(map.mode(), IdMode::HostRoot);
        assert_eq!(map.user_to_host(70_000), Some(70_000));
        assert_eq!(map.missing_ids_hint(), None);
    }

    #[test]
    fn ranges_beyond_the_last_id_are_cut() {
        let map = IdMap::range((1000, 1000), &[(5, u32::MAX), (9, 9)], &[]);
        assert_eq!(map.users().len(), 2);
        assert_eq!(map.user_to_host(u32::MAX), None);
    }
}

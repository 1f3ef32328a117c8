//! What waits in a class, in order.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::account::Accounts;
use crate::{BuildKey, OperationId};

/// The order within a build: when it came, moved by its priority; then the order of coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::queue) struct Urgency {
    /// Microseconds.
    pub(in crate::queue) due: i128,
    /// Counted by the queue.
    pub(in crate::queue) sequence: u64,
}

/// Where an operation is in an order.
#[derive(Debug, Clone)]
pub(in crate::queue) struct Place {
    /// Whose it is.
    pub(in crate::queue) build: BuildKey,
    /// Its order within its build.
    pub(in crate::queue) urgency: Urgency,
    /// Since when it waits.
    pub(in crate::queue) since: Duration,
}

/// Names in the order of their accounts, as those were when they were last looked at.
#[derive(Debug)]
struct Level<N> {
    order: BTreeSet<(u64, Arc<str>)>,
    nodes: HashMap<Arc<str>, Node<N>>,
}

#[derive(Debug, Default)]
struct Node<N> {
    /// Its account in `order`.
    seen: u64,
    /// Operations below.
    count: usize,
    inner: N,
}

impl<N> Default for Level<N> {
    fn default() -> Self {
        Self {
            order: BTreeSet::new(),
            nodes: HashMap::new(),
        }
    }
}

impl<N: Default> Level<N> {
    /// One more below `name`; who was not there comes in with what `used` says.
    fn enter(&mut self, name: &Arc<str>, used: impl FnOnce() -> u64) -> &mut N {
        let node = self.nodes.entry(name.clone()).or_default();
        if node.count == 0 {
            node.seen = used();
            self.order.insert((node.seen, name.clone()));
        }
        node.count += 1;
        &mut node.inner
    }

    /// One less below `name`.
    fn leave(&mut self, name: &Arc<str>, change: impl FnOnce(&mut N)) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        change(&mut node.inner);
        node.count = node.count.saturating_sub(1);
        if node.count == 0 {
            let seen = node.seen;
            self.nodes.remove(name);
            self.order.remove(&(seen, name.clone()));
        }
    }

    /// The first ones, with what they really have had.
    fn first(
        &mut self,
        most: usize,
        wanted: &dyn Fn(&str) -> bool,
        used: &dyn Fn(&str) -> u64,
    ) -> Vec<(u64, Arc<str>)> {
        loop {
            let found: Vec<_> = self
                .order
                .iter()
                .filter(|(_, name)| wanted(name))
                .take(most)
                .cloned()
                .collect();
            let mut is_right = true;
            for (seen, name) in &found {
                let is = used(name);
                if is > *seen {
                    is_right = false;
                    self.order.remove(&(*seen, name.clone()));
                    self.order.insert((is, name.clone()));
                    if let Some(node) = self.nodes.get_mut(name) {
                        node.seen = is;
                    }
                }
            }
            if is_right {
                return found;
            }
        }
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut N> {
        self.nodes.get_mut(name).map(|node| &mut node.inner)
    }
}

type Operations = BTreeSet<(Urgency, OperationId)>;

#[derive(Debug, Default)]
struct Namespace {
    users: Level<Level<Operations>>,
    ages: BTreeSet<(Duration, OperationId)>,
}

/// What waits in a class.
#[derive(Debug, Default)]
pub(in crate::queue) struct Ready {
    namespaces: Level<Namespace>,
    len: usize,
}

impl Ready {
    pub(in crate::queue) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(in crate::queue) fn insert(
        &mut self,
        operation: OperationId,
        place: &Place,
        platform: &Arc<str>,
        accounts: &mut Accounts,
    ) {
        let BuildKey {
            namespace,
            user,
            build,
        } = &place.build;
        let inner = self
            .namespaces
            .enter(namespace, || accounts.rise(platform, &[namespace]));
        inner.ages.insert((place.since, operation));
        inner
            .users
            .enter(user, || accounts.rise(platform, &[namespace, user]))
            .enter(build, || accounts.rise(platform, &[namespace, user, build]))
            .insert((place.urgency, operation));
        self.len += 1;
    }

    pub(in crate::queue) fn remove(&mut self, operation: OperationId, place: &Place) {
        let BuildKey {
            namespace,
            user,
            build,
        } = &place.build;
        let mut removed = false;
        self.namespaces.leave(namespace, |inner| {
            inner.ages.remove(&(place.since, operation));
            inner.users.leave(user, |builds| {
                builds.leave(build, |operations| {
                    removed = operations.remove(&(place.urgency, operation));
                });
            });
        });
        debug_assert!(removed, "what leaves was there");
        self.len = self.len.saturating_sub(1);
    }

    /// The operation that has waited longest.
    pub(in crate::queue) fn oldest(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Option<(Duration, OperationId)> {
        self.namespaces
            .nodes
            .iter()
            .filter(|(name, _)| wanted(name))
            .filter_map(|(_, node)| node.inner.ages.first().copied())
            .min()
    }

    /// About how many are given out before an operation: those of its build that are more urgent,
    /// and as many of each build, user and namespace beside it.
    pub(in crate::queue) fn before(&self, operation: OperationId, place: &Place) -> usize {
        fn beside<N>(level: &Level<N>, own: &Arc<str>, within: usize) -> usize {
            let others = level.nodes.iter().filter(|(name, _)| *name != own);
            within
                + others
                    .map(|(_, node)| node.count.min(within + 1))
                    .sum::<usize>()
        }
        let BuildKey {
            namespace,
            user,
            build,
        } = &place.build;
        let Some(users) = self
            .namespaces
            .nodes
            .get(namespace)
            .map(|node| &node.inner.users)
        else {
            return 0;
        };
        let Some(builds) = users.nodes.get(user).map(|node| &node.inner) else {
            return 0;
        };
        let Some(operations) = builds.nodes.get(build).map(|node| &node.inner) else {
            return 0;
        };
        let first = operations.range(..(place.urgency, operation)).count();
        let in_user = beside(builds, build, first);
        let in_namespace = beside(users, user, in_user);
        beside(&self.namespaces, namespace, in_namespace)
    }

    /// The next operations of several classes of one platform together.
    pub(in crate::queue) fn next(
        classes: &mut [Self],
        platform: &str,
        accounts: &Accounts,
        serves: &dyn Fn(&str) -> bool,
        most: usize,
    ) -> Vec<OperationId> {
        let mut found = Vec::new();
        // Nearly always the first build has enough.
        for width in [1, most] {
            found.clear();
            let namespaces = merged(classes.iter_mut().map(|ready| {
                ready
                    .namespaces
                    .first(width, serves, &|name| accounts.used(platform, &[name]))
            }));
            for namespace in namespaces.into_iter().take(width) {
                let users = merged(classes.iter_mut().filter_map(|ready| {
                    let users = &mut ready.namespaces.get_mut(&namespace)?.users;
                    Some(users.first(width, &|_| true, &|name| {
                        accounts.used(platform, &[&namespace, name])
                    }))
                }));
                for user in users.into_iter().take(width) {
                    let builds = merged(classes.iter_mut().filter_map(|ready| {
                        let users = &mut ready.namespaces.get_mut(&namespace)?.users;
                        Some(users.get_mut(&user)?.first(width, &|_| true, &|name| {
                            accounts.used(platform, &[&namespace, &user, name])
                        }))
                    }));
                    for build in builds.into_iter().take(width) {
                        let mut operations: Vec<_> = classes
                            .iter_mut()
                            .filter_map(|ready| {
                                let users = &mut ready.namespaces.get_mut(&namespace)?.users;
                                users.get_mut(&user)?.get_mut(&build)
                            })
                            .flat_map(|operations| operations.iter().take(most).copied())
                            .collect();
                        operations.sort_unstable();
                        found.extend(operations.into_iter().map(|(_, operation)| operation));
                        if found.len() >= most {
                            found.truncate(most);
                            return found;
                        }
                    }
                }
            }
        }
        found
    }
}

/// Names of several lists in the order of their accounts, each once.
fn merged(lists: impl Iterator<Item = Vec<(u64, Arc<str>)>>) -> Vec<Arc<str>> {
    let mut lists: Vec<_> = lists.filter(|list| !list.is_empty()).collect();
    if lists.len() == 1 {
        return lists
            .swap_remove(0)
            .into_iter()
            .map(|(_, name)| name)
            .collect();
    }
    let mut all: Vec<_> = lists.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(|(_, name)| name).collect()
}

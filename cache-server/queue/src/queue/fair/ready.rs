//! What waits in a class, in order.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::account::{AccountId, Accounts, Owner};
use crate::OperationId;
use crate::hash::Layered;

/// The order within a build: when it came, moved by its priority; then the order of coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::queue) struct Urgency {
    /// Microseconds.
    pub(in crate::queue) due: i128,
    /// Counted by the queue.
    pub(in crate::queue) sequence: u64,
}

/// Where an operation is in an order.
#[derive(Debug, Clone, Copy)]
pub(in crate::queue) struct Place {
    /// Of its namespace, user and build.
    accounts: [AccountId; 3],
    /// Its order within its build.
    urgency: Urgency,
    /// Since when it waits.
    since: Duration,
}

impl Place {
    pub(in crate::queue) const fn new(owner: &Owner, urgency: Urgency, since: Duration) -> Self {
        let [_, namespace, user, build] = owner.path;
        Self {
            accounts: [namespace, user, build],
            urgency,
            since,
        }
    }
}

/// Accounts in the order of what they had when they were last looked at.
#[derive(Debug)]
struct Level<N> {
    order: BTreeSet<(u64, AccountId)>,
    nodes: HashMap<AccountId, Node<N>, Layered>,
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
            nodes: HashMap::default(),
        }
    }
}

impl<N: Default> Level<N> {
    /// One more below `id`; who was not there starts where the others are.
    fn enter(&mut self, id: AccountId, accounts: &mut Accounts) -> &mut N {
        let node = self.nodes.entry(id).or_default();
        if node.count == 0 {
            node.seen = accounts.rise(id);
            self.order.insert((node.seen, id));
        }
        node.count += 1;
        &mut node.inner
    }

    /// One less below `id`.
    fn leave(&mut self, id: AccountId, change: impl FnOnce(&mut N)) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        change(&mut node.inner);
        node.count = node.count.saturating_sub(1);
        if node.count == 0 {
            let seen = node.seen;
            self.nodes.remove(&id);
            self.order.remove(&(seen, id));
        }
    }

    /// The first ones, with what they really have had.
    fn first(
        &mut self,
        most: usize,
        accounts: &Accounts,
        wanted: &dyn Fn(AccountId) -> bool,
    ) -> Vec<(u64, AccountId)> {
        loop {
            let found: Vec<_> = self
                .order
                .iter()
                .filter(|(_, id)| wanted(*id))
                .take(most)
                .copied()
                .collect();
            let mut is_right = true;
            for &(seen, id) in &found {
                let is = accounts.used(id);
                if is > seen {
                    is_right = false;
                    self.order.remove(&(seen, id));
                    self.order.insert((is, id));
                    if let Some(node) = self.nodes.get_mut(&id) {
                        node.seen = is;
                    }
                }
            }
            if is_right {
                return found;
            }
        }
    }

    /// Brings one to where its account is now.
    fn correct(&mut self, id: AccountId, accounts: &Accounts) {
        if let Some(node) = self.nodes.get_mut(&id) {
            let is = accounts.used(id);
            if is != node.seen {
                self.order.remove(&(node.seen, id));
                self.order.insert((is, id));
                node.seen = is;
            }
        }
    }

    fn get_mut(&mut self, id: AccountId) -> Option<&mut N> {
        self.nodes.get_mut(&id).map(|node| &mut node.inner)
    }
}

type Operations = BTreeSet<(Urgency, OperationId)>;

#[derive(Debug, Default)]
struct Namespace {
    users: Level<Level<Operations>>,
    ages: BTreeSet<(Duration, OperationId)>,
    /// When it last got something.
    fed: Duration,
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
        accounts: &mut Accounts,
    ) {
        let [namespace, user, build] = place.accounts;
        let inner = self.namespaces.enter(namespace, accounts);
        inner.ages.insert((place.since, operation));
        inner
            .users
            .enter(user, accounts)
            .enter(build, accounts)
            .insert((place.urgency, operation));
        self.len += 1;
    }

    pub(in crate::queue) fn remove(&mut self, operation: OperationId, place: &Place) {
        let [namespace, user, build] = place.accounts;
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

    /// The namespace that has got nothing for longest: since when, and what of it has waited for
    /// longest.
    pub(in crate::queue) fn hungriest(
        &self,
        accounts: &Accounts,
        serves: &dyn Fn(&str) -> bool,
    ) -> Option<(Duration, OperationId)> {
        self.namespaces
            .nodes
            .iter()
            .filter(|&(&id, _)| serves(accounts.name(id)))
            .filter_map(|(_, node)| {
                let &(since, operation) = node.inner.ages.first()?;
                Some((since.max(node.inner.fed), operation))
            })
            .min()
    }

    /// Something was given back to those of a place.
    pub(in crate::queue) fn refunded(&mut self, place: &Place, accounts: &Accounts) {
        let [namespace, user, build] = place.accounts;
        self.namespaces.correct(namespace, accounts);
        if let Some(inner) = self.namespaces.get_mut(namespace) {
            inner.users.correct(user, accounts);
            if let Some(builds) = inner.users.get_mut(user) {
                builds.correct(build, accounts);
            }
        }
    }

    /// A namespace has got something.
    pub(in crate::queue) fn feed(&mut self, place: &Place, time: Duration) {
        if let Some(inner) = self.namespaces.get_mut(place.accounts[0]) {
            inner.fed = time;
        }
    }

    /// About how many are given out before an operation: those of its build that are more urgent,
    /// and as many of each build, user and namespace beside it.
    pub(in crate::queue) fn before(&self, operation: OperationId, place: &Place) -> usize {
        fn beside<N>(level: &Level<N>, own: AccountId, within: usize) -> usize {
            let others = level.nodes.iter().filter(|&(&id, _)| id != own);
            within
                + others
                    .map(|(_, node)| node.count.min(within + 1))
                    .sum::<usize>()
        }
        let [namespace, user, build] = place.accounts;
        let Some(users) = self
            .namespaces
            .nodes
            .get(&namespace)
            .map(|node| &node.inner.users)
        else {
            return 0;
        };
        let Some(builds) = users.nodes.get(&user).map(|node| &node.inner) else {
            return 0;
        };
        let Some(operations) = builds.nodes.get(&build).map(|node| &node.inner) else {
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
        accounts: &Accounts,
        serves: &dyn Fn(&str) -> bool,
        most: usize,
    ) -> Vec<OperationId> {
        let all = |_| true;
        let served = |id| serves(accounts.name(id));
        let mut found = Vec::new();
        // Nearly always the first build has enough.
        for width in [1, most] {
            found.clear();
            let namespaces = merged(
                classes
                    .iter_mut()
                    .map(|ready| ready.namespaces.first(width, accounts, &served)),
            );
            for namespace in namespaces.into_iter().take(width) {
                let users = merged(classes.iter_mut().filter_map(|ready| {
                    let users = &mut ready.namespaces.get_mut(namespace)?.users;
                    Some(users.first(width, accounts, &all))
                }));
                for user in users.into_iter().take(width) {
                    let builds = merged(classes.iter_mut().filter_map(|ready| {
                        let users = &mut ready.namespaces.get_mut(namespace)?.users;
                        Some(users.get_mut(user)?.first(width, accounts, &all))
                    }));
                    for build in builds.into_iter().take(width) {
                        let of_build = classes.iter_mut().filter_map(|ready| {
                            let users = &mut ready.namespaces.get_mut(namespace)?.users;
                            users.get_mut(user)?.get_mut(build)
                        });
                        let mut operations: Vec<_> = of_build
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

/// Accounts of several lists in order, each once.
fn merged(lists: impl Iterator<Item = Vec<(u64, AccountId)>>) -> Vec<AccountId> {
    let mut all: Vec<(u64, AccountId)> = Vec::new();
    let mut count = 0;
    for list in lists.filter(|list| !list.is_empty()) {
        count += 1;
        if count == 1 {
            all = list;
        } else {
            all.extend(list);
        }
    }
    if count > 1 {
        all.sort_unstable();
        all.dedup();
    }
    all.into_iter().map(|(_, id)| id).collect()
}

//! What everyone has had.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::BuildKey;

/// In how many rounds of forgetting an account that is ahead of the others is kept.
const IDLE_ROUNDS: u8 = 10;

/// A usual weight.
const USUAL: u32 = 100;

/// An account's number. It stays as long as operations are charged to it that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::queue) struct AccountId(u32);

/// Whose work it is: where it is charged.
#[derive(Debug, Clone)]
pub(in crate::queue) struct Owner {
    /// The build that asked first.
    pub(in crate::queue) build: BuildKey,
    /// The accounts: of the platform, the namespace, the user, the build.
    pub(super) path: [AccountId; 4],
    /// Powers of two by which priority changes what the build is charged.
    dearer: i8,
}

/// One account.
#[derive(Debug)]
struct Account {
    name: Arc<str>,
    above: Option<AccountId>,
    below: HashMap<Arc<str>, AccountId>,
    /// What it had, in microseconds at the usual weight.
    used: u64,
    /// Where those below are: what the last one that was chosen had then. Never goes back.
    level: u64,
    /// Operations that have not ended.
    live: usize,
    /// How often it was found idle.
    idle: u8,
}

/// The accounts of all.
#[derive(Debug, Default)]
pub(in crate::queue) struct Accounts {
    all: Vec<Option<Account>>,
    unused: Vec<AccountId>,
    platforms: HashMap<Arc<str>, AccountId>,
    /// Shares of namespaces and users; 100 is usual.
    namespaces: HashMap<Arc<str>, u32>,
    users: HashMap<Arc<str>, u32>,
}

/// Microseconds, at a weight.
fn price(time: Duration, weight: u32) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    micros.saturating_mul(u64::from(USUAL)) / u64::from(weight.max(1))
}

impl Accounts {
    pub(in crate::queue) fn new(
        namespaces: HashMap<Arc<str>, u32>,
        users: HashMap<Arc<str>, u32>,
    ) -> Self {
        Self {
            namespaces,
            users,
            ..Self::default()
        }
    }

    pub(in crate::queue) fn set_weights(
        &mut self,
        namespaces: HashMap<Arc<str>, u32>,
        users: HashMap<Arc<str>, u32>,
    ) {
        self.namespaces = namespaces;
        self.users = users;
    }

    fn get(&self, id: AccountId) -> Option<&Account> {
        self.all.get(id.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        self.all.get_mut(id.0 as usize)?.as_mut()
    }

    /// An operation has come: its accounts, and what it is charged by its priority.
    pub(in crate::queue) fn open(
        &mut self,
        platform: &Arc<str>,
        build: BuildKey,
        priority: i32,
    ) -> Owner {
        let dearer = i8::try_from((priority / 10).clamp(-4, 4)).unwrap_or(0);
        let platform = self.account(None, platform);
        let namespace = self.account(Some(platform), &build.namespace);
        let user = self.account(Some(namespace), &build.user);
        let last = self.account(Some(user), &build.build);
        let owner = Owner {
            build,
            path: [platform, namespace, user, last],
            dearer,
        };
        for id in owner.path {
            if let Some(account) = self.get_mut(id) {
                account.live += 1;
            }
        }
        owner
    }

    /// An account, new if need be. It must be made live before others are forgotten.
    fn account(&mut self, above: Option<AccountId>, name: &Arc<str>) -> AccountId {
        let known = match above {
            Some(above) => self.get(above).and_then(|above| above.below.get(name)),
            None => self.platforms.get(name),
        };
        if let Some(&known) = known {
            return known;
        }
        let account = Account {
            name: name.clone(),
            above,
            below: HashMap::new(),
            used: 0,
            level: 0,
            live: 0,
            idle: 0,
        };
        let id = match self.unused.pop() {
            Some(id) => {
                self.all[id.0 as usize] = Some(account);
                id
            }
            None => {
                let id = AccountId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
                self.all.push(Some(account));
                id
            }
        };
        match above {
            Some(above) => {
                if let Some(above) = self.get_mut(above) {
                    above.below.insert(name.clone(), id);
                }
            }
            None => {
                self.platforms.insert(name.clone(), id);
            }
        }
        id
    }

    /// An operation has ended.
    pub(in crate::queue) fn close(&mut self, owner: &Owner) {
        for id in owner.path {
            if let Some(account) = self.get_mut(id) {
                account.live = account.live.saturating_sub(1);
            }
        }
    }

    /// Charges time on a worker.
    pub(in crate::queue) fn charge(&mut self, owner: &Owner, time: Duration) {
        self.change(owner, time, u64::saturating_add);
    }

    /// Gives back what was charged and not used.
    pub(in crate::queue) fn refund(&mut self, owner: &Owner, time: Duration) {
        self.change(owner, time, u64::saturating_sub);
    }

    fn change(&mut self, owner: &Owner, time: Duration, change: fn(u64, u64) -> u64) {
        let key = &owner.build;
        let weight = |of: &HashMap<Arc<str>, u32>, name| of.get(name).copied().unwrap_or(USUAL);
        let plain = price(time, USUAL);
        let by_priority = if owner.dearer < 0 {
            plain >> owner.dearer.unsigned_abs()
        } else {
            plain.saturating_mul(1 << owner.dearer.unsigned_abs())
        };
        let amounts = [
            price(time, weight(&self.namespaces, &key.namespace)),
            price(time, weight(&self.users, &key.user)),
            by_priority,
        ];
        for (&id, amount) in owner.path[1..].iter().zip(amounts) {
            if let Some(account) = self.get_mut(id) {
                account.used = change(account.used, amount);
            }
        }
    }

    /// It was chosen: others that come start from here.
    pub(in crate::queue) fn chosen(&mut self, owner: &Owner) {
        for pair in owner.path.windows(2) {
            let used = self.used(pair[1]);
            if let Some(above) = self.get_mut(pair[0]) {
                above.level = above.level.max(used);
            }
        }
    }

    /// Whoever has nothing in an order and comes into it starts where the others are.
    pub(super) fn rise(&mut self, id: AccountId) -> u64 {
        let above = self.get(id).and_then(|account| account.above);
        let level = above
            .and_then(|above| self.get(above))
            .map_or(0, |above| above.level);
        self.get_mut(id).map_or(0, |account| {
            account.used = account.used.max(level);
            account.used
        })
    }

    /// What someone has had.
    pub(super) fn used(&self, id: AccountId) -> u64 {
        self.get(id).map_or(0, |account| account.used)
    }

    /// Whose it is.
    pub(super) fn name(&self, id: AccountId) -> &str {
        self.get(id).map_or("", |account| &*account.name)
    }

    /// Accounts of those that have nothing to do, and nothing to make up for, go: those at the
    /// bottom first, the others in later rounds.
    pub(in crate::queue) fn forget_idle(&mut self) {
        for at in 0..self.all.len() {
            let Some(Some(account)) = self.all.get(at) else {
                continue;
            };
            let level = account
                .above
                .and_then(|id| self.get(id))
                .map_or(u64::MAX, |up| up.level);
            let Some(Some(account)) = self.all.get_mut(at) else {
                continue;
            };
            account.idle = if account.live > 0 {
                0
            } else {
                account.idle.saturating_add(1)
            };
            // One that is ahead of the others must not come back as if it had had nothing; but
            // where nobody follows the level does not rise, so it is forgotten some time.
            let is_even = account.used <= level || account.idle >= IDLE_ROUNDS;
            if account.live > 0 || !account.below.is_empty() || !is_even {
                continue;
            }
            let Some(account) = self.all[at].take() else {
                continue;
            };
            self.unused
                .push(AccountId(u32::try_from(at).unwrap_or(u32::MAX)));
            match account.above {
                Some(above) => {
                    if let Some(above) = self.get_mut(above) {
                        above.below.remove(&account.name);
                    }
                }
                None => {
                    self.platforms.remove(&account.name);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.all.iter().flatten().count()
    }
}

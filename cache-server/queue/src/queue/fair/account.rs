//! What everyone has had.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::{BuildKey, Submission};

/// What a grant is charged at once: without it all slots that come free in one moment would go to
/// the same one.
pub(in crate::queue) const DEPOSIT: Duration = Duration::from_secs(1);

/// In how many rounds of forgetting an account that is ahead of the others is kept.
const IDLE_ROUNDS: u8 = 10;

/// A usual weight.
const USUAL: u32 = 100;

/// Whose work it is: where it is charged.
#[derive(Debug, Clone)]
pub(in crate::queue) struct Owner {
    /// `os/arch`, as required.
    pub(in crate::queue) platform: Arc<str>,
    /// The build that asked first.
    pub(in crate::queue) build: BuildKey,
    /// Powers of two by which priority changes what the build is charged.
    pub(in crate::queue) dearer: i8,
}

impl Owner {
    pub(in crate::queue) fn new(
        platform: Arc<str>,
        build: BuildKey,
        submission: &Submission,
    ) -> Self {
        let dearer = i8::try_from((submission.priority / 10).clamp(-4, 4)).unwrap_or(0);
        Self {
            platform,
            build,
            dearer,
        }
    }
}

/// One account, and those below it.
#[derive(Debug, Default)]
struct Account {
    /// What it had, in microseconds at the usual weight.
    used: u64,
    /// Where those below are: what the last one that was chosen had then. Never goes back.
    level: u64,
    /// Operations below that have not ended.
    live: usize,
    /// How often it was found idle.
    idle: u8,
    below: HashMap<Arc<str>, Self>,
}

impl Account {
    /// Whoever comes back starts where the others are.
    fn rise(&mut self, name: &Arc<str>) -> u64 {
        let level = self.level;
        let account = self.below.entry(name.clone()).or_default();
        account.used = account.used.max(level);
        account.used
    }

    fn forget_idle(&mut self) {
        let level = self.level;
        // One that is ahead of the others must not come back as if it had had nothing; but where
        // nobody follows, the level does not rise, so it is forgotten some time.
        self.below.retain(|_, account| {
            account.forget_idle();
            account.idle = if account.live > 0 {
                0
            } else {
                account.idle.saturating_add(1)
            };
            account.live > 0 || (account.used > level && account.idle < IDLE_ROUNDS)
        });
    }
}

/// The accounts of all.
#[derive(Debug, Default)]
pub(in crate::queue) struct Accounts {
    platforms: HashMap<Arc<str>, Account>,
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
            platforms: HashMap::new(),
            namespaces,
            users,
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

    /// An operation has come.
    pub(in crate::queue) fn open(&mut self, owner: &Owner) {
        self.each(owner, |account| account.live += 1);
    }

    /// An operation has ended.
    pub(in crate::queue) fn close(&mut self, owner: &Owner) {
        self.each(owner, |account| {
            account.live = account.live.saturating_sub(1)
        });
    }

    fn each(&mut self, owner: &Owner, mut change: impl FnMut(&mut Account)) {
        let mut account = self.platforms.entry(owner.platform.clone()).or_default();
        change(account);
        for name in [
            &owner.build.namespace,
            &owner.build.user,
            &owner.build.build,
        ] {
            account = account.below.entry(name.clone()).or_default();
            change(account);
        }
    }

    /// Charges time on a worker.
    pub(in crate::queue) fn charge(&mut self, owner: &Owner, time: Duration) {
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
            // Nothing is free: who pays nothing would stay the next for ever.
            by_priority.max(1),
        ];
        let mut account = self.platforms.entry(owner.platform.clone()).or_default();
        for (name, amount) in [&key.namespace, &key.user, &key.build]
            .into_iter()
            .zip(amounts)
        {
            account = account.below.entry(name.clone()).or_default();
            account.used = account.used.saturating_add(amount);
        }
    }

    /// It was chosen: others that come start from here.
    pub(in crate::queue) fn chosen(&mut self, owner: &Owner) {
        let mut account = self.platforms.entry(owner.platform.clone()).or_default();
        for name in [
            &owner.build.namespace,
            &owner.build.user,
            &owner.build.build,
        ] {
            let used = account.below.get(name).map_or(0, |below| below.used);
            account.level = account.level.max(used);
            account = account.below.entry(name.clone()).or_default();
        }
    }

    /// Whoever has nothing in an order and comes into it starts where the others are. `path` is
    /// namespace, user, build, or the first one or two of them.
    pub(in crate::queue) fn rise(&mut self, platform: &Arc<str>, path: &[&Arc<str>]) -> u64 {
        let mut account = self.platforms.entry(platform.clone()).or_default();
        let Some((last, before)) = path.split_last() else {
            return 0;
        };
        for name in before {
            account = account.below.entry((*name).clone()).or_default();
        }
        account.rise(last)
    }

    /// What someone has had.
    pub(in crate::queue) fn used(&self, platform: &str, path: &[&str]) -> u64 {
        let Some(mut account) = self.platforms.get(platform) else {
            return 0;
        };
        for &name in path {
            match account.below.get(name) {
                Some(below) => account = below,
                None => return 0,
            }
        }
        account.used
    }

    /// Accounts of those that have nothing to do, and nothing to make up for, go.
    pub(in crate::queue) fn forget_idle(&mut self) {
        for platform in self.platforms.values_mut() {
            platform.forget_idle();
        }
        self.platforms
            .retain(|_, account| account.live > 0 || !account.below.is_empty());
    }
}

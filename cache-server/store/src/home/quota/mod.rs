//! The hard quota of a store: kept while builds run, not after them.
//!
//! ```text
//! quota/limit             how many bytes the store may take, for all processes   (a record)
//! quota/ledger            how many bytes were admitted                          [ledger]
//! quota/users/<random>    what a running process uses and may still write     [presence]
//! quota/sizes/<path>      how large a directory is that only the sandbox sees     [sizes]
//! ```
//!
//! # Admission
//!
//! Whoever writes asks [`Home::admit`] or a [`Meter`] first, and holds the [`Permit`] until it has
//! written. A process takes from the ledger in pieces of up to [`LARGEST_PIECE`], so most
//! questions are answered without a system call. Units are bytes on disk (`st_blocks`), as
//! `ashlar du` counts them; before a file is there, [`on_disk`] says how many it may take at most.
//!
//! The ledger is never less than what all files take: bytes are added before they are written, and
//! nothing is taken off for a file that goes. So it comes to say too much, and when it says that
//! the store is full, the files are counted; only if they do fill the store, something is
//! evicted (`room`). The count is exact, but for what others have been admitted and are about to
//! write: each notes that bound in `quota/users`. A ledger that is missing, damaged, or from before
//! the machine was started is counted anew in the same way. A process that is killed leaves what
//! it took in the ledger until then.
//!
//! A bit is [kept back](usable) for what is too small to ask for: directories, locks, tags.
//!
//! # Eviction beside running builds
//!
//! Without a quota whoever works with layers shares a lock, and nothing can be removed meanwhile
//! ([`in_use`](super::in_use)). With a quota that would leave nothing to evict. So processes note
//! what they use, and the lock is shared only while they note it: what is noted after the lock was
//! taken is there still, or is seen to be gone. The store notes by itself whatever it hands out or
//! takes in.
//!
//! Order of locks: ledger, then `in-use`, then the notes.
//!
//! # Commands in containers
//!
//! They write through the kernel. What they have written is looked at while they run, and they are
//! given some room in advance; see the executor.
//!
//! # When the quota is set
//!
//! It holds for every process that starts afterwards. Builds that run already do not ask; until
//! they have ended nothing can be evicted, and the store is counted once more then.

mod full;
mod ledger;
mod presence;
mod room;
mod sizes;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use full::QuotaFull;
pub(super) use ledger::{Account, Ledger};
use presence::Presence;
pub(super) use presence::{Claim, Claims, claims};
pub(super) use sizes::read_size;
pub use writer::Metered;

use super::gc::TreeRemover;
use super::{Home, StoreError, record};

/// The most that a process takes from the ledger at once beside what it needs: larger means fewer
/// system calls, smaller means that less is left unused near the limit.
pub const LARGEST_PIECE: u64 = 16 << 20;

/// The least that is taken, unless not even that is left.
const SMALLEST_PIECE: u64 = 64 << 10;

/// The smallest quota that is accepted: less leaves no room for the store's own directories.
pub const SMALLEST_QUOTA: u64 = 1 << 20;

/// How many bytes a new file or directory of this length may take on disk, its name included.
/// Blocks have 4096 bytes wherever it matters; long attributes take one more.
pub const fn on_disk(length: u64) -> u64 {
    length.next_multiple_of(4096) + 128
}

/// A file that grows piece by piece, with holes: how many bytes on disk each piece adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Growth {
    length: u64,
    admitted: u64,
}

impl Growth {
    /// A file that is there with this length.
    pub const fn of_file(length: u64) -> Self {
        Self {
            length,
            admitted: on_disk(length),
        }
    }

    /// The bytes on disk to ask for before so many bytes are added.
    pub const fn grown_by(&mut self, bytes: u64) -> u64 {
        self.length += bytes;
        let end = on_disk(self.length);
        let more = end.saturating_sub(self.admitted);
        if self.admitted < end {
            self.admitted = end;
        }
        more
    }

    /// Goes on behind a hole of this length. Whole blocks of it take no space.
    pub const fn skip(&mut self, hole: u64) {
        // The block that the hole ends in is written next.
        let end = (self.length + hole) / 4096 * 4096;
        if self.admitted != 0 && self.admitted < on_disk(end) {
            self.admitted = on_disk(end);
        } else if self.admitted == 0 && end > 0 {
            self.admitted = end;
        }
        self.length += hole;
    }
}

/// The part of a quota that is given away: the rest is for directories, locks and tags.
const fn usable(limit: u64) -> u64 {
    let kept = limit / 64;
    limit - if kept < 1 << 20 { kept } else { 1 << 20 }
}

#[derive(Debug, Serialize, Deserialize)]
struct Limit {
    bytes: u64,
}

fn limit_path(root: &Path) -> PathBuf {
    root.join("quota/limit")
}

fn read_limit(root: &Path) -> Result<Option<u64>, StoreError> {
    let limit: Option<Limit> = record::read(&limit_path(root))?;
    Ok(limit.map(|limit| limit.bytes))
}

impl Home {
    /// How many bytes the store may take; `None` for any number.
    pub fn quota(&self) -> Result<Option<u64>, StoreError> {
        read_limit(self.root())
    }

    /// Sets how many bytes the store may take, for every process that starts from now on.
    pub fn set_quota(&self, bytes: Option<u64>) -> Result<(), StoreError> {
        if self.quota()? == bytes {
            return Ok(());
        }
        let path = limit_path(self.root());
        let Some(bytes) = bytes else {
            return super::gc::forget(&path);
        };
        let users = self.root().join("quota/users");
        fs::create_dir_all(&users).map_err(|e| StoreError::io("create", &users, e))?;
        let ledger = Ledger::lock(self.root())?;
        record::write(&path, &Limit { bytes })?;
        // Nobody has asked for admission so far.
        let unasked = self.alone(Duration::ZERO)?.is_none();
        let known = ledger.read()?.unwrap_or_default();
        let counted = room::count(self)?;
        ledger.write(&Account {
            used: counted,
            counts: known.counts + 1,
            unasked,
        })
    }

    /// Becomes a process that asks for admission, if the store has a quota.
    pub(super) fn enter_user(&self) -> Result<Option<Arc<User>>, StoreError> {
        if let Some(user) = self.user() {
            return Ok(Some(user));
        }
        if self.quota()?.is_none() {
            return Ok(None);
        }
        let user = Arc::new(User::new(self.root(), Presence::enter(self.root())?));
        self.put_user(&user);
        Ok(Some(user))
    }

    /// Writes as part of the process whose [name](Self::user_name) this is: its sandbox's file
    /// worker. Holds as long as the result.
    pub fn join_user(root: &Path, name: &str) -> Result<Joined, StoreError> {
        let user = Arc::new(User::new(root, Presence::join(root, name)?));
        lock(&USERS).insert(root.to_owned(), Arc::downgrade(&user));
        Ok(Joined { _user: user })
    }

    /// The name under which this process is known as a user of a store with a quota.
    pub fn user_name(&self) -> Option<String> {
        self.user()?.presence.name().map(ToOwned::to_owned)
    }

    fn put_user(&self, user: &Arc<User>) {
        lock(&USERS).insert(self.root().to_owned(), Arc::downgrade(user));
        self.inner.user.put(user);
    }

    pub(super) fn user(&self) -> Option<Arc<User>> {
        self.inner.user.get()
    }

    /// Lets so many bytes be written; more room is made for them if need be.
    pub fn admit(&self, bytes: u64) -> Result<Permit, StoreError> {
        self.meter().admit(bytes)
    }

    /// What writers ask.
    pub fn meter(&self) -> Meter {
        Meter { user: self.user() }
    }

    /// Notes that this process uses something.
    pub(super) fn claim(&self, claims: &[Claim]) -> Result<(), StoreError> {
        self.inner.user.claim(claims)
    }

    /// Who removes, when something is evicted, what belongs to subordinate ids.
    pub fn set_remover(&self, remover: Arc<dyn TreeRemover>) {
        if let Some(user) = self.user() {
            // The first serves as well as any other.
            let _known = user.remover.set(remover);
        }
    }
}

/// This process as part of another one, as far as a store's quota goes.
#[derive(Debug)]
pub struct Joined {
    _user: Arc<User>,
}

/// The user that this process is of each store, so that all [`Home`]s of one store find it.
static USERS: Mutex<BTreeMap<PathBuf, Weak<User>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the parts of a [`Home`] find their user.
#[derive(Debug, Clone, Default)]
pub(super) struct UserCell(Arc<RwLock<Weak<User>>>);

impl UserCell {
    /// The user that this process already is of a store.
    pub(super) fn of(root: &Path) -> Self {
        let cell = Self::default();
        if let Some(user) = lock(&USERS).get(root).and_then(Weak::upgrade) {
            cell.put(&user);
        }
        cell
    }

    fn put(&self, user: &Arc<User>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(user);
    }

    pub(super) fn get(&self) -> Option<Arc<User>> {
        let user = self.0.read().unwrap_or_else(PoisonError::into_inner);
        user.upgrade()
    }

    pub(super) fn meter(&self) -> Meter {
        Meter { user: self.get() }
    }

    pub(super) fn claim(&self, claims: &[Claim]) -> Result<(), StoreError> {
        self.get().map_or(Ok(()), |user| user.claim(claims))
    }
}

/// A process that asks for admission.
#[derive(Debug)]
pub(super) struct User {
    root: PathBuf,
    presence: Presence,
    claimed: Mutex<BTreeSet<Claim>>,
    /// Bytes that were taken from the ledger and not given away yet.
    pool: AtomicU64,
    /// Bytes that were given away and are perhaps not written yet.
    in_flight: AtomicU64,
    /// What the presence says of the two; never less than their sum.
    published: Mutex<i64>,
    remover: OnceLock<Arc<dyn TreeRemover>>,
}

impl User {
    fn new(root: &Path, presence: Presence) -> Self {
        Self {
            root: root.to_owned(),
            presence,
            claimed: Mutex::default(),
            pool: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            published: Mutex::new(0),
            remover: OnceLock::new(),
        }
    }

    fn claim(&self, claims: &[Claim]) -> Result<(), StoreError> {
        let mut claimed = lock(&self.claimed);
        let new: Vec<Claim> = claims
            .iter()
            .filter(|claim| !claimed.contains(claim))
            .cloned()
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let _noting = super::in_use::share(&self.root)?;
        self.presence.claim(&new)?;
        claimed.extend(new);
        Ok(())
    }

    /// Gives bytes away if there are enough.
    fn take(&self, bytes: u64) -> bool {
        // First: the sum of the two must not be less than it is for a moment.
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        let enough = |pool: u64| pool.checked_sub(bytes);
        let order = Ordering::AcqRel;
        let taken = self
            .pool
            .fetch_update(order, Ordering::Acquire, enough)
            .is_ok();
        if !taken {
            self.in_flight.fetch_sub(bytes, Ordering::AcqRel);
        }
        taken
    }

    fn admit(self: &Arc<Self>, bytes: u64) -> Result<Permit, StoreError> {
        if !self.take(bytes) {
            let mut published = lock(&self.published);
            if !self.take(bytes) {
                self.refill(bytes, &mut published)?;
            }
        }
        Ok(Permit {
            user: Some(Arc::clone(self)),
            bytes,
        })
    }

    /// Takes from the ledger: `bytes`, which are given away at once, and a piece for later.
    fn refill(&self, bytes: u64, published: &mut i64) -> Result<(), StoreError> {
        let home = Home::open(&self.root)?;
        let ledger = Ledger::lock(&self.root)?;
        let Some(limit) = read_limit(&self.root)? else {
            // The quota was lifted.
            self.pool.fetch_add(LARGEST_PIECE, Ordering::AcqRel);
            self.in_flight.fetch_add(bytes, Ordering::AcqRel);
            return Ok(());
        };
        let usable = usable(limit);
        let mut account = match ledger.read()? {
            Some(account) => account,
            None => Account {
                used: room::count(&home)?,
                counts: 1,
                unasked: home.alone(Duration::ZERO)?.is_none(),
            },
        };
        if account.unasked && home.alone(Duration::ZERO)?.is_some() {
            account.unasked = false;
            account.used = room::count(&home)?;
            account.counts += 1;
        }
        if account.used.saturating_add(bytes) > usable {
            account.counts += 1;
            let made = room::make(&home, bytes, limit, self.remover.get());
            account.used = match &made {
                // What was found out holds also if there is no room.
                Err(StoreError::Quota(full)) => full.used,
                Err(_) => account.used,
                Ok(used) => *used,
            };
            ledger.write(&account)?;
            made?;
        }
        let left = usable.saturating_sub(account.used).saturating_sub(bytes);
        let piece = (left / 32)
            .clamp(SMALLEST_PIECE, LARGEST_PIECE)
            .min(left / 2);
        let outstanding = self.pool.load(Ordering::Acquire)
            + self.in_flight.load(Ordering::Acquire)
            + bytes
            + piece;
        let outstanding = i64::try_from(outstanding).unwrap_or(i64::MAX);
        self.presence.reserve(outstanding - *published)?;
        *published = outstanding;
        account.used = account.used.saturating_add(bytes + piece);
        ledger.write(&account)?;
        self.in_flight.fetch_add(bytes, Ordering::AcqRel);
        self.pool.fetch_add(piece, Ordering::AcqRel);
        Ok(())
    }

    /// Gives back what was admitted and is not needed.
    fn give_back(&self, bytes: u64, since: Option<u64>) -> Result<(), StoreError> {
        let ledger = Ledger::lock(&self.root)?;
        if let Some(mut account) = ledger.read()?
            && since.is_none_or(|counts| counts == account.counts)
        {
            account.used = account.used.saturating_sub(bytes);
            ledger.write(&account)?;
        }
        Ok(())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let pool = self.pool.swap(0, Ordering::AcqRel);
        if pool > 0 {
            // If it fails the ledger says too much, until it is counted anew.
            let _ignored = self.give_back(pool, None);
        }
    }
}

/// Leave to write so many bytes. To be held until they are written.
#[derive(Debug, Default)]
#[must_use = "what was admitted must be written while the permit is held"]
pub struct Permit {
    user: Option<Arc<User>>,
    bytes: u64,
}

impl Permit {
    /// Makes this permit one for the bytes of both. They must be of one store.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        self.user = self.user.take().or_else(|| other.user.take());
    }

    /// Keeps the permit for so many bytes at most: the others are written.
    pub fn keep(&mut self, bytes: u64) {
        let written = self.bytes.saturating_sub(bytes);
        self.bytes -= written;
        if let Some(user) = &self.user {
            user.in_flight.fetch_sub(written, Ordering::AcqRel);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// What writers ask before they write. Without a quota it admits everything.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    user: Option<Arc<User>>,
}

impl Meter {
    /// Whether there is a quota at all.
    pub const fn is_limited(&self) -> bool {
        self.user.is_some()
    }

    /// Lets so many bytes be written; more room is made for them if need be, which may take
    /// seconds. Blocks the thread.
    pub fn admit(&self, bytes: u64) -> Result<Permit, StoreError> {
        match &self.user {
            Some(user) => user.admit(bytes),
            None => Ok(Permit::default()),
        }
    }

    /// As [`admit`](Self::admit), for writers whose errors are the operating system's.
    pub fn admit_io(&self, bytes: u64) -> io::Result<Permit> {
        self.admit(bytes).map_err(io::Error::from)
    }

    /// Which count of the store's bytes holds: what was admitted since can be
    /// [given back](Self::give_back).
    pub fn count(&self) -> Result<u64, StoreError> {
        match &self.user {
            Some(user) => {
                let account = Ledger::lock(&user.root)?.read()?;
                Ok(account.map_or(0, |account| account.counts))
            }
            None => Ok(0),
        }
    }

    /// Gives back bytes that were admitted after that [count](Self::count) and are not on disk.
    pub fn give_back(&self, bytes: u64, count: u64) -> Result<(), StoreError> {
        match &self.user {
            Some(user) => user.give_back(bytes, Some(count)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

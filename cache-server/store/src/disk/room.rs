//! How much may be stored: space is reserved before bytes come.
//!
//! What counts is what the packs and files take on disk, dead records included, and what is
//! reserved for bytes that are on their way. The index and the filesystem's own needs come on
//! top. Writers leave the last pack's size to whoever compacts packs, which must be able to write
//! before it can free.
//!
//! The disk itself is a limit as well: some of it always stays free, since an index that cannot be
//! written is worse than a blob that is refused.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::fault::{Fault, FaultKind};

/// So much of the disk stays free.
const KEPT_FREE: u64 = 16 << 20;

/// A writer waits so long for room that is being made.
const PATIENCE: Duration = Duration::from_secs(10);

/// The limits of a store.
#[derive(Debug)]
pub(super) struct Room {
    limit: Option<u64>,
    headroom: u64,
    /// Held for moments only, never while something is awaited.
    taken: Mutex<Taken>,
    /// Told when the cleaner has ended a round.
    pub(super) made: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    on_disk: u64,
    reserved: u64,
    /// What writers wait for.
    waiting: u64,
    /// How often the cleaner has ended a round.
    rounds: u64,
}

/// Room that is kept for bytes on their way. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Reservation {
    room: Arc<Room>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.room.change(|taken| {
            taken.reserved = taken.reserved.saturating_sub(self.bytes);
        });
    }
}

/// A writer that waits.
struct Waiting<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.room.change(|taken| {
            taken.waiting = taken.waiting.saturating_sub(self.bytes);
        });
    }
}

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    /// What packs and files take.
    pub(super) on_disk: u64,
    /// What they may take at most, as the disk is now.
    pub(super) limit: u64,
}

impl Room {
    pub(super) fn new(limit: Option<u64>, headroom: u64) -> Self {
        Self {
            limit,
            headroom,
            taken: Mutex::default(),
            made: Notify::new(),
        }
    }

    fn change<T>(&self, body: impl FnOnce(&mut Taken) -> T) -> T {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        body(&mut taken)
    }

    /// Notes what packs and files take now.
    pub(super) fn set_on_disk(&self, bytes: u64) {
        self.change(|taken| taken.on_disk = bytes);
    }

    pub(super) fn round_ended(&self) {
        self.change(|taken| taken.rounds += 1);
        self.made.notify_waiters();
    }

    /// What is reserved and what writers wait for.
    pub(super) fn asked(&self) -> u64 {
        self.change(|taken| taken.reserved.saturating_add(taken.waiting))
    }

    /// How full the store in `root` is.
    pub(super) fn fill(&self, root: &Path) -> Fill {
        let taken = self.change(|taken| *taken);
        self.fill_of(taken, root)
    }

    fn fill_of(&self, taken: Taken, root: &Path) -> Fill {
        let own = self
            .limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(self.headroom));
        let free = rustix::fs::statvfs(root)
            .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let kept = KEPT_FREE.saturating_add(self.headroom);
        let disk = taken.on_disk.saturating_add(free.saturating_sub(kept));
        Fill {
            on_disk: taken.on_disk,
            limit: own.min(disk),
        }
    }

    /// Keeps room for `bytes`, if there is some.
    fn try_reserve(self: &Arc<Self>, bytes: u64, root: &Path) -> Result<Reservation, u64> {
        self.change(|taken| {
            let fill = self.fill_of(*taken, root);
            let wanted = fill.on_disk.saturating_add(taken.reserved) + bytes;
            if wanted > fill.limit {
                return Err(taken.rounds);
            }
            taken.reserved += bytes;
            Ok(Reservation {
                room: Arc::clone(self),
                bytes,
            })
        })
    }

    /// Keeps room for `bytes`. If there is none, asks for some (`ask`) and waits for a while.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        root: &Path,
        ask: impl Fn() + Send,
    ) -> Result<Reservation, Fault> {
        let patience = Instant::now() + PATIENCE;
        let mut asked_in = None;
        let mut waiting: Option<Waiting> = None;
        loop {
            // Listens before it looks: no round can end unheard in between.
            let made = self.made.notified();
            let rounds = match self.try_reserve(bytes, root) {
                Ok(reservation) => return Ok(reservation),
                Err(rounds) => rounds,
            };
            let fill = self.fill(root);
            // One round may have been under way when this was asked; the next one knew of it.
            let is_hopeless = bytes > fill.limit
                || asked_in.is_some_and(|asked_in| rounds >= asked_in + 2)
                || Instant::now() >= patience;
            if is_hopeless {
                return Err(Fault::new(
                    FaultKind::Exhausted,
                    format!(
                        "the store is full: {bytes} bytes do not fit beside {} of {}",
                        fill.on_disk, fill.limit
                    ),
                ));
            }
            asked_in = asked_in.or(Some(rounds));
            if waiting.is_none() {
                self.change(|taken| taken.waiting += bytes);
                waiting = Some(Waiting { room: self, bytes });
            }
            ask();
            // Whether it was told or is tired of waiting, it looks again.
            let _told = timeout_at(patience, made).await;
        }
    }
}

//! Keeping order: what is not used goes, before there is no room.
//!
//! The keeper wakes when the store is fuller than the high watermark, when a writer waits for
//! room, and once a minute. In a round it
//!
//! 1. removes what has not been used for too long, if that is set;
//! 2. if there is too little room, removes what was used least recently until what lives is below
//!    the low watermark;
//! 3. compacts the packs that are mostly dead, and if there is too little room, further ones.
//!
//! Times of use are not sorted anywhere: that would cost each write a second place in the index.
//! A round reads the index twice instead, once to find how old is too old, once to remove. It does
//! so in pages and holds nothing up.
//!
//! Pinned results and all that they name stay ([`super::pins`]).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::index::{Entry, Place};
use super::key::{Key, Kind};
use super::pins::Pinned;
use super::writer::Work;
use super::{Shared, Writer, compact, large, record};
use crate::clock;
use crate::fault::{Fault, in_one_line};

/// How often the keeper looks without being called.
const INTERVAL: Duration = Duration::from_secs(60);

/// So many entries are read in one go.
pub(super) const PAGE: usize = 2000;

/// Times of use are taken together in groups of so many seconds.
const GROUP: u32 = 16;

/// Wakes the threads of a store, and ends them.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    has_rung: bool,
    has_ended: bool,
}

impl Bell {
    /// Calls the keeper.
    pub(super) fn ring(&self) {
        self.lock().has_rung = true;
        self.changed.notify_all();
    }

    /// Ends all threads that listen.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody rings, or for some time. `false` at the end.
    fn listen(&self, time: Duration) -> bool {
        let still = |state: &mut State| !state.has_rung && !state.has_ended;
        let waited = self.changed.wait_timeout_while(self.lock(), time, still);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.has_rung = false;
        !state.has_ended
    }

    /// Rests for some time. `false` at the end.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), time, |state| !state.has_ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.has_ended
    }
}

/// Keeps order until the store is closed.
pub(super) fn run(shared: &Shared, writer: &Writer) {
    while shared.bell.listen(INTERVAL) {
        let began = Instant::now();
        let before = shared.sizes.with(|sizes| sizes.on_disk());
        if let Err(fault) = round(shared, writer) {
            tracing::warn!(error = in_one_line(&fault), "the store cannot be cleaned");
        }
        shared.room.round_ended();
        // A store in which nothing can be freed (all is pinned) is not worth a processor, however
        // often the keeper is called.
        let has_freed = shared.sizes.with(|sizes| sizes.on_disk()) < before;
        let pause = began.elapsed() * if has_freed { 1 } else { 20 };
        let pause = pause.min(Duration::from_secs(10));
        if !shared.bell.rest(pause) {
            return;
        }
    }
}

fn percent(of: u64, percent: u8) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// One round.
pub(super) fn round(shared: &Shared, writer: &Writer) -> Result<(), Fault> {
    let settings = &shared.settings;
    if let Some(time) = settings.unused_for {
        let time = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let before = clock::seconds(&shared.clock).saturating_sub(time);
        remove(shared, writer, before, 0)?;
    }
    let fill = shared.room.fill(shared.layout.root());
    let asked = shared.room.asked();
    let too_full = percent(fill.limit, settings.high_watermark);
    let mut goal = u64::MAX;
    if fill.on_disk.saturating_add(asked) > too_full {
        let low = percent(fill.limit, settings.low_watermark);
        goal = low.min(fill.limit.saturating_sub(asked));
        let living = shared.sizes.with(|sizes| sizes.living());
        if living > goal {
            make_room(shared, writer, living - goal)?;
        }
        // What lives is below the goal now; what is dead may fill half of the way up to the high
        // watermark, unless somebody needs it.
        let middle = low.midpoint(too_full);
        goal = middle.min(fill.limit.saturating_sub(asked));
    }
    compact::packs(shared, writer, goal)
}

/// What an entry takes on disk.
const fn cost(key: &Key, entry: &Entry) -> u64 {
    match entry.place {
        Place::Pack { .. } => record::length(key.length(), entry.length),
        Place::File => large::disk_size(entry.length),
    }
}

/// Removes so many bytes of what was used least recently.
fn make_room(shared: &Shared, writer: &Writer, bytes: u64) -> Result<(), Fault> {
    let pinned = Pinned::collect(shared, writer)?;
    let mut ages: BTreeMap<u32, u64> = BTreeMap::new();
    each_entry(shared, |key, entry| {
        if !pinned.contains(key) {
            *ages.entry(entry.used / GROUP).or_default() += cost(key, entry);
        }
    })?;
    let mut older = 0;
    for (group, bytes_of_group) in ages {
        let begin = group.saturating_mul(GROUP);
        if older + bytes_of_group >= bytes {
            // All that is older goes, and of this group as much as is needed.
            return remove(shared, writer, begin, bytes - older);
        }
        older += bytes_of_group;
    }
    remove(shared, writer, u32::MAX, 0)
}

/// Removes what was used before some time, and of what was used in the group of times that begins
/// then, so many bytes.
fn remove(shared: &Shared, writer: &Writer, before: u32, some: u64) -> Result<(), Fault> {
    let mut pinned = Pinned::collect(shared, writer)?;
    let mut left = some;
    let until = before.saturating_add(GROUP);
    for kind in Kind::ALL {
        shared.each(kind, PAGE, |page| {
            pinned.refresh(shared, writer)?;
            let mut victims = Vec::new();
            for (key, entry) in page {
                let is_old = entry.used < before;
                let is_needed = entry.used < until && left > 0;
                if !(is_old || is_needed) || pinned.contains(&key) {
                    continue;
                }
                if !is_old {
                    left = left.saturating_sub(cost(&key, &entry));
                }
                victims.push((key, entry));
            }
            if !victims.is_empty() {
                // What was used meanwhile stays.
                writer.work(Work::Evict { victims })?;
            }
            Ok(!shared.bell.has_ended())
        })?;
    }
    Ok(())
}

fn each_entry(shared: &Shared, mut body: impl FnMut(&Key, &Entry)) -> Result<(), Fault> {
    for kind in Kind::ALL {
        shared.each(kind, PAGE, |page| {
            for (key, entry) in &page {
                body(key, entry);
            }
            Ok(!shared.bell.has_ended())
        })?;
    }
    Ok(())
}

impl Shared {
    /// Looks at all entries of a kind, page by page, each page as of its own moment; until `body`
    /// says `false`.
    pub(super) fn each(
        &self,
        kind: Kind,
        page: usize,
        mut body: impl FnMut(Vec<(Key, Entry)>) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let (first, end) = Key::bounds(kind);
        let mut from = first.to_vec();
        loop {
            let found = self.index.read(|index| index.page(&from, &end, page))?;
            let Some((last, _)) = found.last() else {
                return Ok(());
            };
            // The next key that there can be.
            from = last.as_bytes().to_vec();
            from.push(0);
            if !body(found)? {
                return Ok(());
            }
        }
    }

    /// Calls the keeper if the store is too full.
    pub(super) fn watch_fill(&self) {
        let fill = self.room.fill(self.layout.root());
        if fill.on_disk > percent(fill.limit, self.settings.high_watermark) {
            self.bell.ring();
        }
    }

    /// How often pins were changed.
    pub(super) fn pin_changes(&self) -> u64 {
        self.pin_changes.load(Ordering::Acquire)
    }
}

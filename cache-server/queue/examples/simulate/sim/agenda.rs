//! What is going to happen, in order.
//!
//! Most of what is set down is seconds away, and tens of thousands of it at once. So it lies
//! unordered in slices of time, and only the slice that is being lived through is kept in order.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use super::Happening;
use super::time::{MS, Time};

/// How long a slice is.
const SLICE: Time = 8 * MS;

/// Slices that there are: two minutes. What is later than those is kept apart.
const SLICES: usize = 16 << 10;

struct Entry {
    at: Time,
    order: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// All that is going to happen.
#[derive(Default)]
pub(super) struct Agenda {
    /// What happens before `end`.
    now: BinaryHeap<Reverse<Entry>>,
    end: Time,
    /// What happens in each of the slices from `end` on.
    slices: VecDeque<Vec<Reverse<Entry>>>,
    in_slices: usize,
    /// Slices that were emptied, the last one first: their memory is still near the processor.
    spare: Vec<Vec<Reverse<Entry>>>,
    /// What happens later still.
    far: BinaryHeap<Reverse<Entry>>,
    order: u64,
}

impl Agenda {
    /// Sets something down. What happens at one time happens in the order in which it came here.
    pub(super) fn add(&mut self, at: Time, what: Happening) {
        self.order += 1;
        let order = self.order;
        let entry = Reverse(Entry { at, order, what });
        let Some(after) = at.checked_sub(self.end) else {
            self.now.push(entry);
            return;
        };
        match usize::try_from(after / SLICE) {
            Ok(slice) if slice < SLICES => {
                if slice >= self.slices.len() {
                    self.slices.resize_with(slice + 1, Vec::new);
                }
                let slice = &mut self.slices[slice];
                if slice.capacity() == 0 {
                    *slice = self.spare.pop().unwrap_or_default();
                }
                slice.push(entry);
                self.in_slices += 1;
            }
            _ => self.far.push(entry),
        }
    }

    /// The next thing, and when.
    pub(super) fn next(&mut self) -> Option<(Time, Happening)> {
        while self.now.is_empty() {
            if self.in_slices == 0 {
                // Nothing is near.
                self.end = self.far.peek()?.0.at / SLICE * SLICE;
            }
            self.live_through();
        }
        let Reverse(entry) = self.now.pop()?;
        Some((entry.at, entry.what))
    }

    /// Goes on to the next slice.
    fn live_through(&mut self) {
        self.end += SLICE;
        if let Some(mut slice) = self.slices.pop_front()
            && slice.capacity() > 0
        {
            self.in_slices -= slice.len();
            self.now.extend(slice.drain(..));
            self.spare.push(slice);
        }
        while self
            .far
            .peek()
            .is_some_and(|Reverse(entry)| entry.at < self.end)
        {
            self.now.extend(self.far.pop());
        }
    }
}

//! The way from those who note events to the one who writes them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use ashlar_store::clock::Clock;
use tokio::sync::mpsc;

use super::event::{Event, Outcome};

/// As many events may wait to be written: some seconds of a busy server, some megabytes.
pub const CAPACITY: usize = 16 << 10;

/// What goes through the queue.
#[derive(Debug)]
pub(super) enum Item {
    /// An event, and when it was.
    Event(Box<Event>, SystemTime),
    /// Look at what has changed beside the queue.
    Wake,
}

struct Shared {
    sender: mpsc::Sender<Item>,
    clock: Clock,
    lost: AtomicU64,
    /// Whether the writer may leave once the queue is empty.
    is_over: AtomicBool,
}

/// Takes events. Cheap to clone.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Shared>>);

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(shared) => write!(f, "Audit({} lost)", shared.lost.load(Ordering::Relaxed)),
            None => f.write_str("Audit(none)"),
        }
    }
}

impl Audit {
    /// One that forgets everything.
    pub const fn none() -> Self {
        Self(None)
    }

    /// One with a queue for so many events, and the queue's other end.
    pub fn queue(capacity: usize, clock: Clock) -> (Self, Queue) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let shared = Arc::new(Shared {
            sender,
            clock,
            lost: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let queue = Queue {
            receiver,
            shared: shared.clone(),
            told: 0,
        };
        (Self(Some(shared)), queue)
    }

    /// Whether anybody wants to know.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Notes an event. Never waits: what finds the queue full is counted as lost.
    pub fn note(&self, event: Event) {
        let Some(shared) = &self.0 else { return };
        let sender = &shared.sender;
        // Those who are refused cost nobody the record of what was done.
        let is_spam =
            event.outcome == Outcome::Refused && sender.capacity() <= sender.max_capacity() / 4;
        let item = Item::Event(Box::new(event), (shared.clock)());
        if is_spam || sender.try_send(item).is_err() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were lost since the start.
    pub fn lost(&self) -> u64 {
        let shared = self.0.as_ref();
        shared.map_or(0, |shared| shared.lost.load(Ordering::Relaxed))
    }

    /// Counts events as lost that were taken, but could not be written.
    pub(super) fn lose(&self, count: u64) {
        if let Some(shared) = &self.0 {
            shared.lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Wakes the writer, if it sleeps.
    pub(super) fn wake(&self) {
        if let Some(shared) = &self.0 {
            // With a full queue, it is awake.
            let _full = shared.sender.try_send(Item::Wake);
        }
    }

    /// Lets the writer leave once the queue is empty.
    pub(super) fn end(&self) {
        if let Some(shared) = &self.0 {
            shared.is_over.store(true, Ordering::Release);
        }
        self.wake();
    }
}

/// The queue's other end.
pub struct Queue {
    receiver: mpsc::Receiver<Item>,
    shared: Arc<Shared>,
    /// Of how many lost events it was told.
    told: u64,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Waits for the next item. Not for threads of the runtime.
    pub(super) fn wait(&mut self) -> Option<Item> {
        self.receiver.blocking_recv()
    }

    /// Whether the writer may leave once the queue is empty.
    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    /// The next item, if it is there.
    pub(super) fn next_item(&mut self) -> Option<Item> {
        self.receiver.try_recv().ok()
    }

    /// The next event, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.next_item()? {
                Item::Event(event, _) => return Some(*event),
                Item::Wake => {}
            }
        }
    }

    /// How many events were lost since this was asked last.
    pub fn lost(&mut self) -> u64 {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let new = lost.saturating_sub(self.told);
        self.told = lost;
        new
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::audit::What;

    fn queue(capacity: usize) -> (Audit, Queue) {
        Audit::queue(capacity, Arc::new(|| UNIX_EPOCH))
    }

    #[test]
    fn events_come_out_as_they_went_in() {
        let (audit, mut queue) = queue(8);
        audit.note(Event::new(What::Pin));
        audit.note(Event::new(What::Unpin).refused("no"));
        let what = |event: Option<Event>| event.map(|event| event.what);
        assert_eq!(what(queue.next_event()), Some(What::Pin));
        assert_eq!(what(queue.next_event()), Some(What::Unpin));
        assert_eq!(what(queue.next_event()), None);
        assert_eq!(queue.lost(), 0);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (audit, mut queue) = queue(4);
        for _ in 0..6 {
            audit.note(Event::new(What::Pin));
        }
        assert_eq!(audit.lost(), 2);
        assert_eq!(queue.lost(), 2);
        assert_eq!(queue.lost(), 0, "it was told");
        assert_eq!(audit.lost(), 2, "all in all");
    }

    #[test]
    fn refusals_do_not_take_the_last_room() {
        let (audit, mut queue) = queue(8);
        for _ in 0..100 {
            audit.note(Event::new(What::Request).refused("no"));
        }
        audit.note(Event::new(What::Write));
        let mut found = Vec::new();
        while let Some(event) = queue.next_event() {
            found.push(event.what);
        }
        assert_eq!(found.len(), 7);
        assert_eq!(found.last(), Some(&What::Write));
        assert_eq!(audit.lost(), 94);
    }

    #[test]
    fn nobody_has_to_listen() {
        let audit = Audit::none();
        audit.note(Event::new(What::Pin));
        assert_eq!((audit.is_on(), audit.lost()), (false, 0));
        let (audit, queue) = queue(1);
        drop(queue);
        audit.note(Event::new(What::Pin));
        assert_eq!(audit.lost(), 1);
    }
}

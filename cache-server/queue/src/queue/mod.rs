//! The queue's state, and how it answers events.

use std::time::Duration;

use crate::{
    Counts, Cursor, Effect, Event, Filter, KindView, OperationId, OperationView, Record, Settings,
    Waiting, WorkerView,
};

/// The queue.
#[derive(Debug)]
pub struct Queue {
    settings: Settings,
}

impl Queue {
    /// An empty queue. `epoch` is larger than that of any queue that workers of the farm may have
    /// work of: how often the store was opened, or the number under which this server leads.
    /// Fencing numbers begin with it.
    pub fn new(settings: Settings, epoch: u32, now: Duration) -> Self {
        let _ = (epoch, now);
        Self { settings }
    }

    /// A queue that goes on with what another has persisted. What ran runs on, for a lease's time,
    /// at workers that say so; builds have their grace from now on.
    pub fn restore(
        settings: Settings,
        epoch: u32,
        records: impl IntoIterator<Item = Record>,
        now: Duration,
    ) -> Self {
        let _ = records.into_iter().count();
        Self::new(settings, epoch, now)
    }

    /// Takes note of an event, and says what is to be done.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let _ = (event, now, &self.settings);
        Vec::new()
    }

    /// When a [`Event::Tick`] is due.
    pub fn next_wake(&self) -> Option<Duration> {
        None
    }

    /// An operation that is remembered.
    pub fn view(&self, operation: OperationId) -> Option<OperationView> {
        let _ = operation;
        None
    }

    /// Why an operation waits, if it does.
    pub fn waiting(&self, operation: OperationId) -> Option<Waiting> {
        let _ = operation;
        None
    }

    /// Operations that match, the newest first, after `after`.
    pub fn list(&self, filter: &Filter, after: Option<Cursor>, most: usize) -> Vec<OperationView> {
        let _ = (filter, after, most);
        Vec::new()
    }

    /// Workers that are there for a namespace, by what they have; the most slots first.
    pub fn kinds(&self, namespace: &str) -> Vec<KindView> {
        let _ = namespace;
        Vec::new()
    }

    /// All workers.
    pub fn workers(&self) -> Vec<WorkerView> {
        Vec::new()
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts::default()
    }

    /// What waits in a namespace.
    pub fn queued_in(&self, namespace: &str) -> usize {
        let _ = namespace;
        0
    }
}

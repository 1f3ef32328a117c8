//! What the queue knows of workers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::kind::KindId;
use super::layers::Holdings;
use crate::hash::{Layered, mix_str};
use crate::{ConnectionId, OperationId, WorkerView};

/// A worker's number, while it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkerIndex(pub(super) u32);

/// Something that a worker has, as far as the queue knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) fencing: u64,
    pub(super) light: bool,
    /// Until when it is believed to run it.
    pub(super) lease: Duration,
    /// It has said that it has it.
    pub(super) known: bool,
    /// Until when its time is charged, at least: there is no need to look.
    pub(super) paid: Duration,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    /// Its place on the ring.
    pub(super) ring: u64,
    /// None before it has said Hello to this queue.
    pub(super) kind: Option<KindId>,
    pub(super) properties: Arc<BTreeMap<String, String>>,
    pub(super) namespaces: Arc<[Arc<str>]>,
    pub(super) slots: u32,
    /// How many more it takes, where that is less than its free slots.
    pub(super) allowance: Option<u32>,
    pub(super) draining: bool,
    pub(super) why: Arc<str>,
    pub(super) connection: Option<ConnectionId>,
    /// When it last said anything.
    pub(super) heard: Duration,
    pub(super) silent: bool,
    /// Changes with each Hello: which timer is its own.
    pub(super) watch: u64,
    /// Kept for what may follow what it has done.
    pub(super) lingers: Option<Duration>,
    /// All that it may be running, what was cancelled included.
    pub(super) running: HashMap<OperationId, Held, Layered>,
    /// Slots that `running` takes.
    pub(super) used: u32,
    /// Light ones of `running`.
    pub(super) light: u32,
    pub(super) holdings: Holdings,
    /// It is among the free ones of its kind, and among those present.
    pub(super) listed_free: bool,
    pub(super) listed_present: bool,
}

impl Worker {
    pub(super) fn new(id: Arc<str>, name: Arc<str>, heard: Duration) -> Self {
        Self {
            ring: mix_str(&id),
            id,
            name,
            kind: None,
            properties: Arc::default(),
            namespaces: Arc::from([]),
            slots: 0,
            allowance: None,
            draining: false,
            why: Arc::from(""),
            connection: None,
            heard,
            silent: false,
            watch: 0,
            lingers: None,
            running: HashMap::default(),
            used: 0,
            light: 0,
            holdings: Holdings::default(),
            listed_free: false,
            listed_present: false,
        }
    }

    /// It may be given something, if it has room.
    pub(super) const fn is_present(&self) -> bool {
        self.connection.is_some() && !self.draining && !self.silent && self.kind.is_some()
    }

    /// How many more it takes, light ones apart.
    pub(super) fn free(&self) -> u32 {
        if !self.is_present() {
            return 0;
        }
        let free = self.slots.saturating_sub(self.used);
        self.allowance.map_or(free, |allowance| free.min(allowance))
    }

    /// Takes note of something that it may be running.
    pub(super) fn hold(&mut self, operation: OperationId, held: Held) {
        self.release(operation);
        if held.light {
            self.light += 1;
        } else {
            self.used += 1;
        }
        self.running.insert(operation, held);
    }

    /// Takes note that it does not run something any more.
    pub(super) fn release(&mut self, operation: OperationId) -> Option<Held> {
        let held = self.running.remove(&operation)?;
        if held.light {
            self.light = self.light.saturating_sub(1);
        } else {
            self.used = self.used.saturating_sub(1);
        }
        Some(held)
    }

    /// The same, if it is under this number.
    pub(super) fn release_if(&mut self, operation: OperationId, fencing: u64) -> Option<Held> {
        let held = self.running.get(&operation)?;
        if held.fencing == fencing {
            self.release(operation)
        } else {
            None
        }
    }

    /// How full it is: a part of 65,536.
    pub(super) fn load(&self) -> u64 {
        (u64::from(self.used) << 16) / u64::from(self.slots.max(1))
    }

    pub(super) fn view(&self) -> WorkerView {
        let mut running: Vec<_> = self.running.keys().copied().collect();
        running.sort_unstable();
        WorkerView {
            worker: self.id.clone(),
            name: self.name.clone(),
            slots: self.slots,
            running,
            connected: self.connection.is_some(),
            draining: self.draining,
            silent: self.silent,
            why: self.why.clone(),
        }
    }
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    all: Vec<Option<Worker>>,
    /// Whether each has a slot, apart from all else: decisions look at many that have none.
    free: Vec<bool>,
    unused: Vec<WorkerIndex>,
    by_id: HashMap<Arc<str>, WorkerIndex>,
    by_connection: HashMap<ConnectionId, WorkerIndex, Layered>,
}

impl Workers {
    pub(super) fn get(&self, index: WorkerIndex) -> Option<&Worker> {
        self.all.get(index.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: WorkerIndex) -> Option<&mut Worker> {
        self.all.get_mut(index.0 as usize)?.as_mut()
    }

    /// Whether a worker has a slot, as it was said last.
    pub(super) fn is_free(&self, index: WorkerIndex) -> bool {
        self.free.get(index.0 as usize).copied().unwrap_or(false)
    }

    pub(super) fn set_free(&mut self, index: WorkerIndex, is_free: bool) {
        if let Some(free) = self.free.get_mut(index.0 as usize) {
            *free = is_free;
        }
    }

    pub(super) fn by_id(&self, id: &str) -> Option<WorkerIndex> {
        self.by_id.get(id).copied()
    }

    pub(super) fn by_connection(&self, connection: ConnectionId) -> Option<WorkerIndex> {
        self.by_connection.get(&connection).copied()
    }

    pub(super) fn insert(&mut self, worker: Worker) -> WorkerIndex {
        let id = worker.id.clone();
        let index = if let Some(index) = self.unused.pop() {
            self.all[index.0 as usize] = Some(worker);
            index
        } else {
            let index = WorkerIndex(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
            self.all.push(Some(worker));
            self.free.push(false);
            index
        };
        self.by_id.insert(id, index);
        index
    }

    pub(super) fn remove(&mut self, index: WorkerIndex) -> Option<Worker> {
        let worker = self.all.get_mut(index.0 as usize)?.take()?;
        self.set_free(index, false);
        self.unused.push(index);
        self.by_id.remove(&worker.id);
        if let Some(connection) = worker.connection {
            self.by_connection.remove(&connection);
        }
        Some(worker)
    }

    /// A worker speaks through a connection. Gives the one that it had before.
    pub(super) fn connect(
        &mut self,
        index: WorkerIndex,
        connection: ConnectionId,
    ) -> Option<ConnectionId> {
        let worker = self.all.get_mut(index.0 as usize)?.as_mut()?;
        let before = worker.connection.replace(connection);
        if let Some(before) = before {
            self.by_connection.remove(&before);
        }
        self.by_connection.insert(connection, index);
        before
    }

    /// A connection has ended.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Option<WorkerIndex> {
        let index = self.by_connection.remove(&connection)?;
        self.get_mut(index)?.connection = None;
        Some(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerIndex, &Worker)> {
        self.all.iter().enumerate().filter_map(|(at, worker)| {
            Some((
                WorkerIndex(u32::try_from(at).unwrap_or(u32::MAX)),
                worker.as_ref()?,
            ))
        })
    }

    pub(super) fn connected(&self) -> usize {
        self.by_connection.len()
    }
}

//! A worker, as far as the queue can tell.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use ashlar_queue::{Assignment, ConnectionId, Effect, Hello, Outcome, Submission};

use super::load::Plan;
use super::rng::Map;
use super::time::Time;

/// Layers that a machine keeps.
const LAYERS: usize = 200;

/// What a machine does.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    Segment(Rc<Plan>, usize),
    /// A segment that all who built it are done with: its result.
    Made(u64),
    /// A whole build, by its number.
    Whole(usize),
}

/// Something that it was given.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) assignment: Assignment,
    pub(crate) submission: Arc<Submission>,
    pub(crate) job: Job,
    pub(crate) started: Time,
    /// When it is done; another time makes an event of the old one void.
    pub(crate) ends: Time,
    /// Said, and not heard to have arrived.
    pub(crate) outcome: Option<Outcome>,
}

/// What has happened to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// It is off.
    Down,
    /// It is stopped, until then.
    Hung(Time),
    /// Nothing comes through, until then.
    Cut(Time),
}

/// A machine and the worker on it.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: Arc<str>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) namespaces: Vec<Arc<str>>,
    pub(crate) slots: u32,
    /// Of this start of it.
    pub(crate) life: u32,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) trouble: Trouble,
    pub(crate) draining: bool,
    pub(crate) tasks: Vec<Task>,
    /// What came while it was stopped.
    pub(crate) inbox: Vec<Effect>,
    /// When the last message of each direction arrives: they keep their order.
    pub(crate) sent: Time,
    pub(crate) received: Time,
    layers: Map<u64, u64>,
    tick: u64,
}

impl Machine {
    pub(crate) fn new(
        id: Arc<str>,
        properties: BTreeMap<String, String>,
        namespaces: Vec<Arc<str>>,
        slots: u32,
    ) -> Self {
        Self {
            id,
            properties,
            namespaces,
            slots,
            life: 0,
            connection: None,
            trouble: Trouble::None,
            draining: false,
            tasks: Vec::new(),
            inbox: Vec::new(),
            sent: 0,
            received: 0,
            layers: Map::default(),
            tick: 0,
        }
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            worker: self.id.clone(),
            name: self.id.clone(),
            slots: self.slots,
            properties: self.properties.clone(),
            namespaces: self.namespaces.clone(),
            running: self.running(),
        }
    }

    pub(crate) fn running(&self) -> Vec<Assignment> {
        self.tasks.iter().map(|task| task.assignment).collect()
    }

    pub(crate) fn holdings(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.layers.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Slots that are taken.
    pub(crate) fn used(&self) -> usize {
        self.tasks
            .iter()
            .filter(|task| !task.submission.light && task.outcome.is_none())
            .count()
    }

    pub(crate) fn has(&self, layer: u64) -> bool {
        self.layers.contains_key(&layer)
    }

    /// Uses layers: those that are new, and those that had to go for them.
    pub(crate) fn touch(&mut self, layers: impl Iterator<Item = u64>) -> (Vec<u64>, Vec<u64>) {
        let mut added = Vec::new();
        for layer in layers {
            self.tick += 1;
            if self.layers.insert(layer, self.tick).is_none() {
                added.push(layer);
            }
        }
        let mut removed = Vec::new();
        if self.layers.len() > LAYERS {
            let mut by_age: Vec<(u64, u64)> = self
                .layers
                .iter()
                .map(|(&layer, &tick)| (tick, layer))
                .collect();
            by_age.sort_unstable();
            for (_, layer) in by_age.into_iter().take(self.layers.len() - LAYERS * 9 / 10) {
                self.layers.remove(&layer);
                removed.push(layer);
            }
            added.retain(|layer| self.layers.contains_key(layer));
        }
        (added, removed)
    }

    /// It is another worker from now on.
    pub(crate) fn reborn(&mut self, id: Arc<str>, keeps_disk: bool) {
        self.id = id;
        self.life += 1;
        self.connection = None;
        self.trouble = Trouble::Down;
        self.draining = false;
        self.tasks.clear();
        self.inbox.clear();
        if !keeps_disk {
            self.layers.clear();
        }
    }
}

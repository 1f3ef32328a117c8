//! What can be seen.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Queue;
use super::kind::{self, Class, Kind};
use super::operation::{Operation, State};
use crate::{Counts, Cursor, Filter, KindView, OperationId, OperationView, Waiting, WorkerView};

/// Operations that one listing looks at. What a filter lets through is rarely further apart.
const LOOKS: usize = 100_000;
/// Workers that are looked at for what they say.
const ASKED: usize = 16;

impl Queue {
    /// An operation that is remembered.
    pub fn view(&self, operation: OperationId) -> Option<OperationView> {
        self.operations
            .get(&operation)
            .map(|held| held.view(operation))
    }

    /// Why an operation waits, if it does.
    pub fn waiting(&self, operation: OperationId) -> Option<Waiting> {
        let held = self.operations.get(&operation)?;
        let time = self.clock.time();
        match &held.state {
            State::Resting { until, why } => Some(Waiting::Rests {
                message: why.clone(),
                left: until.saturating_sub(time),
            }),
            State::Ready => {
                let class = held.class.and_then(|class| self.kinds.class(class))?;
                Some(self.waiting_ready(operation, held, class))
            }
            State::Arriving | State::Running(_) | State::Ended { .. } => None,
        }
    }

    fn waiting_ready(&self, id: OperationId, held: &Operation, class: &Class) -> Waiting {
        let namespace = &held.owner.build.namespace;
        let wanted = || kind::describe(&class.requirements);
        let kinds: Vec<_> = self
            .serving(class, namespace)
            .map(|(_, kind)| kind)
            .collect();
        if kinds.is_empty() {
            return Waiting::NoWorker {
                wanted: wanted(),
                other_namespaces: !class.kinds.is_empty(),
            };
        }
        if kinds.iter().all(|kind| kind.present.is_empty()) {
            let members = kinds.iter().flat_map(|kind| &kind.members).take(ASKED);
            let mut reasons = members.filter_map(|&index| {
                let worker = self.workers.get(index)?;
                let why = if !worker.why.is_empty() {
                    worker.why.clone()
                } else if worker.connection.is_none() {
                    "its connection is broken".into()
                } else if worker.draining {
                    "it drains".into()
                } else if worker.silent {
                    "it does not answer".into()
                } else {
                    return None;
                };
                Some(format!("{}: {why}", worker.name).into())
            });
            let why: Arc<str> = reasons.next().unwrap_or_else(|| "".into());
            return Waiting::NoneTakes {
                wanted: wanted(),
                why,
            };
        }
        if held.submission.light {
            let before = class.light.range(..(held.urgency.sequence, id)).count();
            return Waiting::Others { before };
        }
        if kinds.iter().all(|kind| kind.free.is_empty())
            && let Some(why) = self.held_back(&kinds)
        {
            return Waiting::NoneTakes {
                wanted: wanted(),
                why,
            };
        }
        let before = class.ready.before(id, &held.place());
        if held.hold.is_some_and(|hold| hold.until > self.clock.time()) && before == 0 {
            return Waiting::Held;
        }
        Waiting::Others { before }
    }

    /// What a worker says that would have a slot and takes nothing.
    fn held_back(&self, kinds: &[&Kind]) -> Option<Arc<str>> {
        let present = kinds.iter().flat_map(|kind| &kind.present).take(ASKED);
        let mut workers = present.filter_map(|&(_, index)| self.workers.get(index));
        let worker = workers.find(|worker| !worker.why.is_empty() && worker.used < worker.slots)?;
        Some(format!("{}: {}", worker.name, worker.why).into())
    }

    /// Operations that match, the newest first, after `after`.
    pub fn list(&self, filter: &Filter, after: Option<Cursor>, most: usize) -> Vec<OperationView> {
        let order = if filter.whole {
            &self.whole_by_time
        } else {
            &self.by_time
        };
        let end = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded((after.submitted, after.operation))
        });
        let asks = |held: &Operation| {
            let build = &held.owner.build;
            filter
                .namespace
                .as_ref()
                .is_none_or(|namespace| build.namespace == *namespace)
                && filter.user.as_ref().is_none_or(|user| build.user == *user)
        };
        order
            .range((Bound::Unbounded, end))
            .rev()
            .take(LOOKS)
            .filter_map(|&(_, id)| Some((id, self.operations.get(&id)?)))
            .filter(|(_, held)| asks(held))
            .map(|(id, held)| held.view(id))
            .take(most)
            .collect()
    }

    /// Workers that are there for a namespace, by what they have; the most slots first.
    pub fn kinds(&self, namespace: &str) -> Vec<KindView> {
        // By address first: nearly all that have the same share it.
        let mut found: HashMap<*const (), KindView> = HashMap::new();
        for (_, worker) in self.workers.iter() {
            if worker.connection.is_none() || !kind::serves(&worker.namespaces, namespace) {
                continue;
            }
            let view = found
                .entry(Arc::as_ptr(&worker.properties).cast())
                .or_insert_with(|| KindView {
                    properties: (*worker.properties).clone(),
                    workers: 0,
                    slots: 0,
                    free_slots: 0,
                });
            view.workers += 1;
            view.slots = view.slots.saturating_add(worker.slots);
            view.free_slots = view.free_slots.saturating_add(worker.free());
        }
        let mut views: Vec<KindView> = found.into_values().collect();
        views.sort_by(|a, b| a.properties.cmp(&b.properties));
        views.dedup_by(|same, first| {
            let is_same = same.properties == first.properties;
            if is_same {
                first.workers += same.workers;
                first.slots = first.slots.saturating_add(same.slots);
                first.free_slots = first.free_slots.saturating_add(same.free_slots);
            }
            is_same
        });
        views.sort_by_key(|view| Reverse(view.slots));
        views
    }

    /// All workers, those included that are away and have not lost their leases.
    pub fn workers(&self) -> Vec<WorkerView> {
        self.workers
            .iter()
            .map(|(_, worker)| worker.view())
            .collect()
    }

    /// How much there is. Looks at all workers: for metrics, not for each request.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.workers = self.workers.connected();
        counts.poisoned = self.poisons.len();
        for (_, worker) in self
            .workers
            .iter()
            .filter(|(_, worker)| worker.connection.is_some())
        {
            counts.slots += u64::from(worker.slots);
            counts.free_slots += u64::from(worker.free());
        }
        counts
    }

    /// What waits in a namespace.
    pub fn queued_in(&self, namespace: &str) -> usize {
        self.queued.get(namespace).copied().unwrap_or(0)
    }
}

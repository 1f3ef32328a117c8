//! What must hold between the queue's parts, after each step.

use std::collections::HashMap;

use crate::queue::Queue;
use crate::queue::operation::State;

impl Queue {
    /// Panics if two parts say different things.
    pub(super) fn check(&self) {
        let mut queued: HashMap<_, usize> = HashMap::new();
        let (mut running, mut ready, mut light) = (0, 0, 0);
        for (id, operation) in &self.operations {
            assert!(self.by_time.contains(&(operation.submitted, *id)));
            if operation.is_queued() {
                *queued
                    .entry(operation.owner.build.namespace.clone())
                    .or_default() += 1;
            }
            match &operation.state {
                State::Arriving => panic!("{id} never arrived"),
                State::Running(of) => {
                    running += 1;
                    let worker = self.workers.get(of.worker).expect("its worker is known");
                    assert_eq!(worker.id, of.worker_id);
                    assert_eq!(worker.running[id].fencing, of.fencing);
                }
                State::Ready if operation.submission.light => light += 1,
                State::Ready => ready += 1,
                State::Resting { .. } | State::Ended { .. } => {}
            }
            assert_eq!(operation.is_ended(), operation.class.is_none());
            assert!(
                operation.is_ended() || !operation.builds.is_empty(),
                "{id} is wanted by nobody"
            );
        }
        assert_eq!(queued, self.queued);
        assert_eq!(queued.values().sum::<usize>(), self.counts.queued);
        assert_eq!(running, self.counts.running);
        assert_eq!((ready, light), (self.waiting, self.waiting_light));
        for (index, worker) in self.workers.iter() {
            let used = worker.running.values().filter(|held| !held.light).count();
            assert_eq!(used, worker.used as usize);
            assert!(
                used <= worker.slots as usize || worker.connection.is_none() || worker.slots == 0
            );
            assert!(
                worker.connection.is_some() || !worker.running.is_empty(),
                "it is forgotten"
            );
            let Some(kind) = worker.kind.and_then(|kind| self.kinds.kind(kind)) else {
                continue;
            };
            assert!(kind.members.contains(&index));
            assert_eq!(
                kind.present.contains(&(worker.ring, index)),
                worker.is_present()
            );
            assert_eq!(self.workers.is_free(index), worker.free() > 0);
            let is_free = worker.free() > 0 && worker.lingers.is_none();
            assert_eq!(kind.free.contains(&(worker.ring, index)), is_free);
        }
        assert!(self.joinable.values().all(|id| {
            self.operations
                .get(id)
                .is_some_and(|operation| !operation.is_ended())
        }));
    }
}

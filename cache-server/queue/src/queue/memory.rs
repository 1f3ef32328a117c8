//! What has ended, for as long as it is remembered.

use std::collections::VecDeque;
use std::time::Duration;

use super::Queue;
use super::operation::State;
use crate::{Effect, End, OperationId};

/// Operations that have ended, the oldest end first.
#[derive(Debug, Default)]
pub(super) struct Memory {
    usual: VecDeque<Ended>,
    whole: VecDeque<Ended>,
    bytes: usize,
}

#[derive(Debug)]
struct Ended {
    operation: OperationId,
    /// By the queue's time.
    at: Duration,
    bytes: usize,
}

impl Queue {
    pub(super) fn remember(&mut self, id: OperationId) {
        let at = self.clock.time();
        let Some(operation) = self.operations.get_mut(&id) else {
            return;
        };
        let bytes = match &operation.state {
            State::Ended {
                end: End::Done(done),
                ..
            } => done.outcome.len(),
            _ => 0,
        };
        let ended = Ended {
            operation: id,
            at,
            bytes,
        };
        self.memory.bytes += bytes;
        if operation.submission.whole {
            self.memory.whole.push_back(ended);
        } else {
            self.memory.usual.push_back(ended);
        }
        self.counts.remembered += 1;
    }

    pub(super) fn forget_old(&mut self) {
        let time = self.clock.time();
        loop {
            let is_heavy = self.memory.bytes > self.settings.remembered_bytes;
            let goes = |list: &VecDeque<Ended>, keep: Duration, is_heavy: bool| {
                list.len() > self.settings.remembered
                    || list
                        .front()
                        .is_some_and(|ended| is_heavy || ended.at + keep <= time)
            };
            let is_usual = goes(&self.memory.usual, self.settings.remember, is_heavy);
            let ended = if is_usual {
                self.memory.usual.pop_front()
            } else {
                let is_heavy = is_heavy && self.memory.usual.is_empty();
                goes(&self.memory.whole, self.settings.remember_builds, is_heavy)
                    .then(|| self.memory.whole.pop_front())
                    .flatten()
            };
            let Some(ended) = ended else { return };
            self.memory.bytes = self.memory.bytes.saturating_sub(ended.bytes);
            self.counts.remembered = self.counts.remembered.saturating_sub(1);
            if let Some(operation) = self.operations.remove(&ended.operation) {
                self.by_time.remove(&(operation.submitted, ended.operation));
                self.whole_by_time
                    .remove(&(operation.submitted, ended.operation));
            }
            self.effects.push(Effect::Forget(ended.operation));
        }
    }
}

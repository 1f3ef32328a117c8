//! The queue of one server, for as long as it leads: steps it with the time, and does what it wants
//! done.
//!
//! Effects are carried out where the event was, under the lock, unless there is a journal. With one,
//! they are carried out in their order by the task that writes it, behind what they follow from.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ashlar_queue::{Effect, Event, OperationId, Queue, RecordState, Settings, Stage};
use ashlar_store::clock::Clock;
use ashlar_store::task::{Task, spawn};
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::counts::{QueueNow, Tally};
use super::journal::{Journal, Noted, Taken};
use super::state::{State, since_epoch};

/// Time is told at least this often.
const TICK: Duration = Duration::from_millis(500);

/// And no more often than this.
const SHORTEST: Duration = Duration::from_millis(1);

/// So often it is said why operations wait.
const EXPLAIN: Duration = Duration::from_secs(1);

/// Of so many operations at once.
const EXPLAINED: usize = 200;

/// The queue while this server leads. Ends with [`Self::end`].
#[derive(Debug)]
pub struct Dispatcher {
    state: Mutex<State>,
    /// When it began, and what time it was.
    began: Instant,
    began_at: Duration,
    numbers: AtomicU64,
    /// Wakes whoever tells the time.
    sooner: Arc<Notify>,
    /// Where effects go if there is a journal.
    journal: Option<mpsc::UnboundedSender<Vec<Noted>>>,
    over: CancellationToken,
    tasks: Mutex<Vec<Task<()>>>,
}

/// What a queue begins with.
#[derive(Debug, Default)]
pub struct Start {
    /// Larger than that of any queue before.
    pub epoch: u32,
    /// What is left of the queue before. `None`: there was none.
    pub taken: Option<Taken>,
    /// Where it is kept what is to outlive this server.
    pub journal: Option<Journal>,
}

impl Dispatcher {
    /// Begins. Has to be called within a runtime.
    pub fn start(settings: Settings, start: Start, clock: &Clock, tally: Arc<Tally>) -> Arc<Self> {
        let began_at = since_epoch(clock());
        let Start {
            epoch,
            taken,
            journal,
        } = start;
        let grace = settings.grace;
        let mut state = match taken {
            None => State::new(Queue::new(settings, epoch, began_at), tally),
            Some(taken) => restored(settings, taken, (epoch, began_at), tally),
        };
        state.grace = grace;
        let (sender, receiver) = mpsc::unbounded_channel();
        let dispatcher = Arc::new(Self {
            state: Mutex::new(state),
            began: Instant::now(),
            began_at,
            numbers: AtomicU64::new(1),
            sooner: Arc::default(),
            journal: journal.is_some().then_some(sender),
            over: CancellationToken::new(),
            tasks: Mutex::default(),
        });
        let mut tasks = vec![spawn(tell_time(Arc::downgrade(&dispatcher)))];
        if let Some(journal) = journal {
            let weak = Arc::downgrade(&dispatcher);
            tasks.push(spawn(super::journal::run(journal, receiver, weak)));
        }
        *dispatcher.tasks() = tasks;
        dispatcher
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Task<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the queue is driven with.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that nothing else has: of a stream, a connection, a session.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The time, as the queue has it.
    pub fn now(&self) -> Duration {
        self.began_at + self.began.elapsed()
    }

    /// Ends when this server does not have the queue any more.
    pub const fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Something happened.
    pub fn happen(&self, event: Event) {
        let mut state = self.state();
        self.drive(&mut state, event);
    }

    /// Something happened, and the state is at hand.
    pub fn drive(&self, state: &mut State, event: Event) {
        if self.over.is_cancelled() {
            return;
        }
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let effects = state.queue.step(event, self.now());
            match &self.journal {
                None => {
                    for effect in effects {
                        state.apply(effect, &mut events);
                    }
                }
                Some(journal) if !effects.is_empty() => {
                    let noted = effects.into_iter().map(|effect| {
                        let is_sealed = state.is_sealed(&effect);
                        (effect, is_sealed)
                    });
                    // Its reader ends with the queue.
                    let _over = journal.send(noted.collect());
                }
                Some(_) => {}
            }
        }
        self.sooner.notify_one();
    }

    /// Effects of which the journal has what it is to have.
    pub fn carry_out(&self, effects: impl IntoIterator<Item = Effect>) {
        let mut state = self.state();
        let mut events = VecDeque::new();
        for effect in effects {
            state.apply(effect, &mut events);
        }
        for event in events {
            self.drive(&mut state, event);
        }
    }

    /// Another server has the queue.
    pub fn lose(&self) {
        self.over.cancel();
    }

    /// Operations that were taken over without what was sealed for them: they are queued as soon as
    /// their client has come with it again, and end if it does not come in time.
    pub fn release(&self, state: &mut State) {
        let now = self.now().saturating_sub(self.began_at);
        for (operation, submission, is_lost) in state.release(now) {
            self.drive(
                state,
                Event::Submit {
                    operation,
                    waiter: None,
                    submission,
                },
            );
            if is_lost {
                let by = ashlar_queue::Canceller::Operator;
                self.drive(state, Event::Cancel { operation, by });
            }
        }
    }

    /// The queue is not here any more: everybody is told why, and to come again.
    pub fn end(&self, why: &Status) {
        self.over.cancel();
        self.state().end_all(why);
        self.tasks().clear();
    }

    /// What there is now.
    pub fn counted(&self, namespaces: &[String]) -> QueueNow {
        let state = self.state();
        let queued = namespaces
            .iter()
            .map(|namespace| (namespace.clone(), state.queue.queued_in(namespace)));
        QueueNow {
            leads: true,
            counts: state.queue.counts(),
            sessions: state.sessions.count(),
            bytes: state.bytes,
            queued: queued.filter(|(_, queued)| *queued > 0).collect(),
        }
    }

    /// Says why some operations wait.
    fn explain(&self, next: &mut usize) {
        let mut state = self.state();
        let waiting = state
            .operations
            .iter()
            .filter(|(_, operation)| matches!(operation.shown.borrow().stage, Stage::Queued))
            .map(|(id, _)| *id);
        let mut waiting: Vec<OperationId> = waiting.collect();
        waiting.sort_unstable();
        let start = if *next >= waiting.len() { 0 } else { *next };
        let some = waiting.iter().skip(start).take(EXPLAINED);
        let some: Vec<_> = some.copied().collect();
        *next = start + some.len();
        state.explain(&some);
    }
}

/// A queue that goes on with what another left.
fn restored(
    settings: Settings,
    taken: Taken,
    (epoch, now): (u32, Duration),
    tally: Arc<Tally>,
) -> State {
    let (mut records, mut held, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    for (record, is_sealed) in taken.records {
        match &record.state {
            RecordState::Running { assignment, .. } => heard.push(*assignment),
            RecordState::Queued if is_sealed => {
                held.push((record.operation, record.submission.clone()));
                continue;
            }
            RecordState::Queued | RecordState::Ended { .. } => {}
        }
        records.push(record);
    }
    let queue = Queue::restore(settings, epoch, records, now);
    let mut state = State::new(queue, tally);
    state.held = held;
    // Behind all that anybody was told by another server.
    state.first_event = u64::from(epoch) << 31;
    for assignment in heard {
        if let Some(operation) = state.operation(assignment.operation) {
            operation.heard.fence = assignment.fencing;
        }
    }
    state
}

/// Tells the queue what time it is, when it wants to know.
async fn tell_time(dispatcher: std::sync::Weak<Dispatcher>) {
    let mut next = 0;
    let mut explained = Instant::now();
    loop {
        let Some(strong) = dispatcher.upgrade() else {
            return;
        };
        let wake = strong.state().queue.next_wake();
        let wait = wake.map_or(TICK, |wake| wake.saturating_sub(strong.now()));
        let sooner = strong.sooner.clone();
        // Whoever ends the queue need not wait for this one.
        drop(strong);
        let is_due = tokio::select! {
            () = tokio::time::sleep(wait.clamp(SHORTEST, TICK)) => true,
            () = sooner.notified() => false,
        };
        let Some(strong) = dispatcher.upgrade() else {
            return;
        };
        if is_due {
            let mut state = strong.state();
            strong.drive(&mut state, Event::Tick);
            strong.release(&mut state);
        }
        if explained.elapsed() >= EXPLAIN {
            explained = Instant::now();
            strong.explain(&mut next);
        }
    }
}

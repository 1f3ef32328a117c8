//! The place where events meet time: one lock around book and display, and a thread that wakes
//! the display at its deadlines, started when the first deadline is named.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use ashlar_engine::event::BuildEvent;

use super::Display;
use super::book::Book;

pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    begin: Instant,
    state: Mutex<State>,
    /// Signalled when a deadline comes nearer, and at the end.
    wake: Condvar,
}

struct State {
    book: Book,
    display: Box<dyn Display>,
    finished: bool,
    thread_started: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a half-drawn frame.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's life.
    fn keep_deadlines(&self) {
        let mut state = self.lock();
        while !state.finished {
            let now = self.begin.elapsed();
            let State { book, display, .. } = &mut *state;
            state = match display.deadline(book) {
                Some(deadline) if deadline <= now => {
                    display.tick(now, book);
                    state
                }
                Some(deadline) => {
                    self.wake
                        .wait_timeout(state, deadline - now)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Ticker {
    pub(super) fn new(display: Box<dyn Display>) -> Self {
        Self {
            shared: Arc::new(Shared {
                begin: Instant::now(),
                state: Mutex::new(State {
                    book: Book::default(),
                    display,
                    finished: false,
                    thread_started: false,
                }),
                wake: Condvar::new(),
            }),
            thread: Mutex::new(None),
        }
    }

    pub(super) fn event(&self, event: &BuildEvent) {
        let mut state = self.shared.lock();
        if state.finished {
            return;
        }
        let now = self.shared.begin.elapsed();
        let State { book, display, .. } = &mut *state;
        let before = display.deadline(book);
        book.enter(now, event, |vertex, stream, line| {
            display.line(now, vertex, stream, line);
        });
        display.event(now, book, event);
        let after = display.deadline(book);
        let sooner = after.is_some_and(|after| before.is_none_or(|before| after < before));
        if !sooner {
            return;
        }
        let start = !state.thread_started;
        state.thread_started = true;
        drop(state);
        if start {
            self.start_thread();
        } else {
            self.shared.wake.notify_all();
        }
    }

    fn start_thread(&self) {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || shared.keep_deadlines());
        // Without the thread, deadlines are missed and the next event shows what they held back.
        if let Ok(thread) = thread {
            *self.lock_thread() = Some(thread);
        }
    }

    fn lock_thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn has_thread(&self) -> bool {
        self.shared.lock().thread_started
    }

    pub(super) fn finish(&self) {
        let mut state = self.shared.lock();
        if !state.finished {
            state.finished = true;
            let now = self.shared.begin.elapsed();
            let State { book, display, .. } = &mut *state;
            display.finish(now, book);
        }
        drop(state);
        self.shared.wake.notify_all();
        if let Some(thread) = self.lock_thread().take() {
            // Its panic was reported by the panic hook.
            let _ignored = thread.join();
        }
    }
}

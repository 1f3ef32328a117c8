//! When a cache is not asked any more, and what the user is told.
//!
//! A cache never fails a build and costs one that goes on without it a few seconds at most. So all
//! that asks a cache goes through its [`Breaker`]:
//!
//! - It is *closed* as long as answers come. Some failures in a row, or some seconds spent on
//!   questions that were not answered, *open* it: nobody asks any more.
//! - After a pause one question is let through. If it is answered the breaker closes; else the next
//!   pause is twice as long. What such trials may cost is bounded as well.
//! - A full cache, or one that refuses the token, is told apart: it is written or used no more, for
//!   trying again would not help.
//! - The user is told once for each kind of trouble. An outage is never shown as a miss.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ashlar_store::fault::{Fault, FaultKind};

/// Receives warnings, a line each.
pub type WarningSink = Arc<dyn Fn(&str) + Send + Sync>;

/// How many failures in a row open the breaker.
const FAILURES: u32 = 3;
/// How long questions that failed may have taken in all while the breaker was closed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all questions that failed may have taken: then the breaker stays open.
const WHOLE_PATIENCE: Duration = Duration::from_secs(5);
/// The pause before the first trial.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// A kind of trouble. The user is told of each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It cannot be reached, died, or does not answer.
    Unreachable,
    /// It sent bytes that are not those asked for, or answers that no server gives.
    Wrong,
    /// It named blobs that it does not have.
    Lost,
    /// It is full.
    Full,
    /// It refuses the token, or wants one.
    Refused,
    /// It answers that it is broken.
    Broken,
    /// It has not what it was to be used for.
    Lacking,
    /// Its results are not signed as is demanded.
    Distrusted,
    /// Its cache mounts are not used, for nobody signs them.
    Mounts,
    /// The local store could not do its part.
    Here,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Something that the build waits for.
    Read,
    /// Something that is sent behind the build.
    Write,
}

/// Whether a cache may be asked, and who is told if not.
pub struct Breaker {
    cache: String,
    warnings: WarningSink,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Spent on questions that failed, since the last that was answered.
    wasted: Duration,
    /// The same, from the beginning.
    wasted_in_all: Duration,
    /// Not asked before then. `None`: the breaker is closed.
    open_until: Option<Instant>,
    pause: Option<Duration>,
    /// A trial is under way.
    trying: bool,
    no_reads: bool,
    no_writes: bool,
    told: BTreeSet<Trouble>,
}

/// Leave to ask a question. What comes of it is told to it.
#[must_use = "the breaker is told what came of the question"]
#[derive(Debug)]
pub struct Question<'a> {
    breaker: &'a Breaker,
    begin: Instant,
    trial: bool,
    told: bool,
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Breaker")
            .field("cache", &self.cache)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Breaker {
    /// The breaker of the cache of this name.
    pub fn new(cache: String, warnings: WarningSink) -> Self {
        Self {
            cache,
            warnings,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for leave to ask; `None` if the cache is not to be asked now.
    pub fn ask(&self, purpose: Use) -> Option<Question<'_>> {
        let now = Instant::now();
        let mut state = self.state();
        let closed_for_good = match purpose {
            Use::Read => state.no_reads,
            Use::Write => state.no_writes,
        };
        if closed_for_good {
            return None;
        }
        let mut trial = false;
        if let Some(until) = state.open_until {
            let spent = state.wasted_in_all >= WHOLE_PATIENCE;
            if spent || state.trying || now < until {
                return None;
            }
            state.trying = true;
            trial = true;
        }
        Some(Question {
            breaker: self,
            begin: now,
            trial,
            told: false,
        })
    }

    /// Whether a question for this purpose would be let through now.
    pub fn lets_through(&self, purpose: Use) -> bool {
        let state = self.state();
        let closed = match purpose {
            Use::Read => state.no_reads,
            Use::Write => state.no_writes,
        };
        let open = state
            .open_until
            .is_some_and(|until| state.trying || Instant::now() < until);
        !closed && !open
    }

    /// Tells the user of a trouble, unless that was done before.
    pub fn tell(&self, trouble: Trouble, what: &str) {
        if self.state().told.insert(trouble) {
            (self.warnings)(&format!("cache {}: {what}", self.cache));
        }
    }

    fn answered(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.wasted = Duration::ZERO;
        state.open_until = None;
        state.pause = None;
    }

    fn failed(&self, took: Duration, trial: bool) {
        let mut state = self.state();
        state.failures += 1;
        state.wasted += took;
        state.wasted_in_all += took;
        if trial || state.failures >= FAILURES || state.wasted >= PATIENCE {
            let pause = state.pause.map_or(FIRST_PAUSE, |pause| pause * 2);
            state.pause = Some(pause);
            state.open_until = Some(Instant::now() + pause);
        }
    }
}

impl Question<'_> {
    /// It was answered, well or not: the cache is there.
    pub fn answered(mut self) {
        self.told = true;
        self.breaker.answered();
    }

    /// There was no answer, and the question is put again until there is one. Tells the user, if it
    /// is news.
    pub fn waits(mut self, fault: &Fault) {
        self.told = true;
        let text = format!(
            "it does not answer, and the build waits for it: {}",
            reasons(fault)
        );
        self.breaker.tell(Trouble::Unreachable, &text);
    }

    /// Something went wrong. Tells the user, if it is news.
    pub fn failed(mut self, purpose: Use, fault: &Fault) {
        self.told = true;
        let breaker = self.breaker;
        let why = reasons(fault);
        match fault.kind {
            FaultKind::NotFound | FaultKind::Unsupported | FaultKind::Precondition => {
                breaker.answered();
            }
            FaultKind::Invalid => {
                breaker.failed(Duration::ZERO, self.trial);
                let text = format!("it sends what is wrong, which is not used: {why}");
                breaker.tell(Trouble::Wrong, &text);
            }
            FaultKind::Exhausted => {
                breaker.answered();
                if purpose == Use::Write {
                    breaker.state().no_writes = true;
                    let text = format!("it is full, and is sent no more results: {why}");
                    breaker.tell(Trouble::Full, &text);
                }
            }
            FaultKind::Denied => {
                breaker.answered();
                let mut state = breaker.state();
                state.no_writes = true;
                state.no_reads |= purpose == Use::Read;
                drop(state);
                let text = match purpose {
                    Use::Read => format!("it refuses to be read, and is not used: {why}"),
                    Use::Write => format!("it refuses to be written, and is only read: {why}"),
                };
                breaker.tell(Trouble::Refused, &text);
            }
            FaultKind::Internal => {
                breaker.failed(self.begin.elapsed(), self.trial);
                breaker.tell(Trouble::Broken, &format!("it has failed: {why}"));
            }
            _ => {
                breaker.failed(self.begin.elapsed(), self.trial);
                let text = format!("it does not answer, and the build goes on without it: {why}");
                breaker.tell(Trouble::Unreachable, &text);
            }
        }
    }

    /// Tells what came of the question, and gives what the answer holds.
    pub fn settle<T>(self, purpose: Use, outcome: Result<T, Fault>) -> Result<T, Fault> {
        match outcome {
            Ok(answer) => {
                self.answered();
                Ok(answer)
            }
            Err(fault) => {
                self.failed(purpose, &fault);
                Err(fault)
            }
        }
    }
}

impl Drop for Question<'_> {
    /// A question that was called off says nothing of the cache.
    fn drop(&mut self) {
        if self.trial {
            self.breaker.state().trying = false;
        }
    }
}

/// A fault with what caused it, on one line.
fn reasons(fault: &Fault) -> String {
    const LONGEST: usize = 300;
    let mut text = fault.message.clone();
    let mut cause = fault.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // What a server's status says is in the fault's message.
        if !error.is::<tonic::Status>() && !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Arc<Breaker>, Arc<Mutex<Vec<String>>>) {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = Arc::clone(&told);
        let warnings: WarningSink =
            Arc::new(move |text: &str| sink.lock().unwrap().push(text.to_owned()));
        (Arc::new(Breaker::new("grpc://c:1".into(), warnings)), told)
    }

    fn fail(breaker: &Breaker, purpose: Use, kind: FaultKind) -> bool {
        match breaker.ask(purpose) {
            Some(question) => {
                question.failed(purpose, &Fault::new(kind, "no"));
                true
            }
            None => false,
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_are_told_once() {
        let (breaker, told) = breaker();
        for _ in 0..FAILURES {
            assert!(fail(&breaker, Use::Read, FaultKind::Unavailable));
        }
        assert!(!fail(&breaker, Use::Read, FaultKind::Unavailable));
        assert!(!breaker.lets_through(Use::Write));
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("cache grpc://c:1: it does not answer"),
            "{told:?}"
        );
    }

    #[test]
    fn an_answer_between_failures_keeps_it_closed() {
        let (breaker, _) = breaker();
        for _ in 0..4 * FAILURES {
            assert!(fail(&breaker, Use::Read, FaultKind::Unavailable));
            breaker.ask(Use::Read).unwrap().answered();
        }
        assert!(fail(&breaker, Use::Read, FaultKind::NotFound));
    }

    #[test]
    fn one_long_wait_is_enough() {
        let (breaker, _) = breaker();
        let mut question = breaker.ask(Use::Read).unwrap();
        question.begin = Instant::now().checked_sub(PATIENCE).unwrap();
        question.failed(Use::Read, &Fault::new(FaultKind::Unavailable, "no"));
        assert!(breaker.ask(Use::Read).is_none());
    }

    #[test]
    fn after_a_pause_one_question_is_let_through() {
        let (breaker, _) = breaker();
        for _ in 0..FAILURES {
            fail(&breaker, Use::Read, FaultKind::Unavailable);
        }
        let past = || Instant::now().checked_sub(Duration::from_secs(1));
        breaker.state().open_until = past();
        let trial = breaker.ask(Use::Read).unwrap();
        assert!(breaker.ask(Use::Read).is_none(), "one at a time");
        trial.failed(Use::Read, &Fault::new(FaultKind::Unavailable, "no"));
        assert!(breaker.ask(Use::Read).is_none());
        assert_eq!(breaker.state().pause, Some(2 * FIRST_PAUSE));

        breaker.state().open_until = past();
        // A trial that is called off leaves room for the next.
        drop(breaker.ask(Use::Read).unwrap());
        breaker.ask(Use::Read).unwrap().answered();
        assert!(breaker.lets_through(Use::Read));
    }

    #[test]
    fn when_enough_was_wasted_there_are_no_more_trials() {
        let (breaker, _) = breaker();
        let mut question = breaker.ask(Use::Read).unwrap();
        question.begin = Instant::now().checked_sub(WHOLE_PATIENCE).unwrap();
        question.failed(Use::Read, &Fault::new(FaultKind::Unavailable, "no"));
        breaker.state().open_until = Instant::now().checked_sub(Duration::from_secs(1));
        assert!(breaker.ask(Use::Read).is_none());
    }

    #[test]
    fn a_full_cache_is_still_read() {
        let (breaker, told) = breaker();
        fail(&breaker, Use::Write, FaultKind::Exhausted);
        assert!(!breaker.lets_through(Use::Write));
        assert!(breaker.lets_through(Use::Read));
        assert_eq!(told.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_refused_token_is_not_shown_again() {
        let (breaker, told) = breaker();
        fail(&breaker, Use::Write, FaultKind::Denied);
        assert!(!breaker.lets_through(Use::Write));
        assert!(breaker.lets_through(Use::Read));
        fail(&breaker, Use::Read, FaultKind::Denied);
        assert!(!breaker.lets_through(Use::Read));
        assert_eq!(told.lock().unwrap().len(), 1);
    }

    #[test]
    fn reasons_are_on_one_line_and_not_repeated() {
        let inner = std::io::Error::other("refused\nnow");
        let fault = Fault::new(FaultKind::Unavailable, "cannot connect").caused_by(inner);
        assert_eq!(reasons(&fault), "cannot connect: refused now");
        let status = tonic::Status::unauthenticated("no token");
        let fault = ashlar_store::grpc::fault_of("read", status);
        assert_eq!(reasons(&fault), "cannot read: no token");
    }
}

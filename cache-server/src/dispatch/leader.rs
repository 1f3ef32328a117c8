//! Which of several servers has the queue: the one that leads, as Redis says.
//!
//! A server that cannot say in time that it leads does not any more: it ends all streams, and another
//! one goes on with the journal. While nobody leads, nothing is answered but to come again.

use std::sync::Arc;
use std::time::Duration;

use ashlar_queue::Settings;
use ashlar_store::clock::Clock;
use ashlar_store::redis::queue::{Elected, RedisQueue};
use ashlar_store::{Fault, FaultKind};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Dispatch;
use super::clients::moved;
use super::counts::Tally;
use super::dispatcher::{Dispatcher, Start};
use super::journal::{Journal, Taken};

/// A server that says nothing for so long does not lead any more.
const TERM: Duration = Duration::from_secs(6);

/// So often it says so.
const SAY: Duration = Duration::from_millis(1500);

/// So long Redis may take to answer.
const ANSWER: Duration = Duration::from_millis(1500);

/// A leader that was not confirmed for so long ends: well before another one can begin.
const DOUBT: Duration = Duration::from_millis(4500);

/// So often those who follow look who leads.
const LOOK: Duration = Duration::from_millis(700);

/// So long reading the journal may take.
const READ: Duration = Duration::from_secs(60);

/// What a server needs to lead.
#[derive(Clone)]
pub struct Candidate {
    /// Where it is said who leads.
    pub queue: RedisQueue,
    /// Where other servers see this one.
    pub address: String,
    /// How the queue is set up.
    pub settings: Settings,
    /// The time of day.
    pub clock: Clock,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A term of leading.
struct Term {
    dispatcher: Arc<Dispatcher>,
    /// When it was confirmed last, from before it was asked.
    confirmed: Instant,
}

fn slow() -> Fault {
    Fault::new(FaultKind::Unavailable, "Redis does not answer in time")
}

impl Candidate {
    /// Leads whenever nobody else does, until it is to stop.
    pub(super) async fn run(self, dispatch: Dispatch, stop: CancellationToken) {
        let mut token = self.token();
        let mut term: Option<Term> = None;
        loop {
            let asked = Instant::now();
            let elected = self.elect(&token).await;
            let wait = match (elected, &mut term) {
                (Ok(Elected::Still { .. } | Elected::New { .. }), Some(term)) => {
                    term.confirmed = asked;
                    SAY
                }
                (Ok(Elected::Still { epoch } | Elected::New { epoch }), None) => {
                    match self.begin(&token, epoch, dispatch.tally()).await {
                        Ok(dispatcher) => {
                            tracing::info!(epoch, "this server has the queue");
                            dispatch.lead(dispatcher.clone());
                            term = Some(Term {
                                dispatcher,
                                confirmed: asked,
                            });
                            SAY
                        }
                        Err(fault) => {
                            self.say("the queue's journal cannot be read", &fault);
                            // Another one may fare better.
                            let _unheard = timeout(ANSWER, self.queue.resign(&token)).await;
                            token = self.token();
                            dispatch.wonder();
                            LOOK
                        }
                    }
                }
                (Ok(Elected::Other { address, left }), _) => {
                    if term.take().is_some() {
                        tracing::warn!(address, "another server has the queue");
                        dispatch.leave(&moved());
                        token = self.token();
                    }
                    dispatch.follow(&address);
                    left.clamp(Duration::from_millis(50), LOOK)
                }
                (Err(fault), _) => {
                    self.say("it is not known who has the queue", &fault);
                    if term.is_none() {
                        dispatch.wonder();
                    }
                    LOOK
                }
            };
            let over = term.as_ref().map(|term| term.dispatcher.over().clone());
            let lost = async {
                match over {
                    Some(over) => over.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            let doubtful = term.as_ref().map(|term| term.confirmed + DOUBT);
            let wait = match doubtful {
                Some(at) => wait.min(at.saturating_duration_since(Instant::now())),
                None => wait,
            };
            let is_lost = tokio::select! {
                () = sleep(wait) => false,
                () = lost => true,
                () = stop.cancelled() => break,
            };
            let is_doubtful = doubtful.is_some_and(|at| Instant::now() >= at);
            if is_lost || is_doubtful {
                tracing::warn!("this server does not have the queue any more");
                term = None;
                dispatch.leave(&moved());
                token = self.token();
            }
        }
        dispatch.leave(&moved());
        if term.is_some() {
            // If it is not heard, another one begins a little later.
            let _unheard = timeout(ANSWER, self.queue.resign(&token)).await;
        }
    }

    /// A token of one term.
    fn token(&self) -> String {
        // Without random numbers, the address and the time are as good: nobody has to guess it.
        ashlar_store::lease::random_token()
            .unwrap_or_else(|_| format!("{} {:?}", self.address, (self.clock)()))
    }

    async fn elect(&self, token: &str) -> Result<Elected, Fault> {
        let elected = timeout(ANSWER, self.queue.elect(token, &self.address, TERM)).await;
        elected.unwrap_or_else(|_| Err(slow()))
    }

    /// Goes on with what the journal has.
    async fn begin(
        &self,
        token: &str,
        epoch: u32,
        tally: &Arc<Tally>,
    ) -> Result<Arc<Dispatcher>, Fault> {
        let reading = timeout(READ, self.queue.read());
        let mut reading = std::pin::pin!(reading);
        let entries = loop {
            tokio::select! {
                read = &mut reading => break read.unwrap_or_else(|_| Err(slow()))?,
                () = sleep(SAY) => {
                    if !matches!(self.elect(token).await, Ok(Elected::Still { .. })) {
                        return Err(slow());
                    }
                }
            }
        };
        let taken = Taken::read(&entries);
        tracing::info!(
            operations = taken.records.len(),
            "the queue goes on with its journal"
        );
        let start = Start {
            epoch,
            taken: Some(taken),
            journal: Some(Journal {
                queue: self.queue.clone(),
                token: token.into(),
            }),
        };
        let settings = self.settings.clone();
        Ok(Dispatcher::start(
            settings,
            start,
            &self.clock,
            tally.clone(),
        ))
    }

    fn say(&self, what: &str, fault: &Fault) {
        let error = ashlar_store::fault::in_one_line(fault);
        tracing::warn!(address = self.address, error, "{what}");
    }
}

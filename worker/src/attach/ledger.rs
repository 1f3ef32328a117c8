//! What this worker was given, and what of it the farm does not know yet.
//!
//! A state machine without I/O. The farm learns of each assignment, in this order: its events,
//! numbered from 0; then its outcome. Both are kept until the farm has said that they arrived, and
//! are sent again over a connection that takes the place of a broken one. While there is none,
//! events pile up only so far: then what commands write is left out, and the user is told how much.

use std::collections::{BTreeMap, VecDeque};

use ashlar_proto::wire::farm;
use bytes::BytesMut;
use farm::event::Kind;
use prost::Message as _;

/// So many bytes of an assignment's events are kept that have not arrived.
const KEPT: usize = 8 << 20;
/// A message has so many bytes of events, but for one that is larger by itself.
const MESSAGE: usize = 256 << 10;
/// What a command writes becomes one event up to so many bytes, as long as it has not been sent.
const JOINED: usize = 32 << 10;
/// The longest piece of output that becomes one event.
pub const LONGEST_OUTPUT: usize = 64 << 10;
/// What an event takes beside its own bytes.
const OVERHEAD: usize = 32;

/// An action that this worker was given: which operation, and for the how manieth time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Given {
    /// The operation's name.
    pub operation: String,
    /// Grows each time the operation is given to a worker.
    pub fence: u64,
}

impl From<&farm::Assignment> for Given {
    fn from(assignment: &farm::Assignment) -> Self {
        Self {
            operation: assignment.operation.clone(),
            fence: assignment.fencing_number,
        }
    }
}

impl From<&Given> for farm::Assignment {
    fn from(given: &Given) -> Self {
        Self {
            operation: given.operation.clone(),
            fencing_number: given.fence,
        }
    }
}

/// How the work ended.
pub type Outcome = farm::worker_message::outcome::Kind;

/// What is to be done about work that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It begins. Work on the same operation under older numbers is to be stopped.
    Begins(Vec<Given>),
    /// It goes on already, or was given to another since.
    Known,
}

/// An event that has not arrived.
#[derive(Debug)]
struct Kept {
    event: farm::Event,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Entry {
    takes_slot: bool,
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The number of the first that is kept.
    first: u64,
    /// How many of those that are kept were sent.
    sent: usize,
    /// Bytes of output that were left out since the last event.
    left_out: u64,
    outcome: Option<Outcome>,
    outcome_sent: bool,
}

/// All work that this worker was given and of whose end the farm does not know.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Given, Entry>,
}

impl Ledger {
    /// Notes that work was given.
    pub fn give(&mut self, given: &Given, takes_slot: bool) -> Taken {
        let same = |other: &&Given| other.operation == given.operation;
        let known: Vec<Given> = self.entries.keys().filter(same).cloned().collect();
        if known.iter().any(|other| other.fence >= given.fence) {
            return Taken::Known;
        }
        for older in &known {
            self.entries.remove(older);
        }
        let entry = Entry {
            takes_slot,
            ..Entry::default()
        };
        self.entries.insert(given.clone(), entry);
        Taken::Begins(known)
    }

    /// Notes what was found out about work: whether it takes one of the worker's slots.
    pub fn set_takes_slot(&mut self, given: &Given, takes_slot: bool) {
        if let Some(entry) = self.entries.get_mut(given) {
            entry.takes_slot = takes_slot;
        }
    }

    /// Notes an event. Whether anybody still wants to hear of that work.
    pub fn happened(&mut self, given: &Given, event: farm::Event) -> bool {
        let Some(entry) = self.entries.get_mut(given) else {
            return false;
        };
        if entry.outcome.is_none() {
            entry.happened(event);
        }
        true
    }

    /// Notes how work ended. Only the first word counts.
    pub fn ended(&mut self, given: &Given, outcome: Outcome) {
        if let Some(entry) = self.entries.get_mut(given)
            && entry.outcome.is_none()
        {
            entry.tell_left_out();
            entry.outcome = Some(outcome);
        }
    }

    /// The farm does not want to hear of this work any more. Whether it goes on here.
    pub fn forget(&mut self, given: &Given) -> bool {
        let entry = self.entries.remove(given);
        entry.is_some_and(|entry| entry.outcome.is_none())
    }

    /// Events before this one have arrived.
    pub fn events_taken(&mut self, given: &Given, next: u64) {
        if let Some(entry) = self.entries.get_mut(given) {
            entry.taken(next);
        }
    }

    /// The outcome has arrived.
    pub fn outcome_taken(&mut self, given: &Given) {
        let is_over = |entry: &Entry| entry.outcome.is_some();
        if self.entries.get(given).is_some_and(is_over) {
            self.entries.remove(given);
        }
    }

    /// What was sent over the connection before may not have arrived.
    pub fn reconnected(&mut self) {
        for entry in self.entries.values_mut() {
            entry.sent = 0;
            entry.outcome_sent = false;
        }
    }

    /// Something that is to be sent, if there is anything.
    pub fn next_message(&mut self) -> Option<farm::WorkerMessage> {
        let mut entries = self.entries.iter_mut();
        let kind = entries.find_map(|(given, entry)| entry.next_message(given))?;
        Some(farm::WorkerMessage { kind: Some(kind) })
    }

    /// All work that the farm believes to be here, for it has not heard of its end.
    pub fn all(&self) -> Vec<farm::Assignment> {
        self.entries.keys().map(Into::into).collect()
    }

    /// Work that goes on.
    pub fn running(&self) -> Vec<Given> {
        let running = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.outcome.is_none());
        running.map(|(given, _)| given.clone()).collect()
    }

    /// How many slots are taken.
    pub fn slots_taken(&self) -> u32 {
        let takes = |entry: &&Entry| entry.takes_slot && entry.outcome.is_none();
        u32::try_from(self.entries.values().filter(takes).count()).unwrap_or(u32::MAX)
    }

    /// Whether the farm knows all there is to say.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    fn happened(&mut self, event: farm::Event) {
        if self.joined(&event) {
            return;
        }
        let bytes = event.encoded_len() + OVERHEAD;
        if self.bytes + bytes > KEPT {
            match &event.kind {
                Some(Kind::Output(output)) => {
                    self.left_out += output.data.len() as u64;
                    return;
                }
                Some(Kind::Progress(_)) => return,
                // What else there is is little, and needed.
                _ => {}
            }
        }
        self.tell_left_out();
        self.push(event);
    }

    fn push(&mut self, event: farm::Event) {
        let bytes = event.encoded_len() + OVERHEAD;
        self.bytes += bytes;
        self.kept.push_back(Kept { event, bytes });
    }

    /// Says how much output is missing from here on, if any is.
    fn tell_left_out(&mut self) {
        let bytes = std::mem::take(&mut self.left_out);
        if bytes > 0 {
            let text =
                format!("{bytes} bytes of output were left out, for the farm could not be reached");
            self.push(farm::Event {
                node: None,
                kind: Some(Kind::Warning(text)),
            });
        }
    }

    /// Makes an event part of the last one, if that was not sent and they say the same.
    fn joined(&mut self, event: &farm::Event) -> bool {
        if self.left_out > 0 || self.sent == self.kept.len() {
            return false;
        }
        let Some(last) = self.kept.back_mut() else {
            return false;
        };
        if last.event.node != event.node {
            return false;
        }
        match (&mut last.event.kind, &event.kind) {
            (Some(Kind::Output(before)), Some(Kind::Output(more)))
                if before.is_stderr == more.is_stderr
                    && before.data.len() + more.data.len() <= JOINED
                    && self.bytes + more.data.len() <= KEPT =>
            {
                let mut data = match std::mem::take(&mut before.data).try_into_mut() {
                    Ok(data) => data,
                    Err(shared) => BytesMut::from(&shared[..]),
                };
                data.extend_from_slice(&more.data);
                before.data = data.freeze();
                last.bytes += more.data.len();
                self.bytes += more.data.len();
                true
            }
            (Some(Kind::Progress(before)), Some(Kind::Progress(more)))
                if before.label == more.label =>
            {
                before.done = more.done;
                before.total = more.total;
                true
            }
            _ => false,
        }
    }

    fn taken(&mut self, next: u64) {
        while self.first < next
            && let Some(gone) = self.kept.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(gone.bytes);
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
        }
    }

    fn next_message(&mut self, given: &Given) -> Option<farm::worker_message::Kind> {
        if self.sent < self.kept.len() {
            let first = self.first + self.sent as u64;
            let mut bytes = 0;
            let unsent = self.kept.iter().skip(self.sent);
            let fit = unsent.take_while(|kept| {
                let is_first = bytes == 0;
                bytes += kept.bytes;
                is_first || bytes <= MESSAGE
            });
            let events: Vec<farm::Event> = fit.map(|kept| kept.event.clone()).collect();
            self.sent += events.len();
            return Some(farm::worker_message::Kind::Events(
                farm::worker_message::Events {
                    assignment: Some(given.into()),
                    first,
                    events,
                },
            ));
        }
        if self.outcome_sent {
            return None;
        }
        let outcome = self.outcome.clone()?;
        self.outcome_sent = true;
        Some(farm::worker_message::Kind::Outcome(
            farm::worker_message::Outcome {
                assignment: Some(given.into()),
                kind: Some(outcome),
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use farm::worker_message::Kind as Sent;

    use super::*;

    fn given(operation: &str, fence: u64) -> Given {
        Given {
            operation: operation.to_owned(),
            fence,
        }
    }

    fn output(node: u32, text: &str) -> farm::Event {
        farm::Event {
            node: Some(node),
            kind: Some(Kind::Output(farm::event::Output {
                is_stderr: false,
                data: text.as_bytes().to_vec().into(),
            })),
        }
    }

    fn started(node: u32) -> farm::Event {
        farm::Event {
            node: Some(node),
            kind: Some(Kind::Started(farm::event::Started {})),
        }
    }

    fn handed_back() -> Outcome {
        Outcome::HandedBack(farm::worker_message::outcome::HandedBack {})
    }

    /// First number and number of events of each message, and whether the outcome comes last.
    fn drained(ledger: &mut Ledger) -> (Vec<(u64, usize)>, bool) {
        let mut events = Vec::new();
        let mut outcome = false;
        while let Some(message) = ledger.next_message() {
            match message.kind.unwrap() {
                Sent::Events(sent) => {
                    assert!(!outcome, "events after the outcome");
                    events.push((sent.first, sent.events.len()));
                }
                Sent::Outcome(_) => outcome = true,
                other => panic!("{other:?}"),
            }
        }
        (events, outcome)
    }

    #[test]
    fn what_has_not_arrived_is_sent_again() {
        let mut ledger = Ledger::default();
        let work = given("a", 1);
        assert_eq!(ledger.give(&work, true), Taken::Begins(Vec::new()));
        ledger.happened(&work, started(0));
        ledger.happened(&work, started(1));
        assert_eq!(drained(&mut ledger), (vec![(0, 2)], false));
        ledger.events_taken(&work, 1);
        ledger.happened(&work, started(2));
        assert_eq!(drained(&mut ledger), (vec![(2, 1)], false));
        ledger.reconnected();
        assert_eq!(drained(&mut ledger), (vec![(1, 2)], false));
        ledger.ended(&work, handed_back());
        assert_eq!(ledger.slots_taken(), 0);
        assert!(!ledger.is_empty());
        assert_eq!(drained(&mut ledger), (vec![], true));
        ledger.reconnected();
        assert_eq!(drained(&mut ledger), (vec![(1, 2)], true));
        ledger.outcome_taken(&work);
        assert!(ledger.is_empty());
    }

    #[test]
    fn the_newer_number_wins() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.give(&given("a", 2), true), Taken::Begins(vec![]));
        assert_eq!(ledger.give(&given("a", 2), true), Taken::Known);
        assert_eq!(ledger.give(&given("a", 1), true), Taken::Known);
        assert_eq!(
            ledger.give(&given("a", 5), true),
            Taken::Begins(vec![given("a", 2)])
        );
        assert!(!ledger.happened(&given("a", 2), started(0)));
        ledger.ended(&given("a", 2), handed_back());
        assert_eq!(drained(&mut ledger), (vec![], false));
        assert_eq!(ledger.give(&given("b", 1), false), Taken::Begins(vec![]));
        assert_eq!(ledger.slots_taken(), 1);
        assert!(ledger.forget(&given("a", 5)));
        assert!(!ledger.forget(&given("a", 5)));
    }

    #[test]
    fn output_is_joined_until_it_is_sent() {
        let mut ledger = Ledger::default();
        let work = given("a", 1);
        ledger.give(&work, true);
        for text in ["one ", "two ", "three"] {
            ledger.happened(&work, output(3, text));
        }
        ledger.happened(&work, output(4, "other"));
        assert_eq!(drained(&mut ledger), (vec![(0, 2)], false));
        ledger.happened(&work, output(4, "more"));
        assert_eq!(drained(&mut ledger), (vec![(2, 1)], false));
    }

    #[test]
    fn what_piles_up_has_a_bound_and_is_told() {
        let mut ledger = Ledger::default();
        let work = given("a", 1);
        ledger.give(&work, true);
        let text = "x".repeat(LONGEST_OUTPUT);
        for _ in 0..1000 {
            ledger.happened(&work, output(0, &text));
        }
        ledger.happened(&work, started(1));
        ledger.ended(&work, handed_back());
        let mut kept = 0;
        let mut warnings = Vec::new();
        while let Some(message) = ledger.next_message() {
            let Some(Sent::Events(events)) = message.kind else {
                continue;
            };
            for event in events.events {
                match event.kind.unwrap() {
                    Kind::Output(output) => kept += output.data.len(),
                    Kind::Warning(text) => warnings.push(text),
                    _ => {}
                }
            }
        }
        assert!(kept <= KEPT && kept > KEPT / 2, "{kept}");
        let left_out = (1000 * LONGEST_OUTPUT - kept).to_string();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with(&left_out), "{warnings:?}");
    }

    #[test]
    fn numbers_that_were_never_given_do_no_harm() {
        let mut ledger = Ledger::default();
        let work = given("a", 1);
        ledger.events_taken(&work, 7);
        ledger.outcome_taken(&work);
        ledger.give(&work, true);
        ledger.happened(&work, started(0));
        ledger.outcome_taken(&work);
        ledger.events_taken(&work, u64::MAX);
        assert_eq!(ledger.running(), [work]);
        assert_eq!(drained(&mut ledger), (vec![], false));
    }
}

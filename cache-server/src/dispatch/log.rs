//! What an operation has said: its events, in memory, as far as there is room.
//!
//! Events are numbered from 0. When there are too many bytes, output goes first, the oldest before
//! the rest; what says that steps began or ended goes last. So whoever comes late sees all steps, and
//! the end of what they said.

use std::collections::VecDeque;
use std::sync::Arc;

use ashlar_proto::wire::farm::event::Kind;
use ashlar_proto::wire::farm::{Event, EventsResponse};
use prost::Message as _;

/// Bytes of the events of one operation.
pub const MOST: usize = 4 << 20;

/// Events of one answer have so many bytes, roughly.
const ANSWER: usize = 256 << 10;

/// What an event costs besides its bytes.
const EACH: usize = 64;

#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    event: Arc<Event>,
    size: usize,
}

/// The events of an operation.
#[derive(Debug)]
pub struct EventLog {
    next: u64,
    /// What may go first.
    output: VecDeque<Entry>,
    rest: VecDeque<Entry>,
    bytes: usize,
    most: usize,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(MOST)
    }
}

/// Where an entry with a number is, or the first behind it.
fn position(entries: &VecDeque<Entry>, number: u64) -> usize {
    entries.partition_point(|entry| entry.number < number)
}

impl EventLog {
    /// A log with room for so many bytes.
    pub const fn new(most: usize) -> Self {
        Self {
            next: 0,
            output: VecDeque::new(),
            rest: VecDeque::new(),
            bytes: 0,
            most,
        }
    }

    /// The number of the next event.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// What is kept.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Goes on behind events that are not known any more.
    pub fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) {
        let size = event.encoded_len() + EACH;
        let is_output = matches!(event.kind, Some(Kind::Output(_) | Kind::Progress(_)));
        let entry = Entry {
            number: self.next,
            event: Arc::new(event),
            size,
        };
        self.next += 1;
        self.bytes += size;
        if is_output {
            self.output.push_back(entry);
        } else {
            self.rest.push_back(entry);
        }
        self.trim(self.most);
    }

    /// Drops what has no room in so many bytes.
    pub fn trim(&mut self, most: usize) {
        while self.bytes > most {
            let gone = self.output.pop_front().or_else(|| self.rest.pop_front());
            let Some(gone) = gone else { return };
            self.bytes -= gone.size;
        }
    }

    /// The events from a number on that follow each other and go into one answer; `None` if there
    /// are none yet.
    pub fn from(&self, number: u64) -> Option<EventsResponse> {
        let mut output = self
            .output
            .range(position(&self.output, number)..)
            .peekable();
        let mut rest = self.rest.range(position(&self.rest, number)..).peekable();
        let mut answer: Option<EventsResponse> = None;
        let mut bytes = 0;
        loop {
            let is_output = match (output.peek(), rest.peek()) {
                (Some(one), Some(other)) => one.number < other.number,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return answer,
            };
            let entry = if is_output {
                output.next()
            } else {
                rest.next()
            };
            let Some(entry) = entry else { return answer };
            let answer = answer.get_or_insert_with(|| EventsResponse {
                first: entry.number,
                events: Vec::new(),
            });
            let expected = answer.first + answer.events.len() as u64;
            if entry.number != expected {
                break;
            }
            bytes += entry.size;
            answer.events.push((*entry.event).clone());
            if bytes >= ANSWER {
                break;
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use ashlar_proto::wire::farm::event;

    use super::*;

    fn output(length: usize) -> Event {
        Event {
            node: Some(1),
            kind: Some(Kind::Output(event::Output {
                is_stderr: false,
                data: vec![b'x'; length].into(),
            })),
        }
    }

    fn started(node: u32) -> Event {
        Event {
            node: Some(node),
            kind: Some(Kind::Started(event::Started {})),
        }
    }

    /// All events from a number on, with their numbers.
    fn all(log: &EventLog, mut from: u64) -> Vec<(u64, Event)> {
        let mut found = Vec::new();
        while let Some(answer) = log.from(from) {
            assert!(answer.first >= from && !answer.events.is_empty());
            for event in answer.events {
                from = from.max(answer.first);
                found.push((from, event));
                from += 1;
            }
        }
        found
    }

    #[test]
    fn events_come_in_order_from_where_they_are_wanted() {
        let mut log = EventLog::default();
        assert_eq!(log.from(0), None);
        for event in [started(0), output(3), started(1), output(4)] {
            log.push(event);
        }
        let numbers = |from| all(&log, from).into_iter().map(|(number, _)| number);
        assert_eq!(numbers(0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(numbers(2).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(numbers(4).count(), 0);
        assert_eq!(all(&log, 1)[0].1, output(3));
    }

    #[test]
    fn old_output_goes_first_and_leaves_a_gap_that_shows() {
        let mut log = EventLog::new(2000);
        log.push(started(0));
        for _ in 0..20 {
            log.push(output(200));
        }
        log.push(started(1));
        assert!(log.bytes() <= 2000);
        let kept = all(&log, 0);
        assert_eq!(kept[0], (0, started(0)));
        assert!(kept[1].0 > 10, "{kept:?}");
        assert_eq!(kept.last().expect("the last").0, 21);
        assert_eq!(log.from(1).expect("events").first, kept[1].0);
        log.trim(0);
        assert_eq!(log.from(0), None);
        assert_eq!((log.next(), log.bytes()), (22, 0));
    }

    #[test]
    fn an_answer_is_no_longer_than_a_message() {
        let mut log = EventLog::default();
        for _ in 0..40 {
            log.push(output(60 << 10));
        }
        let answer = log.from(0).expect("events");
        assert!(answer.encoded_len() < 512 << 10);
        assert_eq!(all(&log, 0).len(), 40);
    }
}

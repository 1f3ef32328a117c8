//! What outlives the server that leads: a record of each operation.
//!
//! One task writes it. Effects wait behind the records that they follow from, and are carried out in
//! their order: so nobody is told of anything that another server would not know.
//!
//! An entry is a byte for its version, a byte that says whether something was sealed for the
//! operation's build, and the record in postcard. What was sealed is not in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ashlar_queue::{Effect, OperationId, Record};
use ashlar_store::redis::queue::{Entry, RedisQueue};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::dispatcher::Dispatcher;

/// So long until writing is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Entries that are written in one go, and bytes of them, roughly.
const MOST: usize = 256;
const MOST_BYTES: usize = 8 << 20;

/// The version of entries that this server writes, the only one that it reads.
const VERSION: u8 = 1;

/// What a queue left behind.
#[derive(Debug, Default)]
pub struct Taken {
    /// Its operations, and whether something was sealed for the build of each.
    pub records: Vec<(Record, bool)>,
}

/// An effect, and whether something is sealed for the build of the operation that it is about.
pub type Noted = (Effect, bool);

/// Where records are kept while this server leads.
#[derive(Debug, Clone)]
pub struct Journal {
    /// Where it is.
    pub queue: RedisQueue,
    /// The token under which this server leads.
    pub token: Arc<str>,
}

/// The name of an operation's entry.
fn name(operation: OperationId) -> Bytes {
    Bytes::copy_from_slice(&operation.0.to_be_bytes())
}

/// An operation's entry.
fn encode(record: &Record, is_sealed: bool) -> Bytes {
    let start = vec![VERSION, is_sealed.into()];
    match postcard::to_extend(record, start) {
        Ok(whole) => whole.into(),
        // Records are made of numbers, texts and lists: all of them can be written.
        Err(error) => {
            tracing::error!("an operation cannot be written into the journal: {error}");
            Bytes::new()
        }
    }
}

fn decode(bytes: &[u8]) -> Option<(Record, bool)> {
    let [VERSION, is_sealed, record @ ..] = bytes else {
        return None;
    };
    let record = postcard::from_bytes(record).ok()?;
    Some((record, *is_sealed != 0))
}

impl Taken {
    /// What is in a journal. Entries that are not understood are passed over.
    pub fn read(entries: &[Entry]) -> Self {
        let records: Vec<_> = entries
            .iter()
            .filter_map(|(_, value)| decode(value))
            .collect();
        let strange = entries.len() - records.len();
        if strange > 0 {
            tracing::warn!(strange, "entries of the queue's journal are not understood");
        }
        Self { records }
    }
}

/// Writes what effects want kept, and has them carried out.
pub(super) async fn run(
    journal: Journal,
    mut effects: mpsc::UnboundedReceiver<Vec<Noted>>,
    dispatcher: Weak<Dispatcher>,
) {
    let mut batch = Vec::new();
    while effects.recv_many(&mut batch, MOST).await > 0 {
        let all: Vec<Noted> = batch.drain(..).flatten().collect();
        // The last word on each counts.
        let mut changes = BTreeMap::new();
        for (effect, is_sealed) in &all {
            match effect {
                Effect::Persist(record) => {
                    changes.insert(record.operation, encode(record, *is_sealed));
                }
                Effect::Forget(id) => {
                    changes.insert(*id, Bytes::new());
                }
                _ => {}
            }
        }
        let changes = changes.into_iter().map(|(id, value)| (name(id), value));
        for some in pieces(changes.collect()) {
            if !write(&journal, &some, &dispatcher).await {
                return;
            }
        }
        let Some(dispatcher) = dispatcher.upgrade() else {
            return;
        };
        dispatcher.carry_out(all.into_iter().map(|(effect, _)| effect));
    }
}

/// Entries in pieces that can be written in one go.
fn pieces(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut pieces: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        bytes += entry.1.len();
        match pieces.last_mut() {
            Some(piece) if piece.len() < MOST && bytes <= MOST_BYTES => piece.push(entry),
            _ => {
                bytes = entry.1.len();
                pieces.push(vec![entry]);
            }
        }
    }
    pieces
}

/// Writes some entries, however long it takes. Whether this server still leads.
async fn write(journal: &Journal, entries: &[Entry], dispatcher: &Weak<Dispatcher>) -> bool {
    loop {
        match journal.queue.write(&journal.token, entries).await {
            Ok(true) => return true,
            Ok(false) => {
                tracing::warn!("another server has the queue");
                if let Some(dispatcher) = dispatcher.upgrade() {
                    dispatcher.lose();
                }
                return false;
            }
            Err(fault) => {
                let error = ashlar_store::fault::in_one_line(&fault);
                tracing::warn!(
                    error,
                    "the queue's journal cannot be written; it is tried again"
                );
            }
        }
        sleep(AGAIN).await;
        let is_over = |dispatcher: Arc<Dispatcher>| dispatcher.over().is_cancelled();
        if dispatcher.upgrade().is_none_or(is_over) {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_queue::{Action, BuildKey, Done, End, RecordState, Submission};

    use super::*;

    fn record() -> Record {
        let build = BuildKey {
            namespace: "acme".into(),
            user: "anna".into(),
            build: "b".into(),
        };
        Record {
            operation: OperationId(7 << 100),
            submission: Arc::new(Submission {
                build: build.clone(),
                action: Action {
                    function: 9,
                    hash: "ab".repeat(32).into(),
                    size: 142,
                },
                priority: -3,
                skip_cache_lookup: true,
                light: false,
                whole: false,
                inputs: Vec::new(),
                requirements: [("os".to_owned(), "linux".to_owned())].into(),
                name: "RUN make".into(),
                steps: 3,
                requester: "anna".into(),
            }),
            submitted: Duration::from_secs(1_800_000_000),
            builds: vec![build],
            failures: Vec::new(),
            grants: 1,
            fencing: 1 << 40,
            started: None,
            state: RecordState::Ended {
                at: Duration::from_secs(1_800_000_001),
                end: End::Done(Done {
                    outcome: b"made"[..].into(),
                    failed: false,
                    message: "".into(),
                }),
            },
        }
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        let record = record();
        for is_sealed in [false, true] {
            let entry = encode(&record, is_sealed);
            assert_eq!(decode(&entry), Some((record.clone(), is_sealed)));
        }
        let good = (name(record.operation), encode(&record, false));
        let strange = (Bytes::from_static(b"x"), Bytes::from_static(&[9, 0, 1]));
        let cut = (Bytes::from_static(b"y"), good.1.slice(..20));
        let taken = Taken::read(&[strange, good, cut]);
        assert_eq!(taken.records, [(record, false)]);
    }

    #[test]
    fn pieces_are_small_and_miss_nothing() {
        let entry = |at: u32, length| {
            let name = Bytes::copy_from_slice(&at.to_be_bytes());
            (name, Bytes::from(vec![1; length]))
        };
        let mut all: Vec<_> = (0..600).map(|at| entry(at, 10)).collect();
        all.extend((600..610).map(|at| entry(at, 3 << 20)));
        let pieces = pieces(all.clone());
        for piece in &pieces {
            let bytes: usize = piece.iter().map(|(_, value)| value.len()).sum();
            assert!(piece.len() <= MOST && bytes <= MOST_BYTES + (3 << 20));
        }
        assert!(pieces.concat() == all);
    }
}

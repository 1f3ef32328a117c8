//! The one thread that changes a store.
//!
//! Tasks come through a queue. The writer takes all that are waiting, up to a limit, and makes one
//! *batch* of them ([`batch`]): records are appended to the open pack, the pack is synced, large
//! files get their names, the index is committed, and only then is anybody told that his task is
//! done. While it syncs, the next tasks gather: the more is written at once, the more share a sync.
//!
//! ```text
//! append records ─▶ sync the pack ─▶ name files, sync directories ─▶ commit the index ─▶ answer
//! ```
//!
//! A crash before the commit leaves bytes that nothing knows of: a pack's tail, cut off when the
//! store is opened; a pack, removed; a large file, found by the scrub. After the commit all of it
//! is on disk. What is removed goes from the index first and from the disk after the commit: what
//! the index knows is there.

mod batch;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ashlar_model::cas::CasDigest;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Shared;
use super::index::{Entry, PackSize, Totals};
use super::key::Key;
use super::large::Finished;
use super::record::Head;
use super::room::Reservation;
use crate::fault::{Fault, FaultKind};
use batch::Batch;

/// A batch has no more tasks than this; redb writes best in thousands.
const MOST_TASKS: usize = 2048;

/// A batch has about so many bytes at most, so that the first need not wait for the last.
const MOST_BYTES: usize = 16 << 20;

/// Uses are noted this often if nothing else is written.
const IDLE: Duration = Duration::from_secs(5);

/// When a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    IfAbsent,
    /// If the entry has this sequence number; 0 if there is none.
    IfSequence(u64),
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Put {
        key: Key,
        value: Bytes,
        condition: Condition,
    },
    File {
        blob: CasDigest,
        finished: Finished,
    },
    Remove {
        key: Key,
    },
    /// The entry's bytes are damaged or gone: it goes, if it is still where it was.
    Lost {
        key: Key,
        entry: Entry,
    },
    /// Entries that go if they were not used since.
    Evict {
        victims: Vec<(Key, Entry)>,
    },
    /// Records of a pack that are copied to the open one, if they are still alive.
    Move {
        pack: u32,
        records: Vec<Living>,
    },
    /// A pack without living records.
    DropPack {
        pack: u32,
    },
    /// Records of a pack that the index does not know, and the pack's size.
    AdoptPack {
        pack: u32,
        size: u64,
        records: Vec<(u64, Head)>,
        used: u32,
    },
    /// Large files that the index may not know.
    AdoptFiles {
        blobs: Vec<(CasDigest, u32)>,
    },
    /// Large files that go, if the index does not know them.
    RemoveOrphans {
        blobs: Vec<CasDigest>,
    },
    /// The index knows all that is on disk.
    Complete,
    /// A namespace has shown the bytes of these blobs.
    Note {
        namespace: String,
        blobs: Vec<Key>,
    },
    /// Nothing more is to be done: the writer ends.
    End,
}

/// A record that may have to be moved.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) offset: u64,
    pub(super) head: Head,
    /// The whole record.
    pub(super) bytes: Bytes,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Stored, under this sequence number.
    Stored(u64),
    /// Another value is there, and stays.
    There(Entry),
    /// Nothing is there, where something should be.
    Absent,
    /// Done; how many entries it concerned.
    Done(usize),
}

/// Work, and who waits for it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) work: Work,
    /// Kept until the bytes count as stored.
    pub(super) room: Option<Reservation>,
    /// Bounds what waits in the queue.
    pub(super) memory: Option<OwnedSemaphorePermit>,
    pub(super) answer: oneshot::Sender<Result<Answer, Fault>>,
}

impl Task {
    fn bytes(&self) -> usize {
        match &self.work {
            Work::Put { value, .. } => value.len(),
            Work::Move { records, .. } => records.iter().map(|record| record.bytes.len()).sum(),
            _ => 0,
        }
    }
}

/// Sizes of all packs, and totals, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pub(super) packs: BTreeMap<u32, PackSize>,
    pub(super) totals: Totals,
}

impl Sizes {
    /// What packs and files take on disk.
    pub(super) fn on_disk(&self) -> u64 {
        let packs: u64 = self.packs.values().map(|pack| pack.size).sum();
        packs + self.totals.file_bytes
    }

    /// What would be left if all packs were compacted.
    pub(super) fn living(&self) -> u64 {
        let packs: u64 = self.packs.values().map(|pack| pack.living).sum();
        packs + self.totals.file_bytes
    }
}

/// The sizes, for the writer to change and for others to look at.
#[derive(Debug, Default)]
pub(super) struct SharedSizes(Mutex<Sizes>);

impl SharedSizes {
    pub(super) fn with<T>(&self, body: impl FnOnce(&mut Sizes) -> T) -> T {
        body(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Works until it is told to end.
pub(super) fn run(shared: &Shared, tasks: &Receiver<Task>, mut open_pack: OpenPack) {
    let mut has_ended = false;
    while !has_ended {
        let mut waiting = Vec::new();
        match tasks.recv_timeout(IDLE) {
            Ok(task) => waiting.push(task),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let mut bytes = waiting.iter().map(Task::bytes).sum::<usize>();
        while waiting.len() < MOST_TASKS && bytes < MOST_BYTES && !waiting.is_empty() {
            let Ok(task) = tasks.try_recv() else {
                break;
            };
            bytes += task.bytes();
            waiting.push(task);
        }
        has_ended = waiting.iter().any(|task| matches!(task.work, Work::End));
        if !waiting.is_empty() || !shared.touches.is_empty() {
            process(shared, waiting, &mut open_pack);
        }
    }
}

/// The pack that is appended to.
#[derive(Debug)]
pub(super) struct OpenPack {
    pub(super) number: u32,
    /// Opened by the first that appends.
    pub(super) file: Option<fs::File>,
    /// How much of it is committed.
    pub(super) size: u64,
}

/// Does some tasks in one batch. If the batch fails, each is tried alone: one bad task does not
/// take others with it.
fn process(shared: &Shared, tasks: Vec<Task>, open_pack: &mut OpenPack) {
    match attempt(shared, &tasks, open_pack) {
        Ok(answers) => answer(tasks, answers),
        Err(_) if tasks.len() > 1 => {
            for task in tasks {
                let single = [task];
                let result = attempt(shared, &single, open_pack);
                let [task] = single;
                match result {
                    Ok(answers) => answer(vec![task], answers),
                    Err(fault) => drop(task.answer.send(Err(fault))),
                }
            }
        }
        Err(fault) => {
            if let Some(task) = tasks.into_iter().next() {
                // Whoever does not wait any more need not know.
                drop(task.answer.send(Err(fault)));
            }
        }
    }
}

fn answer(tasks: Vec<Task>, answers: Vec<Answer>) {
    for (task, answer) in tasks.into_iter().zip(answers) {
        drop(task.answer.send(Ok(answer)));
        drop(task.room);
        drop(task.memory);
    }
}

/// Does some tasks, or nothing.
fn attempt(
    shared: &Shared,
    tasks: &[Task],
    open_pack: &mut OpenPack,
) -> Result<Vec<Answer>, Fault> {
    let before = (open_pack.number, open_pack.size);
    let mut made = Made::default();
    let result = shared.index.change(|changes| {
        let mut batch = Batch::new(shared, changes, open_pack, &mut made);
        batch.touch()?;
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            answers.push(batch.perform(&task.work)?);
        }
        batch.settle()?;
        Ok(answers)
    });
    match result {
        Ok(answers) => {
            made.keep(shared);
            Ok(answers)
        }
        Err(fault) => {
            made.undo(shared, open_pack, before);
            Err(fault)
        }
    }
}

/// What a batch did to the disk, and what is to be done once it is committed.
#[derive(Debug, Default)]
struct Made {
    packs: BTreeMap<u32, Option<PackSize>>,
    totals: Totals,
    /// Large files that got their names: the temporary one, and their own.
    named: Vec<(PathBuf, PathBuf)>,
    /// Large files that nothing names any more.
    unnamed: Vec<PathBuf>,
    /// How many entries left the store.
    removed: u64,
    evicted: u64,
}

impl Made {
    /// The batch is committed.
    fn keep(self, shared: &Shared) {
        for path in &self.unnamed {
            // What cannot be removed is found by the scrub.
            let _ignored = fs::remove_file(path);
        }
        for (number, size) in &self.packs {
            if size.is_none() {
                shared.packs.forget(*number);
                // A pack that the index does not know is removed when the store is opened.
                let _ignored = fs::remove_file(shared.layout.pack(*number));
            }
        }
        let on_disk = shared.sizes.with(|sizes| {
            for (number, size) in self.packs {
                match size {
                    Some(size) => drop(sizes.packs.insert(number, size)),
                    None => drop(sizes.packs.remove(&number)),
                }
            }
            sizes.totals = self.totals;
            sizes.on_disk()
        });
        shared.room.set_on_disk(on_disk);
        shared.note_removed(self.removed, self.evicted);
        shared.watch_fill();
    }

    /// The batch is not committed: the disk is as it was, as far as it can be.
    fn undo(self, shared: &Shared, open_pack: &mut OpenPack, before: (u32, u64)) {
        for (temporary, path) in &self.named {
            // The task is tried again. If it cannot be, the scrub finds the file.
            let _ignored = fs::rename(path, temporary);
        }
        let (number, size) = before;
        for made in number..=open_pack.number {
            if made > number {
                let _ignored = fs::remove_file(shared.layout.pack(made));
            }
        }
        let is_restored = open_pack.number == number
            && open_pack
                .file
                .as_ref()
                .is_none_or(|file| file.set_len(size).is_ok());
        if is_restored {
            open_pack.size = size;
        } else {
            // What follows goes to another pack; the tail of this one is cut off at the next
            // opening, or never read.
            *open_pack = OpenPack {
                number: open_pack.number + 1,
                file: None,
                size: 0,
            };
        }
    }
}

/// What is told to whoever asked a store that is closing.
pub(super) fn closing() -> Fault {
    Fault::new(FaultKind::Unavailable, "the store is being closed")
}

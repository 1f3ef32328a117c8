//! A store on disk: the server's.
//!
//! ```text
//! ROOT/
//!   lock                          held by the process that uses the store
//!   epoch                         how often the store was opened; never goes back
//!   index.redb                    where everything is ([`index`])
//!   packs/0000002a.pack           records of small blobs, results, names, pins ([`record`])
//!   files/blake3/ab/cd/abcd…-SIZE large blobs ([`large`])
//!   tmp/                          large blobs on their way
//! ```
//!
//! # What is promised
//!
//! - **An accepted write lasts.** When a write is answered, its bytes and its place in the index
//!   are synced to disk ([`writer`]). Many small writes share one sync.
//! - **Nothing damaged is given out.** Bytes are checked against their digest when they come, and
//!   against a checksum of that moment when they are read. What is damaged counts as absent from
//!   then on.
//! - **Opening takes no time**, whatever the store holds. A store whose index is lost or torn is
//!   usable at once as well: it is filled again from packs and files in the background
//!   ([`rebuild`]), and what is not found again yet is absent.
//! - **The limit holds while bytes come** ([`room`]). In the background, what was used least
//!   recently goes ([`keeper`]); packs that are mostly dead are compacted ([`compact`]).
//! - **Memory** does not grow with what is stored, but for some tens of bytes for each pack.
//!
//! # Concurrency
//!
//! One thread writes ([`writer`]); one keeps order ([`keeper`]); readers look the index up in a
//! snapshot and read packs and files by position, on the runtime's threads for blocking work. A
//! reader may find that what it looked up has moved meanwhile: it looks again.
//!
//! Locks are held for moments and never together, but for the index's own.

mod check;
mod compact;
mod holders;
mod index;
mod keeper;
mod key;
mod large;
mod layout;
mod named;
mod packs;
mod pins;
mod possession;
mod read;
mod rebuild;
mod record;
mod room;
mod scan;
mod settings;
#[cfg(test)]
mod tests;
mod touches;
mod write;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use tokio::sync::{Semaphore, oneshot};

pub use check::{CheckReport, Damage};
pub use named::{Named, Walked};
pub use settings::DiskSettings;

use crate::clock::Clock;
use crate::fault::{Fault, FaultKind};
use index::Index;
use keeper::Bell;
use layout::Layout;
use packs::Packs;
use room::Room;
use touches::Touches;
use writer::{Answer, SharedSizes, Task, Work};

/// What waits to be written takes no more memory than this, in KiB.
const QUEUE: u32 = 64 << 10;

/// What the threads and tasks of a store share.
struct Shared {
    layout: Layout,
    settings: DiskSettings,
    clock: Clock,
    index: Index,
    packs: Packs,
    room: Arc<Room>,
    sizes: SharedSizes,
    touches: Touches,
    /// How often a blob or result left the store.
    removals: Arc<AtomicU64>,
    evicted: AtomicU64,
    damaged: AtomicU64,
    /// How often pins were changed.
    pin_changes: AtomicU64,
    is_rebuilding: AtomicBool,
    /// Wakes and ends the threads that work in the background.
    bell: Bell,
    _lock: File,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn count_damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    fn note_removed(&self, removed: u64, evicted: u64) {
        if removed > 0 {
            self.removals.fetch_add(removed, Ordering::Release);
        }
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
    }
}

/// A store on disk.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
    writer: Writer,
    writing: Option<JoinHandle<()>>,
    /// Bounds the bytes that wait to be written.
    memory: Arc<Semaphore>,
    epoch: u64,
    /// What works in the background, and ends when the bell says so.
    threads: Vec<JoinHandle<()>>,
    /// Numbers temporary files.
    incoming: AtomicU64,
}

/// Sends tasks to the writer.
#[derive(Debug, Clone)]
struct Writer {
    tasks: Sender<Task>,
}

impl Writer {
    fn send(&self, task: Task) -> Result<(), Fault> {
        self.tasks.send(task).map_err(|_| writer::closing())
    }

    /// Sends a task and waits for its end. Blocks the thread.
    fn work(&self, work: Work) -> Result<Answer, Fault> {
        let (answer, answered) = oneshot::channel();
        self.send(Task {
            work,
            room: None,
            memory: None,
            answer,
        })?;
        answered.blocking_recv().map_err(|_| writer::closing())?
    }

    /// Sends a task that nobody waits for.
    fn hint(&self, work: Work) {
        let (answer, _nobody) = oneshot::channel();
        // A store that is being closed has no use for hints.
        let _ignored = self.send(Task {
            work,
            room: None,
            memory: None,
            answer,
        });
    }
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// Number of blobs.
    pub blobs: u64,
    /// Bytes of all blobs.
    pub blob_bytes: u64,
    /// Number of results.
    pub results: u64,
    /// What packs and files take on disk, dead records included.
    pub on_disk_bytes: u64,
    /// What they may take; as much as the disk has if the settings give no limit.
    pub limit_bytes: u64,
    /// Blobs and results that were evicted since the store was opened.
    pub evicted: u64,
    /// Blobs and results that were found damaged since the store was opened.
    pub damaged: u64,
}

impl DiskStore {
    /// Opens the store in a directory, which is made if need be. Takes no time, whatever the store
    /// holds, but does block the thread for some disk accesses.
    ///
    /// Only one process at a time can use a store: [`FaultKind::Unavailable`] if another does.
    pub fn open(root: &Path, settings: DiskSettings, clock: Clock) -> Result<Self, Fault> {
        let layout = Layout::new(root);
        let lock = layout.prepare()?;
        let epoch = layout.next_epoch()?;
        let index::Opened { index, is_complete } = Index::open(&layout)?;
        let packs = Packs::new(&layout);
        let room = Arc::new(Room::new(settings.limit, settings.pack_size));
        let shared = Arc::new(Shared {
            layout,
            settings,
            clock,
            index,
            packs,
            room,
            sizes: SharedSizes::default(),
            touches: Touches::default(),
            removals: Arc::default(),
            evicted: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            pin_changes: AtomicU64::new(0),
            is_rebuilding: AtomicBool::new(false),
            bell: Bell::default(),
            _lock: lock,
        });
        let (tasks, queue) = mpsc::channel();
        let writer = Writer { tasks };
        let rebuild::Stock {
            open_pack,
            unknown_packs,
            is_complete,
        } = rebuild::take_stock(&shared, is_complete)?;
        let mut store = Self {
            writing: None,
            memory: Arc::new(Semaphore::new(QUEUE as usize)),
            epoch,
            threads: Vec::new(),
            incoming: AtomicU64::new(0),
            shared: Arc::clone(&shared),
            writer,
        };
        // If one cannot be started, the store is dropped, which ends the others.
        store.writing = Some(start("writer", move || {
            writer::run(&shared, &queue, open_pack);
        })?);
        store.background("keeper", keeper::run)?;
        if !is_complete {
            store.shared.is_rebuilding.store(true, Ordering::Release);
            store.background("rebuild", move |shared, writer| {
                rebuild::run(shared, writer, &unknown_packs);
            })?;
        }
        if let Some(rate) = store.shared.settings.scrub {
            store.background("scrub", move |shared, writer| {
                check::scrub(shared, writer, rate);
            })?;
        }
        Ok(store)
    }

    /// Starts a thread that works in the background.
    fn background(
        &mut self,
        name: &str,
        body: impl FnOnce(&Shared, &Writer) + Send + 'static,
    ) -> Result<(), Fault> {
        let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
        self.threads
            .push(start(name, move || body(&shared, &writer))?);
        Ok(())
    }

    /// How often this store was opened, this time included. Higher than ever before, also if the
    /// store lost everything else: a basis for numbers that must never come twice.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Grows whenever a blob or result leaves the store.
    pub fn removals(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.removals)
    }

    /// Whether the index is being made again from what is on disk.
    pub fn is_rebuilding(&self) -> bool {
        self.shared.is_rebuilding.load(Ordering::Acquire)
    }

    /// How much there is.
    pub fn usage(&self) -> DiskUsage {
        let totals = self.shared.sizes.with(|sizes| sizes.totals);
        let fill = self.shared.room.fill(self.shared.layout.root());
        DiskUsage {
            blobs: totals.blobs,
            blob_bytes: totals.blob_bytes,
            results: totals.results,
            on_disk_bytes: fill.on_disk,
            limit_bytes: fill.limit,
            evicted: self.shared.evicted.load(Ordering::Relaxed),
            damaged: self.shared.damaged.load(Ordering::Relaxed),
        }
    }

    /// Writes what is still to be written, ends the threads, and lets other processes in. Whoever
    /// still waits for the store is told that it is closing. Blocks the thread for moments.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.bell.end();
        // A thread that panicked has nothing left to do.
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
        // The writer comes last: the others may still have waited for it.
        if let Some(thread) = self.writing.take() {
            self.writer.hint(Work::End);
            let _panicked = thread.join();
        }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Fault> {
    let thread = thread::Builder::new().name(format!("disk-{name}"));
    thread.spawn(body).map_err(|error| {
        Fault::new(FaultKind::Internal, format!("cannot start the {name}")).caused_by(error)
    })
}

/// Runs blocking work on the runtime's threads for it. It begins at once, awaited or not.
fn blocking<T: Send + 'static>(
    body: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> impl Future<Output = Result<T, Fault>> + Send + 'static {
    let running = tokio::task::spawn_blocking(body);
    async move {
        running.await.unwrap_or_else(|error| {
            let fault = Fault::new(FaultKind::Internal, "the store's work was broken off");
            Err(fault.caused_by(error))
        })
    }
}

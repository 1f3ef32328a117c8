//! What the stores of a server count of themselves, for its metrics.
//!
//! A server makes one [`Counters`], gives it (as `Arc<Counters>`) to every store that it is made of,
//! and reads it when its metrics are asked for. Counting is a few atomic additions; a store that
//! nobody looks at gets [`Counters::default`].
//!
//! # How a store uses it
//!
//! Whatever goes over the network to an engine (Redis, the object store, another server) is run
//! through that engine's [`Engine::run`], which counts it, takes its time, tells whether the engine
//! is up, and opens a [`tracing`] span for it, so that it is part of the request's trace:
//!
//! ```
//! # use ashlar_store::{Fault, counters::Counters};
//! # async fn get() -> Result<Vec<u8>, Fault> { Ok(vec![1, 2, 3]) }
//! # async fn example(counters: &Counters) -> Result<Vec<u8>, Fault> {
//! let bytes = counters.objects.run("get", get()).await?;
//! counters.objects.received(bytes.len() as u64);
//! # Ok(bytes)
//! # }
//! ```
//!
//! `operation` is one of a few fixed words for a group of commands, such as `get`, `put`, `script`:
//! it becomes a label and part of the span's name. Nothing that a client sends goes into it. Streams,
//! which go on after the answer, hold an [`Operation`] from [`Engine::start`] until their end.
//! [`Engine::retried`] counts a further attempt of an operation. Everything else is a [`Count`] of
//! [`Near`], [`Packs`] or [`Leasing`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::{Instrument as _, Span};

use crate::fault::{Fault, FaultKind};

/// A number that goes up, or is set.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// From now on it is this.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All that the stores of one server count.
#[derive(Debug)]
pub struct Counters {
    /// Redis: results, leases, the index of blobs.
    pub redis: Engine,
    /// The object store.
    pub objects: Engine,
    /// Other servers, which are asked for what they have near.
    pub peers: Engine,
    /// The near tier of this server.
    pub near: Near,
    /// What becomes of the objects in the object store.
    pub packs: Packs,
    /// Leases.
    pub leasing: Leasing,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            redis: Engine::new("redis"),
            objects: Engine::new("objects"),
            peers: Engine::new("peer"),
            near: Near::default(),
            packs: Packs::default(),
            leasing: Leasing::default(),
        }
    }
}

/// Blobs that lie near, before they are asked for far away.
#[derive(Debug, Default)]
pub struct Near {
    /// Blobs that were asked for and found near.
    pub hits: Count,
    /// Blobs that were asked for and are not near.
    pub misses: Count,
    /// Bytes that were read near.
    pub hit_bytes: Count,
    /// Bytes that were read far away, for blobs that are not near.
    pub miss_bytes: Count,
}

/// What becomes of objects in the object store.
#[derive(Debug, Default)]
pub struct Packs {
    /// Packs that were written.
    pub written: Count,
    /// Blobs in them.
    pub written_blobs: Count,
    /// Blobs that were written as objects of their own.
    pub alone: Count,
    /// Packs that were written anew because most of their blobs are dead.
    pub rewritten: Count,
    /// Blobs that the index named and the store did not have, or had with wrong bytes.
    pub read_repairs: Count,
    /// Objects that were condemned.
    pub condemned: Count,
    /// Objects that were deleted.
    pub deleted: Count,
    /// Bytes of the objects that were deleted.
    pub deleted_bytes: Count,
}

/// What becomes of leases that are asked for.
#[derive(Debug, Default)]
pub struct Leasing {
    /// They were granted.
    pub granted: Count,
    /// Another holder had them.
    pub refused: Count,
    /// What was made under them came too late: another holder had been granted them since.
    pub superseded: Count,
}

/// Upper bounds of the histograms, in seconds: from a tenth of a millisecond to 15 seconds. What
/// took longer is in none of them.
pub const BOUNDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 15.0,
];

/// What is counted of one operation of an engine.
#[derive(Debug, Default)]
pub struct OperationCounts {
    /// How many took no longer than each of [`BOUNDS`] and longer than the one before; the last are
    /// those that took longer than all.
    buckets: [Count; BOUNDS.len() + 1],
    nanoseconds: Count,
    retries: Count,
    faults: RwLock<BTreeMap<&'static str, Arc<Count>>>,
}

/// The counts of one operation, as they were at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationSnapshot {
    /// Its name.
    pub operation: &'static str,
    /// How many took no longer than each of [`BOUNDS`] and longer than the one before; the last are
    /// those that took longer than all.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// What all took together.
    pub elapsed: Duration,
    /// Attempts behind the first.
    pub retries: u64,
    /// How many failed, by what kind of fault it was.
    pub faults: Vec<(&'static str, u64)>,
}

/// Something that stores ask over a network.
#[derive(Debug)]
pub struct Engine {
    name: &'static str,
    /// 0 while nobody has asked it anything, 1 for no, 2 for yes.
    up: Count,
    received: Count,
    sent: Count,
    operations: RwLock<BTreeMap<&'static str, Arc<OperationCounts>>>,
}

impl Engine {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            up: Count::default(),
            received: Count::default(),
            sent: Count::default(),
            operations: RwLock::default(),
        }
    }

    /// Its name, as metrics and spans say it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Does an operation, counts it and traces it.
    pub async fn run<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let running = self.start(operation);
        let result = work.instrument(running.span.clone()).await;
        running.end(result.as_ref().err().map(|fault| fault.kind));
        result
    }

    /// Begins an operation that ends elsewhere. One that is dropped before its end was cancelled.
    pub fn start(&self, operation: &'static str) -> Operation<'_> {
        Operation {
            engine: self,
            operation,
            // The name is made only if somebody traces.
            span: tracing::info_span!(
                "store",
                otel.name = format_args!("{} {operation}", self.name),
                otel.kind = "client",
                otel.status_code = tracing::field::Empty,
                store = self.name,
                operation,
                fault = tracing::field::Empty,
                retries = tracing::field::Empty,
                bytes = tracing::field::Empty,
            ),
            start: Instant::now(),
            ended: false,
        }
    }

    /// Counts a further attempt of an operation that failed.
    pub fn retried(&self, operation: &'static str) {
        self.counts(operation).retries.one();
    }

    /// Counts bytes that came from it.
    pub fn received(&self, bytes: u64) {
        self.received.add(bytes);
    }

    /// Counts bytes that went to it.
    pub fn sent(&self, bytes: u64) {
        self.sent.add(bytes);
    }

    /// Notes whether it can be reached; every operation notes it, too.
    pub fn set_up(&self, up: bool) {
        self.up.set(if up { 2 } else { 1 });
    }

    /// Whether it could be reached when it was asked last; `None` if nobody asked.
    pub fn is_up(&self) -> Option<bool> {
        match self.up.get() {
            0 => None,
            1 => Some(false),
            _ => Some(true),
        }
    }

    /// Bytes that came from it and that went to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    /// The counts of all operations that were ever begun.
    pub fn snapshot(&self) -> Vec<OperationSnapshot> {
        let operations = self.operations.read();
        let operations = operations.unwrap_or_else(PoisonError::into_inner);
        let taken = operations.iter().map(|(operation, counts)| {
            let faults = counts.faults.read();
            let faults = faults.unwrap_or_else(PoisonError::into_inner);
            OperationSnapshot {
                operation,
                buckets: std::array::from_fn(|at| counts.buckets.get(at).map_or(0, Count::get)),
                elapsed: Duration::from_nanos(counts.nanoseconds.get()),
                retries: counts.retries.get(),
                faults: faults
                    .iter()
                    .map(|(kind, count)| (*kind, count.get()))
                    .collect(),
            }
        });
        taken.collect()
    }

    fn counts(&self, operation: &'static str) -> Arc<OperationCounts> {
        entry(&self.operations, operation)
    }
}

/// The entry of a name, which is made if there is none. Names are literals: there are few.
fn entry<T: Default>(map: &RwLock<BTreeMap<&'static str, Arc<T>>>, name: &'static str) -> Arc<T> {
    let there = map.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = there.get(name) {
        return there.clone();
    }
    drop(there);
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    map.entry(name).or_default().clone()
}

/// An operation that is going on.
#[derive(Debug)]
pub struct Operation<'e> {
    engine: &'e Engine,
    operation: &'static str,
    span: Span,
    start: Instant,
    ended: bool,
}

impl Operation<'_> {
    /// Its span, for [`Instrument::instrument`](tracing::Instrument::instrument).
    pub const fn span(&self) -> &Span {
        &self.span
    }

    /// It is over: with which fault, if any.
    pub fn end(mut self, fault: Option<FaultKind>) {
        self.ended = true;
        let is_failure = fault.is_some_and(|kind| !kind.is_answer());
        self.note(fault.map(FaultKind::word), is_failure);
        // What the engine says itself shows that it is there.
        self.engine.set_up(fault != Some(FaultKind::Unavailable));
    }

    fn note(&self, fault: Option<&'static str>, is_failure: bool) {
        let elapsed = self.start.elapsed();
        let counts = self.engine.counts(self.operation);
        let seconds = elapsed.as_secs_f64();
        let at = BOUNDS.iter().take_while(|bound| seconds > **bound).count();
        if let Some(bucket) = counts.buckets.get(at) {
            bucket.one();
        }
        counts
            .nanoseconds
            .add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        let Some(fault) = fault else { return };
        self.span.record("fault", fault);
        if is_failure {
            self.span.record("otel.status_code", "ERROR");
        }
        entry(&counts.faults, fault).one();
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.note(Some(CANCELLED), false);
        }
    }
}

/// The fault of an operation that nobody waited for.
const CANCELLED: &str = "cancelled";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn operations_are_counted_by_name_and_fault() {
        let counters = Counters::default();
        assert_eq!(counters.redis.is_up(), None);
        counters.redis.run("get", async { Ok(()) }).await.unwrap();
        assert_eq!(counters.redis.is_up(), Some(true));
        let away = async { Err::<(), _>(Fault::new(FaultKind::Unavailable, "away")) };
        counters.redis.run("get", away).await.unwrap_err();
        counters.redis.retried("get");
        assert_eq!(counters.redis.is_up(), Some(false));
        let gone = async { Err::<(), _>(Fault::not_found("it")) };
        counters.redis.run("put", gone).await.unwrap_err();
        assert_eq!(counters.redis.is_up(), Some(true));
        let taken = counters.redis.snapshot();
        let [get, put] = &taken[..] else {
            panic!("{taken:?}")
        };
        assert_eq!(get.operation, "get");
        assert_eq!(get.buckets.iter().sum::<u64>(), 2);
        assert_eq!(get.retries, 1);
        assert_eq!(get.faults, [("unavailable", 1)]);
        assert_eq!(put.faults, [("not_found", 1)]);
        assert!(counters.objects.snapshot().is_empty());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_counted_as_cancelled() {
        let counters = Counters::default();
        counters.peers.set_up(true);
        drop(counters.peers.start("get"));
        let forever = std::future::pending::<Result<(), Fault>>();
        let mut run = Box::pin(counters.peers.run("get", forever));
        assert!(futures::poll!(run.as_mut()).is_pending());
        drop(run);
        assert_eq!(counters.peers.snapshot()[0].faults, [("cancelled", 2)]);
        assert_eq!(counters.peers.is_up(), Some(true));
    }

    #[tokio::test]
    async fn times_fall_into_their_buckets() {
        let counters = Counters::default();
        let slow = async {
            std::thread::sleep(Duration::from_millis(3));
            Ok(())
        };
        counters.objects.run("put", slow).await.unwrap();
        let put = counters.objects.snapshot().remove(0);
        assert!(put.elapsed >= Duration::from_millis(3), "{put:?}");
        let below: u64 = put.buckets[..5].iter().sum();
        assert_eq!(below, 0, "nothing is quicker than it was: {put:?}");
        assert_eq!(put.buckets[5..].iter().sum::<u64>(), 1, "{put:?}");
    }
}

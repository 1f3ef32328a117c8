//! What the queue counts for the page of metrics.
//!
//! | metric | kind |
//! |---|---|
//! | `ashlar_cache_queue_operations{stage}` | operations that wait, that run, and that are remembered |
//! | `ashlar_cache_queue_workers`, `_queue_slots`, `_queue_free_slots` | the workers that are there |
//! | `ashlar_cache_queue_sessions` | clients' sessions |
//! | `ashlar_cache_queue_event_bytes` | bytes of events in memory |
//! | `ashlar_cache_queue_waited_seconds` | how long operations waited until they began to run |
//! | `ashlar_cache_queue_submissions_total{kind}` | `new` ones, those that `joined` another, and `refused` ones |
//! | `ashlar_cache_queue_outcomes_total{outcome}` | `done`, `failed` (a step did), `poison`, `cancelled` |
//! | `ashlar_cache_queue_requeues_total` | operations that were taken from a worker and wait again |
//! | `ashlar_cache_queue_lost_leases_total`, `_queue_late_outcomes_total` | workers that fell silent; what came of work that was not theirs any more |
//! | `ashlar_cache_queue_leading` | 1 on the server that has the queue |
//! | `ashlar_cache_namespace_queued{namespace}` | operations that wait, by namespace |

use std::time::Duration;

use ashlar_queue::{Counts, End};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabel {
    namespace: String,
}

/// What happened since the start, whichever queue it happened to.
#[derive(Debug)]
pub struct Tally {
    submissions: Family<KindLabel, Counter>,
    outcomes: Family<OutcomeLabel, Counter>,
    requeues: Counter,
    waited: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            submissions: Family::default(),
            outcomes: Family::default(),
            requeues: Counter::default(),
            // From a millisecond to about an hour.
            waited: Histogram::new(exponential_buckets(0.001, 3.0, 15)),
        }
    }
}

/// What there is now.
#[derive(Debug, Clone, Default)]
pub struct QueueNow {
    /// Whether the queue is here.
    pub leads: bool,
    /// What the queue counts.
    pub counts: Counts,
    /// Sessions.
    pub sessions: usize,
    /// Bytes of events.
    pub bytes: usize,
    /// What waits in some namespaces.
    pub queued: Vec<(String, usize)>,
}

impl Tally {
    /// A submission was taken.
    pub fn submitted(&self, is_new: bool) {
        let kind = if is_new { "new" } else { "joined" };
        self.submissions.get_or_create(&KindLabel { kind }).inc();
    }

    /// A submission was not taken.
    pub fn refused(&self) {
        let label = KindLabel { kind: "refused" };
        self.submissions.get_or_create(&label).inc();
    }

    /// An operation began to run.
    pub fn started(&self, waited: Duration) {
        self.waited.observe(waited.as_secs_f64());
    }

    /// An operation was taken from a worker.
    pub fn requeued(&self) {
        self.requeues.inc();
    }

    /// An operation ended.
    pub fn ended(&self, end: &End) {
        let outcome = match end {
            End::Done(done) if done.failed => "failed",
            End::Done(_) => "done",
            End::Poison(_) => "poison",
            End::Cancelled { .. } => "cancelled",
            _ => "other",
        };
        self.outcomes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// All of it, with what there is now, for the page.
    pub fn register(&self, now: &QueueNow, registry: &mut Registry) {
        registry.register(
            "queue_submissions",
            "Submissions by what became of them",
            self.submissions.clone(),
        );
        registry.register(
            "queue_outcomes",
            "Operations that ended, by how",
            self.outcomes.clone(),
        );
        registry.register(
            "queue_requeues",
            "Operations that were taken from a worker and wait again",
            self.requeues.clone(),
        );
        registry.register(
            "queue_waited_seconds",
            "How long operations waited until they began to run",
            self.waited.clone(),
        );
        now.register(registry);
    }
}

fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

impl QueueNow {
    fn register(&self, registry: &mut Registry) {
        let counts = &self.counts;
        let stages: Family<StageLabel, Gauge> = Family::default();
        for (stage, value) in [
            ("queued", counts.queued),
            ("running", counts.running),
            ("remembered", counts.remembered),
        ] {
            stages
                .get_or_create(&StageLabel { stage })
                .set(number(value));
        }
        registry.register("queue_operations", "Operations by stage", stages);
        let mut gauge = |name: &str, help: &str, value: i64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        };
        for (name, help, value) in [
            (
                "queue_leading",
                "Whether the queue is here",
                self.leads.into(),
            ),
            (
                "queue_workers",
                "Workers that are there",
                number(counts.workers),
            ),
            (
                "queue_slots",
                "What workers run at once",
                number(counts.slots),
            ),
            (
                "queue_free_slots",
                "What workers take more of now",
                number(counts.free_slots),
            ),
            (
                "queue_sessions",
                "Sessions of clients",
                number(self.sessions),
            ),
            (
                "queue_event_bytes",
                "Bytes of events in memory",
                number(self.bytes),
            ),
        ] {
            gauge(name, help, value);
        }
        let counter = |value: u64| {
            let counter: Counter = Counter::default();
            counter.inc_by(value);
            counter
        };
        registry.register(
            "queue_lost_leases",
            "Leases of workers that ended without a word",
            counter(counts.lost),
        );
        registry.register(
            "queue_late_outcomes",
            "Outcomes that came too late",
            counter(counts.late),
        );
        let queued: Family<NamespaceLabel, Gauge> = Family::default();
        for (namespace, value) in &self.queued {
            let namespace = namespace.clone();
            let gauge = queued.get_or_create(&NamespaceLabel { namespace });
            gauge.set(number(*value));
        }
        registry.register(
            "namespace_queued",
            "Operations that wait, by namespace",
            queued,
        );
    }
}

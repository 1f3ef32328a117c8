//! What Prometheus is told.
//!
//! | metric | kind |
//! |---|---|
//! | `ashlar_worker_attached` | 1 while there is a connection to the farm |
//! | `ashlar_worker_draining` | 1 while it is being stopped |
//! | `ashlar_worker_slots`, `_slots_taken`, `_slots_free` | segments at once: at most, now, and how many more are taken now |
//! | `ashlar_worker_ended_total{outcome}` | work that ended: `done`, `failed`, `infrastructure`, `handed-back`, `cancelled` |
//! | `ashlar_worker_work_seconds` | how long it took |
//! | `ashlar_worker_sent_bytes_total`, `_sent_results_total` | what was sent to the farm's cache |
//! | `ashlar_worker_layers` | layers that are here as files |
//! | `ashlar_worker_info{version}` | 1 |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// All that is counted. Cloning it gives another handle.
#[derive(Debug, Clone)]
pub struct Metrics {
    ended: Family<OutcomeLabel, Counter>,
    seconds: Histogram,
    sent_bytes: Counter,
    sent_results: Counter,
    layers: Arc<AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            // From a hundredth of a second to about an hour.
            seconds: Histogram::new(exponential_buckets(0.01, 3.0, 12)),
            sent_bytes: Counter::default(),
            sent_results: Counter::default(),
            layers: Arc::default(),
        }
    }
}

/// Numbers that are looked up when Prometheus asks.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "they are documented in the table above")]
pub struct Now {
    pub is_attached: bool,
    pub is_draining: bool,
    pub slots: u32,
    pub slots_taken: u32,
    pub slots_free: u32,
}

impl Metrics {
    /// Work ended.
    pub fn ended(&self, outcome: &'static str, seconds: f64) {
        self.ended.get_or_create(&OutcomeLabel { outcome }).inc();
        self.seconds.observe(seconds);
    }

    /// So much was sent to the farm.
    pub fn sent(&self, bytes: u64, results: u64) {
        self.sent_bytes.inc_by(bytes);
        self.sent_results.inc_by(results);
    }

    /// So many layers are here as files.
    pub fn set_layers(&self, layers: usize) {
        self.layers.store(layers as u64, Ordering::Relaxed);
    }

    /// The page that Prometheus reads.
    pub fn page(&self, now: Now) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("ashlar_worker");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        let info = Info::new(version);
        registry.register("worker", "The worker's version", info);
        registry.register("ended", "Work that ended", self.ended.clone());
        let seconds = self.seconds.clone();
        registry.register("work_seconds", "How long work took", seconds);
        let bytes = self.sent_bytes.clone();
        registry.register("sent_bytes", "Bytes sent to the farm's cache", bytes);
        let results = self.sent_results.clone();
        registry.register("sent_results", "Results sent to the farm's cache", results);
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        let attached = now.is_attached.into();
        gauge("attached", "Whether there is a connection", attached);
        let draining = now.is_draining.into();
        gauge("draining", "Whether it is being stopped", draining);
        gauge("slots", "Segments at once", now.slots.into());
        let taken = now.slots_taken.into();
        gauge("slots_taken", "Segments that run", taken);
        let free = now.slots_free.into();
        gauge("slots_free", "Segments that it would take now", free);
        let layers = self.layers.load(Ordering::Relaxed);
        gauge("layers", "Layers that are here as files", layers);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_its_numbers() {
        let metrics = Metrics::default();
        metrics.ended("done", 0.5);
        metrics.sent(100, 2);
        metrics.set_layers(7);
        let page = metrics.page(Now {
            is_attached: true,
            slots: 4,
            slots_taken: 1,
            slots_free: 3,
            ..Now::default()
        });
        let page = page.unwrap();
        for line in [
            "ashlar_worker_attached 1",
            "ashlar_worker_draining 0",
            "ashlar_worker_slots_free 3",
            "ashlar_worker_ended_total{outcome=\"done\"} 1",
            "ashlar_worker_work_seconds_count 1",
            "ashlar_worker_sent_bytes_total 100",
            "ashlar_worker_layers 7",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
    }
}

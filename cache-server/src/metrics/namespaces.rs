//! What each namespace does.
//!
//! | metric | kind |
//! |---|---|
//! | `ashlar_cache_namespace_requests_total{namespace}` | requests |
//! | `ashlar_cache_namespace_received_bytes_total`, `_namespace_sent_bytes_total` | bodies of requests and answers |
//! | `ashlar_cache_namespace_hits_total`, `_namespace_misses_total` | results that were asked for |
//! | `ashlar_cache_namespace_refusals_total{namespace, reason}` | requests refused for `rights`, `quota` or `rate` |
//! | `ashlar_cache_namespace_refused_blobs_total{namespace}` | blobs that were not taken for want of room, those within batches too |
//! | `ashlar_cache_namespace_held_bytes`, `_namespace_limit_bytes` | what it holds, and may hold; 0 for no limit |
//!
//! Clients make namespaces, and nobody but Prometheus pays for labels. So at most [`MOST`] have their
//! own; all others are `other`. A namespace that is idle for [`IDLE`] loses its label to the next
//! one. One that a request names and that it may not use gets none.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ashlar_store::counters::Count;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::stores::HolderUsage;

/// The namespaces that have a label of their own.
pub const MOST: usize = 200;

/// A namespace that did nothing for so long gives its label to another.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// The label of all that have none.
const OTHER: &str = "other";

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its sender may not do that, or is not known.
    Rights,
    /// The namespace, or the store, may hold no more.
    Quota,
    /// There were too many requests, or bytes, in too little time.
    Rate,
}

/// One number of a holder.
type OfHolder = fn(&HolderUsage) -> u64;

/// What a namespace does.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests.
    pub requests: Count,
    /// Bytes of their bodies.
    pub received: Count,
    /// Bytes of the answers' bodies.
    pub sent: Count,
    /// Results that were asked for and found.
    pub hits: Count,
    /// Results that were asked for and not found.
    pub misses: Count,
    rights: Count,
    quota: Count,
    rate: Count,
}

impl Counts {
    /// Counts a refusal.
    pub fn refused(&self, why: Refusal) {
        match why {
            Refusal::Rights => self.rights.one(),
            Refusal::Quota => self.quota.one(),
            Refusal::Rate => self.rate.one(),
        }
    }
}

/// The counts of namespaces.
#[derive(Debug, Default)]
pub struct ByNamespace {
    known: RwLock<HashMap<String, Known>>,
    other: Arc<Counts>,
}

#[derive(Debug)]
struct Known {
    counts: Arc<Counts>,
    last_used: Mutex<Instant>,
}

impl ByNamespace {
    /// The counts of a namespace that somebody may use.
    pub fn of(&self, namespace: &str) -> Arc<Counts> {
        self.of_at(namespace, Instant::now())
    }

    fn of_at(&self, namespace: &str, now: Instant) -> Arc<Counts> {
        if let Some(counts) = self.look(namespace, now) {
            return counts;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, known| now.saturating_duration_since(known.last_used()) < IDLE);
            if known.len() >= MOST {
                return self.other.clone();
            }
        }
        let new = known.entry(namespace.to_owned()).or_insert_with(|| Known {
            counts: Arc::default(),
            last_used: Mutex::new(now),
        });
        new.counts.clone()
    }

    /// The counts of a namespace that may be somebody's invention: those of all others, unless it
    /// has its own.
    pub fn of_known(&self, namespace: &str) -> Arc<Counts> {
        let known = self.look(namespace, Instant::now());
        known.unwrap_or_else(|| self.other.clone())
    }

    fn look(&self, namespace: &str, now: Instant) -> Option<Arc<Counts>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(namespace)?;
        *known
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
        Some(known.counts.clone())
    }

    /// Those that have labels of their own.
    pub fn names(&self) -> Vec<String> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.keys().cloned().collect()
    }

    /// What there is now, for the page.
    pub fn reader(
        &self,
        held: &[HolderUsage],
        refused: &[(Arc<str>, u64)],
    ) -> impl Collector + use<> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let counts = known
            .iter()
            .map(|(name, known)| (name.clone(), known.counts.clone()));
        let mut counts: Vec<_> = counts.collect();
        counts.sort_by(|one, other| one.0.cmp(&other.0));
        counts.push((OTHER.to_owned(), self.other.clone()));
        let (first, rest) = held.split_at(held.len().min(MOST));
        let mut held = first.to_vec();
        if !rest.is_empty() {
            held.push(HolderUsage {
                namespace: OTHER.to_owned(),
                bytes: rest.iter().map(|one| one.bytes).sum(),
                limit_bytes: 0,
            });
        }
        let mut refused = refused.to_vec();
        // Those who were refused most, for as many labels as there may be.
        refused.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let rest = refused.split_off(refused.len().min(MOST));
        if !rest.is_empty() {
            refused.push((OTHER.into(), rest.iter().map(|(_, count)| count).sum()));
        }
        Reader {
            counts,
            held,
            refused,
        }
    }
}

impl Known {
    fn last_used(&self) -> Instant {
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there was when Prometheus asked.
#[derive(Debug)]
struct Reader {
    counts: Vec<(String, Arc<Counts>)>,
    held: Vec<HolderUsage>,
    refused: Vec<(Arc<str>, u64)>,
}

type Read = fn(&Counts) -> u64;

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counters: [(&str, &str, Read); 5] = [
            ("namespace_requests", "Requests by namespace", |counts| {
                counts.requests.get()
            }),
            (
                "namespace_received_bytes",
                "Bytes of the bodies of requests, by namespace",
                |counts| counts.received.get(),
            ),
            (
                "namespace_sent_bytes",
                "Bytes of the bodies of answers, by namespace",
                |counts| counts.sent.get(),
            ),
            (
                "namespace_hits",
                "Results asked for and found, by namespace",
                |counts| counts.hits.get(),
            ),
            (
                "namespace_misses",
                "Results asked for and not found, by namespace",
                |counts| counts.misses.get(),
            ),
        ];
        for (name, help, read) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (namespace, counts) in &self.counts {
                let labels = [("namespace", namespace.as_str())];
                let value = read(counts);
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        self.encode_refusals(&mut encoder)?;
        self.encode_refused_blobs(&mut encoder)?;
        self.encode_held(&mut encoder)
    }
}

impl Reader {
    fn encode_refusals(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "namespace_refusals",
            "Requests refused, by namespace and reason",
            None,
            MetricType::Counter,
        )?;
        for (namespace, counts) in &self.counts {
            let reasons = [
                ("rights", &counts.rights),
                ("quota", &counts.quota),
                ("rate", &counts.rate),
            ];
            for (reason, count) in reasons {
                let labels = [("namespace", namespace.as_str()), ("reason", reason)];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count.get(), None)?;
            }
        }
        Ok(())
    }

    fn encode_refused_blobs(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "namespace_refused_blobs",
            "Blobs not taken because their namespace may hold no more",
            None,
            MetricType::Counter,
        )?;
        for (namespace, count) in &self.refused {
            let labels = [("namespace", &**namespace)];
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn encode_held(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauges: [(&str, &str, OfHolder); 2] = [
            (
                "namespace_held_bytes",
                "Bytes that a namespace holds",
                |held| held.bytes,
            ),
            (
                "namespace_limit_bytes",
                "Bytes that a namespace may hold, 0 for no limit",
                |held| held.limit_bytes,
            ),
        ];
        for (name, help, read) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for held in &self.held {
                let labels = [("namespace", held.namespace.as_str())];
                let value = i64::try_from(read(held)).unwrap_or(i64::MAX);
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn page(namespaces: &ByNamespace, held: &[HolderUsage]) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(namespaces.reader(held, &[("full".into(), 3)])));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("a page");
        page
    }

    #[test]
    fn only_so_many_namespaces_have_labels() {
        let namespaces = ByNamespace::default();
        for number in 0..MOST + 50 {
            namespaces.of(&format!("acme/pr/{number}")).requests.one();
        }
        namespaces.of_known("invented").refused(Refusal::Rights);
        let page = page(&namespaces, &[]);
        let labels = page.matches("namespace_requests_total{").count();
        assert_eq!(labels, MOST + 1);
        assert!(
            page.contains("namespace_requests_total{namespace=\"other\"} 50"),
            "{page}"
        );
        let refused = "namespace_refusals_total{namespace=\"other\",reason=\"rights\"} 1";
        assert!(page.contains(refused), "{page}");
        assert!(!page.contains("invented"));
    }

    #[test]
    fn an_idle_namespace_makes_room() {
        let namespaces = ByNamespace::default();
        let begin = Instant::now();
        for number in 0..MOST {
            namespaces.of_at(&format!("old/{number}"), begin);
        }
        let later = begin + IDLE / 2;
        namespaces.of_at("old/0", later).hits.one();
        namespaces.of_at("new", later).hits.one();
        assert!(page(&namespaces, &[]).contains("namespace_hits_total{namespace=\"other\"} 1"));
        namespaces.of_at("new", begin + IDLE).hits.one();
        let page = page(&namespaces, &[]);
        assert!(
            page.contains("namespace_hits_total{namespace=\"new\"} 1"),
            "{page}"
        );
        assert!(
            page.contains("namespace_hits_total{namespace=\"old/0\"} 1"),
            "{page}"
        );
        assert!(!page.contains("old/1\""), "{page}");
    }

    #[test]
    fn what_the_small_ones_hold_is_added_up() {
        let held = |number: usize| HolderUsage {
            namespace: format!("n{number}"),
            bytes: 10,
            limit_bytes: 100,
        };
        let held: Vec<_> = (0..MOST + 3).map(held).collect();
        let page = page(&ByNamespace::default(), &held);
        assert!(
            page.contains("namespace_held_bytes{namespace=\"other\"} 30"),
            "{page}"
        );
        assert!(page.contains("namespace_refused_blobs_total{namespace=\"full\"} 3"));
        assert!(
            page.contains("namespace_limit_bytes{namespace=\"n0\"} 100"),
            "{page}"
        );
    }
}

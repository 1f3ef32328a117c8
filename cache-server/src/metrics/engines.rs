//! What the stores count of themselves: see [`Counters`].
//!
//! `store` is `redis`, `objects` or `peer`; a store that was never asked has no metrics.
//!
//! | metric | kind |
//! |---|---|
//! | `ashlar_cache_engine_up{store}` | 1 if it could be reached when it was asked last |
//! | `ashlar_cache_engine_seconds{store, operation}` | how long its operations took |
//! | `ashlar_cache_engine_faults_total{store, operation, fault}` | operations that failed; `not_found` and `precondition` are answers |
//! | `ashlar_cache_engine_retries_total{store, operation}` | attempts behind the first |
//! | `ashlar_cache_engine_received_bytes_total{store}`, `_engine_sent_bytes_total` | bytes that came and went |
//! | `ashlar_cache_near_hits_total`, `_near_misses_total` | blobs that were and were not in the near tier |
//! | `ashlar_cache_near_hit_bytes_total`, `_near_miss_bytes_total` | their bytes |
//! | `ashlar_cache_objects_packs_written_total`, `_objects_packed_blobs_total`, `_objects_packs_rewritten_total` | packs, and blobs in them |
//! | `ashlar_cache_objects_alone_written_total` | blobs that are objects of their own |
//! | `ashlar_cache_objects_read_repairs_total` | blobs that the index named and the object store did not have |
//! | `ashlar_cache_objects_condemned_total`, `_objects_deleted_total`, `_objects_deleted_bytes_total` | objects that were evicted |
//! | `ashlar_cache_leases_granted_total`, `_leases_refused_total`, `_leases_superseded_total` | what became of leases that were asked for |

use std::fmt;
use std::sync::Arc;

use ashlar_store::counters::{BOUNDS, Counters, Engine, OperationSnapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The counts of a server's stores, for the page.
#[derive(Debug)]
pub struct Engines(pub Arc<Counters>);

impl Collector for Engines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counters = &self.0;
        let all = [&counters.redis, &counters.objects, &counters.peers];
        let asked: Vec<&Engine> = all
            .into_iter()
            .filter(|engine| engine.is_up().is_some())
            .collect();
        let taken: Vec<_> = asked
            .iter()
            .map(|engine| (engine.name(), engine.snapshot()))
            .collect();
        encode_up(&mut encoder, &asked)?;
        encode_seconds(&mut encoder, &taken)?;
        encode_faults(&mut encoder, &taken)?;
        encode_retries(&mut encoder, &taken)?;
        encode_bytes(&mut encoder, &asked)?;
        self.encode_plain(&mut encoder)
    }
}

type Taken = [(&'static str, Vec<OperationSnapshot>)];

fn encode_up(encoder: &mut DescriptorEncoder<'_>, asked: &[&Engine]) -> fmt::Result {
    let help = "Whether a store could be reached when it was asked last";
    let mut family = encoder.encode_descriptor("engine_up", help, None, MetricType::Gauge)?;
    for engine in asked {
        let labels = [("store", engine.name())];
        let up = i64::from(engine.is_up() == Some(true));
        family.encode_family(&labels)?.encode_gauge(&up)?;
    }
    Ok(())
}

fn encode_seconds(encoder: &mut DescriptorEncoder<'_>, taken: &Taken) -> fmt::Result {
    let help = "How long operations of stores took";
    let kind = MetricType::Histogram;
    let mut family = encoder.encode_descriptor("engine_seconds", help, None, kind)?;
    for (store, operations) in taken {
        for one in operations {
            let labels = [("store", *store), ("operation", one.operation)];
            let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(one.buckets).collect();
            let (sum, count) = (one.elapsed.as_secs_f64(), one.buckets.iter().sum());
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
    }
    Ok(())
}

fn encode_faults(encoder: &mut DescriptorEncoder<'_>, taken: &Taken) -> fmt::Result {
    let help = "Operations of stores that failed, by kind of fault";
    let kind = MetricType::Counter;
    let mut family = encoder.encode_descriptor("engine_faults", help, None, kind)?;
    for (store, operations) in taken {
        for one in operations {
            for (fault, count) in &one.faults {
                let labels = [
                    ("store", *store),
                    ("operation", one.operation),
                    ("fault", *fault),
                ];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
    }
    Ok(())
}

fn encode_retries(encoder: &mut DescriptorEncoder<'_>, taken: &Taken) -> fmt::Result {
    let help = "Attempts of operations of stores behind the first";
    let kind = MetricType::Counter;
    let mut family = encoder.encode_descriptor("engine_retries", help, None, kind)?;
    for (store, operations) in taken {
        for one in operations {
            let labels = [("store", *store), ("operation", one.operation)];
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&one.retries, None)?;
        }
    }
    Ok(())
}

/// One of two numbers.
type Which = fn((u64, u64)) -> u64;

fn encode_bytes(encoder: &mut DescriptorEncoder<'_>, asked: &[&Engine]) -> fmt::Result {
    let both: [(&str, &str, Which); 2] = [
        ("engine_received_bytes", "Bytes from stores", |both| both.0),
        ("engine_sent_bytes", "Bytes to stores", |both| both.1),
    ];
    for (name, help, which) in both {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for engine in asked {
            let labels = [("store", engine.name())];
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&which(engine.bytes()), None)?;
        }
    }
    Ok(())
}

impl Engines {
    fn encode_plain(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (near, packs, leasing) = (&self.0.near, &self.0.packs, &self.0.leasing);
        let counts = [
            ("near_hits", "Blobs found in the near tier", &near.hits),
            ("near_misses", "Blobs not in the near tier", &near.misses),
            ("near_hit_bytes", "Bytes read near", &near.hit_bytes),
            (
                "near_miss_bytes",
                "Bytes read far away for blobs that are not near",
                &near.miss_bytes,
            ),
            ("objects_packs_written", "Packs written", &packs.written),
            (
                "objects_packed_blobs",
                "Blobs written in packs",
                &packs.written_blobs,
            ),
            (
                "objects_alone_written",
                "Blobs written as objects of their own",
                &packs.alone,
            ),
            (
                "objects_packs_rewritten",
                "Packs written anew because most of their blobs are dead",
                &packs.rewritten,
            ),
            (
                "objects_read_repairs",
                "Blobs that the index named and the object store did not have",
                &packs.read_repairs,
            ),
            ("objects_condemned", "Objects condemned", &packs.condemned),
            ("objects_deleted", "Objects deleted", &packs.deleted),
            (
                "objects_deleted_bytes",
                "Bytes of objects deleted",
                &packs.deleted_bytes,
            ),
            ("leases_granted", "Leases granted", &leasing.granted),
            (
                "leases_refused",
                "Leases asked for while others held them",
                &leasing.refused,
            ),
            (
                "leases_superseded",
                "Results refused because another holder was granted their lease since",
                &leasing.superseded,
            ),
        ];
        for (name, help, count) in counts {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&count.get(), None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ashlar_store::{Fault, FaultKind};
    use prometheus_client::registry::Registry;

    use super::*;

    #[tokio::test]
    async fn engines_that_were_asked_are_on_the_page() {
        let counters = Arc::new(Counters::default());
        let fault = Fault::new(FaultKind::Unavailable, "away");
        let away = async { Err::<(), _>(fault) };
        counters.redis.run("get", away).await.expect_err("away");
        counters.redis.received(7);
        counters.near.hits.one();
        let mut registry = Registry::with_prefix("ashlar_cache");
        registry.register_collector(Box::new(Engines(counters)));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("a page");
        for line in [
            "ashlar_cache_engine_up{store=\"redis\"} 0",
            "ashlar_cache_engine_seconds_count{store=\"redis\",operation=\"get\"} 1",
            "ashlar_cache_engine_seconds_bucket{le=\"+Inf\",store=\"redis\",operation=\"get\"} 1",
            "ashlar_cache_engine_faults_total{store=\"redis\",operation=\"get\",fault=\"unavailable\"} 1",
            "ashlar_cache_engine_received_bytes_total{store=\"redis\"} 7",
            "ashlar_cache_near_hits_total 1",
        ] {
            assert!(page.contains(line), "{line}:\n{page}");
        }
        assert!(!page.contains("store=\"objects\""), "{page}");
    }
}

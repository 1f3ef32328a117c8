//! The stores do what every store must do: over one server, and over a cluster of three.

use std::future::ready;
use std::sync::Arc;

use ashlar_store::conformance;
use ashlar_store::objects::memory_index::MemoryIndex;
use ashlar_store::redis::{Redis, RedisIndex};

use crate::footing::{Indexed, leases, results, shared_cluster, single};

fn on_one<S>(store: impl FnOnce(&Arc<Redis>) -> S) -> impl Future<Output = (impl Sized, S)> {
    let (server, redis) = single();
    ready((server, store(&redis)))
}

async fn on_cluster<S>(store: impl FnOnce(&Arc<Redis>) -> S) -> (impl Sized, S) {
    let (cluster, redis) = shared_cluster().await;
    (cluster, store(&redis))
}

fn index(redis: &Arc<Redis>) -> Arc<RedisIndex> {
    Arc::new(RedisIndex::new(redis.clone()))
}

fn possession(redis: &Arc<Redis>) -> Arc<Indexed> {
    Indexed::new(redis.clone())
}

fn in_memory() -> Arc<MemoryIndex> {
    Arc::new(MemoryIndex::new(ashlar_store::clock::system()))
}

conformance::action_cache_tests!(results_on_one, on_one(results));
conformance::exact_action_cache_tests!(exact_on_one, on_one(results));
conformance::lease_store_tests!(leases_on_one, on_one(leases));
conformance::blob_index_tests!(index_on_one, on_one(index));
conformance::possession_tests!(possession_on_one, on_one(possession));

conformance::action_cache_tests!(together results_on_cluster, on_cluster(results));
conformance::exact_action_cache_tests!(together exact_on_cluster, on_cluster(results));
conformance::lease_store_tests!(together leases_on_cluster, on_cluster(leases));
conformance::blob_index_tests!(together index_on_cluster, on_cluster(index));
conformance::possession_tests!(together possession_on_cluster, on_cluster(possession));

conformance::blob_index_tests!(index_in_memory, ready(((), in_memory())));

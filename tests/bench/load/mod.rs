//! The rows of load: many clients at once, against one server and several.
//!
//! Each row starts its servers, fills them, and lets every kind of request be made by
//! [`CONNECTIONS`] connections with [`DEPTH`] requests on each, one after the other, for some
//! seconds after a warm-up. Which keys and blobs are asked for follows from a seed. The load comes
//! from this machine too, so what a request costs a processor says more than how many there are a
//! second; both are told.

mod arrangement;
mod client;
mod figures;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ashlar_test_support::numbers::Numbers;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use arrangement::{Arrangement, Servers};
use client::{Caller, Content, Kind};
use figures::{Figures, Round};

/// Connections of all clients together, spread over the servers.
const CONNECTIONS: usize = 32;

/// Requests that are under way on each connection.
const DEPTH: usize = 2;

/// How long is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long is counted.
const MEASURED: Duration = Duration::from_secs(4);

/// Bytes written in one round at most: a disk is not to be filled.
const WRITTEN: u64 = 512 << 20;

/// What the choice of keys and blobs follows from.
const SEED: u64 = 20_261_130;

/// One row.
pub(crate) struct LoadRow {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What is asked.
    pub(crate) work: &'static str,
    arrangement: Arrangement,
}

/// All rows.
pub(crate) const ROWS: &[LoadRow] = &[
    LoadRow {
        name: "load-disk",
        work: "64 requests at once to one server with a disk",
        arrangement: Arrangement::Disk,
    },
    LoadRow {
        name: "load-farm-1",
        work: "the same to one server over Redis and S3, without a near tier",
        arrangement: Arrangement::Farm {
            servers: 1,
            near: false,
        },
    },
    LoadRow {
        name: "load-farm-1-near",
        work: "the same to one server over Redis and S3, with a near tier",
        arrangement: Arrangement::Farm {
            servers: 1,
            near: true,
        },
    },
    LoadRow {
        name: "load-farm-3",
        work: "the same to three servers over Redis and S3, without near tiers",
        arrangement: Arrangement::Farm {
            servers: 3,
            near: false,
        },
    },
    LoadRow {
        name: "load-farm-3-near",
        work: "the same to three servers over Redis and S3, with near tiers that are one",
        arrangement: Arrangement::Farm {
            servers: 3,
            near: true,
        },
    },
];

impl LoadRow {
    /// Measures it so many times; the table of it. `None` where there is no S3 server.
    pub(crate) fn measure(&self, rounds: usize) -> Option<String> {
        let servers = Servers::start(self.arrangement)?;
        let runtime = Runtime::new().expect("there are no threads");
        let content = Arc::new(Content::new(SEED));
        let before = servers.redis_bytes();
        runtime.block_on(content.fill(&servers.urls()));
        let entries = content.entries();
        let redis = before.zip(servers.redis_bytes());
        let mut figures: Vec<Figures> = Kind::ALL.map(Figures::new).into();
        for round in 0..rounds {
            for kind in &mut figures {
                let seed = SEED ^ (round as u64 + 1) << 32;
                let measured = runtime.block_on(load(&servers, &content, kind.kind(), seed));
                eprintln!("  round {}: {}", round + 1, measured.line(kind.kind()));
                kind.push(measured);
            }
        }
        let mut text = figures::section(self.name, self.work, &figures);
        text.push_str(&figures::memory(&servers.memory(), redis, entries));
        Some(text)
    }
}

/// Makes requests of one kind for a while.
async fn load(servers: &Servers, content: &Arc<Content>, kind: Kind, seed: u64) -> Round {
    let urls = servers.urls();
    let over = Arc::new(AtomicBool::new(false));
    let counting = Arc::new(AtomicBool::new(false));
    let left = Arc::new(AtomicU64::new(match kind {
        Kind::Write => WRITTEN / client::CHUNK as u64,
        _ => u64::MAX,
    }));
    let mut tasks = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let caller = Caller::connect(&urls[connection % urls.len()]).await;
        for place in 0..DEPTH {
            let caller = caller.clone();
            let content = Arc::clone(content);
            let numbers = Numbers::of(seed, (connection * DEPTH + place) as u64);
            let (over, counting) = (Arc::clone(&over), Arc::clone(&counting));
            let left = Arc::clone(&left);
            tasks.spawn(async move {
                worker(caller, &content, kind, numbers, &over, &counting, &left).await
            });
        }
    }
    tokio::time::sleep(WARM_UP).await;
    let busy = servers.busy();
    counting.store(true, Ordering::Relaxed);
    let began = Instant::now();
    // A kind that has a bound may be over before.
    let enough = began + MEASURED;
    while Instant::now() < enough && left.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    counting.store(false, Ordering::Relaxed);
    let time = began.elapsed();
    let busy = servers.busy().since(&busy);
    over.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    while let Some(some) = tasks.join_next().await {
        latencies.extend(some.expect("a client has failed"));
    }
    latencies.sort_unstable();
    Round {
        time,
        latencies,
        busy,
    }
}

/// One request after the other; gives how long those took that count.
#[expect(
    clippy::too_many_arguments,
    reason = "what all workers of a round share, and what is this one's"
)]
async fn worker(
    mut caller: Caller,
    content: &Content,
    kind: Kind,
    mut numbers: Numbers,
    over: &AtomicBool,
    counting: &AtomicBool,
    left: &AtomicU64,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let one_less = |left: u64| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if left.fetch_update(order, order, one_less).is_err() {
            break;
        }
        let request = content.request(kind, &mut numbers);
        let began = Instant::now();
        caller.call(request).await;
        let took = began.elapsed();
        if counting.load(Ordering::Relaxed) {
            latencies.push(took);
        }
    }
    latencies
}

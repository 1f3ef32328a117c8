//! What is under load: servers, and what they stand on.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::redis::RedisServer;
use ashlar_test_support::registry::free_port;
use ashlar_test_support::s3::S3;

/// How long servers may take until they are ready.
const READY: Duration = Duration::from_secs(30);

/// How much the near tier of each server may hold, and the disk of the one that has nothing else.
const NEAR: &str = "4GB";

/// Which servers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// One, with a disk.
    Disk,
    /// So many over one Redis and one S3 server, with tiers on their disks or without.
    Farm { servers: usize, near: bool },
}

/// They run until this is dropped.
pub(super) struct Servers {
    // Servers go before what they stand on.
    servers: Vec<CacheServer>,
    below: Option<(RedisServer, S3)>,
}

impl Servers {
    /// Starts them. `None` where there is no S3 server.
    pub(super) fn start(arrangement: Arrangement) -> Option<Self> {
        let (count, near) = match arrangement {
            Arrangement::Disk => {
                let server = CacheServer::prepare().with(["--limit", NEAR]).started();
                return Some(Self {
                    servers: vec![server],
                    below: None,
                });
            }
            Arrangement::Farm { servers, near } => (servers, near),
        };
        let objects = S3::start("ashlar-bench")?;
        let redis = RedisServer::start();
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let start = |port: &u16| {
            let mut server = CacheServer::prepare().with([
                "--redis",
                &redis.url(),
                "--objects",
                &objects.url(),
                "--objects-limit",
                "50GB",
            ]);
            for (name, value) in S3::variables(objects.port()) {
                server = server.env(&name, value);
            }
            if !near {
                server = server.without_root();
            } else if count == 1 {
                server = server.with(["--limit", NEAR]);
            } else {
                let token = server.file("peers", "the-servers-know-this-word\n");
                let address = |port: &u16| format!("127.0.0.1:{port}");
                server = server
                    .with(["--limit", NEAR, "--peer-listen", &address(port)])
                    .with(["--peer-address", &address(port)])
                    .with(["--peer-token-file".as_ref(), token.as_os_str()]);
                for other in &ports {
                    server = server.with(["--peer", &address(other)]);
                }
            }
            server.started()
        };
        let servers: Vec<CacheServer> = ports.iter().map(start).collect();
        let all = Self {
            servers,
            below: Some((redis, objects)),
        };
        all.wait_until_ready();
        Some(all)
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + READY;
        for server in &self.servers {
            while server.get("/readyz").0 != 200 {
                assert!(
                    Instant::now() < deadline,
                    "not ready: {:?}\n{}",
                    server.get("/readyz"),
                    server.log()
                );
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Where each is.
    pub(super) fn urls(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|server| format!("http://127.0.0.1:{}", server.port()))
            .collect()
    }

    /// How long all of them have been on a processor.
    pub(super) fn busy(&self) -> Busy {
        let of = |id: u32| processor_time(&id.to_string());
        Busy {
            servers: self.servers.iter().map(|server| of(server.id())).sum(),
            below: self
                .below
                .iter()
                .map(|(redis, objects)| of(redis.id()) + of(objects.id()))
                .sum(),
            clients: processor_time("self"),
        }
    }

    /// Resident memory of each server.
    pub(super) fn memory(&self) -> Vec<u64> {
        self.servers
            .iter()
            .map(|server| resident(server.id()))
            .collect()
    }

    /// Memory that Redis has taken.
    pub(super) fn redis_bytes(&self) -> Option<u64> {
        let (redis, _) = self.below.as_ref()?;
        redis.info("used_memory").trim().parse().ok()
    }
}

/// Time on a processor.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Busy {
    /// Of the cache servers.
    pub(super) servers: Duration,
    /// Of Redis and the S3 server.
    pub(super) below: Duration,
    /// Of the clients, which are this process.
    pub(super) clients: Duration,
}

impl Busy {
    /// What came on top of an earlier look.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            servers: self.servers.saturating_sub(before.servers),
            below: self.below.saturating_sub(before.below),
            clients: self.clients.saturating_sub(before.clients),
        }
    }
}

/// User and system time of a process.
fn processor_time(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let after_name = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // Clock ticks, of which Linux shows a hundred a second on every machine.
    Duration::from_millis(ticks * 10)
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .expect("a process has memory")
        * 1024
}

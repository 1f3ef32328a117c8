//! The Redis of a farm: one server, a cluster, or a master with a replica that takes over.

use std::thread;
use std::time::{Duration, Instant};

use crate::numbers::Numbers;
use crate::redis::{RedisCluster, RedisSentinels, RedisServer};

/// How long a replica may need until it has all that its master has.
const REPLICATION: Duration = Duration::from_secs(60);

/// Which Redis a farm has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One server.
    Single,
    /// Three masters that share the keys.
    Cluster,
    /// A master, a replica, and three Sentinels; what is confirmed is on both.
    Replicated,
}

/// The servers.
#[derive(Debug)]
pub(super) enum Database {
    Single(RedisServer),
    Cluster(RedisCluster),
    Replicated(RedisSentinels),
}

/// What was done to it, and what may be lost by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) what: &'static str,
    pub(super) harm: Harm,
}

/// What may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    Nothing,
    /// What nobody was told is safe.
    Unconfirmed,
    Everything,
}

const fn done(what: &'static str, harm: Harm) -> Done {
    Done { what, harm }
}

impl Database {
    pub(super) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Single => Self::Single(RedisServer::start()),
            Kind::Cluster => Self::Cluster(RedisCluster::start()),
            Kind::Replicated => Self::Replicated(RedisSentinels::start()),
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Single(server) => server.url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Replicated(sentinels) => sentinels.url(),
        }
    }

    /// What servers are told of it beside its address.
    pub(super) fn arguments(&self) -> Vec<&'static str> {
        match self {
            Self::Single(_) | Self::Cluster(_) => Vec::new(),
            Self::Replicated(_) => vec!["--redis-replicas", "1"],
        }
    }

    /// The port, if it is one server: of others clients learn addresses that no proxy has.
    pub(super) fn single_port(&self) -> Option<u16> {
        match self {
            Self::Single(server) => Some(server.port()),
            Self::Cluster(_) | Self::Replicated(_) => None,
        }
    }

    /// Takes everything away.
    fn flush(&mut self) {
        match self {
            Self::Single(server) => server.flush(),
            Self::Cluster(cluster) => cluster.flush(),
            Self::Replicated(sentinels) => sentinels.master().flush(),
        }
    }

    /// Does something to it that follows from the numbers; it serves again afterwards.
    pub(super) fn disturb(
        &mut self,
        numbers: &mut Numbers,
        destructive: bool,
        pause: Duration,
    ) -> Done {
        let choice = numbers.below(if destructive { 5 } else { 3 });
        if choice == 3 {
            self.flush();
            return done("redis flushed", Harm::Everything);
        }
        match self {
            Self::Single(server) => match choice {
                0 => {
                    server.kill();
                    thread::sleep(pause);
                    server.restart();
                    done("redis killed", Harm::Nothing)
                }
                1 => {
                    server.stop();
                    thread::sleep(pause * 3);
                    server.cont();
                    done("redis stopped", Harm::Nothing)
                }
                2 => {
                    server.cut_connections();
                    done("redis cut all connections", Harm::Nothing)
                }
                _ => {
                    server.kill();
                    thread::sleep(pause);
                    server.restart_empty();
                    done("redis restarted empty", Harm::Everything)
                }
            },
            Self::Cluster(cluster) => {
                let node = cluster.node(numbers.place(3));
                match choice {
                    0 => {
                        node.kill();
                        thread::sleep(pause);
                        node.restart();
                        done("redis node killed", Harm::Nothing)
                    }
                    1 => {
                        node.stop();
                        thread::sleep(pause * 3);
                        node.cont();
                        done("redis node stopped", Harm::Nothing)
                    }
                    2 => {
                        let slot = u16::try_from(numbers.below(16_384)).expect("a slot");
                        let to = (cluster.master_of(slot) + 1) % 3;
                        cluster.move_slot(slot, to);
                        done("redis slot moved", Harm::Nothing)
                    }
                    _ => {
                        node.flush();
                        done("redis node flushed", Harm::Everything)
                    }
                }
            }
            Self::Replicated(sentinels) => match choice {
                0 | 4 => {
                    wait_for_replica(sentinels);
                    sentinels.fail_over();
                    thread::sleep(pause);
                    sentinels.revive();
                    done("redis failed over", Harm::Unconfirmed)
                }
                1 => {
                    wait_for_replica(sentinels);
                    sentinels.swap();
                    done("redis swapped master and replica", Harm::Unconfirmed)
                }
                _ => {
                    // Shorter than Sentinels wait until they call it dead.
                    let master = sentinels.master();
                    master.stop();
                    thread::sleep(pause.min(Duration::from_millis(200)));
                    master.cont();
                    done("redis stopped", Harm::Nothing)
                }
            },
        }
    }
}

/// Waits until the replica could take over: after a failover it needs a moment.
fn wait_for_replica(sentinels: &mut RedisSentinels) {
    let deadline = Instant::now() + REPLICATION;
    loop {
        let replica = sentinels.replica();
        let says = |name, value: &str| replica.try_info(name).as_deref() == Some(value);
        if says("role", "slave") && says("master_link_status", "up") {
            return;
        }
        assert!(Instant::now() < deadline, "the replica does not follow");
        thread::sleep(Duration::from_millis(20));
    }
}

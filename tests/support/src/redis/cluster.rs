//! A Redis Cluster: three masters, and a replica of each if so asked.

use super::server::RedisServer;
use super::{Reply, wait_until};

const SLOTS: usize = 16_384;
const MASTERS: usize = 3;

/// A cluster that serves all slots. Its start takes two seconds: a master waits so long before it
/// trusts what it knows.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Three masters with nothing in them.
    pub fn start() -> Self {
        Self::of(MASTERS)
    }

    /// Three masters, and a replica of each.
    pub fn start_with_replicas() -> Self {
        let cluster = Self::of(2 * MASTERS);
        let (masters, replicas) = cluster.nodes.split_at(MASTERS);
        for (replica, master) in replicas.iter().zip(masters) {
            let id = master.command(&["CLUSTER", "MYID"]).text();
            // It must have heard of its master.
            wait_until("a replica", || {
                let mut client = replica.client().expect("a replica answers");
                let reply = client.command(&["CLUSTER", "REPLICATE", &id]);
                matches!(reply, Ok(Reply::Status(_)))
            });
        }
        for (replica, master) in replicas.iter().zip(masters) {
            replica.wait_for_link();
            wait_until("a master that knows its replica", || {
                master.info("connected_slaves") == "1"
            });
        }
        cluster.wait_until_it_serves();
        cluster
    }

    fn of(count: usize) -> Self {
        let nodes: Vec<_> = (0..count).map(|_| RedisServer::start_node(&[])).collect();
        for (number, node) in nodes.iter().enumerate() {
            let epoch = (number + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            if number < MASTERS {
                let first = (SLOTS * number / MASTERS).to_string();
                let last = (SLOTS * (number + 1) / MASTERS - 1).to_string();
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
        }
        if let Some((first, others)) = nodes.split_first() {
            for node in others {
                let (port, bus) = (first.port().to_string(), first.bus().to_string());
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let cluster = Self { nodes };
        cluster.wait_until_it_serves();
        cluster
    }

    /// Waits until every node that runs knows all others and serves.
    pub fn wait_until_it_serves(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        wait_until("a cluster that serves", || {
            self.nodes
                .iter()
                .filter(|node| node.is_running())
                .all(|node| {
                    let info = node.command(&["CLUSTER", "INFO"]).text();
                    info.contains("cluster_state:ok") && info.contains(&known)
                })
        });
    }

    /// The nodes: three masters, then their replicas in the same order.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// A node, to be killed or started again.
    pub fn node(&mut self, number: usize) -> &mut RedisServer {
        self.nodes.get_mut(number).expect("there is such a node")
    }

    /// What `--redis` gets.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(RedisServer::address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The number of the node that serves a slot now.
    pub fn master_of(&self, slot: u16) -> usize {
        let (first, last) = (i64::from(slot), i64::from(slot));
        let alive = self.nodes.iter().find(|node| node.is_running());
        let slots = alive.expect("a node runs").command(&["CLUSTER", "SLOTS"]);
        let port = slots
            .array()
            .into_iter()
            .map(Reply::array)
            .find_map(|range| match range.as_slice() {
                [from, to, Reply::Array(master), ..]
                    if from.integer() <= first && last <= to.integer() =>
                {
                    master.get(1).map(Reply::integer)
                }
                _ => None,
            })
            .expect("somebody serves the slot");
        self.nodes
            .iter()
            .position(|node| i64::from(node.port()) == port)
            .expect("it is one of ours")
    }

    /// Takes everything away from all masters.
    pub fn flush(&self) {
        for node in self.nodes.iter().take(MASTERS) {
            node.flush();
        }
    }

    /// Moves a slot with all of its keys to another master, as a resharding does.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let from = self.begin_move(slot, to);
        let target = self.nodes.get(to).expect("there is such a node");
        self.move_keys(slot, to);
        let id = target.command(&["CLUSTER", "MYID"]).text();
        let slot = slot.to_string();
        for number in [to, from].into_iter().chain(0..MASTERS) {
            let node = self.nodes.get(number).expect("there is such a node");
            node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
    }

    /// Begins a move of a slot, in whose course clients are told `ASK`; gives the old master.
    pub fn begin_move(&self, slot: u16, to: usize) -> usize {
        let from = self.master_of(slot);
        let (old, new) = (&self.nodes[from], &self.nodes[to]);
        let ids = [old, new].map(|node| node.command(&["CLUSTER", "MYID"]).text());
        let slot = slot.to_string();
        new.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
        old.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
        from
    }

    /// Moves the keys of a slot whose move has begun.
    pub fn move_keys(&self, slot: u16, to: usize) {
        let from = &self.nodes[self.master_of(slot)];
        let port = self.nodes[to].port().to_string();
        let slot = slot.to_string();
        let mut client = from.client().expect("a node answers");
        wait_until("a slot without keys", || {
            let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            let keys = keys.array();
            if keys.is_empty() {
                return true;
            }
            let mut migrate: Vec<&[u8]> = Vec::new();
            for word in ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"] {
                migrate.push(word.as_bytes());
            }
            migrate.extend(keys.iter().map(|key| match key {
                Reply::Bulk(key) => &key[..],
                other => panic!("not a key: {other:?}"),
            }));
            let moved = client.command(&migrate).expect("a node answers");
            assert_eq!(moved, Reply::Status("OK".to_owned()));
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_served_and_moved() {
        let cluster = RedisCluster::start();
        let slot = cluster.nodes[0]
            .command(&["CLUSTER", "KEYSLOT", "a"])
            .integer();
        let slot = u16::try_from(slot).unwrap();
        let from = cluster.master_of(slot);
        cluster.nodes[from].command(&["SET", "a", "v"]);
        let to = (from + 1) % MASTERS;
        cluster.move_slot(slot, to);
        assert_eq!(cluster.master_of(slot), to);
        assert_eq!(cluster.nodes[to].command(&["GET", "a"]).text(), "v");
    }

    #[test]
    fn a_replica_takes_over() {
        let mut cluster = RedisCluster::start_with_replicas();
        let before = cluster.master_of(0);
        cluster.node(before).kill();
        wait_until("a new master", || cluster.master_of(0) != before);
        cluster.wait_until_it_serves();
    }
}

//! A master, its replica, and three Sentinels that make the replica the master if the master dies.

use super::server::RedisServer;
use super::{Reply, wait_until};

/// The name by which Sentinels know the master.
const MASTER: &str = "ashlar";

/// Two servers, of which one is the master, and three Sentinels, which agree on that.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl RedisSentinels {
    /// A master with nothing in it, and a replica of it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Both servers with some more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let servers = [(); 2].map(|()| RedisServer::start_with(arguments));
        let [master, replica] = &servers;
        replica.replicate(master);
        let configuration = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 3000\n",
            master.port()
        );
        let sentinels: Vec<_> = (0..3)
            .map(|_| RedisServer::start_sentinel(&configuration))
            .collect();
        for sentinel in &sentinels {
            wait_until("Sentinels that know each other and the replica", || {
                let about = sentinel.command(&["SENTINEL", "MASTER", MASTER]);
                let number = |name| about.field(name).map(Reply::integer);
                number("num-other-sentinels") == Some(2) && number("num-slaves") == Some(1)
            });
        }
        Self { servers, sentinels }
    }

    /// What `--redis` gets.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(RedisServer::address).collect();
        format!("redis+sentinel://{}/{MASTER}", addresses.join(","))
    }

    /// The number of the server that the Sentinels call the master.
    fn master_number(&self) -> usize {
        let port = self.master_port();
        usize::from(i64::from(self.servers[0].port()) != port)
    }

    fn master_port(&self) -> i64 {
        let sentinel = self
            .sentinels
            .iter()
            .find(|sentinel| sentinel.is_running())
            .expect("a Sentinel runs");
        let address = sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        address.array().get(1).expect("a port").integer()
    }

    /// The server that the Sentinels call the master, to be killed or stopped.
    pub fn master(&mut self) -> &mut RedisServer {
        let number = self.master_number();
        &mut self.servers[number]
    }

    /// The other one.
    pub fn replica(&mut self) -> &mut RedisServer {
        let number = 1 - self.master_number();
        &mut self.servers[number]
    }

    /// A Sentinel, to be killed or stopped.
    pub fn sentinel(&mut self, number: usize) -> &mut RedisServer {
        self.sentinels
            .get_mut(number)
            .expect("there is such a Sentinel")
    }

    /// Kills the master, and waits until the replica is the master.
    pub fn fail_over(&mut self) {
        let before = self.master_port();
        self.master().kill();
        self.wait_for_other_master(before);
    }

    /// Lets the Sentinels swap master and replica, both of which go on.
    pub fn swap(&mut self) {
        let before = self.master_port();
        // A Sentinel takes a while to see that a replica is well.
        wait_until("a Sentinel that swaps", || {
            let client = self.sentinels.first().map(RedisServer::client);
            let mut client = client.expect("a Sentinel").expect("it answers");
            let reply = client.command(&["SENTINEL", "FAILOVER", MASTER]);
            matches!(reply, Ok(Reply::Status(_)))
        });
        self.wait_for_other_master(before);
    }

    fn wait_for_other_master(&mut self, before: i64) {
        wait_until("a new master", || self.master_port() != before);
        let master = self.master();
        wait_until("a master that knows it", || master.info("role") == "master");
    }

    /// Starts the server that is not the master again, as its replica, and waits until it has the
    /// master's data. Sentinels do the same if one only starts it, within half a minute.
    pub fn revive(&mut self) {
        let number = self.master_number();
        let [first, second] = &mut self.servers;
        let (master, replica) = if number == 0 {
            (first, second)
        } else {
            (second, first)
        };
        replica.restart();
        replica.replicate(master);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replica_takes_over_with_what_was_written() {
        let mut redis = RedisSentinels::start();
        redis.master().command(&["SET", "k", "v"]);
        redis.master().command(&["WAIT", "1", "0"]);
        redis.fail_over();
        assert_eq!(redis.master().command(&["GET", "k"]).text(), "v");
        redis.revive();
        assert_eq!(redis.replica().command(&["GET", "k"]).text(), "v");
        redis.swap();
        assert_eq!(redis.master().command(&["GET", "k"]).text(), "v");
    }
}

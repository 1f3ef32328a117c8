//! Machines with addresses of their own: network namespaces on one bridge.
//!
//! ```text
//! this machine, 10.x.y.1 ─ bridge ─┬─ namespace 10.x.y.2
//!                                  └─ namespace 10.x.y.3
//! ```

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::TestCommand;
use crate::user::TestUser;

/// A bridge with an address of this machine on it. It goes when the last of its machines has gone.
#[derive(Debug, Clone)]
pub struct Network {
    bridge: Arc<Bridge>,
}

#[derive(Debug)]
struct Bridge {
    name: String,
    /// The first three numbers of its addresses.
    prefix: String,
    next: AtomicU32,
}

/// A machine of a [`Network`], with an address and nothing else of its own.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// The end of its cable that is at the bridge.
    cable: String,
    address: String,
    _bridge: Arc<Bridge>,
}

impl Network {
    /// A network that no other test has.
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Test processes that run at once differ in their ids; most of their lowest bits do.
        let place = process::id().wrapping_mul(7).wrapping_add(number);
        let prefix = format!("10.{}.{}", 64 + (place >> 8) % 128, place % 256);
        let name = format!("al{:x}b{number}", process::id());
        ip(&["link", "add", &name, "type", "bridge"]);
        let bridge = Arc::new(Bridge {
            name: name.clone(),
            prefix: prefix.clone(),
            next: AtomicU32::new(2),
        });
        ip(&["addr", "add", &format!("{prefix}.1/24"), "dev", &name]);
        ip(&["link", "set", &name, "up"]);
        Self { bridge }
    }

    /// The address of this machine there.
    pub fn address(&self) -> String {
        format!("{}.1", self.bridge.prefix)
    }

    /// One more machine.
    pub fn join(&self) -> Namespace {
        let number = self.bridge.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < 255, "a network has no room for more machines");
        let name = format!("{}-{number}", self.bridge.name);
        let cable = format!("{}c{number}", self.bridge.name);
        let address = format!("{}.{number}", self.bridge.prefix);
        ip(&["netns", "add", &name]);
        let namespace = Namespace {
            name: name.clone(),
            cable: cable.clone(),
            address: address.clone(),
            _bridge: Arc::clone(&self.bridge),
        };
        let inside = ["peer", "name", "eth0", "netns", &name];
        ip(&[&["link", "add", &cable, "type", "veth"], &inside[..]].concat());
        ip(&["link", "set", &cable, "master", &self.bridge.name, "up"]);
        let within = |arguments: &[&str]| ip(&[&["-n", &name], arguments].concat());
        within(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        within(&["link", "set", "eth0", "up"]);
        within(&["link", "set", "lo", "up"]);
        let gateway = format!("{}.1", self.bridge.prefix);
        within(&["route", "add", "default", "via", &gateway]);
        namespace
    }
}

impl Namespace {
    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command of a user there.
    pub fn command(&self, user: TestUser, program: &std::path::Path) -> TestCommand {
        let (uid, gid) = user.ids();
        TestCommand::root("ip")
            .args(["netns", "exec", &self.name, "setpriv"])
            .args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()])
            .args(["--clear-groups", "--"])
            .arg(program)
    }

    /// Pulls its cable out. Nobody is told: packets go nowhere.
    pub fn cut(&self) {
        ip(&["link", "set", &self.cable, "down"]);
    }

    /// Ends [`Self::cut`].
    pub fn mend(&self) {
        ip(&["link", "set", &self.cable, "up"]);
    }

    /// Bytes that went out of it and came in.
    pub fn bytes(&self) -> (u64, u64) {
        let read = |name: &str| {
            let path = format!("/sys/class/net/{}/statistics/{name}", self.cable);
            let text = std::fs::read_to_string(&path).expect("a cable counts its bytes");
            text.trim().parse().expect("a count of bytes")
        };
        (read("rx_bytes"), read("tx_bytes"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end of the cable goes with it, and the other end with that one.
        drop(
            TestCommand::root("ip")
                .args(["netns", "del", &self.name])
                .run(),
        );
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(
            TestCommand::root("ip")
                .args(["link", "del", &self.name])
                .run(),
        );
    }
}

fn ip(arguments: &[&str]) {
    TestCommand::root("ip").args(arguments).run().success();
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn machines_reach_each_other_until_a_cable_is_pulled() {
        let network = Network::start();
        let (here, there) = (network.join(), network.join());
        let reaches = |address: &str| {
            let script =
                format!("echo | busybox nc -w 1 {address} 9 2>&1; busybox ping -c1 -W1 {address}");
            let command = here
                .command(TestUser::Root, Path::new("sh"))
                .args(["-c", &script]);
            command.run().code() == Some(0)
        };
        assert!(reaches(there.address()) && reaches(&network.address()));
        there.cut();
        assert!(!reaches(there.address()));
        assert!(reaches(&network.address()));
        there.mend();
        assert!(reaches(there.address()));
    }
}

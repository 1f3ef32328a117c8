//! Steps that wait for each other: proof that they run at the same time.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

/// Lets nobody through until so many have come.
pub(super) struct Barrier {
    port: u16,
    waiting: JoinHandle<Vec<IpAddr>>,
}

impl Barrier {
    /// A barrier on an address of this machine; with port 0 on any that is free.
    pub(super) fn at(address: &str, port: u16, count: usize) -> Self {
        let listener = TcpListener::bind((address, port)).expect("the port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let waiting = thread::spawn(move || {
            let mut come: Vec<(TcpStream, IpAddr)> = Vec::new();
            while come.len() < count {
                let (stream, peer) = listener.accept().expect("somebody comes");
                come.push((stream, peer.ip()));
            }
            for (stream, _) in &mut come {
                // Who has left meanwhile fails its own step.
                drop(stream.write_all(b"go\n"));
            }
            come.into_iter().map(|(_, address)| address).collect()
        });
        Self { port, waiting }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// From where they came; only to be asked when the build has ended well.
    pub(super) fn came_from(self) -> BTreeSet<IpAddr> {
        let come = self.waiting.join().expect("the barrier stands");
        come.into_iter().collect()
    }
}

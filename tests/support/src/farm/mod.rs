//! Several `ashlar-cache` over one Redis and one S3 server, behind one address, with a proxy on
//! every link:
//!
//! ```text
//! builders ─▶ Balancer ─▶ Wire ─▶ ashlar-cache ─▶ Wire ─▶ Redis
//!                                   │     ▲ └───▶ Wire ─▶ S3Faults ─▶ S3
//!                                   └Wire─┘ (each other)
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`member`] | one of the servers |
//! | [`database`] | the Redis: one server, a cluster, or a master with a replica |
//! | [`balancer`] | one address for all servers |
//! | [`trouble`] | what is done to all of them, as a seed says |
//! | [`client`] | a client that says each thing of the protocol as it is told |
//!
//! The servers run as an ordinary user. All of it ends with the value that stands for it.

pub mod balancer;
pub mod client;
mod database;
pub mod member;
pub mod trouble;

use std::ffi::{OsStr, OsString};
use std::thread;
use std::time::{Duration, Instant};

pub use balancer::Balancer;
pub use client::Caller;
use database::Database;
pub use database::Kind;
use member::{Common, PeerPlace};
pub use member::{Link, Member};
pub use trouble::{Tally, Troubles};

use crate::s3::S3;
use crate::s3_faults::S3Faults;

/// How long servers may take until they are ready once nothing is in their way.
const READY: Duration = Duration::from_secs(40);

/// What a farm is made of.
#[derive(Debug, Clone)]
pub struct Shape {
    /// How many servers there are at first.
    pub servers: usize,
    /// Which Redis.
    pub database: Kind,
    /// Whether servers have a tier on their disks.
    pub near: bool,
    /// Whether they ask each other.
    pub peers: bool,
    /// More arguments of each server.
    pub arguments: Vec<OsString>,
    /// Files of each server, by name. One that is called [`CONFIGURATION`] holds its settings.
    /// `{dir}` in them stands for their directory.
    pub files: Vec<(String, String)>,
}

/// The file of a server's settings.
pub const CONFIGURATION: &str = "config.toml";

impl Default for Shape {
    fn default() -> Self {
        Self {
            servers: 3,
            database: Kind::Single,
            near: false,
            peers: false,
            arguments: Vec::new(),
            files: Vec::new(),
        }
    }
}

impl Shape {
    /// With some more arguments of each server.
    #[must_use]
    pub fn with<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter();
        self.arguments
            .extend(arguments.map(|one| one.as_ref().to_owned()));
        self
    }
}

/// A farm. It may be disturbed ([`Troubles`]); in the end all of it goes.
#[derive(Debug)]
pub struct Farm {
    // Servers go before what they stand on.
    members: Vec<Member>,
    front: Balancer,
    shape: Shape,
    peers: Vec<String>,
    faults: S3Faults,
    objects: S3,
    database: Database,
}

impl Farm {
    /// A farm with nothing in it; `None` where there is no S3 server, and the test is noted as
    /// skipped.
    pub fn start(test: &str, shape: Shape) -> Option<Self> {
        let objects = S3::start(test)?;
        let mut places: Vec<PeerPlace> = Vec::new();
        if shape.peers {
            places.resize_with(shape.servers, PeerPlace::new);
        }
        let mut farm = Self {
            members: Vec::new(),
            front: Balancer::start(),
            peers: places.iter().map(PeerPlace::host).collect(),
            faults: S3Faults::before(objects.port()),
            database: Database::start(shape.database),
            objects,
            shape,
        };
        let mut places = places.into_iter();
        for _ in 0..farm.shape.servers {
            farm.launch(places.next());
        }
        farm.wait_until_ready();
        Some(farm)
    }

    fn launch(&mut self, place: Option<PeerPlace>) {
        let common = Common {
            database: &self.database,
            objects: self.faults.port(),
            objects_url: self.objects.url(),
            near: self.shape.near,
            peers: &self.peers,
            arguments: &self.shape.arguments,
            files: &self.shape.files,
        };
        let member = Member::start(self.members.len(), &common, place);
        member.register(&self.front);
        self.members.push(member);
    }

    /// Starts one more server. The others learn of it by being asked; they do not ask it.
    pub fn add(&mut self) {
        let place = self.shape.peers.then(PeerPlace::new);
        self.peers.extend(place.as_ref().map(PeerPlace::host));
        self.launch(place);
    }

    /// What builders get: the address of all.
    pub fn url(&self) -> String {
        self.front.url()
    }

    /// The servers.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The S3 server.
    pub fn objects(&self) -> &S3 {
        &self.objects
    }

    /// Ends every trouble, and waits until all servers say that they are ready: that they come back
    /// by themselves is part of every test.
    #[track_caller]
    pub fn calm(&self) {
        self.faults.calm();
        for member in &self.members {
            member.calm();
        }
        self.wait_until_ready();
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + READY;
        while self.front.ready() < self.members.len() {
            assert!(
                Instant::now() < deadline,
                "{} of {} servers are ready; they say:\n{}",
                self.front.ready(),
                self.members.len(),
                self.states()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What servers say of their readiness, and the ends of their logs.
    pub fn states(&self) -> String {
        let mut text = String::new();
        for (number, member) in self.members.iter().enumerate() {
            let server = member.server();
            let ready = crate::http::get(server.port(), "/readyz", Duration::from_secs(2));
            let log = server.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(30)..].join("\n");
            text.push_str(&format!("--- server {number}: {ready:?}\n{last}\n"));
        }
        text
    }

    /// Ends the servers as an operator does, and asserts that all end well.
    pub fn end(mut self) {
        for member in &mut self.members {
            member.terminate();
        }
    }
}

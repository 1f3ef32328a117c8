//! One of the servers, with a proxy on each of its links.

use std::ffi::OsString;

use crate::cache_server::CacheServer;
use crate::redis::server::free_port;
use crate::s3::S3;
use crate::wire::Wire;

use super::database::Database;
use super::{Balancer, CONFIGURATION};

/// A server of a farm.
#[derive(Debug)]
pub struct Member {
    /// Its place among the others.
    number: usize,
    /// The process.
    server: CacheServer,
    /// Between the balancer and it.
    clients: Wire,
    /// Between it and the S3 server.
    objects: Wire,
    /// Between it and Redis, where that is one server.
    records: Option<Wire>,
    /// Between other servers and it, where they speak with each other.
    peers: Option<Wire>,
}

/// One of a server's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// To its clients.
    Clients,
    /// To the S3 server.
    Objects,
    /// To Redis.
    Records,
    /// To other servers.
    Peers,
}

/// Where other servers reach one: the port on which it listens for them, and the proxy before it.
#[derive(Debug)]
pub(super) struct PeerPlace {
    port: u16,
    wire: Wire,
}

impl PeerPlace {
    pub(super) fn new() -> Self {
        let port = free_port();
        Self {
            port,
            wire: Wire::before(port),
        }
    }

    pub(super) fn host(&self) -> String {
        self.wire.host()
    }
}

/// What servers of one farm have in common.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub(super) database: &'a Database,
    /// The port of what stands for S3.
    pub(super) objects: u16,
    /// What `--objects` gets.
    pub(super) objects_url: String,
    /// Whether servers have a tier on their disks.
    pub(super) near: bool,
    /// Addresses of all, for each other.
    pub(super) peers: &'a [String],
    /// More arguments.
    pub(super) arguments: &'a [OsString],
    /// Files of each.
    pub(super) files: &'a [(String, String)],
}

/// Gives a server that is not started yet files, and the settings among them.
#[must_use]
pub fn with_files(server: CacheServer, files: &[(String, String)]) -> CacheServer {
    let mut server = server;
    for (name, text) in files {
        let directory = server.path("").display().to_string();
        let directory = directory.trim_end_matches('/');
        let path = server.file(name, text.replace("{dir}", directory));
        if name == CONFIGURATION {
            server = server.with(["--config".as_ref(), path.as_os_str()]);
        }
    }
    server
}

impl Member {
    pub(super) fn start(number: usize, common: &Common<'_>, peer: Option<PeerPlace>) -> Self {
        let objects = Wire::before(common.objects);
        let records = common.database.single_port().map(Wire::before);
        let url = match &records {
            Some(wire) => format!("redis://{}", wire.host()),
            None => common.database.url(),
        };
        let mut server = CacheServer::prepare()
            .with(["--redis", &url, "--objects", &common.objects_url])
            .with(common.database.arguments())
            .with(common.arguments);
        server = with_files(server, common.files);
        for (name, value) in S3::variables(objects.port()) {
            server = server.env(&name, value);
        }
        if !common.near {
            server = server.without_root();
        }
        if let Some(peer) = &peer {
            let token = server.file("peers", "the-servers-know-this-word\n");
            server = server
                .with(["--peer-listen", &format!("127.0.0.1:{}", peer.port)])
                .with(["--peer-address", &peer.host()])
                .with(["--peer-token-file".as_ref(), token.as_os_str()]);
            for other in common.peers {
                server = server.with(["--peer", other]);
            }
        }
        server.launch();
        let clients = Wire::before(server.port());
        Self {
            number,
            server,
            clients,
            objects,
            records,
            peers: peer.map(|peer| peer.wire),
        }
    }

    /// Its process.
    pub fn server(&self) -> &CacheServer {
        &self.server
    }

    /// What clients call it by.
    pub fn url(&self) -> String {
        self.clients.url()
    }

    /// Tells the balancer where it is.
    pub(super) fn register(&self, front: &Balancer) {
        front.place(self.number, self.clients.port(), self.server.port());
    }

    /// `kill -9`; it has to be launched again.
    pub(super) fn kill(&mut self) {
        self.server.kill();
    }

    /// `kill -TERM`, and asserts that it ends well.
    pub(super) fn terminate(&mut self) {
        self.server.terminate().success();
    }

    /// Starts it again, with what it had on its disk.
    pub(super) fn launch(&mut self, front: &Balancer) {
        self.server.launch_elsewhere();
        self.clients.lead_to(self.server.port());
        self.register(front);
    }

    /// The proxy of a link, if there is one.
    pub(super) fn link(&self, link: Link) -> Option<&Wire> {
        match link {
            Link::Clients => Some(&self.clients),
            Link::Objects => Some(&self.objects),
            Link::Records => self.records.as_ref(),
            Link::Peers => self.peers.as_ref(),
        }
    }

    /// Ends all trouble of its links.
    pub(super) fn calm(&self) {
        for link in [Link::Clients, Link::Objects, Link::Records, Link::Peers] {
            if let Some(wire) = self.link(link) {
                wire.calm();
            }
        }
    }
}

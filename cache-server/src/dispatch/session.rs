//! Sessions: what only a build's client can give, for as long as the build goes on.
//!
//! A session has a sealed bundle, which nobody here can read and which is never written anywhere, and
//! a connection while the client is there. Channels lead from a worker's connection through the
//! session's to the client: the two ends number them differently.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ashlar_proto::wire::farm::{
    ChannelData, ChannelEnd, ChannelOpen, SessionResponse, session_response,
};
use ashlar_queue::BuildKey;
use bytes::Bytes;
use tonic::Status;
use zeroize::Zeroizing;

use super::outbox::{Allowance, Outbox, Part};
use crate::limits;

/// A worker's connection, and the number that it gave a channel.
pub type WorkerEnd = (u64, u64);

/// What a client gave for a build.
pub struct Sealed {
    bytes: Zeroizing<Vec<u8>>,
    _part: Part,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// A channel of a session.
#[derive(Debug)]
struct Channel {
    worker: WorkerEnd,
    /// What waits on the way to the client.
    waiting: Allowance,
}

/// The client's connection.
#[derive(Debug)]
struct Link {
    id: u64,
    outbox: Outbox<SessionResponse>,
    /// What waits in all channels.
    waiting: Allowance,
}

/// A session.
#[derive(Debug)]
struct Session {
    sealed: Option<Sealed>,
    link: Option<Link>,
    channels: HashMap<u64, Channel>,
    next_channel: u64,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    known: HashMap<BuildKey, Session>,
    /// Channels by their workers' ends.
    by_worker: HashMap<WorkerEnd, (BuildKey, u64)>,
    /// Bytes of bundles.
    sealed: Allowance,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            by_worker: HashMap::new(),
            sealed: Allowance::of(limits::ALL_SEALED),
        }
    }
}

/// Channels that ended, and what their workers are to be told.
pub type Ended = Vec<WorkerEnd>;

fn message(kind: session_response::Kind) -> SessionResponse {
    SessionResponse { kind: Some(kind) }
}

/// Tells a client that its session is known.
pub fn greet(outbox: &Outbox<SessionResponse>) {
    let opened = session_response::Kind::Opened(session_response::Opened {});
    // There is room: nothing was put there before.
    let _room = outbox.put(message(opened));
}

impl Sessions {
    /// Sessions that there are.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// A client is there. Another connection of it, if there is one, is ended. Gives the channels
    /// that ended with that.
    pub fn open(
        &mut self,
        key: BuildKey,
        sealed: Bytes,
        link: u64,
        outbox: Outbox<SessionResponse>,
    ) -> Result<Ended, Status> {
        if !self.known.contains_key(&key) && self.known.len() >= limits::SESSIONS {
            return Err(crate::status::later(
                tonic::Code::ResourceExhausted,
                "there are too many sessions",
                Duration::from_secs(5),
            ));
        }
        let sealed = self.seal(sealed)?;
        let ended = self.unlink(&key, None, "the client came again");
        let session = self.known.entry(key).or_insert_with(|| Session {
            sealed: None,
            link: None,
            channels: HashMap::new(),
            next_channel: 1,
        });
        if let Some(sealed) = sealed {
            session.sealed = Some(sealed);
        }
        greet(&outbox);
        session.link = Some(Link {
            id: link,
            outbox,
            waiting: Allowance::of(limits::CHANNELS_WAITING),
        });
        Ok(ended)
    }

    fn seal(&self, bytes: Bytes) -> Result<Option<Sealed>, Status> {
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() > limits::SEALED {
            return Err(Status::invalid_argument(format!(
                "the sealed bundle has more than {} bytes",
                limits::SEALED
            )));
        }
        let part = self.sealed.take(bytes.len()).ok_or_else(|| {
            crate::status::later(
                tonic::Code::ResourceExhausted,
                "there is no more room for sealed bundles",
                Duration::from_secs(5),
            )
        })?;
        let sealed = Sealed {
            bytes: Zeroizing::new(bytes.to_vec()),
            _part: part,
        };
        if let Ok(mut own) = bytes.try_into_mut() {
            zeroize::Zeroize::zeroize(&mut own[..]);
        }
        Ok(Some(sealed))
    }

    /// Whether the client of a build is there.
    pub fn is_there(&self, key: &BuildKey) -> bool {
        let known = self.known.get(key);
        known.is_some_and(|session| session.link.is_some())
    }

    /// Whose build has a name, if its client was here.
    pub fn owner_of(&self, namespace: &str, build: &str) -> Option<Arc<str>> {
        let mut keys = self.known.keys();
        let is_it = |key: &&BuildKey| *key.namespace == *namespace && *key.build == *build;
        keys.find(is_it).map(|key| key.user.clone())
    }

    /// Whether a build has a bundle.
    pub fn has_sealed(&self, key: &BuildKey) -> bool {
        let known = self.known.get(key);
        known.is_some_and(|session| session.sealed.is_some())
    }

    /// What was sealed for a build's workers; empty if there is nothing.
    pub fn sealed(&self, key: &BuildKey) -> Bytes {
        let known = self.known.get(key);
        let sealed = known.and_then(|session| session.sealed.as_ref());
        sealed.map_or_else(Bytes::new, |sealed| Bytes::copy_from_slice(&sealed.bytes))
    }

    /// A client's connection is over. Gives the channels that ended with it; `None` if another
    /// connection has taken its place.
    pub fn close(&mut self, key: &BuildKey, link: u64) -> Option<Ended> {
        let session = self.known.get(key)?;
        let own = session.link.as_ref()?.id == link;
        own.then(|| self.unlink(key, Some(link), ""))
    }

    /// Ends the connection that there is, and all channels.
    fn unlink(&mut self, key: &BuildKey, gone: Option<u64>, why: &str) -> Ended {
        let Some(session) = self.known.get_mut(key) else {
            return Vec::new();
        };
        let link = session.link.take();
        if let (Some(link), None) = (link, gone) {
            link.outbox.end(Status::aborted(why));
        }
        let channels = std::mem::take(&mut session.channels);
        let ended: Ended = channels
            .into_values()
            .map(|channel| channel.worker)
            .collect();
        for worker in &ended {
            self.by_worker.remove(worker);
        }
        ended
    }

    /// Forgets a session whose client is not there. What was sealed is overwritten.
    pub fn forget(&mut self, key: &BuildKey) {
        if !self.is_there(key) {
            self.known.remove(key);
        }
    }

    /// Ends all connections, and forgets all sessions.
    pub fn end_all(&mut self, why: &Status) {
        for session in self.known.values() {
            if let Some(link) = &session.link {
                link.outbox.end(why.clone());
            }
        }
        self.known.clear();
        self.by_worker.clear();
    }

    /// A worker wants to speak to an agent of the client. Fails with what to tell it.
    pub fn connect(
        &mut self,
        key: &BuildKey,
        worker: WorkerEnd,
        agent: String,
    ) -> Result<(), &'static str> {
        let session = self.known.get_mut(key);
        let session = session.ok_or("the build's client is not there")?;
        let link = session.link.as_ref();
        let link = link.ok_or("the build's client is not there")?;
        if session.channels.len() >= limits::CHANNELS {
            return Err("the build has too many channels");
        }
        if self.by_worker.contains_key(&worker) {
            return Err("the channel is open already");
        }
        let channel = session.next_channel;
        let open = message(session_response::Kind::Channel(ChannelOpen {
            channel,
            agent,
        }));
        link.outbox
            .put(open)
            .map_err(|_| "the build's client does not read what it is sent")?;
        session.next_channel += 1;
        session.channels.insert(
            channel,
            Channel {
                worker,
                waiting: Allowance::of(limits::CHANNEL_WAITING),
            },
        );
        self.by_worker.insert(worker, (key.clone(), channel));
        Ok(())
    }

    /// Bytes from a worker for the client. Fails if the channel has to end.
    pub fn from_worker(&mut self, worker: WorkerEnd, data: Bytes) -> Result<(), &'static str> {
        let (key, channel) = self
            .by_worker
            .get(&worker)
            .ok_or("there is no such channel")?;
        let session = self.known.get(key).ok_or("the build is over")?;
        let link = session.link.as_ref();
        let link = link.ok_or("the build's client is not there")?;
        let known = session.channels.get(channel);
        let known = known.ok_or("there is no such channel")?;
        let parts = [
            known.waiting.take(data.len()),
            link.waiting.take(data.len()),
        ];
        let parts: Option<Vec<Part>> = parts.into_iter().collect();
        let data = message(session_response::Kind::Data(ChannelData {
            channel: *channel,
            data,
        }));
        parts
            .and_then(|parts| link.outbox.put_with(data, parts).ok())
            .ok_or("the build's client does not read what it is sent")
    }

    /// A channel ends at its worker's end: the client is told.
    pub fn end_from_worker(&mut self, worker: WorkerEnd, error: String) {
        let Some((key, channel)) = self.by_worker.remove(&worker) else {
            return;
        };
        let Some(session) = self.known.get_mut(&key) else {
            return;
        };
        session.channels.remove(&channel);
        if let Some(link) = &session.link {
            let end = message(session_response::Kind::End(ChannelEnd { channel, error }));
            // A client that has no room for it does not read at all, and is ended with its stream.
            let _full = link.outbox.put(end);
        }
    }

    /// All channels of a worker's connection end.
    pub fn end_of_worker(&mut self, link: u64) {
        let own = self.by_worker.keys().filter(|(of, _)| *of == link);
        let own: Vec<_> = own.copied().collect();
        for worker in own {
            self.end_from_worker(worker, "the worker's connection broke".to_owned());
        }
    }

    /// The worker's end of a channel of a client's connection.
    pub fn worker_of(&self, key: &BuildKey, link: u64, channel: u64) -> Option<WorkerEnd> {
        let session = self.known.get(key)?;
        (session.link.as_ref()?.id == link).then_some(())?;
        session.channels.get(&channel).map(|channel| channel.worker)
    }

    /// A channel ends at the client's end. Gives the worker's.
    pub fn end_from_client(
        &mut self,
        key: &BuildKey,
        link: u64,
        channel: u64,
    ) -> Option<WorkerEnd> {
        let worker = self.worker_of(key, link, channel)?;
        self.by_worker.remove(&worker);
        self.known.get_mut(key)?.channels.remove(&channel);
        Some(worker)
    }
}

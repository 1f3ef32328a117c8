//! Byte streams between steps here and agents of builds' clients, over the connection to the farm.
//!
//! A channel ends with the connection: whoever used it begins anew, as with any socket whose other
//! end went away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_proto::wire::farm;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::ledger::Given;

/// The longest piece of data of a message.
pub const PIECE: usize = 64 << 10;
/// Messages that wait to be sent, and pieces that wait to be read on each channel.
const WAITING: usize = 16;

/// All channels of this worker. Clones are the same.
#[derive(Debug, Clone)]
pub struct Channels {
    inner: Arc<Mutex<Inner>>,
    messages: mpsc::Sender<farm::WorkerMessage>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    is_connected: bool,
    open: HashMap<u64, mpsc::Sender<Bytes>>,
}

/// What waits to be sent.
pub type Messages = mpsc::Receiver<farm::WorkerMessage>;

/// One end of a channel. Dropping it ends the channel.
#[derive(Debug)]
pub struct Channel {
    id: u64,
    channels: Channels,
    incoming: mpsc::Receiver<Bytes>,
    is_over: bool,
}

impl Channels {
    /// No channels, and where their messages come out.
    pub fn new() -> (Self, Messages) {
        let (messages, waiting) = mpsc::channel(WAITING);
        let inner = Arc::default();
        (Self { inner, messages }, waiting)
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a channel to an agent of the client for which some work is done. `None` if the farm
    /// cannot be reached.
    pub async fn open(&self, given: &Given, agent: &str) -> Option<Channel> {
        let (pieces, incoming) = mpsc::channel(WAITING);
        let id = {
            let mut inner = self.locked();
            if !inner.is_connected {
                return None;
            }
            inner.last += 1;
            let id = inner.last;
            inner.open.insert(id, pieces);
            id
        };
        let channel = Channel {
            id,
            channels: self.clone(),
            incoming,
            is_over: false,
        };
        let open = farm::worker_message::ChannelOpenFor {
            assignment: Some(given.into()),
            channel: id,
            agent: agent.to_owned(),
        };
        let open = farm::worker_message::Kind::Channel(open);
        self.send(open).await.then_some(channel)
    }

    async fn send(&self, kind: farm::worker_message::Kind) -> bool {
        let message = farm::WorkerMessage { kind: Some(kind) };
        self.messages.send(message).await.is_ok()
    }

    /// A connection is there, or is not any more: then all channels end.
    pub fn connected(&self, is_connected: bool) {
        let mut inner = self.locked();
        inner.is_connected = is_connected;
        inner.open.clear();
    }

    /// Data has come. One who does not read it in time loses the channel, for others must not wait
    /// for him.
    pub fn came(&self, id: u64, data: Bytes) {
        let mut inner = self.locked();
        let Some(pieces) = inner.open.get(&id) else {
            return;
        };
        if pieces.try_send(data).is_err() {
            inner.open.remove(&id);
            drop(inner);
            self.tell_end(id, "nobody reads it");
        }
    }

    /// The other side has ended a channel.
    pub fn ended(&self, id: u64) {
        self.locked().open.remove(&id);
    }

    fn tell_end(&self, channel: u64, error: &str) {
        let end = farm::ChannelEnd {
            channel,
            error: error.to_owned(),
        };
        let kind = Some(farm::worker_message::Kind::End(end));
        // Where so much waits, the other side learns of it with the end of the work.
        drop(self.messages.try_send(farm::WorkerMessage { kind }));
    }
}

impl Channel {
    /// The next data; `None` when the other side has ended.
    pub async fn read(&mut self) -> Option<Bytes> {
        let data = self.incoming.recv().await;
        self.is_over |= data.is_none();
        data
    }

    /// Sends data, at most [`PIECE`] bytes. Whether the channel is still there.
    pub async fn write(&self, data: Bytes) -> bool {
        if !self.channels.locked().open.contains_key(&self.id) {
            return false;
        }
        let data = farm::ChannelData {
            channel: self.id,
            data,
        };
        let data = farm::worker_message::Kind::Data(data);
        self.channels.send(data).await
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let was_open = self.channels.locked().open.remove(&self.id).is_some();
        if was_open && !self.is_over {
            self.channels.tell_end(self.id, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use farm::worker_message::Kind;

    use super::*;

    fn given() -> Given {
        Given {
            operation: "a".to_owned(),
            fence: 1,
        }
    }

    #[tokio::test]
    async fn data_goes_both_ways_until_one_side_ends() {
        let (channels, mut messages) = Channels::new();
        assert!(channels.open(&given(), "default").await.is_none());
        channels.connected(true);
        let mut channel = channels.open(&given(), "default").await.unwrap();
        let Some(Kind::Channel(open)) = messages.recv().await.unwrap().kind else {
            panic!("no channel is opened");
        };
        assert_eq!((open.channel, open.agent.as_str()), (1, "default"));
        assert!(channel.write(Bytes::from_static(b"sign")).await);
        let Some(Kind::Data(data)) = messages.recv().await.unwrap().kind else {
            panic!("no data is sent");
        };
        assert_eq!(data.data, "sign");
        channels.came(1, Bytes::from_static(b"signed"));
        channels.came(9, Bytes::from_static(b"nobody's"));
        assert_eq!(channel.read().await.unwrap(), "signed");
        channels.ended(1);
        assert!(channel.read().await.is_none());
        assert!(!channel.write(Bytes::from_static(b"more")).await);
        drop(channel);
        messages.try_recv().unwrap_err();

        let channel = channels.open(&given(), "default").await.unwrap();
        drop(messages.recv().await);
        drop(channel);
        let end = messages.recv().await.unwrap().kind;
        assert!(matches!(end, Some(Kind::End(end)) if end.error.is_empty()));
    }

    #[tokio::test]
    async fn a_broken_connection_ends_all_and_one_who_does_not_read_ends_himself() {
        let (channels, mut messages) = Channels::new();
        channels.connected(true);
        let mut channel = channels.open(&given(), "x").await.unwrap();
        channels.connected(false);
        assert!(channel.read().await.is_none());
        drop(messages.recv().await);

        channels.connected(true);
        let mut channel = channels.open(&given(), "x").await.unwrap();
        drop(messages.recv().await);
        for _ in 0..=WAITING {
            channels.came(channel.id, Bytes::from_static(b"x"));
        }
        let end = messages.recv().await.unwrap().kind;
        assert!(matches!(end, Some(Kind::End(end)) if !end.error.is_empty()));
        for _ in 0..WAITING {
            assert!(channel.read().await.is_some());
        }
        assert!(channel.read().await.is_none());
    }
}

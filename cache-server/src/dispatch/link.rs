//! The connections of workers.

use std::collections::HashMap;
use std::sync::Arc;

use ashlar_proto::wire::farm::{ChannelData, ChannelEnd, QueueMessage, queue_message::Kind};
use ashlar_queue::OperationId;
use bytes::Bytes;
use tonic::Status;

use super::outbox::{Allowance, Outbox, Refused};
use crate::auth::caller::is_within;
use crate::limits;

/// A worker's connection.
#[derive(Debug)]
pub struct Link {
    outbox: Outbox<QueueMessage>,
    /// What waits in all channels.
    waiting: Allowance,
    /// What waits in each.
    channels: HashMap<u64, Allowance>,
    /// Namespaces whose work it takes.
    pub namespaces: Vec<Arc<str>>,
    /// To whom secrets are sealed.
    pub recipient: String,
    /// Orders that it reads.
    pub order_versions: Vec<u32>,
    /// Names of operations that it speaks of, as it knows them.
    pub names: HashMap<OperationId, String>,
}

fn message(kind: Kind) -> QueueMessage {
    QueueMessage { kind: Some(kind) }
}

impl Link {
    /// A connection.
    pub fn new(outbox: Outbox<QueueMessage>) -> Self {
        Self {
            outbox,
            waiting: Allowance::of(limits::CHANNELS_WAITING),
            channels: HashMap::new(),
            namespaces: Vec::new(),
            recipient: String::new(),
            order_versions: Vec::new(),
            names: HashMap::new(),
        }
    }

    /// Sends something.
    pub fn send(&self, kind: Kind) -> Result<(), Refused> {
        self.outbox.put(message(kind))
    }

    /// Ends it.
    pub fn end(&self, why: Status) {
        self.outbox.end(why);
    }

    /// The name of an operation, as the worker knows it.
    pub fn name(&self, operation: OperationId) -> String {
        let known = self.names.get(&operation).cloned();
        known.unwrap_or_else(|| format!("operations/{operation}"))
    }

    /// Whether it takes work of a namespace.
    pub fn works_for(&self, namespace: &str) -> bool {
        let mut own = self.namespaces.iter();
        own.any(|top| is_within(namespace, top))
    }

    /// A channel was opened.
    pub fn open(&mut self, channel: u64) {
        let waiting = Allowance::of(limits::CHANNEL_WAITING);
        self.channels.insert(channel, waiting);
    }

    /// Bytes of a channel for the worker.
    pub fn data(&self, channel: u64, data: Bytes) -> Result<(), Refused> {
        let own = self.channels.get(&channel).ok_or(Refused)?;
        let parts = [own.take(data.len()), self.waiting.take(data.len())];
        let parts: Option<Vec<_>> = parts.into_iter().collect();
        let data = message(Kind::Data(ChannelData { channel, data }));
        self.outbox.put_with(data, parts.ok_or(Refused)?)
    }

    /// A channel is over, and the worker did not say so itself.
    pub fn close(&mut self, channel: u64, error: &str) {
        if self.channels.remove(&channel).is_some() {
            self.refuse(channel, error);
        }
    }

    /// A channel is over by the worker's own doing.
    pub fn forget(&mut self, channel: u64) {
        self.channels.remove(&channel);
    }

    /// There is no such channel.
    pub fn refuse(&self, channel: u64, error: &str) {
        let end = Kind::End(ChannelEnd {
            channel,
            error: error.to_owned(),
        });
        // One that has no room for it does not read at all, and is ended for that.
        let _full = self.send(end);
    }
}

//! The numbers that bound what a client can ask for.

use std::time::Duration;

/// Blobs of one batch, added up. Less than a message of gRPC may have, for names and digests come
/// with them.
pub const BATCH: u64 = 3 << 20;

/// What a message from a client may have. gRPC's usual number.
pub const MESSAGE: usize = 4 << 20;

/// Blobs of one batch that come compressed, added up as they are without compression.
pub const INFLATED_BATCH: u64 = 16 << 20;

/// A piece of a blob on the wire: large enough for speed, small enough for little memory.
pub const PIECE: usize = 256 << 10;

/// Bytes that one stream may be ahead of its reader: what a fast and distant client needs.
pub const STREAM_WINDOW: u32 = 4 << 20;

/// Bytes that all streams of a connection may be ahead.
pub const CONNECTION_WINDOW: u32 = 16 << 20;

/// Streams that a connection may have at once.
pub const STREAMS: u32 = 128;

/// Streams that a connection of another server may have at once: those of its workers and clients.
pub const PEER_STREAMS: u32 = 100_000;

/// Bytes of the headers of a request.
pub const HEADERS: u32 = 16 << 10;

/// Connections that say nothing for so long are asked for a sign of life.
pub const KEEPALIVE: Duration = Duration::from_secs(30);

/// So long a sign of life may take.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// So long a client may take to agree upon TLS.
pub const HANDSHAKE: Duration = Duration::from_secs(20);

/// Bytes of an instance name.
pub const INSTANCE_NAME: usize = 255;

/// Actions of one `Probe`.
pub const PROBE: usize = 10_000;

/// Chunks of one blob that is put together: 100 GiB of average chunks.
pub const CHUNKS: usize = 200_000;

/// Directories of one `GetTree`.
pub const DIRECTORIES: usize = 1_000_000;

/// Bytes of a lease's key.
pub const LEASE_KEY: usize = 200;

/// Bytes of the name of a lease's holder.
pub const LEASE_HOLDER: usize = 400;

/// Bytes of the reason for which results are invalidated.
pub const REASON: usize = 1000;

/// Bytes of a cache mount's name.
pub const MOUNT_NAME: usize = 400;

/// Trees of a cache mount's snapshot.
pub const MOUNT_TREES: usize = 100;

/// Window of compressed data, as a power of two: 8 MiB, what RFC 8878 says that every decoder
/// should take, and no more, for a stream's decoder holds so much memory.
pub const ZSTD_WINDOW: u32 = 23;

/// Bytes of what the queue reads of an action: the action, its command, its input root, its
/// placement.
pub const ACTION: u64 = 512 << 10;

/// Bytes of an order, which only clients and workers read.
pub const ORDER: u64 = 1 << 30;

/// Layers that an action stands on.
pub const PLACEMENT_INPUTS: usize = 4096;

/// What an action may ask of a worker.
pub const REQUIREMENTS: usize = 32;

/// What a worker may say that it has.
pub const PROPERTIES: usize = 64;

/// Bytes of the name of a property.
pub const PROPERTY_NAME: usize = 64;

/// Bytes of its value.
pub const PROPERTY_VALUE: usize = 256;

/// Bytes of what people call an action.
pub const ACTION_NAME: usize = 200;

/// Bytes of the name of a build, and of a worker's id.
pub const BUILD: usize = 64;

/// Bytes of what a worker is called, of its version, and of its key.
pub const WORKER_TEXT: usize = 400;

/// Namespaces that a worker works for.
pub const WORKER_NAMESPACES: usize = 64;

/// Segments that a worker runs at once.
pub const WORKER_SLOTS: u32 = 1024;

/// Layers that are known of a worker.
pub const HOLDINGS: usize = 4096;

/// Actions that a worker speaks of in one message.
pub const ASSIGNMENTS: usize = 4096;

/// Bytes of one event.
pub const EVENT: usize = 256 << 10;

/// Bytes of an outcome.
pub const OUTCOME: usize = 2 << 20;

/// Bytes of a message for people.
pub const SAID: usize = 16 << 10;

/// Bytes of a sealed bundle.
pub const SEALED: usize = 1 << 20;

/// Bytes of all sealed bundles.
pub const ALL_SEALED: usize = 256 << 20;

/// Sessions at once.
pub const SESSIONS: usize = 10_000;

/// Channels of one session at once.
pub const CHANNELS: usize = 64;

/// Bytes of one message of a channel.
pub const CHANNEL_DATA: usize = 64 << 10;

/// Bytes of a channel that wait to be sent on. Agents speak in messages of 256 KiB at most, and
/// wait for each answer.
pub const CHANNEL_WAITING: usize = 1 << 20;

/// Bytes of all channels of one connection that wait to be sent on.
pub const CHANNELS_WAITING: usize = 8 << 20;

/// Bytes of the name of an agent.
pub const AGENT: usize = 200;

/// Messages that wait for a worker or a client, but for those of channels.
pub const WAITING: usize = 16 << 10;

/// Bytes of the events of all operations.
pub const EVENTS: usize = 512 << 20;

/// Priorities that a client may give: larger ones are less urgent.
pub const PRIORITIES: std::ops::RangeInclusive<i32> = 0..=100;

/// The most urgent priority, for those who look after the cache.
pub const MOST_URGENT: i32 = -100;

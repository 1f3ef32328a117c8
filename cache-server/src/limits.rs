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

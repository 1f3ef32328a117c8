//! Servers of a farm as processes, over a real Redis and a real S3 server.

mod away;
mod commands;
mod peers;
mod server;
mod sharing;

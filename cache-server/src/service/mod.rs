//! The services, one file each.
//!
//! | module | service |
//! |---|---|
//! | [`capabilities`] | what the server can do |
//! | [`content_addressable_storage`] | blobs in batches, trees, chunks |
//! | [`byte_stream`] | blobs in streams |
//! | [`action_cache`] | results |
//! | [`results`] | results in batches, and lists of them |
//! | [`leases`] | leave to make something alone |
//! | [`pins`] | results that are not evicted |
//! | [`cache_mounts`] | contents of cache mounts |
//! | [`execution`], [`operations`], [`farm`] | the farm's queue, for clients |
//! | [`workers`] | the farm's queue, for workers |
//! | [`admin`] | what only those may do who look after the cache |
//!
//! They share [`request`] (what all requests have), [`compression`] and [`signers`] (who has signed
//! a result).

pub mod action_cache;
pub mod admin;
pub mod byte_stream;
pub mod cache_mounts;
pub mod capabilities;
pub mod chunks;
pub mod compression;
pub mod content_addressable_storage;
pub mod execution;
pub mod farm;
pub mod leases;
pub mod operations;
pub mod pins;
pub mod request;
pub mod results;
pub mod signers;
pub mod workers;

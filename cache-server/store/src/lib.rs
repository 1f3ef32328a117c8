//! Stores: where blobs, layers and step results live.
//!
//! [`home`] is the store of one machine, shared by all of its builds. What machines share lies
//! behind two traits, whose words are those of the Remote Execution API (REAPI): [`BlobStore`]
//! keeps blobs under their digests, [`ActionCache`] keeps results under the digests of their
//! actions. One file for each store and each decorator:
//!
//! | module | subject |
//! |---|---|
//! | [`home`] | the local store of one user: plain files, no server |
//! | [`blob_store`], [`action_cache`] | the two traits |
//! | [`fault`] | why a store did not do what it was asked |
//! | [`memory`] | both traits in memory |
//! | [`completeness`] | results only if all their blobs are there |
//! | [`checked`] | streams that are checked against their digest |
//! | [`disk`] | the server's store |
//! | [`grpc`] | a client of any server of REAPI |
//! | [`verifying`] | what goes in and comes out is checked |
//! | [`existence`] | what is there is remembered for a while |
//! | [`lease`] | who may make what alone |
//! | [`possession`] | who has shown that it has a blob's bytes |
//! | [`possessed`] | a store of which one sees only the blobs whose bytes were shown |
//! | `objects` | blobs in an object store: S3 and its like (feature `farm`) |
//! | `redis` | results, leases and the index of blobs in Redis (feature `farm`) |
//! | [`doubted`] | a store whose notes are doubted: it is looked where the bytes are |
//! | [`recalled`] | small blobs that were read lately |
//! | [`counters`] | what stores count of themselves, for metrics |
//! | [`rendezvous`] | the near stores of several servers as one |
//! | [`traced`] | what a store is asked, as spans |
//! | [`tiered`] | a near store in front of a far one |
//! | `conformance` | what every store must do, as tests (feature `conformance`) |
//! | [`clock`] | the time of day |
//! | [`task`] | tasks that end with their handle |
#![forbid(unsafe_code)]

pub mod action_cache;
pub mod blob_store;
pub mod checked;
pub mod clock;
pub mod completeness;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod counters;
pub mod disk;
pub mod doubted;
pub mod existence;
pub mod fault;
pub mod grpc;
pub mod home;
pub mod lease;
pub mod memory;
#[cfg(feature = "farm")]
pub mod objects;
pub mod possessed;
pub mod possession;
pub mod recalled;
#[cfg(feature = "farm")]
pub mod redis;
pub mod rendezvous;
pub mod task;
pub mod tiered;
pub mod traced;
pub mod verifying;

pub use action_cache::ActionCache;
pub use blob_store::BlobStore;
pub use fault::{Fault, FaultKind};
pub use lease::LeaseStore;
pub use possession::Possession;

//! Step results and layers shared between machines: the builder's side of the cache service.
//!
//! What the scheduler asks ([`ashlar_engine::share`]) is answered here from one or several caches:
//! step results become REAPI action results, layers become split layers, and back.
//!
//! | module | subject |
//! |---|---|
//! | [`address`] | how a cache is named: `grpc://HOST:PORT,instance=main,mode=read` |
//! | [`service`], [`grpc`], [`portable`] | a cache, as this crate uses it; one behind gRPC; one without a server |
//! | [`cache`] | one cache of a build |
//! | [`breaker`] | when it is not asked any more, and what the user is told |
//! | [`pace`] | how much is on its way at once, and how long it may take |
//! | [`record`] | what a result says: the StepResult record |
//! | [`action`], [`tree`] | keys, results and split layers in the words of REAPI |
//! | [`lookup`], [`adopt`] | results of other machines, as results of this store |
//! | [`fetch`] | their layers, when something needs their files |
//! | [`upload`], [`tars`], [`background`] | our results to other machines, behind the build |
//! | [`losses`] | what else is lost, when something is |
//! | [`lease`] | of several machines one runs a step |
//! | [`mounts`] | what cache mounts hold |
//! | [`listing`] | what a cache holds, for people |
//! | [`signature`] | who says that a step gave a result, and who is believed |
//! | [`sharing`] | all of it, as the scheduler sees it |
#![forbid(unsafe_code)]

pub mod action;
pub mod address;
pub mod adopt;
pub mod background;
pub mod breaker;
pub mod cache;
pub mod fetch;
pub mod grpc;
pub mod lease;
pub mod listing;
pub mod lookup;
pub mod losses;
pub mod mounts;
pub mod pace;
pub mod portable;
pub mod record;
pub mod service;
pub mod sharing;
pub mod signature;
pub mod tars;
pub mod tree;
pub mod upload;

#[cfg(test)]
mod tests;

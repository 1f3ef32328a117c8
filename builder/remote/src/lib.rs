//! Builds on a farm of workers: what is sent there, and who speaks to it. Used by the builder, which
//! sends, and by workers, which read.
//!
//! | module | subject |
//! |---|---|
//! | [`address`] | how a farm is named |
//! | [`client`] | a farm, as those see it who give it work |
//! | [`order`] | what workers are asked to do, and what they answer |
//! | [`context`] | files of a build's context, there and back |
//! | [`seal`] | secrets on their way to workers |
//! | [`patience`] | trying again |
#![forbid(unsafe_code)]

pub mod address;
pub mod client;
pub mod context;
pub mod order;
pub mod patience;
pub mod seal;

//! What travels between Ashlar's processes, and its conversion to [`ashlar_model`].
//!
//! | module | subject |
//! |---|---|
//! | [`wire`] | the generated messages, clients and servers |
//! | [`convert`] | digests, digest functions, times |
//! | [`resource_name`] | the names that blobs have in ByteStream |
//! | [`action_result`] | what an encoded result, tree or directory names |
//! | [`missing`] | how a server says which blobs it lacks |
//! | [`retry`] | how a server says when to try again |
//!
//! Wire types go no further than this crate and the files of services and clients that speak them.
#![forbid(unsafe_code)]

pub mod action_result;
pub mod convert;
pub mod missing;
pub mod resource_name;
pub mod retry;
pub mod wire;

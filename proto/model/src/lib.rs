//! Domain types of Ashlar, shared by every crate.
//!
//! This crate has no I/O and no async runtime: it holds what the words of the design *mean*.
//!
//! | module | subject |
//! |---|---|
//! | [`csv`], [`amount`] | comma-separated fields and amounts, as Docker's flags have them |
//! | [`cas`] | digests of blobs in a shared cache, names of its parts |
//! | [`digest`] | OCI digests and BLAKE3 identifiers, each its own type |
//! | [`chmod`] | the value of `--chmod` |
//! | [`config`] | the OCI image configuration |
//! | [`content_hash`] | the canonical encoding under every key |
//! | [`platform`] | `os/arch/variant` |
//! | [`reference`](mod@reference) | image references as Docker normalises them |
//! | [`media_type`] | OCI and Docker media types |
//! | [`descriptor`] | OCI content descriptors |
//! | [`layer`] | entries of a filesystem layer, its index, its record |
//! | [`mount`], [`secret`] | what a command sees besides its filesystem |
//! | [`step`] | what a step of the build graph does, and what it gave |
//! | [`remote`] | files that come from elsewhere: a git repository, a URL |
//! | [`select`] | which files a source pattern stands for |
//! | [`size`] | byte counts as people read them |
//! | [`executor`] | the trait behind which steps run |
//! | [`error_chain`](mod@error_chain) | an error and its causes as one line |
#![forbid(unsafe_code)]

pub mod amount;
pub mod cas;
pub mod chmod;
pub mod config;
pub mod content_hash;
pub mod csv;
pub mod descriptor;
pub mod digest;
pub mod error_chain;
pub mod executor;
pub mod layer;
pub mod media_type;
pub mod mount;
pub mod platform;
pub mod reference;
pub mod remote;
pub mod secret;
pub mod select;
pub mod size;
pub mod step;

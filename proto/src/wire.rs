//! The generated code: messages, clients and servers of the .proto files of this crate.
//!
//! - [`reapi`]: the Remote Execution API, version 2.13, whose comments are its documentation.
//! - [`ext`]: `ashlar.cache.v1`, what it lacks for builds of images.
//! - [`farm`]: `ashlar.farm.v1`, what it lacks for builds on a farm of workers.
//! - [`bytestream`], [`rpc`], [`longrunning`], [`semver`]: what these are made of.
//!
//! These types go no further than the files that speak a protocol.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::doc_lazy_continuation,
    clippy::too_many_lines,
    clippy::use_self,
    rustdoc::invalid_html_tags,
    reason = "generated"
)]

pub use ashlar::cache::v1 as ext;
pub use ashlar::farm::v1 as farm;
pub use build::bazel::remote::execution::v2 as reapi;
pub use build::bazel::semver;
pub use google::{bytestream, longrunning, rpc};

include!(concat!(env!("OUT_DIR"), "/wire.rs"));

/// All of the files, encoded as one `FileDescriptorSet`, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

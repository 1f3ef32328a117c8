//! OCI images: configuration and manifests, the registry client, the exporters.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | the image configuration: what containers are started with |
//! | [`manifest`] | manifests and indexes, choosing a platform |
//! | [`blob_source`] | where blobs' bytes come from |
//! | [`registry`] | the registry client |
//! | [`oci_layout`] | reading OCI layouts |
//! | [`pull`] | getting images from either into the store |
//! | [`export`] | making files, directories and pushed images of a build's result |
//!
//! Layer bytes come through traits; nothing here knows how layers are made.
#![forbid(unsafe_code)]

pub mod blob_source;
pub mod export;
pub mod manifest;
pub mod oci_layout;
pub mod pull;
pub mod registry;

pub use ashlar_model::config;

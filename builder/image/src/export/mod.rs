//! Exporters: a finished image as a file, a directory or in a registry.
//!
//! | module | makes |
//! |---|---|
//! | [`oci_layout`] | an OCI layout, in a tar or in a directory |
//! | [`docker_archive`] | a tar that `docker load`, `podman load` and skopeo read |
//! | [`local`], [`tar`] | the image's files |
//! | [`registry`] | an image in a registry |
//!
//! What [`spec`] describes; what [`image`] holds. All but the last block the thread. Results are
//! deterministic: the same image gives the same bytes. A file appears whole or not at all.

mod archive;
pub mod docker_archive;
mod error;
pub mod filesystem;
pub mod image;
pub mod local;
pub mod oci_layout;
pub mod registry;
mod sink;
pub mod spec;
pub mod tar;

pub use error::ExportError;
pub use filesystem::FilesystemStream;
pub use image::ExportImage;
pub use spec::{
    Destination, EpochChoice, ImageOptions, LayerOptions, OutputSpec, OutputSpecError, TimeOptions,
};

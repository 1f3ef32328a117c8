//! Orders: what a client asks workers to do, and what they answer.
//!
//! An order has the graph of a build as far as the work needs it, and nothing that has to be
//! believed. Whoever reads it computes all keys itself: from what steps do; from the listings of
//! context files, which it fetches and checks; from the manifests and configurations of base images,
//! which are in the order and have the digests that it names. So an order can ask for anything, but
//! it cannot give a result the key of another step.
//!
//! ```text
//! order = "ASHO", kind (1 byte), version (2 bytes, little endian), body (postcard)
//! ```
//!
//! | kind | module | asks for |
//! |---|---|---|
//! | 1 | [`segment`] | some steps of a build |
//! | 2 | [`delivery`] | an image of what was built, in registries |
//! | 3 | [`build`] | a whole build |
//! | 4 | [`outcome`] | (what came of a segment) |
//!
//! | module | subject |
//! |---|---|
//! | `envelope` | kind and version, before anything else is read |
//! | `wire` | the parts of a graph as they are written |
//! | `write` | a graph into its parts: what lies below some node, and what of it the farm must have |
//! | `read` | and back, with places for the files of contexts |
//! | `check` | what no client writes |
//! | `image` | an image and its registries, for deliveries and builds |
//! | [`base`] | base images, and how it is known what they are |
//! | `remote` | files from elsewhere |
//! | `told` | errors of steps |

pub mod base;
pub mod build;
mod check;
pub mod delivery;
mod envelope;
pub mod error;
mod image;
pub mod outcome;
mod read;
mod remote;
pub mod segment;
mod told;
mod wire;
mod write;

#[cfg(test)]
mod tests;

pub use base::BaseLayer;
pub use build::BuildOrder;
pub use delivery::DeliveryOrder;
pub use error::OrderError;
pub use image::Push;
pub use outcome::SegmentOutcome;
pub use read::Planned;
pub use segment::{Order, encode};
pub use write::{ContextNames, Encoded};

/// The version of orders that this program writes and reads.
pub const VERSION: u32 = envelope::VERSION as u32;

/// The most bytes of an order.
pub const LONGEST_ORDER: usize = 32 << 20;

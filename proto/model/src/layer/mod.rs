//! Filesystem layers: their entries, their index, their record in a store.
//!
//! A layer is a change set. Its [`LayerIndex`] lists the changes, one [`Entry`] each, in canonical
//! order; it says everything that the layer's tar says except the bytes of its files.

mod entry;
mod path;
mod record;

pub use entry::{Entry, EntryKind, Metadata, Timestamp, Xattr};
pub use path::{LayerPath, LayerPathError};
pub use record::{LayerIndex, LayerOrigin, LayerRecord, StoredBlob};

//! Layers: between trees on disk, tars and blobs.
//!
//! ```text
//!            diff::index_tree           finalize::pack
//!   tree ───────────────────▶ index ──────────────────▶ tar, diff ID, compressed blobs
//!     ▲                       + contents                 │
//!     └───────────────────────── unpack ◀────────────────┘
//! ```
//!
//! All of it is synchronous code. What touches trees runs inside the user namespace, so that
//! owners are what a container sees; what makes tars and blobs needs no namespace.
//!
//! | module | subject |
//! |---|---|
//! | [`tree`] | how a layer lies on disk |
//! | [`diff`] | what a tree changes of the layers below it |
//! | [`contents`] | where the bytes of files come from |
//! | [`tar_write`] | the canonical tar of a layer |
//! | [`tar_read`] | reading tars that others made |
//! | [`unpack`](mod@unpack) | a tar into a tree, or only into its index |
//! | [`decompress`] | compressed input, whose format is found out by looking |
//! | [`compress`] | parallel compression with one result whatever the number of threads |
//! | [`finalize`] | everything an output needs of a layer, in one pass over its bytes |
//! | [`split`] | layers as caches keep them: headers apart from contents, both in chunks |
//! | [`retime`] | a tar with no time after a given one |
//! | [`warning`] | what a layer could not take along |

pub mod compress;
pub mod contents;
pub mod decompress;
pub mod diff;
pub mod finalize;
mod links;
pub mod retime;
pub mod split;
pub mod tar_read;
pub mod tar_write;
pub mod tree;
pub mod unpack;
pub mod warning;

pub use contents::{FileBytes, FileContents};
pub use decompress::Decompressor;
pub use diff::{DiffError, DiffOptions, index_tree};
pub use finalize::{PackError, PackOptions, PackOutput, PackTarget, Packed, PackedBlob, pack};
pub use retime::{Retimed, retimed};
pub use tar_read::is_tar_header;
pub use tree::TreeContents;
pub use unpack::{
    NameRules, OwnerPolicy, UnpackError, UnpackOptions, Unpacked, index_only, unpack,
};
pub use warning::Warning;

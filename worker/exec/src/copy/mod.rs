//! COPY, ADD and WORKDIR: planned as a pure function of what is there, then made.
//!
//! ```text
//!   layers of a stage ──view──▶ select ─┐                ┌─▶ materialise ─▶ tree
//!   build context ────────── selection ─┼─▶ plan ─▶ recipe
//!   layers of the destination ──view────┘                └─▶ contents ────▶ tar
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`view`] | a stack of layers as one filesystem |
//! | [`select`](mod@select) | the files of a stack that a source pattern stands for |
//! | [`plan`] | what goes where, with which owner and mode |
//! | [`recipe`] | a layer as a list of entries and where the bytes of each come from |
//! | [`materialise`](mod@materialise) | from a recipe to a tree on disk |
//! | [`contents`] | from a recipe straight into a tar |
//! | [`owner`] | `--chown` |

pub mod contents;
mod digest;
#[cfg(test)]
mod fixture;
pub mod materialise;
pub mod owner;
pub mod plan;
pub mod recipe;
pub mod select;
pub mod view;

pub use contents::RecipeContents;
pub use materialise::{MaterialiseError, materialise};
pub use owner::CopyWarning;
pub use plan::{CopyError, Plan, SourceFiles, plan_copy, plan_make_directory};
pub use recipe::{ByteSource, Recipe, RecipeEntry};
pub use select::{Digests, LayerSelection, SelectFilesError, select};
pub use view::{LayeredView, ViewError, ViewLayer};

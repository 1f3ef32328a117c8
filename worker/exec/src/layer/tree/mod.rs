//! Layer trees: how a layer lies on disk, as an overlay's upper or lower directory.
//!
//! | on disk | meaning |
//! |---|---|
//! | character device 0:0 | whiteout: what layers below have here is gone |
//! | directory with `user.overlay.opaque` = `y` | hides all that layers below have under it |
//! | `user.overlay.overlay.NAME` | the container's own attribute `user.overlay.NAME` |
//! | other `user.overlay.*` | the overlay's bookkeeping, no part of the layer |
//!
//! Overlays are always mounted with `userxattr`, so `trusted.*` is never looked at.
//!
//! | module | subject |
//! |---|---|
//! | [`beneath`] | opening paths below a root without ever leaving it |
//! | [`inode`] | what `stat` says |
//! | [`xattrs`] | extended attributes, as a container sees them and as they lie on disk |
//! | [`whiteout`] | whiteouts and opaque marks |
//! | [`contents`] | the bytes of a tree's files, for its tar |
//! | [`intact`] | whether a tree still is what its index says |

pub mod beneath;
pub mod contents;
pub mod inode;
pub mod intact;
pub mod whiteout;
pub mod xattrs;

pub use beneath::Root;
pub use contents::TreeContents;

//! Layers from end to end: real overlays, real tars, foreign readers.
//!
//! Everything runs inside of mount namespaces that `unshare` makes, as root or as an ordinary
//! user. The numbers in the tests' comments are those of the list of edge cases that the layer
//! code was written against.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod attributes;
mod changes;
mod formats;
mod identities;
mod lab;
mod names;
mod properties;
mod readers;
mod scale;

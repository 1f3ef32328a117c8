//! Takes segments and whole builds from a farm's queue and runs them.
//!
//! Remote builds have not been built yet: this crate holds the program's name, its version and
//! its place in the workspace, and nothing that pretends to work.
#![forbid(unsafe_code)]

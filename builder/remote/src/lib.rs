//! Builds on a farm of workers: what is sent there, and who speaks to it. Used by the builder, which
//! sends, and by workers, which read.
#![forbid(unsafe_code)]

//! The Remote Execution API: foreign servers and clients, which `scripts/cache-judges.sh` fetched, and
//! a client of our own.

mod bazel;
mod casd;
mod client;
mod local_cas;

use std::path::PathBuf;

pub use bazel::{Bazel, BazelRun};
pub use casd::Casd;
pub use client::Client;

use crate::binary;
use crate::environment;
use crate::skip::skip;

/// A judge's path, for any user. Without it the test is noted as skipped.
fn judge(name: &str, test: &str) -> Option<PathBuf> {
    let fetched = environment::judges().join(name);
    if !fetched.is_file() {
        skip(
            test,
            &format!("there is no {name}: no source gave it (`make test-judges`)"),
        );
        return None;
    }
    Some(binary::installed(&fetched, name))
}

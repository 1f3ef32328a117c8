//! Tests that cannot run on this machine.
//!
//! The test harness knows no "skipped" that is decided at run time, so a skip is written to a
//! file, and `make test` prints that file at the end: nothing is left out silently.

use std::fs::OpenOptions;
use std::io::Write as _;

use crate::environment;

/// Notes that the calling test is skipped and why. The test is to return after this.
pub fn skip(test: &str, reason: &str) {
    let path = environment::skips();
    let line = format!("SKIPPED {test}: {reason}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!(
            "{}: {error}, and so nobody would see: {line}",
            path.display()
        );
    }
}

//! What a cache mount holds, as a tar: on its way to other machines, and back.
//!
//! Times keep their fractions: programs that look whether something is newer do so to the
//! nanosecond.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::request::WorkError;
use super::pack::open_fifo;
use super::unpack::open_input;
use super::{failed, home, of_error};
use crate::layer::tar_write::{TarOptions, write_tar};
use crate::layer::{
    DiffOptions, NameRules, OwnerPolicy, TreeContents, UnpackOptions, index_tree, unpack,
};

/// A directory to fill.
#[derive(Debug, Serialize, Deserialize)]
pub struct FillJob {
    /// The store.
    pub home: PathBuf,
    /// The directory, which is made.
    pub files: PathBuf,
    /// The fifo to read from, to which somebody writes.
    pub input: PathBuf,
    /// Whether only one user id exists.
    pub single_owner: bool,
}

/// Writes a directory, whose files nobody changes meanwhile, as a tar. Sockets are left out.
pub(in super::super) fn write_cache(files: &Path, output: &Path) -> Result<(), WorkError> {
    let options = DiffOptions::for_this_process();
    let (index, _) = index_tree(files, &[], &options).map_err(|error| of_error(&error))?;
    let contents = TreeContents::open(files)
        .map_err(|e| failed(format_args!("cannot open {}", files.display()), &e))?;
    let mut out = open_fifo(output)?;
    let options = TarOptions {
        subsecond: true,
        verify: true,
    };
    write_tar(&index, &contents, options, &mut out).map_err(|error| of_error(&error))?;
    out.flush()
        .map_err(|e| failed("cannot write the tar of a cache", &e))
}

/// Makes a directory of what a tar has.
pub(in super::super) fn fill_cache(job: &FillJob) -> Result<(), WorkError> {
    let home = home(&job.home)?;
    let cannot = |action: &str, path: &Path, error: std::io::Error| {
        failed(format_args!("cannot {action} {}", path.display()), &error)
    };
    let input = open_input(&job.input).map_err(|e| cannot("open", &job.input, e))?;
    fs::create_dir(&job.files).map_err(|e| cannot("create", &job.files, e))?;
    let options = UnpackOptions {
        owners: if job.single_owner {
            OwnerPolicy::Refuse
        } else {
            OwnerPolicy::Apply
        },
        names: NameRules::Archive,
        meter: home.meter(),
    };
    unpack(input, &job.files, options).map_err(|error| of_error(&error))?;
    Ok(())
}

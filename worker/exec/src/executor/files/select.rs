//! The files of a filesystem that sources of copies stand for.

use std::path::Path;

use ashlar_model::select::SourceQuery;
use ashlar_model::step::Selection;

use super::super::request::WorkError;
use super::{StoredLayer, home, view};
use crate::copy::{Digests, SelectFilesError};

/// One selection for each source, every file with its digest.
pub(in super::super) fn select(
    root: &Path,
    layers: &[StoredLayer],
    sources: &[SourceQuery],
) -> Result<Vec<Selection>, WorkError> {
    let view = view(&home(root)?, layers)?;
    let one = |source: &SourceQuery| {
        crate::copy::select(&view, source.clone(), Digests::Compute)
            .map(|selected| selected.selection)
            .map_err(|error| of_select(&error))
    };
    sources.iter().map(one).collect()
}

pub(super) fn of_select(error: &SelectFilesError) -> WorkError {
    match error {
        SelectFilesError::View(error) => super::of_view(error),
        error => WorkError::input(super::chain(error), None),
    }
}

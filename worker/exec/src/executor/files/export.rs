//! A whole filesystem as one tar.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use ashlar_model::layer::Timestamp;
use ashlar_model::step::CopySpec;

use super::super::request::WorkError;
use super::{StoredLayer, failed, home, of_error, view};
use crate::copy::{Digests, RecipeContents, SourceFiles, plan_copy};
use crate::layer::tar_write::{TarOptions, write_tar};

/// Writes the merged filesystem of a stack of layers, as if all of it were copied onto nothing.
/// Returns warnings.
pub(in super::super) fn export(
    root: &Path,
    layers: &[StoredLayer],
    output: &Path,
) -> Result<Vec<String>, WorkError> {
    let home = home(root)?;
    let view = view(&home, layers)?;
    let nothing = super::view(&home, &[])?;
    let selection = crate::copy::select(&view, "/", Digests::Skip)
        .map_err(|error| super::select::of_select(&error))?;
    let everything = CopySpec {
        sources: Vec::new(),
        destination: "/".to_owned(),
        owner: None,
        mode: None,
        unpack: false,
        created: Some(Timestamp::default()),
    };
    let sources = [SourceFiles::Layers {
        view: &view,
        selection: &selection,
    }];
    let plan = plan_copy(&everything, &sources, &nothing, Timestamp::default())
        .map_err(|error| of_error(&error))?;
    let index = plan.recipe.index();
    let contents = RecipeContents::open(&plan.recipe)
        .map_err(|e| failed("cannot open the filesystem's layers", &e))?;
    let file = OpenOptions::new()
        .write(true)
        .open(output)
        .map_err(|e| failed(format_args!("cannot open {}", output.display()), &e))?;
    let mut out = BufWriter::with_capacity(256 * 1024, file);
    let options = TarOptions {
        verify: true,
        ..TarOptions::default()
    };
    write_tar(&index, &contents, options, &mut out).map_err(|error| of_error(&error))?;
    out.flush()
        .map_err(|e| failed("cannot write the filesystem's tar", &e))?;
    Ok(plan.warnings.iter().map(ToString::to_string).collect())
}

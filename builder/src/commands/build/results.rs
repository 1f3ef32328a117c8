//! What a build prints and writes for programs: image ID and metadata.

use std::fs;
use std::io::Write as _;

use ashlar_engine::driver::Built;
use serde_json::{Map, Value, json};

use super::outputs::Delivered;
use crate::cli::build::BuildArgs;
use crate::commands::output;
use crate::diagnostics::CliError;

/// Writes `--iidfile` and `--metadata-file`, and prints the image ID if asked to be quiet.
pub(super) fn write(
    args: &BuildArgs,
    _built: &Built,
    delivered: &Delivered,
) -> Result<(), CliError> {
    if let Some(path) = &args.iidfile {
        write_file(path, &delivered.image_id.to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        write_file(path, &format!("{:#}\n", metadata(delivered)))?;
    }
    if args.quiet && !delivered.stdout_is_taken {
        output::print(|out| writeln!(out, "{}", delivered.image_id))?;
    }
    Ok(())
}

/// The fields that buildx writes.
fn metadata(delivered: &Delivered) -> Value {
    let mut fields = Map::new();
    fields.insert(
        "containerimage.config.digest".to_owned(),
        json!(delivered.image_id.to_string()),
    );
    // An image that was not exported has no manifest: its ID is the only digest, as with Docker's
    // classic store.
    let digest = delivered
        .manifest
        .as_ref()
        .map_or(delivered.image_id, |manifest| manifest.digest);
    fields.insert(
        "containerimage.digest".to_owned(),
        json!(digest.to_string()),
    );
    if let Some(manifest) = &delivered.manifest {
        fields.insert("containerimage.descriptor".to_owned(), json!(manifest));
    }
    if !delivered.names.is_empty() {
        let names: Vec<String> = delivered.names.iter().map(ToString::to_string).collect();
        fields.insert("image.name".to_owned(), json!(names.join(",")));
    }
    Value::Object(fields)
}

fn write_file(path: &std::path::Path, text: &str) -> Result<(), CliError> {
    fs::write(path, text).map_err(|error| {
        CliError::environment(format!("cannot write {}", path.display())).caused_by(error)
    })
}

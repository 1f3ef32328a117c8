//! `ashlar images`.
//!
//! With `--format json`, one object on each line: `Id`, `Repository`, `Tag`, `Digest` (of the
//! manifest, if the image came with one), `Created` (RFC 3339), `Size` (bytes, unpacked),
//! `Platform`.

use std::collections::BTreeMap;
use std::io::Write as _;

use ashlar_model::config::DateTime;
use ashlar_model::digest::{BlobDigest, LayerId};
use ashlar_model::reference::Reference;
use ashlar_model::size::HumanSize;
use ashlar_store::home::images::ImageRecord;
use ashlar_store::home::{Home, StoreError};
use serde::Serialize;

use super::lookup::{config_of, layer_size, repository_and_tag, short_id};
use super::output::{json_lines, print};
use crate::cli::Format;
use crate::cli::images::ImagesArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::age::age;
use crate::human::table::Table;
use crate::settings::Settings;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    id: BlobDigest,
    repository: String,
    tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<BlobDigest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<DateTime>,
    size: u64,
    platform: String,
}

/// Runs the command.
pub(super) fn run(args: &ImagesArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let mut images = home.images()?;
    if let Some(wanted) = &args.repository {
        let filter = Filter::of(wanted)?;
        images.retain(|image| filter.admits(&image.reference));
    }
    if args.quiet {
        return print_ids(&images, args.no_trunc);
    }
    let mut sizes = BTreeMap::new();
    let mut rows = Vec::with_capacity(images.len());
    for image in &images {
        rows.push(row(&home, image, &mut sizes)?);
    }
    if args.format == Format::Json {
        return print(|out| json_lines(out, &rows));
    }
    let mut table = Table::new(["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"]);
    if !args.digests {
        table.heading("DIGEST", "");
    }
    let now = settings.clock().now();
    for row in rows {
        let digest = match row.digest {
            _ if !args.digests => String::new(),
            Some(digest) => digest.to_string(),
            None => "<none>".to_owned(),
        };
        table.row([
            row.repository,
            row.tag,
            digest,
            shown_id(&row.id, args.no_trunc),
            row.created
                .map_or_else(|| "N/A".to_owned(), |then| age(then.timestamp(), now)),
            HumanSize(row.size).to_string(),
        ]);
    }
    print(|out| table.print(out))
}

fn shown_id(id: &BlobDigest, whole: bool) -> String {
    if whole { id.to_string() } else { short_id(id) }
}

/// Each ID once, in order of the names.
fn print_ids(images: &[ImageRecord], whole: bool) -> Result<ExitCode, CliError> {
    let mut shown = Vec::new();
    print(|out| {
        for image in images {
            if !shown.contains(&image.config.digest) {
                shown.push(image.config.digest);
                writeln!(out, "{}", shown_id(&image.config.digest, whole))?;
            }
        }
        Ok(())
    })
}

fn row(
    home: &Home,
    image: &ImageRecord,
    sizes: &mut BTreeMap<LayerId, u64>,
) -> Result<Row, CliError> {
    let (repository, tag) = repository_and_tag(&image.reference);
    Ok(Row {
        id: image.config.digest,
        repository,
        tag,
        digest: image.manifest.as_ref().map(|manifest| manifest.digest),
        // An image whose configuration is damaged is listed all the same.
        created: config_of(home, image)
            .ok()
            .and_then(|config| config.created),
        size: image_size(home, image, sizes)?,
        platform: image.platform.to_string(),
    })
}

/// Images share layers: each is looked at once.
fn image_size(
    home: &Home,
    image: &ImageRecord,
    sizes: &mut BTreeMap<LayerId, u64>,
) -> Result<u64, StoreError> {
    let mut sum = 0;
    for layer in &image.layers {
        sum += match sizes.get(layer) {
            Some(size) => *size,
            None => *sizes.entry(*layer).or_insert(layer_size(home, layer)?),
        };
    }
    Ok(sum)
}

/// `REPOSITORY[:TAG]`.
struct Filter {
    reference: Reference,
    /// Whether the text had a tag; the reference has one in any case.
    with_tag: bool,
}

impl Filter {
    fn of(text: &str) -> Result<Self, CliError> {
        let reference = text.parse().map_err(|error| {
            CliError::usage(format!("`{text}` is no repository")).caused_by(error)
        })?;
        let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
        Ok(Self {
            reference,
            with_tag: text[name_start..].contains(':'),
        })
    }

    fn admits(&self, reference: &Reference) -> bool {
        reference.name() == self.reference.name()
            && (!self.with_tag || reference.tag() == self.reference.tag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_repository_or_one_tag_of_it() {
        let admits =
            |filter: &str, name: &str| Filter::of(filter).unwrap().admits(&name.parse().unwrap());
        assert!(admits("a", "a:1") && admits("a:1", "a:1"));
        assert!(!admits("a:2", "a:1") && !admits("b", "a"));
        assert!(admits("localhost:5000/a", "localhost:5000/a:7"));
        Filter::of("A B").err().unwrap();
    }
}

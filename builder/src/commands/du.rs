//! `ashlar du`.
//!
//! With `--format json`, one object on each line. For each kind of thing: `Type`, `Count`, `Size`,
//! `InUse`, `Cached`, `Unused` (bytes on disk). In a store with a quota, its `Quota` and `Size`. With `--verbose` also for each image: `Image`,
//! `Size`, `Shared`, `Unique`.

use std::io::Write as _;

use ashlar_model::size::HumanSize;
use ashlar_store::home::gc::{ImageUsage, Inventory, Kind, Share, Usage};
use serde::Serialize;

use super::lookup::repository_and_tag;
use super::output::{json_lines, print};
use crate::cli::Format;
use crate::cli::du::DuArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::table::Table;
use crate::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KindRow {
    r#type: &'static str,
    count: usize,
    size: u64,
    in_use: u64,
    cached: u64,
    unused: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct QuotaRow {
    quota: u64,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageRow {
    image: String,
    size: u64,
    shared: u64,
    unique: u64,
}

const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Trees => "Layer trees",
        Kind::LayerBlobs => "Layer blobs",
        Kind::LayerFiles => "Layer records",
        Kind::Metadata => "Image metadata",
        Kind::Results => "Cached results",
        Kind::Caches => "Cache mounts",
        Kind::Sources => "Fetched sources",
        Kind::Hints => "Hints",
        Kind::Downloads => "Downloads",
        Kind::Scratch => "Scratch",
        Kind::Other => "Other",
    }
}

/// Runs the command.
pub(super) fn run(args: &DuArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let inventory = Inventory::take(&home)?;
    let usage = Usage::of(&home, &inventory)?;
    let quota = home.quota()?;
    match args.format {
        Format::Json => print_json(&usage, quota, args.verbose),
        Format::Table => print_tables(&usage, quota, args.verbose),
    }
}

fn print_json(usage: &Usage, quota: Option<u64>, verbose: bool) -> Result<ExitCode, CliError> {
    let kinds: Vec<KindRow> = usage
        .kinds
        .iter()
        .map(|(kind, share)| KindRow {
            r#type: name_of(*kind),
            count: share.count,
            size: share.total(),
            in_use: share.in_use,
            cached: share.cached,
            unused: share.unused,
        })
        .collect();
    let images = usage.images.iter().filter(|_| verbose);
    let images: Vec<ImageRow> = images
        .map(|image| ImageRow {
            image: image.reference.familiar(),
            size: image.shared + image.unique,
            shared: image.shared,
            unique: image.unique,
        })
        .collect();
    let quotas: Vec<QuotaRow> = quota
        .iter()
        .map(|quota| QuotaRow {
            quota: *quota,
            size: usage.total().total(),
        })
        .collect();
    print(|out| {
        json_lines(out, &kinds)?;
        json_lines(out, &quotas)?;
        json_lines(out, &images)
    })
}

fn print_tables(usage: &Usage, quota: Option<u64>, verbose: bool) -> Result<ExitCode, CliError> {
    let mut kinds = Table::new(["TYPE", "COUNT", "SIZE", "IN USE", "CACHED", "UNUSED"]);
    let mut row = |name: &str, count: String, share: &Share| {
        let size = |bytes| HumanSize(bytes).to_string();
        kinds.row([
            name.to_owned(),
            count,
            size(share.total()),
            size(share.in_use),
            size(share.cached),
            size(share.unused),
        ]);
    };
    for (kind, share) in &usage.kinds {
        row(name_of(*kind), share.count.to_string(), share);
    }
    row("Total", String::new(), &usage.total());

    let mut images = Table::new(["REPOSITORY", "TAG", "SIZE", "SHARED SIZE", "UNIQUE SIZE"]);
    for ImageUsage {
        reference,
        shared,
        unique,
    } in &usage.images
    {
        let (repository, tag) = repository_and_tag(reference);
        images.row([
            repository,
            tag,
            HumanSize(shared + unique).to_string(),
            HumanSize(*shared).to_string(),
            HumanSize(*unique).to_string(),
        ]);
    }
    print(|out| {
        kinds.print(out)?;
        if let Some(quota) = quota {
            let used = usage.total().total();
            let percent = u128::from(used) * 100 / u128::from(quota.max(1));
            let (used, quota) = (HumanSize(used), HumanSize(quota));
            writeln!(out, "\nQuota: {used} of {quota} used ({percent}%)")?;
        }
        if verbose {
            writeln!(out)?;
            images.print(out)?;
        }
        Ok(())
    })
}

//! `ashlar fsck`.
//!
//! With `--format json`, one object: `Files` and `Bytes` (read outside of trees), `Trees` (read),
//! `SkippedTrees` (made for other id maps), and `Damaged`, a list of objects with `Kind`, `Path`
//! and `Removed`.

use std::io::Write as _;
use std::sync::Arc;

use ashlar_exec::executor::ExaminedTrees;
use ashlar_model::size::HumanSize;
use ashlar_store::home::fsck::{Damaged, Examined, Kind};
use serde::Serialize;

use super::output::{print, warn};
use crate::cli::Format;
use crate::cli::fsck::FsckArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::failure::step_to_cli_error;
use crate::settings::Settings;
use crate::workshop::{self, run_interruptible};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    files: usize,
    bytes: u64,
    trees: usize,
    skipped_trees: usize,
    damaged: Vec<DamagedRow>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DamagedRow {
    kind: &'static str,
    path: String,
    removed: bool,
}

const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Blob => "blob",
        Kind::Record => "layer record",
        Kind::Index => "layer index",
        Kind::Tar => "layer tar",
        Kind::Tree => "layer tree",
        Kind::Result => "cached result",
        Kind::Image => "image",
    }
}

/// Runs the command.
pub(super) fn run(args: &FsckArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let remove = !args.dry_run;
    // What is damaged is listed in the end.
    let workshop = workshop::open(home.clone(), settings, Arc::new(|_: &str| {}))?;
    let (trees, (examined, damaged)) = run_interruptible(async {
        // First: images and results that need a tree are looked at later.
        let trees = workshop.executor().examine_trees(remove).await;
        let trees = trees.map_err(step_to_cli_error)?;
        let read = tokio::task::spawn_blocking(move || home.examine(remove)).await;
        let read = read.map_err(|error| CliError::bug(error.to_string()))??;
        Ok((trees, read))
    })?;
    let outcome = outcome(trees, examined, damaged, remove);
    match args.format {
        Format::Table => print_table(&outcome)?,
        Format::Json => print(|out| {
            serde_json::to_writer(&mut *out, &outcome)?;
            writeln!(out)
        })?,
    };
    Ok(if outcome.damaged.is_empty() {
        ExitCode::Success
    } else {
        ExitCode::Failed
    })
}

fn outcome(
    trees: ExaminedTrees,
    examined: Examined,
    mut damaged: Vec<Damaged>,
    removed: bool,
) -> Outcome {
    damaged.extend(trees.damaged.into_iter().map(|(id, path)| Damaged {
        kind: Kind::Tree,
        path,
        layer: Some(id),
    }));
    damaged.sort();
    Outcome {
        files: examined.files,
        bytes: examined.bytes,
        trees: trees.read,
        skipped_trees: trees.skipped,
        damaged: damaged
            .into_iter()
            .map(|damaged| DamagedRow {
                kind: name_of(damaged.kind),
                path: damaged.path.display().to_string(),
                removed,
            })
            .collect(),
    }
}

fn print_table(outcome: &Outcome) -> Result<ExitCode, CliError> {
    if outcome.skipped_trees > 0 {
        warn(&format!(
            "{} layer trees were made with another id map, and could not be read with this one",
            outcome.skipped_trees
        ));
    }
    print(|out| {
        for DamagedRow {
            kind,
            path,
            removed,
        } in &outcome.damaged
        {
            let done = if *removed { ", removed" } else { "" };
            writeln!(out, "Damaged {kind}{done}: {path}")?;
        }
        writeln!(
            out,
            "Read {} files ({}) and {} layer trees: {}",
            outcome.files,
            HumanSize(outcome.bytes),
            outcome.trees,
            match outcome.damaged.len() {
                0 => "all are whole".to_owned(),
                count => format!("{count} damaged"),
            }
        )
    })
}

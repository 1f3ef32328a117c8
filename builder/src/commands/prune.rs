//! `ashlar prune`.
//!
//! With `--format json`, one object: `Results`, `Layers`, `Blobs`, `Leftovers` (how many were
//! removed), `Freed` (bytes on disk), `OnlyLeftovers` (whether builds were running).

use std::io::{self, BufRead as _, Write as _};
use std::time::Duration;

use ashlar_model::size::HumanSize;
use ashlar_store::home::gc::{CollectError, Policy, RemoveError, Report, collect};
use ashlar_workshop::remover::SandboxRemover;
use rustix::termios::isatty;
use serde::Serialize;

use super::output::print;
use crate::cli::Format;
use crate::cli::prune::PruneArgs;
use crate::diagnostics::{CliError, ErrorKind};
use crate::exit_code::ExitCode;
use crate::settings::Settings;

/// How long running builds are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Removed {
    results: usize,
    layers: usize,
    blobs: usize,
    sources: usize,
    caches: usize,
    leftovers: usize,
    freed: u64,
    only_leftovers: bool,
}

/// Runs the command.
pub(super) fn run(args: &PruneArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let policy = policy(args);
    if !args.force && isatty(io::stdin()) && !confirm(policy)? {
        return Ok(ExitCode::Success);
    }
    let home = settings.open_home()?;
    let remover = SandboxRemover::new(home.clone());
    let report = collect(&home, policy, PATIENCE, &remover).map_err(explain)?;
    match args.format {
        Format::Table => print_report(&report),
        Format::Json => print_json(&report),
    }
}

fn policy(args: &PruneArgs) -> Policy {
    if args.filter.is_some() {
        return Policy::OnlyCaches;
    }
    match args.keep_storage {
        Some(size) => Policy::KeepUpTo(size.0),
        None if args.all => Policy::KeepUpTo(0),
        None => Policy::KeepResults,
    }
}

/// Asks on standard error, for standard output is data.
fn confirm(policy: Policy) -> Result<bool, CliError> {
    let what = match policy {
        Policy::OnlyCaches => "the directories of all cache mounts".to_owned(),
        Policy::KeepResults => "everything that no image and no cached result needs".to_owned(),
        Policy::KeepUpTo(0) => "everything that no image needs, cached results as well".to_owned(),
        Policy::KeepUpTo(bytes) => format!(
            "the longest unused results until {} are left, and what nobody needs",
            HumanSize(bytes)
        ),
    };
    let question = format!("This removes {what}.\nGo on? [y/N] ");
    let ask = || -> io::Result<String> {
        io::stderr().write_all(question.as_bytes())?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = ask()
        .map_err(|error| CliError::environment("cannot ask whether to go on").caused_by(error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn explain(error: CollectError) -> CliError {
    match error {
        CollectError::Store(error) => error.into(),
        CollectError::Remove(error) => {
            let in_trash = matches!(error, RemoveError::Trees { .. });
            let shown = CliError::of(ErrorKind::Environment, error);
            if in_trash {
                shown.hint(
                    "the rest was removed; what is left is tried again by the next `ashlar prune`",
                )
            } else {
                shown
            }
        }
        error => CliError::of(ErrorKind::Environment, error),
    }
}

fn print_report(report: &Report) -> Result<ExitCode, CliError> {
    print(|out| {
        if report.only_leftovers {
            writeln!(
                out,
                "Builds are running: only what dead processes have left was removed."
            )?;
        }
        let counts = [
            (report.results, "cached result", "cached results"),
            (report.layers, "layer", "layers"),
            (report.blobs, "blob", "blobs"),
            (report.sources, "source", "sources"),
            (report.caches, "cache mount", "cache mounts"),
            (report.leftovers, "leftover", "leftovers"),
        ];
        for (count, one, many) in counts.into_iter().filter(|(count, ..)| *count > 0) {
            writeln!(
                out,
                "Removed {count} {}",
                if count == 1 { one } else { many }
            )?;
        }
        writeln!(out, "Total reclaimed space: {}", HumanSize(report.freed))
    })
}

fn print_json(report: &Report) -> Result<ExitCode, CliError> {
    let removed = Removed {
        results: report.results,
        layers: report.layers,
        blobs: report.blobs,
        sources: report.sources,
        caches: report.caches,
        leftovers: report.leftovers,
        freed: report.freed,
        only_leftovers: report.only_leftovers,
    };
    print(|out| {
        serde_json::to_writer(&mut *out, &removed)?;
        writeln!(out)
    })
}

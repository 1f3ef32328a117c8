//! `ashlar cache stats`.
//!
//! With `--format json`, one object for each cache: `Cache`, `DigestFunction` and, of servers that
//! tell it, `Results`, `Blobs`, `Size` (bytes of all blobs), `Limit` (bytes), `Pinned` (bytes),
//! `Evicted` (blobs), `Hits` and `Misses`.

use ashlar_model::size::HumanSize;
use ashlar_sharing::cache::Cache;
use ashlar_sharing::service::Usage;
use ashlar_store::fault::{Fault, FaultKind};
use serde::Serialize;

use super::remote::{caches, failure, in_time};
use crate::cli::Format;
use crate::cli::cache::stats::StatsArgs;
use crate::commands::output::{json_lines, print};
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::table::Table;
use crate::settings::Settings;
use crate::workshop::run_interruptible;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    cache: String,
    digest_function: &'static str,
    #[serde(flatten)]
    usage: Option<UsageRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UsageRow {
    results: u64,
    blobs: u64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// Not told by a server that does not know it, which says 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<u64>,
    evicted: u64,
    hits: u64,
    misses: u64,
}

/// Runs the command.
pub(super) fn run(args: &StatsArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let caches = caches(&args.caches, settings)?;
    let rows = run_interruptible(async {
        let mut rows = Vec::with_capacity(caches.len());
        for cache in &caches {
            let row = in_time(row(cache)).await;
            rows.push(row.map_err(|fault| failure(cache, fault))?);
        }
        Ok(rows)
    })?;
    if args.format == Format::Json {
        return print(|out| json_lines(out, &rows));
    }
    let mut table = Table::new([
        "CACHE", "DIGEST", "RESULTS", "BLOBS", "SIZE", "LIMIT", "EVICTED", "HITS", "MISSES",
    ]);
    for row in rows {
        let number = |pick: fn(&UsageRow) -> u64| {
            let usage = row.usage.as_ref();
            usage.map_or_else(String::new, |usage| pick(usage).to_string())
        };
        let size = |pick: fn(&UsageRow) -> Option<u64>| {
            let size = row.usage.as_ref().and_then(pick);
            size.map_or_else(String::new, |size| HumanSize(size).to_string())
        };
        table.row([
            row.cache.clone(),
            row.digest_function.to_owned(),
            number(|usage| usage.results),
            number(|usage| usage.blobs),
            size(|usage| Some(usage.size)),
            size(|usage| usage.limit),
            number(|usage| usage.evicted),
            number(|usage| usage.hits),
            number(|usage| usage.misses),
        ]);
    }
    print(|out| table.print(out))
}

async fn row(cache: &Cache) -> Result<Row, Fault> {
    let service = cache.service().await?;
    let usage = match &service.extension {
        Some(extension) => match extension.usage().await {
            Ok(usage) => Some(usage),
            Err(fault) if fault.kind == FaultKind::Unsupported => None,
            Err(fault) => return Err(fault),
        },
        None => None,
    };
    Ok(Row {
        cache: cache.name().to_owned(),
        digest_function: service.function.name(),
        usage: usage.map(usage_row),
    })
}

fn usage_row(usage: Usage) -> UsageRow {
    UsageRow {
        results: usage.results,
        blobs: usage.blobs,
        size: usage.blob_bytes,
        limit: Some(usage.limit_bytes).filter(|limit| *limit > 0),
        pinned: Some(usage.pinned_bytes).filter(|pinned| *pinned > 0),
        evicted: usage.evicted_blobs,
        hits: usage.hits,
        misses: usage.misses,
    }
}

//! `ashlar cache ls`.
//!
//! With `--format json`, one object for each result: `Cache`, `Action` (its digest), `Kind`
//! (`definition`, `content`, `instruction`) and `Key` if Ashlar stored it, `Layers`, `Size` (bytes
//! of the tars of the layers that are in the cache), `LastUsed` (RFC 3339).

use ashlar_model::config::DateTime;
use ashlar_model::layer::Timestamp;
use ashlar_model::size::HumanSize;
use ashlar_sharing::listing::{ListedResult, list};
use serde::Serialize;

use super::remote::{caches, failure, in_time};
use crate::cli::Format;
use crate::cli::cache::ls::LsArgs;
use crate::commands::output::{json_lines, print};
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::age::age;
use crate::human::table::Table;
use crate::settings::Settings;
use crate::workshop::run_interruptible;

/// Digits of a key that a table shows.
const SHOWN: usize = 12;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    cache: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<DateTime>,
    #[serde(skip)]
    used: Option<Timestamp>,
}

/// Runs the command.
pub(super) fn run(args: &LsArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let caches = caches(&args.caches, settings)?;
    let rows = run_interruptible(async {
        let mut rows = Vec::new();
        for cache in &caches {
            let listed = in_time(async { list(&cache.service().await?, args.limit).await }).await;
            let listed = listed.map_err(|fault| failure(cache, fault))?;
            rows.extend(listed.into_iter().map(|result| row(cache.name(), result)));
        }
        Ok(rows)
    })?;
    if args.format == Format::Json {
        return print(|out| json_lines(out, &rows));
    }
    let now = settings.clock().now();
    let mut table = Table::new(["KIND", "KEY", "LAYERS", "SIZE", "LAST USED", "CACHE"]);
    for row in rows {
        let key = row.key.unwrap_or(row.action);
        let several = caches.len() > 1;
        table.row([
            row.kind.unwrap_or_else(|| "other".to_owned()),
            key.chars().take(SHOWN).collect(),
            row.layers.map_or_else(String::new, |n| n.to_string()),
            row.size
                .map_or_else(String::new, |size| HumanSize(size).to_string()),
            row.used.map_or_else(String::new, |used| age(used, now)),
            if several { row.cache } else { String::new() },
        ]);
    }
    print(|out| table.print(out))
}

fn row(cache: &str, result: ListedResult) -> Row {
    let used = result.last_used.map(|seconds| Timestamp {
        seconds,
        nanoseconds: 0,
    });
    let (kind, key) = result.key.unzip();
    Row {
        cache: cache.to_owned(),
        action: result.action.hash_hex(),
        kind: kind.map(|text| shown(&text)),
        key: key.map(|text| shown(&text)),
        layers: result.layers,
        size: result.bytes,
        last_used: used.map(DateTime::from),
        used,
    }
}

/// Text of a server as a terminal may show it.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(100)
        .collect()
}

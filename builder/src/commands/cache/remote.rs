//! Shared caches that a command asks for their own sake: what they do not answer is its failure.

use std::sync::Arc;
use std::time::Duration;

use ashlar_sharing::cache::Cache;
use ashlar_store::fault::{Fault, FaultKind};

use crate::cli::value::CacheArg;
use crate::diagnostics::CliError;
use crate::settings::Settings;
use crate::shared;

/// How long an answer may take.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// The caches of the flags, else of the settings; an error if there are none.
pub(super) fn caches(flags: &[CacheArg], settings: &Settings) -> Result<Vec<Arc<Cache>>, CliError> {
    let specs = settings.caches(flags)?;
    if specs.is_empty() {
        return Err(CliError::usage("there is no shared cache to ask")
            .hint("give --cache URL, or set ASHLAR_CACHE, or name one in the configuration file"));
    }
    // What goes wrong is told by what failed.
    let silent: crate::workshop::WarningSink = Arc::new(|_: &str| {});
    let caches = specs
        .iter()
        .map(|spec| shared::open_one(spec, settings, &silent));
    caches.collect()
}

/// What a cache did not do.
pub(super) fn failure(cache: &Cache, fault: Fault) -> CliError {
    let error = CliError::environment(format!("the cache {} gives no answer", cache.name()));
    let error = match fault.kind {
        FaultKind::Denied => error.hint("give a token: ,token-file=FILE in --cache"),
        FaultKind::Unsupported => {
            error.hint("this server has nothing of Ashlar's; it serves builds all the same")
        }
        _ => error,
    };
    error.caused_by(fault)
}

/// An answer, if it comes in time.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(ANSWER, answer)
        .await
        .unwrap_or_else(|_| Err(ashlar_sharing::cache::silent(ANSWER)))
}

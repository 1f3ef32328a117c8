//! What commands that build, run, pull and push work with, as the settings say; and the runtime in
//! which they work.

use ashlar_store::home::Home;
use ashlar_workshop::workshop::Basics;
use tokio::signal::unix::{SignalKind, signal};

pub use ashlar_workshop::workshop::{WarningSink, Workshop, blob_form};

use crate::diagnostics::CliError;
use crate::settings::Settings;
use crate::shared::{self, CacheFlags};

/// Sets the tools out, with the shared caches that the environment or the configuration file
/// names. Nothing is removed from the store while they are there.
pub fn open(home: Home, settings: &Settings, warnings: WarningSink) -> Result<Workshop, CliError> {
    open_with(home, settings, warnings, CacheFlags::default())
}

/// The same with the caches of some flags, if there are any.
pub fn open_with(
    home: Home,
    settings: &Settings,
    warnings: WarningSink,
    caches: CacheFlags<'_>,
) -> Result<Workshop, CliError> {
    let variables = settings.environment().variables();
    let registries =
        ashlar_workshop::workshop::registry_settings(&variables, settings.tls_verify());
    let (store, sink) = (home.clone(), warnings.clone());
    let basics = Basics {
        registries,
        blobs: None,
        warnings,
    };
    Workshop::new(home, basics, |clients| {
        shared::open(caches, &store, settings, clients, &sink)
    })
}

/// Runs a command's work, and calls it off when the user interrupts it.
pub fn run_interruptible<T>(
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    run_interruptible_then(work, async {})
}

/// The same, with something short to do in the end in any case.
pub fn run_interruptible_then<T>(
    work: impl Future<Output = Result<T, CliError>>,
    last: impl Future<Output = ()>,
) -> Result<T, CliError> {
    let interruptible = async {
        let listen = |kind| {
            signal(kind).map_err(|error| CliError::environment("cannot start").caused_by(error))
        };
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hangup = listen(SignalKind::hangup())?;
        tokio::select! {
            outcome = work => outcome,
            _ = interrupt.recv() => Err(CliError::interrupted()),
            _ = terminate.recv() => Err(CliError::interrupted()),
            _ = hangup.recv() => Err(CliError::interrupted()),
        }
    };
    run_to_end(async {
        let outcome = interruptible.await;
        last.await;
        outcome
    })
}

/// How long work that was called off may take to end.
const LAST_WORK: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs a command's work, which sees to signals itself.
pub fn run_to_end<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::environment("cannot start").caused_by(error))?;
    let outcome = runtime.block_on(work);
    // What was called off gives its locks back. Work that blocks for longer is abandoned; what it
    // leaves is swept later.
    runtime.shutdown_timeout(LAST_WORK);
    outcome
}

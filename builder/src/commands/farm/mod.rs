//! Farms, as commands use them: `ashlar build --remote` and all that looks at builds there.
//!
//! | module | subject |
//! |---|---|
//! | `builds`, `cancel`, `logs`, `submit`, `wait` | the commands of these names |

pub(super) mod builds;
pub(super) mod cancel;
pub(super) mod logs;
pub(super) mod submit;
pub(super) mod wait;

use std::sync::Arc;
use std::time::Duration;

use ashlar_model::error_chain::error_chain;
use ashlar_remote::address::{FarmSpec, KeySource};
use ashlar_remote::client::image::ImageFailure;
use ashlar_remote::client::{FarmClient, FarmError};
use ashlar_remote::patience::Backoff;
use ashlar_remote::seal::Recipient;
use ashlar_store::grpc::GrpcSettings;
use ashlar_workshop::servers::{Servers, identity};

use crate::cli::value::{FarmArg, FarmArgs};
use crate::commands::output::warn;
use crate::diagnostics::{CliError, ErrorKind};
use crate::settings::Settings;
use crate::workshop::WarningSink;

/// The farm that a command is about.
fn spec(args: &FarmArgs, settings: &Settings) -> Result<FarmSpec, CliError> {
    needed(args.remote.as_ref(), settings)
}

/// The farm of a command that does nothing without one.
pub(super) fn needed(flag: Option<&FarmArg>, settings: &Settings) -> Result<FarmSpec, CliError> {
    settings.remote(flag)?.ok_or_else(|| {
        CliError::usage("no farm is named")
            .hint("give --remote grpc://HOST:PORT, or set ASHLAR_REMOTE")
    })
}

/// Connects to a farm. One that cannot be reached is tried again for so long.
pub(super) async fn connect(
    spec: &FarmSpec,
    settings: &Settings,
    warnings: WarningSink,
    patience: Duration,
) -> Result<FarmClient, CliError> {
    let environment = settings.environment();
    let servers = Servers::new(
        environment.variables(),
        environment.cache_token_file(),
        Arc::clone(&warnings),
    );
    let server = &spec.server;
    let mut grpc = GrpcSettings::new(server.address.to_string());
    grpc.instance.clone_from(&server.instance);
    grpc.token = servers.token(server)?;
    grpc.identity = identity(server)?;
    if grpc.address.starts_with("grpcs:") {
        grpc.certificates = servers.trust(server)?();
    }
    let connect = || FarmClient::connect(grpc.clone());
    reach(connect, patience, &warnings).await
}

/// Asks a farm; again, for so long, while it cannot be reached.
pub(super) async fn reach<T, F>(
    ask: impl Fn() -> F,
    patience: Duration,
    warnings: &WarningSink,
) -> Result<T, CliError>
where
    F: Future<Output = Result<T, FarmError>>,
{
    let mut backoff = Backoff::lasting(patience);
    let mut told = false;
    loop {
        let error = match ask().await {
            Err(error) if matches!(error, FarmError::Unreachable { .. }) => error,
            answered => return answered.map_err(to_cli_error),
        };
        if !patience.is_zero() && !std::mem::replace(&mut told, true) {
            warnings(&format!("{}: trying again", error_chain(&error)));
        }
        if !backoff.wait(None).await {
            return Err(to_cli_error(error));
        }
    }
}

/// The same for commands that show no progress.
async fn connect_plainly(spec: &FarmSpec, settings: &Settings) -> Result<FarmClient, CliError> {
    let warnings: WarningSink = Arc::new(|message: &str| warn(message));
    connect(spec, settings, warnings, Duration::ZERO).await
}

/// Whom the user wants secrets to be sealed to.
pub(super) fn pinned(spec: &FarmSpec) -> Result<Vec<Recipient>, CliError> {
    let keys = spec.keys.iter().map(|source| match source {
        KeySource::Key(key) => Ok(key.clone()),
        KeySource::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                CliError::usage(format!("cannot read the farm's key in {}", path.display()))
                    .caused_by(error)
            })?;
            text.parse().map_err(|error| {
                CliError::usage(format!("{} is no farm's key", path.display())).caused_by(error)
            })
        }
    });
    keys.collect()
}

/// A farm's failure, as the user meets it.
pub(super) fn to_cli_error(error: FarmError) -> CliError {
    use std::error::Error as _;
    let asked_for_wrongly =
        error.is_cancelled() || error.is_input() || matches!(error, FarmError::Unknown(_));
    let kind = if asked_for_wrongly {
        ErrorKind::Failed
    } else {
        ErrorKind::Environment
    };
    let hint = error.hint();
    let shown = if error.source().is_some() {
        CliError::of(kind, error)
    } else {
        CliError::new(kind, error.to_string())
    };
    hint.into_iter().fold(shown, CliError::hint)
}

/// Why a worker has made or sent no image.
pub(super) fn image_failure(failure: ImageFailure) -> CliError {
    let ImageFailure {
        message,
        details,
        causes,
        hint,
        is_input,
    } = failure;
    let kind = if is_input {
        ErrorKind::Failed
    } else {
        ErrorKind::Environment
    };
    let lines: Vec<String> = details.iter().map(|line| format!(" > {line}\n")).collect();
    let last_output = format!("------\n > {message}:\n{}------", lines.concat());
    let shown = CliError::new(kind, message);
    let shown = if lines.is_empty() {
        shown
    } else {
        shown.detail(last_output)
    };
    let shown = match causes.is_empty() {
        true => shown,
        false => shown.caused_by(causes.join(": ")),
    };
    hint.into_iter().fold(shown, CliError::hint)
}

/// The operation of a build's id: either as `submit` prints it, or whole.
fn operation(client: &FarmClient, id: &str) -> String {
    const OPERATIONS: &str = "operations/";
    if id.contains(OPERATIONS) {
        return id.to_owned();
    }
    match client.instance() {
        "" => format!("{OPERATIONS}{id}"),
        instance => format!("{instance}/{OPERATIONS}{id}"),
    }
}

/// How people name an operation: its last part.
pub(super) fn id(operation: &str) -> &str {
    operation.rsplit('/').next().unwrap_or(operation)
}

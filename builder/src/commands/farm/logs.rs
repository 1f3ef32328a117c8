//! `ashlar logs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ashlar_engine::event::EventSink as _;
use ashlar_remote::client::build_event;
use tokio::time::sleep;

use super::{connect_plainly, operation, spec, to_cli_error};
use crate::cli::logs::LogsArgs;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;
use crate::ui::{Progress, ProgressMode};
use crate::workshop::run_interruptible;

/// A build that goes on says what it has said at once. When it is silent for so long, that was all.
const SILENCE: Duration = Duration::from_millis(700);

/// Runs the command.
pub(in super::super) fn run(args: &LogsArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let spec = spec(&args.farm, settings)?;
    let mode = match args.progress {
        // What was said long ago is not drawn over.
        None if !args.follow => ProgressMode::Plain,
        mode => settings.progress(mode)?,
    };
    let progress = Progress::start(mode, settings);
    let shown = run_interruptible(async {
        let client = connect_plainly(&spec, settings).await?;
        let operation = operation(&client, &args.id);
        let heard = Arc::new(AtomicU64::new(0));
        let following = client.follow(&operation, 0, |event| {
            heard.fetch_add(1, Ordering::Relaxed);
            if let Some(event) = build_event(event) {
                progress.emit(event);
            }
        });
        if args.follow {
            return following.await.map_err(to_cli_error);
        }
        tokio::select! {
            followed = following => followed.map_err(to_cli_error),
            () = silence(&heard) => Ok(()),
        }
    });
    progress.finish();
    shown?;
    Ok(ExitCode::Success)
}

async fn silence(heard: &AtomicU64) {
    let mut before = u64::MAX;
    loop {
        let now = heard.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
        sleep(SILENCE).await;
    }
}

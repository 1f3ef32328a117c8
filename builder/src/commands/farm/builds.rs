//! `ashlar builds`.
//!
//! With `--format json`, one object for each build: `Id`, `Name`, `User`, `State` (`queued`,
//! `running`, `done`, `failed`, `cancelled`), `Error` if it failed, and `Submitted`, `Started`,
//! `Ended` (RFC 3339) as far as it has come.

use std::time::SystemTime;

use ashlar_model::config::DateTime;
use ashlar_model::layer::Timestamp;
use ashlar_remote::client::builds::{FarmBuild, Stage};
use serde::Serialize;

use super::{connect_plainly, id, spec, to_cli_error};
use crate::cli::Format;
use crate::cli::builds::BuildsArgs;
use crate::commands::output::{json_lines, print};
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::age::age;
use crate::human::table::Table;
use crate::settings::Settings;
use crate::workshop::run_interruptible;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    id: String,
    name: String,
    user: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<DateTime>,
    #[serde(skip)]
    submitted_at: Option<Timestamp>,
}

/// Runs the command.
pub(in super::super) fn run(args: &BuildsArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let spec = spec(&args.farm, settings)?;
    let builds = run_interruptible(async {
        let client = connect_plainly(&spec, settings).await?;
        client.builds(args.limit).await.map_err(to_cli_error)
    })?;
    let rows: Vec<Row> = builds.into_iter().map(row).collect();
    if args.format == Format::Json {
        return print(|out| json_lines(out, &rows));
    }
    let now = settings.clock().now();
    let mut table = Table::new(["ID", "STATE", "SUBMITTED", "USER", "NAME"]);
    for row in rows {
        table.row([
            row.id,
            row.state.to_owned(),
            row.submitted_at
                .map_or_else(String::new, |then| age(then, now)),
            row.user,
            row.name,
        ]);
    }
    print(|out| table.print(out))
}

fn row(build: FarmBuild) -> Row {
    let (state, error) = match build.stage {
        Stage::Queued => ("queued", None),
        Stage::Running => ("running", None),
        Stage::Done => ("done", None),
        Stage::Cancelled => ("cancelled", None),
        Stage::Failed(why) => ("failed", Some(why)),
    };
    let date = |time: Option<SystemTime>| timestamp(time?).map(DateTime::from);
    Row {
        id: id(&build.operation).to_owned(),
        name: build.name,
        user: build.user,
        state,
        error: error.filter(|why| !why.is_empty()),
        submitted: date(build.submitted),
        started: date(build.started),
        ended: date(build.ended),
        submitted_at: build.submitted.and_then(timestamp),
    }
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanoseconds: since.subsec_nanos(),
    })
}

//! `--call=subrequests.describe`: the methods themselves.

use serde::Serialize;

use super::answer::print_json;
use crate::commands::output;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::table::Table;

/// BuildKit's `subrequests.Request`, as far as it says anything.
#[derive(Debug, Serialize)]
struct Method {
    name: &'static str,
    /// Of the answer's form.
    version: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    description: &'static str,
}

const fn method(name: &'static str, description: &'static str) -> Method {
    Method {
        name,
        version: "1.0.0",
        kind: "rpc",
        description,
    }
}

const METHODS: [Method; 4] = [
    method("frontend.lint", "Lint a Dockerfile"),
    method(
        "frontend.outline",
        "List all parameters current build target supports",
    ),
    method(
        "frontend.targets",
        "List all targets current build supports",
    ),
    method(
        "frontend.subrequests.describe",
        "List available subrequest types",
    ),
];

pub(super) fn run(json: bool) -> Result<ExitCode, CliError> {
    if json {
        print_json(&METHODS)?;
    } else {
        let mut table = Table::new(["NAME", "VERSION", "DESCRIPTION"]).narrow();
        for method in METHODS {
            let name = method.name.trim_start_matches("frontend.");
            table.row([name, method.version, method.description].map(str::to_owned));
        }
        output::print(|out| table.print(out))?;
    }
    Ok(ExitCode::Success)
}

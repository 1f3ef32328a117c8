//! `--call=outline`: what a target can be given.

use std::io::{self, Write};
use std::sync::Arc;

use ashlar_engine::dockerfile::source::Source;
use ashlar_engine::event::EventSink;
use ashlar_engine::plan;
use ashlar_engine::plan::Outline;
use ashlar_engine::plan::outline::OutlineAccess;
use serde::Serialize;

use super::View;
use super::answer::{Location, data, print_json};
use crate::commands::build::report;
use crate::commands::output;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::table::Table;

pub(super) fn run(view: &View<'_>, json: bool) -> Result<ExitCode, CliError> {
    let dockerfile = view.input.dockerfile()?;
    let events = |progress: Arc<crate::ui::Progress>| progress as Arc<dyn EventSink>;
    let outline = view.plan(events, |sources| async move {
        plan::outline(dockerfile, &view.options, &sources).await
    })?;
    let outline = outline.map_err(report::plan_error)?;
    if json {
        print_json(&Answer::new(&outline, &dockerfile.source))?;
    } else {
        output::print(|out| write_text(out, &outline))?;
    }
    Ok(ExitCode::Success)
}

fn write_text(out: &mut impl Write, outline: &Outline) -> io::Result<()> {
    let description = outline.description.as_deref();
    if outline.name.is_some() || description.is_some() {
        let name = outline.name.as_deref().unwrap_or("(default)");
        match description {
            Some(description) => {
                writeln!(out, "TARGET:      {name}\nDESCRIPTION: {description}")?;
            }
            None => writeln!(out, "TARGET: {name}")?,
        }
        writeln!(out)?;
    }
    if !outline.arguments.is_empty() {
        let mut table = Table::new(["BUILD ARG", "VALUE", "DESCRIPTION"]);
        for argument in &outline.arguments {
            table.row([
                argument.name.clone(),
                argument.value.clone(),
                argument.description.clone().unwrap_or_default(),
            ]);
        }
        table.print(out)?;
        writeln!(out)?;
    }
    for (heading, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if list.is_empty() {
            continue;
        }
        let mut table = Table::new([heading, "REQUIRED"]);
        for access in list {
            let required = if access.required { "true" } else { "" };
            table.row([access.id.clone(), required.to_owned()]);
        }
        table.print(out)?;
        writeln!(out)?;
    }
    Ok(())
}

/// BuildKit's `outline.Outline`.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    args: Vec<Argument<'a>>,
    secrets: Vec<Access<'a>>,
    ssh: Vec<Access<'a>>,
    sources: [String; 1],
}

#[derive(Debug, Serialize)]
struct Argument<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    value: &'a str,
    location: Location,
}

#[derive(Debug, Serialize)]
struct Access<'a> {
    name: &'a str,
    required: bool,
    location: Location,
}

impl<'a> Answer<'a> {
    fn new(outline: &'a Outline, source: &Source) -> Self {
        let arguments = outline.arguments.iter().map(|argument| Argument {
            name: &argument.name,
            description: argument.description.as_deref(),
            value: &argument.value,
            location: Location::of(argument.range),
        });
        Self {
            name: outline.name.as_deref(),
            description: outline.description.as_deref(),
            args: arguments.collect(),
            secrets: outline.secrets.iter().map(Access::of).collect(),
            ssh: outline.ssh.iter().map(Access::of).collect(),
            sources: [data(source)],
        }
    }
}

impl<'a> Access<'a> {
    fn of(access: &'a OutlineAccess) -> Self {
        Self {
            name: &access.id,
            required: access.required,
            location: Location::of(access.range),
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_engine::dockerfile::source::{Position, SourceRange};
    use ashlar_engine::plan::outline::OutlineArgument;

    use super::*;

    fn outline() -> Outline {
        let range = SourceRange::at(Position::new(2, 1));
        let argument = |name: &str, value: &str, description: Option<&str>| OutlineArgument {
            name: name.to_owned(),
            value: value.to_owned(),
            description: description.map(str::to_owned),
            range,
        };
        let access = |id: &str, required| OutlineAccess {
            id: id.to_owned(),
            required,
            range,
        };
        Outline {
            name: Some("out".to_owned()),
            description: Some("comes out".to_owned()),
            arguments: vec![
                argument("VERSION", "1", Some("which one")),
                argument("X", "", None),
            ],
            secrets: vec![access("token", true), access("other", false)],
            ssh: vec![access("default", false)],
        }
    }

    fn text(outline: &Outline) -> String {
        let mut out = Vec::new();
        write_text(&mut out, outline).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_read_tables() {
        assert_eq!(
            text(&outline()),
            "\
TARGET:      out
DESCRIPTION: comes out

BUILD ARG   VALUE   DESCRIPTION
VERSION     1       which one
X

SECRET   REQUIRED
token    true
other

SSH       REQUIRED
default

"
        );
        let bare = Outline {
            name: Some("out".to_owned()),
            ..Outline::default()
        };
        assert_eq!(text(&bare), "TARGET: out\n\n");
        assert_eq!(text(&Outline::default()), "");
    }

    #[test]
    fn programs_read_the_fields_of_buildkit() {
        let source = Source::new("Dockerfile", "FROM scratch\n");
        let json = serde_json::to_value(Answer::new(&outline(), &source)).unwrap();
        let location = serde_json::json!({
            "sourceIndex": 0,
            "ranges": [{"start": {"line": 2}, "end": {"line": 2}}],
        });
        assert_eq!(
            json,
            serde_json::json!({
                "name": "out",
                "description": "comes out",
                "args": [
                    {"name": "VERSION", "description": "which one", "value": "1", "location": location},
                    {"name": "X", "value": "", "location": location},
                ],
                "secrets": [
                    {"name": "token", "required": true, "location": location},
                    {"name": "other", "required": false, "location": location},
                ],
                "ssh": [{"name": "default", "required": false, "location": location}],
                "sources": ["RlJPTSBzY3JhdGNoCg=="],
            })
        );
    }
}

//! `--call=targets`: the stages, with what the comments above them say.

use std::io::Write;

use ashlar_engine::dockerfile::Dockerfile;
use serde::Serialize;

use super::View;
use super::answer::{Location, data, print_json};
use crate::commands::output;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::human::table::Table;

/// BuildKit's `targets.List`.
#[derive(Debug, Serialize)]
struct List {
    targets: Vec<Target>,
    sources: [String; 1],
}

#[derive(Debug, Serialize)]
struct Target {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether it is built if no target is named.
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// What it stands on, as it is written.
    base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    location: Location,
}

pub(super) fn run(view: &View<'_>, json: bool) -> Result<ExitCode, CliError> {
    let list = List::of(view.input.dockerfile()?);
    if json {
        print_json(&list)?;
    } else {
        output::print(|out| list.write(out))?;
    }
    Ok(ExitCode::Success)
}

impl List {
    fn of(dockerfile: &Dockerfile) -> Self {
        let last = dockerfile.stages.len().saturating_sub(1);
        let target = |(index, stage): (usize, &ashlar_engine::dockerfile::Stage)| Target {
            name: stage.name().map(str::to_owned),
            default: index == last,
            description: stage.description().map(str::to_owned),
            base: stage.from.kind.image.clone(),
            platform: stage.from.kind.platform.clone(),
            location: Location::of(stage.from.range),
        };
        Self {
            targets: dockerfile.stages.iter().enumerate().map(target).collect(),
            sources: [data(&dockerfile.source)],
        }
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut table = Table::new(["TARGET", "DESCRIPTION"]).narrow();
        for target in &self.targets {
            let name = match (target.name.as_deref(), target.default) {
                (None, true) => "(default)".to_owned(),
                (None, false) => String::new(),
                (Some(name), true) => format!("{name} (default)"),
                (Some(name), false) => name.to_owned(),
            };
            table.row([name, target.description.clone().unwrap_or_default()]);
        }
        table.print(out)
    }
}

#[cfg(test)]
mod tests {
    use ashlar_engine::dockerfile::parse;

    use super::*;

    fn list(text: &str) -> List {
        List::of(&parse("Dockerfile", text.as_bytes()).unwrap())
    }

    fn table(text: &str) -> String {
        let mut out = Vec::new();
        list(text).write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const TEXT: &str = "# build makes it\nFROM --platform=$BUILDPLATFORM golang AS build\n\
                        FROM scratch\n# out is it\nFROM build AS out\n";

    #[test]
    fn people_read_a_table() {
        assert_eq!(
            table(TEXT),
            "TARGET        DESCRIPTION\nbuild         makes it\n\nout (default) is it\n"
        );
        assert_eq!(
            table("FROM scratch\n"),
            "TARGET    DESCRIPTION\n(default)\n"
        );
    }

    #[test]
    fn programs_read_the_fields_of_buildkit() {
        let json = serde_json::to_value(list(TEXT)).unwrap();
        let place = |line: u32| {
            serde_json::json!({
                "sourceIndex": 0,
                "ranges": [{"start": {"line": line}, "end": {"line": line}}],
            })
        };
        assert_eq!(
            json["targets"],
            serde_json::json!([
                {
                    "name": "build",
                    "default": false,
                    "description": "makes it",
                    "base": "golang",
                    "platform": "$BUILDPLATFORM",
                    "location": place(2),
                },
                {"default": false, "base": "scratch", "location": place(3)},
                {
                    "name": "out",
                    "default": true,
                    "description": "is it",
                    "base": "build",
                    "location": place(5),
                },
            ])
        );
        assert_eq!(json["sources"].as_array().unwrap().len(), 1);
    }
}

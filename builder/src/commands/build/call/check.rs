//! `--check`: what the linter finds, and what would fail before a step runs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_engine::dockerfile::ParseError;
use ashlar_engine::dockerfile::error::ParseErrorKind;
use ashlar_engine::dockerfile::source::Source;
use ashlar_engine::event::{BuildEvent, EventSink};
use ashlar_engine::lint::Finding;
use ashlar_engine::plan::{self, PlanError};
use serde::Serialize;

use super::View;
use super::answer::{Location, SourceInfo, print_json};
use crate::cli::value::Call;
use crate::commands::build::report;
use crate::commands::output;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::ui::Progress;

/// Fails if there is anything to say, unless warnings are not to count.
pub(super) fn run(view: &View<'_>, call: Call) -> Result<ExitCode, CliError> {
    let Looked { findings, failure } = look(view)?;
    let source = match &view.input.parsed {
        Ok(dockerfile) => &dockerfile.source,
        Err(error) => error.source(),
    };
    if call.json {
        print_json(&Report::new(source, &findings, failure.as_ref()))?;
    } else {
        output::print(|out| write_text(out, &findings, failure.is_some()))?;
    }
    match failure {
        Some(Failure::Parse(error)) => Err(report::parse_error(&error)),
        Some(Failure::Plan(error)) => Err(report::plan_error(*error)),
        None if findings.is_empty() || call.ignore_status => Ok(ExitCode::Success),
        None => Ok(ExitCode::Failed),
    }
}

/// What there is to say.
struct Looked {
    findings: Vec<Arc<Finding>>,
    failure: Option<Failure>,
}

/// Why a build would fail.
enum Failure {
    Parse(ParseError),
    Plan(Box<PlanError>),
}

impl Failure {
    /// As BuildKit words it.
    fn message(&self) -> String {
        match self {
            Self::Parse(error) => match error.kind() {
                kind @ (ParseErrorKind::Empty
                | ParseErrorKind::NoInstructions
                | ParseErrorKind::NoStages) => kind.to_string(),
                kind => format!(
                    "dockerfile parse error on line {}: {kind}",
                    error.instruction().start.line
                ),
            },
            Self::Plan(error) => error.message.clone(),
        }
    }

    fn location(&self) -> Location {
        match self {
            Self::Parse(error) => Location::of(error.instruction()),
            Self::Plan(error) => match &error.place {
                Some(place) => Location::of(place.range),
                None => Location::unknown(),
            },
        }
    }
}

/// Keeps findings, and hands on all else.
struct Keeper {
    progress: Arc<Progress>,
    findings: Mutex<Vec<Arc<Finding>>>,
}

impl Keeper {
    fn take(&self) -> Vec<Arc<Finding>> {
        std::mem::take(&mut *self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl EventSink for Keeper {
    fn emit(&self, event: BuildEvent) {
        match event {
            BuildEvent::Finding(finding) => self
                .findings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(finding),
            other => self.progress.emit(other),
        }
    }
}

fn look(view: &View<'_>) -> Result<Looked, CliError> {
    let mut keeper = None;
    let events = |progress| {
        let kept = Arc::new(Keeper {
            progress,
            findings: Mutex::default(),
        });
        keeper = Some(Arc::clone(&kept));
        kept as Arc<dyn EventSink>
    };
    let outcome = view.plan(events, |sources| async move {
        match &view.input.parsed {
            Ok(dockerfile) => plan::check(dockerfile, &view.options, &sources).await,
            Err(error) => match error.beginning() {
                Some(read) => plan::check_beginning(read, &view.options, &sources.events),
                None => Ok(()),
            },
        }
    })?;
    let failure = match (outcome, &view.input.parsed) {
        (Err(error), _) => Some(Failure::Plan(Box::new(error))),
        (Ok(()), Err(error)) => Some(Failure::Parse(error.clone())),
        (Ok(()), Ok(_)) => None,
    };
    let findings = keeper.map(|keeper| keeper.take()).unwrap_or_default();
    Ok(Looked { findings, failure })
}

fn write_text(out: &mut impl Write, findings: &[Arc<Finding>], fails: bool) -> io::Result<()> {
    match findings.len() {
        0 if fails => {}
        0 => writeln!(out, "Check complete, no warnings found.")?,
        1 => writeln!(out, "Check complete, 1 warning has been found!")?,
        several => writeln!(out, "Check complete, {several} warnings have been found!")?,
    }
    let mut findings = findings.to_vec();
    findings.sort_by_key(|finding| finding.range.start.line);
    for finding in findings {
        write!(out, "\nWARNING: {}", finding.rule)?;
        if let Some(url) = finding.rule.url() {
            write!(out, " - {url}")?;
        }
        write!(out, "\n{}\n{}", finding.detail, finding.snippet())?;
    }
    Ok(())
}

/// The answer in JSON: BuildKit's `lint.LintResults`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    warnings: Vec<Warning<'a>>,
    sources: [SourceInfo; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: &'a str,
    location: Location,
}

#[derive(Debug, Serialize)]
struct BuildError {
    message: String,
    location: Location,
}

impl<'a> Report<'a> {
    fn new(source: &Source, findings: &'a [Arc<Finding>], failure: Option<&Failure>) -> Self {
        let warnings = findings.iter().map(|finding| Warning {
            rule_name: finding.rule.name(),
            description: finding.rule.description(),
            url: finding.rule.url(),
            detail: &finding.detail,
            location: Location::of(finding.range),
        });
        Self {
            warnings: warnings.collect(),
            sources: [SourceInfo::of(source)],
            build_error: failure.map(|failure| BuildError {
                message: failure.message(),
                location: failure.location(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_engine::dockerfile::parse;
    use ashlar_engine::lint::Rule;

    use super::*;

    fn findings() -> (Source, Vec<Arc<Finding>>) {
        let text = b"FROM scratch as a\nCOPY $x \\\n  /y\n";
        let dockerfile = parse("Dockerfile", text).unwrap();
        let stage = &dockerfile.stages[0];
        let finding = |rule, detail: &str, range| {
            Arc::new(Finding {
                rule,
                detail: detail.to_owned(),
                source: dockerfile.source.clone(),
                range,
            })
        };
        let later = finding(
            Rule::UndefinedVar,
            "Usage of undefined variable '$x'",
            stage.instructions[0].range,
        );
        let first = finding(
            Rule::InvalidBaseImagePlatform,
            "Base image a",
            stage.from.range,
        );
        (dockerfile.source.clone(), vec![later, first])
    }

    fn text(findings: &[Arc<Finding>], fails: bool) -> String {
        let mut out = Vec::new();
        write_text(&mut out, findings, fails).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_read_it_in_the_order_of_lines() {
        assert_eq!(text(&[], false), "Check complete, no warnings found.\n");
        assert_eq!(text(&[], true), "");
        let (_, findings) = findings();
        assert_eq!(
            text(&findings, false),
            "\
Check complete, 2 warnings have been found!

WARNING: InvalidBaseImagePlatform
Base image a
Dockerfile:1
--------------------
   1 | >>> FROM scratch as a
   2 |     COPY $x \\
   3 |       /y
--------------------

WARNING: UndefinedVar - https://docs.docker.com/go/dockerfile/rule/undefined-var/
Usage of undefined variable '$x'
Dockerfile:2
--------------------
   1 |     FROM scratch as a
   2 | >>> COPY $x \\
   3 | >>>   /y
--------------------
"
        );
        assert!(
            text(&findings[..1], false).starts_with("Check complete, 1 warning has been found!\n")
        );
    }

    /// What editors read: the fields, their names and their forms must never change.
    #[test]
    fn programs_read_it_as_buildx_writes_it() {
        let (source, findings) = findings();
        let error = parse("Dockerfile", b"FROM scratch\nWHAT\n").unwrap_err();
        let report = Report::new(&source, &findings, Some(&Failure::Parse(error)));
        let json = serde_json::to_string_pretty(&report).unwrap();
        assert_eq!(
            json,
            r#"{
  "warnings": [
    {
      "ruleName": "UndefinedVar",
      "description": "Variables should be defined before their use",
      "url": "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
      "detail": "Usage of undefined variable '$x'",
      "location": {
        "sourceIndex": 0,
        "ranges": [
          {
            "start": {
              "line": 2
            },
            "end": {
              "line": 2
            }
          },
          {
            "start": {
              "line": 3
            },
            "end": {
              "line": 3
            }
          }
        ]
      }
    },
    {
      "ruleName": "InvalidBaseImagePlatform",
      "description": "Base image platform does not match expected target platform",
      "detail": "Base image a",
      "location": {
        "sourceIndex": 0,
        "ranges": [
          {
            "start": {
              "line": 1
            },
            "end": {
              "line": 1
            }
          }
        ]
      }
    }
  ],
  "sources": [
    {
      "filename": "Dockerfile",
      "data": "RlJPTSBzY3JhdGNoIGFzIGEKQ09QWSAkeCBcCiAgL3kK",
      "language": "Dockerfile"
    }
  ],
  "buildError": {
    "message": "dockerfile parse error on line 2: unknown instruction: WHAT",
    "location": {
      "sourceIndex": 0,
      "ranges": [
        {
          "start": {
            "line": 2
          },
          "end": {
            "line": 2
          }
        }
      ]
    }
  }
}"#
        );
        let clean = serde_json::to_value(Report::new(&source, &[], None)).unwrap();
        assert_eq!(clean["warnings"], serde_json::json!([]));
        assert_eq!(clean.get("buildError"), None);
    }
}

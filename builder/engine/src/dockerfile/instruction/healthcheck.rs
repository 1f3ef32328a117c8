//! HEALTHCHECK.

use std::time::Duration;

use super::command::CommandLine;
use super::{Problem, Statement};
use crate::dockerfile::duration::parse_duration;
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::flag::{FlagForm::Text, Flags};
use crate::dockerfile::json_form;

/// `HEALTHCHECK NONE` or `HEALTHCHECK [flags] CMD command`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthcheckInstruction {
    /// No check, not even an inherited one.
    None,
    /// A command to run from time to time.
    Command(HealthcheckCommand),
}

/// How a container's health is checked. `None` and zero durations inherit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthcheckCommand {
    /// `--interval`
    pub interval: Option<Duration>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--start-period`
    pub start_period: Option<Duration>,
    /// `--start-interval`
    pub start_interval: Option<Duration>,
    /// `--retries`
    pub retries: Option<u32>,
    /// The command; never empty.
    pub command: CommandLine,
}

impl HealthcheckInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let keyword = "HEALTHCHECK";
        let known = &[
            ("interval", Text),
            ("timeout", Text),
            ("start-period", Text),
            ("start-interval", Text),
            ("retries", Text),
        ];
        let flags = statement.check_flags(keyword, known)?;
        let arguments = statement.arguments;
        let end = arguments
            .text
            .find(char::is_whitespace)
            .unwrap_or(arguments.text.len());
        let form = arguments.slice(0..end);
        let rest = arguments.tail(end).trim();
        match form.text.to_ascii_uppercase().as_str() {
            "" => Err(Problem::anywhere(ParseErrorKind::NoArguments { keyword })),
            "NONE" if rest.text.is_empty() => Ok(Self::None),
            "NONE" => Err(Problem::at(rest.range(), ParseErrorKind::HealthcheckNone)),
            "CMD" => {
                let command = json_form::command(rest)?;
                if matches!(&command, CommandLine::Exec(items) if items.is_empty())
                    || matches!(&command, CommandLine::Shell(text) if text.is_empty())
                {
                    return Err(Problem::anywhere(ParseErrorKind::HealthcheckWithoutCommand));
                }
                Ok(Self::Command(HealthcheckCommand {
                    interval: duration(&flags, "interval")?,
                    timeout: duration(&flags, "timeout")?,
                    start_period: duration(&flags, "start-period")?,
                    start_interval: duration(&flags, "start-interval")?,
                    retries: retries(&flags)?,
                    command,
                }))
            }
            _ => {
                let found = form.text.to_uppercase();
                Err(Problem::at(
                    form.range(),
                    ParseErrorKind::HealthcheckType { found },
                ))
            }
        }
    }
}

/// A flag's duration; an empty one counts as none.
fn duration(flags: &Flags, flag: &'static str) -> Result<Option<Duration>, Problem> {
    match flags.text(flag) {
        None | Some("") => Ok(None),
        Some(text) => match parse_duration(text) {
            Ok(duration) => Ok(Some(duration)),
            Err(reason) => Err(flags.problem(flag, ParseErrorKind::FlagDuration { flag, reason })),
        },
    }
}

fn retries(flags: &Flags) -> Result<Option<u32>, Problem> {
    let flag = "retries";
    match flags.text(flag) {
        None | Some("") => Ok(None),
        Some(text) => match text.parse::<i32>().map(u32::try_from) {
            Ok(Ok(retries)) => Ok(Some(retries)),
            _ => {
                let value = text.to_owned();
                Err(flags.problem(flag, ParseErrorKind::FlagNumber { flag, value }))
            }
        },
    }
}

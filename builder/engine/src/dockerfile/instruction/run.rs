//! RUN.

use std::borrow::Cow;

use super::command::CommandLine;
use super::copy::holds_variable;
use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::flag::{FlagForm, Flags};
use crate::dockerfile::heredoc::{Heredoc, HeredocMark};
use crate::dockerfile::json_form;

/// `RUN [flags] command`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// `--mount=...` as written; values but `from` are to be expanded.
    pub mounts: Vec<String>,
    /// `--network`
    pub network: Option<RunNetwork>,
    /// `--security`
    pub security: Option<RunSecurity>,
    /// `--device=...`, not expanded.
    pub devices: Vec<String>,
    /// The command; the builder never expands it.
    pub command: CommandLine,
    /// Its heredocs in the order of their bodies.
    pub heredocs: Vec<Heredoc>,
}

/// `--network` of RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// As the build has it.
    Default,
    /// Loopback only.
    None,
    /// The network of the machine.
    Host,
}

/// `--security` of RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSecurity {
    /// The usual sandbox.
    Sandbox,
    /// All capabilities, no filters.
    Insecure,
}

/// What a RUN hands to the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunInput<'a> {
    /// Arguments to execute as they are.
    Exec(&'a [String]),
    /// The last argument of the stage's shell.
    Shell(Cow<'a, str>),
    /// A script with its own `#!` line, to be put at `/dev/pipes/NAME` with mode 0755; that path
    /// is the last argument of the stage's shell.
    Script {
        /// Name of the heredoc.
        name: &'a str,
        /// The script.
        body: Cow<'a, str>,
    },
}

impl RunInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let known = &[
            ("mount", FlagForm::List),
            ("network", FlagForm::Text),
            ("security", FlagForm::Text),
            ("device", FlagForm::List),
        ];
        let flags = statement.check_flags("RUN", known)?;
        let mounts = flags.list("mount");
        if mounts.iter().any(|mount| is_mount_from_variable(mount)) {
            let place = "--mount from";
            return Err(flags.problem("mount", ParseErrorKind::FromVariable { place }));
        }
        let command = json_form::command(statement.arguments)?;
        if matches!(&command, CommandLine::Exec(items) if items.is_empty()) {
            let span = statement.arguments.range();
            return Err(Problem::at(span, ParseErrorKind::RunWithoutCommand));
        }
        Ok(Self {
            mounts,
            network: choice(&flags, "network", &RunNetwork::VALUES, &RunNetwork::NAMES)?,
            security: choice(
                &flags,
                "security",
                &RunSecurity::VALUES,
                &RunSecurity::NAMES,
            )?,
            devices: flags.list("device"),
            command,
            heredocs: statement.heredocs.clone(),
        })
    }

    /// What the sandbox is to execute.
    ///
    /// A heredoc that is all there is becomes the command itself: a script if it begins with
    /// `#!`, else a text for the shell. In other commands the shell reads the heredocs.
    pub fn input(&self) -> RunInput<'_> {
        let text = match &self.command {
            CommandLine::Exec(arguments) => return RunInput::Exec(arguments),
            CommandLine::Shell(text) => text,
        };
        match self.heredocs.as_slice() {
            [] => RunInput::Shell(Cow::Borrowed(text)),
            [heredoc, ..] if HeredocMark::parse(text).is_some() => {
                let body = heredoc.content();
                if heredoc.body.starts_with("#!") {
                    let name = &heredoc.name;
                    RunInput::Script { name, body }
                } else {
                    RunInput::Shell(body)
                }
            }
            heredocs => {
                let mut whole = text.clone();
                for heredoc in heredocs {
                    whole.extend(["\n", &heredoc.body, &heredoc.name]);
                }
                RunInput::Shell(Cow::Owned(whole))
            }
        }
    }
}

impl RunNetwork {
    const VALUES: [Self; 3] = [Self::Default, Self::None, Self::Host];
    const NAMES: [&str; 3] = ["default", "none", "host"];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl RunSecurity {
    const VALUES: [Self; 2] = [Self::Sandbox, Self::Insecure];
    const NAMES: [&str; 2] = ["sandbox", "insecure"];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Whether a mount names its source by a variable, which has no value before stages are known.
fn is_mount_from_variable(mount: &str) -> bool {
    mount
        .split(',')
        .filter_map(|field| field.split_once('='))
        .any(|(key, value)| key.trim().eq_ignore_ascii_case("from") && holds_variable(value))
}

/// The value that a flag names, if it is given.
fn choice<T: Copy>(
    flags: &Flags,
    flag: &'static str,
    values: &[T],
    names: &'static [&'static str],
) -> Result<Option<T>, Problem> {
    let Some(text) = flags.text(flag) else {
        return Ok(None);
    };
    let found = names.iter().zip(values).find(|(name, _)| **name == text);
    match found {
        Some((_, value)) => Ok(Some(*value)),
        None => Err(flags.problem(
            flag,
            ParseErrorKind::FlagValue {
                flag,
                value: text.to_owned(),
                possible: names,
            },
        )),
    }
}

//! CMD, ENTRYPOINT and SHELL, and the two forms of a command.

use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::json_form::{self, Form};

/// A command as the shell form or the exec form gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// One text for the shell, continuation lines joined; may be empty.
    Shell(String),
    /// A JSON array of arguments; may be empty.
    Exec(Vec<String>),
}

/// `CMD command`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmdInstruction {
    /// The command.
    pub command: CommandLine,
}

/// `ENTRYPOINT command`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrypointInstruction {
    /// The command.
    pub command: CommandLine,
}

/// `SHELL ["program", "argument"...]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellInstruction {
    /// The program and its arguments; never empty.
    pub arguments: Vec<String>,
}

impl CmdInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags("CMD")?;
        let command = json_form::command(statement.arguments)?;
        Ok(Self { command })
    }
}

impl EntrypointInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags("ENTRYPOINT")?;
        let command = json_form::command(statement.arguments)?;
        Ok(Self { command })
    }
}

impl ShellInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let keyword = "SHELL";
        statement.refuse_flags(keyword)?;
        match json_form::read(statement.arguments)? {
            Form::Json(arguments) if !arguments.is_empty() => Ok(Self { arguments }),
            Form::Text(text) if !text.text.is_empty() => {
                let kind = ParseErrorKind::JsonRequired { keyword };
                Err(Problem::at(text.range(), kind))
            }
            _ => Err(Problem::anywhere(ParseErrorKind::NoArguments { keyword })),
        }
    }
}

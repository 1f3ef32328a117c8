//! The eighteen instructions, one file for each or for a family that shares its form.
//!
//! Every type here holds values as written. What is not expanded (`--network`, durations) is
//! already checked and typed; what is expanded later stays text.

pub mod arg;
pub mod command;
pub mod copy;
pub mod env;
pub mod from;
pub mod healthcheck;
pub mod metadata;
pub mod mount;
pub mod onbuild;
pub mod run;

use std::ops::Range;

use super::error::ParseErrorKind;
use super::flag::{FlagForm, Flags};
use super::heredoc::Heredoc;
use super::suggest::suggest;
use super::words::{Span, Word};

pub use arg::{ArgDeclaration, ArgInstruction};
pub use command::{CmdInstruction, CommandLine, EntrypointInstruction, ShellInstruction};
pub use copy::{AddInstruction, CopyArguments, CopyInstruction, SourceArgument};
pub use env::{EnvInstruction, KeyValue, LabelInstruction};
pub use from::FromInstruction;
pub use healthcheck::{HealthcheckCommand, HealthcheckInstruction};
pub use metadata::{
    ExposeInstruction, MaintainerInstruction, StopsignalInstruction, UserInstruction,
    VolumeInstruction, WorkdirInstruction,
};
pub use onbuild::OnbuildInstruction;
pub use run::{RunInput, RunInstruction, RunNetwork, RunSecurity};

/// What an instruction inside a stage says. FROM is not here: it opens a
/// [`Stage`](super::ast::Stage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the instruction that it is named for"
)]
pub enum InstructionKind {
    Add(AddInstruction),
    Arg(ArgInstruction),
    Cmd(CmdInstruction),
    Copy(CopyInstruction),
    Entrypoint(EntrypointInstruction),
    Env(EnvInstruction),
    Expose(ExposeInstruction),
    Healthcheck(HealthcheckInstruction),
    Label(LabelInstruction),
    Maintainer(MaintainerInstruction),
    Onbuild(OnbuildInstruction),
    Run(RunInstruction),
    Shell(ShellInstruction),
    Stopsignal(StopsignalInstruction),
    User(UserInstruction),
    Volume(VolumeInstruction),
    Workdir(WorkdirInstruction),
}

/// The keywords of all instructions.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction split into its parts.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    /// The keyword as written.
    pub(super) keyword: Span<'a>,
    pub(super) flags: Vec<Word>,
    /// What follows the flags, without blanks around.
    pub(super) arguments: Span<'a>,
    /// The same with the blanks at the end of the line.
    pub(super) to_line_end: Span<'a>,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) escape: char,
}

/// Any of the eighteen.
#[derive(Debug)]
pub(super) enum AnyInstruction {
    From(FromInstruction),
    Other(InstructionKind),
}

/// What is wrong with an instruction.
#[derive(Debug)]
pub(super) struct Problem {
    /// The bytes of the logical line that are wrong, if not all of it.
    pub(super) span: Option<Range<usize>>,
    pub(super) kind: ParseErrorKind,
}

impl Problem {
    pub(super) const fn at(span: Range<usize>, kind: ParseErrorKind) -> Self {
        Self {
            span: Some(span),
            kind,
        }
    }

    pub(super) const fn anywhere(kind: ParseErrorKind) -> Self {
        Self { span: None, kind }
    }
}

impl Statement<'_> {
    /// The flags, checked against those that the instruction has.
    fn check_flags(
        &self,
        keyword: &'static str,
        known: &'static [(&'static str, FlagForm)],
    ) -> Result<Flags, Problem> {
        Flags::check(keyword, known, &self.flags)
    }

    /// The instruction must have no flags.
    fn refuse_flags(&self, keyword: &'static str) -> Result<(), Problem> {
        self.check_flags(keyword, &[]).map(drop)
    }

    /// The arguments as one, which must be there.
    fn one_argument(&self, keyword: &'static str) -> Result<String, Problem> {
        match self.arguments.text {
            "" => Err(Problem::anywhere(ParseErrorKind::NotOneArgument {
                keyword,
            })),
            text => Ok(text.to_owned()),
        }
    }

    /// Types the instruction.
    pub(super) fn parse(&self) -> Result<AnyInstruction, Problem> {
        use InstructionKind as Kind;
        let kind = match self.keyword.text.to_ascii_uppercase().as_str() {
            "ADD" => Kind::Add(AddInstruction::parse(self)?),
            "ARG" => Kind::Arg(ArgInstruction::parse(self)?),
            "CMD" => Kind::Cmd(CmdInstruction::parse(self)?),
            "COPY" => Kind::Copy(CopyInstruction::parse(self)?),
            "ENTRYPOINT" => Kind::Entrypoint(EntrypointInstruction::parse(self)?),
            "ENV" => Kind::Env(EnvInstruction::parse(self)?),
            "EXPOSE" => Kind::Expose(ExposeInstruction::parse(self)?),
            "FROM" => return FromInstruction::parse(self).map(AnyInstruction::From),
            "HEALTHCHECK" => Kind::Healthcheck(HealthcheckInstruction::parse(self)?),
            "LABEL" => Kind::Label(LabelInstruction::parse(self)?),
            "MAINTAINER" => Kind::Maintainer(MaintainerInstruction::parse(self)?),
            "ONBUILD" => Kind::Onbuild(OnbuildInstruction::parse(self)?),
            "RUN" => Kind::Run(RunInstruction::parse(self)?),
            "SHELL" => Kind::Shell(ShellInstruction::parse(self)?),
            "STOPSIGNAL" => Kind::Stopsignal(StopsignalInstruction::parse(self)?),
            "USER" => Kind::User(UserInstruction::parse(self)?),
            "VOLUME" => Kind::Volume(VolumeInstruction::parse(self)?),
            "WORKDIR" => Kind::Workdir(WorkdirInstruction::parse(self)?),
            _ => {
                let kind = ParseErrorKind::UnknownInstruction {
                    keyword: self.keyword.text.to_owned(),
                    suggestion: suggest(self.keyword.text, KEYWORDS),
                };
                return Err(Problem::at(self.keyword.range(), kind));
            }
        };
        Ok(AnyInstruction::Other(kind))
    }
}

#[cfg(test)]
mod tests;

//! Why a text is not a Dockerfile.

use super::ast::Dockerfile;
use super::diagnostic::Diagnostic;
use super::duration::DurationError;
use super::source::{Source, SourceRange};

/// A text is not a Dockerfile. Displays as `Dockerfile:LINE:COLUMN: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}:{}: {kind}", .text.name(), .range.start.line, .range.start.column)]
pub struct ParseError {
    text: Source,
    /// The instruction that is wrong, or the line where there is none.
    instruction: SourceRange,
    /// The part of it that is wrong.
    range: SourceRange,
    kind: Box<ParseErrorKind>,
    /// What stands before it.
    beginning: Option<Box<Dockerfile>>,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant means")]
#[non_exhaustive]
pub enum ParseErrorKind {
    #[error("the Dockerfile cannot be empty")]
    Empty,
    #[error("file with no instructions")]
    NoInstructions,
    #[error("dockerfile contains no stages to build")]
    NoStages,
    #[error("no build stage in current context: {keyword} stands before the first FROM")]
    BeforeFrom { keyword: String },
    #[error("dockerfile line greater than max allowed size of {limit}")]
    LineTooLong { limit: usize },
    #[error("the text is not UTF-8")]
    NotUtf8,

    #[error("only one {name} parser directive can be used")]
    DuplicateDirective { name: String },
    #[error("invalid escape token '{value}' does not match ` or \\")]
    InvalidEscape { value: String },

    #[error("unknown instruction: {keyword}")]
    UnknownInstruction {
        keyword: String,
        suggestion: Option<&'static str>,
    },
    #[error("{keyword} requires at least one argument")]
    NoArguments { keyword: &'static str },
    #[error("{keyword} requires exactly one argument")]
    NotOneArgument { keyword: &'static str },
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    #[error("{keyword} requires its arguments in JSON form")]
    JsonRequired { keyword: &'static str },

    #[error("the frontend {image} is not supported: Ashlar reads Dockerfiles itself")]
    ForeignSyntax { image: String, place: SyntaxPlace },

    #[error("unknown flag: --{flag}")]
    UnknownFlag {
        keyword: &'static str,
        flag: String,
        suggestion: Option<&'static str>,
    },
    #[error("duplicate flag specified: {flag}")]
    DuplicateFlag { flag: String },
    #[error("missing a value on flag: {flag}")]
    FlagWithoutValue { flag: String },
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    FlagNotBoolean { flag: String, value: String },
    #[error("`{value}` is no value of flag `--{flag}`")]
    FlagValue {
        flag: &'static str,
        value: String,
        possible: &'static [&'static str],
    },
    #[error("`--{flag}` is no duration: {reason}")]
    FlagDuration {
        flag: &'static str,
        reason: DurationError,
    },
    #[error("`--{flag}` must be a whole number of at least 0, not `{value}`")]
    FlagNumber { flag: &'static str, value: String },
    #[error("variable expansion is not supported for {place}")]
    FromVariable { place: &'static str },

    #[error("unterminated heredoc: no line is `{name}`")]
    UnterminatedHeredoc { name: String },
    #[error("{keyword} cannot accept a heredoc as a destination")]
    HeredocDestination { keyword: &'static str },
    #[error("the heredoc `{name}` is no word of its own")]
    HeredocNotAWord { name: String },

    #[error("Syntax error - can't find = in {word:?}. Must be of the form: name=value")]
    MissingEquals { word: String },
    #[error("{keyword} must have two arguments")]
    NameWithoutValue { keyword: &'static str },
    #[error("{keyword} names can not be blank")]
    BlankName { keyword: &'static str },

    #[error(
        "{keyword} requires at least two arguments, but only one was provided. Destination could \
         not be determined"
    )]
    NoDestination { keyword: &'static str },
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    )]
    StageName { name: String },
    #[error("RUN needs a command: the array is empty")]
    RunWithoutCommand,
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("Unknown type {found:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType { found: String },
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckWithoutCommand,
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildOnbuild,
    #[error("{keyword} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger { keyword: String },
    #[error("onbuild trigger should be a single expression")]
    OnbuildNotSingle,
}

/// Where a frontend is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyntaxPlace {
    /// In the file itself.
    File,
    /// By the build argument `BUILDKIT_SYNTAX`.
    Argument,
}

/// A [`ParseErrorKind`] and where it is, before the text is known.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) instruction: SourceRange,
    pub(super) range: SourceRange,
    pub(super) kind: ParseErrorKind,
}

impl Failure {
    pub(super) const fn at(range: SourceRange, kind: ParseErrorKind) -> Self {
        Self {
            instruction: range,
            range,
            kind,
        }
    }

    pub(super) fn in_text(self, text: Source) -> ParseError {
        ParseError {
            text,
            instruction: self.instruction,
            range: self.range,
            kind: Box::new(self.kind),
            beginning: None,
        }
    }
}

impl ParseError {
    /// Adds what stands before it.
    #[must_use]
    pub(super) fn after(mut self, beginning: Dockerfile) -> Self {
        self.beginning = Some(Box::new(beginning));
        self
    }

    /// What stands before it. It may have no stage, and the last that it has may go on.
    pub fn beginning(&self) -> Option<&Dockerfile> {
        self.beginning.as_deref()
    }

    /// The text.
    pub const fn source(&self) -> &Source {
        &self.text
    }

    /// The instruction that is wrong, or the line where there is none.
    pub const fn instruction(&self) -> SourceRange {
        self.instruction
    }

    /// What is wrong.
    pub fn kind(&self) -> &ParseErrorKind {
        &self.kind
    }

    /// Where it is wrong.
    pub const fn range(&self) -> SourceRange {
        self.range
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.kind.hint()
    }

    /// The error with the lines it is about.
    pub fn diagnostic(&self) -> Diagnostic {
        let diagnostic = Diagnostic::new(&self.text, self.instruction, self.kind.to_string())
            .with_caret(self.range);
        match self.hint() {
            Some(hint) => diagnostic.with_hint(hint),
            None => diagnostic,
        }
    }
}

impl ParseErrorKind {
    /// What to do about it, where that is not plain from the message.
    pub fn hint(&self) -> Option<String> {
        let did_you_mean = |word: &str| format!("did you mean `{word}`?");
        Some(match self {
            Self::Empty | Self::NoInstructions | Self::NoStages => {
                "start it with `FROM image`, or `FROM scratch` for an empty image".to_owned()
            }
            Self::BeforeFrom { .. } => "only ARG may stand before the first FROM".to_owned(),
            Self::LineTooLong { .. } => "break the line with the escape character".to_owned(),
            Self::NotUtf8 => "save the file as UTF-8; comments alone may be anything".to_owned(),
            Self::UnknownInstruction {
                suggestion: Some(suggestion),
                ..
            } => did_you_mean(suggestion),
            Self::UnknownInstruction { keyword, .. } if is_shell_like(keyword) => {
                "a line that belongs to the one above needs the escape character before the line \
                 end there; a heredoc needs its name as a word of its own, as in `RUN <<EOF`"
                    .to_owned()
            }
            Self::UnknownFlag {
                suggestion: Some(suggestion),
                ..
            } => did_you_mean(&format!("--{suggestion}")),
            Self::UnknownFlag { flag, keyword, .. } => {
                format!(
                    "if `--{flag}` is an argument, end the flags before it: `{keyword} -- --{flag}`"
                )
            }
            Self::FlagWithoutValue { flag } => format!("write `--{flag}=value`"),
            Self::FlagNotBoolean { .. } => "use `true` or `false`".to_owned(),
            Self::FlagValue { possible, .. } => format!("possible: {}", possible.join(", ")),
            Self::FlagDuration { .. } => {
                "write a number with its unit, such as `1m30s`; units: ns, us, ms, s, m, h"
                    .to_owned()
            }
            Self::FromVariable { .. } => {
                "define a new stage with FROM using ARG from global scope as a workaround: \
                 `FROM ${...} AS name`"
                    .to_owned()
            }
            Self::UnterminatedHeredoc { name } => {
                format!("end it with a line that is only `{name}`; if `<<` is no heredoc, quote it")
            }
            Self::HeredocNotAWord { name } => {
                format!("write `<<{name}` without blanks and quotes around them")
            }
            Self::MissingEquals { .. } => "quote values that hold blanks".to_owned(),
            Self::JsonRequired { keyword } => {
                format!("write {keyword} [\"program\", \"argument\"]")
            }
            Self::ForeignSyntax { place, .. } => match place {
                SyntaxPlace::File => "known are docker/dockerfile and docker/dockerfile-upstream \
                                      with any tag; leave the line out, or build with \
                                      `--build-arg BUILDKIT_SYNTAX=dockerfile.v0` if the file is \
                                      a Dockerfile"
                    .to_owned(),
                SyntaxPlace::Argument => {
                    "it was asked for by the build argument BUILDKIT_SYNTAX".to_owned()
                }
            },
            Self::FromArguments => "write `FROM image` or `FROM image AS name`".to_owned(),
            Self::StageName { .. } => {
                "a name starts with a letter; letters, digits, `-`, `_` and `.` follow".to_owned()
            }
            Self::HealthcheckType { .. } => {
                "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`".to_owned()
            }
            _ => return None,
        })
    }
}

/// Whether an unknown keyword looks like the rest of a shell command, not like a misspelling.
fn is_shell_like(keyword: &str) -> bool {
    !keyword.chars().any(|c| c.is_ascii_uppercase())
}

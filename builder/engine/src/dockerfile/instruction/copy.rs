//! COPY and ADD.

use std::ops::Range;

use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::flag::FlagForm::{Boolean, List, Text};
use crate::dockerfile::heredoc::{Heredoc, HeredocMark};
use crate::dockerfile::json_form;

/// `COPY [flags] source... destination`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// `--from=stage|number|context|image`; never holds a variable.
    pub from: Option<String>,
    /// `--chown=user[:group]`, to be expanded.
    pub chown: Option<String>,
    /// `--chmod=octal|symbolic`, to be expanded.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude=pattern`, not expanded.
    pub exclude: Vec<String>,
    /// Sources and destination.
    pub arguments: CopyArguments,
}

/// `ADD [flags] source... destination`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddInstruction {
    /// `--chown=user[:group]`, to be expanded.
    pub chown: Option<String>,
    /// `--chmod=octal|symbolic`, to be expanded.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--keep-git-dir[=bool]`
    pub keep_git_dir: Option<bool>,
    /// `--checksum=digest`, to be expanded.
    pub checksum: Option<String>,
    /// `--unpack[=bool]`; without it, local archives are unpacked and remote ones not.
    pub unpack: Option<bool>,
    /// `--exclude=pattern`, not expanded.
    pub exclude: Vec<String>,
    /// Sources and destination.
    pub arguments: CopyArguments,
}

/// What to copy and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyArguments {
    /// The sources in order; never empty.
    pub sources: Vec<SourceArgument>,
    /// The destination, to be expanded.
    pub destination: String,
    /// Written as a JSON array.
    pub json: bool,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceArgument {
    /// A path, pattern or URL, to be expanded.
    Path(String),
    /// A file given in the Dockerfile, named as the heredoc.
    Heredoc(Heredoc),
}

impl CopyArguments {
    /// The sources that are paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| match source {
            SourceArgument::Path(path) => Some(path.as_str()),
            SourceArgument::Heredoc(_) => None,
        })
    }

    /// The sources that are heredocs.
    pub fn heredocs(&self) -> impl Iterator<Item = &Heredoc> {
        self.sources.iter().filter_map(|source| match source {
            SourceArgument::Heredoc(heredoc) => Some(heredoc),
            SourceArgument::Path(_) => None,
        })
    }
}

impl CopyInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let keyword = "COPY";
        let arguments = CopyArguments::parse(keyword, statement)?;
        let known = &[
            ("from", Text),
            ("chown", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("parents", Boolean),
            ("exclude", List),
        ];
        let flags = statement.check_flags(keyword, known)?;
        let owned = |name| flags.text(name).map(str::to_owned);
        // An empty one is none.
        let from = owned("from").filter(|from| !from.is_empty());
        if from.as_deref().is_some_and(holds_variable) {
            let place = "--from";
            return Err(flags.problem("from", ParseErrorKind::FromVariable { place }));
        }
        Ok(Self {
            from,
            chown: owned("chown"),
            chmod: owned("chmod"),
            link: flags.boolean("link").unwrap_or(false),
            parents: flags.boolean("parents").unwrap_or(false),
            exclude: flags.list("exclude"),
            arguments,
        })
    }
}

impl AddInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let keyword = "ADD";
        let arguments = CopyArguments::parse(keyword, statement)?;
        let known = &[
            ("chown", Text),
            ("chmod", Text),
            ("link", Boolean),
            ("keep-git-dir", Boolean),
            ("checksum", Text),
            ("unpack", Boolean),
            ("exclude", List),
        ];
        let flags = statement.check_flags(keyword, known)?;
        let owned = |name| flags.text(name).map(str::to_owned);
        Ok(Self {
            chown: owned("chown"),
            chmod: owned("chmod"),
            link: flags.boolean("link").unwrap_or(false),
            keep_git_dir: flags.boolean("keep-git-dir"),
            checksum: owned("checksum"),
            unpack: flags.boolean("unpack"),
            exclude: flags.list("exclude"),
            arguments,
        })
    }
}

impl CopyArguments {
    fn parse(keyword: &'static str, statement: &Statement<'_>) -> Result<Self, Problem> {
        let (mut words, json) = json_form::list(statement.arguments)?;
        let Some(destination) = words.pop().filter(|_| !words.is_empty()) else {
            return Err(Problem::anywhere(ParseErrorKind::NoDestination { keyword }));
        };
        let is_heredoc = |text: &str| HeredocMark::parse(text).filter(|_| !json);
        if is_heredoc(&destination.text).is_some() {
            let kind = ParseErrorKind::HeredocDestination { keyword };
            return Err(Problem::at(destination.span, kind));
        }
        // The bodies were read for the words of a shell; these are words split at blanks.
        let mut heredocs = statement.heredocs.iter();
        let mut sources = Vec::with_capacity(words.len());
        for word in words {
            let source = match is_heredoc(&word.text) {
                Some(mark) => match heredocs.next() {
                    Some(heredoc) if heredoc.name == mark.name => {
                        SourceArgument::Heredoc(heredoc.clone())
                    }
                    _ => return Err(apart(&mark.name, Some(word.span))),
                },
                None => SourceArgument::Path(word.text),
            };
            sources.push(source);
        }
        match heredocs.next() {
            Some(heredoc) => Err(apart(&heredoc.name, None)),
            None => Ok(Self {
                sources,
                destination: destination.text,
                json,
            }),
        }
    }
}

/// A heredoc that is one for a shell and no word here, or the other way round.
fn apart(name: &str, span: Option<Range<usize>>) -> Problem {
    let name = name.to_owned();
    let kind = ParseErrorKind::HeredocNotAWord { name };
    Problem { span, kind }
}

/// Whether the reference implementation takes a text for one with a variable: `$` and a character.
pub(super) fn holds_variable(text: &str) -> bool {
    text.trim_end_matches('$').contains('$') || text.contains("$$")
}

//! The instructions that hold nothing but words: EXPOSE, MAINTAINER, STOPSIGNAL, USER, VOLUME and
//! WORKDIR.

use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::json_form;
use crate::dockerfile::words::split_blanks;

/// `EXPOSE port[/protocol]...`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposeInstruction {
    /// The words in order, each to be expanded and split again; never empty.
    pub ports: Vec<String>,
}

/// `MAINTAINER name`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintainerInstruction {
    /// The author, not expanded.
    pub name: String,
}

/// `STOPSIGNAL signal`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopsignalInstruction {
    /// The signal, to be expanded.
    pub signal: String,
}

/// `USER user[:group]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInstruction {
    /// The user, to be expanded; may hold blanks.
    pub user: String,
}

/// `VOLUME path...` or `VOLUME ["path"...]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInstruction {
    /// The paths, to be expanded; there is at least one and none is empty.
    pub paths: Vec<String>,
    /// Written as a JSON array.
    pub json: bool,
}

/// `WORKDIR path`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirInstruction {
    /// The path, to be expanded.
    pub path: String,
}

impl ExposeInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let keyword = "EXPOSE";
        statement.refuse_flags(keyword)?;
        let ports = split_blanks(statement.arguments)
            .into_iter()
            .map(|word| word.text);
        let ports: Vec<_> = ports.collect();
        if ports.is_empty() {
            return Err(Problem::anywhere(ParseErrorKind::NoArguments { keyword }));
        }
        Ok(Self { ports })
    }
}

impl MaintainerInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags("MAINTAINER")?;
        let name = statement.one_argument("MAINTAINER")?;
        Ok(Self { name })
    }
}

impl StopsignalInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags("STOPSIGNAL")?;
        let signal = statement.one_argument("STOPSIGNAL")?;
        Ok(Self { signal })
    }
}

impl UserInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags("USER")?;
        let user = statement.one_argument("USER")?;
        Ok(Self { user })
    }
}

impl VolumeInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        let keyword = "VOLUME";
        statement.refuse_flags(keyword)?;
        let (words, json) = json_form::list(statement.arguments)?;
        if words.is_empty() {
            return Err(Problem::anywhere(ParseErrorKind::NoArguments { keyword }));
        }
        let paths = words.into_iter().map(|word| match word.text.trim() {
            "" => Err(Problem::at(word.span, ParseErrorKind::EmptyVolume)),
            path => Ok(path.to_owned()),
        });
        let paths = paths.collect::<Result<_, _>>()?;
        Ok(Self { paths, json })
    }
}

impl WorkdirInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags("WORKDIR")?;
        let path = statement.one_argument("WORKDIR")?;
        Ok(Self { path })
    }
}

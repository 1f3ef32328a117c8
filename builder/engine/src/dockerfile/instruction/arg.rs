//! ARG.

use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;
use crate::dockerfile::words::split_quoted;

/// `ARG name[=default]...`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgInstruction {
    /// The declarations in order; never empty.
    pub declarations: Vec<ArgDeclaration>,
}

/// One build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name, never expanded and never empty.
    pub name: String,
    /// The default, to be expanded. `ARG a=` has an empty one, `ARG a` none.
    pub default: Option<String>,
}

const KEYWORD: &str = "ARG";

impl ArgInstruction {
    /// The names that are declared, in order.
    pub fn names(&self) -> Vec<&str> {
        let names = self.declarations.iter();
        names.map(|declaration| declaration.name.as_str()).collect()
    }

    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags(KEYWORD)?;
        let words = split_quoted(statement.arguments, statement.escape);
        if words.is_empty() {
            let keyword = KEYWORD;
            return Err(Problem::anywhere(ParseErrorKind::NoArguments { keyword }));
        }
        let declarations = words.into_iter().map(|word| {
            let (name, default) = match word.text.split_once('=') {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (word.text.as_str(), None),
            };
            if name.is_empty() {
                let keyword = KEYWORD;
                return Err(Problem::at(
                    word.span,
                    ParseErrorKind::BlankName { keyword },
                ));
            }
            let name = name.to_owned();
            Ok(ArgDeclaration { name, default })
        });
        let declarations = declarations.collect::<Result<_, _>>()?;
        Ok(Self { declarations })
    }
}

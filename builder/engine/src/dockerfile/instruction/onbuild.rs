//! ONBUILD.

use super::{Problem, Statement};
use crate::dockerfile::error::ParseErrorKind;

/// `ONBUILD instruction`. The instruction is checked when it is triggered, not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnbuildInstruction {
    /// Keyword of the instruction in upper case. Never ONBUILD, FROM or MAINTAINER.
    pub keyword: String,
    /// The instruction as images keep it: one line, then the bodies of its heredocs. To be read
    /// by [`parse_onbuild`](crate::dockerfile::parse_onbuild).
    pub trigger: String,
}

impl OnbuildInstruction {
    pub(super) fn parse(statement: &Statement<'_>) -> Result<Self, Problem> {
        statement.refuse_flags("ONBUILD")?;
        let (keyword, _) = statement.arguments.split_at_blanks();
        let span = keyword.range();
        let keyword = keyword.text.to_uppercase();
        match keyword.as_str() {
            "" => {
                let keyword = "ONBUILD";
                return Err(Problem::anywhere(ParseErrorKind::NoArguments { keyword }));
            }
            "ONBUILD" => return Err(Problem::at(span, ParseErrorKind::OnbuildOnbuild)),
            "FROM" | "MAINTAINER" => {
                return Err(Problem::at(
                    span,
                    ParseErrorKind::OnbuildTrigger { keyword },
                ));
            }
            _ => {}
        }
        let mut trigger = statement.to_line_end.text.to_owned();
        for heredoc in &statement.heredocs {
            trigger.extend(["\n", &heredoc.body, &heredoc.name]);
        }
        Ok(Self { keyword, trigger })
    }
}

//! The syntax tree of a Dockerfile: typed instructions with the places they stand at.
//!
//! Values are as written: variables are not expanded and quotes not removed, because both need
//! the environment of a stage, which only the planner knows.

use super::directive::Directives;
use super::instruction::{ArgInstruction, FromInstruction, InstructionKind};
use super::source::{Position, Source, SourceRange};
use super::warning::Warning;

/// A parsed Dockerfile. It has at least one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text it was read from.
    pub source: Source,
    /// `# escape=`, `# syntax=`, `# check=` at the top.
    pub directives: Directives,
    /// ARG before the first FROM: visible to FROM, and to a stage that declares the name again.
    pub global_args: Vec<Instruction<ArgInstruction>>,
    /// The stages in file order.
    pub stages: Vec<Stage>,
    /// What is accepted but dubious, in file order.
    pub warnings: Vec<Warning>,
}

/// A FROM and all up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What opens the stage.
    pub from: Instruction<FromInstruction>,
    /// The other instructions in file order.
    pub instructions: Vec<Instruction>,
}

/// An instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction<K = InstructionKind> {
    /// From the first letter of its keyword to its end, continuation lines and heredocs included.
    pub range: SourceRange,
    /// The text as written: continuation lines, comments between them and heredocs included.
    pub original: String,
    /// The keyword as written, such as `run`.
    pub keyword: String,
    /// The block of comments above, without `#` and blanks around; an empty comment ends a block.
    pub comments: Vec<String>,
    /// What it says.
    pub kind: K,
}

impl Stage {
    /// The name given with AS, in lower case.
    pub fn name(&self) -> Option<&str> {
        self.from.kind.name.as_deref()
    }

    /// What the comment above says of the stage: the rest of the line that begins with its name.
    pub fn description(&self) -> Option<&str> {
        self.from.description_of(self.name()?)
    }
}

impl<K> Instruction<K> {
    /// The place apart from what it says.
    pub(super) fn split(self) -> (Instruction<()>, K) {
        let place = Instruction {
            range: self.range,
            original: self.original,
            keyword: self.keyword,
            comments: self.comments,
            kind: (),
        };
        (place, self.kind)
    }

    /// The same place, saying something else.
    pub(super) fn with<L>(self, kind: L) -> Instruction<L> {
        Instruction {
            range: self.range,
            original: self.original,
            keyword: self.keyword,
            comments: self.comments,
            kind,
        }
    }

    /// The rest of the comment line above that begins with `name` and a blank.
    pub fn description_of(&self, name: &str) -> Option<&str> {
        self.comments
            .iter()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    }

    /// Where `word` first stands in the instruction after its keyword; all of the instruction if
    /// it is not there as written. For errors about one argument.
    pub fn locate(&self, word: &str) -> SourceRange {
        let skipped = self.keyword.len();
        let found = self
            .original
            .get(skipped..)
            .and_then(|rest| rest.find(word));
        match found {
            Some(offset) if !word.is_empty() => {
                let start = self.position_at(skipped + offset);
                SourceRange::new(start, self.position_at(skipped + offset + word.len()))
            }
            _ => self.range,
        }
    }

    /// The place of a byte of `original`.
    fn position_at(&self, offset: usize) -> Position {
        let mut position = self.range.start;
        for character in self.original[..offset].chars() {
            if character == '\n' {
                position = Position::new(position.line + 1, 1);
            } else {
                position.column += 1;
            }
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(original: &str) -> Instruction<()> {
        Instruction {
            range: SourceRange::new(Position::new(3, 5), Position::new(4, 9)),
            original: original.to_owned(),
            keyword: "COPY".to_owned(),
            comments: vec!["web the server".to_owned()],
            kind: (),
        }
    }

    #[test]
    fn words_are_located_across_lines() {
        let copy = instruction("COPY a \\\n  b /d");
        let place = |line, start, end| {
            SourceRange::new(Position::new(line, start), Position::new(line, end))
        };
        assert_eq!(copy.locate("a"), place(3, 10, 11));
        assert_eq!(copy.locate("/d"), place(4, 5, 7));
        assert_eq!(copy.locate("elsewhere"), copy.range);
        assert_eq!(copy.locate(""), copy.range);
    }

    #[test]
    fn the_keyword_itself_is_no_argument() {
        assert_eq!(instruction("COPY x").locate("COPY"), instruction("").range);
    }

    #[test]
    fn a_description_follows_the_name() {
        assert_eq!(instruction("").description_of("web"), Some("the server"));
        assert_eq!(instruction("").description_of("we"), None);
    }
}

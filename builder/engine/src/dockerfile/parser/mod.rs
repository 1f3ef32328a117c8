//! From text to [`Dockerfile`].

use super::ast::{Dockerfile, Instruction, Stage};
use super::directive::Directives;
use super::error::{Failure, ParseError, ParseErrorKind};
use super::flag::split_flags;
use super::heredoc::{Heredoc, find_marks};
use super::instruction::{AnyInstruction, InstructionKind, Problem, Statement};
use super::json_form::{self, Form};
use super::lexer::{Lexer, LogicalLine, decode};
use super::source::{Position, Source, SourceRange};
use super::words::Span;

/// Parses a Dockerfile. `name` is what errors call it.
pub fn parse(name: &str, text: &[u8]) -> Result<Dockerfile, ParseError> {
    let (text, broken) = decode(text);
    let source = Source::new(name, &text);
    let mut lexer = Lexer::new(&text, broken);
    let mut file = Dockerfile {
        source: source.clone(),
        directives: Directives::default(),
        global_args: Vec::new(),
        stages: Vec::new(),
        warnings: Vec::new(),
    };
    let outcome = read(&mut lexer, &mut file);
    file.directives = lexer.directives;
    file.warnings = lexer.warnings;
    match outcome {
        Ok(()) => Ok(file),
        Err(failure) => Err(failure.in_text(source).after(file)),
    }
}

/// Parses the instruction of an ONBUILD trigger, when it is triggered.
pub fn parse_onbuild(trigger: &str) -> Result<Instruction, ParseError> {
    let source = Source::new("ONBUILD", trigger);
    read_trigger(trigger).map_err(|failure| failure.in_text(source))
}

/// Reads instructions into `file`, to the end or to the first that is wrong.
fn read(lexer: &mut Lexer<'_>, file: &mut Dockerfile) -> Result<(), Failure> {
    let source = file.source.clone();
    while let Some(instruction) = next_instruction(lexer, source.text())? {
        let (place, kind) = instruction.split();
        match (kind, file.stages.last_mut()) {
            (AnyInstruction::From(from), _) => file.stages.push(Stage {
                from: place.with(from),
                instructions: Vec::new(),
            }),
            (AnyInstruction::Other(kind), Some(stage)) => {
                stage.instructions.push(place.with(kind));
            }
            (AnyInstruction::Other(InstructionKind::Arg(arg)), None) => {
                file.global_args.push(place.with(arg));
            }
            (AnyInstruction::Other(_), None) => {
                let keyword = place.keyword.to_uppercase();
                let kind = ParseErrorKind::BeforeFrom { keyword };
                return Err(Failure::at(place.range, kind));
            }
        }
    }
    if file.stages.is_empty() {
        let kind = if source.text().is_empty() {
            ParseErrorKind::Empty
        } else if file.global_args.is_empty() {
            ParseErrorKind::NoInstructions
        } else {
            ParseErrorKind::NoStages
        };
        return Err(Failure::at(SourceRange::at(lexer.end.1), kind));
    }
    Ok(())
}

fn read_trigger(trigger: &str) -> Result<Instruction, Failure> {
    let mut lexer = Lexer::new(trigger, Vec::new());
    let single = |range| Failure::at(range, ParseErrorKind::OnbuildNotSingle);
    let start = SourceRange::at(Position::new(1, 1));
    let first = next_instruction(&mut lexer, trigger)?.ok_or_else(|| single(start))?;
    if let Some(second) = next_instruction(&mut lexer, trigger)? {
        return Err(single(second.range));
    }
    let (place, kind) = first.split();
    match kind {
        AnyInstruction::From(_) => {
            let keyword = place.keyword.to_uppercase();
            let kind = ParseErrorKind::OnbuildTrigger { keyword };
            Err(Failure::at(place.range, kind))
        }
        AnyInstruction::Other(kind) => Ok(place.with(kind)),
    }
}

/// Reads an instruction and its heredocs.
fn next_instruction(
    lexer: &mut Lexer<'_>,
    text: &str,
) -> Result<Option<Instruction<AnyInstruction>>, Failure> {
    let Some(line) = lexer.next_logical_line()? else {
        return Ok(None);
    };
    let mut statement = split_statement(&line, lexer.directives.escape);
    let heredocs = read_heredocs(lexer, &line, &statement)?;
    statement.heredocs = heredocs;
    let (end_offset, end) = lexer.end;
    let range = SourceRange::new(line.position(0), end);
    let kind = statement
        .parse()
        .map_err(|problem| locate(problem, &line, range))?;
    Ok(Some(Instruction {
        range,
        original: text
            .get(line.offset..end_offset)
            .unwrap_or_default()
            .to_owned(),
        keyword: statement.keyword.text.to_owned(),
        comments: line.comments,
        kind,
    }))
}

/// Splits a logical line into keyword, flags and arguments.
pub(super) fn split_statement(line: &LogicalLine, escape: char) -> Statement<'_> {
    let whole = Span {
        text: &line.text,
        offset: 0,
    };
    let (keyword, _) = whole.trim().split_at_blanks();
    let (flags, arguments) = split_flags(whole.tail(keyword.range().end));
    Statement {
        keyword,
        flags,
        arguments,
        to_line_end: whole.tail(arguments.offset),
        heredocs: Vec::new(),
        escape,
    }
}

/// Reads the bodies of the heredocs that a line announces, if its instruction takes any.
pub(super) fn read_heredocs(
    lexer: &mut Lexer<'_>,
    line: &LogicalLine,
    statement: &Statement<'_>,
) -> Result<Vec<Heredoc>, Failure> {
    let Some(arguments) = heredoc_arguments(statement) else {
        return Ok(Vec::new());
    };
    let marks = find_marks(arguments.text).into_iter();
    let heredocs = marks.map(|(mark, range)| {
        let span = arguments.slice(range).range();
        let marked = SourceRange::new(line.position(span.start), line.position(span.end));
        let body = lexer.read_heredoc(&mark, marked)?;
        Ok(mark.with_body(body))
    });
    heredocs.collect()
}

/// The arguments that may announce heredocs, if the instruction takes any.
fn heredoc_arguments<'a>(statement: &Statement<'a>) -> Option<Span<'a>> {
    let (keyword, arguments) = if statement.keyword.text.eq_ignore_ascii_case("ONBUILD") {
        let (keyword, rest) = statement.arguments.split_at_blanks();
        (keyword, split_flags(rest?).1)
    } else {
        (statement.keyword, statement.arguments)
    };
    let names = ["ADD", "COPY", "RUN"];
    if !names
        .iter()
        .any(|name| name.eq_ignore_ascii_case(keyword.text))
    {
        return None;
    }
    match json_form::read(arguments) {
        Ok(Form::Text(text)) => Some(text),
        // An array that is wrong is found to be so later, with all that is known of it.
        Ok(Form::Json(_)) | Err(_) => None,
    }
}

/// The place of a problem in the file.
fn locate(problem: Problem, line: &LogicalLine, instruction: SourceRange) -> Failure {
    let range = match problem.span {
        Some(span) => SourceRange::new(line.position(span.start), line.position(span.end)),
        None => instruction,
    };
    Failure {
        instruction,
        range,
        kind: problem.kind,
    }
}

#[cfg(test)]
mod tests;

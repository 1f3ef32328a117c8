//! Parts of JSON answers: places and sources, as BuildKit's `pb.Location` and `pb.SourceInfo`.

use ashlar_engine::dockerfile::source::{Source, SourceRange};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::commands::output;
use crate::diagnostics::CliError;

/// Lines of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Location {
    /// Which of the answer's sources; there is one.
    source_index: u32,
    /// One for each line, as BuildKit has it.
    ranges: Vec<LineRange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct LineRange {
    start: LinePosition,
    end: LinePosition,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct LinePosition {
    /// Counted from 1.
    line: u32,
}

impl Location {
    /// The lines of a range.
    pub(super) fn of(range: SourceRange) -> Self {
        let lines = range.start.line..=range.end.line;
        Self {
            source_index: 0,
            ranges: lines
                .map(|line| LineRange {
                    start: LinePosition { line },
                    end: LinePosition { line },
                })
                .collect(),
        }
    }

    /// No place that is known.
    pub(super) const fn unknown() -> Self {
        Self {
            source_index: 0,
            ranges: Vec::new(),
        }
    }
}

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SourceInfo {
    filename: String,
    /// In Base64.
    data: String,
    language: &'static str,
}

impl SourceInfo {
    pub(super) fn of(source: &Source) -> Self {
        Self {
            filename: source.name().to_owned(),
            data: data(source),
            language: "Dockerfile",
        }
    }
}

/// A Dockerfile's text in Base64.
pub(super) fn data(source: &Source) -> String {
    STANDARD.encode(source.text())
}

/// Prints a JSON answer, in lines as Go's `MarshalIndent` breaks them.
pub(super) fn print_json(answer: &impl Serialize) -> Result<(), CliError> {
    output::print(|out| {
        serde_json::to_writer_pretty(&mut *out, answer)?;
        std::io::Write::write_all(out, b"\n")
    })
    .map(drop)
}

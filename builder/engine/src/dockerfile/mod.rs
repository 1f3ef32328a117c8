//! The Dockerfile language.
//!
//! ```text
//! bytes ── lexer ──► logical lines ── words, flag, json_form ──► statements
//!             ▲ heredoc bodies                                      │ instruction
//!             └───────────────────────────────────────────── parser ▼
//!                                                               Dockerfile
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`ast`], [`instruction`] | what a Dockerfile says |
//! | [`directive`], [`heredoc`], [`warning`] | parts of it |
//! | [`syntax`] | whether a file is a Dockerfile at all |
//! | [`parser`] | from text to tree |
//! | [`expand`] | variables in words |
//! | [`source`], [`diagnostic`], [`error`] | its text, places in it, and messages about them |
//! | [`duration`], [`suggest`](mod@suggest) | durations as Go has them; "did you mean" |
//!
//! Nothing here reads files or knows a build's arguments. Input is hostile: no text makes it
//! panic, and time and memory grow with its length only.

pub mod ast;
#[cfg(test)]
pub(crate) mod corpus;
pub mod diagnostic;
pub mod directive;
pub mod duration;
pub mod error;
pub mod expand;
mod flag;
pub mod heredoc;
pub mod instruction;
mod json_form;
mod lexer;
pub mod parser;
mod print;
pub mod source;
pub mod suggest;
pub mod syntax;
pub mod warning;
mod words;

pub use ast::{Dockerfile, Instruction, Stage};
pub use diagnostic::Diagnostic;
pub use directive::detect_syntax;
pub use error::{ParseError, ParseErrorKind, SyntaxPlace};
pub use expand::{Environment, ExpandError, Expanded, ExpandedWords, Expander};
pub use instruction::InstructionKind;
pub use parser::{parse, parse_onbuild};
pub use source::{Position, Source, SourceRange};
pub use suggest::suggest;
pub use syntax::check_syntax;

//! The rules of the Dockerfile language as BuildKit has them, one test for each, named after it.
//!
//! | module | rules |
//! |---|---|
//! | [`observed`] | what BuildKit was seen to do where its documents say otherwise |
//! | [`lines`] | physical lines, comments, directives, flags, JSON |
//! | [`instructions`] | what each instruction expands |
//! | [`stages`] | FROM, names, targets, platforms, ONBUILD, named contexts |
//! | [`arguments`] | ARG, ENV, and the arguments that are there by themselves |
//! | [`expansion`] | variables in words |
//! | [`heredocs`] | heredocs |
//! | [`metadata`] | the instructions that change the configuration |
//! | [`history`] | histories and whole configurations |
//! | [`properties`] | what holds for every text |
//!
//! What only running a build shows is in the end-to-end tests. Modules beside the code have tests
//! of their own; these here are read beside the rules.

mod arguments;
mod expansion;
mod heredocs;
mod history;
mod instructions;
mod lines;
mod metadata;
mod observed;
mod properties;
mod stages;

use crate::dockerfile::{Dockerfile, InstructionKind, parse};

/// A Dockerfile that must parse.
fn parsed(text: &str) -> Dockerfile {
    match parse("Dockerfile", text.as_bytes()) {
        Ok(dockerfile) => dockerfile,
        Err(error) => panic!("{text:?}: {error}"),
    }
}

/// What the first instruction after `FROM scratch` says.
fn first(instruction: &str) -> InstructionKind {
    let dockerfile = parsed(&format!("FROM scratch\n{instruction}"));
    dockerfile.stages[0].instructions[0].kind.clone()
}

/// Why a Dockerfile does not parse, with its hint behind it.
fn refused(text: &str) -> String {
    let error = match parse("Dockerfile", text.as_bytes()) {
        Ok(dockerfile) => panic!("{text:?} parses: {dockerfile:?}"),
        Err(error) => error,
    };
    match error.hint() {
        Some(hint) => format!("{} ({hint})", error.kind()),
        None => error.kind().to_string(),
    }
}

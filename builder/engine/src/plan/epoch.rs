//! `SOURCE_DATE_EPOCH`: the time that all that a build makes is to have.
//!
//! A build argument, or the default of a global ARG of that name, says it:
//!
//! | value | time |
//! |---|---|
//! | a number | seconds since 1970 |
//! | nothing | none: as if it were not given |
//! | `context` | that of the build context, if it has one: a directory has none |
//! | a named context | the same of that context |
//! | a stage | that of what the stage adds: it must be one remote source on `FROM scratch` |
//!
//! Stages that declare the argument see the number, whatever was written. Source: BuildKit,
//! `dockerfile2llb/epoch.go`.

use ashlar_model::remote::RemoteSource;

use super::PlanSources;
use super::arguments::Globals;
use super::error::PlanError;
use super::options::{NamedContext, PlanOptions};
use super::stages::named_context;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{AddInstruction, InstructionKind, SourceArgument};
use crate::dockerfile::{Dockerfile, Stage};

/// The argument's name.
const NAME: &str = "SOURCE_DATE_EPOCH";

/// The times that configurations can hold: those of the years 0 to 9999.
const POSSIBLE: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Finds the time, and puts it in the place of what was written.
pub(super) async fn resolve(
    dockerfile: &Dockerfile,
    options: &mut PlanOptions,
    globals: &mut Globals,
    sources: &PlanSources,
) -> Result<Option<i64>, PlanError> {
    let given = options.build_args.get(NAME).cloned();
    let default = || globals.get(NAME).filter(|value| !value.is_empty()).cloned();
    let Some(written) = given.clone().or_else(default) else {
        return Ok(None);
    };
    let epoch = time_of(&written, dockerfile, options, globals, sources).await;
    let epoch = epoch.map_err(|error| {
        let declared = dockerfile.global_args.iter().find(|instruction| {
            let mut declarations = instruction.kind.declarations.iter();
            given.is_none() && declarations.any(|declaration| declaration.name == NAME)
        });
        match declared {
            Some(instruction) => error
                .about(&written)
                .within(&dockerfile.source, instruction),
            None => error,
        }
    })?;
    let value = epoch.map(|epoch| epoch.to_string());
    if given.is_some() {
        match &value {
            Some(value) => options.build_args.insert(NAME.to_owned(), value.clone()),
            None => options.build_args.remove(NAME),
        };
    }
    if globals.get(NAME).is_some() {
        globals.set(NAME, value);
    }
    Ok(epoch)
}

async fn time_of(
    written: &str,
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    globals: &Globals,
    sources: &PlanSources,
) -> Result<Option<i64>, PlanError> {
    if written.is_empty() {
        return Ok(None);
    }
    let invalid = || {
        PlanError::new(format!("invalid {NAME}: {written}")).hinted(
            "it is a number of seconds since 1970, `context`, or the name of a context or of a \
             stage",
        )
    };
    if let Ok(seconds) = written.parse::<i64>() {
        return match POSSIBLE.contains(&seconds) {
            true => Ok(Some(seconds)),
            false => Err(invalid()),
        };
    }
    if written == "context" {
        return Ok(sources
            .context
            .as_ref()
            .and_then(|context| context.modified()));
    }
    match named_context(options, written, &options.platform) {
        None => {}
        Some(NamedContext::Remote(source)) => return time_of_remote(source, sources).await,
        // Directories and images have no time of their own.
        Some(_) => return Ok(None),
    }
    let mut stages = dockerfile.stages.iter();
    let lower = written.to_ascii_lowercase();
    match stages.find(|stage| stage.name() == Some(&lower)) {
        Some(stage) => {
            let within = |error: PlanError| error.within(&dockerfile.source, &stage.from);
            let source = source_of_stage(stage, dockerfile, options, globals).map_err(within)?;
            time_of_remote(&source, sources).await.map_err(within)
        }
        None => Err(invalid()),
    }
}

/// When a source from elsewhere was made: a commit, or what the server says of a file.
async fn time_of_remote(
    source: &RemoteSource,
    sources: &PlanSources,
) -> Result<Option<i64>, PlanError> {
    let files = sources.remotes.resolve(source).await?;
    let fetched = sources.remotes.fetch(&files, None).await?;
    Ok(fetched.modified())
}

/// The one remote source that a stage consists of.
fn source_of_stage(
    stage: &Stage,
    dockerfile: &Dockerfile,
    options: &PlanOptions,
    globals: &Globals,
) -> Result<RemoteSource, PlanError> {
    let expander = Expander::new(dockerfile.directives.escape);
    let mut environment = globals.values().clone();
    environment.remove(NAME);
    let base = expander.process_word(&stage.from.kind.image, &environment)?;
    if base.text != "scratch" {
        return Err(PlanError::new(format!(
            "{NAME} stage must use FROM scratch"
        )));
    }
    let mut found = None;
    for instruction in &stage.instructions {
        match &instruction.kind {
            InstructionKind::Arg(arg) => {
                for declaration in &arg.declarations {
                    let given = options.build_args.get(&declaration.name).cloned();
                    let value = match (given, &declaration.default) {
                        (Some(given), _) => given,
                        (None, Some(default)) => expander.process_word(default, &environment)?.text,
                        (None, None) => continue,
                    };
                    environment.insert(declaration.name.clone(), value);
                }
            }
            InstructionKind::Add(add) if found.is_none() => {
                let word = single_source(add)?;
                found = Some(expander.process_word(word, &environment)?.text);
            }
            InstructionKind::Add(_) => return Err(not_one_add()),
            _ => {
                return Err(PlanError::new(format!(
                    "{NAME} stage does not meet source-only requirements: unsupported {} \
                     instruction",
                    instruction.keyword
                ))
                .within(&dockerfile.source, instruction));
            }
        }
    }
    let url = found.ok_or_else(not_one_add)?;
    let source = RemoteSource::parse(&url).map_err(|error| PlanError::new(error.to_string()))?;
    source.ok_or_else(|| {
        PlanError::new(format!(
            "{NAME} stage source must be a single HTTP(S) or Git ADD"
        ))
    })
}

fn not_one_add() -> PlanError {
    PlanError::new(format!("{NAME} stage must contain exactly one remote ADD"))
}

fn single_source(add: &AddInstruction) -> Result<&str, PlanError> {
    match add.arguments.sources.as_slice() {
        [SourceArgument::Path(path)] => Ok(path),
        _ => Err(PlanError::new(format!(
            "{NAME} stage must contain exactly one remote ADD source"
        ))),
    }
}

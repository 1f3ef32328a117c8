//! Looking at a build instead of running it: `--call`, and `--check` for short.
//!
//! | module | subject |
//! |---|---|
//! | `check` | what the linter finds, and what would fail |
//! | `outline` | what a target can be given |
//! | `targets` | the stages |
//! | `describe` | these methods themselves |
//! | `answer` | parts that the JSON answers share |
//!
//! Answers go to standard output, as tables or as JSON. The JSON has the fields of buildx's, so
//! that what reads the one reads the other; fields that buildx leaves out where they are zero or
//! empty are written here. Images are asked for as a build does, since stages inherit from them;
//! but no layer is fetched, no step runs, and no store is needed.

mod answer;
mod check;
mod describe;
mod outline;
mod targets;

use std::sync::Arc;

use ashlar_engine::event::{BuildEvent, EventSink};
use ashlar_engine::plan::{ContextSource, PlanError, PlanOptions, PlanSources};
use ashlar_store::home::Home;
use ashlar_workshop::images::Configurations;
use ashlar_workshop::sources::Sources;
use tempfile::TempDir;

use super::input::Input;
use super::remote::{InputFetcher, RemoteInput};
use super::secrets::Offered;
use super::{open_named, options, progress_mode};
use crate::cli::build::BuildArgs;
use crate::cli::value::Method;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;
use crate::ui::{Progress, ProgressMode};
use crate::workshop::{self, run_interruptible};

/// Does what `--call` asks for.
pub(super) fn run(args: &BuildArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let call = args.call();
    if call.method == Method::Describe {
        return describe::run(call.json);
    }
    let view = View::open(args, settings)?;
    match call.method {
        Method::Targets => targets::run(&view, call.json),
        Method::Outline => outline::run(&view, call.json),
        _ => check::run(&view, call),
    }
}

/// What is looked at.
struct View<'a> {
    args: &'a BuildArgs,
    settings: &'a Settings,
    mode: ProgressMode,
    options: PlanOptions,
    input: Input,
    home: Home,
    elsewhere: Arc<Sources>,
    /// Stands in for a store where there is none; removed at the end.
    _temporary: Option<TempDir>,
}

impl<'a> View<'a> {
    fn open(args: &'a BuildArgs, settings: &'a Settings) -> Result<Self, CliError> {
        let options = options::plan_options(args, settings)?;
        let mode = progress_mode(args, settings)?;
        let (home, temporary) = home(settings)?;
        let offered = Arc::new(Offered::read(args, settings.environment())?);
        let variables = settings.environment().variables();
        let elsewhere = Arc::new(Sources::new(home.clone(), &variables, offered));
        let frontend = options::frontend(&options);
        let input = match RemoteInput::of(args, &options)? {
            None => Input::read(args, &home, frontend, None)?,
            Some(remote) => {
                let progress = Progress::start(mode, settings);
                let mut fetcher = InputFetcher {
                    args,
                    sources: &elsewhere,
                    events: progress.as_ref(),
                    frontend,
                    vertices: 0,
                };
                let fetched = run_interruptible(fetcher.fetch(&remote));
                progress.finish();
                fetched?
            }
        };
        Ok(Self {
            args,
            settings,
            mode,
            options,
            input,
            home,
            elsewhere,
            _temporary: temporary,
        })
    }

    /// Does some planning, and shows the progress of what it fetches. `events` stands between the
    /// planning and the display.
    fn plan<T, F: Future<Output = Result<T, PlanError>>>(
        &self,
        events: impl FnOnce(Arc<Progress>) -> Arc<dyn EventSink>,
        work: impl FnOnce(PlanSources) -> F,
    ) -> Result<Result<T, PlanError>, CliError> {
        let progress = Progress::start(self.mode, self.settings);
        let events = events(Arc::clone(&progress));
        let outcome = self.plan_with(&events, work);
        progress.finish();
        outcome
    }

    fn plan_with<T, F: Future<Output = Result<T, PlanError>>>(
        &self,
        events: &Arc<dyn EventSink>,
        work: impl FnOnce(PlanSources) -> F,
    ) -> Result<Result<T, PlanError>, CliError> {
        let warnings = {
            let events = Arc::clone(events);
            Arc::new(move |message: &str| {
                events.emit(BuildEvent::Warning {
                    message: message.into(),
                });
            })
        };
        let workshop = workshop::open(self.home.clone(), self.settings, warnings)?;
        let library = workshop.library(self.args.pull, self.settings.clock().now());
        let sources = PlanSources {
            images: Arc::new(Configurations::new(library)),
            remotes: self.elsewhere.clone(),
            vertices: 0,
            context: self
                .input
                .context
                .clone()
                .map(|context| context as Arc<dyn ContextSource>),
            named: open_named(&self.home),
            events: Arc::clone(events),
        };
        run_interruptible(async { Ok(Box::pin(work(sources)).await) })
    }
}

/// The local store if there is one, for the images in it; else a directory that is gone when the
/// command ends.
fn home(settings: &Settings) -> Result<(Home, Option<TempDir>), CliError> {
    if let Ok(root) = settings.home()
        && root.join("FORMAT").exists()
        && let Ok(home) = Home::open(root)
    {
        return Ok((home, None));
    }
    let temporary = TempDir::with_prefix("ashlar-").map_err(|error| {
        CliError::environment("cannot make a temporary directory").caused_by(error)
    })?;
    let home = Home::open(temporary.path())?;
    Ok((home, Some(temporary)))
}

//! `ashlar build`.
//!
//! | module | subject |
//! |---|---|
//! | `call` | looking at a build instead of running it: `--call`, `--check` |
//! | `emulation` | what other platforms this machine runs programs of |
//! | `input` | the Dockerfile and the context, from directories or standard input |
//! | `options` | the command line, as options of the engine |
//! | `losses` | layers that are found lost by an output |
//! | `outputs` | where the image goes |
//! | `remote` | the same from elsewhere: git repositories and URLs |
//! | `report` | failures with their lines of the Dockerfile |
//! | `secrets` | what steps may be shown and no result holds |
//! | `sending` | the end of a build that shares its results |
//! | `results` | what is printed and written for programs |

mod call;
mod emulation;
mod input;
mod losses;
mod options;
mod outputs;
mod remote;
mod report;
mod results;
mod secrets;
mod sending;

use std::sync::Arc;

use ashlar_engine::context::Context;
use ashlar_engine::dockerfile::Dockerfile;
use ashlar_engine::driver::{self, BuildError, BuildRequest, Built};
use ashlar_engine::event::{BuildEvent, EventSink, VertexId};
use ashlar_engine::plan::source::Fault;
use ashlar_engine::plan::{
    self, ContextSource, OpenDirectory, PlanOptions, PlanSources, SourceError,
};
use ashlar_engine::schedule::{ScheduleOptions, Surroundings};
use ashlar_engine::share::SharedResults;
use ashlar_exec::executor::isolation_class;
use ashlar_model::digest::LayerId;
use ashlar_model::executor::PackRequest;
use ashlar_sharing::sharing::Sharing;

use crate::cli::build::BuildArgs;
use crate::cli::value::Method;
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;
use crate::sources::{Sources, stat_cache};
use crate::trace::BuildTrace;
use crate::ui::{Progress, ProgressMode};
use crate::workshop::{WarningSink, Workshop, run_interruptible};
use input::Input;
use outputs::Outputs;
use remote::{InputFetcher, RemoteInput};
use secrets::Offered;

/// Builds an image.
#[expect(
    clippy::too_many_lines,
    reason = "what a build is put together from, in order"
)]
pub fn run(args: &BuildArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    if args.call().method != Method::Build {
        return call::run(args, settings);
    }
    let outputs = Outputs::parse(args)?;
    let options = options::plan_options(args, settings)?;
    let offered = Arc::new(Offered::read(args, settings.environment())?);
    let jobs = settings.jobs(args.jobs)?.get();
    let mode = progress_mode(args, settings)?;
    let home = settings.open_home()?;
    // What is unpacked or noted of a context is part of this build already.
    let _in_use = home.in_use()?;
    let frontend = options::frontend(&options);
    let remote = RemoteInput::of(args, &options)?;
    let local = match &remote {
        None => Some(Input::read(args, &home, frontend, None)?),
        Some(_) => None,
    };

    let progress = Progress::start(mode, settings);
    let events: Arc<dyn EventSink> = progress.clone();
    let warnings = warning_sink(&events);
    for message in &offered.warnings {
        warnings(message);
    }
    let workshop = Workshop::with_caches(home.clone(), settings, warnings, args.cache_flags())?;
    let cache_wait = match args.cache_wait {
        // Who says where to leave results wants them there.
        None if workshop.sharing().fills() => sending::UNTIL_ALL_IS_SENT,
        wait => settings.cache_wait(wait)?,
    };
    let elsewhere = Arc::new(Sources::new(
        home.clone(),
        settings,
        Arc::clone(&offered) as _,
    ));
    let executor = workshop.executor().clone().offering(offered);
    let trace = BuildTrace::start(args.trace.as_ref(), settings, &warning_sink(&events))?;
    let result = run_interruptible(trace.within(settings, async {
        let mut fetcher = InputFetcher {
            args,
            sources: &elsewhere,
            events: events.as_ref(),
            frontend,
            vertices: 0,
        };
        let input = match (local, &remote) {
            (Some(input), _) => input,
            (None, Some(remote)) => fetcher.fetch(remote).await?,
            (None, None) => return Err(CliError::bug("there is nothing to build")),
        };
        let dockerfile = input
            .dockerfile()
            .inspect_err(|_| warn_of_beginning(&input, &options, &events))?;
        let sources = PlanSources {
            remotes: elsewhere.clone(),
            vertices: fetcher.vertices,
            images: Arc::new(workshop.library(args.pull, settings.clock().now())),
            context: input
                .context
                .clone()
                .map(|context| context as Arc<dyn ContextSource>),
            named: open_named(&home),
            events: Arc::clone(&events),
        };
        let request = |no_cache| BuildRequest {
            dockerfile,
            plan: &options,
            schedule: ScheduleOptions {
                jobs,
                no_cache,
                wanted: PackRequest {
                    diff_id: true,
                    blobs: outputs.blob_forms(),
                },
                blobs_here: outputs.read_blobs(),
            },
            isolation: isolation_class().to_owned(),
        };
        let surroundings = Surroundings {
            home: home.clone(),
            remotes: elsewhere.clone(),
            executor: Arc::new(executor),
            shared: shared_results(workshop.sharing()),
            events: Arc::clone(&events),
        };
        let build = async |no_cache| {
            let built = driver::build(request(no_cache), &sources, surroundings.clone());
            Box::pin(built).await
        };
        let built = build(args.no_cache).await;
        if let Some(context) = &input.context {
            // Only speed is lost if the cache cannot be written.
            drop(context.context.save_stat_cache(&home.meter()));
        }
        let sharing = workshop.sharing();
        sharing.tell_refused();
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                // What was done is done: others need not do it again.
                sending::finish(sharing, cache_wait, None, &events).await;
                return Err(failure(error, dockerfile));
            }
        };
        let local = workshop.executor();
        sharing.save_mounts(&local.used_caches(), local).await;
        let deliver = async |built: &Built| {
            Box::pin(outputs.deliver(built, &workshop, settings, &events)).await
        };
        let again = async |lost: &[LayerId]| {
            if let Some(shared) = &surroundings.shared {
                shared.distrust(lost);
            }
            // What is not lost is found again, also by a build that was to use nothing old.
            let built = build(false).await;
            built.map_err(|error| failure(error, dockerfile))
        };
        let (built, delivered) =
            losses::deliver(built, &home, events.as_ref(), deliver, again).await;
        let vertex = VertexId(built.vertices + outputs.vertices() + 1);
        sending::finish(sharing, cache_wait, Some(vertex), &events).await;
        Ok((built, delivered?))
    }));
    trace.finish();
    progress.finish();
    let (built, delivered): (Built, outputs::Delivered) = result?;
    results::write(args, &built, &delivered)?;
    Ok(ExitCode::Success)
}

/// Shows warnings among the build's events.
fn warning_sink(events: &Arc<dyn EventSink>) -> WarningSink {
    let events = Arc::clone(events);
    Arc::new(move |message: &str| {
        events.emit(BuildEvent::Warning {
            message: message.into(),
        });
    })
}

/// The results of other machines, if there is a cache, or some of those that are here already are
/// not to be used.
fn shared_results(sharing: &Sharing) -> Option<Arc<dyn SharedResults>> {
    let asked = !sharing.caches().is_empty() || sharing.demands_proof();
    asked.then(|| Arc::new(sharing.clone()) as _)
}

fn progress_mode(args: &BuildArgs, settings: &Settings) -> Result<ProgressMode, CliError> {
    if args.quiet {
        Ok(ProgressMode::Quiet)
    } else {
        settings.progress(args.progress)
    }
}

/// Warns of what stands before the mistake that makes a text no Dockerfile.
fn warn_of_beginning(input: &Input, options: &PlanOptions, events: &Arc<dyn EventSink>) {
    let error = input.parsed.as_ref().err();
    if let Some(beginning) = error.and_then(|error| error.beginning()) {
        // Wrong settings of the linter are not what is wrong first.
        drop(plan::check_beginning(beginning, options, events));
    }
}

fn failure(error: BuildError, dockerfile: &Dockerfile) -> CliError {
    match error {
        BuildError::Plan(error) => report::plan_error(*error),
        BuildError::Run(error) => report::failure(error, &dockerfile.source),
    }
}

/// Opens directories that `--build-context` names, with their own ignore files.
fn open_named(home: &ashlar_store::home::Home) -> Arc<OpenDirectory> {
    let home = home.clone();
    Arc::new(move |path| {
        let path = &input::absolute(path);
        let rules = input::ignore_rules(path, None).map_err(|error| SourceError {
            message: error.message().to_owned(),
            hint: None,
            fault: Fault::Input,
            cause: None,
        })?;
        let context = Context::open(path, rules, Some(stat_cache(&home, path)))?;
        Ok(Arc::new(context) as Arc<dyn ContextSource>)
    })
}

//! `ashlar build`.
//!
//! | module | subject |
//! |---|---|
//! | `call` | looking at a build instead of running it: `--call`, `--check` |
//! | `farm` | the farm that a build runs on |
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
mod farm;
mod input;
mod losses;
mod options;
mod outputs;
mod remote;
mod report;
mod results;
mod secrets;
mod sending;

use std::sync::{Arc, OnceLock};

use ashlar_engine::context::Context;
use ashlar_engine::dockerfile::Dockerfile;
use ashlar_engine::driver::{self, BuildError, BuildRequest, Built};
use ashlar_engine::event::{BuildEvent, EventSink, VertexId};
use ashlar_engine::plan::source::Fault;
use ashlar_engine::plan::{
    self, ContextSource, OpenDirectory, PlanOptions, PlanSources, SourceError,
};
use ashlar_engine::schedule::{Failure, Fresh, ScheduleOptions, Surroundings};
use ashlar_engine::share::SharedResults;
use ashlar_exec::executor::isolation_class;
use ashlar_model::digest::LayerId;
use ashlar_model::executor::PackRequest;
use ashlar_remote::address::FarmSpec;
use ashlar_remote::client::FarmRunner;
use ashlar_sharing::sharing::Sharing;
use ashlar_workshop::sources::{Sources, stat_cache};

use crate::cli::build::BuildArgs;
use crate::cli::value::Method;
use crate::commands::farm::{needed, to_cli_error};
use crate::diagnostics::CliError;
use crate::exit_code::ExitCode;
use crate::settings::Settings;
use crate::shared::{CacheFlags, FarmCache};
use crate::trace::BuildTrace;
use crate::ui::{Progress, ProgressMode};
use crate::workshop::{self, WarningSink, run_interruptible_then};
use farm::BuildFarm;
use input::Input;
use outputs::Outputs;
use remote::{InputFetcher, RemoteInput};
use secrets::Offered;

/// Builds an image.
pub fn run(args: &BuildArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    if args.call().method != Method::Build {
        return call::run(args, settings);
    }
    let farm = settings.remote(args.remote.as_ref())?;
    match build(args, settings, farm.as_ref(), Purpose::Build)? {
        Done::Built(done) => {
            let (built, delivered) = &*done;
            results::write(args, built, delivered)?;
            Ok(ExitCode::Success)
        }
        Done::Submitted(_) => Err(CliError::bug("a build was given away")),
    }
}

/// Gives a build to a farm; gives the operation's name.
pub(super) fn submit(args: &BuildArgs, settings: &Settings) -> Result<String, CliError> {
    let farm = needed(args.remote.as_ref(), settings)?;
    match build(args, settings, Some(&farm), Purpose::Submit)? {
        Done::Submitted(operation) => Ok(operation),
        Done::Built(_) => Err(CliError::bug("a build was not given away")),
    }
}

/// What is done with a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It is built, here or on a farm, and its image delivered.
    Build,
    /// It is given to a farm, and left there.
    Submit,
}

/// What came of it.
enum Done {
    Built(Box<(Built, outputs::Delivered)>),
    /// The operation's name.
    Submitted(String),
}

#[expect(
    clippy::too_many_lines,
    reason = "what a build is put together from, in order"
)]
fn build(
    args: &BuildArgs,
    settings: &Settings,
    farm_spec: Option<&FarmSpec>,
    purpose: Purpose,
) -> Result<Done, CliError> {
    if farm_spec.is_some() {
        farm::refuse_other_caches(args)?;
    }
    let outputs = Outputs::parse(args)?;
    if purpose == Purpose::Submit && outputs.are_here() {
        return Err(
            CliError::usage("a build that is left to a farm can only push its image")
                .hint("give --push with a --tag, or build with ashlar build --remote"),
        );
    }
    let options = options::plan_options(args, settings)?;
    let offered = Arc::new(Offered::read(args, settings.environment())?);
    let jobs = settings.jobs(args.jobs)?.get();
    let mode = match purpose {
        // What it says is said elsewhere.
        Purpose::Submit if args.progress.is_none() => ProgressMode::Quiet,
        _ => progress_mode(args, settings)?,
    };
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
    let caches = CacheFlags {
        farm: farm_spec.map(|spec| FarmCache {
            server: &spec.server,
            is_needed: !args.remote_fallback,
        }),
        ..args.cache_flags()
    };
    let workshop = workshop::open_with(home.clone(), settings, Arc::clone(&warnings), caches)?;
    let cache_wait = match args.cache_wait {
        // Who says where to leave results wants them there.
        None if workshop.sharing().fills() => sending::UNTIL_ALL_IS_SENT,
        wait => settings.cache_wait(wait)?,
    };
    let elsewhere = Arc::new(Sources::new(
        home.clone(),
        &settings.environment().variables(),
        Arc::clone(&offered) as _,
    ));
    let executor = workshop
        .executor()
        .clone()
        .offering(Arc::clone(&offered) as _);
    let opened: OnceLock<Arc<FarmRunner>> = OnceLock::new();
    let trace = BuildTrace::start(args.trace.as_ref(), settings, &warning_sink(&events))?;
    let work = trace.within(settings, async {
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
        let mut options = options.clone();
        let farm = match farm_spec {
            None => None,
            Some(spec) => {
                let opening = farm::Opening {
                    spec,
                    settings,
                    workshop: &workshop,
                    offered: &offered,
                    pushes: outputs.pushed_names(),
                    events: &events,
                    warnings: Arc::clone(&warnings),
                    falls_back: args.remote_fallback,
                };
                opening.open(&mut options).await?
            }
        };
        if let Some(farm) = &farm {
            // To be told if the build is called off.
            drop(opened.set(Arc::clone(&farm.runner)));
        }
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
        if let (Purpose::Submit, Some(farm)) = (purpose, &farm) {
            let isolation = farm.isolation();
            let planned = driver::prepare(dockerfile, &options, isolation, &sources);
            let planned = Box::pin(planned).await;
            let planned = planned.map_err(|error| report::plan_error(*error))?;
            let warn = |message: String| warnings(&message);
            let pushes = outputs.pushes();
            let given = farm.runner.submit(&planned, args.no_cache, &pushes, &warn);
            let operation = Box::pin(given).await.map_err(to_cli_error)?;
            return Ok(Done::Submitted(operation));
        }
        let request = |no_cache, farm: Option<&BuildFarm>| BuildRequest {
            dockerfile,
            plan: &options,
            schedule: ScheduleOptions {
                jobs,
                fresh: if no_cache { Fresh::All } else { Fresh::None },
                wanted: PackRequest {
                    diff_id: true,
                    blobs: outputs.blob_forms(farm.is_some()),
                },
                blobs_here: outputs.read_blobs(),
                ..ScheduleOptions::default()
            },
            isolation: farm.map_or_else(|| isolation_class().to_owned(), BuildFarm::isolation),
        };
        let surroundings = Surroundings {
            home: home.clone(),
            remotes: elsewhere.clone(),
            executor: Arc::new(executor),
            shared: shared_results(workshop.sharing()),
            events: Arc::clone(&events),
            farm: None,
        };
        let build_on = async |no_cache, farm: Option<&BuildFarm>| {
            let around = Surroundings {
                farm: farm.map(|farm| farm.for_engine(args.remote_fallback)),
                ..surroundings.clone()
            };
            Box::pin(driver::build(request(no_cache, farm), &sources, around)).await
        };
        let build = async |no_cache| match build_on(no_cache, farm.as_ref()).await {
            Err(BuildError::Run(Failure::Farm(why))) if args.remote_fallback => {
                farm::tell_fallback(&why, &events);
                build_on(no_cache, None).await
            }
            built => built,
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
            let by = farm.as_ref().map(|farm| &*farm.runner);
            Box::pin(outputs.deliver(built, (&workshop, by), settings, &events)).await
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
        Ok(Done::Built(Box::new((built, delivered?))))
    });
    let result = run_interruptible_then(work, async {
        if let Some(runner) = opened.get() {
            runner.client().settle().await;
            runner.save_hints(&home);
        }
    });
    trace.finish();
    progress.finish();
    result
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

//! `--remote`: the farm that a build runs on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::event::{BuildEvent, EventSink};
use ashlar_engine::plan::PlanOptions;
use ashlar_engine::schedule::{Farm as EngineFarm, FarmFailure};
use ashlar_exec::executor::isolation_class;
use ashlar_image::registry::login_text;
use ashlar_model::executor::StepExecutor;
use ashlar_model::reference::Reference;
use ashlar_remote::address::FarmSpec;
use ashlar_remote::client::farm::requirements;
use ashlar_remote::client::{BuildOptions, Farm, FarmClient, FarmRunner, HintPath, Offer};
use ashlar_remote::order;
use ashlar_store::home::Home;
use ashlar_workshop::sources::bundle_hints;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::sleep;

use super::secrets::Offered;
use crate::cli::build::BuildArgs;
use crate::cli::value::CacheArg;
use crate::commands::farm::{connect, pinned, reach};
use crate::diagnostics::{CliError, ErrorKind};
use crate::settings::Settings;
use crate::workshop::{WarningSink, Workshop};

/// How often a farm without workers is asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// How long a build tries to reach its farm: its address may be wrong.
const CONNECTED: Duration = Duration::from_secs(10);
/// The same for a farm that has answered before.
const ANSWERED: Duration = Duration::from_secs(60);

/// A farm, ready to be given the work of one build.
pub(super) struct BuildFarm {
    pub(super) runner: Arc<FarmRunner>,
    isolation: String,
}

/// What a build gives to its farm.
pub(super) struct Opening<'a> {
    pub(super) spec: &'a FarmSpec,
    pub(super) settings: &'a Settings,
    pub(super) workshop: &'a Workshop,
    pub(super) offered: &'a Offered,
    pub(super) pushes: Vec<Reference>,
    pub(super) events: &'a Arc<dyn EventSink>,
    pub(super) warnings: WarningSink,
    /// Whether the build goes on here if the farm has no worker.
    pub(super) falls_back: bool,
}

impl Opening<'_> {
    /// Makes a farm ready for the build. `None` if there is none to be had, and the build goes on
    /// here.
    pub(super) async fn open(
        &self,
        options: &mut PlanOptions,
    ) -> Result<Option<BuildFarm>, CliError> {
        match self.try_open(options).await {
            Err(error) if self.falls_back && error.kind() == ErrorKind::Environment => {
                let message = format!("{}: building here", error.message());
                self.events.emit(BuildEvent::Warning {
                    message: message.into(),
                });
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }

    /// Connects to the farm, waits for a worker, and makes the options those of its workers.
    async fn try_open(&self, options: &mut PlanOptions) -> Result<BuildFarm, CliError> {
        let warnings = Arc::clone(&self.warnings);
        let patience = self.patience(CONNECTED);
        let client = connect(self.spec, self.settings, warnings, patience).await?;
        let (farm, isolation) = self.await_workers(&client, options).await?;
        if !farm.order_versions.contains(&order::VERSION) {
            return Err(CliError::environment(
                "the farm's workers do not understand this version of ashlar",
            )
            .hint("run the same version of Ashlar here and on the farm's workers"));
        }
        let mut recipients = pinned(self.spec)?;
        if recipients.is_empty() {
            recipients.clone_from(&farm.recipients);
        }
        let registries = self.settings.environment().registry();
        let (secrets, agents) = self.offered.for_farm();
        let offer = Offer {
            secrets,
            agents,
            logins: Arc::new(move |image: &Reference| {
                login_text(image.registry(), image.repository(), &registries)
            }),
            pushes: self.pushes.clone(),
            recipients,
        };
        let home = self.workshop.home().clone();
        let executor: Arc<dyn StepExecutor> = Arc::new(self.workshop.executor().clone());
        let hints = hints(&home);
        let options = BuildOptions {
            build: random_name()?,
            labels: self.spec.labels.clone(),
            priority: self.spec.priority,
        };
        let runner = FarmRunner::new(client, options, offer, (home, executor), hints);
        Ok(BuildFarm {
            runner: Arc::new(runner),
            isolation,
        })
    }

    /// A build that can be made here does not wait.
    const fn patience(&self, patience: Duration) -> Duration {
        if self.falls_back {
            Duration::ZERO
        } else {
            patience
        }
    }

    /// Waits until the farm has a worker for the build; gives how it isolates steps.
    async fn await_workers(
        &self,
        client: &FarmClient,
        options: &mut PlanOptions,
    ) -> Result<(Farm, String), CliError> {
        let mut told = false;
        loop {
            let patience = self.patience(ANSWERED);
            let farm = reach(|| client.describe(), patience, &self.warnings).await?;
            // Workers of the image's own platform run its programs without an emulator.
            for platform in [options.platform.clone(), options.build_platform.clone()] {
                let mut required = requirements(&platform);
                required.extend(self.spec.labels.clone());
                let kind = farm.kind(&required);
                if let Some(isolation) = kind.and_then(|kind| kind.isolation()) {
                    let isolation = isolation.to_owned();
                    options.build_platform = platform;
                    options.emulated.clear();
                    return Ok((farm, isolation));
                }
            }
            let wanted = self.wanted(options);
            if self.falls_back {
                return Err(CliError::environment(format!(
                    "the farm has no worker for {wanted}"
                )));
            }
            if !told {
                told = true;
                self.events.emit(BuildEvent::Warning {
                    message: format!(
                        "the farm has no worker for {wanted}: the build waits for one"
                    )
                    .into(),
                });
            }
            sleep(ASKED_AGAIN).await;
        }
    }

    /// What workers are wanted for, as people read it.
    fn wanted(&self, options: &PlanOptions) -> String {
        let labels = self.spec.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        match labels.is_empty() {
            true => options.platform.to_string(),
            false => format!("{} with {}", options.platform, labels.join(", ")),
        }
    }
}

impl BuildFarm {
    /// How its workers isolate steps.
    pub(super) fn isolation(&self) -> String {
        self.isolation.clone()
    }

    /// The farm as the engine sees it. Where steps are isolated here as there, it goes on here with
    /// what the farm has not done; else the build has to begin again.
    pub(super) fn for_engine(&self, falls_back: bool) -> EngineFarm {
        EngineFarm {
            runner: Arc::clone(&self.runner) as _,
            fall_back: falls_back && self.isolation == isolation_class(),
        }
    }
}

/// Says that a build begins again without its farm.
pub(super) fn tell_fallback(why: &FarmFailure, events: &Arc<dyn EventSink>) {
    events.emit(BuildEvent::Warning {
        message: format!("{why}: building here").into(),
    });
}

/// The cache of a build on a farm is the farm's.
pub(super) fn refuse_other_caches(args: &BuildArgs) -> Result<(), CliError> {
    let others = [
        (
            "--cache",
            args.caches.iter().any(|cache| *cache != CacheArg::None),
        ),
        ("--cache-from", !args.cache_from.is_empty()),
        ("--cache-to", !args.cache_to.is_empty()),
    ];
    match others.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => Err(CliError::usage(format!(
            "{flag} cannot be used with a farm: its own cache is the build's cache"
        ))
        .hint(format!(
            "leave {flag} out, or build here with --remote none"
        ))),
    }
}

/// Where it is remembered what the farm has of a context.
fn hints(home: &Home) -> HintPath {
    let home = home.clone();
    Arc::new(move |directory: &Path| Some(bundle_hints(&home, directory)))
}

/// A name for a build that nobody else has, or can guess.
fn random_name() -> Result<String, CliError> {
    use std::fmt::Write as _;
    let mut bytes = [0_u8; 16];
    // Up to 256 bytes come whole: getrandom(2).
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|errno| {
        CliError::environment("the kernel gives no random numbers")
            .caused_by(std::io::Error::from(errno))
    })?;
    let mut name = String::with_capacity(32);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _infallible = write!(name, "{byte:02x}");
    }
    Ok(name)
}

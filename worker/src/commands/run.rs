//! `ashlar-worker run`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ashlar_exec::executor::{BlobFetcher, LocalExecutor, isolation_class};
use ashlar_exec::sandbox::IdChoice;
use ashlar_model::descriptor::Descriptor;
use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_model::platform::Platform;
use ashlar_model::reference::Reference;
use ashlar_remote::order;
use ashlar_sharing::sharing::Proof;
use ashlar_store::clock;
use ashlar_store::home::Home;
use ashlar_store::task::spawn;
use ashlar_workshop::servers::Servers;
use ashlar_workshop::{WarningSink, proof};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::keygen;
use crate::attach::{self, Connect, Identity, Line};
use crate::capacity::Limits;
use crate::drain::drain;
use crate::failure::Failure;
use crate::farm::Farm;
use crate::holdings::Survey;
use crate::homes::Homes;
use crate::settings::Settings;
use crate::settings::env::Environment;
use crate::text::shortened;
use crate::worker::{Hands, Parts, Worker};
use crate::{http, log, notify};

/// How often memory and processors are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often layers are, while nothing ends.
const SURVEY: Duration = Duration::from_secs(30);
/// The longest name of a worker.
const LONGEST_NAME: usize = 100;

/// Runs the worker until it is told to stop.
pub fn run(settings: &Settings, environment: &Environment) -> Result<u8, Failure> {
    let filter = log::filter(&settings.log).map_err(Failure::usage)?;
    log::start(filter, settings.log_format, environment.no_color());
    let key = keygen::read(settings.farm_key.as_deref())?;
    let variables = environment.handed_on();
    let quiet: WarningSink = Arc::new(|text: &str| tracing::warn!("{text}"));
    let servers = Servers::new(variables.clone(), None, Arc::clone(&quiet));
    let proof = read_proof(settings, environment, &quiet)?;
    let farm = Arc::new(Farm::new(settings.farm.clone(), &servers)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start threads").caused_by(error))?;
    runtime.block_on(try_sandbox(&settings.root))?;

    let (line, mut messages) = Line::new();
    let recipient = key.recipient().to_string();
    let worker = Worker::new(Parts {
        line: Arc::clone(&line),
        farm: Arc::clone(&farm),
        homes: Homes::new(settings.root.clone(), settings.limit),
        key,
        proof,
        variables,
        insecure_registries: settings.insecure_registries.clone(),
        holder: settings.name.clone(),
        limits: Limits {
            slots: settings.slots,
            memory_reserve: settings.memory_reserve,
        },
    });
    let identity = identity(settings, recipient)?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let _pages = serve_pages(settings, &worker).await?;
        let _watching = spawn(watch(Arc::clone(&worker)));
        let _surveying = spawn(survey(Arc::clone(&worker)));
        let connect: Connect = Arc::new(move || {
            let farm = Arc::clone(&farm);
            Box::pin(async move { Ok(farm.settings()) })
        });
        let hands = Hands(Arc::clone(&worker));
        let attached = Arc::clone(&line);
        let staying = spawn(async move {
            attach::stay(&identity, &connect, &attached, &mut messages, &hands).await;
        });
        let _announcing = spawn(announce(line.attached(), environment.clone()));
        tracing::info!(
            farm = %settings.farm.address,
            name = settings.name,
            slots = settings.slots,
            root = %settings.root.display(),
            version = env!("CARGO_PKG_VERSION"),
            "started"
        );
        signals.next().await;
        tracing::info!("stopping: work may end");
        notify::tell(environment.notify_socket(), "STOPPING=1");
        drain(&worker, settings.grace, signals.next()).await;
        drop(staying);
        Ok(())
    });
    // What does not end is killed with this process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served.map(|()| {
        tracing::info!("stopped");
        0
    })
}

/// The keys that results are signed with, and those that results of others are.
fn read_proof(
    settings: &Settings,
    environment: &Environment,
    warnings: &WarningSink,
) -> Result<Proof, Failure> {
    let clock = clock::system();
    let now = move || {
        let since = clock().duration_since(UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        i64::try_from(seconds).unwrap_or(i64::MAX)
    };
    let around = proof::Around {
        variable: &|name| environment.named(name),
        now: Arc::new(now),
        warnings,
    };
    Ok(proof::read(
        settings.cache_sign.as_ref(),
        &settings.cache_trust,
        &around,
    )?)
}

/// Fails unless this machine can run steps, in the words of a build that cannot.
async fn try_sandbox(root: &Path) -> Result<(), Failure> {
    let cannot = |what: String| Failure::new(what).hinted("give --root DIR");
    std::fs::create_dir_all(root).map_err(|error| {
        cannot(format!("cannot make the directory {}", root.display())).caused_by(error)
    })?;
    let home = Home::open(&root.join("probe"))
        .map_err(|error| cannot(format!("cannot use {}", root.display())).caused_by(error))?;
    let warnings = Arc::new(|text: &str| tracing::warn!("{text}"));
    let executor = LocalExecutor::new(home, IdChoice::Best, Arc::new(Nothing), warnings);
    executor
        .remove_trees(Vec::new())
        .await
        .map_err(Failure::unable)
}

/// Whoever only tries needs no image.
struct Nothing;

impl BlobFetcher for Nothing {
    fn fetch<'a>(
        &'a self,
        _blob: &'a Descriptor,
        _repositories: &'a [Reference],
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Err(StepError::Cancelled) })
    }
}

fn identity(settings: &Settings, recipient: String) -> Result<Identity, Failure> {
    let mut id = [0; 16];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::new("the kernel gives no random numbers").caused_by(error))?;
    Ok(Identity {
        id: hex::encode(id),
        name: shortened(&settings.name, LONGEST_NAME).to_owned(),
        slots: settings.slots,
        properties: properties(settings),
        instances: settings.instances.clone(),
        order_versions: vec![order::VERSION],
        recipient,
    })
}

/// What this worker has: what matters to results, and its labels.
fn properties(settings: &Settings) -> Vec<(String, String)> {
    let platform = Platform::host();
    let mut properties = vec![
        ("os".to_owned(), platform.os.clone()),
        ("arch".to_owned(), platform.arch.clone()),
        ("isolation".to_owned(), isolation_class().to_owned()),
    ];
    if let Some(variant) = &platform.variant {
        properties.push(("variant".to_owned(), variant.clone()));
    }
    let labels = settings.labels.iter();
    properties.extend(labels.map(|label| (label.name.clone(), label.value.clone())));
    properties
}

/// Says again and again how much more work is taken.
async fn watch(worker: Arc<Worker>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        worker.tell_capacity();
    }
}

/// Says which layers are here: when work has ended, and now and then.
async fn survey(worker: Arc<Worker>) {
    let mut survey = Survey::default();
    loop {
        let homes = Arc::clone(&worker);
        let looking = tokio::task::spawn_blocking(move || {
            let held = survey.held(&homes.homes.all());
            (survey, held)
        });
        let Ok((again, held)) = looking.await else {
            return;
        };
        survey = again;
        worker.metrics.set_layers(held.len());
        worker.line.set_holdings(held);
        drop(tokio::time::timeout(SURVEY, worker.layers_changed()).await);
        // Those that end one after the other are looked at together.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Tells the service manager when the worker is connected for the first time.
async fn announce(mut attached: tokio::sync::watch::Receiver<bool>, environment: Environment) {
    if attached.wait_for(|is_attached| *is_attached).await.is_ok() {
        notify::tell(environment.notify_socket(), "READY=1");
    }
}

/// Serves the pages for as long as the task is held.
async fn serve_pages(
    settings: &Settings,
    worker: &Arc<Worker>,
) -> Result<Option<ashlar_store::task::Task<()>>, Failure> {
    let Some(address) = &settings.http else {
        return Ok(None);
    };
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot listen on {address}")).caused_by(error)
    };
    let listener = TcpListener::bind(address.as_str()).await.map_err(failed)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "pages");
    }
    let worker = Arc::clone(worker);
    Ok(Some(spawn(async move {
        if let Err(error) = http::serve(listener, worker).await {
            tracing::error!("the pages are served no more: {error}");
        }
    })))
}

/// Those that end the worker.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let failed = |error| Failure::new("cannot listen for signals").caused_by(error);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

//! `ashlar-cache serve`.
//!
//! # How it stops
//!
//! The first SIGTERM or SIGINT closes the socket, answers `/readyz` with no, ends those who only
//! watch, and lets requests go on for the time of grace. After it, or at a second signal, they are
//! cut off. Then the store is closed: what it accepted is on the disk in either case.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ashlar_store::clock;
use ashlar_store::task::{Task, spawn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::runtime;
use crate::dispatch::Dispatch;
use crate::dispatch::forward::Forward;
use crate::dispatch::leader::Candidate;
use crate::failure::Failure;
use crate::listen::{Listener, is_local, resolve};
use crate::metrics::{CountLayer, Metrics};
use crate::routes::{Assembled, Parts, QueueServices, assemble};
use crate::security::Security;
use crate::settings::Settings;
use crate::settings::env::Environment;
use crate::settings::source::Source;
use crate::stores::backing::Backing;
use crate::stores::{Engines, Stores};
use crate::{limits, log, notify, peers, trace};

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All requests were answered.
    Drained,
    /// Some were cut off.
    CutOff,
}

/// Runs the server until it is told to stop.
pub fn run(settings: &Settings, source: Source, environment: &Environment) -> Result<u8, Failure> {
    let filter = log::filter(&settings.log).map_err(Failure::usage)?;
    let traces = trace::start(settings, environment)?;
    log::start(
        filter,
        settings.log_format,
        environment.no_color(),
        traces.as_ref(),
    );
    let runtime = runtime()?;
    let addresses = runtime
        .block_on(resolve(&settings.listen))
        .map_err(Failure::usage)?;
    let worker_addresses = match &settings.worker_listen {
        Some(listen) => runtime.block_on(resolve(listen)).map_err(Failure::usage)?,
        None => Vec::new(),
    };
    let is_local = is_local(&addresses) && is_local(&worker_addresses);
    let security = {
        let _entered = runtime.enter();
        Security::start(settings, environment, is_local, clock::system())?
    };
    let has_tokens = settings.write_token_file.is_some() || settings.has_tables();
    if settings.tls.is_none() && has_tokens && !is_local {
        tracing::warn!("tokens travel readable for all, for there is no TLS");
    }
    let backing = {
        let _within = runtime.enter();
        Backing::open(settings, environment, &clock::system())?
    };
    let serving = async {
        // Before anybody can know that the server is there, and stop it.
        let signals = Signals::new()?;
        let listener = Listener::bind(&settings.listen, &addresses, settings.socket_mode)
            .await
            .map_err(|error| Failure::new("cannot serve").caused_by(error))?;
        let workers = bind_workers(settings, &worker_addresses).await?;
        let _following = security.follow(source)?;
        serve(
            settings,
            environment,
            &backing,
            &security,
            (listener, workers),
            signals,
        )
        .await
    };
    let end = runtime.block_on(serving);
    // Requests that were cut off have no say in when the store is closed.
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(backing);
    if let Some(traces) = traces {
        traces.finish();
    }
    match end? {
        End::Drained => tracing::info!("stopped"),
        End::CutOff => tracing::warn!("stopped; requests that took too long were cut off"),
    }
    Ok(0)
}

async fn serve(
    settings: &Settings,
    environment: &Environment,
    backing: &Backing,
    security: &Security,
    (listener, workers): (Listener, Option<Listener>),
    mut signals: Signals,
) -> Result<End, Failure> {
    let (stores, following) = stores(settings, backing.engines(), security.settings());
    let _following = following;
    let assembled = assemble(Parts {
        stores,
        access: security.access(),
        audit: security.audit(),
        max_blob: settings.max_blob.given().unwrap_or(0),
        upload_memory: settings.upload_memory.given().unwrap_or(u64::MAX),
        clock: clock::system(),
        dispatch: workers.is_some().then(|| dispatch(settings, backing)),
    })
    .await
    .map_err(|error| Failure::new("cannot set the services up").caused_by(error))?;
    if let Some(tls) = security.tls() {
        assembled.metrics.watch_certificate(tls.clone());
    }
    let _upkeep = spawn(assembled.upkeep());
    let _pages = serve_pages(settings, &assembled).await?;
    let _peers = serve_peers(settings, backing, assembled.queue.as_ref()).await?;

    let workers_address = workers.as_ref().map(Listener::address);
    tracing::info!(
        address = listener.address(),
        workers = workers_address,
        root = settings.root.as_ref().map(|root| root.display().to_string()),
        farm = ?settings.farm,
        limit = %settings.limit,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    notify::tell(environment.notify_socket(), "READY=1");

    let stop = CancellationToken::new();
    let on_port = |routes: Routes, listener: Listener| {
        server()
            .layer(CountLayer(assembled.metrics.clone()))
            .serve_with_incoming_shutdown(
                routes,
                security.incoming(listener, settings.max_connections),
                stop.clone().cancelled_owned(),
            )
    };
    let clients = on_port(assembled.routes.clone(), listener);
    let workers = workers.zip(assembled.worker_routes.clone());
    let workers = workers.map(|(listener, routes)| on_port(routes, listener));
    let serving = async {
        match workers {
            Some(workers) => tokio::try_join!(clients, workers).map(|((), ())| ()),
            None => clients.await,
        }
    };
    let mut serving = std::pin::pin!(serving);
    let failed = |error| Failure::new("the server failed").caused_by(error);
    tokio::select! {
        ended = &mut serving => {
            ended.map_err(failed)?;
            return Ok(End::Drained);
        }
        () = signals.next() => {}
    }
    tracing::info!("stopping: requests may end");
    notify::tell(environment.notify_socket(), "STOPPING=1");
    assembled.begin_stop().await;
    stop.cancel();
    let grace = async {
        match settings.grace.given() {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = &mut serving => ended.map(|()| End::Drained).map_err(failed),
        () = grace => Ok(End::CutOff),
        () = signals.next() => Ok(End::CutOff),
    }
}

/// Listens for workers, if there are to be any.
async fn bind_workers(
    settings: &Settings,
    addresses: &[SocketAddr],
) -> Result<Option<Listener>, Failure> {
    let Some(listen) = &settings.worker_listen else {
        return Ok(None);
    };
    let bound = Listener::bind(listen, addresses, settings.socket_mode).await;
    bound
        .map(Some)
        .map_err(|error| Failure::new("cannot serve workers").caused_by(error))
}

/// The queue: this server's own, or that of all servers of the farm.
fn dispatch(settings: &Settings, backing: &Backing) -> Dispatch {
    let peers = settings.farm.as_ref().and_then(|farm| farm.peers.as_ref());
    let (Some(peers), Some((queue, tokens))) = (peers, backing.for_queue()) else {
        return Dispatch::alone(queue_settings(settings), &clock::system());
    };
    let candidate = Candidate {
        queue,
        address: peers.address.clone(),
        settings: queue_settings(settings),
        clock: clock::system(),
    };
    Dispatch::among_others(candidate, Forward::new(tokens))
}

/// How the queue is set up.
fn queue_settings(settings: &Settings) -> ashlar_queue::Settings {
    let lease = settings.worker_lease;
    ashlar_queue::Settings {
        lease,
        renew_every: lease / 3,
        grace: settings.client_grace,
        ..ashlar_queue::Settings::default()
    }
}

/// The stores, and what follows the tables of namespaces for as long as it is held.
fn stores(
    settings: &Settings,
    engines: Engines,
    mut changed: watch::Receiver<Arc<Settings>>,
) -> (Stores, Option<Task<()>>) {
    if !settings.has_tables() {
        return (Stores::shared(engines), None);
    }
    let namespaces = Arc::new(ArcSwap::from_pointee(settings.namespaces.clone()));
    let stores = Stores::apart(engines, namespaces.clone());
    let following = spawn(async move {
        while changed.changed().await.is_ok() {
            let settings = changed.borrow_and_update().clone();
            namespaces.store(Arc::new(settings.namespaces.clone()));
        }
    });
    (stores, Some(following))
}

/// A server with all limits set.
fn server() -> Server {
    Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_concurrent_streams(limits::STREAMS)
        .http2_max_header_list_size(limits::HEADERS)
        .http2_keepalive_interval(Some(limits::KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
}

/// Serves the pages on an address of their own, for as long as the task is held.
async fn serve_pages(
    settings: &Settings,
    assembled: &Assembled,
) -> Result<Option<Task<()>>, Failure> {
    let Some(listen) = &settings.http else {
        return Ok(None);
    };
    let bound = async {
        let addresses = resolve(listen).await?;
        Listener::bind(listen, &addresses, settings.socket_mode).await
    };
    let listener = bound
        .await
        .map_err(|error| Failure::new("cannot serve /metrics").caused_by(error))?;
    tracing::info!(address = listener.address(), "listening for /metrics");
    let pages = assembled.pages.clone();
    let connections = listener.connections(settings.max_connections);
    Ok(Some(spawn(async move {
        let served = Server::builder()
            .accept_http1(true)
            .serve_with_incoming(Routes::from(pages), connections)
            .await;
        if let Err(error) = served {
            tracing::error!("the pages are not served any more: {error}");
        }
    })))
}

/// Serves the other servers of the farm, for as long as the task is held.
async fn serve_peers(
    settings: &Settings,
    backing: &Backing,
    queue: Option<&QueueServices>,
) -> Result<Option<Task<()>>, Failure> {
    let listen = settings.farm.as_ref().and_then(|farm| farm.peers.as_ref());
    let (Some(peers), Some((engines, tokens))) = (listen, backing.for_peers()) else {
        return Ok(None);
    };
    let bound = async {
        let addresses = resolve(&peers.listen).await?;
        Listener::bind(&peers.listen, &addresses, settings.socket_mode).await
    };
    let listener = bound
        .await
        .map_err(|error| Failure::new("cannot serve other servers").caused_by(error))?;
    tracing::info!(address = listener.address(), "listening for other servers");
    let routes = peers::routes(Stores::shared(engines), tokens, queue);
    let connections = listener.connections(settings.max_connections);
    Ok(Some(spawn(async move {
        // Traced as parts of clients' requests, and not counted once more.
        let streams = limits::PEER_STREAMS;
        let traced = server()
            .max_concurrent_streams(streams)
            .layer(CountLayer(Metrics::default()));
        let served =
            traced.serve_with_incoming_shutdown(routes, connections, std::future::pending());
        if let Err(error) = served.await {
            tracing::error!("other servers are not served any more: {error}");
        }
    })))
}

/// The signals that stop a server.
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

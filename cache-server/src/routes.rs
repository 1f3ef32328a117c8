//! All services of a server, put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_proto::wire::FILE_DESCRIPTOR_SET;
use ashlar_proto::wire::bytestream::byte_stream_server::ByteStreamServer;
use ashlar_proto::wire::ext::admin_server::AdminServer;
use ashlar_proto::wire::ext::cache_mounts_server::CacheMountsServer;
use ashlar_proto::wire::ext::leases_server::LeasesServer;
use ashlar_proto::wire::ext::pins_server::PinsServer;
use ashlar_proto::wire::ext::results_server::ResultsServer;
use ashlar_proto::wire::farm::farm_server::FarmServer;
use ashlar_proto::wire::farm::workers_server::WorkersServer;
use ashlar_proto::wire::longrunning::operations_server::OperationsServer;
use ashlar_proto::wire::reapi::action_cache_server::ActionCacheServer;
use ashlar_proto::wire::reapi::capabilities_server::CapabilitiesServer;
use ashlar_proto::wire::reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use ashlar_proto::wire::reapi::execution_server::ExecutionServer;
use ashlar_store::clock::Clock;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Error as ReflectionError;

use crate::audit::Audit;
use crate::auth::{Access, Gate, Port};
use crate::dispatch::Dispatch;
use crate::dispatch::forward::Routed;
use crate::http::{Watched, pages};
use crate::limits::MESSAGE;
use crate::metrics::Metrics;
use crate::service::action_cache::ActionCacheService;
use crate::service::admin::AdminService;
use crate::service::byte_stream::ByteStreamService;
use crate::service::byte_stream::upload::Uploads;
use crate::service::cache_mounts::CacheMountsService;
use crate::service::capabilities::CapabilitiesService;
use crate::service::content_addressable_storage::CasService;
use crate::service::execution::ExecutionService;
use crate::service::farm::FarmService;
use crate::service::leases::LeasesService;
use crate::service::operations::OperationsService;
use crate::service::pins::PinsService;
use crate::service::results::ResultsService;
use crate::service::workers::WorkersService;
use crate::stores::Stores;

/// What a server is made of.
#[derive(Clone)]
pub struct Parts {
    /// What it serves from.
    pub stores: Stores,
    /// Who may do what.
    pub access: Access,
    /// Where it is noted who did what.
    pub audit: Audit,
    /// The largest blob that is taken; 0 for any.
    pub max_blob: u64,
    /// What uploads may hold in memory on their way to the store.
    pub upload_memory: u64,
    /// The time of day.
    pub clock: Clock,
    /// The queue of work for workers, if there is one.
    pub dispatch: Option<Dispatch>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("stores", &self.stores)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// A server that only wants to be connected.
#[derive(Debug)]
pub struct Assembled {
    /// Its services and pages.
    pub routes: Routes,
    /// The same, and what is for workers alone, if there is a queue.
    pub worker_routes: Option<Routes>,
    /// The services of its queue, for other servers to be reached by.
    pub queue: Option<QueueServices>,
    /// Its pages alone, for an address of their own: `/metrics` is open there.
    pub pages: axum::Router,
    /// What it counts.
    pub metrics: Metrics,
    /// What it is doing.
    pub watched: Watched,
    health: HealthReporter,
    stopping: CancellationToken,
}

/// Puts a server together. Has to be called within a runtime.
pub async fn assemble(parts: Parts) -> Result<Assembled, ReflectionError> {
    let parts = Parts {
        stores: parts.stores.with_audit(parts.audit.clone()),
        ..parts
    };
    let metrics = Metrics::new(parts.stores.counters());
    let (health, health_service) = tonic_health::server::health_reporter();
    let building = Building {
        metrics: metrics.clone(),
        uploads: Uploads::new(parts.upload_memory),
        stopping: CancellationToken::new(),
        access: Arc::new(parts.access.clone()),
        parts,
    };
    let watched = Watched {
        stores: building.parts.stores.clone(),
        metrics: metrics.clone(),
        uploads: building.uploads.clone(),
        access: building.access.clone(),
        dispatch: building.parts.dispatch.clone(),
        stopping: Arc::new(AtomicBool::new(false)),
    };
    let routes = |port| {
        let gate = building.gate(port);
        let mut builder = building.services(&gate)?;
        builder.add_service(health_service.clone());
        let router = builder.routes().into_axum_router();
        let router = router.merge(pages(watched.clone(), Some(gate)));
        Ok::<_, ReflectionError>(Routes::from(router).prepare())
    };
    let has_queue = building.parts.dispatch.is_some();
    let assembled = Assembled {
        routes: routes(Port::Clients)?,
        worker_routes: has_queue.then(|| routes(Port::Workers)).transpose()?,
        queue: building.queue(),
        pages: pages(watched.clone(), None),
        metrics,
        watched,
        health,
        stopping: building.stopping,
    };
    assembled.set_health(true).await;
    Ok(assembled)
}

/// What services are made of.
struct Building {
    parts: Parts,
    access: Arc<Access>,
    metrics: Metrics,
    uploads: Uploads,
    stopping: CancellationToken,
}

impl Building {
    fn gate(&self, port: Port) -> Gate {
        Gate {
            access: self.access.clone(),
            audit: self.parts.audit.clone(),
            port,
        }
    }

    /// The services of a port, behind its gate.
    fn services(&self, gate: &Gate) -> Result<RoutesBuilder, ReflectionError> {
        let Parts {
            stores,
            max_blob,
            clock,
            dispatch,
            ..
        } = &self.parts;
        let max_blob = *max_blob;
        let (uploads, metrics) = (&self.uploads, &self.metrics);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };

        macro_rules! gated {
            ($server:ident, $service:expr) => {
                gate.before(
                    $server::new($service)
                        .max_decoding_message_size(MESSAGE)
                        .max_encoding_message_size(MESSAGE),
                )
            };
        }
        let mut builder = Routes::builder();
        builder
            .add_service(gated!(
                CapabilitiesServer,
                CapabilitiesService {
                    max_blob,
                    has_queue: dispatch.is_some(),
                }
            ))
            .add_service(gated!(
                ContentAddressableStorageServer,
                CasService {
                    stores: stores.clone(),
                    uploads: uploads.clone(),
                    max_blob,
                }
            ))
            .add_service(gated!(
                ActionCacheServer,
                ActionCacheService {
                    stores: stores.clone(),
                    metrics: metrics.clone(),
                }
            ))
            .add_service(gated!(
                ByteStreamServer,
                ByteStreamService {
                    stores: stores.clone(),
                    uploads: uploads.clone(),
                    max_blob,
                }
            ))
            .add_service(gated!(
                ResultsServer,
                ResultsService {
                    stores: stores.clone(),
                    metrics: metrics.clone(),
                }
            ))
            .add_service(gated!(
                LeasesServer,
                LeasesService {
                    stores: stores.clone(),
                    stopping: self.stopping.clone(),
                }
            ))
            .add_service(gated!(
                PinsServer,
                PinsService {
                    stores: stores.clone(),
                    clock: clock.clone(),
                }
            ))
            .add_service(gated!(
                CacheMountsServer,
                CacheMountsService {
                    stores: stores.clone(),
                    clock: clock.clone(),
                }
            ))
            .add_service(gated!(
                AdminServer,
                AdminService {
                    stores: stores.clone()
                }
            ))
            .add_service(gate.before(reflection().build_v1()?))
            .add_service(gate.before(reflection().build_v1alpha()?));
        if let Some(queue) = self.queue() {
            let dispatch = &queue.dispatch;
            macro_rules! routed {
                ($server:expr) => {
                    gate.before(Routed::new($server, dispatch.clone()))
                };
            }
            builder
                .add_service(routed!(queue.execution()))
                .add_service(routed!(queue.operations()))
                .add_service(routed!(queue.farm()));
            if gate.port == Port::Workers {
                builder.add_service(routed!(queue.workers()));
            }
        }
        Ok(builder)
    }

    /// The services of the queue, if there is one.
    fn queue(&self) -> Option<QueueServices> {
        Some(QueueServices {
            stores: self.parts.stores.clone(),
            dispatch: self.parts.dispatch.clone()?,
            audit: self.parts.audit.clone(),
        })
    }
}

/// The services of the farm's queue, without what is before them.
#[derive(Debug, Clone)]
pub struct QueueServices {
    stores: Stores,
    dispatch: Dispatch,
    audit: Audit,
}

/// A server with the limits of all.
macro_rules! limited {
    ($server:ident, $service:expr) => {
        $server::new($service)
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE)
    };
}

impl QueueServices {
    /// REAPI's `Execution`.
    pub fn execution(&self) -> ExecutionServer<ExecutionService> {
        limited!(
            ExecutionServer,
            ExecutionService {
                stores: self.stores.clone(),
                dispatch: self.dispatch.clone(),
            }
        )
    }

    /// `google.longrunning.Operations`.
    pub fn operations(&self) -> OperationsServer<OperationsService> {
        limited!(
            OperationsServer,
            OperationsService {
                stores: self.stores.clone(),
                dispatch: self.dispatch.clone(),
            }
        )
    }

    /// `ashlar.farm.v1.Farm`.
    pub fn farm(&self) -> FarmServer<FarmService> {
        limited!(
            FarmServer,
            FarmService {
                stores: self.stores.clone(),
                dispatch: self.dispatch.clone(),
            }
        )
    }

    /// `ashlar.farm.v1.Workers`.
    pub fn workers(&self) -> WorkersServer<WorkersService> {
        limited!(
            WorkersServer,
            WorkersService {
                dispatch: self.dispatch.clone(),
                audit: self.audit.clone(),
            }
        )
    }
}

impl Assembled {
    /// Tells gRPC's health service whether the server serves.
    pub async fn set_health(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        let names = [
            "",
            "build.bazel.remote.execution.v2.ActionCache",
            "build.bazel.remote.execution.v2.Capabilities",
            "build.bazel.remote.execution.v2.ContentAddressableStorage",
            "google.bytestream.ByteStream",
            "ashlar.cache.v1.Results",
            "ashlar.farm.v1.Farm",
        ];
        for name in names {
            self.health.set_service_status(name, status).await;
        }
    }

    /// What has to be done now and then, for as long as it runs.
    pub fn upkeep(&self) -> impl Future<Output = ()> + Send + 'static {
        const EVERY: Duration = Duration::from_secs(30);
        let uploads = self.watched.uploads.clone();
        async move {
            loop {
                tokio::time::sleep(EVERY).await;
                uploads.tidy();
            }
        }
    }

    /// From now on the server says that it is being stopped, and those who only wait are sent away.
    pub async fn begin_stop(&self) {
        self.watched.stopping.store(true, Ordering::Release);
        self.set_health(false).await;
        self.stopping.cancel();
        if let Some(dispatch) = &self.watched.dispatch {
            dispatch.stop().await;
        }
    }
}

//! A server over a connection in memory.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_cache_server::audit::Audit;
use ashlar_cache_server::auth::Access;
use ashlar_cache_server::dispatch::Dispatch;
use ashlar_cache_server::limits;
use ashlar_cache_server::metrics::{CountLayer, Metrics};
use ashlar_cache_server::routes::{Assembled, Parts, assemble};
use ashlar_cache_server::stores::{Engines, Item, Page, Stores, Upkeep, Usage};
use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_proto::convert::{digest_to_wire, function_to_wire};
use ashlar_proto::wire::bytestream::byte_stream_client::ByteStreamClient;
use ashlar_proto::wire::ext::cache_mounts_client::CacheMountsClient;
use ashlar_proto::wire::ext::leases_client::LeasesClient;
use ashlar_proto::wire::ext::pins_client::PinsClient;
use ashlar_proto::wire::ext::results_client::ResultsClient;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::action_cache_client::ActionCacheClient;
use ashlar_proto::wire::reapi::capabilities_client::CapabilitiesClient;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use ashlar_store::lease::local::LocalLeases;
use ashlar_store::memory::MemoryStore;
use ashlar_store::task::{Task, spawn};
use ashlar_store::{ActionCache as _, BlobStore as _, Fault, FaultKind};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};

/// A server with a store in memory.
pub(crate) struct Harness {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) upkeep: Arc<MemoryUpkeep>,
    pub(crate) assembled: Assembled,
    connections: mpsc::UnboundedSender<DuplexStream>,
    /// Where workers come in, if there is a queue.
    workers: Option<mpsc::UnboundedSender<DuplexStream>>,
    _serving: Vec<Task<()>>,
}

/// Serves what comes over connections in memory.
fn serve(routes: Routes, metrics: &Metrics) -> (mpsc::UnboundedSender<DuplexStream>, Task<()>) {
    let (connections, incoming) = mpsc::unbounded_channel();
    let incoming = UnboundedReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
    let layer = CountLayer(metrics.clone());
    let serving = spawn(async move {
        Server::builder()
            .accept_http1(true)
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .layer(layer)
            .serve_with_incoming(routes, incoming)
            .await
            .expect("served");
    });
    (connections, serving)
}

/// A channel over a connection in memory.
async fn dial(connections: &mpsc::UnboundedSender<DuplexStream>) -> Channel {
    let (client, server) = duplex(1 << 20);
    connections.send(server).expect("a server");
    let mut connection = Some(client);
    Endpoint::from_static("http://in.memory")
        .connect_with_connector(tower::service_fn(move |_| {
            let connection = connection.take().map(TokioIo::new);
            std::future::ready(connection.ok_or_else(|| std::io::Error::other("used up")))
        }))
        .await
        .expect("connected")
}

impl Harness {
    /// A server that lets everyone write.
    pub(crate) async fn new() -> Self {
        Self::with(Access::open(), 0).await
    }

    /// A server that takes blobs up to `max_blob` bytes.
    pub(crate) async fn with(access: Access, max_blob: u64) -> Self {
        Self::over(access, max_blob, Stores::shared, Audit::none()).await
    }

    /// A server whose stores `make` makes.
    pub(crate) async fn over(
        access: Access,
        max_blob: u64,
        make: impl FnOnce(Engines) -> Stores,
        audit: Audit,
    ) -> Self {
        Self::with_queue(access, max_blob, make, audit, None).await
    }

    /// A server that may have a queue of work for workers.
    pub(crate) async fn with_queue(
        access: Access,
        max_blob: u64,
        make: impl FnOnce(Engines) -> Stores,
        audit: Audit,
        dispatch: Option<Dispatch>,
    ) -> Self {
        let store = Arc::new(MemoryStore::new(1 << 30));
        let upkeep = Arc::new(MemoryUpkeep {
            store: store.clone(),
            pinned: Mutex::default(),
            listed: Mutex::default(),
            broken: Mutex::default(),
        });
        let engines = Engines {
            blobs: store.clone(),
            results: store.clone(),
            leases: Arc::new(LocalLeases::new(1 << 32, store.clone())),
            possession: store.clone(),
            upkeep: upkeep.clone(),
            removals: Arc::default(),
            counters: Arc::default(),
        };
        let assembled = assemble(Parts {
            stores: make(engines),
            access,
            audit,
            max_blob,
            upload_memory: 64 << 20,
            clock: Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_000_000)),
            dispatch,
        })
        .await
        .expect("a server");
        let (connections, serving) = serve(assembled.routes.clone(), &assembled.metrics);
        let workers = assembled.worker_routes.clone();
        let workers = workers.map(|routes| serve(routes, &assembled.metrics));
        let (workers, for_workers) = workers.unzip();
        Self {
            store,
            upkeep,
            assembled,
            connections,
            workers,
            _serving: [Some(serving), for_workers].into_iter().flatten().collect(),
        }
    }

    /// The client's end of a new connection.
    pub(crate) fn connection(&self) -> DuplexStream {
        let (client, server) = duplex(1 << 20);
        self.connections.send(server).expect("a server");
        client
    }

    /// A new connection.
    pub(crate) async fn channel(&self) -> Channel {
        dial(&self.connections).await
    }

    /// A new connection to where workers come in.
    pub(crate) async fn worker_channel(&self) -> Channel {
        dial(self.workers.as_ref().expect("a queue")).await
    }

    pub(crate) async fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel().await)
            .max_decoding_message_size(limits::MESSAGE)
    }

    pub(crate) async fn actions(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel().await)
    }

    pub(crate) async fn bytes(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel().await)
    }

    pub(crate) async fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel().await)
    }

    pub(crate) async fn results(&self) -> ResultsClient<Channel> {
        ResultsClient::new(self.channel().await)
    }

    pub(crate) async fn leases(&self) -> LeasesClient<Channel> {
        LeasesClient::new(self.channel().await)
    }

    pub(crate) async fn pins(&self) -> PinsClient<Channel> {
        PinsClient::new(self.channel().await)
    }

    pub(crate) async fn cache_mounts(&self) -> CacheMountsClient<Channel> {
        CacheMountsClient::new(self.channel().await)
    }

    /// Puts a blob into the store.
    pub(crate) async fn put(&self, function: DigestFunction, bytes: &[u8]) -> CasDigest {
        let blob = CasDigest::of(function, bytes);
        let bytes = Bytes::copy_from_slice(bytes);
        let written = self.store.write_many(vec![(blob, bytes)]).await;
        written.into_iter().collect::<Result<(), _>>().expect("put");
        blob
    }

    /// A blob of the store.
    pub(crate) async fn get(&self, blob: &CasDigest) -> Option<Bytes> {
        let read = self.store.read_many(&[*blob]).await.remove(0);
        match read {
            Ok(bytes) => Some(bytes),
            Err(fault) if fault.kind == FaultKind::NotFound => None,
            Err(fault) => panic!("{fault}"),
        }
    }
}

/// A digest as the wire has it.
pub(crate) fn wire(blob: &CasDigest) -> reapi::Digest {
    digest_to_wire(blob)
}

/// The number of a function.
pub(crate) fn number(function: DigestFunction) -> i32 {
    function_to_wire(function).into()
}

/// The upkeep of a store in memory.
#[derive(Debug)]
pub(crate) struct MemoryUpkeep {
    store: Arc<MemoryStore>,
    pub(crate) pinned: Mutex<Vec<(ActionKey, SystemTime)>>,
    /// What `list` gives.
    pub(crate) listed: Mutex<Vec<ActionKey>>,
    pub(crate) broken: Mutex<bool>,
}

impl Upkeep for MemoryUpkeep {
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Fault>> {
        Box::pin(async {
            Ok(Usage {
                blobs: 7,
                limit_bytes: 1 << 30,
                ..Usage::default()
            })
        })
    }

    fn list<'a>(
        &'a self,
        instance: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async move {
            let start = after.map_or(0, |after| after.parse().expect("a token"));
            let all = self.listed.lock().expect("a list").clone();
            let mut items = Vec::new();
            for key in all.iter().filter(|key| key.instance == instance) {
                let result = self.store.get(std::slice::from_ref(key)).await?.remove(0);
                items.extend(result.map(|result| Item {
                    key: key.clone(),
                    last_used: UNIX_EPOCH,
                    result,
                }));
            }
            let next = (start + limit < items.len()).then(|| (start + limit).to_string());
            let items = items.into_iter().skip(start).take(limit).collect();
            Ok(Page { items, next })
        })
    }

    fn walk<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, Fault>> {
        Box::pin(async move {
            let start = after.map_or(0, |after| after.parse().expect("a token"));
            let all = self.listed.lock().expect("a list").clone();
            let mut items = Vec::new();
            for key in all.iter().skip(start).take(limit) {
                let result = self.store.get(std::slice::from_ref(key)).await?.remove(0);
                items.extend(result.map(|result| Item {
                    key: key.clone(),
                    last_used: UNIX_EPOCH,
                    result,
                }));
            }
            let next = start + limit;
            Ok(Page {
                items,
                next: (next < all.len()).then(|| next.to_string()),
            })
        })
    }

    fn pin<'a>(
        &'a self,
        key: &'a ActionKey,
        until: SystemTime,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        self.pinned.lock().expect("pins").push((key.clone(), until));
        Box::pin(async { Ok(()) })
    }

    fn unpin<'a>(&'a self, key: &'a ActionKey) -> BoxFuture<'a, Result<(), Fault>> {
        self.pinned
            .lock()
            .expect("pins")
            .retain(|(pinned, _)| pinned != key);
        Box::pin(async { Ok(()) })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), Fault>> {
        let broken = *self.broken.lock().expect("a flag");
        Box::pin(async move {
            if broken {
                Err(Fault::new(FaultKind::Internal, "the disk is gone"))
            } else {
                Ok(())
            }
        })
    }
}

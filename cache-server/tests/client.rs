//! The client of REAPI against the server, over connections in memory: what every store must do,
//! does the pair of them. And what the client does when the other side fails it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ashlar_cache_server::audit::Audit;
use ashlar_cache_server::auth::Access;
use ashlar_cache_server::routes::{Parts, assemble};
use ashlar_cache_server::stores::{Engines, Stores};
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_model::executor::BoxFuture;
use ashlar_store::blob_store::{ByteRange, ByteStream, collect, once};
use ashlar_store::disk::{DiskSettings, DiskStore};
use ashlar_store::grpc::endpoint::tuned;
use ashlar_store::grpc::{GrpcEndpoint, GrpcSettings, GrpcStore};
use ashlar_store::task::{Task, spawn};
use ashlar_store::{BlobStore, Fault, FaultKind, clock, conformance};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _, stream};
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};

/// A server's services over a fresh store, whose blobs may come from elsewhere.
async fn services(root: &std::path::Path, blobs: Option<Arc<dyn BlobStore>>) -> Routes {
    let store = DiskStore::open(root, DiskSettings::default(), clock::system());
    let store = Arc::new(store.expect("a fresh store"));
    let mut engines = Engines::on_disk(&store);
    if let Some(blobs) = blobs {
        engines.blobs = blobs;
    }
    let parts = Parts {
        stores: Stores::shared(engines),
        access: Access::open(),
        audit: Audit::none(),
        max_blob: 0,
        upload_memory: 64 << 20,
        clock: clock::system(),
        dispatch: None,
    };
    assemble(parts).await.expect("services").routes
}

/// Connections in memory, which can be broken.
#[derive(Clone)]
struct Wire {
    connect: mpsc::Sender<DuplexStream>,
    /// What carries the bytes of each connection.
    carriers: Arc<Mutex<Vec<Task<()>>>>,
    made: Arc<AtomicUsize>,
    /// Whether connections stay open but carry nothing any more.
    halted: watch::Sender<bool>,
}

impl Wire {
    fn channel(&self) -> Channel {
        let wire = self.clone();
        let connector = tower::service_fn(move |_| {
            let mut wire = wire.clone();
            async move {
                let (client, mut near) = duplex(256 << 10);
                let (mut far, server) = duplex(256 << 10);
                wire.connect.send(server).await.map_err(io::Error::other)?;
                let mut halted = wire.halted.subscribe();
                let carrier = spawn(async move {
                    let is_halted = async { halted.wait_for(|halted| *halted).await.is_ok() };
                    // Otherwise it ends when either side does.
                    let carry = copy_bidirectional(&mut near, &mut far);
                    tokio::select! {
                        _ended = carry => return,
                        _halted = is_halted => {}
                    }
                    std::future::pending::<()>().await;
                });
                wire.carriers.lock().expect("nobody panicked").push(carrier);
                wire.made.fetch_add(1, Ordering::Relaxed);
                Ok::<_, io::Error>(TokioIo::new(client))
            }
        });
        tuned(Endpoint::from_static("http://in-memory")).connect_with_connector_lazy(connector)
    }

    /// Breaks all connections. New ones can be made.
    fn cut(&self) {
        self.carriers.lock().expect("nobody panicked").clear();
    }
}

/// A server, and what it stands on.
struct Running {
    wire: Wire,
    _server: Task<()>,
    _directory: tempfile::TempDir,
}

/// A fresh server, and a client of it with two connections.
async fn connected(compression: bool) -> (Running, Arc<GrpcStore>) {
    connected_to(compression, None).await
}

async fn connected_to(
    compression: bool,
    blobs: Option<Arc<dyn BlobStore>>,
) -> (Running, Arc<GrpcStore>) {
    let directory = tempfile::tempdir().expect("a directory");
    let routes = services(directory.path(), blobs).await;
    let (connect, connections) = mpsc::channel::<DuplexStream>(4);
    let server = spawn(async move {
        let serving = Server::builder()
            .add_routes(routes)
            .serve_with_incoming(connections.map(Ok::<_, io::Error>));
        serving.await.expect("serving");
    });
    let wire = Wire {
        connect,
        carriers: Arc::default(),
        made: Arc::default(),
        halted: watch::channel(false).0,
    };
    let settings = GrpcSettings {
        compression,
        ..GrpcSettings::new("grpc://in-memory:1")
    };
    let endpoint = GrpcEndpoint::over(vec![wire.channel(), wire.channel()], settings);
    let endpoint = endpoint.await.expect("a server that answers");
    let running = Running {
        wire,
        _server: server,
        _directory: directory,
    };
    (running, Arc::new(GrpcStore::new(Arc::new(endpoint))))
}

conformance::blob_store_tests!(blobs, connected(false));
conformance::blob_store_tests!(compressed_blobs, connected(true));
conformance::action_cache_tests!(results, connected(false));

/// Bytes that no compression makes small.
fn noise(length: usize) -> (CasDigest, Bytes) {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let bytes = Bytes::from(bytes);
    (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
}

/// The bytes in pieces; before some of them something happens.
fn pieces(bytes: &Bytes, mut before: impl FnMut(usize) + Send + 'static) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(100_000).map(Bytes::copy_from_slice).collect();
    let pieces = stream::iter(pieces.into_iter().enumerate());
    Box::pin(pieces.then(move |(number, piece)| {
        before(number);
        async move {
            // So that what was sent before has a chance to arrive.
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(piece)
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_break() {
    for compression in [false, true] {
        let (running, store) = connected(compression).await;
        let (blob, bytes) = noise(12_000_000);
        let wire = running.wire.clone();
        let source = pieces(&bytes, move |number| {
            if number == 40 || number == 90 {
                wire.cut();
            }
        });
        store.write(&blob, source).await.unwrap();
        let back = store.read(&blob, ByteRange::WHOLE).await.unwrap();
        assert!(collect(back, blob.size).await.unwrap() == bytes);
        assert!(running.wire.made.load(Ordering::Relaxed) > 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_after_a_break() {
    for compression in [false, true] {
        let (running, store) = connected(compression).await;
        let (blob, bytes) = noise(30_000_000);
        store.write(&blob, once(bytes.clone())).await.unwrap();
        for (offset, limit) in [(0, None), (1_000_000, None), (5, Some(25_000_000))] {
            let range = ByteRange { offset, limit };
            let mut stream = store.read(&blob, range).await.unwrap();
            let mut back = Vec::new();
            let mut cut_at = 5_000_000;
            while let Some(piece) = stream.next().await {
                back.extend_from_slice(&piece.unwrap());
                if back.len() > cut_at {
                    running.wire.cut();
                    cut_at += 10_000_000;
                }
            }
            let end = limit.map_or(blob.size, |limit| offset + limit);
            let (offset, end) = (
                usize::try_from(offset).unwrap(),
                usize::try_from(end).unwrap(),
            );
            assert!(bytes[offset..end] == back);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_made_again_on_a_new_connection() {
    let (running, store) = connected(false).await;
    let (blob, _) = noise(100);
    for _ in 0..20 {
        running.wire.cut();
        assert_eq!(store.missing(&[blob]).await.unwrap(), [blob]);
    }
}

/// A store that gives other bytes than it was asked for.
#[derive(Debug)]
struct Liar;

impl BlobStore for Liar {
    fn missing<'a>(
        &'a self,
        _blobs: &'a [CasDigest],
    ) -> BoxFuture<'a, Result<Vec<CasDigest>, Fault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn read<'a>(
        &'a self,
        blob: &'a CasDigest,
        _range: ByteRange,
    ) -> BoxFuture<'a, Result<ByteStream, Fault>> {
        Box::pin(async {
            Ok(once(
                vec![7; usize::try_from(blob.size).expect("small")].into(),
            ))
        })
    }

    fn write<'a>(
        &'a self,
        _blob: &'a CasDigest,
        _bytes: ByteStream,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_wrong_bytes_is_found_out() {
    for compression in [false, true] {
        let (_running, store) = connected_to(compression, Some(Arc::new(Liar))).await;
        for size in [1000, 5_000_000] {
            let (blob, _) = noise(size);
            let read = async {
                let bytes = store.read(&blob, ByteRange::WHOLE).await?;
                collect(bytes, blob.size).await
            };
            assert_eq!(read.await.map(drop).unwrap_err().kind, FaultKind::Invalid);
            let many = store.read_many(&[blob]).await.remove(0);
            assert_eq!(many.map(drop).unwrap_err().kind, FaultKind::Invalid);
        }
    }
}

/// Settings with which nothing is waited for long.
fn impatient(address: String) -> GrpcSettings {
    GrpcSettings {
        connect_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_millis(500),
        stall_timeout: Duration::from_millis(500),
        ..GrpcSettings::new(address)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_or_nobody_who_answers_is_known_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("grpc://{}", listener.local_addr().unwrap());
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("grpc://{}", listener.local_addr().unwrap())
    };
    let no_socket = "unix:///nowhere/at/all.sock".to_owned();
    for address in [silent, gone, no_socket] {
        let began = Instant::now();
        let fault = GrpcEndpoint::connect(impatient(address)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
        assert!(began.elapsed() < Duration::from_secs(3), "{fault}");
    }
    for address in ["http://host:1", "grpc", "grpc://", "nonsense://a"] {
        let fault = GrpcEndpoint::connect(impatient(address.to_owned())).await;
        assert_eq!(fault.unwrap_err().kind, FaultKind::Invalid, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_answering_is_known_soon() {
    let (running, store) = connected(false).await;
    let settings = impatient("grpc://in-memory:1".to_owned());
    let endpoint = GrpcEndpoint::over(vec![running.wire.channel()], settings);
    let store = {
        drop(store);
        GrpcStore::new(Arc::new(endpoint.await.unwrap()))
    };
    let (blob, bytes) = noise(3_000_000);
    store.write(&blob, once(bytes.clone())).await.unwrap();
    let large = noise(20_000_000);
    running.wire.halted.send_replace(true);
    let began = Instant::now();
    let read = async {
        let bytes = store.read(&blob, ByteRange::WHOLE).await?;
        collect(bytes, blob.size).await
    };
    assert_eq!(
        read.await.map(drop).unwrap_err().kind,
        FaultKind::Unavailable
    );
    let fault = store.missing(&[blob]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    let fault = store.write(&large.0, once(large.1)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable, "{fault}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_reached_over_tcp_and_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = format!("grpc://{}", listener.local_addr().unwrap());
    let routes = services(&directory.path().join("store"), None).await;
    let path = directory.path().join("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let _servers = spawn(async move {
        let over_tcp = Server::builder()
            .add_routes(routes.clone())
            .serve_with_incoming(TcpListenerStream::new(listener));
        let over_socket = Server::builder()
            .add_routes(routes)
            .serve_with_incoming(UnixListenerStream::new(socket));
        futures::future::try_join(over_tcp, over_socket)
            .await
            .unwrap();
    });
    let (blob, bytes) = noise(5_000_000);
    for (number, address) in [tcp, format!("unix://{}", path.display())]
        .into_iter()
        .enumerate()
    {
        let endpoint = GrpcEndpoint::connect(GrpcSettings::new(address))
            .await
            .unwrap();
        assert_eq!(endpoint.function(), DigestFunction::Blake3);
        let store = GrpcStore::new(Arc::new(endpoint));
        if number == 0 {
            store.write(&blob, once(bytes.clone())).await.unwrap();
        }
        let back = store.read(&blob, ByteRange::WHOLE).await.unwrap();
        assert!(collect(back, blob.size).await.unwrap() == bytes);
    }
}

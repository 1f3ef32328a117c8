//! The same over gRPC, with `ashlar-cache` on a socket.

use ashlar_cache_server::audit::Audit;
use ashlar_cache_server::auth::Access;
use ashlar_cache_server::routes::{Parts, assemble};
use ashlar_cache_server::stores::{Engines, Stores};
use ashlar_engine::share::Leave;
use ashlar_store::clock;
use ashlar_store::disk::{DiskSettings, DiskStore};
use ashlar_store::task::{Task, spawn};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use super::*;
use crate::address::CacheSpec;
use crate::grpc::GrpcConnect;
use crate::listing::list;

/// A server in this process.
pub(super) struct Served {
    directory: tempfile::TempDir,
    _task: Task<()>,
}

impl Served {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let store = DiskStore::open(&root, DiskSettings::default(), clock::system());
        let parts = Parts {
            stores: Stores::shared(Engines::on_disk(&Arc::new(store.unwrap()))),
            access: Access::open(),
            audit: Audit::none(),
            max_blob: 0,
            upload_memory: 64 << 20,
            clock: clock::system(),
            dispatch: None,
        };
        let routes = assemble(parts).await.unwrap().routes;
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        let serving = tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming(UnixListenerStream::new(listener));
        let task = spawn(async move { serving.await.unwrap() });
        Self {
            directory,
            _task: task,
        }
    }

    /// Its socket.
    pub(super) fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("socket")
    }

    fn spec(&self, options: &str) -> CacheSpec {
        let socket = self.directory.path().join("socket");
        format!("unix://{}{options}", socket.display())
            .parse()
            .unwrap()
    }

    fn machine(&self, options: &str) -> Machine {
        machine_of(&self.spec(options))
    }
}

/// A machine that uses one cache.
pub(super) fn machine_of(spec: &CacheSpec) -> Machine {
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&warnings);
    let sink: WarningSink = Arc::new(move |text: &str| told.lock().unwrap().push(text.to_owned()));
    let connect = Arc::new(GrpcConnect::new(spec, None, Arc::new(Vec::new)));
    let cache = Cache::new(spec.name(), spec.instance.clone(), spec.mode, connect, sink);
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let (proof, me) = (Proof::default(), "me".to_owned());
    let sharing = Sharing::new(home.clone(), vec![Arc::new(cache)], None, me, proof);
    let tars: Arc<dyn LayerTars> = Arc::new(StoredTars(home.clone(), sharing.fetcher()));
    sharing.set_tars(&tars);
    Machine {
        _directory: directory,
        home,
        sharing,
        warnings,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_share_results_through_the_server() {
    let server = Served::start().await;
    let a = server.machine("");
    let base = a.pulled();
    let bytes = tar(&[("one", 3_000_000), ("small", 10)], 1);
    let (one, two) = (a.make(&bytes), a.make(&tar(&[("two", 10)], 1)));
    a.sharing.publish(result("one", &[base, one]), None);
    a.sharing.publish(result("two", &[base, one, two]), None);
    a.finish().await;
    assert!(a.warnings().is_empty(), "{:?}", a.warnings());

    let b = server.machine("");
    let found = b.look_up(&["two", "one", "none"]).await;
    let stack = found[0].clone().unwrap();
    assert_eq!(found[1].as_deref(), Some(&stack[..2]));
    assert_eq!(found[2], None);
    assert!(b.fetch(&stack[1]).await.unwrap() == bytes);
    assert!(b.sharing.by_content(&content_key("two")).await.is_some());
    assert!(b.warnings().is_empty(), "{:?}", b.warnings());

    // Another instance is another cache.
    let other = server.machine(",instance=other");
    assert_eq!(other.look_up(&["two"]).await, [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_keeps_leases() {
    let server = Served::start().await;
    let (a, b) = (server.machine(""), server.machine(""));
    let quiet = |_: &str| {};
    let leave = a.sharing.leave(&key("x"), "step", &quiet).await;
    let Leave::Run(Some(lease)) = leave else {
        panic!("nobody else is there: {leave:?}");
    };
    let shown: Mutex<Vec<String>> = Mutex::default();
    let waiting = |holder: &str| shown.lock().unwrap().push(holder.to_owned());
    let wanted = key("x");
    let (left, ()) = futures::join!(b.sharing.leave(&wanted, "step", &waiting), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let layer = a.make(&tar(&[("made", 1000)], 1));
        a.sharing.publish(result("x", &[layer]), Some(lease));
    });
    assert!(matches!(left, Leave::Made), "{left:?}");
    assert_eq!(*shown.lock().unwrap(), ["me: step"]);
    assert!(a.warnings().is_empty() && b.warnings().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_listed() {
    let server = Served::start().await;
    let a = server.machine("");
    let layer = a.make(&tar(&[("x", 1000)], 1));
    a.publish(result("x", &[layer])).await;
    let service = a.sharing.caches()[0].service().await.unwrap();
    let listed = list(&service, 100).await.unwrap();
    let mut kinds: Vec<String> = listed
        .iter()
        .map(|result| result.key.clone().unwrap().0)
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["content", "definition", "instruction"]);
    let definition = listed
        .iter()
        .find(|result| result.key == Some(("definition".to_owned(), key("x").to_hex())))
        .unwrap();
    assert_eq!(definition.layers, Some(1));
    assert_eq!(definition.bytes, Some(2560));
    assert_eq!(list(&service, 2).await.unwrap().len(), 2);
    let usage = service.extension.unwrap().usage().await.unwrap();
    assert_eq!(usage.results, 3);
    assert!(usage.blobs > 5 && usage.blob_bytes > 1000);
}

//! What the tests stand on: Redis, S3, and servers over both.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_model::cas::{ActionKey, CasDigest, DigestFunction};
use ashlar_store::blob_store::{ByteRange, collect, once};
use ashlar_store::grpc::{GrpcEndpoint, GrpcSettings, GrpcStore};
use ashlar_store::{BlobStore as _, Fault};
use ashlar_test_support::redis::RedisServer;
use ashlar_test_support::registry::free_port;
use ashlar_test_support::s3::S3;
use bytes::Bytes;
use tempfile::TempDir;

/// Nothing here takes so long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(40);

/// The stores of a farm.
pub(crate) struct Stores {
    pub(crate) redis: RedisServer,
    pub(crate) s3: S3,
}

impl Stores {
    /// Both of them; `None` where there is no S3 server.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let s3 = S3::start(test)?;
        let redis = RedisServer::start();
        Some(Self { redis, s3 })
    }

    /// `ashlar-cache` with some arguments and what it needs to find the stores.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar-cache"));
        command
            .env_clear()
            .envs(S3::variables(self.s3.port()))
            .args(arguments)
            .args(["--redis", &self.redis.url(), "--objects", &self.s3.url()]);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("ashlar-cache runs")
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    directory: TempDir,
}

impl Server {
    /// A server with a near tier and some more arguments, which listens. It need not be ready.
    pub(crate) fn start(stores: &Stores, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        let child = stores
            .command(&["serve", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--root")
            .arg(directory.path().join("near"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("ashlar-cache starts");
        let mut server = Self {
            child,
            port,
            directory,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{ended:?}:\n{}",
                server.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
        server
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The status and the text of a page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).expect("a status");
        (status.parse().expect("a status"), body.to_owned())
    }

    /// Waits until `/readyz` says a status.
    pub(crate) async fn wait_for(&self, status: u16) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (is, text) = self.page("/readyz");
            if is == status {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "still {is} {text}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A client.
    pub(crate) async fn client(&self) -> GrpcStore {
        self.client_of("").await
    }

    /// A client whose blobs are those of an instance.
    pub(crate) async fn client_of(&self, instance: &str) -> GrpcStore {
        let mut settings = GrpcSettings::new(format!("grpc://127.0.0.1:{}", self.port));
        settings.instance = instance.to_owned();
        let endpoint = GrpcEndpoint::connect(settings).await.expect("a server");
        GrpcStore::new(Arc::new(endpoint))
    }

    /// `kill -9`, and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("dead");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was killed before is dead.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A blob that follows from a number.
pub(crate) fn blob(seed: u32, length: usize) -> (CasDigest, Bytes) {
    let mut bytes = vec![0; length];
    let mut noise = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    noise.fill(&mut bytes);
    let bytes = Bytes::from(bytes);
    (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
}

pub(crate) async fn write(store: &GrpcStore, blob: &(CasDigest, Bytes)) -> Result<(), Fault> {
    store.write(&blob.0, once(blob.1.clone())).await
}

pub(crate) async fn read(store: &GrpcStore, blob: &CasDigest) -> Result<Bytes, Fault> {
    collect(store.read(blob, ByteRange::WHOLE).await?, blob.size).await
}

/// A result that names some blobs.
pub(crate) fn result(action: &str, blobs: &[CasDigest]) -> (ActionKey, Bytes) {
    use ashlar_proto::convert::digest_to_wire;
    use ashlar_proto::wire::reapi::{ActionResult, OutputFile};
    use prost::Message as _;
    let outputs = blobs.iter().enumerate().map(|(number, blob)| OutputFile {
        path: number.to_string(),
        digest: Some(digest_to_wire(blob)),
        ..Default::default()
    });
    let result = ActionResult {
        output_files: outputs.collect(),
        ..Default::default()
    };
    let key = ActionKey {
        instance: "acme/main".to_owned(),
        action: CasDigest::of(DigestFunction::Blake3, action.as_bytes()),
    };
    (key, result.encode_to_vec().into())
}

/// A file beside the tests' other things.
pub(crate) fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

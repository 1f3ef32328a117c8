//! The program itself.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::wire::ext::acquire_response::Outcome;
use ashlar_proto::wire::ext::leases_client::LeasesClient;
use ashlar_proto::wire::ext::pins_client::PinsClient;
use ashlar_proto::wire::ext::results_client::ResultsClient;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use ashlar_proto::wire::{ext, reapi};
use bytes::Bytes;
use tonic::transport::Endpoint;

use crate::harness::wire;

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar-cache"));
    command.env_clear();
    command
}

fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("run")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that runs.
pub(crate) struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    pub(crate) address: String,
}

impl Running {
    pub(crate) fn start(root: &Path, arguments: &[&str]) -> Self {
        let mut child = command()
            .args(["serve", "--log-format", "json", "--root"])
            .arg(root)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut log = BufReader::new(child.stderr.take().expect("a log"));
        let mut line = String::new();
        log.read_line(&mut line).expect("a line");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let address = said["address"].as_str().expect(&line).to_owned();
        Self {
            child,
            log,
            address,
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("signalled");
    }

    /// Waits for the end. Gives the exit code and the rest of the log.
    pub(crate) async fn end(&mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
            // Clients of this thread have to see the end, too.
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("a log");
        (status.code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

async fn fencing_number(address: &str) -> u64 {
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = channel.connect().await.expect("connected");
    let request = ext::AcquireRequest {
        key: "k".to_owned(),
        ttl: Some(duration_to_wire(Duration::from_secs(60))),
        ..Default::default()
    };
    let response = LeasesClient::new(channel).acquire(request).await;
    match response.expect("an answer").into_inner().outcome {
        Some(Outcome::Granted(lease)) => lease.fencing_number,
        other => panic!("{other:?}"),
    }
}

/// Stores some results, pins one, and lists them in pages, without a use of them.
async fn listed(address: &str, count: u8) -> Vec<String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.connect().await.expect("connected");
    let mut results = ResultsClient::new(channel.clone());
    let action = |number: u8| Some(wire(&CasDigest::of(DigestFunction::Sha256, &[number])));
    for number in 0..count {
        let request = ext::CommitRequest {
            action: action(number),
            result: Some(reapi::ActionResult {
                stdout_raw: number.to_string().into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        results.commit(request).await.expect("stored");
    }
    let request = ext::PinRequest {
        action: action(0),
        ttl: Some(duration_to_wire(Duration::from_secs(60))),
        ..Default::default()
    };
    PinsClient::new(channel).pin(request).await.expect("pinned");
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ext::ListRequest {
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = results.list(request).await.expect("a page").into_inner();
        for item in page.items {
            let text = item.result.expect("a result").stdout_raw;
            found.push(String::from_utf8_lossy(&text).into_owned());
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let usage = results.usage(ext::UsageRequest::default()).await;
    assert_eq!(usage.expect("usage").into_inner().results, u64::from(count));
    // Those of one second come in no order that means anything.
    found.sort_by(|a, b| b.cmp(a));
    found
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_and_numbers_have_grown() {
    let root = tempfile::tempdir().expect("a folder");
    let blob = CasDigest::of(DigestFunction::Blake3, b"a stone");
    let mut server = Running::start(root.path(), &["--listen", "127.0.0.1:0"]);
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let mut cas = ContentAddressableStorageClient::connect_to(&channel).await;
    let update = reapi::BatchUpdateBlobsRequest {
        requests: vec![reapi::batch_update_blobs_request::Request {
            digest: Some(wire(&blob)),
            data: Bytes::from_static(b"a stone"),
            compressor: 0,
        }],
        digest_function: reapi::digest_function::Value::Blake3.into(),
        ..Default::default()
    };
    cas.batch_update_blobs(update).await.expect("stored");
    let before = fencing_number(&server.address).await;
    server.signal(rustix::process::Signal::KILL);
    server.end().await;

    let mut server = Running::start(root.path(), &["--listen", "127.0.0.1:0"]);
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let mut cas = ContentAddressableStorageClient::connect_to(&channel).await;
    let find = reapi::FindMissingBlobsRequest {
        blob_digests: vec![wire(&blob)],
        digest_function: reapi::digest_function::Value::Blake3.into(),
        ..Default::default()
    };
    let missing = cas.find_missing_blobs(find).await.expect("an answer");
    assert_eq!(missing.into_inner().missing_blob_digests, []);
    assert!(fencing_number(&server.address).await > before);
    assert_eq!(listed(&server.address, 3).await, ["2", "1", "0"]);
    drop(cas);
    server.signal(rustix::process::Signal::TERM);
    let (code, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"message\":\"stopped\""), "{log}");

    let output = command()
        .arg("fsck")
        .env("ASHLAR_CACHE_SERVER_ROOT", root.path())
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("0 damaged"), "{output:?}");
}

/// Connects lazily to nothing but what is asked.
trait ConnectTo: Sized {
    async fn connect_to(endpoint: &Endpoint) -> Self;
}

impl ConnectTo for ContentAddressableStorageClient<tonic::transport::Channel> {
    async fn connect_to(endpoint: &Endpoint) -> Self {
        Self::new(endpoint.connect().await.expect("connected"))
    }
}

#[tokio::test]
async fn a_request_that_goes_on_is_given_time_and_cut_off_by_a_second_signal() {
    let root = tempfile::tempdir().expect("a folder");
    let mut server = Running::start(root.path(), &["--listen", "127.0.0.1:0", "--grace", "10m"]);
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let channel = channel.connect().await.expect("connected");
    // An upload whose client says nothing any more.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let blob = CasDigest::of(DigestFunction::Sha256, b"a stone");
    let message = ashlar_proto::wire::bytestream::WriteRequest {
        resource_name: format!("uploads/u/blobs/{}/{}", blob.hash_hex(), blob.size),
        data: Bytes::from_static(b"a st"),
        ..Default::default()
    };
    sender.send(message).await.expect("sent");
    let call = ashlar_store::task::spawn(async move {
        ashlar_proto::wire::bytestream::byte_stream_client::ByteStreamClient::new(channel)
            .write(tokio_stream::wrappers::ReceiverStream::new(receiver))
            .await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal(rustix::process::Signal::TERM);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(server.child.try_wait().expect("waited").is_none());
    server.signal(rustix::process::Signal::TERM);
    let (code, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("cut off"), "{log}");
    call.await.expect("ended").expect_err("cut off");
}

#[test]
fn a_server_that_others_reach_needs_a_token() {
    let root = tempfile::tempdir().expect("a folder");
    let root = root.path().to_str().expect("a path");
    let output = run(&["serve", "--root", root, "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(&output.stderr), @"
    error: 0.0.0.0:0 can be reached from other machines, and nothing keeps anyone from writing
    hint: name a file with tokens by --write-token-file, listen on a loopback address or a Unix socket, or give --read-only
    ");
    let output = run(&[
        "check-config",
        "--root",
        root,
        "--listen",
        "0.0.0.0:0",
        "--read-only",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn settings_are_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cache.toml");
    let check = |content: &str, variables: &[(&str, &str)], flags: &[&str]| {
        std::fs::write(&file, content).expect("written");
        command()
            .args(["check-config", "--config"])
            .arg(&file)
            .args(flags)
            .envs(variables.iter().copied())
            .output()
            .expect("run")
    };
    let output = check("root = '/c'\nlimits = '1GB'", &[], &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("cache.toml is no settings file"), "{said}");
    assert!(said.contains("unknown field `limits`"), "{said}");

    let output = check(
        "root = '/c'\nlimit = '1GB'\ngrace = '1m'\nscrub = 'none'",
        &[
            ("ASHLAR_CACHE_SERVER_LIMIT", "2GB"),
            ("ASHLAR_CACHE_SERVER_GRACE", "2m"),
        ],
        &["--limit", "3GB"],
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    for line in ["limit = \"3GB\"", "grace = \"2m\"", "scrub = \"none\""] {
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
    let output = check("root = '/c'\nwrite_token_file = '/nowhere'", &[], &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("cannot read the token file /nowhere"),
        "{said}"
    );
    let output = check(
        "root = '/c'\ntls_cert = '/dev/null'\ntls_key = '/dev/null'",
        &[],
        &[],
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn two_servers_do_not_share_a_store() {
    let root = tempfile::tempdir().expect("a folder");
    let server = Running::start(root.path(), &["--listen", "127.0.0.1:0"]);
    let path = root.path().to_str().expect("a path");
    for command in [
        &["serve", "--root", path, "--listen", "127.0.0.1:0"][..],
        &["fsck", "--root", path],
    ] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    drop(server);
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_an_address() {
    let root = tempfile::tempdir().expect("a folder");
    let socket = root.path().join("cache.sock");
    let listen = format!("unix:{}", socket.display());
    let mut server = Running::start(&root.path().join("store"), &["--listen", &listen]);
    assert_eq!(server.address, listen);
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display()));
    let channel = channel.expect("an address").connect().await;
    let mut client =
        reapi::capabilities_client::CapabilitiesClient::new(channel.expect("connected"));
    client
        .get_capabilities(reapi::GetCapabilitiesRequest::default())
        .await
        .expect("capabilities");
    drop(client);
    server.signal(rustix::process::Signal::INT);
    assert_eq!(server.end().await.0, Some(0));
    assert!(!socket.exists());
}

#[test]
fn the_version_is_said() {
    let version = concat!("ashlar-cache ", env!("CARGO_PKG_VERSION"), "\n");
    for arguments in [&["version"], &["--version"]] {
        let output = run(arguments);
        assert_eq!(text(&output.stdout), version);
        assert_eq!(output.status.code(), Some(0));
    }
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
}

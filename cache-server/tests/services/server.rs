//! What surrounds the services: rights, health, reflection, pages.

use std::io::Write as _;

use ashlar_cache_server::auth::{Access, Policy, Tokens, Writers};
use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::capabilities_client::CapabilitiesClient;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use ashlar_store::clock;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::harness::{Harness, wire};

const WRITER: &str = "writer-0123456789";
const READER: &str = "reader-0123456789";

fn tokens(token: &str) -> Tokens {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "{token}").expect("written");
    Tokens::read(file.path()).expect("tokens")
}

fn of_files(writers: Writers, readers: Option<Tokens>) -> Access {
    Access::new(Policy::of_files(writers, readers), clock::system())
}

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value: MetadataValue<_> = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// Writes, reads, and asks for capabilities with a token. Gives what came of it: codes, and whether
/// the server says that it takes updates.
async fn tried(harness: &Harness, token: Option<&str>) -> (Code, Code, Option<bool>) {
    let channel = harness.channel().await;
    let mut cas = ContentAddressableStorageClient::new(channel.clone());
    let blob = CasDigest::of(DigestFunction::Sha256, b"a stone");
    let update = reapi::BatchUpdateBlobsRequest {
        requests: vec![reapi::batch_update_blobs_request::Request {
            digest: Some(wire(&blob)),
            data: Bytes::from_static(b"a stone"),
            compressor: 0,
        }],
        ..Default::default()
    };
    let find = reapi::FindMissingBlobsRequest {
        blob_digests: vec![wire(&blob)],
        ..Default::default()
    };
    let code = |status: Status| status.code();
    let written = cas.batch_update_blobs(with_token(update, token)).await;
    let read = cas.find_missing_blobs(with_token(find, token)).await;
    let request = with_token(reapi::GetCapabilitiesRequest::default(), token);
    let capabilities = CapabilitiesClient::new(channel)
        .get_capabilities(request)
        .await;
    let update_enabled = capabilities.ok().and_then(|capabilities| {
        let cache = capabilities.into_inner().cache_capabilities?;
        Some(cache.action_cache_update_capabilities?.update_enabled)
    });
    (
        written.map_or_else(code, |_| Code::Ok),
        read.map_or_else(code, |_| Code::Ok),
        update_enabled,
    )
}

#[tokio::test]
async fn a_token_lets_write_and_everyone_reads() {
    let access = of_files(Writers::With(tokens(WRITER)), None);
    let harness = Harness::with(access, 0).await;
    let no = Code::Unauthenticated;
    assert_eq!(tried(&harness, None).await, (no, Code::Ok, Some(false)));
    assert_eq!(
        tried(&harness, Some(WRITER)).await,
        (Code::Ok, Code::Ok, Some(true))
    );
    assert_eq!(tried(&harness, Some(READER)).await, (no, no, None));
}

#[tokio::test]
async fn readers_may_need_a_token_of_their_own() {
    let access = of_files(Writers::With(tokens(WRITER)), Some(tokens(READER)));
    let harness = Harness::with(access, 0).await;
    let no = Code::Unauthenticated;
    assert_eq!(tried(&harness, None).await, (no, no, None));
    assert_eq!(
        tried(&harness, Some(READER)).await,
        (Code::PermissionDenied, Code::Ok, Some(false))
    );
    assert_eq!(
        tried(&harness, Some(WRITER)).await,
        (Code::Ok, Code::Ok, Some(true))
    );
    assert!(
        page(&harness, "/metrics", "")
            .await
            .starts_with("HTTP/1.1 401")
    );
    let header = format!("authorization: Bearer {READER}\r\n");
    assert!(
        page(&harness, "/metrics", &header)
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        page(&harness, "/readyz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn nobody_writes_to_a_server_that_is_read_only() {
    let access = of_files(Writers::Nobody, None);
    let harness = Harness::with(access, 0).await;
    assert_eq!(
        tried(&harness, None).await,
        (Code::Unauthenticated, Code::Ok, Some(false))
    );
    assert_eq!(
        tried(&harness, Some("any token")).await,
        (Code::PermissionDenied, Code::Ok, Some(false))
    );
}

/// A page, as a client of HTTP/1.1 gets it on the server's only address.
async fn page(harness: &Harness, path: &str, header: &str) -> String {
    let mut connection = harness.connection();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n{header}\r\n");
    connection
        .write_all(request.as_bytes())
        .await
        .expect("asked");
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .await
        .expect("answered");
    answer
}

async fn health(harness: &Harness) -> i32 {
    let mut client = HealthClient::new(harness.channel().await);
    let request = HealthCheckRequest {
        service: "google.bytestream.ByteStream".to_owned(),
    };
    client
        .check(request)
        .await
        .expect("checked")
        .into_inner()
        .status
}

#[tokio::test]
async fn pages_and_health_tell_how_the_server_is() {
    let harness = Harness::new().await;
    assert!(
        page(&harness, "/healthz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        page(&harness, "/readyz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        page(&harness, "/nothing", "")
            .await
            .starts_with("HTTP/1.1 ")
    );
    assert_eq!(health(&harness).await, i32::from(ServingStatus::Serving));

    *harness.upkeep.broken.lock().expect("a flag") = true;
    let answer = page(&harness, "/readyz", "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(!answer.contains("the disk is gone"), "that is for the log");
    *harness.upkeep.broken.lock().expect("a flag") = false;

    harness.assembled.begin_stop().await;
    assert!(
        page(&harness, "/readyz", "")
            .await
            .starts_with("HTTP/1.1 503")
    );
    assert!(
        page(&harness, "/healthz", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(health(&harness).await, i32::from(ServingStatus::NotServing));
}

#[tokio::test]
async fn requests_are_counted() {
    let harness = Harness::new().await;
    tried(&harness, None).await;
    let mut client = harness.actions().await;
    let request = reapi::GetActionResultRequest {
        action_digest: Some(wire(&CasDigest::of(DigestFunction::Sha256, b"a"))),
        ..Default::default()
    };
    let status = client.get_action_result(request).await;
    assert_eq!(status.expect_err("none").code(), Code::NotFound);
    page(&harness, "/healthz", "").await;
    let answer = page(&harness, "/metrics", "").await;
    let method = "build.bazel.remote.execution.v2";
    for line in [
        &format!(
            "ashlar_cache_requests_total{{method=\"{method}.ActionCache/GetActionResult\",\
             code=\"NotFound\"}} 1"
        ),
        &format!(
            "ashlar_cache_requests_total{{method=\"{method}.ContentAddressableStorage/\
             FindMissingBlobs\",code=\"Ok\"}} 1"
        ),
        &format!(
            "ashlar_cache_requests_running{{method=\"{method}.Capabilities/GetCapabilities\"}} 0"
        ),
        "ashlar_cache_requests_total{method=\"other\",code=\"Ok\"} 1",
        "ashlar_cache_misses_total 1",
        "ashlar_cache_store_blobs 7",
        "ashlar_cache_ready 1",
    ] {
        assert!(answer.contains(line), "{line}\n{answer}");
    }
}

#[tokio::test]
async fn the_server_describes_itself() {
    let harness = Harness::new().await;
    let mut client = ServerReflectionClient::new(harness.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .expect("an answer")
        .into_inner();
    let answer: ServerReflectionResponse =
        answers.message().await.expect("an answer").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in [
        "build.bazel.remote.execution.v2.ContentAddressableStorage",
        "ashlar.cache.v1.Results",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let harness = Harness::new().await;
    let mut client = reapi::execution_client::ExecutionClient::new(harness.channel().await);
    let status = client.execute(reapi::ExecuteRequest::default()).await;
    assert_eq!(status.expect_err("not served").code(), Code::Unimplemented);
}

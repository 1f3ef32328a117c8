//! Uploads to registries with habits of their own.

use std::sync::{Arc, Mutex};

use ashlar_image::blob_source::BlobSource;
use ashlar_image::manifest::describe;
use ashlar_image::registry::{PushedBlob, RegistryError};
use ashlar_model::digest::BlobDigest;
use bytes::Bytes;

use super::support::fake_server::{FakeServer, Reply, Request};
use super::support::sample::noise;
use super::support::{client, reference};

/// What a registry has been sent.
#[derive(Default)]
struct State {
    received: Vec<u8>,
    stored: Option<Vec<u8>>,
    sessions: usize,
    puts: usize,
    patches: usize,
}

/// The usual answers of a registry to an upload.
fn usual(state: &mut State, request: &Request) -> Reply {
    let line = request.line();
    if line.starts_with("HEAD ") {
        return Reply::new(404);
    }
    if line.starts_with("POST ") {
        state.sessions += 1;
        state.received.clear();
        return Reply::new(202).header(
            "Location",
            format!("/v2/app/blobs/uploads/{}?_state=a%2Fb", state.sessions),
        );
    }
    if line.starts_with("PATCH ") {
        state.patches += 1;
        state.received.extend_from_slice(&request.body);
        let last = state.received.len() - 1;
        return Reply::new(202)
            .header("Location", &request.path)
            .header("Range", format!("0-{last}"));
    }
    if line.starts_with("GET ") {
        let last = state.received.len().saturating_sub(1);
        return Reply::new(204)
            .header("Location", &request.path)
            .header("Range", format!("0-{last}"));
    }
    state.puts += 1;
    state.received.extend_from_slice(&request.body);
    let digest = BlobDigest::of(&state.received)
        .to_string()
        .replace(':', "%3A");
    if !request
        .path
        .ends_with(&format!("?_state=a%2Fb&digest={digest}"))
    {
        return Reply::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
    }
    state.stored = Some(std::mem::take(&mut state.received));
    Reply::new(201)
}

struct Registry {
    server: FakeServer,
    state: Arc<Mutex<State>>,
}

/// A registry that answers as `special` says, and as usual where it says nothing.
fn registry(
    special: impl Fn(&mut State, &Request) -> Option<Reply> + Send + Sync + 'static,
) -> Registry {
    let state = Arc::new(Mutex::new(State::default()));
    let shared = Arc::clone(&state);
    let server = FakeServer::start(move |request| {
        let mut state = shared.lock().unwrap();
        match special(&mut state, request) {
            Some(reply) => reply,
            None => usual(&mut state, request),
        }
    });
    Registry { server, state }
}

impl Registry {
    async fn push(&self, blob: &[u8]) -> Result<PushedBlob, RegistryError> {
        let name = reference(&format!("{}/app", self.server.host()));
        let source: Arc<dyn BlobSource> = Arc::new(Bytes::copy_from_slice(blob));
        client()
            .push_blob(&name, &describe("x", blob), &source, &[], None)
            .await
    }

    fn stored(&self) -> Option<Vec<u8>> {
        self.state.lock().unwrap().stored.clone()
    }
}

#[tokio::test]
async fn a_blob_goes_in_one_request() {
    for length in [0, 1, 300_000] {
        let registry = registry(|_, _| None);
        let blob = noise(20, length);
        let pushed = registry.push(&blob).await.unwrap();
        assert_eq!(pushed, PushedBlob::Uploaded);
        assert!(registry.stored().unwrap() == blob);
        let methods: Vec<String> = registry
            .server
            .requests()
            .into_iter()
            .map(|request| request.method)
            .collect();
        assert_eq!(methods, ["HEAD", "POST", "PUT"]);
    }
}

#[tokio::test]
async fn a_failed_attempt_begins_a_new_session() {
    let registry = registry(|state, request| {
        if request.method == "PUT" && state.sessions < 3 {
            // The registry keeps what came, so that the session is spoilt.
            state.received.extend_from_slice(&request.body);
            return Some(Reply::new(503));
        }
        None
    });
    let blob = noise(21, 300_000);
    registry.push(&blob).await.unwrap();
    assert!(registry.stored().unwrap() == blob);
    let state = registry.state.lock().unwrap();
    assert_eq!((state.sessions, state.patches), (3, 0));
}

#[tokio::test]
async fn a_registry_that_wants_chunks_gets_them() {
    for status in [400, 405, 413] {
        let registry = registry(move |_, request| {
            (request.method == "PUT" && !request.body.is_empty()).then(|| Reply::new(status))
        });
        let blob = noise(22, 300_000);
        registry.push(&blob).await.unwrap();
        assert!(registry.stored().unwrap() == blob);
        assert_eq!(registry.state.lock().unwrap().patches, 1);
    }
}

#[tokio::test]
async fn a_broken_chunk_is_taken_up_where_the_registry_stands() {
    let registry = registry(|state, request| {
        if request.method == "PUT" && !request.body.is_empty() {
            return Some(Reply::new(413));
        }
        // The second chunk arrives in part.
        if request.method == "PATCH" && state.patches == 1 {
            state.patches += 1;
            state.received.extend_from_slice(&request.body[..1000]);
            return Some(Reply::new(502));
        }
        None
    });
    let blob = noise(23, 40_000_000);
    registry.push(&blob).await.unwrap();
    assert!(registry.stored().unwrap() == blob);
    let ranges: Vec<String> = registry
        .server
        .requests()
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| request.header("content-range").unwrap().to_owned())
        .collect();
    assert_eq!(
        ranges,
        ["0-33554431", "33554432-39999999", "33555432-39999999"]
    );
}

#[tokio::test]
async fn an_upload_that_is_refused_for_good_is_told() {
    let registry = registry(|_, request| {
        (request.method == "POST").then(|| {
            Reply::new(403).body(r#"{"errors":[{"code":"DENIED","message":"quota exceeded"}]}"#)
        })
    });
    let error = registry.push(b"x").await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("quota exceeded"), "{error}");
    assert_eq!(registry.stored(), None);
}

#[tokio::test]
async fn an_upload_without_a_location_is_told() {
    let registry = registry(|_, request| (request.method == "POST").then(|| Reply::new(202)));
    let error = registry.push(b"x").await.unwrap_err();
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_mount_that_is_refused_becomes_an_upload() {
    let registry = registry(|_, _| None);
    let host = registry.server.host();
    let name = reference(&format!("{host}/app"));
    let blob = b"blob".as_slice();
    let source: Arc<dyn BlobSource> = Arc::new(Bytes::from_static(b"blob"));
    let known = [reference(&format!("{host}/base"))];
    let pushed = client()
        .push_blob(&name, &describe("x", blob), &source, &known, None)
        .await
        .unwrap();
    assert_eq!(pushed, PushedBlob::Uploaded);
    let lines = registry.server.lines();
    assert_eq!(
        lines.len(),
        3,
        "the session of the mount is used: {lines:?}"
    );
    assert_eq!(
        lines[1],
        format!(
            "POST /v2/app/blobs/uploads/?mount={}&from=base",
            BlobDigest::of(blob)
        )
    );
}

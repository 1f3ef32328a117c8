//! What servers of a farm do for each other: they give what they have near, and the one that has the
//! queue serves what the others pass on.
//!
//! A server that needs a blob asks its owner on an address of its own, which serves reads to whoever
//! shows the servers' token, and nothing else. The owner looks near, then far away, and keeps near
//! what it found.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use ashlar_model::executor::BoxFuture;
use ashlar_model::secret::SecretValue;
use ashlar_proto::wire::bytestream::byte_stream_server::ByteStreamServer;
use ashlar_proto::wire::reapi::capabilities_server::CapabilitiesServer;
use ashlar_proto::wire::reapi::content_addressable_storage_server::ContentAddressableStorageServer;
use ashlar_store::grpc::endpoint::TokenSource;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::{Request, Status};
use tower::Service;

use crate::auth::{Caller, Grant, Right};
use crate::dispatch::forward;
use crate::limits::MESSAGE;
use crate::routes::QueueServices;
use crate::service::byte_stream::ByteStreamService;
use crate::service::byte_stream::upload::Uploads;
use crate::service::capabilities::CapabilitiesService;
use crate::service::content_addressable_storage::CasService;
use crate::stores::Stores;

/// The token file is read this often, so that tokens can be changed.
const READ_EVERY: Duration = Duration::from_secs(10);

/// A token that is shorter can be guessed.
const SHORTEST: usize = 16;

/// A file of tokens of servers that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PeerTokenError {
    /// It cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no token in it, or one that is none.
    #[error(
        "the token file {} has to have tokens of 16 characters or more, each on a line of its own",
        .0.display()
    )]
    Content(PathBuf),
}

/// The tokens that servers show each other.
#[derive(Debug)]
pub struct PeerTokens {
    path: PathBuf,
    known: ArcSwap<Known>,
}

#[derive(Debug)]
struct Known {
    /// The one that this server shows.
    own: SecretValue,
    /// Hashes of those that it takes, so that comparing tells nothing by the time it takes.
    taken: Vec<blake3::Hash>,
}

impl PeerTokens {
    /// The tokens of a file.
    pub fn read(path: &Path) -> Result<Self, PeerTokenError> {
        Ok(Self {
            known: ArcSwap::from_pointee(read(path)?),
            path: path.to_owned(),
        })
    }

    /// Reads the file again and again, for as long as it runs. One that is no good is left alone.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(READ_EVERY).await;
            match read(&self.path) {
                Ok(known) => self.known.store(Arc::new(known)),
                Err(error) => tracing::warn!("the tokens of servers stay as they were: {error}"),
            }
        }
    }

    fn takes(&self, token: &str) -> bool {
        let hash = blake3::hash(token.as_bytes());
        self.known.load().taken.contains(&hash)
    }
}

fn read(path: &Path) -> Result<Known, PeerTokenError> {
    let text = std::fs::read_to_string(path).map_err(|source| PeerTokenError::Read {
        path: path.to_owned(),
        source,
    })?;
    let lines = text.lines().map(str::trim);
    let tokens: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let wrong = || PeerTokenError::Content(path.to_owned());
    let is_token =
        |token: &&str| token.len() >= SHORTEST && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !tokens.iter().all(is_token) {
        return Err(wrong());
    }
    let own = tokens.first().ok_or_else(wrong)?;
    Ok(Known {
        own: SecretValue::new(own.as_bytes().to_vec()),
        taken: tokens
            .iter()
            .map(|token| blake3::hash(token.as_bytes()))
            .collect(),
    })
}

impl TokenSource for PeerTokens {
    fn token(&self) -> Option<SecretValue> {
        Some(self.known.load().own.clone())
    }
}

/// Lets servers in that show a token.
#[derive(Debug, Clone)]
struct PeerGate {
    tokens: Arc<PeerTokens>,
}

impl Interceptor for PeerGate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let shown = request.metadata().get("authorization");
        let shown = shown.and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.strip_prefix("Bearer "));
        if !token.is_some_and(|token| self.tokens.takes(token)) {
            return Err(Status::unauthenticated("this is for servers of the farm"));
        }
        let from = request.remote_addr().as_ref().map(SocketAddr::to_string);
        let name = format!("server {}", from.as_deref().unwrap_or("of the farm"));
        let grant = Grant {
            namespace: String::new(),
            rights: [Right::Read].into_iter().collect(),
        };
        request.extensions_mut().insert(Caller::new(name, [grant]));
        Ok(request)
    }
}

/// Lets servers in that show a token and say for whom they ask: for that one they ask.
#[derive(Debug, Clone)]
struct Passed<S> {
    inner: S,
    tokens: Arc<PeerTokens>,
}

impl<S: NamedService> NamedService for Passed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Passed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let headers = request.headers();
        let token = bearer(headers).filter(|token| self.tokens.takes(token));
        let passed = token.and_then(|_| forward::decode(headers));
        let Some((caller, peer)) = passed else {
            let refused = Status::unauthenticated("this is for servers of the farm").into_http();
            return Box::pin(std::future::ready(Ok(refused)));
        };
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(peer);
        Box::pin(self.inner.call(request))
    }
}

/// The token of a request.
fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let shown = headers.get("authorization")?.to_str().ok()?;
    shown.strip_prefix("Bearer ")
}

/// What other servers may ask of `stores`: to read blobs. And of the queue, what they are asked
/// themselves.
pub fn routes(stores: Stores, tokens: Arc<PeerTokens>, queue: Option<&QueueServices>) -> Routes {
    let passed = tokens.clone();
    let gate = PeerGate { tokens };
    let uploads = Uploads::new(0);
    let mut builder = Routes::builder();
    builder
        .add_service(InterceptedService::new(
            CapabilitiesServer::new(CapabilitiesService {
                max_blob: 0,
                has_queue: false,
            }),
            gate.clone(),
        ))
        .add_service(InterceptedService::new(
            ByteStreamServer::new(ByteStreamService {
                stores: stores.clone(),
                uploads: uploads.clone(),
                max_blob: 0,
            })
            .max_decoding_message_size(MESSAGE),
            gate.clone(),
        ))
        .add_service(InterceptedService::new(
            ContentAddressableStorageServer::new(CasService {
                stores,
                uploads,
                max_blob: 0,
            })
            .max_decoding_message_size(MESSAGE)
            .max_encoding_message_size(MESSAGE),
            gate,
        ));
    if let Some(queue) = queue {
        macro_rules! passed {
            ($server:expr) => {
                Passed {
                    inner: $server,
                    tokens: passed.clone(),
                }
            };
        }
        builder
            .add_service(passed!(queue.execution()))
            .add_service(passed!(queue.operations()))
            .add_service(passed!(queue.farm()))
            .add_service(passed!(queue.workers()));
    }
    builder.routes().prepare()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_token_that_is_shown_and_those_that_are_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens");
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write("# new\n0123456789abcdef\n\nfedcba9876543210\n");
        let tokens = PeerTokens::read(&path).expect("tokens");
        let own = tokens.token().expect("a token");
        assert_eq!(own.reveal(), b"0123456789abcdef");
        assert!(tokens.takes("fedcba9876543210") && tokens.takes("0123456789abcdef"));
        assert!(!tokens.takes("0123456789abcdeF") && !tokens.takes(""));
        for wrong in [
            "",
            "# none\n",
            "short\n",
            "0123456789abcdef\nwith a blank in it\n",
        ] {
            write(wrong);
            PeerTokens::read(&path).expect_err(wrong);
        }
    }
}

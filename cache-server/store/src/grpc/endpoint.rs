//! Connections to a server, and what was agreed upon with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ashlar_model::cas::DigestFunction;
use ashlar_model::secret::SecretValue;
use ashlar_proto::retry;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::capabilities_client::CapabilitiesClient;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};
use tonic::codegen::http::HeaderValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Response, Status};

use super::capabilities::GrpcCapabilities;
use super::channel::{Authorization, Connection, GrpcChannel};
use super::dial::Host;
use super::status::fault_of;
use crate::fault::{Fault, FaultKind, in_one_line};

/// Over a distance of 50 ms, 64 KiB (the default) would be 1.3 MB a second.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A connection over which a call waits is asked for life this often. Some servers (grpc-go) take
/// more for an attack.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A call that failed this fast because of its connection is made once more.
const FAST: Duration = Duration::from_secs(1);

/// The same where there are other servers, and how often it is made then.
const FAST_ENOUGH: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 4;

/// A server that says when to come again is asked again then, up to so long and so often.
const PATIENCE: Duration = Duration::from_secs(20);
const WAITS: u32 = 20;
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Where there are other servers, a call that has no answer for so long is made to one of them as
/// well. Longer than it takes until a connection is passed over.
const HEDGE: Duration = Duration::from_millis(700);
const MOST_AT_ONCE: u32 = 3;

/// Gives the token that is sent with a call. Asked for every call, so that one that runs out can be
/// followed by another.
pub trait TokenSource: Send + Sync + fmt::Debug {
    /// The token; `None` if there is none now.
    fn token(&self) -> Option<SecretValue>;
}

impl TokenSource for SecretValue {
    fn token(&self) -> Option<SecretValue> {
        Some(self.clone())
    }
}

/// How a host is reached; `None` for a socket of this machine.
type Reached = (Endpoint, Option<Host>);

/// Who a client is, for servers that ask for its certificate.
#[derive(Clone)]
pub struct ClientIdentity {
    /// Its certificate, and those that lead up to one that the server knows, in PEM.
    pub certificates: Vec<u8>,
    /// The certificate's key, in PEM.
    pub key: SecretValue,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(…)")
    }
}

/// How a server is reached, and how it is used.
#[derive(Debug, Clone)]
pub struct GrpcSettings {
    /// `grpc://HOST:PORT`, `grpcs://HOST:PORT` or `unix:///PATH`. Several servers with the same
    /// stores behind them: `grpc://HOST:PORT+HOST:PORT`, or a host with several addresses.
    pub address: String,
    /// REAPI's instance name for blobs; may be empty.
    pub instance: String,
    /// Sent with every call.
    pub token: Option<Arc<dyn TokenSource>>,
    /// Certificates, in PEM, one of which the server's has to lead up to; for `grpcs://`.
    pub certificates: Vec<Vec<u8>>,
    /// Who we are; for `grpcs://`.
    pub identity: Option<ClientIdentity>,
    /// How many connections are held.
    pub connections: usize,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long a stream may stand still.
    pub stall_timeout: Duration,
    /// Whether bytes are compressed where the server can; a loss on fast networks.
    pub compression: bool,
    /// Output files with one of these paths come with their contents, if the server likes.
    pub inline_output_files: Vec<String>,
}

impl GrpcSettings {
    /// Settings for an address. What goes over this machine's own network is not compressed.
    pub fn new(address: impl Into<String>) -> Self {
        let address = address.into();
        let compression = !is_local(&address);
        Self {
            address,
            instance: String::new(),
            token: None,
            certificates: Vec::new(),
            identity: None,
            connections: 2,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(10),
            compression,
            inline_output_files: Vec::new(),
        }
    }

    fn authorization(&self) -> Result<Option<Authorization>, Fault> {
        let Some(source) = self.token.clone() else {
            return Ok(None);
        };
        // One that cannot be sent is an error now, not a refusal later.
        if let Some(token) = source.token() {
            header(&token).ok_or_else(|| {
                Fault::invalid("the token for the server has characters that no token has")
            })?;
        }
        Ok(Some(Arc::new(move || header(&source.token()?))))
    }

    /// The hosts, each as an endpoint; none for a socket of this machine, which has the address.
    fn endpoints(&self) -> Result<Vec<Reached>, Fault> {
        let wrong = || Fault::invalid(format!("{} is no address of a server", self.address));
        let (scheme, rest) = self.address.split_once("://").ok_or_else(wrong)?;
        let http = match scheme {
            "grpc" => "http",
            "grpcs" => "https",
            "unix" => return Ok(vec![(self.endpoint(&self.address, false)?, None)]),
            _ => return Err(wrong()),
        };
        let hosts = rest.split('+').map(|authority| {
            let authority = authority.strip_suffix('/').unwrap_or(authority);
            let host = Host::parse(authority).ok_or_else(wrong)?;
            let endpoint = self.endpoint(&format!("{http}://{authority}"), http == "https")?;
            Ok((endpoint, Some(host)))
        });
        hosts.collect()
    }

    fn endpoint(&self, uri: &str, tls: bool) -> Result<Endpoint, Fault> {
        let wrong = || Fault::invalid(format!("{} is no address of a server", self.address));
        let endpoint =
            Endpoint::from_shared(uri.to_owned()).map_err(|error| wrong().caused_by(error))?;
        let endpoint = tuned(endpoint)
            .connect_timeout(self.connect_timeout)
            .user_agent(concat!("ashlar/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| wrong().caused_by(error))?;
        if !tls {
            return Ok(endpoint);
        }
        let trusted = self.certificates.iter().map(Certificate::from_pem);
        let mut config = ClientTlsConfig::new().ca_certificates(trusted);
        if let Some(identity) = &self.identity {
            let key = identity.key.reveal();
            config = config.identity(Identity::from_pem(&identity.certificates, key));
        }
        endpoint.tls_config(config).map_err(|error| {
            Fault::invalid(format!("TLS cannot be used with {}", self.address)).caused_by(error)
        })
    }

    /// The connections, none of which is made yet. They go to all hosts, and as many to each.
    fn connections(&self) -> Result<Vec<Arc<Connection>>, Fault> {
        let endpoints = self.endpoints()?;
        let each = self.connections.div_ceil(endpoints.len().max(1)).max(1);
        let mut connections = Vec::new();
        let mut hosts = Vec::new();
        for (endpoint, host) in endpoints {
            match host {
                Some(host) => hosts.push((endpoint, Arc::new(host))),
                None => {
                    let lazy = || Connection::given(endpoint.connect_lazy());
                    connections.extend((0..each).map(|_| lazy()));
                }
            }
        }
        // Not all clients begin with the same server.
        if !hosts.is_empty() {
            let start = usize::try_from(std::process::id()).unwrap_or(0) % hosts.len();
            hosts.rotate_left(start);
        }
        for _ in 0..each {
            let of_hosts = hosts.iter();
            connections.extend(
                of_hosts.map(|(endpoint, host)| Connection::to(endpoint.clone(), host.clone())),
            );
        }
        Ok(connections)
    }
}

/// Whether another server may have a better answer.
fn may_differ(status: &Status) -> bool {
    fault_of("", status.clone()).kind == FaultKind::Unavailable || status.code() == Code::Internal
}

/// A token as it is sent; `None` if it cannot be.
fn header(token: &SecretValue) -> Option<HeaderValue> {
    let mut value = b"Bearer ".to_vec();
    value.extend_from_slice(token.reveal());
    let mut value = HeaderValue::from_bytes(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether an address is one of this machine.
fn is_local(address: &str) -> bool {
    let Some((scheme, rest)) = address.split_once("://") else {
        return false;
    };
    scheme == "unix"
        || rest.starts_with("localhost:")
        || rest.starts_with("127.")
        || rest.starts_with("[::1]")
}

/// Sets what does not depend on the server.
pub fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE / 2)
        .keep_alive_while_idle(false)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .tcp_nodelay(true)
}

/// A server that has answered.
#[derive(Debug)]
pub struct GrpcEndpoint {
    settings: GrpcSettings,
    channel: GrpcChannel,
    capabilities: GrpcCapabilities,
    function: DigestFunction,
}

impl GrpcEndpoint {
    /// Connects to a server and asks it what it can.
    pub async fn connect(settings: GrpcSettings) -> Result<Self, Fault> {
        let connections = settings.connections()?;
        // The first connection shows whether anybody is there; the others are made when they are
        // used. Where there are several hosts, any of them will do.
        let connect = async {
            let mut failed = None;
            for connection in &connections {
                match connection.open().await {
                    Ok(()) => return Ok(()),
                    Err(error) => failed = Some(error),
                }
                if settings.address.starts_with("unix:") || !settings.address.contains('+') {
                    break;
                }
            }
            failed.map_or(Ok(()), Err)
        };
        // The limit of the endpoint is one for TCP alone.
        match timeout(settings.connect_timeout, connect).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let fault = Fault::new(
                    FaultKind::Unavailable,
                    format!("cannot connect to {}", settings.address),
                );
                return Err(fault.caused_by(error));
            }
            Err(_) => {
                return Err(Fault::new(
                    FaultKind::Unavailable,
                    format!(
                        "cannot connect to {}: no answer within {:?}",
                        settings.address, settings.connect_timeout
                    ),
                ));
            }
        }
        Self::agree(connections, settings).await
    }

    /// Uses connections that are there already; the settings say how.
    pub async fn over(connections: Vec<Channel>, settings: GrpcSettings) -> Result<Self, Fault> {
        let connections = connections.into_iter().map(Connection::given).collect();
        Self::agree(connections, settings).await
    }

    async fn agree(
        connections: Vec<Arc<Connection>>,
        settings: GrpcSettings,
    ) -> Result<Self, Fault> {
        let channel = GrpcChannel::new(connections, settings.authorization()?)
            .ok_or_else(|| Fault::invalid("a server without connections"))?;
        let mut endpoint = Self {
            settings,
            channel,
            capabilities: GrpcCapabilities::read(&reapi::ServerCapabilities::default()),
            function: DigestFunction::Sha256,
        };
        let request = reapi::GetCapabilitiesRequest {
            instance_name: endpoint.settings.instance.clone(),
        };
        let asked = endpoint
            .call("ask the server what it can", || {
                let mut client = CapabilitiesClient::new(endpoint.channel());
                let request = request.clone();
                async move { client.get_capabilities(request).await }
            })
            .await;
        match asked {
            Ok(answer) => endpoint.capabilities = GrpcCapabilities::read(&answer),
            // Then it can what every server can.
            Err(fault) if fault.kind == FaultKind::Unsupported => {}
            Err(fault) => return Err(fault),
        }
        endpoint.function = *endpoint.capabilities.functions.first().ok_or_else(|| {
            Fault::new(
                FaultKind::Unsupported,
                format!(
                    "{} knows neither SHA-256 nor BLAKE3",
                    endpoint.settings.address
                ),
            )
        })?;
        Ok(endpoint)
    }

    /// For clients of any service of the server. Cheap.
    pub fn channel(&self) -> GrpcChannel {
        self.channel.clone()
    }

    /// What the server can.
    pub const fn capabilities(&self) -> &GrpcCapabilities {
        &self.capabilities
    }

    /// The hash function that was agreed upon.
    pub const fn function(&self) -> DigestFunction {
        self.function
    }

    /// REAPI's instance name.
    pub fn instance(&self) -> &str {
        &self.settings.instance
    }

    /// How the server is used.
    pub const fn settings(&self) -> &GrpcSettings {
        &self.settings
    }

    /// Makes a call, within the time limit; again if the connection broke, with another server if
    /// there is one. `what` completes "cannot …".
    pub async fn call<T, F>(&self, what: &'static str, call: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.calling(what, call, MOST_AT_ONCE).await
    }

    /// The same for a call that is not to be made twice while there may be an answer to the first.
    pub async fn call_singly<T, F>(
        &self,
        what: &'static str,
        call: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.calling(what, call, 1).await
    }

    async fn calling<T, F>(
        &self,
        what: &'static str,
        call: impl Fn() -> F,
        most: u32,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let limit = self.settings.call_timeout;
        let began = Instant::now();
        let (mut attempt, mut waits) = (0, 0);
        loop {
            let fault = match timeout(limit, self.hedged(&call, most)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => {
                    let wait = retry::decode(status.details());
                    if let Some(wait) = wait
                        && waits < WAITS
                        && began.elapsed().saturating_add(wait) <= PATIENCE
                    {
                        waits += 1;
                        tracing::debug!(?wait, error = status.message(), "coming again");
                        sleep(wait.max(SHORTEST_WAIT)).await;
                        continue;
                    }
                    fault_of(what, status)
                }
                Err(_) => {
                    return Err(Fault::new(
                        FaultKind::Unavailable,
                        format!("cannot {what}: no answer within {limit:?}"),
                    ));
                }
            };
            attempt += 1;
            let (attempts, fast) = if self.channel.has_others() {
                (ATTEMPTS, FAST_ENOUGH)
            } else {
                (2, FAST)
            };
            if fault.kind != FaultKind::Unavailable || attempt >= attempts || began.elapsed() > fast
            {
                return Err(fault);
            }
            tracing::debug!(error = in_one_line(&fault), "trying again");
            sleep(Duration::from_millis(50) * attempt).await;
        }
    }

    /// Makes a call, and others if there is no answer and somebody else may have one. The first good
    /// answer counts.
    async fn hedged<T, F>(&self, call: impl Fn() -> F, most: u32) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut calls = FuturesUnordered::new();
        calls.push(call());
        let mut made = 1;
        loop {
            let may_have_more = made < most && self.channel.has_others();
            tokio::select! {
                Some(answer) = calls.next() => match answer {
                    Err(status) if !calls.is_empty() && may_differ(&status) => {}
                    answer => return answer,
                },
                () = sleep(HEDGE), if may_have_more => {
                    // Connections that leave a call without an answer are passed over.
                    tracing::debug!("asking another server as well");
                    calls.push(call());
                    made += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn endpoint() -> GrpcEndpoint {
        let nowhere = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let connections = vec![Connection::given(nowhere)];
        GrpcEndpoint {
            settings: GrpcSettings::new("grpc://127.0.0.1:1"),
            channel: GrpcChannel::new(connections, None).unwrap(),
            capabilities: GrpcCapabilities::read(&reapi::ServerCapabilities::default()),
            function: DigestFunction::Sha256,
        }
    }

    fn too_fast(wait: Duration) -> Status {
        let details = retry::encode(Code::ResourceExhausted.into(), "too fast", wait);
        Status::with_details(Code::ResourceExhausted, "too fast", details)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_fast_comes_again_when_it_is_told_to() {
        let (endpoint, calls) = (endpoint(), AtomicU32::new(0));
        let begin = Instant::now();
        let answer = endpoint.call("do it", || async {
            if calls.fetch_add(1, Ordering::Relaxed) < 3 {
                return Err(too_fast(Duration::from_secs(2)));
            }
            Ok(Response::new(7))
        });
        assert_eq!(answer.await.unwrap(), 7);
        assert!(begin.elapsed() >= Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_without_end() {
        let endpoint = endpoint();
        for wait in [Duration::ZERO, Duration::from_secs(2), Duration::MAX] {
            let begin = Instant::now();
            let answer =
                endpoint.call("do it", || async { Err::<Response<()>, _>(too_fast(wait)) });
            let fault = answer.await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Unavailable);
            assert!(begin.elapsed() <= PATIENCE + FAST_ENOUGH, "{wait:?}");
        }
    }
}

//! Connections to a server, and what was agreed upon with it.

use std::time::Duration;

use ashlar_model::cas::DigestFunction;
use ashlar_model::secret::SecretValue;
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::capabilities_client::CapabilitiesClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::codegen::http::HeaderValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Response, Status};

use super::capabilities::GrpcCapabilities;
use super::channel::GrpcChannel;
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

/// How a server is reached, and how it is used.
#[derive(Debug, Clone)]
pub struct GrpcSettings {
    /// `grpc://HOST:PORT`, `grpcs://HOST:PORT` or `unix:///PATH`.
    pub address: String,
    /// REAPI's instance name for blobs; may be empty.
    pub instance: String,
    /// Sent with every call.
    pub token: Option<SecretValue>,
    /// Certificates, in PEM, one of which the server's has to lead up to; for `grpcs://`.
    pub certificates: Vec<Vec<u8>>,
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
            connections: 2,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(10),
            compression,
            inline_output_files: Vec::new(),
        }
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Fault> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        let mut value = b"Bearer ".to_vec();
        value.extend_from_slice(token.reveal());
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| {
            Fault::invalid("the token for the server has characters that no token has")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn endpoint(&self) -> Result<Endpoint, Fault> {
        let wrong = || Fault::invalid(format!("{} is no address of a server", self.address));
        let (scheme, rest) = self.address.split_once("://").ok_or_else(wrong)?;
        let uri = match scheme {
            "grpc" => format!("http://{rest}"),
            "grpcs" => format!("https://{rest}"),
            "unix" => self.address.clone(),
            _ => return Err(wrong()),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| wrong().caused_by(error))?;
        let endpoint = tuned(endpoint)
            .connect_timeout(self.connect_timeout)
            .user_agent(concat!("ashlar/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| wrong().caused_by(error))?;
        if scheme != "grpcs" {
            return Ok(endpoint);
        }
        let trusted = self.certificates.iter().map(Certificate::from_pem);
        endpoint
            .tls_config(ClientTlsConfig::new().ca_certificates(trusted))
            .map_err(|error| {
                Fault::invalid(format!("TLS cannot be used with {}", self.address)).caused_by(error)
            })
    }
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
        let endpoint = settings.endpoint()?;
        let connect = async {
            // The first connection shows whether anybody is there; the others are made when they
            // are used.
            let first = endpoint.connect().await?;
            let mut connections = vec![first];
            for _ in 1..settings.connections {
                connections.push(endpoint.connect_lazy());
            }
            Ok::<_, tonic::transport::Error>(connections)
        };
        // The limit of the endpoint is one for TCP alone.
        let connections = match timeout(settings.connect_timeout, connect).await {
            Ok(Ok(connections)) => connections,
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
        };
        Self::over(connections, settings).await
    }

    /// Uses connections that are there already; the settings say how.
    pub async fn over(connections: Vec<Channel>, settings: GrpcSettings) -> Result<Self, Fault> {
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

    /// Makes a call, within the time limit; once more if the connection broke. `what` completes
    /// "cannot …".
    pub async fn call<T, F>(&self, what: &'static str, call: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let limit = self.settings.call_timeout;
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            let fault = match timeout(limit, call()).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => fault_of(what, status),
                Err(_) => {
                    return Err(Fault::new(
                        FaultKind::Unavailable,
                        format!("cannot {what}: no answer within {limit:?}"),
                    ));
                }
            };
            attempt += 1;
            if fault.kind != FaultKind::Unavailable || attempt > 1 || began.elapsed() > FAST {
                return Err(fault);
            }
            tracing::debug!(error = in_one_line(&fault), "trying again");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

//! One server of Redis, and the connections to it.
//!
//! Each connection is shared by all who ask at the same time: requests and answers follow each other
//! without waiting. There are several *lanes*: one for what is answered at once, and some for writes
//! that wait for replicas, which would hold up what comes behind them.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisError, TlsCertificates,
};
use tokio::time::Instant;

use super::address::{Address, Host, Layout};
use super::remedy::{Remedy, Trouble};
use super::settings::RedisSettings;
use super::wait::Backoff;
use crate::fault::FaultKind;

/// Lanes for writes that wait.
const WAITING_LANES: usize = 4;

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) address: Address,
    pub(super) settings: RedisSettings,
}

/// Whom a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A server that has the data.
    Server,
    /// A Sentinel that lets everybody in.
    OpenSentinel,
    /// A Sentinel that wants the password that the servers have.
    Sentinel,
}

impl Dialer {
    async fn read(path: &std::path::Path) -> Result<Vec<u8>, Trouble> {
        tokio::fs::read(path).await.map_err(|error| {
            let what = format!("{}: {error}", path.display());
            Trouble::new(Remedy::None(FaultKind::Unavailable), what)
        })
    }

    async fn client(&self, host: &Host, role: Role) -> Result<Client, Trouble> {
        let address = match &self.address.layout {
            Layout::Unix(path) => ConnectionAddr::Unix(path.clone()),
            _ if self.address.tls => ConnectionAddr::TcpTls {
                host: host.name.clone(),
                port: host.port,
                insecure: false,
                tls_params: None,
            },
            _ => ConnectionAddr::Tcp(host.name.clone(), host.port),
        };
        let mut login = RedisConnectionInfo::default();
        if role == Role::Server {
            login = login.set_db(self.address.database);
        }
        if role != Role::OpenSentinel {
            let password = match &self.settings.password_file {
                Some(path) => {
                    let bytes = Self::read(path).await?;
                    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
                }
                None => self.address.password.clone(),
            };
            if let Some(password) = password {
                login = login.set_password(password);
                if let Some(user) = &self.address.user {
                    login = login.set_username(user);
                }
            }
        }
        let info = self.connection_info(address, login);
        let info = info.map_err(|error| Trouble::unconnected(&error))?;
        if !self.address.tls {
            return Client::open(info).map_err(|error| Trouble::unconnected(&error));
        }
        // Does nothing if the program has one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let root_cert = match &self.settings.ca_file {
            Some(path) => Some(Self::read(path).await?),
            None => None,
        };
        let client_tls = match &self.settings.certificate {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: Self::read(certificate).await?,
                client_key: Self::read(key).await?,
            }),
            None => None,
        };
        let certificates = TlsCertificates {
            client_tls,
            root_cert,
        };
        Client::build_with_tls(info, certificates).map_err(|error| Trouble::unconnected(&error))
    }

    fn connection_info(
        &self,
        address: ConnectionAddr,
        login: RedisConnectionInfo,
    ) -> Result<ConnectionInfo, RedisError> {
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_user_timeout(self.settings.response_timeout.saturating_mul(5));
        let info = address.into_connection_info()?;
        Ok(info.set_tcp_settings(tcp).set_redis_settings(login))
    }

    pub(super) async fn connect(
        &self,
        host: &Host,
        role: Role,
    ) -> Result<MultiplexedConnection, Trouble> {
        let client = self.client(host, role).await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(Some(self.settings.response_timeout));
        let connected = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        connected.map_err(|error| {
            let mut trouble = Trouble::unconnected(&error);
            trouble.error = format!("{host}: {error}");
            trouble
        })
    }

    async fn subscribe(&self, host: &Host, channel: &str) -> Result<PubSub, Trouble> {
        let client = self.client(host, Role::Server).await?;
        let subscribed = tokio::time::timeout(self.settings.connect_timeout, async {
            let mut listener = client.get_async_pubsub().await?;
            listener.subscribe(channel).await?;
            Ok(listener)
        });
        let subscribed = subscribed.await.unwrap_or_else(|_| {
            let why = (ErrorKind::Io, "it takes too long to subscribe");
            Err(RedisError::from(why))
        });
        subscribed.map_err(|error| Trouble::unconnected(&error))
    }
}

/// A connection that may be replaced by another.
#[derive(Clone)]
pub(super) struct Connection {
    number: usize,
    pub(super) inner: MultiplexedConnection,
}

#[derive(Default)]
struct Lane {
    current: Mutex<Option<Connection>>,
    /// Held by whoever makes a new one: the others wait for that.
    dialing: tokio::sync::Mutex<Backoff<Trouble>>,
}

/// A server, to which connections are made when they are needed.
pub(super) struct Node {
    pub(super) host: Host,
    dialer: Arc<Dialer>,
    made: AtomicUsize,
    turn: AtomicUsize,
    lanes: [Lane; 1 + WAITING_LANES],
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Node {
    pub(super) fn new(host: Host, dialer: Arc<Dialer>) -> Self {
        Self {
            host,
            dialer,
            made: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            lanes: Default::default(),
        }
    }

    /// A lane for what waits for replicas, or the one for everything else.
    pub(super) fn lane(&self, waits: bool) -> usize {
        if waits {
            1 + self.turn.fetch_add(1, Ordering::Relaxed) % WAITING_LANES
        } else {
            0
        }
    }

    /// The connection of a lane, made anew if there is none.
    pub(super) async fn connection(&self, lane: usize) -> Result<Connection, Trouble> {
        let Some(lane) = self.lanes.get(lane) else {
            let what = "there is no such connection";
            return Err(Trouble::new(Remedy::None(FaultKind::Internal), what));
        };
        let current = || lane.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &*current() {
            return Ok(connection.clone());
        }
        let mut dialing = lane.dialing.lock().await;
        if let Some(connection) = &*current() {
            return Ok(connection.clone());
        }
        if let Some(trouble) = dialing.refuses() {
            return Err(trouble.clone());
        }
        match self.dialer.connect(&self.host, Role::Server).await {
            Ok(inner) => {
                dialing.succeeded();
                let number = self.made.fetch_add(1, Ordering::Relaxed);
                let connection = Connection { number, inner };
                *current() = Some(connection.clone());
                Ok(connection)
            }
            Err(trouble) => {
                dialing.failed(trouble.clone());
                Err(trouble)
            }
        }
    }

    /// A connection is not to be used any more.
    pub(super) fn forget(&self, lane: usize, connection: &Connection) {
        let Some(lane) = self.lanes.get(lane) else {
            return;
        };
        let mut current = lane.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current
            .as_ref()
            .is_some_and(|there| there.number == connection.number)
        {
            *current = None;
        }
    }

    /// A connection that gives what is published on a channel.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, Trouble> {
        self.dialer.subscribe(&self.host, channel).await
    }
}

/// When something may be tried until.
pub(super) fn deadline(settings: &RedisSettings) -> Instant {
    Instant::now() + settings.patience
}

//! What only the client has: it gives secrets, sealed, and lends its ssh agents.
//!
//! An agent is a socket of this machine. A step that speaks to it does so over a channel: the bytes
//! go through the farm and this session, both ways, and nothing of them is kept anywhere.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ashlar_proto::wire::farm::session_request::{Kind as Request, Open};
use ashlar_proto::wire::farm::session_response::Kind as Response;
use ashlar_proto::wire::farm::{ChannelData, ChannelEnd, SessionRequest, SessionResponse};
use ashlar_store::fault::FaultKind;
use ashlar_store::grpc::fault_of;
use ashlar_store::task::{Task, spawn};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{FarmClient, FarmError};
use crate::patience::{Backoff, asked_to_wait};

const SESSION: &str = "open a session with the farm";

/// Messages that wait to be sent.
const WAITING: usize = 16;

/// Messages of one channel that wait for its agent. Agents take what they are sent, and ask for one
/// answer at a time.
const CHANNEL_WAITING: usize = 16;

/// Channels that are open at once.
const CHANNELS: usize = 64;

/// Bytes of a message.
const DATA: usize = 64 << 10;

/// How long the farm may be away before the session is given up. The build itself ends before.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long opening a session anew is waited for.
const RENEWAL: Duration = Duration::from_secs(60);

/// Agents by their ids: where their sockets are.
pub type Agents = BTreeMap<String, PathBuf>;

/// A build's session: it is there as long as this is.
#[derive(Debug)]
pub struct Session {
    renewals: mpsc::Sender<oneshot::Sender<()>>,
    _task: Task<()>,
}

impl Session {
    /// Opens the session anew, for a farm that has forgotten what it was given. Returns when it is
    /// open, or will not be.
    pub async fn renew(&self) {
        let (opened, is_open) = oneshot::channel();
        if self.renewals.send(opened).await.is_ok() {
            // One that does not come is heard of otherwise.
            drop(timeout(RENEWAL, is_open).await);
        }
    }
}

impl FarmClient {
    /// Opens a build's session. Returns when the farm knows of it; a connection that breaks is made
    /// again.
    pub async fn session(
        &self,
        build: &str,
        sealed: Bytes,
        agents: Agents,
    ) -> Result<Session, FarmError> {
        let (opened, is_open) = oneshot::channel();
        let (renew, renewals) = mpsc::channel(WAITING);
        let mut keeper = Keeper {
            client: self.clone(),
            open: Open {
                instance_name: self.instance().to_owned(),
                build: build.to_owned(),
                sealed,
            },
            agents: Arc::new(agents),
            opened: Some(opened),
            renewals,
            renewing: Vec::new(),
        };
        let task = spawn(async move {
            if let Err(error) = keeper.keep().await {
                match keeper.opened.take() {
                    Some(opened) => drop(opened.send(Err(error))),
                    None => tracing::warn!(%error, "the build's session with the farm has ended"),
                }
            }
        });
        is_open
            .await
            .map_err(|_| FarmError::Malformed("a session that ended at once"))??;
        Ok(Session {
            renewals: renew,
            _task: task,
        })
    }
}

struct Keeper {
    client: FarmClient,
    open: Open,
    agents: Arc<Agents>,
    /// Waits for the first time that the session is open.
    opened: Option<oneshot::Sender<Result<(), FarmError>>>,
    /// Asks for another connection.
    renewals: mpsc::Receiver<oneshot::Sender<()>>,
    /// Wait for that to be open.
    renewing: Vec<oneshot::Sender<()>>,
}

impl Keeper {
    async fn keep(&mut self) -> Result<(), FarmError> {
        let mut backoff = Backoff::default();
        loop {
            let status = match self.once(&mut backoff).await {
                Ok(()) => Status::unavailable("the session ended"),
                Err(status) => status,
            };
            let fault = fault_of(SESSION, status);
            let passes = fault.kind == FaultKind::Unavailable
                || fault.kind == FaultKind::Exhausted && asked_to_wait(&fault).is_some();
            if !passes || !backoff.wait(asked_to_wait(&fault)).await {
                return Err(FarmError::of_fault(fault));
            }
        }
    }

    /// One connection, until it ends.
    async fn once(&mut self, backoff: &mut Backoff) -> Result<(), Status> {
        let (outgoing, messages) = mpsc::channel::<SessionRequest>(WAITING);
        let open = message(Request::Open(self.open.clone()));
        // There is room for the first one.
        drop(outgoing.try_send(open));
        let mut client = self.client.wire();
        let mut incoming = client
            .session(ReceiverStream::new(messages))
            .await?
            .into_inner();
        self.serve(&mut incoming, &outgoing, backoff).await
    }

    async fn serve(
        &mut self,
        incoming: &mut Streaming<SessionResponse>,
        outgoing: &mpsc::Sender<SessionRequest>,
        backoff: &mut Backoff,
    ) -> Result<(), Status> {
        let mut channels: HashMap<u64, Channel> = HashMap::new();
        loop {
            let response = tokio::select! {
                response = incoming.message() => response?,
                Some(renewal) = self.renewals.recv() => {
                    self.renewing.push(renewal);
                    return Ok(());
                }
            };
            let Some(response) = response else {
                return Ok(());
            };
            match response.kind {
                Some(Response::Opened(_)) => {
                    *backoff = Backoff::lasting(PATIENCE);
                    if let Some(opened) = self.opened.take() {
                        // Whoever waited may have gone.
                        drop(opened.send(Ok(())));
                    }
                    for waiting in self.renewing.drain(..) {
                        let _gone = waiting.send(());
                    }
                }
                Some(Response::Channel(open)) => {
                    channels.retain(|_, channel| !channel.is_over());
                    let socket = self.agents.get(&open.agent).cloned();
                    let answer = if channels.len() >= CHANNELS {
                        Err("the client has too many channels open".to_owned())
                    } else {
                        socket.ok_or_else(|| format!("the client lends no agent {}", open.agent))
                    };
                    match answer {
                        Ok(socket) => {
                            let channel = Channel::open(open.channel, socket, outgoing.clone());
                            channels.insert(open.channel, channel);
                        }
                        Err(error) => {
                            drop(outgoing.send(end(open.channel, error)).await);
                        }
                    }
                }
                Some(Response::Data(data)) => {
                    if let Some(channel) = channels.get(&data.channel)
                        && !channel.take(data.data)
                    {
                        channels.remove(&data.channel);
                        let error = "the agent does not read".to_owned();
                        drop(outgoing.send(end(data.channel, error)).await);
                    }
                }
                Some(Response::End(ended)) => {
                    channels.remove(&ended.channel);
                }
                None => {}
            }
        }
    }
}

const fn message(kind: Request) -> SessionRequest {
    SessionRequest { kind: Some(kind) }
}

fn end(channel: u64, error: String) -> SessionRequest {
    message(Request::End(ChannelEnd { channel, error }))
}

/// A step's conversation with an agent. It is over when this is dropped.
#[derive(Debug)]
struct Channel {
    to_agent: mpsc::Sender<Bytes>,
    task: Task<()>,
}

impl Channel {
    fn open(channel: u64, socket: PathBuf, outgoing: mpsc::Sender<SessionRequest>) -> Self {
        let (to_agent, from_farm) = mpsc::channel(CHANNEL_WAITING);
        let task = spawn(async move {
            let ended = converse(channel, &socket, from_farm, &outgoing).await;
            let error = ended.map_or_else(|error| error.to_string(), |()| String::new());
            drop(outgoing.send(end(channel, error)).await);
        });
        Self { to_agent, task }
    }

    /// Takes bytes for the agent; `false` if it has too many already.
    fn take(&self, bytes: Bytes) -> bool {
        !matches!(
            self.to_agent.try_send(bytes),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }

    fn is_over(&self) -> bool {
        self.task.abort_handle().is_finished()
    }
}

async fn converse(
    channel: u64,
    socket: &Path,
    mut from_farm: mpsc::Receiver<Bytes>,
    outgoing: &mpsc::Sender<SessionRequest>,
) -> std::io::Result<()> {
    let agent = UnixStream::connect(socket).await?;
    let (mut from_agent, mut to_agent) = agent.into_split();
    let mut buffer = vec![0; DATA];
    loop {
        tokio::select! {
            read = from_agent.read(&mut buffer) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                let data = ChannelData {
                    channel,
                    data: Bytes::copy_from_slice(&buffer[..read]),
                };
                if outgoing.send(message(Request::Data(data))).await.is_err() {
                    return Ok(());
                }
            }
            bytes = from_farm.recv() => match bytes {
                Some(bytes) => to_agent.write_all(&bytes).await?,
                None => return Ok(()),
            },
        }
    }
}

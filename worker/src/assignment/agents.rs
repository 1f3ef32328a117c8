//! Agents of the build's client, as sockets here: what a step says to one goes to the client over the
//! connection to the farm, and what it answers comes back.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ashlar_store::home::scratch::Scratch;
use ashlar_store::home::{Home, StoreError};
use ashlar_store::task::{Task, spawn};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::attach::Line;
use crate::attach::channels::{Channel, PIECE};
use crate::attach::ledger::Given;

/// Conversations with one agent at once; more wait.
const AT_ONCE: usize = 16;
/// More agents than this no build has.
const MOST: usize = 64;
/// So long a step waits for a farm that is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sockets of agents, for as long as this is there.
#[derive(Debug)]
pub struct Agents {
    sockets: BTreeMap<String, PathBuf>,
    _serving: Vec<Task<()>>,
    _directory: Directory,
}

/// A directory for sockets, removed in the end.
#[derive(Debug)]
struct Directory(Scratch);

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is swept later.
        drop(std::fs::remove_dir_all(self.0.path()));
    }
}

/// Why there are no agents.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// There is no place for sockets.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A socket cannot be made.
    #[error("cannot make a socket for an ssh agent")]
    Socket(#[source] io::Error),
}

impl Agents {
    /// Listens for these agents, on behalf of some work.
    pub fn listen(
        home: &Home,
        line: &Arc<Line>,
        given: &Given,
        ids: &[String],
    ) -> Result<Option<Self>, AgentsError> {
        if ids.is_empty() {
            return Ok(None);
        }
        let directory = Directory(home.scratch()?);
        let mut sockets = BTreeMap::new();
        let mut serving = Vec::new();
        for (number, id) in ids.iter().take(MOST).enumerate() {
            let name = format!("agent-{number}");
            let listener = bind(directory.0.path(), &name).map_err(AgentsError::Socket)?;
            sockets.insert(id.clone(), directory.0.path().join(&name));
            let (line, given, id) = (Arc::clone(line), given.clone(), id.clone());
            serving.push(spawn(
                async move { serve(&listener, &line, &given, &id).await },
            ));
        }
        Ok(Some(Self {
            sockets,
            _serving: serving,
            _directory: directory,
        }))
    }

    /// The socket of an agent.
    pub fn socket(&self, id: &str) -> Option<PathBuf> {
        self.sockets.get(id).cloned()
    }
}

/// Makes a socket. The address of one has room for 107 bytes only, and stores may lie deep: so it is
/// named from its directory.
fn bind(directory: &Path, name: &str) -> io::Result<UnixListener> {
    let opened = std::fs::File::open(directory)?;
    let short = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
    UnixListener::bind(short)
}

async fn serve(listener: &UnixListener, line: &Line, given: &Given, id: &str) {
    let mut talking = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if talking.len() < AT_ONCE => match accepted {
                Ok((stream, _)) => talking.push(talk(stream, line, given, id)),
                // Of files, for example: there may be some again later.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(()) = talking.next() => {}
        }
    }
}

/// Opens a channel, when the farm is there: it may be away for a moment.
async fn open(line: &Line, given: &Given, id: &str) -> Option<Channel> {
    if let Some(channel) = line.channels().open(given, id).await {
        return Some(channel);
    }
    let mut attached = line.attached();
    let is_there = timeout(PATIENCE, attached.wait_for(|is_attached| *is_attached)).await;
    drop(is_there.ok()?.ok()?);
    line.channels().open(given, id).await
}

/// One conversation. Whoever ends first ends it.
async fn talk(mut stream: UnixStream, line: &Line, given: &Given, id: &str) {
    let Some(mut channel) = open(line, given, id).await else {
        return;
    };
    let mut buffer = vec![0; PIECE];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(length) if length > 0 => {
                    if !channel.write(Bytes::copy_from_slice(&buffer[..length])).await {
                        return;
                    }
                }
                _ => return,
            },
            data = channel.read() => match data {
                Some(data) => {
                    if stream.write_all(&data).await.is_err() {
                        return;
                    }
                }
                None => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_proto::wire::farm::worker_message::Kind;

    use super::*;

    #[tokio::test]
    async fn what_a_step_says_reaches_the_client_and_comes_back() {
        let deep = tempfile::tempdir().unwrap();
        let root = deep.path().join("x".repeat(120));
        let home = Home::open(&root).unwrap();
        let (line, mut messages) = Line::new();
        line.channels().connected(true);
        let given = Given {
            operation: "op".to_owned(),
            fence: 1,
        };
        let ids = ["default".to_owned()];
        let agents = Agents::listen(&home, &line, &given, &ids).unwrap().unwrap();
        let path = agents.socket("default").unwrap();
        let folder = std::fs::File::open(path.parent().unwrap()).unwrap();
        let short = format!("/proc/self/fd/{}/agent-0", folder.as_raw_fd());
        let mut step = UnixStream::connect(short).await.unwrap();
        step.write_all(b"who are you").await.unwrap();
        let Some(Kind::Channel(open)) = messages.recv().await.unwrap().kind else {
            panic!("no channel is opened");
        };
        assert_eq!(open.agent, "default");
        let Some(Kind::Data(data)) = messages.recv().await.unwrap().kind else {
            panic!("no data is sent");
        };
        assert_eq!(data.data, "who are you");
        line.channels()
            .came(open.channel, Bytes::from_static(b"me"));
        let mut answer = [0; 2];
        step.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"me");
        line.channels().ended(open.channel);
        assert_eq!(step.read(&mut answer).await.unwrap(), 0);
        let directory = path.parent().unwrap().to_owned();
        drop(agents);
        assert!(!directory.exists());
        assert!(Agents::listen(&home, &line, &given, &[]).unwrap().is_none());
    }
}

//! A socket of a step's own, behind which the user's SSH agent answers.
//!
//! The agent's own socket is not shown to steps: it lets in its user only, whom a step's user is
//! not, and it takes orders. Here, as in BuildKit (`sshprovider`), a step may ask which keys there
//! are and have something signed; it may not add, remove or lock keys.
//!
//! The protocol is a message for a message, each a length and as many bytes
//! (draft-ietf-sshm-ssh-agent, section 3).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The longest message (OpenSSH: `AGENT_MAX_LEN`).
const LONGEST_MESSAGE: usize = 256 * 1024;

/// `SSH_AGENT_FAILURE`, whole.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// `SSH_AGENTC_REQUEST_IDENTITIES` and `SSH_AGENTC_SIGN_REQUEST`.
const ALLOWED: [u8; 2] = [11, 13];

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct AgentProxy {
    // Its tasks end with it.
    _listening: JoinSet<()>,
}

impl AgentProxy {
    /// Listens on a socket that is made at `socket`, for the agent behind another.
    pub(super) fn start(socket: &Path, agent: PathBuf) -> io::Result<Self> {
        let listener = listen(socket)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let agent = agent.clone();
                // An error ends the one connection: whoever is at its end sees that.
                connections.spawn(async move { drop(serve(client, &agent).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            _listening: listening,
        })
    }
}

/// The address of a socket has room for about a hundred bytes, the path of a store may be longer:
/// its directory is named by a descriptor.
fn listen(socket: &Path) -> io::Result<StdListener> {
    let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(directory)?;
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    StdListener::bind(by_descriptor.join(name))
}

/// Carries messages to and fro until one side has gone.
async fn serve(mut client: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent).await?;
    while let Some(request) = read_message(&mut client).await? {
        let kind = request.get(4).copied();
        if !kind.is_some_and(|kind| ALLOWED.contains(&kind)) {
            client.write_all(&FAILURE).await?;
            continue;
        }
        agent.write_all(&request).await?;
        match read_message(&mut agent).await? {
            Some(answer) => client.write_all(&answer).await?,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// One message with its length; `None` if there are no more.
async fn read_message(from: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let body = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if body > LONGEST_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = length.to_vec();
    message.resize(4 + body, 0);
    from.read_exact(message.get_mut(4..).unwrap_or_default())
        .await?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers each message with the message, doubled.
    fn echo(socket: &Path) -> JoinSet<()> {
        let listener = UnixListener::from_std({
            let listener = listen(socket).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        })
        .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                while let Ok(Some(message)) = read_message(&mut client).await {
                    let body = &message[4..];
                    let length = u32::try_from(2 * body.len()).unwrap().to_be_bytes();
                    let answer = [&length, body, body].concat();
                    client.write_all(&answer).await.unwrap();
                }
            }
        });
        tasks
    }

    fn message(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length, body].concat()
    }

    #[tokio::test]
    async fn questions_and_signatures_pass_and_orders_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let _agent = echo(&deep.join("agent"));
        // The agent's address must be short, as it is in life.
        let agent = directory.path().join("agent");
        std::fs::hard_link(deep.join("agent"), &agent).unwrap();
        let proxy = AgentProxy::start(&deep.join("proxy"), agent).unwrap();
        let reached = directory.path().join("proxy");
        std::fs::hard_link(deep.join("proxy"), &reached).unwrap();

        let mut client = UnixStream::connect(&reached).await.unwrap();
        for (asked, answered) in [
            (&[11][..], message(&[11, 11])),
            (&[13, 1, 2], message(&[13, 1, 2, 13, 1, 2])),
            // Add an identity, remove all, lock, an extension, nothing.
            (&[17, 1], FAILURE.to_vec()),
            (&[19], FAILURE.to_vec()),
            (&[22, 0], FAILURE.to_vec()),
            (&[27, 0], FAILURE.to_vec()),
            (&[], FAILURE.to_vec()),
            (&[11], message(&[11, 11])),
        ] {
            client.write_all(&message(asked)).await.unwrap();
            let answer = read_message(&mut client).await.unwrap().unwrap();
            assert_eq!(answer, answered, "{asked:?}");
        }
        drop(proxy);
        assert!(read_message(&mut client).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_ends_the_connection() {
        let directory = tempfile::tempdir().unwrap();
        let agent = directory.path().join("agent");
        let _agent = echo(&agent);
        let socket = directory.path().join("proxy");
        let _proxy = AgentProxy::start(&socket, agent).unwrap();
        let mut client = UnixStream::connect(&socket).await.unwrap();
        client.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(read_message(&mut client).await.unwrap().is_none());
    }
}

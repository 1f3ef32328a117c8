//! Where clients come in: TCP and Unix sockets, and how many at once.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use crate::settings::value::{Listen, Mode};
use crate::tls::Peer;

/// So long nothing is accepted after accepting failed: what was missing may come back.
const PAUSE: Duration = Duration::from_millis(200);

/// So long a client that has connected may say nothing: others wait for its place.
const PATIENCE: Duration = Duration::from_secs(30);

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host has no address.
    #[error("{0} is not known")]
    Unknown(String),
    /// The system refuses.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A server answers there.
    #[error("another server listens on {}", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{} exists, and is no socket", .0.display())]
    NoSocket(PathBuf),
}

/// A socket that is listened on. A Unix socket goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Removed in the end.
    path: Option<PathBuf>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The addresses that TCP clients can come to. They decide whether a token is needed.
pub async fn resolve(listen: &Listen) -> Result<Vec<SocketAddr>, ListenError> {
    let Listen::Tcp(address) = listen else {
        return Ok(Vec::new());
    };
    let found = lookup_host(address.as_str()).await;
    let addresses: Vec<_> = found
        .map_err(|source| ListenError::Bind {
            address: address.clone(),
            source,
        })?
        .collect();
    if addresses.is_empty() {
        return Err(ListenError::Unknown(address.clone()));
    }
    Ok(addresses)
}

/// Whether only this machine can come to these addresses.
pub fn is_local(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| address.ip().is_loopback())
}

impl Listener {
    /// Listens. `addresses` are those that [`resolve`] found.
    pub async fn bind(
        listen: &Listen,
        addresses: &[SocketAddr],
        mode: Mode,
    ) -> Result<Self, ListenError> {
        match listen {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(addresses).await;
                let socket = socket.map_err(|source| ListenError::Bind {
                    address: address.clone(),
                    source,
                })?;
                Ok(Self {
                    socket: Socket::Tcp(socket),
                    path: None,
                })
            }
            Listen::Unix(path) => {
                let socket = bind_unix(path, mode).await?;
                Ok(Self {
                    socket: Socket::Unix(socket),
                    path: Some(path.clone()),
                })
            }
        }
    }

    /// Where it listens, with the port that the system chose if it was told 0.
    pub fn address(&self) -> String {
        match (&self.socket, &self.path) {
            (Socket::Tcp(socket), _) => socket
                .local_addr()
                .map_or_else(|_| "unknown".to_owned(), |address| address.to_string()),
            (Socket::Unix(_), Some(path)) => format!("unix:{}", path.display()),
            (Socket::Unix(_), None) => "unix".to_owned(),
        }
    }

    async fn accept(&self) -> io::Result<(Socketed, Peer)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // Answers are small, and are waited for.
                stream.set_nodelay(true)?;
                Ok((Socketed::Tcp(stream), Peer::at(address.to_string())))
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let user = stream.peer_cred()?.uid();
                let peer = Peer::at(format!("unix, user {user}"));
                Ok((Socketed::Unix(stream), peer))
            }
        }
    }

    /// The connections that come, so many at once.
    pub fn connections(
        self,
        most: u32,
    ) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
        let places = Arc::new(Semaphore::new(most as usize));
        stream::unfold((self, places), |(listener, places)| async move {
            let place = places.clone().acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((socket, peer)) => {
                        let connection = Connection::new(socket, peer, place);
                        return Some((Ok(connection), (listener, places)));
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        sleep(PAUSE).await;
                    }
                }
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Another may have removed it.
            let _ignored = std::fs::remove_file(path);
        }
    }
}

/// Listens on a Unix socket. One that a dead server left is replaced.
async fn bind_unix(path: &Path, mode: Mode) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Bind {
        address: format!("unix:{}", path.display()),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NoSocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(ListenError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Made under another name and moved once its permissions are right: nobody comes in before.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match std::fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let socket = UnixListener::bind(&temporary).map_err(failed)?;
    let permissions = std::fs::Permissions::from_mode(mode.0);
    std::fs::set_permissions(&temporary, permissions).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)?;
    Ok(socket)
}

/// A client's connection. The next client's place is free when it is dropped.
#[derive(Debug)]
pub struct Connection {
    socket: Socketed,
    peer: Peer,
    /// Until the first byte comes: when it is given up.
    silent: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(socket: Socketed, peer: Peer, place: OwnedSemaphorePermit) -> Self {
        Self {
            socket,
            peer,
            silent: Some(Box::pin(sleep(PATIENCE))),
            _place: place,
        }
    }
}

#[derive(Debug)]
enum Socketed {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Calls a method of whichever socket it is.
macro_rules! of_socket {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match &mut $self.get_mut().socket {
            Socketed::Tcp(socket) => Pin::new(socket).$method($($argument),*),
            Socketed::Unix(socket) => Pin::new(socket).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.socket {
            Socketed::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            Socketed::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            this.silent = None;
        }
        if let (Poll::Pending, Some(silent)) = (&read, &mut this.silent)
            && silent.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_socket!(self, poll_write, context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_socket!(self, poll_write_vectored, context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_socket!(self, poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_socket!(self, poll_shutdown, context)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    async fn bind(path: &Path) -> Result<Listener, ListenError> {
        let listen = Listen::Unix(path.to_owned());
        Listener::bind(&listen, &[], Mode::default()).await
    }

    #[tokio::test]
    async fn a_socket_is_only_for_its_owner_and_goes_with_the_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.sock");
        let listener = bind(&path).await.expect("listening");
        let mode = std::fs::metadata(&path).expect("a socket").mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).await.expect("connected");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_server_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("listening"));
        assert!(path.exists());
        let _listener = bind(&path).await.expect("listening");
        let error = bind(&path).await.expect_err("in use");
        assert!(matches!(error, ListenError::InUse(_)), "{error:?}");

        let file = folder.path().join("file");
        std::fs::write(&file, "precious").expect("written");
        let error = bind(&file).await.expect_err("a file");
        assert!(matches!(error, ListenError::NoSocket(_)), "{error:?}");
        assert!(file.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_loses_its_place() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.sock");
        let listener = bind(&path).await.expect("listening");
        let mut connections = Box::pin(listener.connections(1));
        let _silent = UnixStream::connect(&path).await.expect("connected");
        let mut first = futures::StreamExt::next(&mut connections)
            .await
            .expect("a connection")
            .expect("accepted");
        let error = first.read_u8().await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(first);
        let mut talking = UnixStream::connect(&path).await.expect("connected");
        let mut second = futures::StreamExt::next(&mut connections)
            .await
            .expect("a connection")
            .expect("accepted");
        talking.write_u8(7).await.expect("written");
        assert_eq!(second.read_u8().await.expect("read"), 7);
        // Whoever has spoken may be silent for as long as it likes.
        let later = tokio::time::timeout(PATIENCE * 10, second.read_u8()).await;
        later.expect_err("still there");
    }

    #[tokio::test]
    async fn only_loopback_addresses_are_local() {
        for (address, local) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.1.2.3:1", false),
        ] {
            let listen = Listen::Tcp(address.to_owned());
            let addresses = resolve(&listen).await.expect("addresses");
            assert_eq!(is_local(&addresses), local, "{address}");
        }
        assert!(is_local(&[]), "a Unix socket");
    }
}

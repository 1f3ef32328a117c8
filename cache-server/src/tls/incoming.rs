//! Connections that are ready for requests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ashlar_store::task::{Task, spawn};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::config::Tls;
use super::peer::Peer;
use crate::audit::{Audit, Event, What};
use crate::auth::certificates::{Authority as _, CertificateError, ClientCertificate};
use crate::limits::HANDSHAKE;
use crate::listen::{Connection, Listener};

/// The connections of a listener, so many at once, each with TLS if there is any. Handshakes count,
/// and none holds up another.
pub fn incoming(
    listener: Listener,
    most: u32,
    tls: Option<Tls>,
    audit: Audit,
) -> impl Stream<Item = io::Result<Accepted>> + Send + 'static {
    let state = Incoming {
        connections: Box::pin(listener.connections(most)),
        handshakes: FuturesUnordered::new(),
        tls,
        audit,
    };
    stream::unfold(state, |mut state| async move {
        let accepted = state.next().await?;
        Some((accepted, state))
    })
}

struct Incoming<S> {
    connections: Pin<Box<S>>,
    handshakes: FuturesUnordered<Task<Option<Accepted>>>,
    tls: Option<Tls>,
    audit: Audit,
}

impl<S: Stream<Item = io::Result<Connection>>> Incoming<S> {
    async fn next(&mut self) -> Option<io::Result<Accepted>> {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.next() => {
                    // A handshake that failed has said so.
                    if let Ok(Some(accepted)) = done {
                        return Some(Ok(accepted));
                    }
                }
                connection = self.connections.next() => {
                    let connection = match connection? {
                        Ok(connection) => connection,
                        Err(error) => return Some(Err(error)),
                    };
                    let Some(tls) = self.tls.clone() else {
                        return Some(Ok(Accepted::plain(connection)));
                    };
                    let audit = self.audit.clone();
                    let handshake = async move { handshake(connection, &tls, &audit).await };
                    self.handshakes.push(spawn(handshake));
                }
            }
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("the client took too long to agree upon TLS")]
    Slow,
    #[error("{0}")]
    Tls(io::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl HandshakeError {
    /// Whether it was about who the client is.
    fn is_about_certificate(&self) -> bool {
        match self {
            Self::Certificate(_) => true,
            Self::Slow => false,
            Self::Tls(error) => {
                let inner = error.get_ref().and_then(|error| error.downcast_ref());
                matches!(
                    inner,
                    Some(
                        rustls::Error::InvalidCertificate(_)
                            | rustls::Error::NoCertificatesPresented
                    )
                )
            }
        }
    }
}

async fn handshake(connection: Connection, tls: &Tls, audit: &Audit) -> Option<Accepted> {
    let peer = connection.connect_info();
    match agree(connection, tls).await {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::debug!(address = %peer.address, "no connection: {error}");
            if error.is_about_certificate() {
                let event = Event::new(What::Connection).from(Some(&peer));
                audit.note(event.refused(&error.to_string()));
            }
            None
        }
    }
}

async fn agree(connection: Connection, tls: &Tls) -> Result<Accepted, HandshakeError> {
    let peer = connection.connect_info();
    // Asked first: authorities that come meanwhile have to look at the certificate again.
    let authority = tls.authority();
    let authority = authority.map(|authority| (authority.generation(), authority));
    let accepting = TlsAcceptor::from(tls.current()).accept(connection);
    let stream = match timeout(HANDSHAKE, accepting).await {
        Ok(stream) => stream.map_err(HandshakeError::Tls)?,
        Err(_) => return Err(HandshakeError::Slow),
    };
    let chain = stream.get_ref().1.peer_certificates();
    let peer = match (chain, authority) {
        (Some(chain), Some((generation, authority))) => {
            peer.with(ClientCertificate::read(chain, authority, generation)?)
        }
        _ => peer,
    };
    Ok(Accepted {
        stream: Wire::Tls(Box::new(stream)),
        peer,
    })
}

/// A connection that is ready for requests.
#[derive(Debug)]
pub struct Accepted {
    stream: Wire,
    peer: Peer,
}

#[derive(Debug)]
enum Wire {
    Plain(Connection),
    Tls(Box<TlsStream<Connection>>),
}

impl Accepted {
    fn plain(connection: Connection) -> Self {
        Self {
            peer: connection.connect_info(),
            stream: Wire::Plain(connection),
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Calls a method of whichever stream it is.
macro_rules! of_stream {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match &mut $self.get_mut().stream {
            Wire::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Wire::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_stream!(self, poll_read, context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_stream!(self, poll_write, context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_stream!(self, poll_write_vectored, context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_stream!(self, poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_stream!(self, poll_shutdown, context)
    }
}

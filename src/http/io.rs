//! Where connections come from, and what they are made of.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::caps::Slot;

/// Unacknowledged data older than this ends a TCP connection: a peer that has gone without saying so.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// A bound listener; nothing is accepted until [`super::serve`].
#[derive(Debug)]
pub enum Listener {
    /// TCP, with TLS where the server has a certificate.
    Tcp(TcpListener),
    /// A Unix socket, whose peers are known by uid.
    Unix(UnixListener),
}

/// A listener at `address`, which may be `open` already: one that does not block.
///
/// # Errors
/// As the kernel gives them.
pub async fn listen(address: SocketAddr, open: Option<std::net::TcpListener>) -> io::Result<TcpListener> {
    match open {
        Some(open) => TcpListener::from_std(open),
        None => TcpListener::bind(address).await,
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// Over TCP.
    Ip(SocketAddr),
    /// Over a Unix socket, as the kernel says.
    Unix {
        /// Effective uid when it connected.
        uid: u32,
        /// Effective gid.
        gid: u32,
    },
}

/// The connection that a request came by.
#[derive(Debug)]
pub struct Peer {
    /// Who.
    pub address: PeerAddress,
    /// Whether we ended TLS ourselves.
    pub tls: bool,
    /// When the listener closes it, if it is still HTTP then.
    pub closes_at: Instant,
    pub(super) slot: Option<Slot>,
}

impl Peer {
    /// Says that this connection has shown a good credential: it no longer counts against the unauthenticated ones.
    pub fn authenticated(&self) {
        if let Some(slot) = &self.slot {
            slot.authenticated();
        }
    }

    /// Ends when a newer connection needs this one's place.
    pub(super) async fn evicted(&self) {
        match &self.slot {
            Some(slot) => slot.evicted().await,
            None => std::future::pending().await,
        }
    }
}

/// A connection before TLS.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream, PeerAddress),
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let user_timeout = u32::try_from(TCP_USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
                rustix::net::sockopt::set_tcp_user_timeout(&stream, user_timeout)?;
                Ok(Accepted::Tcp(stream, address))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                Ok(Accepted::Unix(stream, PeerAddress::Unix { uid: peer.uid(), gid: peer.gid() }))
            }
        }
    }
}

/// A byte stream of any kind that we serve; one concrete type, so that an upgrade needs no boxing.
#[derive(Debug)]
pub enum Io {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP. Boxed: the session's state is a kilobyte that plain connections need not carry.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
}

macro_rules! delegate {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.get_mut() {
            Io::Tcp($inner) => $call,
            Io::Tls($inner) => $call,
            Io::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
        }
    }
}

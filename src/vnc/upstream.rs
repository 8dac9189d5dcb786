//! The connection to the RFB server behind us.

use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::config::RfbAddress;
use crate::rfb::ServerInit;
use crate::rfb::server_handshake::{Progress, ServerHandshake, ServerHandshakeError};

/// Bytes of one read during the opening; ServerInit fits.
const OPENING_READ: usize = 1024;

/// Why there is no RFB server to talk to.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody listens there.
    #[error("cannot connect to the RFB server")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("connection to the RFB server broke")]
    Io(#[source] io::Error),
    /// It closed during the opening.
    #[error("the RFB server closed the connection during the handshake")]
    Closed,
    /// It did not answer or read in time.
    #[error("the RFB server did nothing for {0:?}")]
    Timeout(Duration),
    /// It is not a server that we can use.
    #[error("RFB handshake with the server failed")]
    Handshake(#[source] ServerHandshakeError),
}

/// Connects and settles version and security, then leaves: is an RFB server there that would let a viewer in? The
/// caller sets the deadline.
pub async fn probe(address: &RfbAddress) -> Result<(), UpstreamError> {
    match knock(address, Greet::Eagerly).await {
        Err(UpstreamError::Handshake(ServerHandshakeError::OlderThanEager)) => {
            knock(address, Greet::Politely).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// A server that has sent its ServerInit, and what it sent after that.
pub(super) async fn open(address: &RfbAddress) -> Result<(Upstream, ServerInit, Bytes), UpstreamError> {
    let opening = match knock(address, Greet::Eagerly).await {
        Err(UpstreamError::Handshake(ServerHandshakeError::OlderThanEager)) => {
            knock(address, Greet::Politely).await?
        }
        other => other?,
    };
    opening.finish().await
}

/// Whether our version is sent before the server's came; see [`ServerHandshake::eager`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greet {
    Eagerly,
    Politely,
}

struct Opening {
    stream: Upstream,
    handshake: ServerHandshake,
    received: BytesMut,
}

async fn knock(address: &RfbAddress, greet: Greet) -> Result<Opening, UpstreamError> {
    let mut stream = Upstream::connect(address).await.map_err(UpstreamError::Connect)?;
    let mut out = Vec::new();
    let handshake = match greet {
        Greet::Eagerly => ServerHandshake::eager(&mut out),
        Greet::Politely => ServerHandshake::polite(),
    };
    stream.write_all(&out).await.map_err(UpstreamError::Io)?;
    let mut opening = Opening { stream, handshake, received: BytesMut::new() };
    opening.advance().await?;
    Ok(opening)
}

impl Opening {
    /// Goes on until the handshake pauses.
    async fn advance(&mut self) -> Result<Progress, UpstreamError> {
        loop {
            let mut out = Vec::new();
            let mut input = &self.received[..];
            let progress =
                self.handshake.handle_input(&mut input, &mut out).map_err(UpstreamError::Handshake)?;
            let left = input.len();
            self.received = self.received.split_off(self.received.len() - left);
            self.stream.write_all(&out).await.map_err(UpstreamError::Io)?;
            if progress != Progress::NeedMore {
                return Ok(progress);
            }
            self.received.reserve(OPENING_READ);
            match self.stream.read(&mut self.received).await.map_err(UpstreamError::Io)? {
                0 => return Err(UpstreamError::Closed),
                _ => continue,
            }
        }
    }

    async fn finish(mut self) -> Result<(Upstream, ServerInit, Bytes), UpstreamError> {
        let mut out = Vec::new();
        self.handshake.client_init(&mut out);
        self.stream.write_all(&out).await.map_err(UpstreamError::Io)?;
        match self.advance().await? {
            Progress::Done(init) => Ok((self.stream, init, self.received.freeze())),
            Progress::NeedMore | Progress::Secured => Err(UpstreamError::Closed),
        }
    }
}

/// A stream that is read and written through shared references, so that both directions run in one task.
pub(super) enum Upstream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Upstream {
    async fn connect(address: &RfbAddress) -> io::Result<Self> {
        match address {
            RfbAddress::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            RfbAddress::Owned { socket, uid } => {
                let stream = UnixStream::connect(socket).await?;
                let peer = stream.peer_cred()?.uid();
                if peer != *uid {
                    let problem = format!("the socket belongs to uid {peer}, not to the session's {uid}");
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
                }
                Ok(Self::Unix(stream))
            }
            RfbAddress::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    pub(super) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_read_ready(context),
            Self::Tcp(stream) => stream.poll_read_ready(context),
        }
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_write_ready(context),
            Self::Tcp(stream) => stream.poll_write_ready(context),
        }
    }

    /// Appends what is there, up to the spare capacity of `buffer`. Knows that a read of less than that has emptied the
    /// socket, which saves the read that would only say so.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Unix(stream) => pin!(stream.read_buf(buffer)).poll(context),
            Self::Tcp(stream) => pin!(stream.read_buf(buffer)).poll(context),
        }
    }

    /// Appends what is there, up to the spare capacity of `buffer`; `WouldBlock` when that is nothing.
    pub(super) fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read_buf(buffer),
            Self::Tcp(stream) => stream.try_read_buf(buffer),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
        }
    }

    async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            match self {
                Self::Unix(stream) => stream.readable().await?,
                Self::Tcp(stream) => stream.readable().await?,
            }
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                end => return end,
            }
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes).await,
            Self::Tcp(stream) => stream.write_all(bytes).await,
        }
    }

    /// Writes the last bytes and waits until the server has taken note, which is when it closes too. Merely closing
    /// could reset the connection, since the server's own data is unread, and the last bytes would be lost.
    pub(super) async fn finish(mut self, last: &[u8], deadline: Duration) -> Result<(), UpstreamError> {
        let farewell = async {
            self.write_all(last).await?;
            match &mut self {
                Self::Unix(stream) => stream.shutdown().await?,
                Self::Tcp(stream) => stream.shutdown().await?,
            }
            let mut discarded = BytesMut::new();
            loop {
                discarded.clear();
                discarded.reserve(OPENING_READ);
                if self.read(&mut discarded).await? == 0 {
                    return Ok(());
                }
            }
        };
        timeout(deadline, farewell)
            .await
            .map_err(|_| UpstreamError::Timeout(deadline))?
            .map_err(UpstreamError::Io)
    }
}

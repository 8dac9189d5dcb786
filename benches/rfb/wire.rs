//! A viewer's bytes over its WebSocket.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use crate::Outcome;

/// For the rest of a message that has begun, and for a server to take ours.
const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes that were taken and are still here, at the most.
const COMPACT: usize = 1 << 20;

/// How to get in.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// `Sec-WebSocket-Protocol`.
    pub(crate) protocols: String,
}

/// A stream of RFB.
pub(crate) struct Wire {
    socket: WebSocket<TcpStream>,
    pending: Vec<u8>,
    start: usize,
    /// RFB bytes that came until now.
    pub(crate) received: u64,
}

impl Wire {
    pub(crate) fn open(door: &Door) -> Outcome<Self> {
        let mut request = format!("ws://{}{}", door.address, door.path).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", door.protocols.parse()?);
        let stream = TcpStream::connect(door.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let (socket, _response) =
            client(request, stream).map_err(|error| format!("the upgrade failed: {error}"))?;
        Ok(Self { socket, pending: Vec::new(), start: 0, received: 0 })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        Ok(self.socket.send(Message::binary(bytes.to_vec()))?)
    }

    /// Whether there is something to read before `end`.
    pub(crate) fn wait(&mut self, end: Instant) -> Outcome<bool> {
        while self.start == self.pending.len() {
            let left = end.saturating_duration_since(Instant::now());
            // A timeout of zero would be none.
            if left.is_zero() || !self.read(left)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Outcome<&[u8]> {
        let end = Instant::now() + DEADLINE;
        while self.pending.len() - self.start < count {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            if !self.read(left)? && Instant::now() >= end {
                return Err("the rest of a message did not come".into());
            }
        }
        self.start += count;
        Ok(self.pending.get(self.start - count..self.start).unwrap_or_default())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    pub(crate) fn u8(&mut self) -> Outcome<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Outcome<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Outcome<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Outcome<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Takes what comes within `time`; `false` when nothing does.
    fn read(&mut self, time: Duration) -> Outcome<bool> {
        // What was taken is let go of now and then, and not for every message.
        if self.start == self.pending.len() || self.start > COMPACT {
            self.pending.drain(..self.start);
            self.start = 0;
        }
        self.socket.get_ref().set_read_timeout(Some(time))?;
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => {
                self.received += u64::try_from(bytes.len())?;
                self.pending.extend_from_slice(&bytes);
                Ok(true)
            }
            Ok(Message::Close(frame)) => Err(format!("closed: {frame:?}").into()),
            Ok(_control) => Ok(true),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

//! A connection to an X server, for the one question whether it answers, and for one nudge.

use std::borrow::Cow;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use x11rb_protocol::connect::Connect;
use x11rb_protocol::errors::ConnectError;
use x11rb_protocol::protocol::xproto::{
    AtomEnum, ChangePropertyRequest, GetInputFocusRequest, PropMode, Setup,
};

use super::auth::{Cookie, PROTOCOL};

/// Every reply, event and error begins with a packet of this size (X protocol, "Encoding").
const PACKET_BYTES: usize = 32;
/// First byte of a reply.
const REPLY: u8 = 1;
/// First byte of an error.
const ERROR: u8 = 0;

/// Why the X server did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be reached, or broke.
    #[error("cannot talk to the X server")]
    Io(#[from] std::io::Error),
    /// The server refused us, or said something that is no X11.
    #[error("the X server refused the connection")]
    Refused(#[from] ConnectError),
    /// The answer to a harmless request was an error.
    #[error("the X server answered with error code {0}")]
    Protocol(u8),
    /// The socket is somebody else's: the session owns its directory, and could have put a link there.
    #[error("the X server's socket belongs to uid {0}, not to the session")]
    Stranger(u32),
    /// It has no screen.
    #[error("the X server has no screen")]
    NoScreen,
}

/// Connects with the display's cookie, to a server that runs as `owner` where one is given.
///
/// # Errors
/// When the socket is not there or not the owner's, or the server refuses.
pub(super) async fn shake_hands(
    socket: &Path,
    cookie: &Cookie,
    owner: Option<u32>,
) -> Result<(UnixStream, Setup), Error> {
    let mut stream = UnixStream::connect(socket).await?;
    let uid = stream.peer_cred()?.uid();
    if owner.is_some_and(|owner| owner != uid) {
        return Err(Error::Stranger(uid));
    }
    let (mut connect, setup) =
        Connect::with_authorization(PROTOCOL.as_bytes().to_vec(), cookie.expose().to_vec());
    stream.write_all(&setup).await?;
    loop {
        let read = stream.read(connect.buffer()).await?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        if connect.advance(read) {
            break;
        }
    }
    Ok((stream, connect.into_setup()?))
}

/// An open connection. It has no windows and selects no events.
pub struct Connection {
    stream: UnixStream,
    root: u32,
}

impl Connection {
    /// Connects with the display's cookie, to a server that runs as `owner` where one is given.
    ///
    /// # Errors
    /// When the socket is not there or not the owner's, or the server refuses.
    pub async fn open(socket: &Path, cookie: &Cookie, owner: Option<u32>) -> Result<Self, Error> {
        let (stream, setup) = shake_hands(socket, cookie, owner).await?;
        let root = setup.roots.first().ok_or(Error::NoScreen)?.root;
        Ok(Self { stream, root })
    }

    /// One round trip (`GetInputFocus`, as Xlib's `XSync` does). Not cancel safe: after a timeout, open anew.
    ///
    /// # Errors
    /// When the connection broke or the server answered with an error.
    pub async fn round_trip(&mut self) -> Result<(), Error> {
        let (request, _no_fds) = GetInputFocusRequest.serialize();
        self.write(&request).await?;
        let mut packet = [0; PACKET_BYTES];
        loop {
            self.stream.read_exact(&mut packet).await?;
            match packet[0] {
                REPLY => return Ok(()),
                ERROR => return Err(Error::Protocol(packet[1])),
                // MappingNotify and its kin are sent to every client, asked for or not.
                _event => {}
            }
        }
    }

    /// Tells those who watch CUT_BUFFER0 (ICCCM, "Peer-to-Peer Communication by Means of Cut Buffers") of a change, by
    /// appending nothing to it. Not cancel safe.
    ///
    /// # Errors
    /// When the connection broke or the server answered with an error.
    pub async fn announce_cut_buffer(&mut self) -> Result<(), Error> {
        let request = ChangePropertyRequest {
            mode: PropMode::APPEND,
            window: self.root,
            property: AtomEnum::CUT_BUFFER0.into(),
            type_: AtomEnum::STRING.into(),
            format: 8,
            data_len: 0,
            data: Cow::Borrowed(&[]),
        };
        let (request, _no_fds) = request.serialize();
        self.write(&request).await?;
        self.round_trip().await
    }

    async fn write(&mut self, request: &[impl AsRef<[u8]> + Sync]) -> Result<(), Error> {
        for part in request {
            self.stream.write_all(part.as_ref()).await?;
        }
        Ok(())
    }
}

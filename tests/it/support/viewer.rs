//! A small viewer: raw RFB over a WebSocket, and plain HTTP, with nothing of the daemon's own code in it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

/// For any single answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// `GET path`: status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, "GET", path, &[])
}

/// Any request without a body: status and body. 0 when the connection is refused.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, DEADLINE) else { return (0, String::new()) };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as its end.
    let _end = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_head, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// A viewer in RFB's normal phase.
pub(crate) struct Viewer {
    socket: WebSocket<TcpStream>,
    pending: Vec<u8>,
    /// Size of the framebuffer.
    pub(crate) size: (u16, u16),
    /// Name of the desktop.
    pub(crate) name: String,
}

impl Viewer {
    /// Upgrades and shakes hands; `Err` is the HTTP status of a refusal, or the close code of an end before the first
    /// picture.
    pub(crate) fn connect(gateway: SocketAddr, session: &str, token: &str) -> Result<Self, u16> {
        let mut request = format!("ws://{gateway}/sessions/{session}/vnc").into_client_request().unwrap();
        let protocols = format!("binary, jwt.{token}");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocols.parse().unwrap());
        let stream = TcpStream::connect(gateway).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, response) = match client(request, stream) {
            Ok(done) => done,
            Err(tokio_tungstenite::tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                return Err(response.status().as_u16());
            }
            Err(error) => panic!("the upgrade failed: {error}"),
        };
        assert_eq!(response.headers()["sec-websocket-protocol"], "binary");
        let mut viewer = Self { socket, pending: Vec::new(), size: (0, 0), name: String::new() };
        viewer.shake_hands()?;
        Ok(viewer)
    }

    fn shake_hands(&mut self) -> Result<(), u16> {
        assert_eq!(self.try_read(12)?, b"RFB 003.008\n");
        self.try_send(b"RFB 003.008\n");
        assert_eq!(self.try_read(2)?, [1, 1], "one security type, None");
        self.try_send(&[1]);
        assert_eq!(self.try_read(4)?, [0; 4], "SecurityResult OK");
        self.try_send(&[1]);
        let init = self.try_read(24)?;
        self.size = (u16::from_be_bytes([init[0], init[1]]), u16::from_be_bytes([init[2], init[3]]));
        let length = u32::from_be_bytes([init[20], init[21], init[22], init[23]]);
        self.name = String::from_utf8(self.try_read(length as usize)?).unwrap();
        Ok(())
    }

    /// Sends RFB bytes in one message.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).unwrap();
    }

    /// Sends RFB bytes; `false` when the connection is gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.socket.send(Message::binary(bytes.to_vec())).is_ok()
    }

    /// Exactly `length` bytes of the server's stream.
    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        self.try_read(length).unwrap_or_else(|code| panic!("closed with {code}"))
    }

    fn try_read(&mut self, length: usize) -> Result<Vec<u8>, u16> {
        while self.pending.len() < length {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.pending.extend_from_slice(&bytes),
                Ok(Message::Close(frame)) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Ok(_control) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing for {DEADLINE:?}")
                }
                Err(_gone) => return Err(1006),
            }
        }
        Ok(self.pending.drain(..length).collect())
    }

    /// Asks for raw true-colour pixels (BGRX) of a rectangle and returns them.
    pub(crate) fn pixels(&mut self, x: u16, y: u16, width: u16, height: u16) -> Vec<[u8; 4]> {
        let mut messages = vec![0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
        messages.extend_from_slice(&[2, 0, 0, 1, 0, 0, 0, 0]);
        messages.extend_from_slice(&[3, 0]);
        for value in [x, y, width, height] {
            messages.extend_from_slice(&value.to_be_bytes());
        }
        self.send(&messages);
        let (w, h) = (usize::from(width), usize::from(height));
        let mut pixels = vec![[0; 4]; w * h];
        let mut missing = w * h;
        while missing > 0 {
            let head = self.read(4);
            if head[0] == 3 {
                // Text comes unasked.
                let length = self.read(4);
                let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
                self.read(usize::try_from(length).unwrap());
                continue;
            }
            assert_eq!(head[0], 0, "only framebuffer updates were asked for");
            for _rectangle in 0..u16::from_be_bytes([head[2], head[3]]) {
                let field: Vec<u16> =
                    self.read(8).chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
                assert_eq!(self.read(4), [0; 4], "only Raw was asked for");
                let body = self.read(usize::from(field[2]) * usize::from(field[3]) * 4);
                for (at, pixel) in body.chunks(4).enumerate() {
                    let (px, py) = (at % usize::from(field[2]), at / usize::from(field[2]));
                    let column = (usize::from(field[0]) + px).checked_sub(usize::from(x));
                    let row = (usize::from(field[1]) + py).checked_sub(usize::from(y));
                    if let (Some(column @ 0..), Some(row @ 0..)) = (column, row)
                        && column < w
                        && row < h
                    {
                        pixels[row * w + column].copy_from_slice(pixel);
                        missing = missing.saturating_sub(1);
                    }
                }
            }
        }
        pixels
    }

    /// Takes one byte of what the server has sent, past the WebSocket; `false` when the connection is gone.
    pub(crate) fn trickle(&mut self) -> bool {
        matches!(self.socket.get_mut().read(&mut [0]), Ok(1))
    }

    /// Reads until the server closes, and returns its close code; 1006 when it just hung up.
    pub(crate) fn close_code(&mut self, deadline: Duration) -> u16 {
        let end = std::time::Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            assert!(!left.is_zero(), "still open after {deadline:?}");
            self.socket.get_ref().set_read_timeout(Some(left)).unwrap();
            match self.socket.read() {
                Ok(Message::Close(frame)) => {
                    return frame.map_or(1005, |CloseFrame { code, .. }| code.into());
                }
                Ok(_other) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_gone) => return 1006,
            }
        }
    }
}

/// RFB KeyEvent.
pub(crate) fn key(down: bool, keysym: u32) -> Vec<u8> {
    let mut message = vec![4, u8::from(down), 0, 0];
    message.extend_from_slice(&keysym.to_be_bytes());
    message
}

/// RFB PointerEvent.
pub(crate) fn pointer(mask: u8, x: u16, y: u16) -> Vec<u8> {
    let mut message = vec![5, mask];
    message.extend_from_slice(&x.to_be_bytes());
    message.extend_from_slice(&y.to_be_bytes());
    message
}

//! A viewer that does no more than the measurement needs: it skips over frames in place and compares the picture with what
//! the server sent, so that it is not what limits a bridge.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Outcome;
use crate::backend::Area;

/// For any single answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of one read.
const BUFFER: usize = 256 * 1024;
/// Key and answer of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Any but zeroes, with which there would be nothing to unmask.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How to get in.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// Plain RFB.
    Direct(SocketAddr),
    /// RFB over a WebSocket.
    WebSocket {
        /// Of the bridge.
        address: SocketAddr,
        /// Of the upgrade.
        path: String,
        /// `Sec-WebSocket-Protocol`.
        protocols: String,
    },
}

/// A viewer in RFB's normal phase.
pub(crate) struct Viewer {
    stream: TcpStream,
    websocket: bool,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the frame that are still to come.
    left: u64,
    /// Of the framebuffer.
    pub(crate) screen: Area,
}

impl Viewer {
    /// Connects, upgrades, and shakes hands up to ServerInit.
    pub(crate) fn connect(door: &Door) -> Outcome<Self> {
        let (Door::Direct(address) | Door::WebSocket { address, .. }) = door;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut viewer = Self {
            stream,
            websocket: matches!(door, Door::WebSocket { .. }),
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            left: 0,
            screen: Area::PIXEL,
        };
        if let Door::WebSocket { address, path, protocols } = door {
            viewer.upgrade(*address, path, protocols)?;
        }
        viewer.shake_hands()?;
        Ok(viewer)
    }

    fn upgrade(&mut self, address: SocketAddr, path: &str, protocols: &str) -> Outcome<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: {protocols}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes())?;
        let end = loop {
            self.fill()?;
            let head = self.buffer.get(..self.end).unwrap_or_default();
            if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(self.buffer.get(..end).unwrap_or_default()).into_owned();
        if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
            return Err(format!("the upgrade was answered: {head}").into());
        }
        self.start = end;
        Ok(())
    }

    fn shake_hands(&mut self) -> Outcome<()> {
        self.expect(b"RFB 003.008\n")?;
        self.send(b"RFB 003.008\n")?;
        self.expect(&[1, 1])?;
        self.send(&[1])?;
        self.expect(&[0; 4])?;
        self.send(&[1])?;
        let mut init = [0; 24];
        self.read(&mut init)?;
        let [w1, w2, h1, h2, .., n1, n2, n3, n4] = init;
        self.screen = Area { width: u16::from_be_bytes([w1, w2]), height: u16::from_be_bytes([h1, h2]) };
        let mut name = vec![0; usize::try_from(u32::from_be_bytes([n1, n2, n3, n4]))?];
        self.read(&mut name)
    }

    /// Says that nothing but Raw is understood.
    pub(crate) fn ask_for_raw(&mut self) -> Outcome<()> {
        self.send(&[2, 0, 0, 1, 0, 0, 0, 0])
    }

    /// Asks for a rectangle at the top left corner.
    pub(crate) fn request(&mut self, area: Area, incremental: bool) -> Outcome<()> {
        let ([w1, w2], [h1, h2]) = (area.width.to_be_bytes(), area.height.to_be_bytes());
        self.send(&[3, u8::from(incremental), 0, 0, 0, 0, w1, w2, h1, h2])
    }

    /// Reads `expected`, exactly.
    pub(crate) fn expect(&mut self, expected: &[u8]) -> Outcome<()> {
        let mut rest = expected;
        while !rest.is_empty() {
            let here = self.available()?;
            let length = here.len().min(rest.len());
            let (wanted, behind) = rest.split_at(length);
            if here.get(..length) != Some(wanted) {
                return Err("the bridge passed on other bytes than it was given".into());
            }
            self.consume(length);
            rest = behind;
        }
        Ok(())
    }

    /// Reads whatever comes until nothing has come for `quiet`; says how much.
    pub(crate) fn drain(&mut self, quiet: Duration) -> Outcome<u64> {
        self.stream.set_read_timeout(Some(quiet))?;
        let mut bytes = 0;
        while let Ok(here) = self.available() {
            let length = here.len();
            bytes += u64::try_from(length)?;
            self.consume(length);
        }
        self.stream.set_read_timeout(Some(DEADLINE))?;
        Ok(bytes)
    }

    /// Leaves as a page does: a close frame, and gone.
    pub(crate) fn leave(mut self) -> Outcome<()> {
        if self.websocket { self.frame(8, &1001_u16.to_be_bytes()) } else { Ok(()) }
    }

    fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        if self.websocket { self.frame(2, bytes) } else { Ok(self.stream.write_all(bytes)?) }
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) -> Outcome<()> {
        let length =
            u8::try_from(payload.len()).ok().filter(|length| *length < 126).ok_or("a long message")?;
        let mut frame = vec![0x80 | opcode, 0x80 | length];
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(self.stream.write_all(&frame)?)
    }

    fn read(&mut self, place: &mut [u8]) -> Outcome<()> {
        let mut rest = place;
        while !rest.is_empty() {
            let here = self.available()?;
            let length = here.len().min(rest.len());
            let (now, behind) = rest.split_at_mut(length);
            now.copy_from_slice(here.get(..length).unwrap_or_default());
            self.consume(length);
            rest = behind;
        }
        Ok(())
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// What has come of the stream beneath the frames; at least a byte.
    fn available(&mut self) -> Outcome<&[u8]> {
        let length = loop {
            let here = self.end - self.start;
            if !self.websocket {
                self.left = u64::MAX;
            }
            if self.left > 0 && here > 0 {
                break usize::try_from(self.left).unwrap_or(here).min(here);
            }
            if self.left > 0 || !self.next_frame()? {
                self.fill()?;
            }
        };
        Ok(self.buffer.get(self.start..self.start + length).unwrap_or_default())
    }

    /// Takes the head of the next data frame, or a whole control frame; `false` when more bytes are needed.
    fn next_frame(&mut self) -> Outcome<bool> {
        let here = self.buffer.get(self.start..self.end).unwrap_or_default();
        let (head, length) = match here {
            [_, 126, a, b, ..] => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
            [_, 126 | 127, ..] | [] | [_] => return Ok(false),
            [_, length, ..] => (2, u64::from(*length)),
        };
        let opcode = here.first().copied().unwrap_or_default() & 0x0f;
        match opcode {
            0 | 2 => {
                self.start += head;
                self.left = length;
                Ok(true)
            }
            9 | 10 => {
                let whole = head + usize::try_from(length)?;
                let Some(payload) = here.get(head..whole).map(<[u8]>::to_vec) else { return Ok(false) };
                self.start += whole;
                if opcode == 9 {
                    self.frame(10, &payload)?;
                }
                Ok(true)
            }
            _ => Err(format!("the bridge sent a frame of type {opcode}").into()),
        }
    }

    fn fill(&mut self) -> Outcome<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        match self.stream.read(space)? {
            0 => Err("the bridge closed the connection".into()),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }
}

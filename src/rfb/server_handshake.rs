//! The opening as a client of the server behind us (RFC 6143 §7.1 to §7.3.2).

use super::DecodeError;
use super::pixel_format::PixelFormat;
use super::wire::{Fields, fill, size};

/// Bytes of a server's reason that are kept; more is an error.
const MAX_REASON: u32 = 4096;
/// Bytes of a desktop name; ours goes to the viewer instead, so the server's is only skipped.
const MAX_NAME: u32 = 4096;
/// The security type None.
const NONE: u8 = 1;

/// Why the opening failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerHandshakeError {
    /// It does not start like an RFB server.
    #[error("not an RFB server: it began with {0:?}")]
    NotRfb(String),
    /// It is older than the version that was already sent to it: connect again without [`ServerHandshake::eager`].
    #[error("the server's version is older than 3.8")]
    OlderThanEager,
    /// It asks for a security type other than None.
    #[error("the server wants security types {0:?}, and only None (1) is supported")]
    Security(Vec<u8>),
    /// It refused us.
    #[error("the server refused: {0}")]
    Refused(String),
    /// A field is wrong.
    #[error("bad handshake")]
    Decode(#[from] DecodeError),
}

/// What a server says about its screen (RFC 6143 §7.3.2), without the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerInit {
    /// Framebuffer width.
    pub width: u16,
    /// Framebuffer height.
    pub height: u16,
    /// The server's natural format.
    pub pixel_format: PixelFormat,
}

/// How far the opening has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    NeedMore,
    /// Version and security are settled: [`ServerHandshake::client_init`] goes on, or the connection ends here.
    Secured,
    /// All done; bytes left over are the server's stream.
    Done(ServerInit),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V3_3,
    V3_7,
    V3_8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Version,
    /// 3.3: the type as a U32.
    DecidedType,
    /// 3.7 and 3.8: count, then types.
    OfferedTypes(Version),
    Result,
    /// A U32 length and a text, then failure.
    Reason,
    Secured,
    Init,
    Done(ServerInit),
}

/// The opening with one server.
#[derive(Debug)]
pub struct ServerHandshake {
    state: State,
    partial: Vec<u8>,
    eager: bool,
}

impl ServerHandshake {
    /// Waits for the server's version, as RFC 6143 has it.
    pub fn polite() -> Self {
        Self { state: State::Version, partial: Vec::new(), eager: false }
    }

    /// Says 3.8 at once, before the server's version came, into `out`.
    ///
    /// libvncserver waits 100 ms for a WebSocket request in the first bytes before it greets, and serves nobody
    /// meanwhile; with bytes there it goes on at once. A server below 3.8 gives [`ServerHandshakeError::OlderThanEager`].
    pub fn eager(out: &mut Vec<u8>) -> Self {
        out.extend(b"RFB 003.008\n");
        Self { eager: true, ..Self::polite() }
    }

    /// Takes bytes off `input` and appends answers to `out`.
    pub fn handle_input(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, ServerHandshakeError> {
        loop {
            match self.state {
                State::Secured => return Ok(Progress::Secured),
                State::Done(init) => return Ok(Progress::Done(init)),
                _ => {}
            }
            loop {
                let needed = self.required()?;
                if self.partial.len() >= needed {
                    break;
                }
                if !fill(&mut self.partial, needed, input) {
                    return Ok(Progress::NeedMore);
                }
            }
            self.state = self.step(out)?;
            self.partial.clear();
        }
    }

    /// After [`Progress::Secured`]: asks for the screen, shared with others.
    pub fn client_init(&mut self, out: &mut Vec<u8>) {
        if self.state == State::Secured {
            out.push(1);
            self.state = State::Init;
        }
    }

    /// Bytes needed to get further than what is there.
    fn required(&self) -> Result<usize, ServerHandshakeError> {
        let have = self.partial.as_slice();
        let text = |offset: usize, field, limit| -> Result<usize, ServerHandshakeError> {
            match have.get(offset..).and_then(<[u8]>::first_chunk) {
                Some(length) => {
                    Ok(offset + 4 + size(DecodeError::check(field, u32::from_be_bytes(*length), limit)?))
                }
                None => Ok(offset + 4),
            }
        };
        match self.state {
            State::Version => Ok(12),
            State::DecidedType | State::Result => Ok(4),
            State::OfferedTypes(_) => Ok(1 + have.first().copied().map_or(0, usize::from)),
            State::Reason => text(0, "reason length", MAX_REASON),
            State::Init => text(20, "name length", MAX_NAME),
            State::Secured | State::Done(_) => Ok(0),
        }
    }

    fn step(&self, out: &mut Vec<u8>) -> Result<State, ServerHandshakeError> {
        let mut fields = Fields(&self.partial);
        match self.state {
            State::Version => {
                let version = version(&self.partial)?;
                if self.eager {
                    return match version {
                        Version::V3_8 => Ok(State::OfferedTypes(version)),
                        Version::V3_3 | Version::V3_7 => Err(ServerHandshakeError::OlderThanEager),
                    };
                }
                out.extend(match version {
                    Version::V3_3 => b"RFB 003.003\n",
                    Version::V3_7 => b"RFB 003.007\n",
                    Version::V3_8 => b"RFB 003.008\n",
                });
                Ok(if version == Version::V3_3 { State::DecidedType } else { State::OfferedTypes(version) })
            }
            State::DecidedType => match fields.u32()? {
                0 => Ok(State::Reason),
                1 => Ok(State::Secured),
                other => Err(ServerHandshakeError::Security(vec![u8::try_from(other).unwrap_or(u8::MAX)])),
            },
            State::OfferedTypes(version) => match &self.partial[..] {
                [] | [0, ..] => Ok(State::Reason),
                [_, types @ ..] if types.contains(&NONE) => {
                    out.push(NONE);
                    Ok(if version == Version::V3_8 { State::Result } else { State::Secured })
                }
                [_, types @ ..] => Err(ServerHandshakeError::Security(types.to_vec())),
            },
            State::Result => Ok(if fields.u32()? == 0 { State::Secured } else { State::Reason }),
            State::Reason => {
                let text = self.partial.get(4..).unwrap_or_default();
                Err(ServerHandshakeError::Refused(printable(text)))
            }
            State::Init => {
                let (width, height) = (fields.u16()?, fields.u16()?);
                let pixel_format = PixelFormat::from_server(fields.array()?)?;
                Ok(State::Done(ServerInit { width, height, pixel_format }))
            }
            done @ (State::Secured | State::Done(_)) => Ok(done),
        }
    }
}

/// The version to speak: other versions below 3.7 count as 3.3, above 3.8 as 3.8 (RFC 6143 §7.1.1).
fn version(greeting: &[u8]) -> Result<Version, ServerHandshakeError> {
    let not_rfb = || ServerHandshakeError::NotRfb(printable(greeting));
    let number = |range: std::ops::Range<usize>| -> Option<u16> {
        let digits = greeting.get(range)?;
        let valid = digits.iter().all(u8::is_ascii_digit);
        valid.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
    };
    let framed =
        greeting.starts_with(b"RFB ") && greeting.get(7) == Some(&b'.') && greeting.get(11) == Some(&b'\n');
    let (major, minor) = number(4..7).zip(number(8..11)).filter(|_| framed).ok_or_else(not_rfb)?;
    match (major, minor) {
        (3, 3..=6) => Ok(Version::V3_3),
        (3, 7) => Ok(Version::V3_7),
        (3, 8..) | (4.., _) => Ok(Version::V3_8),
        _ => Err(not_rfb()),
    }
}

/// A peer's text, fit for a log line.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfb::connection::NATIVE;

    /// ServerInit of x11vnc 0.9.16 on a 640x480x24 Xvfb, as captured.
    const X11VNC_INIT: &[u8] = &[
        2, 128, 1, 224, 32, 24, 0, 255, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 4, b'v', b'm',
        b':', b'0',
    ];

    fn run(
        handshake: &mut ServerHandshake,
        mut input: &[u8],
    ) -> (Vec<u8>, Result<Progress, ServerHandshakeError>) {
        let mut out = Vec::new();
        loop {
            match handshake.handle_input(&mut input, &mut out) {
                Ok(Progress::Secured) => handshake.client_init(&mut out),
                end => return (out, end),
            }
        }
    }

    fn polite(input: &[u8]) -> (Vec<u8>, Result<Progress, ServerHandshakeError>) {
        run(&mut ServerHandshake::polite(), input)
    }

    #[test]
    fn all_three_versions_reach_server_init() {
        let init = ServerInit { width: 640, height: 480, pixel_format: NATIVE };
        let cases: [(&[u8], &[u8], &[u8]); 4] = [
            (b"RFB 003.003\n", &[0, 0, 0, 1], b"RFB 003.003\n\x01"),
            (b"RFB 003.007\n", &[2, 2, 1], b"RFB 003.007\n\x01\x01"),
            (b"RFB 003.008\n", &[1, 1, 0, 0, 0, 0], b"RFB 003.008\n\x01\x01"),
            (b"RFB 003.889\n", &[1, 1, 0, 0, 0, 0], b"RFB 003.008\n\x01\x01"),
        ];
        for (greeting, security, answers) in cases {
            let (out, end) = polite(&[greeting, security, X11VNC_INIT].concat());
            assert_eq!((out.as_slice(), end), (answers, Ok(Progress::Done(init))));
        }
    }

    #[test]
    fn an_eager_opening_says_its_version_once_and_gives_up_on_older_servers() {
        let mut out = Vec::new();
        let mut handshake = ServerHandshake::eager(&mut out);
        assert_eq!(out, b"RFB 003.008\n");
        let (out, end) = run(&mut handshake, &[b"RFB 003.008\n\x01\x01\0\0\0\0", X11VNC_INIT].concat());
        assert_eq!(out, [1, 1]);
        assert!(matches!(end, Ok(Progress::Done(_))));
        let (_, end) = run(&mut ServerHandshake::eager(&mut Vec::new()), b"RFB 003.007\n");
        assert_eq!(end, Err(ServerHandshakeError::OlderThanEager));
    }

    #[test]
    fn a_server_that_wants_a_password_or_refuses_is_quoted() {
        assert_eq!(polite(b"RFB 003.008\n\x02\x02\x13").1, Err(ServerHandshakeError::Security(vec![2, 19])));
        assert_eq!(polite(b"RFB 003.003\n\0\0\0\x02").1, Err(ServerHandshakeError::Security(vec![2])));
        let refused = Err(ServerHandshakeError::Refused("too many ".into()));
        assert_eq!(polite(b"RFB 003.008\n\x00\0\0\0\x09too many\n").1, refused);
        assert_eq!(polite(b"RFB 003.008\n\x01\x01\0\0\0\x01\0\0\0\x09too many\n").1, refused);
        assert_eq!(polite(b"HTTP/1.1 400").1, Err(ServerHandshakeError::NotRfb("HTTP/1.1 400".into())));
    }

    #[test]
    fn announced_lengths_are_limited() {
        let long = |field| {
            Err(ServerHandshakeError::Decode(DecodeError::TooLong { field, got: u32::MAX, limit: 4096 }))
        };
        assert_eq!(polite(b"RFB 003.008\n\x00\xff\xff\xff\xff").1, long("reason length"));
        let init = [b"RFB 003.008\n\x01\x01\0\0\0\0", &X11VNC_INIT[..20], &[255; 4]].concat();
        assert_eq!(polite(&init).1, long("name length"));
    }
}

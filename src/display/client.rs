//! A client of an X server that asks, and hears of events. Requests and replies by x11rb-protocol, bytes by tokio.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use x11rb_protocol::errors::ParseError;
use x11rb_protocol::protocol::xproto::{QueryExtensionRequest, Setup};
use x11rb_protocol::protocol::{Event, damage, randr, xfixes, xkb, xtest};
use x11rb_protocol::x11_utils::{
    ExtInfoProvider, ExtensionInformation, ReplyRequest, Request, TryParse as _, VoidRequest,
};

use super::auth::Cookie;
use super::connection::{self, shake_hands};
use super::screen::damage::{Damage, area_of};
use super::screen::layout::bits;
use super::xvfb::Display;

/// Every reply, event and error begins with a packet of this size (X protocol, "Encoding").
const PACKET: usize = 32;
const ERROR: u8 = 0;
const REPLY: u8 = 1;
/// An event with a length, like a reply (X Generic Event Extension).
const GENERIC_EVENT: u8 = 35;
/// The longest reply that is taken: the server runs as the session, and may announce anything. The largest that is asked for
/// is a clipboard of a MiB.
const LONGEST: usize = (1 << 20) + 1024;
/// Events that may wait for a reply to come, without those that are counted in at once; beyond it the server makes a fool of us.
const MOST_EVENTS: usize = 4096;
/// Bytes taken at once: a burst of some hundred events.
const READ: usize = 16 * 1024;
/// For an answer, and for what is sent to be taken. A server answers in microseconds; a program may have it for itself for a
/// while (GrabServer).
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// Extensions that are used, in the order of [`Client::extensions`].
const EXTENSIONS: [&str; 5] = [
    damage::X11_EXTENSION_NAME,
    xfixes::X11_EXTENSION_NAME,
    xkb::X11_EXTENSION_NAME,
    xtest::X11_EXTENSION_NAME,
    randr::X11_EXTENSION_NAME,
];
/// The one that can be missing: its requests are refused then.
const OPTIONAL: &str = randr::X11_EXTENSION_NAME;

/// Why the X server is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It did not let us in.
    #[error("no connection to the X server")]
    Connect(#[from] connection::Error),
    /// The connection broke.
    #[error("the connection to the X server broke")]
    Io(#[from] io::Error),
    /// It said something that is no X11.
    #[error("the X server does not speak X11")]
    Parse(#[from] ParseError),
    /// Longer than anything that was asked for.
    #[error("the X server announced a message of {0} bytes")]
    TooLong(usize),
    /// An answer that is not taken for its size, as of a cursor that fills the screen.
    #[error("the X server's answer is too large")]
    TooLarge,
    /// More events than anybody could have made in that time.
    #[error("the X server sent over {MOST_EVENTS} events before an answer")]
    Flood,
    /// It is stopped, or has no time for this connection.
    #[error("the X server did not answer within {} s", ANSWER_DEADLINE.as_secs())]
    Slow,
    /// It lacks an extension.
    #[error("the X server has no {0}")]
    Missing(&'static str),
    /// It refused a request.
    #[error("the X server refused request {major}.{minor} with error {code}")]
    Refused {
        /// Major opcode of the request.
        major: u8,
        /// Minor opcode.
        minor: u16,
        /// Code of the error.
        code: u8,
    },
}

/// An open connection.
pub(super) struct Client {
    stream: UnixStream,
    setup: Setup,
    extensions: Extensions,
    /// Of the last request.
    sequence: u16,
    /// Requests that are not sent yet.
    out: Vec<u8>,
    /// What came and is no whole message yet.
    buffer: Vec<u8>,
    /// Bytes of an answer that is not taken, which are still to come.
    skipped: usize,
    events: VecDeque<Event>,
    /// What was drawn on. One drawing can be told of in thousands of events: they are not kept.
    pub(super) drawn: Damage,
    /// Whether the pointer's image is another one.
    pub(super) cursor_changed: bool,
    /// Whether keys make something else than before.
    pub(super) keys_changed: bool,
    /// The modifiers that are locked, as bits.
    pub(super) locked: u8,
    /// Whether any event came that [`Client::heard`] has not told of.
    is_news: bool,
}

#[derive(Default)]
struct Extensions(Vec<(&'static str, ExtensionInformation)>);

impl Client {
    /// Connects to the running server of `display`.
    pub(super) async fn open(display: &Display) -> Result<Self, Error> {
        let (socket, cookie, owner) = display.door()?;
        Self::connect(&socket, &cookie, owner).await
    }

    /// Connects with the display's cookie, to a server that runs as `owner` where one is given.
    pub(super) async fn connect(socket: &Path, cookie: &Cookie, owner: Option<u32>) -> Result<Self, Error> {
        let (stream, setup) = shake_hands(socket, cookie, owner).await?;
        let mut client = Self::new(stream, setup);
        for name in EXTENSIONS {
            let reply = client.ask(QueryExtensionRequest { name: name.as_bytes().into() }).await?;
            if !reply.present && name == OPTIONAL {
                continue;
            }
            if !reply.present {
                return Err(Error::Missing(name));
            }
            let information = ExtensionInformation {
                major_opcode: reply.major_opcode,
                first_event: reply.first_event,
                first_error: reply.first_error,
            };
            client.extensions.0.push((name, information));
        }
        // Both want to hear a version before anything else.
        let version = damage::QueryVersionRequest { client_major_version: 1, client_minor_version: 1 };
        client.ask(version).await?;
        client.ask(xfixes::QueryVersionRequest { client_major_version: 4, client_minor_version: 0 }).await?;
        Ok(client)
    }

    fn new(stream: UnixStream, setup: Setup) -> Self {
        Self {
            stream,
            setup,
            extensions: Extensions::default(),
            sequence: 0,
            out: Vec::new(),
            buffer: Vec::new(),
            skipped: 0,
            events: VecDeque::new(),
            drawn: Damage::default(),
            cursor_changed: false,
            keys_changed: false,
            locked: 0,
            is_news: false,
        }
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A request without a reply. It goes out with the next flush; an error that it leads to comes as an event.
    pub(super) fn tell<R: VoidRequest>(&mut self, request: R) {
        self.put(request);
    }

    /// Sends what was told. Not cancel safe.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        let sent = timeout(ANSWER_DEADLINE, self.stream.write_all(&self.out)).await;
        sent.map_err(|_slow| Error::Slow)??;
        self.out.clear();
        Ok(())
    }

    /// A request and its reply, within [`ANSWER_DEADLINE`]. Not cancel safe.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::TooLarge`], after which the connection is as good as before; others end it.
    pub(super) async fn ask<R: ReplyRequest>(&mut self, request: R) -> Result<R::Reply, Error> {
        let sequence = self.put(request);
        self.flush().await?;
        let answer = timeout(ANSWER_DEADLINE, self.answer(sequence)).await;
        Ok(R::Reply::try_parse(&answer.map_err(|_slow| Error::Slow)??)?.0)
    }

    async fn answer(&mut self, sequence: u16) -> Result<Vec<u8>, Error> {
        loop {
            while let Some(message) = self.take()? {
                match message.first() {
                    Some(&REPLY) if sequence_of(&message) == sequence => {
                        if length_of(&message) > message.len() {
                            return Err(Error::TooLarge);
                        }
                        return Ok(message);
                    }
                    Some(&ERROR) if sequence_of(&message) == sequence => return Err(refused(&message)),
                    _ => self.keep(&message)?,
                }
            }
            self.read().await?;
        }
    }

    /// Waits for events; at once where some came with an answer. Cancel safe.
    pub(super) async fn heard(&mut self) -> Result<(), Error> {
        loop {
            while let Some(message) = self.take()? {
                self.keep(&message)?;
            }
            if std::mem::take(&mut self.is_news) {
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// An event that has come already, and is neither of what was drawn nor of the pointer's image.
    pub(super) fn ready_event(&mut self) -> Result<Option<Event>, Error> {
        while self.events.is_empty() {
            match self.take()? {
                Some(message) => self.keep(&message)?,
                None => break,
            }
        }
        Ok(self.events.pop_front())
    }

    fn put<R: Request>(&mut self, request: R) -> u16 {
        let opcode =
            R::EXTENSION_NAME.and_then(|name| self.extensions.of(name)).map_or(0, |known| known.major_opcode);
        let (bytes, _no_fds) = request.serialize(opcode);
        self.out.extend(bytes);
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn keep(&mut self, message: &[u8]) -> Result<(), Error> {
        // A reply that nobody waits for any more is of no interest.
        if message.first() == Some(&REPLY) {
            return Ok(());
        }
        self.is_news = true;
        match Event::parse(message, &self.extensions)? {
            Event::DamageNotify(damage::NotifyEvent { area, .. }) => self.drawn.add(area_of(area)),
            Event::XfixesCursorNotify(_) => self.cursor_changed = true,
            Event::XkbMapNotify(_) | Event::XkbNewKeyboardNotify(_) => self.keys_changed = true,
            Event::XkbStateNotify(event) => self.locked = bits(event.locked_mods),
            _ if self.events.len() >= MOST_EVENTS => return Err(Error::Flood),
            event => self.events.push_back(event),
        }
        Ok(())
    }

    /// A whole message off the buffer; of an answer that is too large, the head.
    fn take(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let skipped = self.skipped.min(self.buffer.len());
        self.buffer.drain(..skipped);
        self.skipped -= skipped;
        let Some(head) = self.buffer.first_chunk::<PACKET>() else { return Ok(None) };
        let mut length = length_of(head);
        if length > LONGEST {
            if head[0] != REPLY {
                return Err(Error::TooLong(length));
            }
            self.skipped = length - PACKET;
            length = PACKET;
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(length);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }

    async fn read(&mut self) -> Result<(), Error> {
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

/// Bytes of the message with this head.
fn length_of(message: &[u8]) -> usize {
    match message {
        [kind, _, _, _, a, b, c, d, ..] if matches!(kind & 0x7f, REPLY | GENERIC_EVENT) => {
            let words = usize::try_from(u32::from_ne_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
            words.saturating_mul(4).saturating_add(PACKET)
        }
        _ => PACKET,
    }
}

fn sequence_of(message: &[u8]) -> u16 {
    match message {
        [_, _, low, high, ..] => u16::from_ne_bytes([*low, *high]),
        _ => 0,
    }
}

/// Errors (X protocol, "Encoding"): code at 1, minor opcode at 8, major at 10.
fn refused(message: &[u8]) -> Error {
    match message {
        [_, code, _, _, _, _, _, _, minor0, minor1, major, ..] => {
            Error::Refused { major: *major, minor: u16::from_ne_bytes([*minor0, *minor1]), code: *code }
        }
        _ => Error::Parse(ParseError::InsufficientData),
    }
}

impl Extensions {
    fn of(&self, name: &str) -> Option<&ExtensionInformation> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, information)| information)
    }

    fn before(
        &self,
        code: u8,
        base: impl Fn(&ExtensionInformation) -> u8,
    ) -> Option<(&str, ExtensionInformation)> {
        let below = self.0.iter().filter(|(_, information)| base(information) <= code);
        let nearest = below.max_by_key(|(_, information)| base(information));
        nearest.map(|(name, information)| (*name, *information))
    }
}

impl ExtInfoProvider for Extensions {
    fn get_from_major_opcode(&self, opcode: u8) -> Option<(&str, ExtensionInformation)> {
        let found = self.0.iter().find(|(_, information)| information.major_opcode == opcode);
        found.map(|(name, information)| (*name, *information))
    }

    fn get_from_event_code(&self, code: u8) -> Option<(&str, ExtensionInformation)> {
        self.before(code, |information| information.first_event)
    }

    fn get_from_error_code(&self, code: u8) -> Option<(&str, ExtensionInformation)> {
        self.before(code, |information| information.first_error)
    }
}

#[cfg(test)]
mod tests {
    use x11rb_protocol::protocol::xproto::GetInputFocusRequest;

    use super::*;

    /// A client whose server is the test.
    fn client() -> (Client, UnixStream) {
        let (stream, server) = UnixStream::pair().unwrap();
        (Client::new(stream, Setup::default()), server)
    }

    fn packet(kind: u8, sequence: u16, words: u32) -> Vec<u8> {
        let mut packet = vec![0; PACKET];
        packet[0] = kind;
        packet[2..4].copy_from_slice(&sequence.to_ne_bytes());
        packet[4..8].copy_from_slice(&words.to_ne_bytes());
        packet
    }

    async fn ask(packets: &[Vec<u8>]) -> (Client, Result<(), Error>) {
        let (mut client, mut server) = client();
        server.write_all(&packets.concat()).await.unwrap();
        let answer = client.ask(GetInputFocusRequest).await.map(drop);
        (client, answer)
    }

    #[tokio::test]
    async fn an_answer_is_found_among_events_which_are_kept() {
        // MappingNotify.
        let (mut client, answer) = ask(&[packet(34, 1, 0), packet(REPLY, 1, 0), packet(34, 1, 0)]).await;
        answer.unwrap();
        for _ in 0..2 {
            assert!(matches!(client.ready_event().unwrap(), Some(Event::MappingNotify(_))));
        }
        assert!(client.ready_event().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_refusal_names_the_request_and_ends_nothing() {
        let mut error = packet(ERROR, 1, 0);
        (error[1], error[8], error[10]) = (10, 4, 130);
        let (_, answer) = ask(&[error]).await;
        assert!(matches!(answer, Err(Error::Refused { major: 130, minor: 4, code: 10 })), "{answer:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_skipped_and_the_next_one_is_found_behind_it() {
        let (mut client, mut server) = client();
        let words = 300_000;
        let body = vec![7; 4 * usize::try_from(words).unwrap()];
        let packets = [packet(REPLY, 1, words), body, packet(REPLY, 2, 0)].concat();
        let asked = async {
            let answer = client.ask(GetInputFocusRequest).await.map(drop);
            assert!(matches!(answer, Err(Error::TooLarge)), "{answer:?}");
            client.ask(GetInputFocusRequest).await.unwrap();
        };
        // More than the socket holds: written while it is read.
        tokio::join!(server.write_all(&packets), asked).0.unwrap();
    }

    #[tokio::test]
    async fn any_number_of_drawings_is_one_piece_of_news() {
        let (mut client, mut server) = client();
        let known = ExtensionInformation { major_opcode: 140, first_event: 91, first_error: 150 };
        client.extensions.0.push((damage::X11_EXTENSION_NAME, known));
        client.drawn = Damage::all(100, 50);
        client.drawn.take().for_each(drop);
        let mut drawing = packet(91, 1, 0);
        // At 3, 4; of 5 by 6 pixels.
        for (at, value) in (16..).step_by(2).zip([3_u16, 4, 5, 6]) {
            drawing[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        let packets = [drawing.repeat(MOST_EVENTS + 1), packet(REPLY, 1, 0)].concat();
        let asked = async {
            client.ask(GetInputFocusRequest).await.unwrap();
            client.heard().await.unwrap();
        };
        tokio::join!(server.write_all(&packets), asked).0.unwrap();
        assert!(client.ready_event().unwrap().is_none());
        let expected = crate::rfb::client_message::Area { x: 3, y: 4, width: 5, height: 6 };
        assert_eq!(client.drawn.take().collect::<Vec<_>>(), [expected]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_nothing_or_takes_nothing_is_given_up_in_time() {
        let (mut client, mut server) = client();
        let answer = client.ask(GetInputFocusRequest).await.map(drop);
        assert!(matches!(answer, Err(Error::Slow)), "{answer:?}");
        // News is no answer.
        server.write_all(&packet(34, 1, 0)).await.unwrap();
        let answer = client.ask(GetInputFocusRequest).await.map(drop);
        assert!(matches!(answer, Err(Error::Slow)), "{answer:?}");
        // More than the socket holds.
        client.out.resize(4 << 20, 0);
        assert!(matches!(client.flush().await, Err(Error::Slow)));
    }

    #[tokio::test]
    async fn a_server_that_announces_a_gigabyte_or_floods_is_given_up() {
        let (_, answer) = ask(&[packet(GENERIC_EVENT, 1, 1 << 28)]).await;
        assert!(matches!(answer, Err(Error::TooLong(_))), "{answer:?}");
        let (_, answer) = ask(&vec![packet(34, 1, 0); MOST_EVENTS + 1]).await;
        assert!(matches!(answer, Err(Error::Flood)), "{answer:?}");
    }
}

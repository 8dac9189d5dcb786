//! Message boundaries in a server's stream, found without changing or keeping a byte of it.
//!
//! They are needed in two places: a message of ours may go to the viewer only between two of the server's, and
//! ExtendedMouseButtons may be used towards the server only after it announced them.
//!
//! **Pixel format.** Sizes follow the format, and a SetPixelFormat takes effect in the server's stream at a point that
//! the stream does not show. Before the first update request there are no updates, so the format is simply taken (all
//! common viewers set it there, once). Later, a format with other sizes makes the skimmer lose its place.
//!
//! **Lost.** What is not understood ends the skimming for good: the bytes flow on, nothing is inserted any more.

use super::client_message::{Area, ClientMessage, Screen};
use super::encoding as enc;
use super::server_handshake::ServerInit;
use super::skim_rect::{self, Body, MAX_HEAD, Part, PixelSizes, Rect};

/// "As many rectangles as come before LastRect" (rfbproto, LastRect).
const OPEN_ENDED: u16 = u16::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between messages, or at a message type.
    Type,
    UpdateHeader,
    ColourMap,
    CutText,
    Fence,
    Xvp,
    RectHeader,
    Body(Body),
}

impl State {
    fn head_length(self) -> usize {
        match self {
            Self::Type => 1,
            Self::UpdateHeader | Self::Xvp => 3,
            Self::ColourMap => 5,
            Self::CutText => 7,
            Self::Fence => 8,
            Self::RectHeader => Rect::LENGTH,
            Self::Body(body) => body.head_length(),
        }
    }
}

/// Follows one server's stream, from the first byte after ServerInit.
#[derive(Debug)]
pub struct Skimmer {
    state: State,
    head: [u8; MAX_HEAD],
    have: usize,
    skip: u64,
    rects_left: u16,
    rect: Rect,
    sizes: PixelSizes,
    screen: Screen,
    updates_requested: bool,
    extended_mouse: bool,
    lost: Option<&'static str>,
}

impl Skimmer {
    /// A stream that begins after this ServerInit.
    pub fn new(init: &ServerInit) -> Self {
        let area = Area { x: 0, y: 0, width: init.width, height: init.height };
        Self {
            state: State::Type,
            head: [0; MAX_HEAD],
            have: 0,
            skip: 0,
            rects_left: 0,
            rect: Rect::default(),
            sizes: init.pixel_format.into(),
            screen: Screen { id: 0, area, flags: 0 },
            updates_requested: false,
            extended_mouse: false,
            lost: None,
        }
    }

    /// Follows `bytes`; says how many. With `stop` that is up to the next boundary after the first byte, else all.
    pub fn advance(&mut self, bytes: &[u8], stop: bool) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.lost.is_none() {
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
                rest = rest.get(skipped..).unwrap_or_default();
                self.skip -= u64::try_from(skipped).unwrap_or(self.skip);
            } else {
                rest = self.take_head(rest);
            }
            if stop && self.at_boundary() {
                return bytes.len() - rest.len();
            }
        }
        bytes.len()
    }

    /// Takes what the present head lacks, and acts on it once it is whole; gives what is left.
    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = self.state.head_length() - self.have;
        match bytes.first_chunk() {
            // The usual case, and a copy of fixed size. What is copied too much is overwritten by the next head.
            Some(head) if self.have == 0 => self.head = *head,
            _ => {
                let taken = bytes.get(..missing.min(bytes.len())).unwrap_or_default();
                if let Some(place) = self.head.get_mut(self.have..self.have + taken.len()) {
                    place.copy_from_slice(taken);
                }
                if taken.len() < missing {
                    self.have += taken.len();
                    return &[];
                }
            }
        }
        self.have = 0;
        self.step();
        bytes.get(missing..).unwrap_or_default()
    }

    /// Whether a message of ours may go out here.
    pub fn at_boundary(&self) -> bool {
        self.state == State::Type && self.have == 0 && self.skip == 0 && self.lost.is_none()
    }

    /// Why the place in the stream is not known any more.
    pub fn lost(&self) -> Option<&'static str> {
        self.lost
    }

    /// Whether the server announced ExtendedMouseButtons.
    pub fn extended_mouse(&self) -> bool {
        self.extended_mouse
    }

    /// The framebuffer: the first screen's id and flags, and the whole size.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Notes what goes to the server, as it bears on what comes from it.
    pub fn note_sent(&mut self, message: &ClientMessage) {
        match message {
            ClientMessage::SetPixelFormat(format) => {
                let sizes = PixelSizes::from(*format);
                if sizes != self.sizes && self.updates_requested {
                    self.lose("the size of a pixel changed while updates were on their way");
                }
                self.sizes = sizes;
            }
            ClientMessage::UpdateRequest { .. } | ClientMessage::EnableContinuousUpdates { .. } => {
                self.updates_requested = true;
            }
            _ => {}
        }
    }

    fn lose(&mut self, reason: &'static str) {
        self.lost.get_or_insert(reason);
    }

    /// Acts on a whole head.
    fn step(&mut self) {
        let [first, b, c, d, e, f, g, h, ..] = self.head;
        self.state = match self.state {
            State::Type => match first {
                0 => State::UpdateHeader,
                1 => State::ColourMap,
                3 => State::CutText,
                248 => State::Fence,
                250 => State::Xvp,
                // Bell and EndOfContinuousUpdates are their type alone.
                2 | 150 => State::Type,
                _ => return self.lose("unknown server message"),
            },
            State::UpdateHeader => {
                self.rects_left = u16::from_be_bytes([b, c]);
                return self.next_rect();
            }
            State::ColourMap => {
                self.skip = 6 * u64::from(u16::from_be_bytes([d, e]));
                State::Type
            }
            // Negative for the extended clipboard (rfbproto, Extended Clipboard).
            State::CutText => {
                self.skip = i32::from_be_bytes([d, e, f, g]).unsigned_abs().into();
                State::Type
            }
            State::Fence => {
                self.skip = h.into();
                State::Type
            }
            State::Xvp => State::Type,
            State::RectHeader => {
                self.rect = Rect::read(self.head);
                self.note_rect();
                return self.apply(skim_rect::start(self.rect, self.sizes));
            }
            State::Body(body) => {
                if matches!(body, Body::FirstScreen { .. }) {
                    self.note_screen();
                }
                return self.apply(body.read(self.head, self.rect, self.sizes));
            }
        };
    }

    fn apply(&mut self, part: Option<Part>) {
        match part {
            None => self.lose("a rectangle that is not understood"),
            Some(Part { skip, then }) => {
                self.skip = skip;
                match then {
                    Some(body) => self.state = State::Body(body),
                    None => self.next_rect(),
                }
            }
        }
    }

    fn next_rect(&mut self) {
        self.state = if self.rects_left == 0 { State::Type } else { State::RectHeader };
        if self.rects_left != OPEN_ENDED {
            self.rects_left = self.rects_left.saturating_sub(1);
        }
    }

    fn note_rect(&mut self) {
        match self.rect.encoding {
            enc::LAST_RECT => self.rects_left = 0,
            enc::EXTENDED_MOUSE_BUTTONS => self.extended_mouse = true,
            enc::DESKTOP_SIZE => self.note_size(),
            // A refusal (reason 1, status not 0) carries the size that was asked for.
            enc::EXTENDED_DESKTOP_SIZE if self.rect.x != 1 || self.rect.y == 0 => self.note_size(),
            _ => {}
        }
    }

    fn note_size(&mut self) {
        self.screen.area = Area { x: 0, y: 0, width: self.rect.width, height: self.rect.height };
    }

    fn note_screen(&mut self) {
        if self.rect.x != 1 || self.rect.y == 0 {
            let Screen { id, flags, .. } = skim_rect::read_screen(self.head);
            self.screen = Screen { id, flags, ..self.screen };
        }
    }
}

//! The server's side of one viewer after ServerInit, without I/O: bytes of the viewer in, what they mean and bytes for it
//! out. Pixels are somebody else's: this says which are wanted, and puts them into updates.

use std::sync::Arc;

use bytes::Bytes;

use super::client_message::{Area, ClientMessage, Screen};
use super::client_parser::ClientParser;
use super::clipboard::{self, Heard};
use super::encode::{Class, Encoded, ZrleStream};
use super::encoding as enc;
use super::error::DecodeError;
use super::frame::{Frame, intersection};
use super::held_input::{HeldInput, Noted};
use super::history::{Lacking, Move};
use super::painted::Overlay;
use super::pixel_format::PixelFormat;
use super::policy::{self, Access, Verdict};
use super::refresh::Again;
use super::region::{around, with};
use super::resize::{Reason, SizeStatus, Wish, is_one_screen};
use super::server_message as message;

/// As the frames have them: bytes B, G, R and one that means nothing.
pub const NATIVE: PixelFormat = PixelFormat {
    bits_per_pixel: 32,
    depth: 24,
    big_endian: false,
    true_colour: true,
    max: [255; 3],
    shift: [16, 8, 0],
};
/// The only screen's number; it never changes.
const SCREEN: u32 = 0;

/// What a message of the viewer means to whoever runs the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It was dealt with.
    Nothing,
    /// A key or the pointer, from a viewer that may.
    Input(ClientMessage),
    /// Text that was copied, by a viewer that may.
    Copied(String),
    /// Another width and height of the screen are wanted, by a viewer that may. [`Connection::resized`] is to be told what came
    /// of it.
    Resize((u16, u16)),
    /// The update of that number has been drawn.
    Drawn(u32),
}

/// How a viewer can be shown the pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorForm {
    /// VMware's: RGBA, straight alpha.
    Vmware,
    /// CursorWithAlpha: RGBA, alpha multiplied in.
    WithAlpha,
    /// RFC 6143: pixels and a mask.
    Masked,
}

/// What the next update has to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What the viewer has in another place: it is moved first, in this order.
    pub moves: Vec<Move>,
    /// How its pixels are encoded.
    pub class: Class,
    /// Which, as rectangles that do not overlap. Empty where only the size of the screen is told.
    pub areas: Vec<Area>,
    /// The frame that the viewer has then, and the pointer in it.
    seen: u64,
    overlay: Option<Overlay>,
    resize: bool,
    /// Whether it tells that the viewer's wish for another size was granted. An update that was begun before knows nothing of it.
    grants: bool,
    /// Whether it only brings nearer what the viewer has with loss: nothing that it asked for is answered with that.
    refresh: bool,
}

impl Wanted {
    /// Whether it only brings nearer what the viewer has.
    pub fn is_refresh(&self) -> bool {
        self.refresh
    }

    /// Whether it tells another size of the screen: the viewer has nothing of it yet.
    pub fn is_resize(&self) -> bool {
        self.resize
    }
}

/// One viewer.
#[derive(Debug)]
pub struct Connection {
    access: Access,
    parser: ClientParser,
    held: HeldInput,
    format: PixelFormat,
    encodings: Vec<i32>,
    /// Width and height as the viewer knows them.
    size: (u16, u16),
    wish: Wish,
    /// The frame that it has, and the pointer that is painted in it.
    seen: u64,
    overlay: Option<Overlay>,
    /// The keyboard's lights, as they are told to viewers.
    leds: u8,
    request: Option<Request>,
    continuous: bool,
    announced: Announced,
    zrle: ZrleStream,
    /// What was copied on the display, for when the viewer asks for it.
    text: Option<Arc<str>>,
    /// That text as the viewer is handed it, once it has asked; it may ask again for next to nothing.
    provided: Option<Bytes>,
    /// Whether it waits for that: however often it asks, it is handed the text once.
    asks_for_text: bool,
    /// Input behind what had to be released first.
    delayed: Option<ClientMessage>,
    /// A fence that is answered once the message behind it has been dealt with.
    next_fence: Option<(u32, Vec<u8>)>,
    /// Whether an update is being made. What is said meanwhile comes behind it: it may be of a format that is no more.
    is_making: bool,
    out: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    /// Part of the screen that is wanted whether it has changed or not.
    whole: Option<Area>,
}

/// What a viewer has been told of, once.
#[derive(Debug, Default)]
struct Announced {
    continuous: bool,
    fence: bool,
    qemu_key: bool,
    extended_mouse: bool,
    leds: Option<u8>,
    /// ExtendedDesktopSize is told at the first request after each SetEncodings (rfbproto).
    size: bool,
}

impl Connection {
    /// A viewer that was told a screen of that size in [`NATIVE`] pixels, and has seen nothing of it.
    pub fn new(access: Access, size: (u16, u16)) -> Self {
        Self {
            access,
            parser: ClientParser::new(),
            held: HeldInput::default(),
            format: NATIVE,
            encodings: Vec::new(),
            size,
            wish: Wish::None,
            seen: 0,
            overlay: None,
            leds: 0,
            request: None,
            continuous: false,
            announced: Announced::default(),
            zrle: ZrleStream::default(),
            text: None,
            provided: None,
            asks_for_text: false,
            delayed: None,
            next_fence: None,
            is_making: false,
            out: Vec::new(),
        }
    }

    /// Takes one message off `input`, or all of it and gives `None`.
    ///
    /// # Errors
    /// When the viewer broke the protocol. The connection is to end.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Said>, DecodeError> {
        if let Some(delayed) = self.delayed.take() {
            return Ok(Some(Said::Input(delayed)));
        }
        let Some(said) = self.parser.next(input)? else { return Ok(None) };
        let synced = self.next_fence.take();
        let said = match policy::decide(self.access, &said) {
            Verdict::Forward => self.take(said),
            Verdict::AnswerProhibited => {
                self.answer_wish(SizeStatus::Prohibited);
                Said::Nothing
            }
            Verdict::Drop => Said::Nothing,
        };
        if let Some((flags, payload)) = synced {
            message::fence(flags, &payload, &mut self.out);
        }
        Ok(Some(said))
    }

    fn take(&mut self, mut said: ClientMessage) -> Said {
        match said {
            ClientMessage::SetPixelFormat(format) => self.format = format,
            ClientMessage::SetEncodings(encodings) => self.set_encodings(encodings),
            ClientMessage::UpdateRequest { incremental, area } => {
                let whole = (!incremental).then_some(area);
                let known = self.request.and_then(|request| request.whole);
                let both = whole.zip(known).map(|(one, other)| around(one, other));
                self.request = Some(Request { whole: both.or(whole).or(known) });
                // Asked for everything, a viewer that knows the message is told the size again (rfbproto).
                self.announced.size &= incremental;
            }
            ClientMessage::EnableContinuousUpdates { enable, .. } => {
                if self.continuous && !enable {
                    self.out.push(message::END_OF_CONTINUOUS_UPDATES);
                }
                self.continuous = enable;
            }
            ClientMessage::Fence { flags, payload } => return self.fence(flags, payload),
            ClientMessage::Key { .. } | ClientMessage::QemuKey { .. } | ClientMessage::Pointer { .. } => {
                match self.held.note(&mut said) {
                    Noted::Drop => {}
                    Noted::Send => return Said::Input(said),
                    Noted::SendAfter(release) => {
                        self.delayed = Some(said);
                        return Said::Input(release);
                    }
                }
            }
            ClientMessage::SetDesktopSize { width, height, screens } => {
                return self.wish_for((width, height), &screens);
            }
            ClientMessage::CutText(text) => return Said::Copied(clipboard::from_latin1(&text)),
            ClientMessage::ExtendedCutText(body) => return self.clipboard(&body),
            ClientMessage::Xvp { .. } | ClientMessage::QemuAudio => {}
        }
        Said::Nothing
    }

    fn set_encodings(&mut self, encodings: Vec<i32>) {
        self.encodings = encodings;
        self.announced.size = false;
        if self.lists(enc::CONTINUOUS_UPDATES) && self.lists(enc::FENCE) && !self.announced.continuous {
            self.announced.continuous = true;
            self.out.push(message::END_OF_CONTINUOUS_UPDATES);
        }
        // With every list that has it (rfbproto).
        if self.lists(enc::EXTENDED_CLIPBOARD) && self.access == Access::Full {
            self.out.extend(clipboard::caps());
        }
        if self.lists(enc::FENCE) && !self.announced.fence {
            self.announced.fence = true;
            message::fence(message::FENCE_REQUEST, &[], &mut self.out);
        }
    }

    fn clipboard(&mut self, body: &[u8]) -> Said {
        match clipboard::read(body) {
            Heard::Provided(text) => return Said::Copied(text),
            Heard::Notified => self.out.extend(clipboard::request()),
            Heard::Peeked => self.out.extend(clipboard::notify(self.text.is_some())),
            Heard::Requested => self.asks_for_text = self.text.is_some(),
            Heard::Nothing => {}
        }
        Said::Nothing
    }

    /// Tells a viewer that may act what was copied on the display: by and by where it knows how, at once else.
    pub fn offer(&mut self, text: Arc<str>) {
        if self.access != Access::Full {
            return;
        }
        if self.lists(enc::EXTENDED_CLIPBOARD) {
            self.out.extend(clipboard::notify(true));
        } else {
            self.out.extend(clipboard::cut_text(&text));
        }
        self.text = Some(text);
        self.provided = None;
    }

    /// An answer to one of ours, or a request, which is answered with what of it we do: everything is in order here.
    fn fence(&mut self, flags: u32, payload: Vec<u8>) -> Said {
        if flags & message::FENCE_REQUEST != 0 {
            let flags = flags & message::FENCE_FLAGS;
            if flags & message::FENCE_SYNC_NEXT != 0 {
                self.next_fence = Some((flags, payload));
            } else {
                message::fence(flags, &payload, &mut self.out);
            }
            return Said::Nothing;
        }
        payload.try_into().map_or(Said::Nothing, |number| Said::Drawn(u32::from_be_bytes(number)))
    }

    /// Each wish has its answer. One that cannot be told the answer is none of a viewer that keeps to the protocol.
    fn wish_for(&mut self, size: (u16, u16), screens: &[Screen]) -> Said {
        if !self.lists(enc::EXTENDED_DESKTOP_SIZE) {
            return Said::Nothing;
        }
        if !is_one_screen(size, screens) {
            self.answer_wish(SizeStatus::BadLayout);
            return Said::Nothing;
        }
        match std::mem::replace(&mut self.wish, Wish::Pending) {
            Wish::None => {}
            Wish::Pending => self.answer_wish(SizeStatus::Superseded),
            Wish::Granted => self.answer_wish(SizeStatus::Done),
        }
        Said::Resize(size)
    }

    /// Takes what came of the wish, now that the screen is of `size`.
    pub fn resized(&mut self, status: SizeStatus, size: (u16, u16)) {
        self.wish = Wish::None;
        if status == SizeStatus::Done && size != self.size {
            // The answer is the change itself, which an update tells.
            self.wish = Wish::Granted;
        } else {
            self.answer_wish(status);
        }
    }

    fn answer_wish(&mut self, status: SizeStatus) {
        if self.lists(enc::EXTENDED_DESKTOP_SIZE) {
            message::resize_answer(&self.screen(), status, &mut self.out);
        }
    }

    fn screen(&self) -> Screen {
        let area = Area { x: 0, y: 0, width: self.size.0, height: self.size.1 };
        Screen { id: SCREEN, area, flags: 0 }
    }

    fn lists(&self, encoding: i32) -> bool {
        self.encodings.contains(&encoding)
    }

    /// What is to be sent at once: nothing while an update is being made, which goes first.
    pub fn take_output(&mut self) -> Vec<u8> {
        if self.is_making { Vec::new() } else { std::mem::take(&mut self.out) }
    }

    /// How many bytes that is.
    pub fn output(&self) -> usize {
        self.out.len()
    }

    /// The text that the viewer asked for, to be sent at once.
    pub fn take_text(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.asks_for_text) {
            return None;
        }
        if self.provided.is_none() {
            self.provided = self.text.as_deref().map(clipboard::provide).map(Bytes::from);
        }
        self.provided.clone()
    }

    /// Width and height of the screen as the viewer knows them.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Whether the viewer waits for an update at all.
    pub fn is_waiting(&self) -> bool {
        self.continuous || self.request.is_some()
    }

    /// Whether it waits for pixels as they are now, changed or not.
    pub fn wants_now(&self) -> bool {
        self.request.is_some_and(|request| request.whole.is_some())
    }

    /// Whether it answers when it has drawn what it was sent.
    pub fn answers_fences(&self) -> bool {
        self.lists(enc::FENCE)
    }

    /// The frame that it has, or will have when what is on its way has come.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How it can be shown the pointer, if it can. noVNC lists the RFC's form as well, but swaps red and blue in it.
    pub fn cursor_form(&self) -> Option<CursorForm> {
        let forms = [
            (enc::VMWARE_CURSOR, CursorForm::Vmware),
            (enc::CURSOR_WITH_ALPHA, CursorForm::WithAlpha),
            (enc::CURSOR, CursorForm::Masked),
        ];
        forms.into_iter().find(|(number, _)| self.lists(*number)).map(|(_, form)| form)
    }

    /// How it wants its pixels.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// What an update with `frame` has to bring; `None` when nothing is asked for or nothing is new. Good until the viewer is
    /// heard again.
    pub fn wanted(&self, frame: &Frame) -> Option<Wanted> {
        if !self.is_waiting() {
            return None;
        }
        let resize = (frame.width(), frame.height()) != self.size
            && (self.lists(enc::EXTENDED_DESKTOP_SIZE) || self.lists(enc::DESKTOP_SIZE));
        if resize && self.wish == Wish::Pending {
            // It is told what there is then as the answer.
            return None;
        }
        let told = self.screen().area;
        let whole = self.request.and_then(|request| request.whole).filter(|_| !resize);
        // A pointer that is painted would be moved along.
        let is_plain = self.overlay.is_none() && frame.overlay().is_none();
        let may_move = self.lists(enc::COPY_RECT) && told == frame.area() && whole.is_none() && is_plain;
        let Lacking { moves, mut areas } = if resize {
            Lacking::default()
        } else if may_move {
            frame.lacking(self.seen)
        } else {
            Lacking { moves: Vec::new(), areas: frame.since(self.seen) }
        };
        if let Some(whole) = whole {
            areas = with(areas, intersection(whole, frame.area()));
        }
        for area in self.stale_pointer(frame).filter(|_| !resize) {
            areas = with(areas, intersection(area, frame.area()));
        }
        // A viewer that cannot be told of another size sees what of it fits.
        let areas: Vec<Area> = areas.into_iter().filter_map(|area| intersection(area, told)).collect();
        let announces = self.announces();
        if moves.is_empty() && areas.is_empty() && !resize && !announces {
            return None;
        }
        let class = Class::new(self.format, &self.encodings);
        let (seen, overlay) = if resize { (0, None) } else { (frame.serial(), frame.overlay()) };
        let grants = self.wish == Wish::Granted;
        Some(Wanted { moves, class, areas, seen, overlay, resize, grants, refresh: false })
    }

    /// Where the pointer is painted that is not there in `frame`, and where it is to be painted: for one that has it elsewhere, or
    /// has it or not and is to have it otherwise.
    fn stale_pointer(&self, frame: &Frame) -> impl Iterator<Item = Area> + use<> {
        let is_stale = self.overlay != frame.overlay();
        let both = [self.overlay, frame.overlay()].into_iter().flatten();
        both.filter(move |_| is_stale).map(|overlay| overlay.area)
    }

    /// What of its screen the viewer has otherwise than `frame` has it: not to be made exact, since it is sent anew.
    pub fn differing(&self, frame: &Frame) -> Vec<Area> {
        let told = self.screen().area;
        let areas = frame.since(self.seen).into_iter().chain(self.stale_pointer(frame));
        areas.filter_map(|area| intersection(area, told)).collect()
    }

    /// Notes that the viewer has `frame`, where nothing in it is new to it: it can be told of moves from there on.
    pub fn note(&mut self, frame: &Frame) {
        let is_same = (frame.width(), frame.height()) == self.size && self.overlay == frame.overlay();
        if is_same && self.seen != 0 && frame.since(self.seen).is_empty() {
            self.seen = frame.serial();
        }
    }

    /// An update that sends a part of `frame` again, nearer than before. Only for a viewer that waits.
    pub fn refresh(&self, frame: &Frame, again: Again) -> Option<Wanted> {
        let areas = again.areas.into_iter().filter_map(|area| intersection(area, frame.area())).collect();
        let class = Class::new(self.format, &self.encodings);
        let class = if again.as_asked { class } else { class.lossless() };
        let (moves, seen, overlay) = (Vec::new(), self.seen, self.overlay);
        let wanted =
            Wanted { moves, class, areas, seen, overlay, resize: false, grants: false, refresh: true };
        (self.is_waiting() && !wanted.areas.is_empty()).then_some(wanted)
    }

    fn announces(&self) -> bool {
        let Announced { qemu_key, extended_mouse, size, .. } = self.announced;
        (self.lists(enc::QEMU_KEY) && !qemu_key)
            || (self.lists(enc::EXTENDED_MOUSE_BUTTONS) && !extended_mouse)
            || (self.lists(enc::EXTENDED_DESKTOP_SIZE) && (!size || self.wish == Wish::Granted))
            || self.untold_leds().is_some()
    }

    /// The keyboard's lights are these now, as bits: 1 Scroll Lock, 2 Num Lock, 4 Caps Lock.
    pub fn light(&mut self, leds: u8) {
        self.leds = leds;
    }

    fn untold_leds(&self) -> Option<u8> {
        (self.lists(enc::LED_STATE) && self.announced.leds != Some(self.leds)).then_some(self.leds)
    }

    /// Notes that the update is being made. What the viewer asks for from now on, another one answers.
    pub fn begin(&mut self, wanted: &Wanted) {
        if !wanted.refresh || !self.continuous {
            self.request = None;
        }
        self.is_making = true;
    }

    /// Notes that an update with `frame` leaves now, which was begun, and gives its bytes: the rectangles of `pixels` are what `wanted` asked for.
    pub fn update(&mut self, frame: &Frame, wanted: &Wanted, pixels: &[Encoded]) -> Vec<Bytes> {
        let mut head = Vec::new();
        if !wanted.refresh {
            self.announce(frame, wanted, &mut head);
        }
        if !pixels.is_empty() || !wanted.moves.is_empty() {
            message::update(wanted.moves.len() + pixels.len(), &mut head);
            wanted.moves.iter().for_each(|done| message::copy(done, &mut head));
        }
        (self.seen, self.overlay) = (wanted.seen, wanted.overlay);
        self.is_making = false;
        let head = (!head.is_empty()).then(|| Bytes::from(head));
        let pixels = pixels.iter().flat_map(|encoded| self.zrle.parts(&encoded.bytes));
        head.into_iter().chain(pixels).collect()
    }

    /// Rectangles without pixels; one that tells a size stands alone.
    fn announce(&mut self, frame: &Frame, wanted: &Wanted, out: &mut Vec<u8>) {
        let resize = wanted.resize;
        let mut empty = Vec::new();
        if self.lists(enc::QEMU_KEY) && !std::mem::replace(&mut self.announced.qemu_key, true) {
            empty.push(enc::QEMU_KEY);
        }
        if self.lists(enc::EXTENDED_MOUSE_BUTTONS)
            && !std::mem::replace(&mut self.announced.extended_mouse, true)
        {
            empty.push(enc::EXTENDED_MOUSE_BUTTONS);
        }
        if !empty.is_empty() {
            message::update(empty.len(), out);
            empty.into_iter().for_each(|number| message::rectangle(Area::default(), number, out));
        }
        if let Some(leds) = self.untold_leds() {
            message::update(1, out);
            message::rectangle(Area::default(), enc::LED_STATE, out);
            out.push(leds);
            self.announced.leds = Some(leds);
        }
        let is_granted = wanted.grants && self.wish == Wish::Granted;
        let reason = match (is_granted, resize && frame.is_wished()) {
            (true, _) => Reason::ThisViewer,
            (false, true) => Reason::OtherViewer,
            (false, false) => Reason::Server,
        };
        if is_granted {
            self.wish = Wish::None;
        }
        if resize {
            self.size = (frame.width(), frame.height());
        }
        if self.lists(enc::EXTENDED_DESKTOP_SIZE) {
            if !std::mem::replace(&mut self.announced.size, true) || resize || is_granted {
                message::desktop_size(&self.screen(), reason, out);
            }
        } else if resize {
            let area = self.screen().area;
            message::update(1, out);
            message::rectangle(area, enc::DESKTOP_SIZE, out);
        }
    }

    /// A fence behind an update: answered with `number` when the update has been drawn.
    pub fn fence_behind(&self, number: u32) -> Vec<u8> {
        let mut out = Vec::new();
        message::fence(message::FENCE_REQUEST | message::FENCE_BLOCK_BEFORE, &number.to_be_bytes(), &mut out);
        out
    }
}

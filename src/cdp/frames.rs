//! WebSocket frames (RFC 6455 section 5.2): a header's meaning, and where the browser's frames begin and end.
//!
//! The browser's frames are not masked, and neither are ours to the client, so that its bytes can go through as they are:
//! nothing here holds or copies a payload. Only boundaries matter, and control frames, which end at the hop.

/// Bytes of the longest header: 2, and 8 of length, and 4 of mask.
pub const MAX_HEADER: usize = 14;

/// Payload of a control frame, at most (section 5.5).
pub const MAX_CONTROL: usize = 125;

/// Why bytes are no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Bits for extensions, of which none was agreed on (section 5.2).
    #[error("reserved bits are set")]
    Reserved,
    /// An opcode that means nothing (section 5.2).
    #[error("opcode {0} is unknown")]
    Opcode(u8),
    /// A server masks nothing and a client everything (section 5.1).
    #[error("the frame is masked the wrong way")]
    Mask,
    /// A length with its highest bit set, or not in its shortest form (section 5.2).
    #[error("the length is malformed")]
    Length,
    /// A control frame in pieces, or longer than it may be (section 5.5).
    #[error("a control frame is malformed")]
    Control,
    /// A continuation of nothing, or a message inside another (section 5.4).
    #[error("the fragments are out of order")]
    Order,
    /// A message longer than it may be.
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// More of a message.
    Continuation,
    /// The first of a text.
    Text,
    /// The first of a binary message.
    Binary,
    /// The end.
    Close,
    /// To be answered.
    Ping,
    /// An answer.
    Pong,
}

impl Opcode {
    fn of(byte: u8) -> Result<Self, FrameError> {
        Ok(match byte & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(FrameError::Opcode(other)),
        })
    }

    fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Whether it is no part of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A frame without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with it.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Its masking key.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload.
    pub length: u64,
}

impl Header {
    /// The header at the start of `bytes` and its own length; `None` while it is not all there.
    ///
    /// # Errors
    /// When it is none, which its first bytes may show before the rest is there.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        let (fin, opcode) = (first & 0x80 != 0, Opcode::of(first)?);
        if opcode.is_control() && !fin {
            return Err(FrameError::Control);
        }
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(FrameError::Control);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let shortest = match short {
            126 => length > 125,
            127 => length > u64::from(u16::MAX) && length >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(FrameError::Length);
        }
        let (mask, rest) = match (second & 0x80 != 0, rest.split_first_chunk::<4>()) {
            (false, _) => (None, rest),
            (true, Some((key, rest))) => (Some(*key), rest),
            (true, None) => return Ok(None),
        };
        Ok(Some((Self { fin, opcode, mask, length }, bytes.len() - rest.len())))
    }

    /// Writes it, in its shortest form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.fin) << 7 | self.opcode.number());
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        match (u8::try_from(self.length), u16::try_from(self.length)) {
            (Ok(length @ 0..=125), _) => out.push(masked | length),
            (_, Ok(length)) => {
                out.push(masked | 126);
                out.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                out.push(masked | 127);
                out.extend_from_slice(&self.length.to_be_bytes());
            }
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[], |key| key.as_slice()));
    }
}

/// Whether a frame that begins with this byte is a control frame.
fn is_control(first: u8) -> bool {
    first & 0x08 != 0
}

/// A whole frame of ours to a client.
pub fn to_client(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + MAX_HEADER);
    let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    Header { fin: true, opcode, mask: None, length }.write(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// Where the payload of a message went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard<'a> {
    /// Bytes of it.
    pub bytes: &'a [u8],
    /// Whether the message begins with them.
    pub first: bool,
    /// Whether it ends with them.
    pub last: bool,
}

/// What comes next in the browser's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// So many bytes go to the client as they are; more than none.
    Pass(usize),
    /// So many bytes are of a control frame that has not ended.
    Skip(usize),
    /// So many bytes end a control frame, which is for us.
    Control(usize, Opcode, Vec<u8>),
    /// The bytes are used up.
    Done,
}

/// Follows the browser's stream from frame to frame.
#[derive(Debug, Default)]
pub struct Frames {
    at: At,
    /// A message has begun and not ended.
    in_message: bool,
}

#[derive(Debug)]
enum At {
    /// Between frames, or in a header of which these bytes have come.
    Header { seen: [u8; MAX_HEADER], count: usize },
    /// In the payload of a message's frame.
    Payload { left: u64, fin: bool, first: bool },
    /// In the payload of a control frame.
    Control { opcode: Opcode, payload: Vec<u8>, left: usize },
}

impl Default for At {
    fn default() -> Self {
        Self::Header { seen: [0; MAX_HEADER], count: 0 }
    }
}

impl Frames {
    /// Whether a control frame may go out here.
    pub fn between_frames(&self) -> bool {
        matches!(self.at, At::Header { count: 0, .. })
    }

    /// Whether a message may go out here.
    pub fn between_messages(&self) -> bool {
        self.between_frames() && !self.in_message
    }

    /// Looks at the next bytes of the stream. They are to be given again from behind what the step says, until `Done`.
    /// With `to_boundary`, bytes behind the end of a message are left for later. `hear` gets the messages' payloads.
    ///
    /// # Errors
    /// When they are no frames of a server. The stream cannot be followed any further.
    pub fn step<'b>(
        &mut self,
        bytes: &'b [u8],
        to_boundary: bool,
        hear: &mut impl FnMut(Heard<'b>),
    ) -> Result<Step, FrameError> {
        let mut at = 0;
        loop {
            if to_boundary && at > 0 && self.between_messages() {
                return Ok(Step::Pass(at));
            }
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.is_empty() && !self.is_empty_payload() {
                return Ok(self.used(at));
            }
            match &mut self.at {
                At::Header { seen, count } => {
                    // What stands before a control frame goes first, since that is not passed.
                    if at > 0 && *count == 0 && rest.first().is_some_and(|byte| is_control(*byte)) {
                        return Ok(Step::Pass(at));
                    }
                    let known = *count;
                    let take = rest.len().min(MAX_HEADER - known);
                    if let (Some(place), Some(new)) = (seen.get_mut(known..known + take), rest.get(..take)) {
                        place.copy_from_slice(new);
                    }
                    let parsed = Header::parse(seen.get(..known + take).unwrap_or_default());
                    let entered = match parsed {
                        Ok(None) => {
                            *count += take;
                            at += take;
                            continue;
                        }
                        Ok(Some((header, length))) => self.enter(&header).map(|()| length - known),
                        Err(error) => Err(error),
                    };
                    match entered {
                        Ok(used) => at += used,
                        // The good frames before it go first; then it is found again.
                        Err(_) if at > 0 => return Ok(self.used(at)),
                        Err(error) => return Err(error),
                    }
                }
                At::Payload { left, fin, first } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= u64::try_from(here).unwrap_or(*left);
                    let last = *fin && *left == 0;
                    hear(Heard { bytes: rest.get(..here).unwrap_or_default(), first: *first, last });
                    *first = false;
                    at += here;
                    if *left == 0 {
                        self.in_message = !*fin;
                        self.at = At::default();
                    }
                }
                At::Control { opcode, payload, left } => {
                    let here = (*left).min(rest.len());
                    payload.extend_from_slice(rest.get(..here).unwrap_or_default());
                    *left -= here;
                    at += here;
                    if *left == 0 {
                        let step = Step::Control(at, *opcode, std::mem::take(payload));
                        self.at = At::default();
                        return Ok(step);
                    }
                }
            }
        }
    }

    /// What `count` bytes before this point were.
    fn used(&self, count: usize) -> Step {
        match &self.at {
            _ if count == 0 => Step::Done,
            At::Control { .. } => Step::Skip(count),
            At::Header { seen, count: known } if *known > 0 && is_control(seen[0]) => Step::Skip(count),
            _ => Step::Pass(count),
        }
    }

    fn is_empty_payload(&self) -> bool {
        matches!(self.at, At::Payload { left: 0, .. } | At::Control { left: 0, .. })
    }

    fn enter(&mut self, header: &Header) -> Result<(), FrameError> {
        if header.mask.is_some() {
            return Err(FrameError::Mask);
        }
        if header.opcode.is_control() {
            let left = usize::try_from(header.length).unwrap_or(MAX_CONTROL);
            self.at = At::Control { opcode: header.opcode, payload: Vec::with_capacity(left), left };
            return Ok(());
        }
        let continues = header.opcode == Opcode::Continuation;
        if continues != self.in_message {
            return Err(FrameError::Order);
        }
        self.in_message = true;
        self.at = At::Payload { left: header.length, fin: header.fin, first: !continues };
        Ok(())
    }
}

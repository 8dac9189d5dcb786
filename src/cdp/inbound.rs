//! A client's messages, put together from its frames: each is held once, in one piece, and unmasked where it lies.

use bytes::{Bytes, BytesMut};

use super::frames::{FrameError, Header, Opcode};

/// Room for the next read when nothing large is under way, in bytes; commands are a few hundred.
const SMALL_READ: usize = 8 * 1024;
/// Room for the next read of a large frame, in bytes.
const LARGE_READ: usize = 256 * 1024;

/// What a client has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A whole message, text or binary.
    Message(Bytes),
    /// To be answered with the same payload.
    Ping(Bytes),
    /// An answer.
    Pong,
    /// The end.
    Close,
}

/// Frames of a client, as they come in.
#[derive(Debug)]
pub struct Inbound {
    max_message: usize,
    buffer: BytesMut,
    /// The frame whose payload is not all there; its header is gone from the buffer.
    frame: Option<Header>,
    /// Payload bytes at the start of the buffer that are unmasked.
    unmasked: usize,
    /// The fragments before this frame; `None` outside a message.
    message: Option<BytesMut>,
}

impl Inbound {
    /// For messages of at most `max_message` bytes. `leftover` came before.
    pub fn new(max_message: usize, leftover: &[u8]) -> Self {
        let buffer = BytesMut::from(leftover);
        Self { max_message, buffer, frame: None, unmasked: 0, message: None }
    }

    /// Where the next bytes of the stream go: they are to be appended to it, and nothing else done. Its room grows with what
    /// has come, never with what a header promises.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let wanted = match &self.frame {
            Some(frame) => {
                let left =
                    usize::try_from(frame.length).unwrap_or(usize::MAX).saturating_sub(self.buffer.len());
                // And perhaps the next frame's header, so that it needs no read of its own.
                left.saturating_add(SMALL_READ).min(LARGE_READ)
            }
            None => SMALL_READ,
        };
        self.buffer.reserve(wanted);
        &mut self.buffer
    }

    /// The next item, if it is all there. To be asked until there is none after each read.
    ///
    /// # Errors
    /// When the bytes are no frames of a client, or a message is too long.
    pub fn item(&mut self) -> Result<Option<Item>, FrameError> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match Header::parse(&self.buffer)? {
                    Some((frame, length)) => {
                        self.check(&frame)?;
                        bytes::Buf::advance(&mut self.buffer, length);
                        self.unmasked = 0;
                        *self.frame.insert(frame)
                    }
                    None => return Ok(None),
                },
            };
            let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
            let here = length.min(self.buffer.len());
            if let (Some(key), Some(new)) = (frame.mask, self.buffer.get_mut(self.unmasked..here)) {
                unmask(new, key, self.unmasked);
            }
            self.unmasked = here;
            if here < length {
                return Ok(None);
            }
            self.frame = None;
            let payload = self.buffer.split_to(length);
            if payload.len() > LARGE_READ {
                // Otherwise what is left would keep the whole message's memory.
                self.buffer = BytesMut::from(self.buffer.as_ref());
            }
            if let Some(item) = self.end_of(&frame, payload) {
                return Ok(Some(item));
            }
        }
    }

    fn check(&self, frame: &Header) -> Result<(), FrameError> {
        if frame.mask.is_none() {
            return Err(FrameError::Mask);
        }
        if frame.opcode.is_control() {
            return Ok(());
        }
        if (frame.opcode == Opcode::Continuation) != self.message.is_some() {
            return Err(FrameError::Order);
        }
        let before = self.message.as_ref().map_or(0, BytesMut::len);
        let length = usize::try_from(frame.length).ok().and_then(|length| length.checked_add(before));
        if length.is_none_or(|length| length > self.max_message) {
            return Err(FrameError::TooLong(self.max_message));
        }
        Ok(())
    }

    fn end_of(&mut self, frame: &Header, payload: BytesMut) -> Option<Item> {
        match frame.opcode {
            Opcode::Close => return Some(Item::Close),
            Opcode::Ping => return Some(Item::Ping(payload.freeze())),
            Opcode::Pong => return Some(Item::Pong),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {}
        }
        let message = match self.message.take() {
            Some(mut message) => {
                message.extend_from_slice(&payload);
                message
            }
            None => payload,
        };
        if frame.fin {
            return Some(Item::Message(message.freeze()));
        }
        self.message = Some(message);
        None
    }
}

/// RFC 6455 section 5.3; `from` is where in its frame's payload the first byte stands.
fn unmask(bytes: &mut [u8], key: [u8; 4], from: usize) {
    let mut key = key;
    key.rotate_left(from % 4);
    let word = u32::from_ne_bytes(key);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for four in words {
        *four = (u32::from_ne_bytes(*four) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

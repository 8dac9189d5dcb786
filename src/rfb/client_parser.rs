//! A viewer's stream, cut into messages. Every type has an explicit length; a type that is not here is an error,
//! since nothing behind it could be understood.

use super::DecodeError;
use super::client_message::{
    Area, CUT_TEXT, ClientMessage, ENABLE_CONTINUOUS_UPDATES, FENCE, KEY_EVENT, MAX_CUT_TEXT, MAX_ENCODINGS,
    MAX_FENCE, POINTER_EVENT, QEMU, QEMU_AUDIO, QEMU_KEY, SET_DESKTOP_SIZE, SET_ENCODINGS, SET_PIXEL_FORMAT,
    Screen, UPDATE_REQUEST, XVP,
};
use super::encoding::EXTENDED_MOUSE_BUTTONS;
use super::pixel_format::PixelFormat;
use super::wire::{Fields, fill, size};

/// A buffer above this is given back after use, so that one big clipboard does not stay for the whole connection.
const KEPT_CAPACITY: usize = 4096;

/// An incremental parser: any chunking gives the same messages.
///
/// A pointer event with bit 7 set has the seven-byte form of ExtendedMouseButtons exactly when the viewer's latest
/// SetEncodings lists -316. A viewer that lists it keeps bit 7 clear until the server has agreed (rfbproto,
/// ExtendedMouseButtons), so the server's stream is not needed to tell the forms apart.
#[derive(Debug, Default)]
pub struct ClientParser {
    partial: Vec<u8>,
    extended_mouse: bool,
}

impl ClientParser {
    /// A parser at the first byte after ClientInit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one message off `input`, or takes all of it and gives `None`. After an error the stream is lost.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<ClientMessage>, DecodeError> {
        if self.partial.is_empty() {
            let needed = self.required(input)?;
            if let Some((whole, rest)) = input.split_at_checked(needed).filter(|_| needed > 0) {
                *input = rest;
                return self.decode(whole).map(Some);
            }
        }
        loop {
            let needed = self.required(&self.partial)?;
            if needed > 0 && self.partial.len() >= needed {
                let whole = std::mem::take(&mut self.partial);
                let message = self.decode(&whole)?;
                if whole.capacity() <= KEPT_CAPACITY {
                    self.partial = whole;
                    self.partial.clear();
                }
                return Ok(Some(message));
            }
            if !fill(&mut self.partial, needed.max(1), input) {
                return Ok(None);
            }
        }
    }

    /// Bytes that are held of a message not yet whole.
    pub fn buffered(&self) -> usize {
        self.partial.len()
    }

    /// Whether the viewer's latest SetEncodings lists ExtendedMouseButtons.
    pub fn lists_extended_mouse(&self) -> bool {
        self.extended_mouse
    }

    /// How many bytes, counted from the start of the message, are needed to get further than `prefix`: all of the
    /// message once its length is known. Zero for an empty prefix.
    fn required(&self, prefix: &[u8]) -> Result<usize, DecodeError> {
        let counted = |header: usize| prefix.get(header - 1).copied();
        Ok(match prefix {
            [] => 0,
            [SET_PIXEL_FORMAT, ..] => 20,
            [SET_ENCODINGS, _, high, low, ..] => {
                let count = u32::from(u16::from_be_bytes([*high, *low]));
                4 + 4 * size(DecodeError::check("number of encodings", count, u32::from(MAX_ENCODINGS))?)
            }
            [SET_ENCODINGS, ..] => 4,
            [UPDATE_REQUEST | ENABLE_CONTINUOUS_UPDATES, ..] => 10,
            [KEY_EVENT, ..] => 8,
            [POINTER_EVENT, mask, ..] => 6 + usize::from(self.extended_mouse && mask & 0x80 != 0),
            [POINTER_EVENT] => 2,
            [CUT_TEXT, _, _, _, a, b, c, d, ..] => {
                let length = i32::from_be_bytes([*a, *b, *c, *d]);
                if (-3..0).contains(&length) {
                    return Err(DecodeError::bad(
                        "cut text length",
                        "an extended clipboard message has 4 bytes of flags",
                    ));
                }
                8 + size(DecodeError::check("cut text length", length.unsigned_abs(), MAX_CUT_TEXT)?)
            }
            [CUT_TEXT, ..] => 8,
            [FENCE, ..] => match counted(9) {
                Some(length) => {
                    9 + size(DecodeError::check("fence length", u32::from(length), u32::from(MAX_FENCE))?)
                }
                None => 9,
            },
            [XVP, ..] => 4,
            [SET_DESKTOP_SIZE, ..] => match counted(7) {
                Some(screens) => 8 + 16 * usize::from(screens),
                None => 8,
            },
            [QEMU, QEMU_KEY, ..] => 12,
            [QEMU, QEMU_AUDIO, high, low, ..] => match u16::from_be_bytes([*high, *low]) {
                0 | 1 => 4,
                2 => 10,
                _ => return Err(DecodeError::bad("QEMU audio operation", "not 0, 1 or 2")),
            },
            [QEMU, QEMU_AUDIO, ..] => 4,
            [QEMU] => 2,
            [QEMU, ..] => return Err(DecodeError::bad("QEMU submessage", "not 0 or 1")),
            [other, ..] => return Err(DecodeError::UnknownType(*other)),
        })
    }

    fn decode(&mut self, whole: &[u8]) -> Result<ClientMessage, DecodeError> {
        let mut fields = Fields(whole);
        Ok(match fields.u8()? {
            SET_PIXEL_FORMAT => {
                fields.bytes(3)?;
                ClientMessage::SetPixelFormat(PixelFormat::from_viewer(fields.array()?)?)
            }
            SET_ENCODINGS => {
                fields.bytes(1)?;
                let count = fields.u16()?;
                let encodings = (0..count).map(|_| fields.i32()).collect::<Result<Vec<_>, _>>()?;
                self.extended_mouse = encodings.contains(&EXTENDED_MOUSE_BUTTONS);
                ClientMessage::SetEncodings(encodings)
            }
            UPDATE_REQUEST => {
                ClientMessage::UpdateRequest { incremental: fields.flag()?, area: area(&mut fields)? }
            }
            KEY_EVENT => {
                let down = fields.flag()?;
                fields.bytes(2)?;
                ClientMessage::Key { down, keysym: fields.u32()? }
            }
            POINTER_EVENT => pointer(&mut fields, whole.len() == 7)?,
            CUT_TEXT => {
                fields.bytes(3)?;
                let extended = fields.i32()? < 0;
                let data = fields.0.to_vec();
                if extended { ClientMessage::ExtendedCutText(data) } else { ClientMessage::CutText(data) }
            }
            ENABLE_CONTINUOUS_UPDATES => {
                ClientMessage::EnableContinuousUpdates { enable: fields.flag()?, area: area(&mut fields)? }
            }
            FENCE => {
                fields.bytes(3)?;
                let flags = fields.u32()?;
                fields.bytes(1)?;
                ClientMessage::Fence { flags, payload: fields.0.to_vec() }
            }
            XVP => {
                fields.bytes(1)?;
                ClientMessage::Xvp { version: fields.u8()?, code: fields.u8()? }
            }
            SET_DESKTOP_SIZE => desktop_size(&mut fields)?,
            _ => qemu(&mut fields)?,
        })
    }
}

fn area(fields: &mut Fields<'_>) -> Result<Area, DecodeError> {
    Ok(Area { x: fields.u16()?, y: fields.u16()?, width: fields.u16()?, height: fields.u16()? })
}

fn pointer(fields: &mut Fields<'_>, extended: bool) -> Result<ClientMessage, DecodeError> {
    let mask = u16::from(fields.u8()?);
    let (x, y) = (fields.u16()?, fields.u16()?);
    let buttons = if extended { (mask & 0x7f) | u16::from(fields.u8()? & 0b11) << 7 } else { mask };
    Ok(ClientMessage::Pointer { buttons, x, y })
}

fn desktop_size(fields: &mut Fields<'_>) -> Result<ClientMessage, DecodeError> {
    fields.bytes(1)?;
    let (width, height) = (fields.u16()?, fields.u16()?);
    let count = fields.u8()?;
    fields.bytes(1)?;
    let mut screen = || Ok(Screen { id: fields.u32()?, area: area(fields)?, flags: fields.u32()? });
    let screens = (0..count).map(|_| screen()).collect::<Result<Vec<_>, _>>()?;
    Ok(ClientMessage::SetDesktopSize { width, height, screens })
}

fn qemu(fields: &mut Fields<'_>) -> Result<ClientMessage, DecodeError> {
    if fields.u8()? != QEMU_KEY {
        return Ok(ClientMessage::QemuAudio);
    }
    let down = fields.u16()? != 0;
    Ok(ClientMessage::QemuKey { down, keysym: fields.u32()?, keycode: fields.u32()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parser: &mut ClientParser, mut input: &[u8]) -> Result<Vec<ClientMessage>, DecodeError> {
        let mut messages = Vec::new();
        while let Some(message) = parser.next(&mut input)? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn parse(input: &[u8]) -> Result<Vec<ClientMessage>, DecodeError> {
        all(&mut ClientParser::new(), input)
    }

    #[test]
    fn every_type_is_read_with_its_own_length() {
        let area = Area { x: 1, y: 2, width: 640, height: 480 };
        let cases: &[(&[u8], ClientMessage)] = &[
            (&[3, 1, 0, 1, 0, 2, 2, 128, 1, 224], ClientMessage::UpdateRequest { incremental: true, area }),
            (&[4, 1, 0, 0, 0, 0, 0xff, 0x0d], ClientMessage::Key { down: true, keysym: 0xff0d }),
            (&[5, 0x81, 0, 9, 1, 0], ClientMessage::Pointer { buttons: 0x81, x: 9, y: 256 }),
            (&[6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'], ClientMessage::CutText(b"hi".to_vec())),
            (&[6, 0, 0, 0, 255, 255, 255, 252, 2, 0, 0, 1], ClientMessage::ExtendedCutText(vec![2, 0, 0, 1])),
            (
                &[150, 1, 0, 1, 0, 2, 2, 128, 1, 224],
                ClientMessage::EnableContinuousUpdates { enable: true, area },
            ),
            (
                &[248, 0, 0, 0, 128, 0, 0, 1, 2, 7, 8],
                ClientMessage::Fence { flags: 0x8000_0001, payload: vec![7, 8] },
            ),
            (&[250, 0, 1, 2], ClientMessage::Xvp { version: 1, code: 2 }),
            (
                &[251, 0, 2, 128, 1, 224, 1, 0, 0, 0, 0, 5, 0, 1, 0, 2, 2, 128, 1, 224, 0, 0, 0, 9],
                ClientMessage::SetDesktopSize {
                    width: 640,
                    height: 480,
                    screens: vec![Screen { id: 5, area, flags: 9 }],
                },
            ),
            (
                &[255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 30],
                ClientMessage::QemuKey { down: true, keysym: 97, keycode: 30 },
            ),
            (&[255, 1, 0, 1], ClientMessage::QemuAudio),
            (&[255, 1, 0, 2, 1, 2, 0, 0, 172, 68], ClientMessage::QemuAudio),
        ];
        for (bytes, expected) in cases {
            // A byte more, so that a length that is too long shows.
            let followed = [*bytes, &[4]].concat();
            assert_eq!(parse(&followed).unwrap(), std::slice::from_ref(expected));
            if *expected != ClientMessage::QemuAudio && !matches!(expected, ClientMessage::Xvp { .. }) {
                let mut out = Vec::new();
                expected.encode(super::super::PointerForm::Legacy, &mut out);
                assert_eq!(out, *bytes, "written as it was read");
            }
        }
    }

    #[test]
    fn the_seven_byte_pointer_form_is_read_once_the_viewer_listed_it() {
        let list = [2, 0, 0, 1, 255, 255, 254, 196];
        let pointer = [5, 0x81, 0, 9, 0, 8, 0b10];
        let messages = parse(&[&list[..], &pointer, &[5, 1, 0, 9, 0, 8]].concat()).unwrap();
        assert_eq!(messages[1], ClientMessage::Pointer { buttons: 1 | 1 << 8, x: 9, y: 8 });
        assert_eq!(messages[2], ClientMessage::Pointer { buttons: 1, x: 9, y: 8 });
        let mut out = Vec::new();
        messages[1].encode(super::super::PointerForm::Extended, &mut out);
        assert_eq!(out, pointer);
        out.clear();
        messages[1].encode(super::super::PointerForm::SevenButtons, &mut out);
        assert_eq!(out, [5, 1, 0, 9, 0, 8]);
    }

    #[test]
    fn limits_are_checked_at_the_header_before_any_of_the_body_came() {
        let too_long = |bytes: &[u8]| matches!(parse(bytes), Err(DecodeError::TooLong { .. }));
        assert!(too_long(&[2, 0, 255, 255]));
        assert!(too_long(&[6, 0, 0, 0, 0x7f, 255, 255, 255]));
        assert!(too_long(&[6, 0, 0, 0, 0x80, 0, 0, 0]));
        assert!(too_long(&[6, 0, 0, 0, 0, 0x10, 0, 1]));
        assert!(too_long(&[248, 0, 0, 0, 0, 0, 0, 0, 65]));
        assert_eq!(parse(&[6, 0, 0, 0, 0, 0x10, 0, 0]).unwrap(), []);
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for unknown in [1u8, 7, 8, 20, 100, 151, 249, 252, 254] {
            assert_eq!(parse(&[unknown]), Err(DecodeError::UnknownType(unknown)));
        }
        assert!(parse(&[255, 2]).is_err());
        assert!(parse(&[255, 1, 0, 3]).is_err());
        assert!(parse(&[6, 0, 0, 0, 255, 255, 255, 255]).is_err());
    }

    #[test]
    fn a_big_clipboard_does_not_keep_its_buffer() {
        let mut parser = ClientParser::new();
        let mut text = vec![6, 0, 0, 0, 0, 1, 0, 0];
        text.extend([b'x'; 65536]);
        assert_eq!(all(&mut parser, &text[..1000]).unwrap(), []);
        assert_eq!(parser.buffered(), 1000);
        assert_eq!(all(&mut parser, &text[1000..]).unwrap().len(), 1);
        assert_eq!(parser.partial.capacity(), 0);
    }
}

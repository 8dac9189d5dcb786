//! What a viewer says (RFC 6143 §7.5 and extensions), and how it is written.

use super::pixel_format::PixelFormat;

/// Entries that we take in a SetEncodings; noVNC sends 25, TigerVNC about 60.
pub const MAX_ENCODINGS: u16 = 512;
/// Bytes that we take in a ClientCutText; libvncserver has the same limit.
pub const MAX_CUT_TEXT: u32 = 1 << 20;
/// Bytes in a fence (rfbproto, ClientFence).
pub const MAX_FENCE: u8 = 64;

pub(super) const SET_PIXEL_FORMAT: u8 = 0;
pub(super) const SET_ENCODINGS: u8 = 2;
pub(super) const UPDATE_REQUEST: u8 = 3;
pub(super) const KEY_EVENT: u8 = 4;
pub(super) const POINTER_EVENT: u8 = 5;
pub(super) const CUT_TEXT: u8 = 6;
pub(super) const ENABLE_CONTINUOUS_UPDATES: u8 = 150;
pub(super) const FENCE: u8 = 248;
pub(super) const XVP: u8 = 250;
pub(super) const SET_DESKTOP_SIZE: u8 = 251;
pub(super) const QEMU: u8 = 255;

pub(super) const QEMU_KEY: u8 = 0;
pub(super) const QEMU_AUDIO: u8 = 1;

/// A rectangle in framebuffer pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Area {
    /// Left edge.
    pub x: u16,
    /// Top edge.
    pub y: u16,
    /// Width.
    pub width: u16,
    /// Height.
    pub height: u16,
}

/// One SCREEN of a SetDesktopSize (rfbproto, ExtendedDesktopSize).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    /// The server's id for it.
    pub id: u32,
    /// Where it lies.
    pub area: Area,
    /// Unused by the protocol, carried along.
    pub flags: u32,
}

/// A checked message of a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// Type 0.
    SetPixelFormat(PixelFormat),
    /// Type 2.
    SetEncodings(Vec<i32>),
    /// Type 3.
    UpdateRequest {
        /// Only what changed.
        incremental: bool,
        /// Of this part.
        area: Area,
    },
    /// Type 4.
    Key {
        /// Pressed, else released.
        down: bool,
        /// X keysym.
        keysym: u32,
    },
    /// Type 5, either form. Bit 0 is button 1, bit 7 "back", bit 8 "forward".
    Pointer {
        /// Buttons that are down.
        buttons: u16,
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// Type 6, Latin-1 text.
    CutText(Vec<u8>),
    /// Type 6 with a negative length: the extended clipboard's flags and data.
    ExtendedCutText(Vec<u8>),
    /// Type 150.
    EnableContinuousUpdates {
        /// On or off.
        enable: bool,
        /// For this part.
        area: Area,
    },
    /// Type 248.
    Fence {
        /// As received.
        flags: u32,
        /// At most 64 bytes.
        payload: Vec<u8>,
    },
    /// Type 250: shut down, reboot or reset.
    Xvp {
        /// Of the extension.
        version: u8,
        /// What to do.
        code: u8,
    },
    /// Type 251.
    SetDesktopSize {
        /// Wanted width.
        width: u16,
        /// Wanted height.
        height: u16,
        /// Wanted layout.
        screens: Vec<Screen>,
    },
    /// Type 255, submessage 0.
    QemuKey {
        /// Pressed, else released.
        down: bool,
        /// X keysym, 0 when unknown.
        keysym: u32,
        /// XT scancode.
        keycode: u32,
    },
    /// Type 255, submessage 1. Never sent on, so nothing of it is kept.
    QemuAudio,
}

/// How pointer events are written to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointerForm {
    /// RFC 6143: eight buttons, six bytes.
    Legacy,
    /// The viewer asked for ExtendedMouseButtons, and the server may be about to agree: bit 7 must stay clear.
    SevenButtons,
    /// The server announced ExtendedMouseButtons: a seventh byte where bit 7 is set.
    Extended,
}

impl ClientMessage {
    /// Appends the wire form. Nothing is written for messages that are never sent on.
    pub fn encode(&self, form: PointerForm, out: &mut Vec<u8>) {
        match self {
            Self::SetPixelFormat(format) => {
                out.extend([SET_PIXEL_FORMAT, 0, 0, 0]);
                out.extend(format.to_bytes());
            }
            Self::SetEncodings(encodings) => put_encodings(encodings, out),
            Self::UpdateRequest { incremental, area } => {
                out.extend([UPDATE_REQUEST, u8::from(*incremental)]);
                put_area(*area, out);
            }
            Self::Key { down, keysym } => {
                out.extend([KEY_EVENT, u8::from(*down), 0, 0]);
                out.extend(keysym.to_be_bytes());
            }
            Self::Pointer { buttons, x, y } => put_pointer(*buttons, (*x, *y), form, out),
            Self::CutText(text) => put_cut_text(text, 1, out),
            Self::ExtendedCutText(data) => put_cut_text(data, -1, out),
            Self::EnableContinuousUpdates { enable, area } => {
                out.extend([ENABLE_CONTINUOUS_UPDATES, u8::from(*enable)]);
                put_area(*area, out);
            }
            Self::Fence { flags, payload } => put_fence(*flags, payload, out),
            Self::SetDesktopSize { width, height, screens } => {
                put_desktop_size((*width, *height), screens, out)
            }
            Self::QemuKey { down, keysym, keycode } => {
                out.extend([QEMU, QEMU_KEY, 0, u8::from(*down)]);
                out.extend(keysym.to_be_bytes());
                out.extend(keycode.to_be_bytes());
            }
            Self::Xvp { .. } | Self::QemuAudio => {}
        }
    }
}

// Each of these writes as many elements as it announces, also for a value above the limits of the parser.

fn put_encodings(encodings: &[i32], out: &mut Vec<u8>) {
    let (count, encodings) = capped(encodings, MAX_ENCODINGS);
    out.extend([SET_ENCODINGS, 0]);
    out.extend(count.to_be_bytes());
    out.extend(encodings.iter().flat_map(|encoding| encoding.to_be_bytes()));
}

fn put_fence(flags: u32, payload: &[u8], out: &mut Vec<u8>) {
    let (count, payload) = capped(payload, MAX_FENCE);
    out.extend([FENCE, 0, 0, 0]);
    out.extend(flags.to_be_bytes());
    out.push(count);
    out.extend(payload);
}

/// The first elements, at most `limit`, and their number.
fn capped<T, N: TryFrom<usize> + Copy + Into<u32>>(list: &[T], limit: N) -> (N, &[T]) {
    match N::try_from(list.len()) {
        Ok(count) if count.into() <= limit.into() => (count, list),
        _ => (limit, list.get(..usize::try_from(limit.into()).unwrap_or(0)).unwrap_or(list)),
    }
}

fn put_area(area: Area, out: &mut Vec<u8>) {
    out.extend([area.x, area.y, area.width, area.height].into_iter().flat_map(u16::to_be_bytes));
}

fn put_pointer(buttons: u16, (x, y): (u16, u16), form: PointerForm, out: &mut Vec<u8>) {
    let [high, low] = (buttons << 1).to_be_bytes();
    let (low7, back_forward) = (low >> 1, high & 0b11);
    let (mask, extra) = match form {
        PointerForm::Legacy => (low7 | (back_forward & 1) << 7, None),
        PointerForm::SevenButtons => (low7, None),
        PointerForm::Extended if back_forward != 0 => (low7 | 0x80, Some(back_forward)),
        PointerForm::Extended => (low7, None),
    };
    out.extend([POINTER_EVENT, mask]);
    out.extend([x, y].into_iter().flat_map(u16::to_be_bytes));
    out.extend(extra);
}

fn put_cut_text(data: &[u8], sign: i32, out: &mut Vec<u8>) {
    let (count, data) = capped(data, MAX_CUT_TEXT);
    out.extend([CUT_TEXT, 0, 0, 0]);
    out.extend(0i32.saturating_add_unsigned(count).saturating_mul(sign).to_be_bytes());
    out.extend(data);
}

fn put_desktop_size((width, height): (u16, u16), screens: &[Screen], out: &mut Vec<u8>) {
    out.extend([SET_DESKTOP_SIZE, 0]);
    out.extend([width, height].into_iter().flat_map(u16::to_be_bytes));
    let (count, screens) = capped(screens, u8::MAX);
    out.extend([count, 0]);
    for screen in screens {
        out.extend(screen.id.to_be_bytes());
        put_area(screen.area, out);
        out.extend(screen.flags.to_be_bytes());
    }
}

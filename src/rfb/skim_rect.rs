//! How long the data of a rectangle is, encoding by encoding, read with as few looks at it as the encoding allows.
//! A look is a handful of bytes ("head"); what lies between two looks is skipped unread.

use super::client_message::{Area, Screen};
use super::encoding as enc;
use super::pixel_format::PixelFormat;

/// The longest head of a rectangle's data.
pub(super) const MAX_HEAD: usize = 16;

/// The sizes that depend on the pixel format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PixelSizes {
    pixel: u64,
    tight: u64,
}

impl From<PixelFormat> for PixelSizes {
    fn from(format: PixelFormat) -> Self {
        Self { pixel: format.pixel_bytes().into(), tight: format.tight_pixel_bytes().into() }
    }
}

/// A rectangle's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rect {
    pub(super) x: u16,
    pub(super) y: u16,
    pub(super) width: u16,
    pub(super) height: u16,
    pub(super) encoding: i32,
}

impl Rect {
    pub(super) const LENGTH: usize = 12;

    pub(super) fn read(head: [u8; MAX_HEAD]) -> Self {
        let [x0, x1, y0, y1, w0, w1, h0, h1, e0, e1, e2, e3, ..] = head;
        Self {
            x: u16::from_be_bytes([x0, x1]),
            y: u16::from_be_bytes([y0, y1]),
            width: u16::from_be_bytes([w0, w1]),
            height: u16::from_be_bytes([h0, h1]),
            encoding: i32::from_be_bytes([e0, e1, e2, e3]),
        }
    }

    fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Bytes of a one-bit mask, rows padded to bytes.
    fn mask_bytes(self) -> u64 {
        u64::from(self.width.div_ceil(8)) * u64::from(self.height)
    }

    fn tiles_across(self) -> u32 {
        u32::from(self.width.div_ceil(16))
    }

    fn tiles(self) -> u32 {
        self.tiles_across() * u32::from(self.height.div_ceil(16))
    }

    /// Pixels of a 16×16 tile, fewer at the right and lower edges.
    fn tile_pixels(self, tile: u32) -> u64 {
        let across = self.tiles_across().max(1);
        let side = |whole: u16, index: u32| u64::from(u32::from(whole).saturating_sub(index * 16).min(16));
        side(self.width, tile % across) * side(self.height, tile / across)
    }
}

/// What the next head of the rectangle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// A U32 count of things that follow `base` bytes.
    Counted { base: u64, each: u64 },
    /// Number of screens.
    Screens,
    /// The first screen; the others are skipped.
    FirstScreen { others: u8 },
    /// Encoding of a cursor with alpha.
    AlphaCursor,
    /// Type of a VMware cursor.
    VmwareCursor,
    /// Subencoding of a hextile tile.
    HextileMask { tile: u32 },
    /// Number of its subrectangles.
    HextileCount { tile: u32, each: u64 },
    /// Tight's control byte.
    TightControl,
    /// Tight's filter.
    TightFilter,
    /// Number of colours, less one.
    TightPalette,
    /// A byte of a compact length.
    Compact { value: u64, shift: u32 },
}

/// A stretch to skip, and the head behind it; none: the rectangle ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) skip: u64,
    pub(super) then: Option<Body>,
}

fn last(skip: u64) -> Option<Part> {
    Some(Part { skip, then: None })
}

fn then(skip: u64, body: Body) -> Option<Part> {
    Some(Part { skip, then: Some(body) })
}

/// What follows a rectangle's header. `None` for an encoding that is not understood.
pub(super) fn start(rect: Rect, sizes: PixelSizes) -> Option<Part> {
    match rect.encoding {
        enc::RAW => last(rect.pixels() * sizes.pixel),
        enc::COPY_RECT => last(4),
        enc::RRE => then(0, Body::Counted { base: sizes.pixel, each: sizes.pixel + 8 }),
        enc::HEXTILE if rect.tiles() == 0 => last(0),
        enc::HEXTILE => then(0, Body::HextileMask { tile: 0 }),
        enc::ZLIB | enc::ZRLE | enc::DESKTOP_NAME => then(0, Body::Counted { base: 0, each: 1 }),
        enc::TIGHT | enc::TIGHT_PNG => then(0, Body::TightControl),
        enc::DESKTOP_SIZE | enc::LAST_RECT | enc::QEMU_KEY | enc::EXTENDED_MOUSE_BUTTONS => last(0),
        enc::LED_STATE => last(1),
        enc::EXTENDED_DESKTOP_SIZE => then(0, Body::Screens),
        enc::CURSOR => last(rect.pixels() * sizes.pixel + rect.mask_bytes()),
        enc::X_CURSOR if rect.pixels() == 0 => last(0),
        enc::X_CURSOR => last(6 + 2 * rect.mask_bytes()),
        enc::CURSOR_WITH_ALPHA => then(0, Body::AlphaCursor),
        enc::VMWARE_CURSOR => then(0, Body::VmwareCursor),
        _ => None,
    }
}

impl Body {
    /// Length of the head, 1 to [`MAX_HEAD`].
    pub(super) fn head_length(self) -> usize {
        match self {
            Self::Counted { .. } | Self::Screens | Self::AlphaCursor => 4,
            Self::FirstScreen { .. } => 16,
            Self::VmwareCursor => 2,
            Self::HextileMask { .. } | Self::HextileCount { .. } => 1,
            Self::TightControl | Self::TightFilter | Self::TightPalette | Self::Compact { .. } => 1,
        }
    }

    /// What follows this head. `None` where the data make no sense.
    pub(super) fn read(self, head: [u8; MAX_HEAD], rect: Rect, sizes: PixelSizes) -> Option<Part> {
        let [first, b, c, d, ..] = head;
        let number = u64::from(u32::from_be_bytes([first, b, c, d]));
        match self {
            Self::Counted { base, each } => last(base + number * each),
            Self::Screens if first == 0 => last(0),
            Self::Screens => then(0, Body::FirstScreen { others: first - 1 }),
            Self::FirstScreen { others } => last(16 * u64::from(others)),
            // Only Raw is in use as the inner encoding.
            Self::AlphaCursor if number == 0 => last(rect.pixels() * 4),
            Self::AlphaCursor => None,
            Self::VmwareCursor => match first {
                0 => last(rect.pixels() * sizes.pixel * 2),
                1 => last(rect.pixels() * 4),
                _ => None,
            },
            Self::HextileMask { tile } => hextile(first, tile, rect, sizes),
            Self::HextileCount { tile, each } => next_tile(u64::from(first) * each, tile, rect),
            Self::TightControl => tight(first, rect, sizes),
            Self::TightFilter => match first {
                0 | 2 => tight_data(0, rect.pixels() * sizes.tight),
                1 => then(0, Body::TightPalette),
                _ => None,
            },
            Self::TightPalette => {
                let colours = u64::from(first) + 1;
                let data = if colours <= 2 { rect.mask_bytes() } else { rect.pixels() };
                tight_data(colours * sizes.tight, data)
            }
            Self::Compact { value, shift } => compact(first, value, shift),
        }
    }
}

fn hextile(mask: u8, tile: u32, rect: Rect, sizes: PixelSizes) -> Option<Part> {
    const RAW: u8 = 1;
    const BACKGROUND: u8 = 2;
    const FOREGROUND: u8 = 4;
    const ANY_SUBRECTS: u8 = 8;
    const SUBRECTS_COLOURED: u8 = 16;
    let has = |bit: u8| mask & bit != 0;
    if has(RAW) {
        return next_tile(rect.tile_pixels(tile) * sizes.pixel, tile, rect);
    }
    let colours = (u64::from(has(BACKGROUND)) + u64::from(has(FOREGROUND))) * sizes.pixel;
    if has(ANY_SUBRECTS) {
        let each = if has(SUBRECTS_COLOURED) { 2 + sizes.pixel } else { 2 };
        return then(colours, Body::HextileCount { tile, each });
    }
    next_tile(colours, tile, rect)
}

fn next_tile(skip: u64, tile: u32, rect: Rect) -> Option<Part> {
    if tile + 1 < rect.tiles() { then(skip, Body::HextileMask { tile: tile + 1 }) } else { last(skip) }
}

fn tight(control: u8, rect: Rect, sizes: PixelSizes) -> Option<Part> {
    const FILL: u8 = 8;
    const JPEG: u8 = 9;
    const PNG: u8 = 10;
    const WITH_FILTER: u8 = 4;
    match control >> 4 {
        FILL => last(sizes.tight),
        JPEG => then(0, LENGTH),
        PNG if rect.encoding == enc::TIGHT_PNG => then(0, LENGTH),
        basic @ 0..=7 if rect.encoding == enc::TIGHT => {
            if basic & WITH_FILTER != 0 {
                then(0, Body::TightFilter)
            } else {
                tight_data(0, rect.pixels() * sizes.tight)
            }
        }
        _ => None,
    }
}

const LENGTH: Body = Body::Compact { value: 0, shift: 0 };

/// Filtered data of `bytes` bytes after `palette` bytes: below 12 they lie there as they are, else deflated.
fn tight_data(palette: u64, bytes: u64) -> Option<Part> {
    const SHORTEST_DEFLATED: u64 = 12;
    if bytes < SHORTEST_DEFLATED { last(palette + bytes) } else { then(palette, LENGTH) }
}

/// Seven bits a byte, the lowest first; the third byte has eight.
fn compact(byte: u8, value: u64, shift: u32) -> Option<Part> {
    let (bits, more) = if shift == 14 { (byte, false) } else { (byte & 0x7f, byte & 0x80 != 0) };
    let value = value | u64::from(bits) << shift;
    if more { then(0, Body::Compact { value, shift: shift + 7 }) } else { last(value) }
}

/// The screen in an ExtendedDesktopSize rectangle.
pub(super) fn read_screen(head: [u8; MAX_HEAD]) -> Screen {
    let [i0, i1, i2, i3, x0, x1, y0, y1, w0, w1, h0, h1, f0, f1, f2, f3] = head;
    let area = Area {
        x: u16::from_be_bytes([x0, x1]),
        y: u16::from_be_bytes([y0, y1]),
        width: u16::from_be_bytes([w0, w1]),
        height: u16::from_be_bytes([h0, h1]),
    };
    Screen { id: u32::from_be_bytes([i0, i1, i2, i3]), area, flags: u32::from_be_bytes([f0, f1, f2, f3]) }
}

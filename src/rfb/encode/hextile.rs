//! Hextile (RFC 6143 §7.7.4).

use super::super::frame::PIXEL;
use super::super::pixel_format::PixelFormat;
use super::palette::Palette;
use super::pixels::{for_each_tile, put_pixel, put_raw};

/// Edge of a tile. One has at most 256 pixels, and so fewer subrectangles than a byte can count.
const EDGE: usize = 16;

/// What the first byte of a tile says.
const RAW: u8 = 1;
const BACKGROUND: u8 = 2;
const FOREGROUND: u8 = 4;
const SUBRECTS: u8 = 8;
const COLOURED: u8 = 16;

/// The colours that a tile may take over from the one before it.
#[derive(Default)]
struct Carried {
    background: Option<u32>,
    foreground: Option<u32>,
}

/// Appends a rectangle of pixels, so many in a row.
pub(super) fn put(
    format: PixelFormat,
    (pixels, width): (&[u8], u16),
    palette: &mut Palette,
    packed: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    let mut carried = Carried::default();
    for_each_tile(pixels, width, EDGE, |tile, across| {
        palette.analyse(tile, EDGE * EDGE);
        let raw = 1 + tile.len() / PIXEL * usize::from(format.pixel_bytes());
        packed.clear();
        let next = put_tile(format, palette, across, &carried, packed);
        if packed.len() < raw {
            carried = next;
            out.extend_from_slice(packed);
        } else {
            carried = Carried::default();
            out.push(RAW);
            put_raw(format, tile, out);
        }
    });
}

/// Appends the tile that is in `palette`, `across` pixels wide, as a background with rectangles on it.
fn put_tile(
    format: PixelFormat,
    palette: &Palette,
    across: usize,
    carried: &Carried,
    out: &mut Vec<u8>,
) -> Carried {
    let (colours, indices) = (palette.colours(), palette.indices());
    let background = commonest(indices);
    let colour = |index: u8| colours.get(usize::from(index)).copied().unwrap_or_default();
    let foreground = match colours {
        [one, other] => Some(if *one == colour(background) { *other } else { *one }),
        _ => None,
    };
    let mut next = Carried { background: Some(colour(background)), foreground };
    let mut mask = 0;
    if carried.background != next.background {
        mask |= BACKGROUND;
    }
    match foreground {
        Some(_) if carried.foreground == foreground => mask |= SUBRECTS,
        Some(_) => mask |= SUBRECTS | FOREGROUND,
        None if colours.len() > 2 => mask |= SUBRECTS | COLOURED,
        // Nothing but the background: the foreground stays what it was.
        None => next.foreground = carried.foreground,
    }
    out.push(mask);
    if mask & BACKGROUND != 0 {
        put_pixel(format, colour(background), out);
    }
    if let Some(foreground) = foreground.filter(|_| mask & FOREGROUND != 0) {
        put_pixel(format, foreground, out);
    }
    if mask & SUBRECTS != 0 {
        let count_at = out.len();
        out.push(0);
        let mut count = 0_u8;
        subrectangles(indices, across, background, |index, [x, y, width, height]| {
            if mask & COLOURED != 0 {
                put_pixel(format, colour(index), out);
            }
            out.extend([x << 4 | y, (width - 1) << 4 | (height - 1)]);
            count = count.saturating_add(1);
        });
        if let Some(place) = out.get_mut(count_at) {
            *place = count;
        }
    }
    next
}

fn commonest(indices: &[u8]) -> u8 {
    let mut counts = [0_u16; 256];
    for index in indices {
        if let Some(count) = counts.get_mut(usize::from(*index)) {
            *count += 1;
        }
    }
    (0..=u8::MAX).max_by_key(|index| counts.get(usize::from(*index))).unwrap_or_default()
}

/// Calls `each` with rectangles of one index, as x, y, width and height, that together cover all but the background: each is
/// as wide as it can be, and then as high.
fn subrectangles(indices: &[u8], across: usize, background: u8, mut each: impl FnMut(u8, [u8; 4])) {
    let mut is_done = [false; EDGE * EDGE];
    let rows = indices.len() / across.max(1);
    for at in 0..indices.len() {
        let Some(index) = indices.get(at).copied().filter(|index| *index != background) else { continue };
        let (x, y) = (at % across, at / across);
        let is_free =
            |at: usize, is_done: &[bool]| indices.get(at) == Some(&index) && is_done.get(at) == Some(&false);
        let width = (x..across).take_while(|column| is_free(y * across + column, &is_done)).count();
        if width == 0 {
            continue;
        }
        let is_row = |row: &usize| (x..x + width).all(|column| is_free(row * across + column, &is_done));
        let height = (y..rows).take_while(is_row).count();
        for row in y..y + height {
            let start = row * across + x;
            is_done.get_mut(start..start + width).unwrap_or_default().fill(true);
        }
        each(index, [x, y, width, height].map(|value| u8::try_from(value).unwrap_or(1)));
    }
}

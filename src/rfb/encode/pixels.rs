//! Pixels as a viewer wants them.

use std::ops::Range;

use super::super::frame::PIXEL;
use super::super::pixel_format::PixelFormat;

/// Red, green and blue of a pixel of a frame, as `0xRRGGBB`.
pub(super) fn colour(pixel: &[u8]) -> u32 {
    match pixel {
        [blue, green, red, ..] => u32::from_be_bytes([0, *red, *green, *blue]),
        _ => 0,
    }
}

/// Appends a PIXEL (RFC 6143 §7.4) of the colour `0xRRGGBB`.
pub(in crate::rfb) fn put_pixel(format: PixelFormat, colour: u32, out: &mut Vec<u8>) {
    let [_, red, green, blue] = colour.to_be_bytes();
    let mut value = 0u32;
    for ((part, max), shift) in [red, green, blue].into_iter().zip(format.max).zip(format.shift) {
        // To the nearest: 255 is the largest value of either scale.
        let scaled = (u32::from(part) * u32::from(max) + 127) / 255;
        value |= scaled.checked_shl(u32::from(shift)).unwrap_or(0);
    }
    let bytes = value.to_le_bytes();
    let used = bytes.get(..usize::from(format.pixel_bytes())).unwrap_or(&bytes);
    if format.big_endian { out.extend(used.iter().rev()) } else { out.extend(used) }
}

/// Appends a TPIXEL (rfbproto, Tight): three bytes R, G, B of the usual formats, a PIXEL otherwise.
pub(super) fn put_tight_pixel(format: PixelFormat, colour: u32, out: &mut Vec<u8>) {
    if format.tight_pixel_bytes() == 3 {
        let [_, red, green, blue] = colour.to_be_bytes();
        out.extend([red, green, blue]);
    } else {
        put_pixel(format, colour, out);
    }
}

/// Appends the pixels of a frame as PIXELs.
pub(super) fn put_raw(format: PixelFormat, pixels: &[u8], out: &mut Vec<u8>) {
    out.reserve(pixels.len());
    match (format.bits_per_pixel, format.big_endian, format.max, format.shift) {
        // As they are, but for the byte that means nothing.
        (32, false, [255, 255, 255], [16, 8, 0]) => {
            out.extend(pixels.chunks_exact(PIXEL).flat_map(|pixel| (colour(pixel)).to_le_bytes()));
        }
        (32, false, [255, 255, 255], [0, 8, 16]) => {
            out.extend(pixels.chunks_exact(PIXEL).flat_map(|pixel| (colour(pixel) << 8).to_be_bytes()));
        }
        _ => pixels.chunks_exact(PIXEL).for_each(|pixel| put_pixel(format, colour(pixel), out)),
    }
}

/// Appends the pixels of a frame as TPIXELs.
pub(super) fn put_tight(format: PixelFormat, pixels: &[u8], out: &mut Vec<u8>) {
    out.reserve(pixels.len());
    if format.tight_pixel_bytes() == 3 {
        out.extend(pixels.chunks_exact(PIXEL).flat_map(|pixel| match pixel {
            [blue, green, red, ..] => [*red, *green, *blue],
            _ => [0; 3],
        }));
    } else {
        put_raw(format, pixels, out);
    }
}

/// Appends a CPIXEL (RFC 6143 §7.7.5) of the colour `0xRRGGBB`.
pub(super) fn put_compact_pixel(format: PixelFormat, colour: u32, out: &mut Vec<u8>) {
    let start = out.len();
    put_pixel(format, colour, out);
    let used = format.compact_pixel();
    out.truncate(start + used.end);
    out.drain(start..start + used.start);
}

/// Appends the colours `0xRRGGBB` as CPIXELs.
pub(super) fn put_compact(format: PixelFormat, colours: &[u32], out: &mut Vec<u8>) {
    out.reserve(colours.len() * format.compact_pixel().len());
    let parts = colours.iter().map(|colour| colour.to_le_bytes());
    match (format.compact_pixel(), format.big_endian, format.max, format.shift) {
        (Range { start: 0, end: 3 }, false, [255, 255, 255], [16, 8, 0]) => {
            out.extend(parts.flat_map(|[blue, green, red, _]| [blue, green, red]));
        }
        (Range { start: 0, end: 3 }, false, [255, 255, 255], [0, 8, 16]) => {
            out.extend(parts.flat_map(|[blue, green, red, _]| [red, green, blue]));
        }
        _ => colours.iter().for_each(|colour| put_compact_pixel(format, *colour, out)),
    }
}

/// Calls `each` with the pixels of every tile of `edge`×`edge`, fewer at the right and lower edges, and with its width; row by
/// row, as Hextile and ZRLE have them.
pub(super) fn for_each_tile(pixels: &[u8], width: u16, edge: usize, mut each: impl FnMut(&[u8], usize)) {
    let width = usize::from(width);
    let stride = (width * PIXEL).max(1);
    let mut tile = Vec::with_capacity(edge * edge * PIXEL);
    for band in pixels.chunks(stride * edge) {
        for left in (0..width).step_by(edge) {
            let across = edge.min(width - left);
            tile.clear();
            for row in band.chunks_exact(stride) {
                let part = row.get(left * PIXEL..(left + across) * PIXEL);
                tile.extend_from_slice(part.unwrap_or_default());
            }
            each(&tile, across);
        }
    }
}

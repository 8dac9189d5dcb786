//! Pixels as a viewer wants them.

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

//! PIXEL_FORMAT (RFC 6143 §7.4).

use std::ops::Range;

use super::DecodeError;

/// How a pixel is laid out on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PixelFormat {
    /// 8, 16 or 32.
    pub bits_per_pixel: u8,
    /// Useful bits of those.
    pub depth: u8,
    /// Byte order of a pixel.
    pub big_endian: bool,
    /// False means a colour map; only a server's native format may have one here.
    pub true_colour: bool,
    /// Highest value of red, green and blue.
    pub max: [u16; 3],
    /// Position of the lowest bit of red, green and blue.
    pub shift: [u8; 3],
}

impl PixelFormat {
    /// Bytes on the wire.
    pub const LENGTH: usize = 16;

    /// Reads a server's native format: only what decides about sizes is checked.
    pub fn from_server(bytes: [u8; Self::LENGTH]) -> Result<Self, DecodeError> {
        let [bpp, depth, big_endian, true_colour, r0, r1, g0, g1, b0, b1, rs, gs, bs, _, _, _] = bytes;
        if !matches!(bpp, 8 | 16 | 32) {
            return Err(DecodeError::bad("bits-per-pixel", "not 8, 16 or 32"));
        }
        Ok(Self {
            bits_per_pixel: bpp,
            depth,
            big_endian: big_endian != 0,
            true_colour: true_colour != 0,
            max: [u16::from_be_bytes([r0, r1]), u16::from_be_bytes([g0, g1]), u16::from_be_bytes([b0, b1])],
            shift: [rs, gs, bs],
        })
    }

    /// Reads the format that a viewer asks for, and checks that a pixel can be made in it.
    pub fn from_viewer(bytes: [u8; Self::LENGTH]) -> Result<Self, DecodeError> {
        let format = Self::from_server(bytes)?;
        if !format.true_colour {
            return Err(DecodeError::bad("true-colour-flag", "colour maps are not supported"));
        }
        if format.depth == 0 || format.depth > format.bits_per_pixel {
            return Err(DecodeError::bad("depth", "not between 1 and bits-per-pixel"));
        }
        let mut used = 0u64;
        for (max, shift) in format.max.into_iter().zip(format.shift) {
            if max == 0 || max & max.wrapping_add(1) != 0 {
                return Err(DecodeError::bad("colour max", "not one less than a power of two"));
            }
            if u32::from(shift) + max.count_ones() > u32::from(format.bits_per_pixel) {
                return Err(DecodeError::bad("colour shift", "the colour lies outside the pixel"));
            }
            let bits = u64::from(max) << shift;
            if used & bits != 0 {
                return Err(DecodeError::bad("colour shift", "two colours share bits"));
            }
            used |= bits;
        }
        Ok(format)
    }

    /// The wire form.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let [r, g, b] = self.max.map(u16::to_be_bytes);
        let [rs, gs, bs] = self.shift;
        let flags = (u8::from(self.big_endian), u8::from(self.true_colour));
        [
            self.bits_per_pixel,
            self.depth,
            flags.0,
            flags.1,
            r[0],
            r[1],
            g[0],
            g[1],
            b[0],
            b[1],
            rs,
            gs,
            bs,
            0,
            0,
            0,
        ]
    }

    /// Bytes of a PIXEL.
    pub fn pixel_bytes(self) -> u8 {
        self.bits_per_pixel / 8
    }

    /// Bytes of a Tight TPIXEL (rfbproto, Tight encoding): 3 for 32-bit pixels of depth 24 with 8-bit colours.
    pub fn tight_pixel_bytes(self) -> u8 {
        let packed =
            self.bits_per_pixel == 32 && self.depth == 24 && self.true_colour && self.max == [255; 3];
        if packed { 3 } else { self.pixel_bytes() }
    }

    /// Which bytes of a PIXEL are a CPIXEL (RFC 6143 §7.7.5): of 32-bit pixels of depth 24 or less, those three that have all
    /// the colours. Where the first as well as the last three have them, the first, as TigerVNC's viewer reads them.
    pub fn compact_pixel(self) -> Range<usize> {
        let colours = self.max.into_iter().zip(self.shift);
        let used = colours.fold(0, |used, (max, shift)| used | u64::from(max) << shift);
        let (low, high) = (used <= 0x00ff_ffff, used & 0xff == 0);
        let (first, last) = if self.big_endian { (high, low) } else { (low, high) };
        match self.bits_per_pixel == 32 && self.depth <= 24 && self.true_colour {
            true if first => 0..3,
            true if last => 1..4,
            _ => 0..self.pixel_bytes().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As noVNC 1.7 sends it: bytes R, G, B, X.
    const NOVNC: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0];

    #[test]
    fn the_format_of_novnc_is_taken_and_written_back_the_same() {
        let format = PixelFormat::from_viewer(NOVNC).unwrap();
        assert_eq!((format.max, format.shift), ([255; 3], [0, 8, 16]));
        assert_eq!((format.pixel_bytes(), format.tight_pixel_bytes()), (4, 3));
        assert_eq!(format.to_bytes(), NOVNC);
    }

    #[test]
    fn formats_that_cannot_hold_a_pixel_are_refused() {
        // Position and value that spoil the good format.
        let spoilers = [
            (0, 0),
            (0, 24),
            (0, 64),
            (1, 0),
            (1, 33),
            (3, 0),
            (5, 0),
            (5, 254),
            (4, 255),
            (10, 25),
            (12, 32),
            (11, 255),
        ];
        for (position, value) in spoilers {
            let mut bytes = NOVNC;
            bytes[position] = value;
            assert!(PixelFormat::from_viewer(bytes).is_err(), "byte {position} = {value}");
        }
    }

    #[test]
    fn zrle_leaves_out_the_byte_of_a_pixel_that_has_no_colour() {
        let format = PixelFormat::from_viewer(NOVNC).unwrap();
        let high = PixelFormat { shift: [24, 16, 8], ..format };
        let big_endian = |format| PixelFormat { big_endian: true, ..format };
        assert_eq!([format, high].map(PixelFormat::compact_pixel), [0..3, 1..4]);
        assert_eq!([big_endian(format), big_endian(high)].map(PixelFormat::compact_pixel), [1..4, 0..3]);
        let spread = PixelFormat { shift: [24, 8, 0], ..format };
        let deep = PixelFormat { depth: 32, ..format };
        let middle = PixelFormat { max: [15; 3], shift: [8, 12, 16], ..format };
        assert_eq!([spread, deep, middle].map(PixelFormat::compact_pixel), [0..4, 0..4, 0..3]);
        let narrow = PixelFormat { bits_per_pixel: 16, depth: 12, max: [15; 3], shift: [0, 4, 8], ..format };
        assert_eq!(narrow.compact_pixel(), 0..2);
    }

    #[test]
    fn sixteen_bit_pixels_are_not_packed_by_tight() {
        let bytes = [16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0];
        let format = PixelFormat::from_viewer(bytes).unwrap();
        assert_eq!((format.pixel_bytes(), format.tight_pixel_bytes()), (2, 2));
    }
}

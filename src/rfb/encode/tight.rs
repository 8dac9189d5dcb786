//! Tight (rfbproto, "Tight Encoding"). Each rectangle resets the stream that it uses.

use flate2::{Compress, Compression, FlushCompress};

use super::super::pixel_format::PixelFormat;
use super::palette::Palette;
use super::pixels::{put_tight, put_tight_pixel};

/// Compression-control byte: kinds without zlib.
const FILL: u8 = 0x80;
const JPEG: u8 = 0x90;
/// A filter id follows.
const EXPLICIT_FILTER: u8 = 0x40;
const PALETTE_FILTER: u8 = 1;
/// Streams, as TigerVNC's and libvncserver's servers use them.
const FULL_COLOUR: u8 = 0;
const MONO: u8 = 1;
const INDEXED: u8 = 2;
/// What is shorter is not compressed.
const SHORTEST: usize = 12;
/// Level of zlib where a viewer asks for less or nothing.
const FASTEST: u8 = 1;
/// The longest that a compact length can say.
pub(super) const LONGEST: usize = (1 << 22) - 1;

/// Why a rectangle cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compressor refused, or its result is too long for Tight.
    #[error("cannot compress {0} bytes")]
    Deflate(usize),
    /// The JPEG encoder refused.
    #[error("cannot make a JPEG")]
    Jpeg(#[from] turbojpeg::Error),
    /// The thread that did it panicked, which would be a bug.
    #[error("the encoder's thread panicked")]
    Worker(#[source] std::io::Error),
}

/// Compresses; made once, since its tables are large.
pub(super) struct Deflate {
    compressor: Compress,
    level: u8,
    out: Vec<u8>,
}

impl Deflate {
    pub(super) fn new() -> Self {
        Self { compressor: compressor(FASTEST), level: FASTEST, out: Vec::new() }
    }

    /// For a viewer's compression level, 0 to 9.
    pub(super) fn set(&mut self, compression: u8) {
        let level = compression.clamp(FASTEST, 9);
        if level != self.level {
            self.compressor = compressor(level);
            self.level = level;
        }
    }

    /// Appends `data` as the body of basic compression: as it is when short, else compressed behind its length.
    fn put(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        if data.len() < SHORTEST {
            out.extend_from_slice(data);
            return Ok(());
        }
        let body = self.stream(data)?;
        let body = (body.len() <= LONGEST).then_some(body).ok_or(Error::Deflate(data.len()))?;
        put_length(body.len(), out);
        out.extend_from_slice(body);
        Ok(())
    }

    /// A zlib stream of `data`, begun anew and not ended.
    pub(super) fn stream(&mut self, data: &[u8]) -> Result<&[u8], Error> {
        // What cannot be compressed grows by five bytes for each stored block of at least 16 KiB, and the flush. The fastest level
        // stores nothing: nine bits for each byte at the worst.
        self.out.resize(data.len() + data.len() / 7 + 64, 0);
        self.compressor.reset();
        // Ended by a flush and not finished: some viewers take the end of a stream for an error.
        let done = self.compressor.compress(data, &mut self.out, FlushCompress::Sync);
        let (taken, length) = (self.compressor.total_in(), self.compressor.total_out());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let is_whole = done.is_ok() && usize::try_from(taken) == Ok(data.len()) && length < self.out.len();
        self.out.get(..length).filter(|_| is_whole).ok_or(Error::Deflate(data.len()))
    }
}

fn compressor(level: u8) -> Compress {
    Compress::new(Compression::new(level.into()), true)
}

/// One colour.
pub(super) fn fill(format: PixelFormat, colour: u32, out: &mut Vec<u8>) {
    out.push(FILL);
    put_tight_pixel(format, colour, out);
}

/// 2 to 256 colours. `width` is that of the rectangle; with two colours its rows begin at whole bytes.
pub(super) fn indexed(
    format: PixelFormat,
    palette: &Palette,
    width: u16,
    deflate: &mut Deflate,
    packed: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let colours = palette.colours();
    let stream = if colours.len() == 2 { MONO } else { INDEXED };
    out.extend([basic(stream) | EXPLICIT_FILTER, PALETTE_FILTER]);
    out.push(u8::try_from(colours.len().saturating_sub(1)).unwrap_or(u8::MAX));
    colours.iter().for_each(|colour| put_tight_pixel(format, *colour, out));
    if stream == INDEXED {
        return deflate.put(palette.indices(), out);
    }
    packed.clear();
    for row in palette.indices().chunks(usize::from(width).max(1)) {
        // The first pixel is the highest bit.
        packed.extend(row.chunks(8).map(|eight| {
            eight.iter().zip((0..8).rev()).fold(0, |byte, (index, bit)| byte | (index & 1) << bit)
        }));
    }
    deflate.put(packed, out)
}

/// Any colours, without loss.
pub(super) fn full_colour(
    format: PixelFormat,
    pixels: &[u8],
    deflate: &mut Deflate,
    packed: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.push(basic(FULL_COLOUR));
    packed.clear();
    put_tight(format, pixels, packed);
    deflate.put(packed, out)
}

/// A picture of exactly the rectangle's size.
pub(super) fn jpeg(picture: &[u8], out: &mut Vec<u8>) {
    out.push(JPEG);
    put_length(picture.len(), out);
    out.extend_from_slice(picture);
}

/// Basic compression with that stream, begun anew.
fn basic(stream: u8) -> u8 {
    stream << 4 | 1 << stream
}

/// Seven bits a byte, the lowest first; the third byte has eight.
fn put_length(length: usize, out: &mut Vec<u8>) {
    let [low, ..] = length.to_le_bytes();
    let [second, ..] = (length >> 7).to_le_bytes();
    let [third, ..] = (length >> 14).to_le_bytes();
    match length {
        0..=0x7f => out.push(low),
        0x80..=0x3fff => out.extend([low | 0x80, second]),
        _ => out.extend([low | 0x80, second | 0x80, third]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_protocol_s_own_examples() {
        // rfbproto: 10000 is 10010000 01001110.
        let written = |length| {
            let mut out = Vec::new();
            put_length(length, &mut out);
            out
        };
        assert_eq!(written(10_000), [0b1001_0000, 0b0100_1110]);
        assert_eq!(written(127), [127]);
        assert_eq!(written(128), [0x80, 1]);
        assert_eq!(written(16_384), [0x80, 0x80, 1]);
        assert_eq!(written(LONGEST), [0xff, 0xff, 0xff]);
    }

    #[test]
    fn each_stream_is_begun_anew_by_the_rectangle_that_uses_it() {
        assert_eq!([basic(0), basic(1), basic(2)], [0b0000_0001, 0b0001_0010, 0b0010_0100]);
    }
}

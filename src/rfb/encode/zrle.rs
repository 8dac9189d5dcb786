//! ZRLE (RFC 6143 §7.7.6): tiles of 64×64 pixels, by palette or run lengths, all of a viewer's in one zlib stream.
//!
//! Here the stream's pieces are made one by one, each as deflate data that begin without a history and end at a byte, so that
//! they follow on any others: what is left for each viewer's own stream is its head, which goes before the first of them.

use bytes::{Bytes, BytesMut};

use super::super::encoding::ZRLE;
use super::super::pixel_format::PixelFormat;
use super::palette::{Content, Palette};
use super::pixels::{colour, for_each_tile, put_compact, put_compact_pixel};
use super::tight::{Deflate, Error};
use crate::rfb::frame::PIXEL;

const EDGE: usize = 64;

/// What the first byte of a tile says, beside the number of colours.
const RAW: u8 = 0;
const SOLID: u8 = 1;
const RUNS: u8 = 128;
/// More have no packed form, or no palette at all.
const MOST_PACKED: usize = 16;
const MOST_COLOURS: usize = 127;
/// A run's length, less one, is the sum of bytes of which each but the last has this value.
const FULL: usize = 255;

/// A rectangle's head, before the length of its data.
const HEAD: usize = 12;
const LENGTH: usize = 4;
/// How a zlib stream begins (RFC 1950 §2.2): deflate with 32 KiB of history, no dictionary.
const STREAM_HEAD: [u8; 2] = [0x78, 0x01];

/// One viewer's zlib stream.
#[derive(Debug, Default)]
pub struct ZrleStream {
    is_begun: bool,
}

impl ZrleStream {
    /// A rectangle as this viewer is to get it next. Those of other encodings pass unchanged.
    pub fn parts(&mut self, rectangle: &Bytes) -> Vec<Bytes> {
        let is_zrle = rectangle.get(HEAD - 4..HEAD) == Some(&ZRLE.to_be_bytes());
        let begins = is_zrle && !self.is_begun;
        self.is_begun |= is_zrle;
        let data = (rectangle.len() >= HEAD + LENGTH).then(|| rectangle.slice(HEAD + LENGTH..));
        match data {
            Some(data) if begins => {
                let mut head = BytesMut::from(rectangle.get(..HEAD).unwrap_or_default());
                head.extend_from_slice(&length(data.len() + STREAM_HEAD.len()));
                head.extend_from_slice(&STREAM_HEAD);
                vec![head.freeze(), data]
            }
            _ => vec![rectangle.clone()],
        }
    }
}

/// Appends the data of a rectangle, with their length.
pub(super) fn put(tiles: &[u8], deflate: &mut Deflate, out: &mut Vec<u8>) -> Result<(), Error> {
    let stream = deflate.stream(tiles)?;
    let data = stream.get(STREAM_HEAD.len()..).unwrap_or_default();
    out.extend(length(data.len()));
    out.extend_from_slice(data);
    Ok(())
}

/// No rectangle of a screen comes near the largest.
fn length(bytes: usize) -> [u8; LENGTH] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Appends a rectangle of pixels, so many in a row, as they are before they are compressed.
pub(super) fn put_tiles(
    format: PixelFormat,
    (pixels, width): (&[u8], u16),
    palette: &mut Palette,
    out: &mut Vec<u8>,
) {
    let mut colours = Vec::with_capacity(EDGE * EDGE);
    for_each_tile(pixels, width, EDGE, |tile, across| {
        match palette.analyse(tile, MOST_COLOURS) {
            Content::Solid(colour) => {
                out.push(SOLID);
                put_compact_pixel(format, colour, out);
            }
            Content::Few => put_few(format, palette, across, out),
            Content::Many => {
                colours.clear();
                colours.extend(tile.chunks_exact(PIXEL).map(colour));
                put_many(format, &colours, out);
            }
        };
    });
}

/// A tile of 2 to 127 colours: packed indices or runs, whichever is shorter.
fn put_few(format: PixelFormat, palette: &Palette, across: usize, out: &mut Vec<u8>) {
    let (colours, indices) = (palette.colours(), palette.indices());
    let count = u8::try_from(colours.len()).unwrap_or(u8::MAX);
    let bits = match count {
        ..=2 => 1,
        3..=4 => 2,
        _ => 4,
    };
    let rows = indices.len() / across.max(1);
    let packed = rows * (across * bits).div_ceil(8);
    let runs: usize = runs(indices).map(|(_, length)| 1 + run_bytes(length)).sum();
    if colours.len() <= MOST_PACKED && packed <= runs {
        out.push(count);
        put_compact(format, colours, out);
        for row in indices.chunks(across.max(1)) {
            // The first pixel is in the highest bits.
            out.extend(row.chunks(8 / bits).map(|byte| {
                let shifts = (0..8 / bits).rev().map(|place| place * bits);
                byte.iter().zip(shifts).fold(0, |byte, (index, shift)| byte | index << shift)
            }));
        }
        return;
    }
    out.push(RUNS | count);
    put_compact(format, colours, out);
    for (index, length) in self::runs(indices) {
        if length == 1 {
            out.push(index);
        } else {
            out.push(RUNS | index);
            put_run(length, out);
        }
    }
}

/// A tile of more colours: runs or the pixels themselves, whichever is shorter.
fn put_many(format: PixelFormat, colours: &[u32], out: &mut Vec<u8>) {
    let pixel = format.compact_pixel().len();
    let as_runs: usize = runs(colours).map(|(_, length)| pixel + run_bytes(length).max(1)).sum();
    if as_runs >= colours.len() * pixel {
        out.push(RAW);
        put_compact(format, colours, out);
        return;
    }
    out.push(RUNS);
    for (colour, length) in runs(colours) {
        put_compact_pixel(format, colour, out);
        put_run(length, out);
    }
}

/// Stretches of the same, with their lengths.
fn runs<T: PartialEq + Copy>(all: &[T]) -> impl Iterator<Item = (T, usize)> {
    all.chunk_by(PartialEq::eq).filter_map(|run| Some((*run.first()?, run.len())))
}

/// Bytes of a run's length; none for a single index.
fn run_bytes(length: usize) -> usize {
    if length == 1 { 0 } else { (length - 1) / FULL + 1 }
}

fn put_run(length: usize, out: &mut Vec<u8>) {
    let less_one = length.saturating_sub(1);
    out.extend(std::iter::repeat_n(u8::MAX, less_one / FULL));
    out.push(u8::try_from(less_one % FULL).unwrap_or_default());
}

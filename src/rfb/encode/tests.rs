//! What the encoder makes, taken apart by a decoder that has only the specification in common with it.

use proptest::prelude::*;

use super::super::client_message::Area;
use super::super::frame::{Frame, PIXEL, Strip};
use super::super::pixel_format::PixelFormat;
use super::{Class, Encoder, Method, pieces};

/// As noVNC 1.7 asks for them: bytes R, G, B, X.
const RGBX: PixelFormat = PixelFormat {
    bits_per_pixel: 32,
    depth: 24,
    big_endian: false,
    true_colour: true,
    max: [255; 3],
    shift: [0, 8, 16],
};
/// As TigerVNC's viewer asks for them.
const BGRX: PixelFormat = PixelFormat { shift: [16, 8, 0], ..RGBX };
const RGB565: PixelFormat = PixelFormat {
    bits_per_pixel: 16,
    depth: 16,
    big_endian: true,
    true_colour: true,
    max: [31, 63, 31],
    shift: [11, 5, 0],
};

pub(super) type Paint = fn(u16, u16) -> u32;

fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
    Area { x, y, width, height }
}

fn class(format: PixelFormat, method: Method, quality: Option<u8>) -> Class {
    Class { format, method, quality, compression: 2 }
}

/// A frame whose pixels `paint` gives as `0xRRGGBB`.
pub(super) fn painted(width: u16, height: u16, mut paint: impl FnMut(u16, u16) -> u32) -> Frame {
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            // The fourth byte means nothing, and is not always zero.
            bytes.extend((paint(x, y) | 0xa5 << 24).to_le_bytes());
        }
    }
    let strip = Strip { area: area(0, 0, width, height), stride: usize::from(width) * PIXEL, bytes: &bytes };
    Frame::blank(width, height).with(&[strip]).unwrap()
}

/// Red, green and blue of each pixel of the area.
fn truth(frame: &Frame, area: Area) -> Vec<[u8; 3]> {
    let mut bytes = Vec::new();
    frame.copy(area, &mut bytes);
    bytes.chunks(PIXEL).map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
}

fn from_pixel(format: PixelFormat, bytes: &[u8]) -> [u8; 3] {
    let mut bytes = bytes.to_vec();
    if format.big_endian {
        bytes.reverse();
    }
    bytes.resize(4, 0);
    let value = u32::from_le_bytes(bytes.try_into().unwrap());
    let part =
        |at: usize| (value >> format.shift[at] & u32::from(format.max[at])) * 255 / u32::from(format.max[at]);
    [0, 1, 2].map(|at| u8::try_from(part(at)).unwrap())
}

/// Takes a rectangle apart: its area, its pixels, and what kind it was.
fn decode(format: PixelFormat, bytes: &[u8]) -> (Area, Vec<[u8; 3]>, &'static str) {
    let field = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let place = area(field(0), field(2), field(4), field(6));
    let count = usize::from(place.width) * usize::from(place.height);
    let (encoding, body) = (i32::from_be_bytes(bytes[8..12].try_into().unwrap()), &bytes[12..]);
    let size = usize::from(format.bits_per_pixel / 8);
    if encoding == 0 {
        assert_eq!(body.len(), count * size);
        return (place, body.chunks(size).map(|pixel| from_pixel(format, pixel)).collect(), "raw");
    }
    assert_eq!(encoding, 7);
    let tight = if size == 4 { 3 } else { size };
    let colour =
        |bytes: &[u8]| if tight == 3 { [bytes[0], bytes[1], bytes[2]] } else { from_pixel(format, bytes) };
    let (control, body) = (body[0], &body[1..]);
    let (kind, reset) = (control >> 4, control & 15);
    match kind {
        8 => {
            assert_eq!(body.len(), tight);
            (place, vec![colour(body); count], "fill")
        }
        9 => {
            let (length, body) = length(body);
            assert_eq!(body.len(), length);
            let mut decoder =
                zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(body));
            let pixels = decoder.decode().unwrap();
            assert_eq!(decoder.dimensions(), Some((usize::from(place.width), usize::from(place.height))));
            (place, pixels.chunks(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(), "jpeg")
        }
        0..=7 => {
            let stream = kind & 3;
            assert_eq!(reset, 1 << stream, "the stream is begun anew");
            if kind & 4 == 0 {
                let pixels = inflate(body, count * tight);
                return (place, pixels.chunks(tight).map(colour).collect(), "full");
            }
            assert_eq!(body[0], 1, "the palette filter");
            let colours = usize::from(body[1]) + 1;
            let (palette, body) = body[2..].split_at(colours * tight);
            let palette: Vec<[u8; 3]> = palette.chunks(tight).map(colour).collect();
            if colours > 2 {
                let indices = inflate(body, count);
                return (
                    place,
                    indices.iter().map(|index| palette[usize::from(*index)]).collect(),
                    "indexed",
                );
            }
            let (width, stride) = (usize::from(place.width), usize::from(place.width).div_ceil(8));
            let bits = inflate(body, stride * usize::from(place.height));
            let bit = |at: usize| bits[at / width * stride + at % width / 8] >> (7 - at % width % 8) & 1;
            (place, (0..count).map(|at| palette[usize::from(bit(at))]).collect(), "mono")
        }
        other => panic!("kind {other}"),
    }
}

fn length(bytes: &[u8]) -> (usize, &[u8]) {
    let (mut value, mut used) = (0, 0);
    for shift in [0, 7, 14] {
        let byte = usize::from(bytes[used]);
        used += 1;
        value |= if shift == 14 { byte << shift } else { (byte & 127) << shift };
        if byte & 128 == 0 {
            break;
        }
    }
    (value, &bytes[used..])
}

fn inflate(bytes: &[u8], expected: usize) -> Vec<u8> {
    if expected < 12 {
        assert_eq!(bytes.len(), expected);
        return bytes.to_vec();
    }
    let (length, body) = length(bytes);
    assert_eq!(body.len(), length);
    let mut out = Vec::with_capacity(expected + 1);
    let mut inflate = flate2::Decompress::new(true);
    // All of it comes out, and it is not said to be over: viewers differ in what they make of that.
    assert_eq!(
        inflate.decompress_vec(body, &mut out, flate2::FlushDecompress::Sync).unwrap(),
        flate2::Status::Ok
    );
    assert_eq!((out.len(), usize::try_from(inflate.total_in())), (expected, Ok(body.len())));
    out
}

/// Encodes all of a frame and puts it together again; the kinds of its pieces as well.
fn through(frame: &Frame, class: Class) -> (Vec<[u8; 3]>, Vec<&'static str>, usize) {
    let mut encoder = Encoder::new().unwrap();
    let width = usize::from(frame.width());
    let mut picture = vec![[1, 2, 3]; width * usize::from(frame.height())];
    let (mut kinds, mut sent) = (Vec::new(), 0);
    for piece in pieces(&[frame.area()]) {
        let encoded = encoder.encode(frame, piece, class).unwrap();
        let (place, pixels, kind) = decode(class.format, &encoded.bytes);
        assert_eq!((place, encoded.exact), (piece, kind != "jpeg"));
        for (row, line) in pixels.chunks(usize::from(place.width)).enumerate() {
            let at = (usize::from(place.y) + row) * width + usize::from(place.x);
            picture[at..at + line.len()].copy_from_slice(line);
        }
        kinds.push(kind);
        sent += encoded.bytes.len();
    }
    (picture, kinds, sent)
}

pub(super) fn noise(seed: u32, x: u16, y: u16) -> u32 {
    (u32::from(x).wrapping_mul(0x85eb_ca6b) ^ u32::from(y).wrapping_mul(0xc2b2_ae35) ^ seed)
        .wrapping_mul(0x9e37_79b1)
        >> 8
}

#[test]
fn each_kind_of_content_is_sent_in_its_own_way() {
    let lossless = class(RGBX, Method::Tight, None);
    let cases: [(&str, Paint); 4] = [
        ("fill", |_, _| 0x33_66_99),
        ("mono", |x, y| if (x ^ y) % 3 == 0 { 0xff_ff_ff } else { 0x10_20_30 }),
        ("indexed", |x, y| u32::from((x / 3 + y) % 200) * 0x01_01_01),
        ("full", |x, y| noise(7, x, y)),
    ];
    for (kind, paint) in cases {
        let frame = painted(100, 70, paint);
        let (pixels, kinds, _) = through(&frame, lossless);
        assert_eq!((kinds, pixels), (vec![kind], truth(&frame, frame.area())), "{kind}");
    }
}

#[test]
fn a_picture_is_sent_with_loss_only_to_who_names_a_quality_and_looks_like_it() {
    // Parabolas, up and down: as smooth as a sky.
    let smooth = |x: u16, y: u16| {
        let wave = |value: u16| {
            let phase = u32::from(value % 128);
            phase * (127 - phase) / 16
        };
        wave(x) << 16 | wave(y / 2) << 8 | wave(x / 3 + y / 2)
    };
    let frame = painted(256, 256, smooth);
    let expected = truth(&frame, frame.area());
    let (pixels, kinds, exact) = through(&frame, class(BGRX, Method::Tight, None));
    assert_eq!((kinds, pixels == expected), (vec!["full"], true));
    let (pixels, kinds, lossy) = through(&frame, class(BGRX, Method::Tight, Some(6)));
    assert_eq!(kinds, ["jpeg"]);
    assert!(lossy * 5 < exact, "{lossy} bytes beside {exact}");
    let squares = pixels
        .iter()
        .flatten()
        .zip(expected.iter().flatten())
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let error = squares.sum::<f64>() / (expected.len() * 3) as f64;
    let psnr = 10.0 * (255.0_f64.powi(2) / error).log10();
    assert!(psnr >= 35.0, "{psnr} dB");
}

#[test]
fn a_viewer_that_knows_no_tight_gets_plain_pixels_in_its_own_format() {
    let frame = painted(33, 9, |x, y| u32::from(x) * 0x07_01_00 + u32::from(y));
    for format in [RGBX, BGRX, PixelFormat { big_endian: true, ..BGRX }] {
        assert_eq!(through(&frame, class(format, Method::Raw, None)).0, truth(&frame, frame.area()));
    }
    let red = painted(5, 5, |_, _| 0xff_00_00);
    assert_eq!(through(&red, class(RGB565, Method::Raw, None)).0, vec![[255, 0, 0]; 25]);
    assert_eq!(through(&red, class(RGB565, Method::Tight, None)).0, vec![[255, 0, 0]; 25]);
}

#[test]
fn what_a_viewer_lists_decides_its_class() {
    // What noVNC 1.7 sends.
    let novnc =
        [1, 50, 7, -260, 16, 21, 5, 2, 6, 0, -26, -254, -223, -224, -258, -261, -308, -309, -312, -313];
    let expected = Class { format: RGBX, method: Method::Tight, quality: Some(6), compression: 2 };
    assert_eq!(Class::new(RGBX, &novnc), expected);
    assert_eq!(expected.lossless(), Class { quality: None, ..expected });
    assert_eq!(Class::new(RGBX, &[16, 5, 0, -23]), class(RGBX, Method::Zrle, None));
    assert_eq!(Class::new(RGBX, &[7, -247, -32]), Class { quality: Some(0), compression: 9, ..expected });
    let palette = PixelFormat { bits_per_pixel: 8, depth: 8, max: [7, 7, 3], shift: [5, 2, 0], ..RGBX };
    assert_eq!(Class::new(palette, &novnc).quality, None, "JPEG needs 16 bits or more");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_on_the_screen_arrives_as_it_is(
        (width, height) in (1u16..300, 1u16..40),
        colours in 1u32..400,
        seed in any::<u32>(),
        run in 1u16..20,
        wide in any::<bool>(),
    ) {
        let frame = painted(width, height, |x, y| noise(seed, x / run, y) % colours * 0x3_05_11);
        let format = if wide { RGBX } else { BGRX };
        let (pixels, _, _) = through(&frame, class(format, Method::Tight, None));
        prop_assert_eq!(pixels, truth(&frame, frame.area()));
    }
}

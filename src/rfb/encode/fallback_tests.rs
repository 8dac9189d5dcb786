//! Every way of writing a rectangle in every format of pixels, read by a viewer of its own making.

use std::path::Path;

use bytes::Bytes;

use super::super::frame::Frame;
use super::super::pixel_format::PixelFormat;
use super::super::server_oracle::{encoder, formats, has_pixels};
use super::super::test_viewer::TestViewer;
use super::tests::{Paint, noise, painted};
use super::{Class, Encoder, Method, ZrleStream, pieces};

const METHODS: [Method; 4] = [Method::Raw, Method::Hextile, Method::Zrle, Method::Tight];

fn class(format: PixelFormat, method: Method) -> Class {
    Class { format, method, quality: None, compression: 2 }
}

/// An update with these rectangles.
fn update(rectangles: &[Bytes], stream: &mut ZrleStream) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(u16::try_from(rectangles.len()).unwrap().to_be_bytes());
    bytes.extend(rectangles.iter().flat_map(|rectangle| stream.parts(rectangle)).flatten());
    bytes
}

fn rectangles(frame: &Frame, class: Class) -> Vec<Bytes> {
    let mut encoder = Encoder::new().unwrap();
    let areas = [frame.area()];
    let encoded = pieces(&areas).map(|piece| encoder.encode(frame, piece, class).unwrap());
    encoded.inspect(|encoded| assert!(encoded.exact)).map(|encoded| encoded.bytes).collect()
}

fn shows(frame: &Frame, class: Class) -> (TestViewer, usize) {
    encoder(frame, frame.area(), class)
}

#[test]
fn every_encoding_is_right_in_every_format() {
    // Solid, two colours, a few, a hundred, noise; by columns, so that one piece has all of them.
    let frame = painted(300, 70, |x, y| match x / 60 {
        0 => 0x33_66_99,
        1 => [0xff_ff_ff, 0x10_20_30][usize::from((x ^ y) % 3 == 0)],
        2 => u32::from((x / 7 + y / 9) % 5) * 0x20_31_13,
        3 => u32::from((x / 2 + y) % 100) * 0x02_01_02,
        _ => noise(7, x, y),
    });
    for format in formats() {
        PixelFormat::from_viewer(format.to_bytes()).unwrap();
        for method in METHODS {
            shows(&frame, class(format, method));
        }
    }
}

#[test]
fn the_fallbacks_are_smaller_than_plain_pixels_where_there_is_something_to_save() {
    let text =
        painted(256, 256, |x, y| [0xff_ff_ff, 0][usize::from(noise(3, x / 2, y / 5).is_multiple_of(7))]);
    let noise = painted(256, 256, |x, y| noise(7, x, y));
    let size = |frame, method| shows(frame, class(formats()[0], method)).1;
    let (raw, hextile, zrle) =
        (size(&text, Method::Raw), size(&text, Method::Hextile), size(&text, Method::Zrle));
    assert!(hextile * 8 < raw && zrle * 40 < raw, "{raw} {hextile} {zrle}");
    let (raw, hextile, zrle) =
        (size(&noise, Method::Raw), size(&noise, Method::Hextile), size(&noise, Method::Zrle));
    assert_eq!(hextile, raw + 256, "a byte for each tile");
    assert!(zrle < raw * 4 / 5, "{raw} {zrle}");
}

#[test]
fn what_only_grows_when_it_is_compressed_is_sent_at_every_level() {
    // The fastest level of zlib writes these with nine bits each.
    let bright = painted(256, 256, |x, y| 0x90_90_90 | noise(11, x, y));
    for method in [Method::Zrle, Method::Tight] {
        for compression in [0, 1, 2, 9] {
            shows(&bright, Class { compression, ..class(formats()[0], method) });
        }
    }
}

#[test]
fn a_viewers_stream_takes_the_same_bytes_as_anybody_elses_wherever_it_is() {
    let class = class(formats()[1], Method::Zrle);
    let frames: Vec<Frame> =
        (0..4).map(|step| painted(130, 70, |x, y| noise(step, x / 3, y) % 90 * 0x01_03_02)).collect();
    let encoded: Vec<Vec<Bytes>> = frames.iter().map(|frame| rectangles(frame, class)).collect();
    // From the first on, and from the third on: each gets every update that it gets as it was encoded once.
    for skip in [0, 2] {
        let mut viewer = TestViewer::new(class.format, (130, 70));
        let mut stream = ZrleStream::default();
        for (frame, rectangles) in frames.iter().zip(&encoded).skip(skip) {
            viewer.feed(&update(rectangles, &mut stream)).unwrap();
            has_pixels(&viewer, frame, frame.area(), class.format);
        }
    }
    let mut twice = ZrleStream::default();
    let first = twice.parts(&encoded[0][0]);
    assert_eq!((first.len(), &first[0][16..]), (2, &[0x78, 1][..]), "the stream is begun");
    assert_eq!(twice.parts(&encoded[0][0]), [encoded[0][0].clone()], "once");
    let other = Bytes::from_static(&[0; 20]);
    assert_eq!(ZrleStream::default().parts(&other), vec![other]);
}

#[test]
fn the_first_encoding_of_ours_in_a_viewers_list_is_used() {
    let method = |list: &[i32]| Class::new(formats()[0], list).method;
    assert_eq!(method(&[1, 16, 7, 5, 0]), Method::Zrle);
    assert_eq!(method(&[-239, 2, 5, 16]), Method::Hextile);
    assert_eq!(method(&[0, 7, 16]), Method::Raw);
    assert_eq!(method(&[-260, 6, 2]), Method::Raw);
    let class = Class::new(formats()[0], &[16, 7, -26]);
    assert_eq!((class.method, class.quality), (Method::Zrle, None), "JPEG is Tight's");
}

/// A rectangle with what is compressed in it as it was before.
fn plain(format: PixelFormat, method: Method, rectangle: &[u8]) -> Vec<u8> {
    let inflate = |data: &[u8], has_head: bool| {
        let mut out = Vec::with_capacity(1 << 16);
        flate2::Decompress::new(has_head)
            .decompress_vec(data, &mut out, flate2::FlushDecompress::Sync)
            .unwrap();
        out
    };
    let pixel = usize::from(format.tight_pixel_bytes());
    // The first byte after the rectangle's head is a length, or Tight's control byte.
    let palette = match (method, rectangle[12] >> 4) {
        (Method::Zrle, _) => return [&rectangle[..12], &inflate(&rectangle[16..], false)].concat(),
        (Method::Tight, 0) => 0,
        (Method::Tight, 5 | 6) => 2 + (usize::from(rectangle[14]) + 1) * pixel,
        _ => return rectangle.to_vec(),
    };
    let (head, length) = rectangle.split_at(13 + palette);
    let used = length.iter().take(2).position(|byte| *byte < 128).map_or(3, |last| last + 1);
    [head, &inflate(&length[used..], true)].concat()
}

/// What the encoders write does not change without somebody's notice. Compressed data stand there as what they say.
#[test]
fn rectangles_are_written_as_they_always_were() {
    const WRITE: &str = "VALETD_WRITE_VECTORS";
    let pictures: [(&str, Paint); 4] = [
        ("solid", |_, _| 0x33_66_99),
        ("text", |x, y| [0xff_ff_ff, 0x10_20_30][usize::from(noise(3, x / 2, y / 3).is_multiple_of(5))]),
        ("few", |x, y| u32::from((x / 9 + y / 5) % 12) * 0x15_0b_07),
        ("mixed", |x, y| if x < 40 { u32::from(y / 4) * 0x20_30_40 } else { noise(9, x, y) }),
    ];
    let mut lines = String::new();
    for format in [1, 16, 8].map(|at: usize| formats()[at]) {
        for method in METHODS {
            // Tiles of both edges end within it.
            let pictures = pictures.iter().filter(|(name, _)| method != Method::Raw || *name == "few");
            for (name, paint) in pictures {
                let frame = painted(67, 19, *paint);
                for rectangle in rectangles(&frame, class(format, method)) {
                    let bytes = plain(format, method, &rectangle);
                    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    lines.push_str(&format!("{method:?} {} bits {name}: {hex}\n", format.bits_per_pixel));
                }
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/encoded.txt");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    let known = std::fs::read_to_string(path).unwrap();
    for (line, known) in lines.lines().zip(known.lines()) {
        assert!(line == known, "not as in tests/vectors/encoded.txt (meant? {WRITE}=1):\n{line}\n{known}");
    }
    assert_eq!(lines.lines().count(), known.lines().count());
}

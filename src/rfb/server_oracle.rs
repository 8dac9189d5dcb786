//! What must hold for all that we send a viewer: it is judged by one that is made from the specifications alone. The fuzz targets
//! and `cargo test` call the same functions; each panics when its property does not hold.

use super::client_message::Area;
use super::connection::{NATIVE, Said};
use super::encode::{Class, Encoded, Encoder, Method, ZrleStream, pieces as rectangles};
use super::frame::{PIXEL, Strip};
use super::oracle::select;
use super::test_viewer::TestViewer;
use super::{Access, Connection, DecodeError, Frame, PixelFormat};
use crate::chunking::pieces;

/// [`connection`] on a fuzz input; an odd selector is a controller.
pub fn fuzz_connection(data: &[u8]) {
    let (selector, cuts, bytes) = select(data);
    let access = if selector % 2 == 1 { Access::Full } else { Access::ViewOnly };
    connection(access, bytes, &cuts);
}

/// [`encoder`] on a fuzz input: a size, an area, a class, and the picture as colours with how often each comes.
pub fn fuzz_encoder(data: &[u8]) {
    let Some((head, paint)) = data.split_first_chunk() else { return };
    let [width, height, x, y, method, format, quality, compression] = *head;
    let (width, height) = (u16::from(width) * 2 + 1, u16::from(height) / 8 + 1);
    let mut bytes = Vec::with_capacity(usize::from(width) * usize::from(height) * PIXEL);
    for pair in paint.chunks_exact(2).cycle().take(usize::from(u16::MAX)) {
        let [value, times] = [pair.first(), pair.last()].map(|byte| u32::from(byte.copied().unwrap_or(0)));
        let colour = value.wrapping_mul(0x0103_0711).to_le_bytes();
        (0..=times % 97).for_each(|_| bytes.extend(colour));
        if bytes.len() >= bytes.capacity() {
            break;
        }
    }
    let strip =
        Strip { area: Area { x: 0, y: 0, width, height }, stride: usize::from(width) * PIXEL, bytes: &bytes };
    let frame = Frame::blank(width, height);
    let frame = frame.with(&[strip]).unwrap_or(frame);
    let (x, y) = (u16::from(x) % width, u16::from(y) % height);
    let area = Area { x, y, width: width - x, height: height - y };
    let of = |list: &[Method], number: u8| list.iter().cycle().nth(number.into()).copied();
    let method = of(&[Method::Raw, Method::Hextile, Method::Zrle, Method::Tight], method);
    let format = formats().into_iter().cycle().nth(format.into()).unwrap_or(NATIVE);
    let method = method.unwrap_or(Method::Raw);
    let takes_jpeg = method == Method::Tight && format.bits_per_pixel >= 16;
    let quality = (takes_jpeg && quality < 10).then_some(quality);
    encoder(&frame, area, Class { format, method, quality, compression: compression % 10 });
}

/// Formats of all kinds, in both byte orders: noVNC's, TigerVNC's, with the colours in the upper bytes, in all four, in the
/// middle, of 30 bits, RGB565, RGB555, BGR233, and a bit each.
pub fn formats() -> Vec<PixelFormat> {
    let format = |bits_per_pixel, depth, max, shift| PixelFormat {
        bits_per_pixel,
        depth,
        big_endian: false,
        true_colour: true,
        max,
        shift,
    };
    let little = [
        format(32, 24, [255; 3], [0, 8, 16]),
        NATIVE,
        format(32, 24, [255; 3], [24, 16, 8]),
        format(32, 24, [255; 3], [24, 8, 0]),
        format(32, 12, [15; 3], [16, 12, 8]),
        format(32, 30, [1023; 3], [20, 10, 0]),
        format(16, 16, [31, 63, 31], [11, 5, 0]),
        format(16, 15, [31; 3], [10, 5, 0]),
        format(8, 8, [7, 7, 3], [0, 3, 6]),
        format(8, 3, [1; 3], [2, 1, 0]),
    ];
    let big = little.map(|format| PixelFormat { big_endian: true, ..format });
    little.into_iter().chain(big).collect()
}

/// A viewer that is sent `area` of `frame` takes all of it, and has its pixels then: as near as its format allows, where nothing
/// was encoded with loss. What it decoded, and from how many bytes.
pub fn encoder(frame: &Frame, area: Area, class: Class) -> (TestViewer, usize) {
    let mut encoder = Encoder::new().unwrap_or_else(|error| never(&error));
    let mut viewer = TestViewer::new(class.format, (frame.width(), frame.height()));
    let (mut stream, mut bytes, mut is_exact) = (ZrleStream::default(), vec![0, 0], true);
    let areas: Vec<Area> = rectangles(&[area]).collect();
    bytes.extend(u16::try_from(areas.len()).unwrap_or(0).to_be_bytes());
    for area in areas {
        let encoded = encoder.encode(frame, area, class).unwrap_or_else(|error| never(&error));
        assert!(encoded.exact || class.quality.is_some(), "a loss that nobody allowed");
        is_exact &= encoded.exact;
        bytes.extend(stream.parts(&encoded.bytes).concat());
    }
    assert_eq!(viewer.feed(&bytes), Ok(()), "{class:?}");
    assert!(viewer.is_between_messages(), "{class:?}");
    if is_exact {
        has_pixels(&viewer, frame, area, class.format);
    }
    (viewer, bytes.len())
}

/// No part of a colour is further from the truth than half a step of the viewer's scale: with 8 bits, not at all.
pub fn has_pixels(viewer: &TestViewer, frame: &Frame, area: Area, format: PixelFormat) {
    let (mut truth, stride) = (Vec::new(), usize::from(viewer.size().0).max(1));
    frame.copy(area, &mut truth);
    let rows = viewer.canvas().chunks(stride).skip(area.y.into()).take(area.height.into());
    let seen = rows.flat_map(|row| row.iter().skip(area.x.into()).take(area.width.into()));
    let mut count = 0;
    for (seen, truth) in seen.zip(truth.chunks_exact(PIXEL)) {
        count += 1;
        for ((seen, truth), max) in seen.iter().zip(truth.iter().take(3).rev()).zip(format.max) {
            let off = (i64::from(*seen) * 255 - i64::from(*truth) * i64::from(max)).abs();
            assert!(off * 2 <= 255, "pixel {count} of {area:?} has {seen} of {max} for {truth} of 255");
        }
    }
    assert_eq!(count * PIXEL, truth.len());
}

#[expect(clippy::panic, reason = "an oracle's failure is a panic")]
fn never<T>(error: &dyn std::error::Error) -> T {
    panic!("{error}")
}

/// A viewer's bytes, cut at `cuts` and whole, have a connection say the same, and what it answers, updates with pixels included,
/// is a good stream that shows what is on the screen.
pub fn connection(access: Access, bytes: &[u8], cuts: &[usize]) {
    let whole = serve(access, bytes, &[]);
    assert_eq!(serve(access, bytes, cuts), whole, "the chunking changed the outcome");
    if access == Access::ViewOnly {
        let is_input = |said: &Said| matches!(said, Said::Input(_) | Said::Copied(_));
        assert!(!whole.0.iter().any(is_input), "a spectator's bytes became input");
    }
}

type Served = (Vec<Said>, Vec<u8>, Option<DecodeError>);

/// Something is drawn after each message of the viewer, and sent to it at once where it waits.
fn serve(access: Access, bytes: &[u8], cuts: &[usize]) -> Served {
    const SIZE: (u16, u16) = (100, 70);
    let mut connection = Connection::new(access, SIZE);
    let mut viewer = TestViewer::new(NATIVE, SIZE);
    let mut encoder = Encoder::new().unwrap_or_else(|error| never(&error));
    let mut frame = Frame::blank(SIZE.0, SIZE.1);
    let (mut said, mut sent, mut number) = (Vec::new(), Vec::new(), 0_u8);
    for mut piece in pieces(bytes, cuts) {
        loop {
            match connection.receive(&mut piece) {
                Ok(Some(what)) => said.push(what),
                Ok(None) => break,
                Err(error) => return (said, sent, Some(error)),
            }
            number = number.wrapping_add(1);
            frame = drawn(&frame, number);
            // A pixel format holds from the next update on.
            viewer.set_format(connection.format());
            let mut output = connection.take_output();
            output.extend(connection.take_text().unwrap_or_default());
            if let Some(wanted) = connection.wanted(&frame) {
                connection.begin(&wanted);
                let areas: Vec<Area> = rectangles(&wanted.areas).collect();
                let encode = |area| encoder.encode(&frame, area, wanted.class);
                let pixels: Result<Vec<Encoded>, _> = areas.into_iter().map(encode).collect();
                let pixels = pixels.unwrap_or_else(|error| never(&error));
                let is_exact = pixels.iter().all(|encoded| encoded.exact);
                output.extend(connection.update(&frame, &wanted, &pixels).concat());
                assert_eq!(viewer.feed(&output), Ok(()));
                if is_exact {
                    wanted
                        .areas
                        .iter()
                        .for_each(|area| has_pixels(&viewer, &frame, *area, wanted.class.format));
                }
            } else {
                assert_eq!(viewer.feed(&output), Ok(()));
            }
            assert!(viewer.is_between_messages());
            sent.extend(output);
        }
    }
    (said, sent, None)
}

/// The next picture: another patch each time, sometimes of one colour and sometimes of many.
fn drawn(frame: &Frame, number: u8) -> Frame {
    let area = Area { x: u16::from(number % 7) * 9, y: u16::from(number % 5) * 8, width: 40, height: 30 };
    let pixel = |at: u8| [at.wrapping_mul(number % 4), at / 3 * (number % 2), number, 0];
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(40 * 30).flat_map(pixel).collect();
    let strip = Strip { area, stride: 40 * PIXEL, bytes: &bytes };
    frame.with(&[strip]).unwrap_or_else(|| frame.clone())
}

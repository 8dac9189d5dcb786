//! A viewer that changes its pixel format while pictures come.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use valetd::rfb::PixelFormat;
use valetd::rfb::connection::NATIVE;
use valetd::rfb::test_viewer::TestViewer;

use super::bridge::Bridge;
use super::stage::{HEIGHT, PATIENCE, Picture, Stage, WIDTH};
use crate::support::wait_for;

const RGB565: PixelFormat = PixelFormat {
    bits_per_pixel: 16,
    depth: 16,
    big_endian: true,
    true_colour: true,
    max: [31, 63, 31],
    shift: [11, 5, 0],
};
/// To be answered; what comes next is to wait until it is.
const SYNC_NEXT: u32 = 1 << 31 | 4;

struct Follower {
    stream: TcpStream,
    viewer: TestViewer,
}

impl Follower {
    fn connect(bridge: &Bridge) -> Self {
        let mut stream = TcpStream::connect(bridge.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"RFB 003.008\n\x01\x01").unwrap();
        let mut opening = [0; 12 + 2 + 4 + 24];
        stream.read_exact(&mut opening).unwrap();
        let mut name = vec![0; opening[41].into()];
        stream.read_exact(&mut name).unwrap();
        Self { stream, viewer: TestViewer::new(NATIVE, (WIDTH, HEIGHT)) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn fence(&mut self, flags: u32, payload: &[u8]) {
        let length = [u8::try_from(payload.len()).unwrap()];
        self.send(&[&[248, 0, 0, 0][..], &flags.to_be_bytes(), &length, payload].concat());
    }

    /// Takes what has come and says what it has drawn.
    fn take(&mut self) {
        let mut buffer = [0; 16 << 10];
        let count = self.stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the server hung up");
        self.viewer.feed(&buffer[..count]).unwrap();
        for payload in std::mem::take(&mut self.viewer.fences) {
            self.fence(0, &payload);
        }
    }

    /// Every colour, as near to the truth as the format allows.
    fn shows(&self, truth: &Picture) -> bool {
        let max = self.viewer.format().max.map(i32::from);
        self.viewer.canvas().iter().zip(truth).all(|(seen, truth)| {
            let parts = seen.iter().zip(truth).zip(max);
            parts.into_iter().all(|((seen, truth), max)| {
                (i32::from(*seen) * 255 - i32::from(*truth) * max).abs() * 2 <= 255
            })
        })
    }
}

#[test]
fn a_pixel_format_that_is_changed_behind_a_fence_holds_from_its_answer_on() {
    let stage = Stage::start();
    let bridge = Bridge::start(&stage);
    let mut follower = Follower::connect(&bridge);
    let encodings = [5, -312, -313].map(i32::to_be_bytes).concat();
    let all = [0, 0, WIDTH, HEIGHT].map(u16::to_be_bytes).concat();
    follower.send(&[&[2, 0, 0, 3][..], &encodings, &[150, 1], &all].concat());
    let is_drawn = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stage.draw();
            is_drawn.store(true, Ordering::Release);
        });
        let mut round = 0_u32;
        while !is_drawn.load(Ordering::Acquire) || round < 40 {
            round += 1;
            let format = [NATIVE, RGB565][usize::try_from(round % 2).unwrap()];
            follower.viewer.set_format_behind(&round.to_be_bytes(), format);
            follower.fence(SYNC_NEXT, &round.to_be_bytes());
            follower.send(&[&[0; 4][..], &format.to_bytes()].concat());
            while follower.viewer.format() != format {
                follower.take();
            }
        }
    });
    // All of it once more in the last format, with what is still to come.
    let truth = stage.truth();
    follower.send(&[&[3, 0][..], &all].concat());
    wait_for("the picture", PATIENCE, || {
        follower.take();
        follower.shows(&truth).then_some(())
    });
}

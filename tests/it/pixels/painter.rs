//! Much drawing: areas of one colour and of many, lines as of text, scrolling, a moving window, and a picture like a video's.

use std::time::{Duration, Instant};

use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::{
    ChangeGCAux, ConfigureWindowAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, ImageFormat,
    Rectangle, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::stage::{HEIGHT, WIDTH};
use crate::support::x::Display;

/// However slow the machine, this much is drawn.
const LEAST_STEPS: u32 = 60;
const PACE: Duration = Duration::from_millis(4);
const VIDEO: (u16, u16) = (150, 110);

pub(super) struct Painter<'a> {
    x: &'a RustConnection,
    root: u32,
    context: u32,
    window: u32,
    state: u32,
}

impl<'a> Painter<'a> {
    pub(super) fn new(display: &'a Display) -> Self {
        let (x, root) = (display.connection(), display.root());
        let (context, window) = (x.generate_id().unwrap(), x.generate_id().unwrap());
        // What is copied may be covered: that is no event that anybody waits for.
        x.create_gc(context, root, &CreateGCAux::new().graphics_exposures(0)).unwrap();
        let aux = CreateWindowAux::new()
            .override_redirect(1)
            .background_pixel(0x00c0_c8d0)
            .border_pixel(0x0020_4060);
        x.create_window(0, window, root, 10, 10, 90, 60, 3, WindowClass::INPUT_OUTPUT, 0, &aux).unwrap();
        x.map_window(window).unwrap();
        Self { x, root, context, window, state: 7 }
    }

    fn random(&mut self, below: u16) -> u16 {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u16::try_from((self.state >> 8) % u32::from(below)).unwrap()
    }

    fn place(&mut self) -> (i16, i16) {
        (self.random(WIDTH).cast_signed(), self.random(HEIGHT).cast_signed())
    }

    /// Draws for `span`; then the window is gone.
    pub(super) fn run(&mut self, span: Duration) {
        let end = Instant::now() + span;
        let mut steps = 0;
        while steps < LEAST_STEPS || Instant::now() < end {
            self.step(steps);
            self.x.sync().unwrap();
            steps += 1;
            std::thread::park_timeout(PACE);
        }
        self.x.destroy_window(self.window).unwrap();
        self.x.sync().unwrap();
    }

    /// One tile at once, of so many colours.
    pub(super) fn patch(&self, colours: u32) {
        let colour = |at: u32| (at.wrapping_mul(0x9e37_79b1) >> 8) % colours * 0x0003_0507 + 0x0010_2030;
        let bytes: Vec<u8> = (0..64 * 64).flat_map(|at| colour(at).to_le_bytes()).collect();
        self.x
            .put_image(ImageFormat::Z_PIXMAP, self.root, self.context, 64, 64, 64, 64, 0, 24, &bytes)
            .unwrap();
        self.x.sync().unwrap();
    }

    fn step(&mut self, number: u32) {
        if number.is_multiple_of(4) {
            self.video(number, (200, 140));
        }
        match self.random(8) {
            0..3 => self.areas([2, 9, 0x7fff][usize::try_from(number % 3).unwrap()]),
            3 | 4 => self.line(),
            5 => {
                // All of the left part goes up by a line.
                let (width, height) = (WIDTH / 2, HEIGHT - 16);
                self.x.copy_area(self.root, self.root, self.context, 0, 16, 0, 0, width, height).unwrap();
            }
            6 => {
                let ((from_x, from_y), (x, y)) = (self.place(), self.place());
                self.x.copy_area(self.root, self.root, self.context, from_x, from_y, x, y, 70, 50).unwrap();
            }
            _ => {
                let (x, y) = self.place();
                let aux = ConfigureWindowAux::new().x(i32::from(x) - 40).y(i32::from(y) - 30);
                self.x.configure_window(self.window, &aux).unwrap();
            }
        }
    }

    fn fill(&self, colour: u32, rectangles: &[Rectangle]) {
        self.x.change_gc(self.context, &ChangeGCAux::new().foreground(colour)).unwrap();
        self.x.poly_fill_rectangle(self.root, self.context, rectangles).unwrap();
    }

    fn areas(&mut self, colours: u16) {
        for _ in 0..12 {
            let colour = u32::from(self.random(colours)).wrapping_mul(0x0003_0507) & 0x00ff_ffff;
            let ((x, y), width, height) = (self.place(), self.random(60) + 1, self.random(40) + 1);
            self.fill(colour, &[Rectangle { x, y, width, height }]);
        }
    }

    fn line(&mut self) {
        let (_, y) = self.place();
        self.fill(0x00ff_ffff, &[Rectangle { x: 4, y, width: WIDTH / 2, height: 14 }]);
        let strokes: Vec<Rectangle> = (0..60)
            .map(|_| Rectangle {
                x: self.random(WIDTH / 2).cast_signed(),
                y: y.saturating_add(self.random(12).cast_signed()),
                width: self.random(4) + 1,
                height: self.random(2) + 1,
            })
            .collect();
        self.fill(0, &strokes);
    }

    /// A picture of many colours without hard edges; another one for each `time`.
    pub(super) fn video(&self, time: u32, (x, y): (i16, i16)) {
        let wave = |value: u32| {
            let phase = value % 128;
            phase * (127 - phase) / 16
        };
        let mut bytes = Vec::new();
        for row in 0..u32::from(VIDEO.1) {
            for column in 0..u32::from(VIDEO.0) {
                let colour =
                    wave(column + time) << 16 | wave(row + time / 2) << 8 | wave(column / 3 + row / 2);
                bytes.extend(colour.to_le_bytes());
            }
        }
        let (width, height) = VIDEO;
        self.x
            .put_image(ImageFormat::Z_PIXMAP, self.root, self.context, width, height, x, y, 0, 24, &bytes)
            .unwrap();
    }

    /// Nothing but such pictures.
    pub(super) fn photograph(&mut self) {
        self.x.destroy_window(self.window).unwrap();
        for y in (0..HEIGHT).step_by(VIDEO.1.into()) {
            for x in (0..WIDTH).step_by(VIDEO.0.into()) {
                self.video(u32::from(x + y), (x.cast_signed(), y.cast_signed()));
            }
        }
        self.x.sync().unwrap();
    }
}

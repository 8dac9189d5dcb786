//! What is drawn: clients of the X server that draw the same on each, and the stamp on top of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ChangeGCAux, ChangeWindowAttributesAux, ConfigureWindowAux, ConnectionExt as _, CreateGCAux,
    CreateWindowAux, EventMask, ImageFormat, Rectangle, StackMode, WindowClass,
};
use x11rb::rust_connection::{DefaultStream, RustConnection};
use x11rb::wrapper::ConnectionExt as _;

use crate::photo::Photo;
use crate::stacks::Display;
use crate::{Outcome, rest, stamp};

const PAPER: u32 = 0x00ff_ffff;
const INK: u32 = 0x0020_2830;
/// The X server's own font, which each has built in.
const FONT: &str = "fixed";
const LINE: u16 = 16;
const COLUMN: u16 = 6;
/// Rows of pixels of one request: below what every server takes.
const BAND: usize = 200_000;
/// Pictures of a video. Each has a grain of its own, so that none is the one before, moved.
const REELS: u16 = 6;
/// How far a video pans, in pixels.
const PAN: u16 = 64;

/// What is drawn again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A character at a time.
    Typing,
    /// A screen of text moves up by a line, and gets one at the bottom.
    Scroll,
    /// An opaque window moves over a photograph.
    Windows,
    /// A photograph with grain pans: every pixel changes, and none is where it was.
    Video { width: u16, height: u16 },
}

/// A client that draws until this is dropped.
pub(crate) struct Painting {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Outcome<()>>>,
}

impl Painting {
    /// Draws `scene` so many times a second, each time with a stamp of the time since `epoch`. Begun when this returns.
    pub(crate) fn start(display: &Display, scene: Scene, fps: u32, epoch: Instant) -> Outcome<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (begun, begins) = mpsc::sync_channel(1);
        let (display, seen) = (display.clone(), Arc::clone(&over));
        let thread = thread::Builder::new().name("painter".into()).spawn(move || {
            let easel = Easel::open(&display).and_then(|x| Easel::prepare(x, scene));
            let mut easel = match easel {
                Ok(easel) => easel,
                Err(error) => {
                    let _told = begun.send(Err(error));
                    return Ok(());
                }
            };
            let _told = begun.send(Ok(()));
            let start = Instant::now();
            let mut number = 0;
            while !seen.load(Ordering::Relaxed) {
                let due = start + Duration::from_secs(1) * number / fps;
                rest(due.saturating_duration_since(Instant::now()));
                easel.draw(number)?;
                easel.stamp(u64::try_from(epoch.elapsed().as_micros())?)?;
                // No further ahead of the server than this.
                easel.x.sync()?;
                number += 1;
            }
            Ok(())
        })?;
        begins.recv()??;
        Ok(Self { over, thread: Some(thread) })
    }

    /// Ends it, and says what went wrong while it was drawn.
    pub(crate) fn end(mut self) -> Outcome<()> {
        self.over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            _ => Err("the painter panicked".into()),
        }
    }
}

impl Drop for Painting {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A window that turns from black to white and back at each press of a button in it, until the process ends. Gives where to
/// press.
pub(crate) fn flipper(display: &Display) -> Outcome<(u16, u16)> {
    let easel = Easel::open(display)?;
    let (width, height) = easel.size;
    let (left, top) = (width / 2 - 100, height / 2 - 100);
    let place = Rectangle { x: left.try_into()?, y: top.try_into()?, width: 200, height: 200 };
    let window = easel.window(easel.root, place, EventMask::BUTTON_PRESS)?;
    easel.x.sync()?;
    // Nobody joins it: its connection breaks when the server goes.
    thread::Builder::new().name("flipper".into()).spawn(move || -> Outcome<()> {
        let mut is_white = false;
        loop {
            if let Event::ButtonPress(_) = easel.x.wait_for_event()? {
                is_white = !is_white;
                easel.fill(window, if is_white { PAPER } else { 0 }, 200, 200)?;
                easel.x.flush()?;
            }
        }
    })?;
    Ok((left + 100, top + 100))
}

struct Easel {
    x: RustConnection,
    root: u32,
    depth: u8,
    size: (u16, u16),
    context: u32,
    /// What draws characters.
    pen: u32,
    stamp: u32,
    subject: Subject,
    noise: Noise,
}

enum Subject {
    Nothing,
    Typing { window: u32, at: u16 },
    Scroll { window: u32 },
    Windows { window: u32 },
    Video { window: u32, reels: Vec<u32>, width: u16, height: u16 },
}

impl Easel {
    fn open(display: &Display) -> Outcome<Self> {
        let socket = std::os::unix::net::UnixStream::connect(format!("/tmp/.X11-unix/X{}", display.number))?;
        let (stream, _peer) = DefaultStream::from_unix_stream(socket)?;
        let (protocol, cookie) = match &display.cookie {
            Some(cookie) => (b"MIT-MAGIC-COOKIE-1".to_vec(), cookie.clone()),
            None => (Vec::new(), Vec::new()),
        };
        let x = RustConnection::connect_to_stream_with_auth_info(stream, 0, protocol, cookie)?;
        let screen = x.setup().roots.first().ok_or("an X server without a screen")?;
        let (root, depth) = (screen.root, screen.root_depth);
        let size = (screen.width_in_pixels, screen.height_in_pixels);
        let font = x.generate_id()?;
        x.open_font(font, FONT.as_bytes())?;
        let (context, pen) = (x.generate_id()?, x.generate_id()?);
        x.create_gc(context, root, &CreateGCAux::new().graphics_exposures(0))?;
        let aux = CreateGCAux::new().graphics_exposures(0).font(font).foreground(INK).background(PAPER);
        x.create_gc(pen, root, &aux)?.check()?;
        Ok(Self { x, root, depth, size, context, pen, stamp: 0, subject: Subject::Nothing, noise: Noise(1) })
    }

    fn prepare(mut self, scene: Scene) -> Outcome<Self> {
        let (width, height) = self.size;
        let whole = Rectangle { x: 0, y: 0, width, height };
        self.subject = match scene {
            Scene::Typing => {
                let window = self.window(self.root, whole, EventMask::NO_EVENT)?;
                self.fill(window, PAPER, width, height)?;
                Subject::Typing { window, at: 0 }
            }
            Scene::Scroll => {
                let window = self.window(self.root, whole, EventMask::NO_EVENT)?;
                self.fill(window, PAPER, width, height)?;
                for line in 0..height / LINE {
                    self.write_line(window, line)?;
                }
                Subject::Scroll { window }
            }
            Scene::Windows => {
                let below = self.window(self.root, whole, EventMask::NO_EVENT)?;
                let photo = Photo::new(width, height);
                self.hang(below, &photo, width, height)?;
                let (width, height) = (width / 5 * 2, height / 5 * 2);
                let place = Rectangle { x: 100, y: 100, width, height };
                let window = self.window(below, place, EventMask::NO_EVENT)?;
                let page = self.pixmap(width, height)?;
                self.fill(page, PAPER, width, height)?;
                for line in 0..height / LINE {
                    self.write_line(page, line)?;
                }
                self.background(window, page)?;
                Subject::Windows { window }
            }
            Scene::Video { width, height } => {
                let place = Rectangle { x: 0, y: 0, width, height };
                let window = self.window(self.root, place, EventMask::NO_EVENT)?;
                let photo = Photo::new(width + PAN, height + PAN);
                let mut reels = Vec::new();
                for reel in 0..REELS {
                    let pixmap = self.pixmap(width + PAN, height + PAN)?;
                    self.put(pixmap, width + PAN, &photo.grainy(reel.into()))?;
                    reels.push(pixmap);
                }
                Subject::Video { window, reels, width, height }
            }
        };
        let place = Rectangle { x: 0, y: 0, width: stamp::EDGE, height: stamp::EDGE };
        self.stamp = self.window(self.root, place, EventMask::NO_EVENT)?;
        self.x.sync()?;
        Ok(self)
    }

    /// The frame of that number.
    fn draw(&mut self, number: u32) -> Outcome<()> {
        let turn = f64::from(number) * 0.05;
        // From -1 to 1, as a number of steps.
        let swing = |phase: f64, steps: u16| {
            let at = (phase.sin() + 1.0) / 2.0 * f64::from(steps);
            (0..steps).take_while(|step| f64::from(*step) < at).count()
        };
        match &self.subject {
            Subject::Nothing => {}
            Subject::Typing { window, at } => {
                let (window, at) = (*window, *at);
                let (columns, lines) = (self.size.0 / COLUMN, self.size.1 / LINE);
                let (column, line) = (at % columns, at / columns % lines);
                let character = self.noise.character();
                self.write(window, column * COLUMN, line, &[character])?;
                self.subject = Subject::Typing { window, at: (at + 1) % (columns * lines) };
            }
            Subject::Scroll { window } => {
                let (window, (width, height)) = (*window, self.size);
                let lines = height / LINE;
                let bottom = (lines - 1) * LINE;
                self.x.copy_area(window, window, self.context, 0, LINE.try_into()?, 0, 0, width, bottom)?;
                let foot = Rectangle { x: 0, y: bottom.try_into()?, width, height: LINE };
                self.x.change_gc(self.context, &ChangeGCAux::new().foreground(PAPER))?;
                self.x.poly_fill_rectangle(window, self.context, &[foot])?;
                self.write_line(window, lines - 1)?;
            }
            Subject::Windows { window } => {
                let (width, height) = self.size;
                let x = i32::try_from(swing(turn, width / 2))?;
                let y = i32::try_from(swing(turn * 1.3, height / 2))?;
                self.x.configure_window(*window, &ConfigureWindowAux::new().x(x).y(y))?;
            }
            Subject::Video { window, reels, width, height } => {
                let reel = reels.iter().cycle().nth(usize::try_from(number % u32::from(REELS))?);
                let reel = *reel.ok_or("a video without pictures")?;
                let (x, y) = (swing(turn, PAN).try_into()?, swing(turn * 1.3, PAN).try_into()?);
                self.x.copy_area(reel, *window, self.context, x, y, 0, 0, *width, *height)?;
            }
        }
        Ok(())
    }

    fn stamp(&self, microseconds: u64) -> Outcome<()> {
        self.put(self.stamp, stamp::EDGE, &stamp::draw(microseconds))
    }

    /// A window on top of its siblings, which no window manager touches.
    fn window(&self, parent: u32, place: Rectangle, events: EventMask) -> Outcome<u32> {
        let window = self.x.generate_id()?;
        let aux = CreateWindowAux::new().override_redirect(1).background_pixel(0).event_mask(events);
        let Rectangle { x, y, width, height } = place;
        let class = WindowClass::INPUT_OUTPUT;
        self.x.create_window(0, window, parent, x, y, width, height, 0, class, 0, &aux)?;
        self.x.map_window(window)?;
        self.x.configure_window(window, &ConfigureWindowAux::new().stack_mode(StackMode::ABOVE))?;
        Ok(window)
    }

    fn pixmap(&self, width: u16, height: u16) -> Outcome<u32> {
        let pixmap = self.x.generate_id()?;
        self.x.create_pixmap(self.depth, pixmap, self.root, width, height)?;
        Ok(pixmap)
    }

    /// Gives a window the photograph for its background, so that the server repaints what comes into view.
    fn hang(&self, window: u32, photo: &Photo, width: u16, height: u16) -> Outcome<()> {
        let pixmap = self.pixmap(width, height)?;
        self.put(pixmap, width, &photo.grainy(0))?;
        self.background(window, pixmap)
    }

    fn background(&self, window: u32, pixmap: u32) -> Outcome<()> {
        let aux = ChangeWindowAttributesAux::new().background_pixmap(pixmap);
        self.x.change_window_attributes(window, &aux)?;
        self.x.clear_area(false, window, 0, 0, 0, 0)?;
        self.x.free_pixmap(pixmap)?;
        Ok(())
    }

    fn fill(&self, drawable: u32, colour: u32, width: u16, height: u16) -> Outcome<()> {
        self.x.change_gc(self.context, &ChangeGCAux::new().foreground(colour))?;
        self.x.poly_fill_rectangle(drawable, self.context, &[Rectangle { x: 0, y: 0, width, height }])?;
        Ok(())
    }

    /// Pixels of `width` to a row, from the top left corner on.
    fn put(&self, drawable: u32, width: u16, pixels: &[u8]) -> Outcome<()> {
        let stride = usize::from(width) * 4;
        let rows = (BAND / stride).max(1);
        let mut top = 0;
        for band in pixels.chunks(rows * stride) {
            let height = u16::try_from(band.len() / stride)?;
            let (format, y) = (ImageFormat::Z_PIXMAP, i16::try_from(top)?);
            self.x.put_image(format, drawable, self.context, width, height, 0, y, 0, self.depth, band)?;
            top += height;
        }
        Ok(())
    }

    /// A line of text of some length.
    fn write_line(&mut self, drawable: u32, line: u16) -> Outcome<()> {
        let columns = self.size.0 / COLUMN;
        let length = columns / 4 + u16::try_from(self.noise.below(u32::from(columns) / 2))?;
        let text: Vec<u8> = (0..length).map(|_| self.noise.character()).collect();
        self.write(drawable, 0, line, &text)
    }

    fn write(&self, drawable: u32, x: u16, line: u16, text: &[u8]) -> Outcome<()> {
        let mut x = x;
        // As much as one request takes.
        for part in text.chunks(200) {
            let baseline = i16::try_from(line * LINE + LINE - 4)?;
            self.x.image_text8(drawable, self.pen, x.try_into()?, baseline, part)?;
            x += COLUMN * u16::try_from(part.len())?;
        }
        Ok(())
    }
}

/// The same numbers each time.
struct Noise(u32);

impl Noise {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) % bound.max(1)
    }

    /// A letter, or now and then a blank.
    fn character(&mut self) -> u8 {
        match self.below(32) {
            letter @ 0..26 => b'a' + letter.to_le_bytes()[0],
            _ => b' ',
        }
    }
}

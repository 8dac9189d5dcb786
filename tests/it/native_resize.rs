//! The size of the display, as controllers ask for it and everybody hears of it.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::xproto::{
    ChangeWindowAttributesAux, ConnectionExt as _, CreateWindowAux, EventMask, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use super::support::automation::Automation;
use super::support::daemon::{Daemon, READY, send};
use super::support::native::{PATIENCE, display_after, viewer};
use super::support::tokens::token;
use super::support::viewer::{Viewer, pointer};
use super::support::wait_for;
use super::support::x::Display;

const EXTENDED_DESKTOP_SIZE: i32 = -308;
const DESKTOP_SIZE: i32 = -223;

const RESIZABLE: &str = r#"
    [display]
    rfb = "native"
    size = "640x480"
    max_size = "1024x768"
    [browser]
    enabled = false
"#;

type Size = (u16, u16);

/// What a viewer was told of the size.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// ExtendedDesktopSize: reason, status and size.
    Extended(u16, u16, Size),
    /// DesktopSize.
    Plain(Size),
}

/// A viewer that follows the size of the screen and keeps its pixels.
struct Canvas {
    viewer: Viewer,
    size: Size,
    pixels: Vec<[u8; 3]>,
    told: Vec<Told>,
}

impl Canvas {
    fn new(daemon: &mut Daemon, role: &str, sizes: &[i32]) -> Self {
        let mut viewer = viewer(daemon, role);
        let mut hello = vec![2, 0, 0, u8::try_from(sizes.len() + 1).unwrap(), 0, 0, 0, 0];
        hello.extend(sizes.iter().flat_map(|number| number.to_be_bytes()));
        viewer.send(&hello);
        let size = viewer.size;
        let mut canvas = Self { viewer, size, pixels: blank(size), told: Vec::new() };
        canvas.look();
        // What the server tells of itself, once.
        canvas.told.clear();
        canvas
    }

    /// Asks for everything and takes one answer, which may be a size.
    fn look(&mut self) {
        let (width, height) = self.size;
        let mut request = vec![3, 0, 0, 0, 0, 0];
        request.extend([width, height].into_iter().flat_map(u16::to_be_bytes));
        self.viewer.send(&request);
        while !self.update() {}
    }

    /// Takes one update; whether there were pixels in it.
    fn update(&mut self) -> bool {
        let head = self.viewer.read(4);
        assert_eq!(head[0], 0, "an update");
        let mut has_pixels = false;
        for _rectangle in 0..u16::from_be_bytes([head[2], head[3]]) {
            let fields = self.viewer.read(12);
            let field: Vec<u16> =
                fields[..8].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            let size = (field[2], field[3]);
            match i32::from_be_bytes(fields[8..].try_into().unwrap()) {
                0 => {
                    has_pixels = true;
                    self.paint((field[0], field[1]), size);
                }
                DESKTOP_SIZE => {
                    self.resized(Told::Plain(size), size);
                    return self.ask_again();
                }
                EXTENDED_DESKTOP_SIZE => {
                    let screen = self.viewer.read(20);
                    assert_eq!(
                        screen[..12],
                        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                        "one screen, number 0, at 0, 0"
                    );
                    assert_eq!(screen[12..16], fields[4..8], "as large as all");
                    // A refusal's size means nothing.
                    let now = if field[1] == 0 { size } else { self.size };
                    self.resized(Told::Extended(field[0], field[1], size), now);
                    // What was asked for of the old screen may be answered by this alone.
                    if field[1] == 0 {
                        return !has_pixels && self.ask_again();
                    }
                }
                other => panic!("encoding {other} was not asked for"),
            }
        }
        has_pixels
    }

    /// As viewers do that are told a size: always `false`.
    fn ask_again(&mut self) -> bool {
        let (width, height) = self.size;
        let mut request = vec![3, 1, 0, 0, 0, 0];
        request.extend([width, height].into_iter().flat_map(u16::to_be_bytes));
        self.viewer.send(&request);
        false
    }

    fn resized(&mut self, told: Told, size: Size) {
        self.told.push(told);
        if size != self.size {
            self.size = size;
            self.pixels = blank(size);
        }
    }

    fn paint(&mut self, (x, y): (u16, u16), (width, height): Size) {
        let body = self.viewer.read(usize::from(width) * usize::from(height) * 4);
        for (row, line) in body.chunks(usize::from(width) * 4).enumerate() {
            let at = (usize::from(y) + row) * usize::from(self.size.0) + usize::from(x);
            for (pixel, bytes) in self.pixels[at..].iter_mut().zip(line.chunks(4)) {
                *pixel = [bytes[2], bytes[1], bytes[0]];
            }
        }
    }

    fn wish(&mut self, size: Size) {
        self.viewer.send(&wish(size, &[(0, 0, size)]));
    }

    /// Looks on until it was told that.
    fn hears(&mut self, told: &Told) {
        let end = Instant::now() + PATIENCE;
        while !self.told.contains(told) {
            assert!(Instant::now() < end, "no {told:?} in {:?}", self.told);
            self.look();
        }
    }

    /// Looks on until it has the very pixels of the display.
    fn sees_the_truth(&mut self, display: &Display) {
        let end = Instant::now() + PATIENCE;
        while (self.size, &self.pixels) != (display.size(), &display.picture()) {
            assert!(Instant::now() < end, "{:?} of {:?} is not what is there", self.size, display.size());
            self.look();
        }
    }
}

fn blank((width, height): Size) -> Vec<[u8; 3]> {
    vec![[1, 2, 3]; usize::from(width) * usize::from(height)]
}

/// SetDesktopSize.
fn wish((width, height): Size, screens: &[(u16, u16, Size)]) -> Vec<u8> {
    let mut message = vec![251, 0];
    message.extend([width, height].into_iter().flat_map(u16::to_be_bytes));
    message.extend([u8::try_from(screens.len()).unwrap(), 0]);
    for (x, y, (width, height)) in screens {
        message.extend([0; 4]);
        message.extend([x, y, width, height].into_iter().flat_map(|value| value.to_be_bytes()));
        message.extend([0; 4]);
    }
    message
}

fn start(extra: &str) -> (Daemon, Display) {
    let mut daemon = Daemon::start(extra);
    daemon.wait_ready();
    let display = Display::of(&mut daemon);
    (daemon, display)
}

/// A window as programs without a window manager have it; it paints itself whenever it is shown.
fn window(display: &Display, x: i16, y: i16, (width, height): Size) -> u32 {
    let connection = display.connection();
    let window = connection.generate_id().unwrap();
    let aux = CreateWindowAux::new().background_pixel(0x0012_3456 + u32::from(width));
    connection
        .create_window(0, window, display.root(), x, y, width, height, 0, WindowClass::INPUT_OUTPUT, 0, &aux)
        .unwrap();
    connection.map_window(window).unwrap();
    connection.sync().unwrap();
    window
}

fn geometry(display: &Display, window: u32) -> (i16, i16, Size) {
    let found = display.connection().get_geometry(window).unwrap().reply().unwrap();
    (found.x, found.y, (found.width, found.height))
}

#[test]
fn a_controller_has_the_screen_in_any_size_up_to_the_largest_and_everybody_hears_of_it() {
    let (mut daemon, display) = start(RESIZABLE);
    assert_eq!(display.size(), (640, 480), "it begins as configured");
    // As large as the screen, less the pixel that Chromium leaves.
    let full = window(&display, 0, 0, (639, 479));
    let small = window(&display, 100, 100, (50, 60));
    let mut controller = Canvas::new(&mut daemon, "controller", &[EXTENDED_DESKTOP_SIZE]);
    let mut other = Canvas::new(&mut daemon, "spectator", &[DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE]);
    let mut plain = Canvas::new(&mut daemon, "spectator", &[DESKTOP_SIZE]);
    for size in [(1024, 768), (801, 603), (640, 700), (500, 300), (1000, 480)] {
        controller.wish(size);
        controller.hears(&Told::Extended(1, 0, size));
        other.hears(&Told::Extended(2, 0, size));
        plain.hears(&Told::Plain(size));
        assert_eq!(display.size(), size);
        assert_eq!(geometry(&display, full), (0, 0, size), "a window that filled it");
        assert_eq!(geometry(&display, small), (100, 100, (50, 60)), "one that did not");
        display.fill(
            i16::try_from(size.0 - 9).unwrap(),
            i16::try_from(size.1 - 7).unwrap(),
            9,
            7,
            0x00ff_8000,
        );
        for viewer in [&mut controller, &mut other, &mut plain] {
            viewer.sees_the_truth(&display);
        }
        let told = &daemon.control("/v1/status")["sessions"][0]["display_size"];
        assert_eq!(*told, json!({ "width": size.0, "height": size.1 }));
    }
    controller.viewer.send(&pointer(0, 990, 470));
    wait_for("the pointer to be where it was not before", PATIENCE, || {
        (display.pointer() == (990, 470)).then_some(())
    });
    let modes = display.connection().randr_get_screen_resources_current(display.root()).unwrap().reply();
    assert!(modes.unwrap().modes.len() <= 2, "no size stays behind");
}

#[test]
fn f66_what_is_too_large_or_no_single_screen_is_refused_and_costs_nothing() {
    let (mut daemon, display) = start(RESIZABLE);
    let mut controller = Canvas::new(&mut daemon, "controller", &[EXTENDED_DESKTOP_SIZE]);
    let mut spectator = Canvas::new(&mut daemon, "spectator", &[EXTENDED_DESKTOP_SIZE]);
    let now = (640, 480);
    spectator.wish((800, 600));
    spectator.hears(&Told::Extended(1, 1, now));
    for screens in
        [&[][..], &[(0, 0, (400, 600)), (400, 0, (400, 600))], &[(0, 0, (800, 500))], &[(8, 0, (800, 600))]]
    {
        controller.told.clear();
        controller.viewer.send(&wish((800, 600), screens));
        controller.hears(&Told::Extended(1, 3, now));
    }
    controller.wish((0, 0));
    controller.hears(&Told::Extended(1, 3, now));
    assert_eq!(display.size(), now);
    // As much as there is, which is not what was asked for: a viewer that is told it was would ask again for ever.
    controller.wish((65535, 600));
    controller.hears(&Told::Extended(1, 2, now));
    controller.hears(&Told::Extended(0, 0, (1024, 600)));
    spectator.hears(&Told::Extended(0, 0, (1024, 600)));
    controller.sees_the_truth(&display);
    controller.wish((1, 1));
    controller.hears(&Told::Extended(0, 0, (500, 300)));
    controller.sees_the_truth(&display);
}

#[test]
fn a_display_without_a_larger_size_has_none_but_its_own() {
    let (mut daemon, display) = start(&RESIZABLE.replace("max_size", "# max_size"));
    let mut controller = Canvas::new(&mut daemon, "controller", &[EXTENDED_DESKTOP_SIZE]);
    controller.wish((600, 400));
    controller.hears(&Told::Extended(1, 1, (640, 480)));
    assert_eq!(display.size(), (640, 480));
    controller.sees_the_truth(&display);
}

#[test]
fn f66_each_wish_of_a_storm_is_answered_and_few_are_seen_to() {
    const WISHES: u16 = 300;
    let (mut daemon, display) = start(RESIZABLE);
    let mut controller = Canvas::new(&mut daemon, "controller", &[EXTENDED_DESKTOP_SIZE]);
    let x = display.connection();
    let aux = ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
    x.change_window_attributes(display.root(), &aux).unwrap();
    x.sync().unwrap();
    let mut sizes = (1..=WISHES).map(|number| (600 + number, 400 + number));
    controller.viewer.send(&sizes.clone().flat_map(|size| wish(size, &[(0, 0, size)])).collect::<Vec<_>>());
    let last = sizes.next_back().unwrap();
    controller.hears(&Told::Extended(1, 0, last));
    let answers = controller.told.iter().filter(|told| matches!(told, Told::Extended(1, ..))).count();
    assert_eq!(answers, usize::from(WISHES));
    x.sync().unwrap();
    let changes = std::iter::from_fn(|| x.poll_for_event().unwrap())
        .filter(|event| matches!(event, Event::ConfigureNotify(_)))
        .count();
    assert!((1..=4).contains(&changes), "{changes} changes of size");
    assert_eq!(display.size(), last);
}

#[test]
fn f1_a_display_comes_back_with_its_configured_size() {
    let (mut daemon, before) = start(RESIZABLE);
    let mut controller = Canvas::new(&mut daemon, "controller", &[EXTENDED_DESKTOP_SIZE]);
    controller.wish((1000, 700));
    controller.hears(&Told::Extended(1, 0, (1000, 700)));
    drop(before);
    let xvfb = daemon.service_pid("xvfb");
    send(xvfb, Signal::SIGKILL);
    let after = display_after(&mut daemon, xvfb);
    controller.hears(&Told::Extended(0, 0, (640, 480)));
    assert!(!controller.told.iter().any(|told| matches!(told, Told::Extended(_, _, (1024, 768)))));
    after.fill(600, 400, 40, 80, 0x00ab_cdef);
    controller.sees_the_truth(&after);
    controller.wish((700, 500));
    controller.hears(&Told::Extended(1, 0, (700, 500)));
}

#[test]
fn a_size_that_a_program_sets_is_followed() {
    let (mut daemon, display) = start(RESIZABLE);
    let mut spectator = Canvas::new(&mut daemon, "spectator", &[EXTENDED_DESKTOP_SIZE]);
    let mut blind = Canvas::new(&mut daemon, "spectator", &[]);
    let x = display.connection();
    let resources = x.randr_get_screen_resources_current(display.root()).unwrap().reply().unwrap();
    let off = x.randr_set_crtc_config(resources.crtcs[0], 0, 0, 0, 0, 0, 1_u16.into(), &[]).unwrap();
    off.reply().unwrap();
    x.randr_set_screen_size(display.root(), 800, 500, 200, 100).unwrap();
    x.sync().unwrap();
    spectator.hears(&Told::Extended(0, 0, (800, 500)));
    display.fill(700, 450, 100, 50, 0x0000_ff00);
    display.fill(100, 100, 100, 50, 0x0000_00ff);
    spectator.sees_the_truth(&display);
    // It cannot be told, and sees what fits.
    wait_for("what fits to be seen", PATIENCE, || {
        blind.look();
        (blind.pixels[110 * 640 + 110] == [0, 0, 0xff]).then_some(())
    });
    assert_eq!((blind.size, blind.told.len()), ((640, 480), 0));
}

#[test]
fn chromium_fills_the_screen_whatever_its_size() {
    let (mut daemon, display) = start(&RESIZABLE.replace("enabled = false", "enabled = true"));
    let bearer = format!("Bearer {}", token("automation", 600));
    let mut automation =
        Automation::connect(daemon.gateway(), "/sessions/s1/cdp", &[("Authorization", &bearer)]).unwrap();
    let page = automation.page("data:text/html,<body style=background:green>");
    let mut sizes =
        || automation.evaluate(&page, "`${screen.width}x${screen.height} ${outerWidth}x${outerHeight}`");
    let mut controller = Canvas::new(&mut daemon, "controller", &[EXTENDED_DESKTOP_SIZE]);
    for size @ (width, height) in [(1000, 700), (600, 500)] {
        controller.wish(size);
        controller.hears(&Told::Extended(1, 0, size));
        let expected = format!("{width}x{height} {width}x{height}");
        wait_for("the page to be as large", READY, || (sizes() == expected.as_str()).then_some(()));
        controller.sees_the_truth(&display);
    }
    // One that is started now fills it as well.
    let browser = daemon.service_pid("browser");
    send(browser, Signal::SIGKILL);
    wait_for("another browser's window", READY, || {
        let x = display.connection();
        let windows = x.query_tree(display.root()).unwrap().reply().unwrap().children;
        // Those that are gone meanwhile have no geometry.
        let mut found = windows.into_iter().filter_map(|window| x.get_geometry(window).ok()?.reply().ok());
        let components = &daemon.control("/v1/status")["sessions"][0]["components"];
        let mut pids = components.as_array()?.iter().filter(|part| part["name"] == "browser");
        let is_other = pids.next()?["pid"].as_i64()? != i64::from(browser);
        (is_other && found.any(|window| (window.width, window.height) == (599, 499))).then_some(())
    });
}

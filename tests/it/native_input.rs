//! Keys, buttons and the pointer of viewers on a display that the daemon serves itself, as programs there and other viewers
//! get them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use nix::sys::signal::Signal;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ChangeGCAux, ChangeWindowAttributesAux, ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask,
    Rectangle, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use super::support::daemon::{Daemon, send};
use super::support::native::{PATIENCE, daemon, viewer};
use super::support::viewer::{Viewer, key, pointer};
use super::support::wait_for;
use super::support::x::Display;

const RAW: i32 = 0;
const LED_STATE: i32 = -261;
const EXTENDED_MOUSE: i32 = -316;
const VMWARE_CURSOR: i32 = 0x574d_5664;
const CAPS_LOCK: u32 = 0xffe5;
const NUM_LOCK: u32 = 0xff7f;

fn controller(daemon: &mut Daemon) -> Viewer {
    viewer(daemon, "controller")
}

/// The display's variables, for programs of a test.
fn on_display(daemon: &mut Daemon, program: &str) -> Command {
    let status = daemon.control("/v1/status");
    #[expect(clippy::disallowed_methods, reason = "a program beside the daemon's own")]
    let mut command = Command::new(program);
    command.env("DISPLAY", status["sessions"][0]["display"].as_str().unwrap());
    command.env("XAUTHORITY", daemon.path("run/s0/xauthority"));
    command
}

fn set_layout(daemon: &mut Daemon, arguments: &[&str]) {
    assert!(on_display(daemon, "setxkbmap").args(arguments).status().unwrap().success());
}

/// xev: a program by others, with libX11's idea of what a key means.
struct Program {
    child: Child,
    pressed: Receiver<u32>,
}

impl Program {
    /// Opens its window over the left upper corner, with the pointer in it, which is where keys go.
    fn start(daemon: &mut Daemon, display: &Display, viewer: &mut Viewer) -> Self {
        let mut child = on_display(daemon, "stdbuf")
            .args(["-oL", "xev", "-event", "keyboard", "-geometry", "200x200+0+0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, pressed) = sync_channel(64);
        std::thread::Builder::new()
            .name("xev".into())
            .spawn(move || {
                let mut is_press = false;
                for line in lines.map_while(Result::ok) {
                    if !line.starts_with(' ') {
                        is_press = line.starts_with("KeyPress");
                    }
                    if let Some((_, rest)) = line.split_once("(keysym 0x").filter(|_| is_press) {
                        let keysym = rest.split(',').next().unwrap();
                        let _gone = tell.send(u32::from_str_radix(keysym, 16).unwrap());
                    }
                }
            })
            .unwrap();
        viewer.send(&pointer(0, 100, 100));
        wait_for("the pointer to be on the window", PATIENCE, || {
            let reply = display.connection().query_pointer(display.root()).unwrap().reply().unwrap();
            (reply.child != x11rb::NONE && reply.root_x == 100).then_some(())
        });
        Self { child, pressed }
    }

    /// The next keysym that is no modifier's.
    fn next(&self) -> u32 {
        let is_modifier = |keysym: &u32| matches!(keysym, 0xfe03 | 0xff7f | 0xffe1..=0xffee);
        let end = Instant::now() + PATIENCE;
        loop {
            let keysym = self.pressed.recv_timeout(end - Instant::now()).expect("a key press");
            if !is_modifier(&keysym) {
                return keysym;
            }
        }
    }

    /// What arrives when a viewer types that.
    fn gets(&self, viewer: &mut Viewer, keysyms: &[u32]) -> Vec<u32> {
        let strike = |keysym: &u32| {
            viewer.send(&[key(true, *keysym), key(false, *keysym)].concat());
            self.next()
        };
        keysyms.iter().map(strike).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn strike(viewer: &mut Viewer, keysym: u32) {
    viewer.send(&[key(true, keysym), key(false, keysym)].concat());
}

/// Keysyms by one name, where Latin-1 has two: programs may get either.
fn names(keysyms: &[u32]) -> Vec<String> {
    let name = |keysym: &u32| match keysym {
        0x0100_00a0..=0x0100_00ff => format!("{:x}", keysym & 0xff),
        keysym => format!("{keysym:x}"),
    };
    keysyms.iter().map(name).collect()
}

#[test]
fn whatever_is_locked_and_however_the_keys_lie_what_is_typed_arrives() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let mut viewer = controller(&mut daemon);
    let program = Program::start(&mut daemon, &display, &mut viewer);
    // a A 1 ! @ ä Ä ß € я Я 漢 Return z y { Ж as the old sets have it, ł likewise.
    let typed = [
        0x61,
        0x41,
        0x31,
        0x21,
        0x40,
        0xe4,
        0xc4,
        0xdf,
        0x20ac,
        0x0100_044f,
        0x0100_042f,
        0x0100_6f22,
        0xff0d,
        0x7a,
        0x79,
        0x7b,
        0x6f6,
        0x1b3,
    ];
    // On the keypad: End and 1.
    let keypad = [0xff9c, 0xffb1];
    let layouts: [&[&str]; 4] = [&["us"], &["de"], &["ru"], &["us,ru"]];
    for layout in layouts {
        set_layout(&mut daemon, layout);
        for lock in [None, Some(CAPS_LOCK), Some(NUM_LOCK)] {
            lock.into_iter().for_each(|lock| strike(&mut viewer, lock));
            assert_eq!(names(&program.gets(&mut viewer, &typed)), names(&typed), "{layout:?} {lock:x?}");
            assert_eq!(program.gets(&mut viewer, &keypad), keypad, "{layout:?} {lock:x?}");
            // What the keysym says counts, whatever the viewer holds.
            viewer.send(&key(true, 0xffe1));
            assert_eq!(
                names(&program.gets(&mut viewer, &typed[..12])),
                names(&typed[..12]),
                "{layout:?} {lock:x?}"
            );
            viewer.send(&key(false, 0xffe1));
            lock.into_iter().for_each(|lock| strike(&mut viewer, lock));
        }
    }
    wait_for("nothing to be held", PATIENCE, || (display.keys_down() == 0).then_some(()));
}

/// A viewer that takes in what it is sent.
struct Onlooker {
    viewer: Viewer,
    pixels: BTreeMap<(u16, u16), [u8; 4]>,
    /// Size of the pointer's image.
    cursor: Option<(u16, u16)>,
    leds: Vec<u8>,
}

impl Onlooker {
    fn new(daemon: &mut Daemon, role: &str, encodings: &[i32]) -> Self {
        let mut viewer = viewer(daemon, role);
        let mut message = vec![2, 0, 0, u8::try_from(encodings.len()).unwrap()];
        message.extend(encodings.iter().flat_map(|number| number.to_be_bytes()));
        viewer.send(&message);
        Self { viewer, pixels: BTreeMap::new(), cursor: None, leds: Vec::new() }
    }

    /// Asks for what is new in the upper left corner, and takes in one update.
    fn look(&mut self) {
        self.viewer.send(&[3, 0, 0, 0, 0, 0, 0, 100, 0, 100]);
        loop {
            let head = self.viewer.read(4);
            assert_eq!(head[0], 0, "only updates were asked for");
            let rectangles = u16::from_be_bytes([head[2], head[3]]);
            if (0..rectangles).map(|_| self.rectangle()).fold(false, |any, is_picture| any | is_picture) {
                return;
            }
        }
    }

    /// Whether it had pixels of the picture.
    fn rectangle(&mut self) -> bool {
        let head = self.viewer.read(12);
        let field = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let (x, y, width, height) = (field(0), field(2), field(4), field(6));
        let count = usize::from(width) * usize::from(height);
        match i32::from_be_bytes([head[8], head[9], head[10], head[11]]) {
            RAW => {
                let body = self.viewer.read(count * 4);
                for (at, pixel) in body.chunks(4).enumerate() {
                    let (column, row) = (at % usize::from(width), at / usize::from(width));
                    let place = (x + u16::try_from(column).unwrap(), y + u16::try_from(row).unwrap());
                    self.pixels.insert(place, pixel.try_into().unwrap());
                }
                return true;
            }
            LED_STATE => self.leds.extend(self.viewer.read(1)),
            VMWARE_CURSOR => {
                self.cursor = Some((width, height));
                self.viewer.read(2 + count * 4);
            }
            EXTENDED_MOUSE => {}
            other => panic!("encoding {other} was not asked for"),
        }
        false
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        wait_for(what, PATIENCE, || {
            self.look();
            is_so(self).then_some(())
        });
    }

    fn at(&self, x: u16, y: u16) -> [u8; 3] {
        let [blue, green, red, _] = self.pixels[&(x, y)];
        [red, green, blue]
    }
}

#[test]
fn lights_of_the_keyboard_are_told_as_they_change() {
    let mut daemon = daemon();
    let mut viewer = Onlooker::new(&mut daemon, "controller", &[RAW, LED_STATE]);
    viewer.until("the lights", |viewer| viewer.leds == [0]);
    strike(&mut viewer.viewer, CAPS_LOCK);
    viewer.until("Caps Lock", |viewer| viewer.leds == [0, 4]);
    strike(&mut viewer.viewer, NUM_LOCK);
    viewer.until("Num Lock as well", |viewer| viewer.leds == [0, 4, 6]);
    // A letter of which Shift makes no small one goes in without Caps Lock for a moment, of which nobody hears.
    for keysym in [0x0100_044f, 0x6d1, 0x61] {
        strike(&mut viewer.viewer, keysym);
    }
    strike(&mut viewer.viewer, CAPS_LOCK);
    viewer.until("Num Lock alone", |viewer| viewer.leds == [0, 4, 6, 2]);
    let mut late = Onlooker::new(&mut daemon, "spectator", &[RAW, LED_STATE]);
    late.until("the lights as they are", |viewer| viewer.leds == [2]);
}

/// A window over everything that is told of buttons.
fn buttons_window(display: &Display) {
    let x = display.connection();
    let window = x.generate_id().unwrap();
    let mask = EventMask::BUTTON_PRESS | EventMask::BUTTON_RELEASE | EventMask::EXPOSURE;
    let aux = CreateWindowAux::new().override_redirect(1).event_mask(mask);
    x.create_window(0, window, display.root(), 0, 0, 320, 240, 0, WindowClass::INPUT_OUTPUT, 0, &aux)
        .unwrap();
    x.map_window(window).unwrap();
    x.flush().unwrap();
    wait_for("the window to be seen", PATIENCE, || {
        matches!(x.poll_for_event().unwrap(), Some(Event::Expose(_))).then_some(())
    });
}

/// The next button that goes down or up, and where.
fn button(display: &Display) -> (bool, u8, (i16, i16)) {
    wait_for("a button", PATIENCE, || match display.connection().poll_for_event().unwrap()? {
        Event::ButtonPress(event) => Some((true, event.detail, (event.root_x, event.root_y))),
        Event::ButtonRelease(event) => Some((false, event.detail, (event.root_x, event.root_y))),
        _ => None,
    })
}

/// Waits until what a controller did so far has had its effect: the text that it copies now comes behind it.
fn has_acted(display: &Display, viewer: &mut Viewer) {
    let x = display.connection();
    let clipboard = x.intern_atom(false, b"CLIPBOARD").unwrap().reply().unwrap().atom;
    let ours = x.generate_id().unwrap();
    x.create_window(
        0,
        ours,
        display.root(),
        0,
        0,
        1,
        1,
        0,
        WindowClass::INPUT_ONLY,
        0,
        &CreateWindowAux::new(),
    )
    .unwrap();
    x.set_selection_owner(ours, clipboard, x11rb::CURRENT_TIME).unwrap();
    x.sync().unwrap();
    viewer.send(&[6, 0, 0, 0, 0, 0, 0, 1, b'a']);
    wait_for("the text to be taken", PATIENCE, || {
        (x.get_selection_owner(clipboard).unwrap().reply().unwrap().owner != ours).then_some(())
    });
}

#[test]
fn controllers_do_not_disturb_each_other_and_each_has_its_turn() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    buttons_window(&display);
    let (mut one, mut other) = (controller(&mut daemon), controller(&mut daemon));
    one.send(&[pointer(1, 10, 11), key(true, 0xffe1)].concat());
    assert_eq!(button(&display), (true, 1, (10, 11)));
    other.send(&[pointer(0, 99, 99), pointer(1, 99, 99), key(true, 0x62), pointer(0, 98, 98)].concat());
    has_acted(&display, &mut other);
    assert_eq!((display.pointer(), display.keys_down()), ((10, 11), 1));
    one.send(&[pointer(1, 20, 21), pointer(0, 30, 31), key(false, 0xffe1)].concat());
    assert_eq!(button(&display), (false, 1, (30, 31)), "nothing came between");
    has_acted(&display, &mut one);
    // What was pressed meanwhile is not down, and its release is none.
    other.send(&[key(true, 0x62), key(false, 0x62), pointer(4, 50, 51)].concat());
    assert_eq!(button(&display), (true, 3, (50, 51)));
    assert_eq!(display.keys_down(), 0);
    one.send(&pointer(1, 10, 11));
    has_acted(&display, &mut one);
    drop(other);
    assert_eq!(button(&display), (false, 3, (50, 51)), "released, and nobody else's in between");
    one.send(&[pointer(0, 10, 11), pointer(1, 10, 11)].concat());
    assert_eq!(button(&display), (true, 1, (10, 11)));
}

#[test]
fn nine_buttons_arrive() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    buttons_window(&display);
    let mut viewer = Onlooker::new(&mut daemon, "controller", &[RAW, EXTENDED_MOUSE]);
    viewer.look();
    let extended = |high: u8| [5, 0x80, 0, 7, 0, 8, high];
    for bit in 0..7 {
        viewer.viewer.send(&[pointer(1 << bit, 7, 8), pointer(0, 7, 8)].concat());
        assert_eq!([button(&display), button(&display)], [(true, bit + 1, (7, 8)), (false, bit + 1, (7, 8))]);
    }
    for (high, number) in [(1, 8), (2, 9)] {
        viewer.viewer.send(&[extended(high).to_vec(), pointer(0, 7, 8)].concat());
        assert_eq!([button(&display), button(&display)], [(true, number, (7, 8)), (false, number, (7, 8))]);
    }
}

/// Makes the pointer a red square whose middle points.
fn red_pointer(display: &Display) {
    let x = display.connection();
    let (pixmap, context, cursor) =
        (x.generate_id().unwrap(), x.generate_id().unwrap(), x.generate_id().unwrap());
    x.create_pixmap(1, pixmap, display.root(), 8, 8).unwrap();
    x.create_gc(context, pixmap, &CreateGCAux::new()).unwrap();
    x.change_gc(context, &ChangeGCAux::new().foreground(1)).unwrap();
    x.poly_fill_rectangle(pixmap, context, &[Rectangle { x: 0, y: 0, width: 8, height: 8 }]).unwrap();
    x.create_cursor(cursor, pixmap, pixmap, 0xffff, 0, 0, 0, 0, 0, 4, 4).unwrap();
    let aux = ChangeWindowAttributesAux::new().cursor(cursor);
    x.change_window_attributes(display.root(), &aux).unwrap();
    x.sync().unwrap();
}

#[test]
fn the_pointer_is_painted_for_those_who_do_not_move_it_and_nobody_sees_two() {
    const RED: [u8; 3] = [255, 0, 0];
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    red_pointer(&display);
    let own = |viewer: &Onlooker, x, y| viewer.cursor == Some((8, 8)) && viewer.at(x, y) != RED;
    let painted = |viewer: &Onlooker, x, y| viewer.cursor == Some((0, 0)) && viewer.at(x, y) == RED;
    let mut one = Onlooker::new(&mut daemon, "controller", &[RAW, VMWARE_CURSOR]);
    let mut other = Onlooker::new(&mut daemon, "controller", &[RAW, VMWARE_CURSOR]);
    let mut spectator = Onlooker::new(&mut daemon, "spectator", &[RAW, VMWARE_CURSOR]);
    // Draws no pointer of its own in any case.
    let mut plain = Onlooker::new(&mut daemon, "spectator", &[RAW]);
    one.viewer.send(&pointer(0, 40, 50));
    one.until("its own pointer", |viewer| own(viewer, 40, 50));
    spectator.until("the pointer in the picture", |viewer| painted(viewer, 40, 50));
    let square = (30..50).filter(|x| spectator.at(*x, 50) == RED);
    assert_eq!(square.collect::<Vec<u16>>(), (36..44).collect::<Vec<_>>());
    other.until("the pointer in the picture", |viewer| painted(viewer, 40, 50));
    plain.until("the pointer in the picture", |viewer| viewer.at(40, 50) == RED);
    // A press takes over.
    other.viewer.send(&pointer(1, 60, 70));
    other.until("its own pointer", |viewer| own(viewer, 60, 70) && viewer.at(40, 50) != RED);
    one.until("the other one's", |viewer| painted(viewer, 60, 70) && viewer.at(40, 50) != RED);
    spectator.until("it elsewhere", |viewer| painted(viewer, 60, 70) && viewer.at(40, 50) != RED);
    // A program moves it, and draws.
    let x = display.connection();
    x.warp_pointer(x11rb::NONE, display.root(), 0, 0, 0, 0, 20, 80).unwrap();
    display.fill(0, 0, 4, 4, 0x0000_ff00);
    spectator.until("it where the program put it", |viewer| painted(viewer, 20, 80));
    // Who moved it last has left.
    drop(other);
    one.viewer.send(&pointer(0, 50, 20));
    one.until("its own again", |viewer| own(viewer, 50, 20) && viewer.at(20, 80) != RED);
    plain.until("it in the picture", |viewer| viewer.at(50, 20) == RED);
}

#[test]
fn an_x_server_that_does_not_answer_is_given_up_and_come_back_to() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let mut viewer = Onlooker::new(&mut daemon, "spectator", &[RAW]);
    viewer.look();
    let xvfb = daemon.service_pid("xvfb");
    send(xvfb, Signal::SIGSTOP);
    viewer.viewer.send(&[3, 0, 0, 0, 0, 0, 0, 100, 0, 100]);
    // Before the supervisor has had enough of it.
    daemon.wait_log("the screen to be given up", |record| {
        record.to_string().contains("did not answer within 3 s")
    });
    send(xvfb, Signal::SIGCONT);
    display.fill(10, 10, 20, 20, 0x0012_3456);
    viewer.until("what was drawn", |viewer| viewer.at(15, 15) == [0x12, 0x34, 0x56]);
    assert_eq!(daemon.service_pid("xvfb"), xvfb, "the same server");
}

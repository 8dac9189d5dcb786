//! Text between viewers and a display that the daemon serves itself.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ChangeWindowAttributesAux, ConnectionExt as _, CreateWindowAux, EventMask, PropMode, Property,
    WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::support::native::{PATIENCE, daemon, viewer};
use super::support::wait_for;
use super::support::x::{Display, tell_requestor};

/// More than goes into one property.
const LARGE: usize = 300_000;

fn atom(x: &RustConnection, name: &str) -> u32 {
    x.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom
}

fn window(x: &RustConnection) -> u32 {
    let window = x.generate_id().unwrap();
    let aux = CreateWindowAux::new().event_mask(EventMask::PROPERTY_CHANGE);
    let root = x.setup().roots[0].root;
    x.create_window(0, window, root, 0, 0, 1, 1, 0, WindowClass::INPUT_ONLY, 0, &aux).unwrap();
    window
}

fn event<T>(x: &RustConnection, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    wait_for(what, PATIENCE, || x.poll_for_event().unwrap().and_then(|event| wanted(&event)))
}

/// What a program on the display pastes; `None` while nobody has copied anything.
fn pasted(x: &RustConnection, selection: u32, target: u32) -> Option<Vec<u8>> {
    if x.get_selection_owner(selection).unwrap().reply().unwrap().owner == x11rb::NONE {
        return None;
    }
    let (window, property, incr) = (window(x), atom(x, "TEST"), atom(x, "INCR"));
    x.convert_selection(window, selection, target, property, x11rb::CURRENT_TIME).unwrap();
    x.flush().unwrap();
    let answered = event(x, "the owner to answer", |event| match event {
        Event::SelectionNotify(answer) if answer.requestor == window => Some(answer.property),
        _ => None,
    });
    if answered == x11rb::NONE {
        return Some(Vec::new());
    }
    let read = || x.get_property(true, window, property, AtomEnum::ANY, 0, 1 << 20).unwrap().reply().unwrap();
    let whole = read();
    if whole.type_ != incr {
        return Some(whole.value);
    }
    let mut text = Vec::new();
    loop {
        event(x, "the next part", |event| match event {
            Event::PropertyNotify(event) => {
                (event.window == window && event.state == Property::NEW_VALUE).then_some(())
            }
            _ => None,
        });
        let part = read();
        if part.value.is_empty() {
            return Some(text);
        }
        text.extend(part.value);
    }
}

/// Copies `text` on the display and hands it to whoever asks, in parts where it is large, until told to stop.
fn copy(x: &RustConnection, text: &[u8], stop: &AtomicBool) {
    let (window, clipboard, utf8) = (window(x), atom(x, "CLIPBOARD"), atom(x, "UTF8_STRING"));
    x.set_selection_owner(window, clipboard, x11rb::CURRENT_TIME).unwrap();
    x.flush().unwrap();
    let mut rest: Option<(u32, u32, &[u8])> = None;
    while !stop.load(Ordering::Relaxed) {
        match x.poll_for_event().unwrap() {
            Some(Event::SelectionRequest(request)) => {
                assert_eq!(request.target, utf8);
                if text.len() > 1000 {
                    let aux = ChangeWindowAttributesAux::new().event_mask(EventMask::PROPERTY_CHANGE);
                    x.change_window_attributes(request.requestor, &aux).unwrap();
                    let (property, incr) = (request.property, atom(x, "INCR"));
                    x.change_property32(PropMode::REPLACE, request.requestor, property, incr, &[1]).unwrap();
                    rest = Some((request.requestor, property, text));
                } else {
                    x.change_property8(PropMode::REPLACE, request.requestor, request.property, utf8, text)
                        .unwrap();
                }
                tell_requestor(x, &request);
            }
            Some(Event::PropertyNotify(event)) if event.state == Property::DELETE => {
                if let Some((requestor, property, left)) = rest.take() {
                    let (part, left) = left.split_at(left.len().min(100_000));
                    x.change_property8(PropMode::REPLACE, requestor, property, utf8, part).unwrap();
                    x.flush().unwrap();
                    rest = (!part.is_empty()).then_some((requestor, property, left));
                }
            }
            Some(_other) => {}
            None => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

/// A ClientCutText with that length, which says what kind it is, and body.
fn cut_text(length: i32, body: &[u8]) -> Vec<u8> {
    [&[6, 0, 0, 0][..], &length.to_be_bytes(), body].concat()
}

/// Text as an extended clipboard brings it.
fn provide(text: &str) -> Vec<u8> {
    let mut deflate = ZlibEncoder::new(0x1000_0001_u32.to_be_bytes().to_vec(), Compression::default());
    deflate.write_all(&u32::try_from(text.len() + 1).unwrap().to_be_bytes()).unwrap();
    deflate.write_all(text.as_bytes()).unwrap();
    deflate.write_all(&[0]).unwrap();
    let body = deflate.finish().unwrap();
    cut_text(-i32::try_from(body.len()).unwrap(), &body)
}

#[test]
fn what_a_controller_copies_can_be_pasted_on_the_display_and_what_a_spectator_does_cannot() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let x = display.connection();
    let (clipboard, utf8) = (atom(x, "CLIPBOARD"), atom(x, "UTF8_STRING"));
    let mut controller = viewer(&mut daemon, "controller");
    controller.send(&cut_text(4, b"caf\xe9"));
    let text = wait_for("the controller's text", PATIENCE, || pasted(x, clipboard, utf8));
    assert_eq!(text, "café".as_bytes());
    assert_eq!(pasted(x, AtomEnum::PRIMARY.into(), AtomEnum::STRING.into()).unwrap(), b"caf\xe9");
    let targets = pasted(x, clipboard, atom(x, "TARGETS")).unwrap();
    assert!(targets.chunks(4).any(|target| target == utf8.to_ne_bytes()));
    assert_eq!(pasted(x, clipboard, atom(x, "image/png")).unwrap(), b"", "refused");

    let mut spectator = viewer(&mut daemon, "spectator");
    spectator.send(&cut_text(10, b"not wanted"));
    // Answered in order: with the picture here, the text has been dealt with.
    assert_eq!(spectator.pixels(0, 0, 16, 16).len(), 256);
    assert_eq!(pasted(x, clipboard, utf8).unwrap(), "café".as_bytes());

    let large: String = "漢字 and so on. ".chars().cycle().take(LARGE).collect();
    controller.send(&provide(&large));
    let text =
        wait_for("the large text", PATIENCE, || pasted(x, clipboard, utf8).filter(|text| text.len() > 1000));
    assert!(text == large.as_bytes(), "{} bytes", text.len());
}

#[test]
fn what_is_copied_on_the_display_reaches_controllers_whole_and_spectators_not() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let x = display.connection();
    let mut controller = viewer(&mut daemon, "controller");
    let mut spectator = viewer(&mut daemon, "spectator");
    let large: String = ('a'..='z').cycle().take(LARGE).collect();
    for text in ["grün", &large] {
        let stop = AtomicBool::new(false);
        let expected: Vec<u8> = text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| copy(x, text.as_bytes(), &stop));
            let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let head = controller.read(8);
                assert_eq!(head[0], 3);
                let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
                controller.read(usize::try_from(length).unwrap())
            }));
            stop.store(true, Ordering::Relaxed);
            assert!(heard.unwrap() == expected);
        });
    }
    // A picture comes, and no text before it: the test's viewer would take text, so it is asked for less.
    spectator.send(&[3, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(spectator.read(1), [0]);
}

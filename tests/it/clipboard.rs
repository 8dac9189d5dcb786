//! Text between viewers and the display: x11vnc's part and the daemon's, on a real X server.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    AtomEnum, ConnectionExt as _, CreateWindowAux, PropMode, SelectionRequestEvent, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use crate::support::daemon::Daemon;
use crate::support::tokens::token;
use crate::support::viewer::Viewer;
use crate::support::wait_for;
use crate::support::x::{Display, tell_requestor};

const X11VNC: &str = "[browser]\nenabled = false\n[display]\nrfb = \"x11vnc\"";
const PATIENCE: Duration = Duration::from_secs(15);

fn atom(x: &RustConnection, name: &str) -> u32 {
    x.intern_atom(false, name.as_bytes()).unwrap().reply().unwrap().atom
}

fn window(x: &RustConnection) -> u32 {
    let window = x.generate_id().unwrap();
    let (class, aux) = (WindowClass::INPUT_ONLY, CreateWindowAux::new());
    x.create_window(0, window, x.setup().roots[0].root, 0, 0, 1, 1, 0, class, 0, &aux).unwrap();
    window
}

/// What a program on the display would paste.
fn selection(x: &RustConnection, selection: u32) -> Option<Vec<u8>> {
    if x.get_selection_owner(selection).unwrap().reply().unwrap().owner == x11rb::NONE {
        return None;
    }
    let (window, property) = (window(x), atom(x, "TEST_SELECTION"));
    x.convert_selection(window, selection, AtomEnum::STRING.into(), property, x11rb::CURRENT_TIME).unwrap();
    x.flush().unwrap();
    let answer = wait_for("the selection's owner to answer", PATIENCE, || {
        x.poll_for_event().unwrap().and_then(|event| match event {
            Event::SelectionNotify(answer) if answer.requestor == window => Some(answer),
            _other => None,
        })
    });
    assert_eq!(answer.property, property, "the owner refused");
    let text = x.get_property(true, window, property, AtomEnum::ANY, 0, 1 << 16).unwrap().reply().unwrap();
    x.destroy_window(window).unwrap();
    Some(text.value)
}

/// Owns CLIPBOARD until told to stop, with "copied 1", after some seconds "copied 2", and so on: x11vnc drops a change that
/// it sees while somebody is in the middle of the RFB handshake.
fn copy(x: &RustConnection, stop: &AtomicBool) {
    let (window, clipboard) = (window(x), atom(x, "CLIPBOARD"));
    let start = Instant::now();
    x.set_selection_owner(window, clipboard, x11rb::CURRENT_TIME).unwrap();
    x.flush().unwrap();
    while !stop.load(Ordering::Relaxed) {
        match x.poll_for_event().unwrap() {
            Some(Event::SelectionRequest(request)) => {
                let text = format!("copied {}", 1 + start.elapsed().as_secs() / 5);
                answer(x, &request, text.as_bytes());
            }
            Some(_other) => {}
            None => std::thread::park_timeout(Duration::from_millis(10)),
        }
    }
}

fn answer(x: &RustConnection, request: &SelectionRequestEvent, text: &[u8]) {
    let string = u32::from(AtomEnum::STRING);
    assert_eq!(request.target, string, "x11vnc asks for Latin-1");
    x.change_property8(PropMode::REPLACE, request.requestor, request.property, string, text).unwrap();
    tell_requestor(x, request);
}

fn cut_text(text: &[u8]) -> Vec<u8> {
    let mut message = vec![6, 0, 0, 0];
    message.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    message.extend_from_slice(text);
    message
}

/// The next text from the server that is not empty. No picture was asked for, so nothing else comes but bells.
fn next_cut_text(viewer: &mut Viewer) -> String {
    loop {
        match viewer.read(1)[0] {
            2 => {}
            3 => {
                let head = viewer.read(7);
                let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
                let text = viewer.read(usize::try_from(length).unwrap());
                if !text.is_empty() {
                    return String::from_utf8(text).unwrap();
                }
            }
            other => panic!("message type {other}"),
        }
    }
}

#[test]
fn a_controllers_text_can_be_pasted_on_the_display_and_a_spectators_cannot() {
    let mut daemon = Daemon::start(X11VNC);
    daemon.wait_ready();
    let display = Display::of(&mut daemon);
    let x = display.connection();
    let clipboard = atom(x, "CLIPBOARD");
    let mut controller = Viewer::connect(daemon.gateway(), "s1", &token("controller", 60)).unwrap();
    // x11vnc drops text in its first second, so it is sent until it is there.
    let mut sent = None;
    for kind in [clipboard, AtomEnum::PRIMARY.into()] {
        let text = wait_for("the controller's text", PATIENCE, || {
            if sent.is_none_or(|at: Instant| at.elapsed() > Duration::from_millis(500)) {
                controller.send(&cut_text(b"caf\xe9"));
                sent = Some(Instant::now());
            }
            selection(x, kind)
        });
        assert_eq!(text, b"caf\xe9");
    }

    let mut spectator = Viewer::connect(daemon.gateway(), "s1", &token("spectator", 60)).unwrap();
    spectator.send(&cut_text(b"not wanted"));
    // A server handles one viewer's messages in order: with the picture here, the text has been dealt with.
    assert_eq!(spectator.pixels(0, 0, 16, 16).len(), 256);
    assert_eq!(selection(x, clipboard).as_deref(), Some(&b"caf\xe9"[..]));
}

#[test]
fn text_copied_on_the_display_reaches_viewers_and_x_properties_do_not_steer_x11vnc() {
    let mut daemon = Daemon::start(X11VNC);
    daemon.wait_ready();
    let display = Display::of(&mut daemon);
    let x = display.connection();
    let mut controller = Viewer::connect(daemon.gateway(), "s1", &token("controller", 60)).unwrap();
    let mut spectator = Viewer::connect(daemon.gateway(), "s1", &token("spectator", 60)).unwrap();
    // What would make x11vnc connect to a viewer by itself, or stop.
    let lure = TcpListener::bind("127.0.0.1:0").unwrap();
    lure.set_nonblocking(true).unwrap();
    let address = lure.local_addr().unwrap().to_string();
    for (name, text) in [("VNC_CONNECT", address.as_str()), ("X11VNC_REMOTE", "cmd=stop")] {
        let root = x.setup().roots[0].root;
        x.change_property8(PropMode::REPLACE, root, atom(x, name), AtomEnum::STRING, text.as_bytes())
            .unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| copy(x, &stop));
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            [next_cut_text(&mut controller), next_cut_text(&mut spectator)]
        }));
        stop.store(true, Ordering::Relaxed);
        for text in seen.unwrap() {
            assert!(text.starts_with("copied "), "{text}");
        }
    });
    // x11vnc reads changed properties before it asks for the selection.
    assert_eq!(lure.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

//! The display served by the daemon itself: what independent viewers see of it, and what they can do to it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use valetd::tasks::Scope;
use vnc::{PixelFormat, VncConnector, VncEncoding, VncEvent, X11Event};
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ConnectionExt as _, CreateGCAux, CreateWindowAux, EventMask, InputFocus, Rectangle, WindowClass,
};
use x11rb::wrapper::ConnectionExt as _;

use super::support::daemon::send;
use super::support::native::{HEIGHT, PATIENCE, WIDTH, daemon, display_after, paint, viewer};
use super::support::tokens::token;
use super::support::viewer::{Viewer, key, pointer};
use super::support::wait_for;
use super::support::x::Display;

fn seen(viewer: &mut Viewer) -> Vec<[u8; 3]> {
    viewer.pixels(0, 0, WIDTH, HEIGHT).iter().map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
}

/// Waits until a viewer that asks again and again sees what the X server has.
fn sees_the_truth(viewer: &mut Viewer, display: &Display) {
    let mut last = String::new();
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        let (seen, truth) = (seen(viewer), display.picture());
        if seen == truth {
            return;
        }
        let wrong = seen.iter().zip(&truth).enumerate().filter(|(_, (seen, truth))| seen != truth);
        last = format!("{:?}", wrong.clone().take(3).collect::<Vec<_>>()) + &format!(" of {}", wrong.count());
    }
    panic!("the viewer does not see what is there: {last}");
}

#[test]
fn a_viewer_sees_what_is_drawn_and_then_what_changed() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    display.fill(10, 20, 30, 40, 0x0012_ab34);
    let mut viewer = viewer(&mut daemon, "spectator");
    assert_eq!((viewer.size, viewer.name.as_str()), ((WIDTH, HEIGHT), "valetd s1"));
    sees_the_truth(&mut viewer, &display);
    assert_eq!(viewer.pixels(11, 21, 1, 1), [[0x34, 0xab, 0x12, 0]]);
    display.fill(60, 60, 100, 100, 0x00ff_0000);
    sees_the_truth(&mut viewer, &display);
    assert_eq!(viewer.pixels(61, 61, 1, 1), [[0, 0, 0xff, 0]]);
}

#[test]
fn an_incremental_request_is_answered_when_something_changes_and_with_that() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    display.fill(0, 0, WIDTH, HEIGHT, 0x0000_00ff);
    let mut viewer = viewer(&mut daemon, "spectator");
    sees_the_truth(&mut viewer, &display);
    viewer.send(&[3, 1, 0, 0, 0, 0, 1, 64, 0, 240]);
    display.fill(100, 50, 8, 4, 0x0000_ff00);
    let head = viewer.read(4 + 12);
    assert_eq!(
        head,
        [0, 0, 0, 1, 0, 100, 0, 50, 0, 8, 0, 4, 0, 0, 0, 0],
        "one Raw rectangle, no larger than what changed"
    );
    assert_eq!(viewer.read(8 * 4 * 4), [0, 0xff, 0, 0].repeat(32));
}

#[test]
fn what_a_controller_holds_is_let_go_of_when_it_leaves_and_a_spectator_moves_nothing() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let mut spectator = viewer(&mut daemon, "spectator");
    let before = display.pointer();
    spectator.send(&[key(true, 0x61), pointer(1, 7, 8)].concat());
    // Answered in order: with the picture here, the input before it has had its effect, if any.
    seen(&mut spectator);
    assert_eq!((display.pointer(), display.keys_down()), (before, 0));
    let mut controller = viewer(&mut daemon, "controller");
    controller.send(&[pointer(4, 77, 55), key(true, 0x61), key(true, 0xffe1)].concat());
    wait_for("two keys to be down", PATIENCE, || (display.keys_down() == 2).then_some(()));
    assert_eq!(display.pointer(), (77, 55));
    drop(controller);
    wait_for("everything to be released", PATIENCE, || (display.keys_down() == 0).then_some(()));
}

#[test]
fn f1_what_was_held_when_the_connection_to_the_display_broke_is_let_go_of_with_the_next_one() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let mut controller = viewer(&mut daemon, "controller");
    let copied = [6, 0, 0, 0, 0, 0, 0, 1, b'a'];
    controller.send(&[&pointer(1, 77, 55)[..], &key(true, 0xffe1), &copied].concat());
    let x = display.connection();
    let clipboard = x.intern_atom(false, b"CLIPBOARD").unwrap().reply().unwrap().atom;
    let buttons =
        || u16::from(x.query_pointer(x.setup().roots[0].root).unwrap().reply().unwrap().mask) & 0x1f00;
    // In order: with the text there, the key and the button are down.
    let theirs = wait_for("the daemon's window", PATIENCE, || {
        let owner = x.get_selection_owner(clipboard).unwrap().reply().unwrap().owner;
        (owner != x11rb::NONE).then_some(owner)
    });
    assert_eq!((display.keys_down(), buttons()), (1, 0x100));
    x.kill_client(theirs).unwrap();
    x.sync().unwrap();
    wait_for("everything to be released", PATIENCE, || {
        (display.keys_down() == 0 && buttons() == 0).then_some(())
    });
}

/// Opens a window with the keyboard's focus and gives the keysyms that it gets, as its own map of the keyboard says.
fn typed(display: &Display, viewer: &mut Viewer, keysyms: &[u32]) -> Vec<u32> {
    let x = display.connection();
    let root = x.setup().roots[0].root;
    let window = x.generate_id().unwrap();
    let aux =
        CreateWindowAux::new().override_redirect(1).event_mask(EventMask::KEY_PRESS | EventMask::EXPOSURE);
    x.create_window(0, window, root, 0, 0, 50, 50, 0, WindowClass::INPUT_OUTPUT, 0, &aux).unwrap();
    x.map_window(window).unwrap();
    x.flush().unwrap();
    wait_for("the window to be seen", PATIENCE, || {
        matches!(x.poll_for_event().unwrap(), Some(Event::Expose(_))).then_some(())
    });
    x.set_input_focus(InputFocus::PARENT, window, x11rb::CURRENT_TIME).unwrap();
    x.sync().unwrap();
    let mut found = Vec::new();
    for keysym in keysyms {
        viewer.send(&[key(true, *keysym), key(false, *keysym)].concat());
        let press = wait_for("a key press", PATIENCE, || match x.poll_for_event().unwrap() {
            Some(Event::KeyPress(press)) if press.detail != shift_key(x) => Some(press),
            _ => None,
        });
        let map = x.get_keyboard_mapping(press.detail, 1).unwrap().reply().unwrap();
        let column = usize::from(u16::from(press.state) & 1);
        found.push(map.keysyms[column]);
    }
    x.destroy_window(window).unwrap();
    x.sync().unwrap();
    found
}

fn shift_key(x: &x11rb::rust_connection::RustConnection) -> u8 {
    x.get_modifier_mapping().unwrap().reply().unwrap().keycodes[0]
}

#[test]
fn whatever_a_viewer_types_arrives_as_it_was_meant() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let mut viewer = viewer(&mut daemon, "controller");
    // a, A, !, ä, €, 漢, Return, and A with the viewer's own Shift held.
    let keysyms = [0x61, 0x41, 0x21, 0xe4, 0x20ac, 0x0100_6f22, 0xff0d];
    assert_eq!(typed(&display, &mut viewer, &keysyms), keysyms);
    viewer.send(&key(true, 0xffe1));
    wait_for("Shift to be down", PATIENCE, || (display.keys_down() == 1).then_some(()));
    // What the keysym says counts, whatever is held.
    assert_eq!(typed(&display, &mut viewer, &[0x41, 0x61, 0x20ac]), [0x41, 0x61, 0x20ac]);
    viewer.send(&key(false, 0xffe1));
    wait_for("nothing to be held", PATIENCE, || (display.keys_down() == 0).then_some(()));
}

#[test]
fn f1_a_viewer_stays_over_a_restart_of_its_display_and_gets_the_new_picture() {
    let mut daemon = daemon();
    let before = Display::of(&mut daemon);
    before.fill(0, 0, WIDTH, HEIGHT, 0x0055_5555);
    let mut viewer = viewer(&mut daemon, "controller");
    sees_the_truth(&mut viewer, &before);
    let xvfb = daemon.service_pid("xvfb");
    send(xvfb, Signal::SIGKILL);
    let after = display_after(&mut daemon, xvfb);
    after.fill(30, 30, 60, 60, 0x00ab_cdef);
    sees_the_truth(&mut viewer, &after);
    viewer.send(&pointer(0, 123, 45));
    wait_for("the pointer to move on the new display", PATIENCE, || {
        (after.pointer() == (123, 45)).then_some(())
    });
}

/// A byte stream that is a viewer's WebSocket.
pub(crate) async fn stream(gateway: std::net::SocketAddr, scope: &mut Scope) -> DuplexStream {
    let mut request = format!("ws://{gateway}/sessions/s1/vnc").into_client_request().unwrap();
    let protocols = format!("binary, jwt.{}", token("spectator", 600));
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocols.parse().unwrap());
    let tcp = TcpStream::connect(gateway).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async(request, tcp).await.unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut tx, mut rx) = socket.split();
    let (mut read, mut write) = tokio::io::split(far);
    scope.spawn("to the viewer", async move {
        while let Some(Ok(message)) = rx.next().await {
            if let Message::Binary(bytes) = message
                && write.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    });
    scope.spawn("from the viewer", async move {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if tx.send(Message::binary(buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    });
    near
}

/// Random rectangles in few and many colours, some moved about, so that every kind of Tight comes up.
fn draw_much(display: &Display) {
    let x = display.connection();
    let root = x.setup().roots[0].root;
    let context = x.generate_id().unwrap();
    x.create_gc(context, root, &CreateGCAux::new()).unwrap();
    let mut state = 7_u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    for round in 0..40 {
        let colours = [2, 8, 0x00ff_ffff][round % 3];
        for _ in 0..60 {
            let foreground = random(colours).wrapping_mul(0x0003_0507) & 0x00ff_ffff;
            x.change_gc(context, &x11rb::protocol::xproto::ChangeGCAux::new().foreground(foreground))
                .unwrap();
            let mut small = |below| u16::try_from(random(below)).unwrap();
            let (left, top) = (small(300).cast_signed(), small(220).cast_signed());
            let (width, height) = (small(40) + 1, small(30) + 1);
            x.poly_fill_rectangle(root, context, &[Rectangle { x: left, y: top, width, height }]).unwrap();
        }
        x.copy_area(root, root, context, 10, 10, 40, 60, 100, 80).unwrap();
        x.sync().unwrap();
    }
}

#[tokio::test]
async fn vnc_rs_sees_the_very_pixels_after_much_was_drawn() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    for encoding in [VncEncoding::Raw, VncEncoding::Tight] {
        let mut scope = Scope::new();
        let gateway = daemon.gateway();
        let client = VncConnector::new(stream(gateway, &mut scope).await)
            .set_auth_method(async { Ok(String::new()) })
            .add_encoding(encoding)
            .allow_shared(true)
            .set_pixel_format(PixelFormat::bgra())
            .build()
            .unwrap();
        let client = timeout(PATIENCE, client.try_start()).await.unwrap().unwrap().finish().unwrap();
        draw_much(&display);
        let mut canvas = vec![[1, 2, 3]; usize::from(WIDTH) * usize::from(HEIGHT)];
        let expected = display.picture();
        let painted = async {
            while canvas != expected {
                client.input(X11Event::Refresh).await.unwrap();
                while let Some(event) = client.poll_event().await.unwrap() {
                    if let VncEvent::RawImage(to, data) = event {
                        paint(&mut canvas, WIDTH, to, &data);
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = timeout(PATIENCE, painted).await;
        let wrong = canvas.iter().zip(&expected).filter(|(is, should)| is != should).count();
        assert!(in_time.is_ok(), "{wrong} wrong pixels with {encoding:?}");
        client.close().await.unwrap();
        drop(client);
        scope.shutdown(Duration::ZERO).await;
    }
}

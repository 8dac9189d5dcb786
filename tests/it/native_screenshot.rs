//! Screenshots of a display that the daemon serves itself: what is in them, and who gets one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;
use serde_json::Value;
use x11rb::protocol::xproto::ConnectionExt as _;

use super::support::daemon::send;
use super::support::native::{HEIGHT, PATIENCE, WIDTH, daemon, display_after};
use super::support::tokens::token;
use super::support::viewer::{DEADLINE, Viewer, request};
use super::support::wait_for;
use super::support::x::Display;

/// Head, in lower case, and body of what `path` of session `s1` is answered with.
fn get(gateway: SocketAddr, path: &str, token: Option<&str>) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request =
        format!("GET /sessions/s1/{path} HTTP/1.1\r\nHost: {gateway}\r\n{bearer}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

/// The picture, once it is its turn.
fn picture(gateway: SocketAddr, path: &str, token: &str) -> Vec<u8> {
    wait_for("a picture", PATIENCE, || {
        let (head, body) = get(gateway, path, Some(token));
        assert!(head.contains("\r\ncache-control: no-store\r\n"), "{head}");
        if head.starts_with("http/1.1 429 ") {
            assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
            return None;
        }
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let kind = if path.contains(".png") { "image/png" } else { "image/jpeg" };
        assert!(head.contains(&format!("\r\ncontent-type: {kind}\r\n")), "{head}");
        Some(body)
    })
}

fn png(gateway: SocketAddr, token: &str) -> Vec<u8> {
    let file = picture(gateway, "screenshot.png", token);
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    assert_eq!(reader.info().size(), (WIDTH.into(), HEIGHT.into()));
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

/// What the X server itself has.
fn truth(display: &Display) -> Vec<u8> {
    display.picture().concat()
}

#[test]
fn a_screenshot_is_what_the_screen_is_at_that_moment_whether_anybody_looks_on_or_not() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let (gateway, spectator) = (daemon.gateway(), token("spectator", 600));
    // The pointer lies over it, and is not in it.
    let root = display.root();
    display.connection().warp_pointer(x11rb::NONE, root, 0, 0, 0, 0, 60, 60).unwrap();
    for (round, colour) in [0x0012_ab34, 0x00ff_ffff, 0x0080_4020].into_iter().enumerate() {
        display.fill(40, 40, 90, 70, colour);
        assert!(png(gateway, &spectator) == truth(&display), "round {round}, with nobody looking");
    }
    let _viewer = Viewer::connect(gateway, "s1", &spectator).unwrap();
    display.fill(10, 10, 50, 50, 0x0000_00ff);
    assert!(png(gateway, &token("controller", 600)) == truth(&display), "with a viewer");

    let fine = picture(gateway, "screenshot.jpg?quality=100", &spectator);
    let mut decoder = zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(&fine));
    let pixels = decoder.decode().unwrap();
    let worst = pixels.iter().zip(truth(&display)).map(|(is, should)| is.abs_diff(should)).max();
    assert!(pixels.len() == truth(&display).len() && worst < Some(32), "{worst:?}");
    let coarse = picture(gateway, "screenshot.jpg?quality=1", &spectator);
    assert!(coarse.len() < fine.len(), "{} and {} bytes", coarse.len(), fine.len());
}

#[test]
fn a_ticket_is_good_for_one_and_whoever_may_not_look_gets_none() {
    let mut daemon = daemon();
    let gateway = daemon.gateway();
    let spectator = token("spectator", 600);
    let bearer = format!("Bearer {spectator}");
    let (_, answer) = request(gateway, "POST", "/sessions/s1/ticket", &[("Authorization", &bearer)]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let path = format!("screenshot.png?ticket={}", answer["ticket"].as_str().unwrap());
    let status = |path: &str, token: Option<&str>| {
        let (head, body) = get(gateway, path, token);
        (head[9..12].to_owned(), String::from_utf8_lossy(&body).into_owned())
    };
    assert_eq!(status(&path, None).0, "200");
    assert_eq!(status(&path, None).0, "401");
    assert_eq!(status("screenshot.png", Some(&token("automation", 600))).0, "403");
    assert_eq!(status("screenshot.png", Some(&token("operator", 600))).0, "403");
    let (code, problem) = status("screenshot.jpg?quality=0", Some(&spectator));
    assert_eq!((code.as_str(), problem.contains("from 1 to 100")), ("400", true), "{problem}");
}

#[test]
fn pictures_are_taken_one_at_a_time_and_none_while_there_is_no_display() {
    let mut daemon = daemon();
    let (gateway, spectator) = (daemon.gateway(), token("spectator", 600));
    png(gateway, &spectator);
    // Another X server takes a while to come up; until then nobody is shown the last one's picture.
    let xvfb = daemon.service_pid("xvfb");
    send(xvfb, Signal::SIGKILL);
    wait_for("no picture", PATIENCE, || {
        let (head, _) = get(gateway, "screenshot.png", Some(&spectator));
        (head.starts_with("http/1.1 503 ") && head.contains("\r\nretry-after: 1\r\n")).then_some(())
    });
    let after = display_after(&mut daemon, xvfb);
    after.fill(30, 30, 60, 60, 0x00ab_cdef);
    assert!(png(gateway, &spectator) == truth(&after));
}

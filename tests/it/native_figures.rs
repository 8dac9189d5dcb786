//! What viewers of a display that the daemon serves itself are sent, as the daemon's own figures have it.

use serde_json::Value;

use super::support::daemon::Daemon;
use super::support::native::{HEIGHT, PATIENCE, WIDTH, daemon, viewer};
use super::support::wait_for;
use super::support::x::Display;

fn watching(daemon: &Daemon) -> Vec<Value> {
    daemon.control("/v1/status")["sessions"][0]["watching"].as_array().unwrap().clone()
}

/// A line of `/metrics` without labels.
fn metric(daemon: &mut Daemon, name: &str) -> f64 {
    let text = daemon.get("/metrics").1;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::parse);
    line.unwrap_or_else(|| panic!("no {name} in {text}")).unwrap()
}

#[test]
fn a_viewer_s_updates_are_counted_as_it_gets_them_and_it_is_forgotten_when_it_goes() {
    let mut daemon = daemon();
    assert_eq!(watching(&daemon), Vec::<Value>::new());
    // A black screen is no news.
    let display = Display::of(&mut daemon);
    display.fill(0, 0, WIDTH, HEIGHT, 0x0012_ab34);
    let mut viewer = viewer(&mut daemon, "spectator");
    for _ in 0..3 {
        viewer.pixels(0, 0, WIDTH, HEIGHT);
    }
    let seen = &watching(&daemon)[0];
    // Each is four bytes of head, and two rectangles since a piece is no wider than 256 pixels.
    let bytes = 4 + 2 * 12 + 320 * 240 * 4;
    let figures = &seen["figures"];
    assert_eq!((seen["role"].as_str(), seen["viewer"].as_str().map(str::len)), (Some("spectator"), Some(8)));
    assert_eq!((figures["updates"].as_u64(), figures["bytes"].as_u64()), (Some(3), Some(3 * bytes)));
    assert_eq!(figures["rectangles"], serde_json::json!({ "raw": 6 }));
    assert!(figures["encode_ms"].as_f64() > Some(0.0), "{seen}");
    // It does not say what it has drawn, and was sent nothing with loss.
    for unknown in ["round_trip_ms", "in_flight_bytes", "window_bytes", "quality"] {
        assert!(figures[unknown].is_null(), "{unknown} in {seen}");
    }
    assert!(metric(&mut daemon, "valetd_vnc_updates_total") >= 3.0);
    let session = daemon.control("/v1/sessions/s1");
    assert_eq!(session["watching"][0]["figures"]["updates"], 3, "{session}");
    assert!(session["screen"]["frames"].as_u64() >= Some(1), "{session}");
    drop(viewer);
    wait_for("nobody to watch", PATIENCE, || watching(&daemon).is_empty().then_some(()));
}

#[test]
fn what_a_viewer_says_that_it_has_drawn_gives_its_round_trip_and_empties_its_queue() {
    let mut daemon = daemon();
    let mut viewer = viewer(&mut daemon, "controller");
    // Raw and fences; then all of the screen.
    viewer.send(&[2, 0, 0, 2, 0, 0, 0, 0, 0xff, 0xff, 0xfe, 0xc8, 3, 0, 0, 0, 0, 0, 1, 64, 0, 240]);
    assert_eq!(viewer.read(9), [248, 0, 0, 0, 0x80, 0, 0, 0, 0], "the server knows fences");
    let head = viewer.read(4);
    for _ in 0..head[3] {
        let rect = viewer.read(12);
        let side = |at: usize| usize::from(u16::from_be_bytes([rect[at], rect[at + 1]]));
        viewer.read(side(4) * side(6) * 4);
    }
    let fence = viewer.read(9);
    assert_eq!((fence[0], fence[8]), (248, 4));
    let number = viewer.read(4);
    let figures = watching(&daemon)[0]["figures"].clone();
    assert_eq!(
        (figures["updates"].as_u64(), figures["in_flight_bytes"] == figures["bytes"]),
        (Some(0), true)
    );
    let in_flight = metric(&mut daemon, "valetd_vnc_in_flight_bytes");
    assert_eq!(Some(in_flight), figures["bytes"].as_f64());
    viewer.send(&[&[248, 0, 0, 0, 0, 0, 0, 1, 4][..], &number].concat());
    let figures = wait_for("the update to be drawn", PATIENCE, || {
        let figures = watching(&daemon)[0]["figures"].clone();
        (figures["updates"] == 1).then_some(figures)
    });
    assert_eq!(figures["in_flight_bytes"], 0, "{figures}");
    assert!(figures["round_trip_ms"].as_f64() > Some(0.0), "{figures}");
    assert!(figures["window_bytes"].as_u64() >= Some(4096), "{figures}");
    assert!(metric(&mut daemon, "valetd_vnc_round_trip_seconds_count") >= 1.0);
}

#[test]
fn nothing_is_looked_at_while_nobody_looks() {
    let mut daemon = daemon();
    let display = Display::of(&mut daemon);
    let mut first = viewer(&mut daemon, "spectator");
    first.pixels(0, 0, WIDTH, HEIGHT);
    drop(first);
    wait_for("nobody to watch", PATIENCE, || watching(&daemon).is_empty().then_some(()));
    let before = metric(&mut daemon, "valetd_display_capture_seconds_count");
    assert!(before >= 1.0, "{before}");
    for colour in 0..20 {
        display.fill(0, 0, 100, 100, colour * 1000);
    }
    // Once somebody looks again, the display is looked at once more, and was not meanwhile.
    let mut second = viewer(&mut daemon, "spectator");
    second.pixels(0, 0, WIDTH, HEIGHT);
    let after = metric(&mut daemon, "valetd_display_capture_seconds_count");
    assert!(after > before && after <= before + 3.0, "{before}, then {after}");
}

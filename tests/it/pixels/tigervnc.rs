//! TigerVNC's viewer on a display of its own.

use std::io::Read as _;
use std::process::Stdio;

use x11rb::protocol::xproto::{ConnectionExt as _, MapState};

use super::bridge::Bridge;
use super::stage::{HEIGHT, PATIENCE, Picture, Running, Stage, WIDTH, command};
use crate::support::wait_for;
use crate::support::x::Display;

/// Where the viewer has its window.
struct Desk {
    display: Display,
    name: String,
    home: tempfile::TempDir,
    _server: Running,
}

impl Desk {
    fn start() -> Self {
        // The abstract socket stays on: without it, -displayfd takes the number of a display that is in use.
        let mut xvfb = command("Xvfb");
        xvfb.args(["-noreset", "-screen", "0", "800x600x24", "-nolisten", "tcp", "-displayfd", "1"]);
        let mut server = Running::start(xvfb.stdout(Stdio::piped()));
        let (mut number, mut byte) = (String::new(), [0]);
        let out = server.0.stdout.as_mut().unwrap();
        while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            number.push(char::from(byte[0]));
        }
        // It has no cookies, and asks for none.
        let display = Display::open(number.parse().unwrap(), &[0; 16]);
        Self { display, name: format!(":{number}"), home: tempfile::tempdir().unwrap(), _server: server }
    }

    fn view(&self, bridge: &Bridge, options: &[&str]) -> Running {
        let mut viewer = command("xtigervncviewer");
        viewer.env("DISPLAY", &self.name).env("HOME", self.home.path()).env_remove("XAUTHORITY");
        // No change of format or size of its own, nothing painted over the picture, no dialogs.
        viewer.args(["-AutoSelect=0", "-RemoteResize=0", "-MenuKey=", "-ViewOnly=1"]);
        viewer.args(["-SecurityTypes=None", "-AlertOnFatalError=0", "-ReconnectOnError=0"]).args(options);
        let address = format!("127.0.0.1::{}", bridge.address.port());
        Running::start(viewer.arg(address).stdout(Stdio::null()))
    }

    /// The viewer's window of the screen's own size.
    fn window(&self) -> Option<u32> {
        let x = self.display.connection();
        let mut windows = vec![self.display.root()];
        while let Some(window) = windows.pop() {
            // A window may go while it is looked at.
            let (Ok(size), Ok(attributes)) =
                (x.get_geometry(window).unwrap().reply(), x.get_window_attributes(window).unwrap().reply())
            else {
                continue;
            };
            if (size.width, size.height) == (WIDTH, HEIGHT) && attributes.map_state == MapState::VIEWABLE {
                return Some(window);
            }
            if let Ok(tree) = x.query_tree(window).unwrap().reply() {
                windows.extend(tree.children);
            }
        }
        None
    }

    fn picture(&self) -> Picture {
        self.window().and_then(|window| self.display.picture_of(window, (WIDTH, HEIGHT))).unwrap_or_default()
    }
}

#[test]
fn tigervncs_viewer_shows_the_very_pixels_in_every_encoding() {
    let (stage, desk) = (Stage::start(), Desk::start());
    let lossless = ["-PreferredEncoding=Tight", "-NoJPEG=1"];
    let cases: [(&[&str], &[&str]); 5] = [
        (&["-PreferredEncoding=Raw", "-NoJPEG=1"], &["raw"]),
        (&["-PreferredEncoding=Hextile", "-NoJPEG=1"], &["hextile"]),
        (&["-PreferredEncoding=ZRLE", "-NoJPEG=1"], &["zrle"]),
        (&lossless, &["fill", "mono", "indexed", "full"]),
        (&["-PreferredEncoding=Tight", "-QualityLevel=6"], &["jpeg"]),
    ];
    for (options, expected) in cases {
        let bridge = Bridge::start(&stage);
        let viewer = desk.view(&bridge, options);
        wait_for("the viewer's window", PATIENCE, || desk.window());
        let painter = stage.draw();
        stage.agrees_on_all(&painter, &format!("TigerVNC's viewer with {options:?}"), || desk.picture());
        stage.agrees(&format!("what was sent for {options:?}"), || bridge.picture());
        let kinds = bridge.kinds();
        if expected == ["jpeg"] {
            assert!(kinds.contains(&"jpeg") && kinds.contains(&"full"), "{kinds:?}");
        } else {
            assert_eq!(kinds, expected, "{options:?}");
        }
        drop(viewer);
        wait_for("the viewer to be gone", PATIENCE, || desk.window().is_none().then_some(()));
    }
}

/// No part of a colour is off by more than half a step of 8 red and green ones and 4 blue ones, and the viewer's own rounding.
fn is_near(seen: &Picture, truth: &Picture) -> bool {
    let near = |seen: &[u8; 3], truth: &[u8; 3]| {
        seen.iter()
            .zip(truth)
            .zip([7, 7, 3])
            .all(|((seen, truth), max)| seen.abs_diff(*truth) <= 255 / max / 2 + 2)
    };
    seen.len() == truth.len() && seen.iter().zip(truth).all(|(seen, truth)| near(seen, truth))
}

#[test]
fn tigervncs_viewer_shows_the_nearest_of_256_colours_in_every_encoding() {
    let (stage, desk) = (Stage::start(), Desk::start());
    for (encoding, expected) in [("Raw", "raw"), ("Hextile", "hextile"), ("ZRLE", "zrle"), ("Tight", "full")]
    {
        let bridge = Bridge::start(&stage);
        let options = [&format!("-PreferredEncoding={encoding}"), "-FullColor=0", "-LowColorLevel=2"];
        let viewer = desk.view(&bridge, &options);
        wait_for("the viewer's window", PATIENCE, || desk.window());
        stage.draw();
        let truth = stage.truth();
        wait_for(encoding, PATIENCE, || is_near(&desk.picture(), &truth).then_some(()));
        assert!(desk.picture() != truth, "256 colours are not all");
        assert!(bridge.kinds().contains(&expected), "{encoding}: {:?}", bridge.kinds());
        drop(viewer);
        wait_for("the viewer to be gone", PATIENCE, || desk.window().is_none().then_some(()));
    }
}

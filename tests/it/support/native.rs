//! A daemon that serves its display itself, small and without a browser, and what is the same with all viewers of it.

use std::time::Duration;

use super::daemon::Daemon;
use super::tokens::token;
use super::viewer::Viewer;
use super::wait_for;
use super::x::Display;

/// For what a viewer or a program of the display waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const WIDTH: u16 = 320;
pub(crate) const HEIGHT: u16 = 240;

/// A display of `WIDTH` by `HEIGHT` without a browser.
pub(crate) fn daemon() -> Daemon {
    daemon_of((WIDTH, HEIGHT))
}

/// One of another size.
pub(crate) fn daemon_of((width, height): (u16, u16)) -> Daemon {
    let extra =
        format!("[display]\nrfb = \"native\"\nsize = \"{width}x{height}\"\n[browser]\nenabled = false");
    let mut daemon = Daemon::start(&extra);
    daemon.wait_ready();
    daemon
}

pub(crate) fn viewer(daemon: &mut Daemon, role: &str) -> Viewer {
    Viewer::connect(daemon.gateway(), "s1", &token(role, 600)).unwrap()
}

/// The display that there is once the X server `before` has been followed by another one.
pub(crate) fn display_after(daemon: &mut Daemon, before: i32) -> Display {
    wait_for("another X server", PATIENCE, || {
        let session = &daemon.control("/v1/status")["sessions"][0];
        let is_other = session["components"][0]["pid"].as_i64()? != i64::from(before);
        (is_other && session["state"] == "ready").then_some(())
    });
    Display::of(daemon)
}

/// Paints what `vnc-rs` gives for a rectangle, in BGRX, onto red, green and blue of a screen that is `width` wide.
pub(crate) fn paint(canvas: &mut [[u8; 3]], width: u16, to: vnc::Rect, data: &[u8]) {
    for (index, pixel) in data.chunks_exact(4).enumerate() {
        let (column, row) = (index % usize::from(to.width), index / usize::from(to.width));
        let at = (usize::from(to.y) + row) * usize::from(width) + usize::from(to.x) + column;
        canvas[at] = [pixel[2], pixel[1], pixel[0]];
    }
}

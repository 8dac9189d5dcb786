//! A daemon with its display, and how pictures are compared.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::painter::Painter;
use crate::support::daemon::Daemon;
use crate::support::native::daemon_of;
use crate::support::tokens::token;
use crate::support::x::Display;

/// For anything to happen, on a machine with much else to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// No multiple of any tile's edge.
pub(super) const WIDTH: u16 = 390;
pub(super) const HEIGHT: u16 = 290;

pub(super) type Picture = Vec<[u8; 3]>;

pub(super) struct Stage {
    pub(super) display: Display,
    pub(super) gateway: SocketAddr,
    pub(super) token: String,
    _daemon: Daemon,
}

impl Stage {
    pub(super) fn start() -> Self {
        let mut daemon = daemon_of((WIDTH, HEIGHT));
        let (display, gateway) = (Display::of(&mut daemon), daemon.gateway());
        Self { display, gateway, token: token("spectator", 3600), _daemon: daemon }
    }

    /// What the X server says its screen shows.
    pub(super) fn truth(&self) -> Picture {
        self.display.picture()
    }

    /// Draws for as long as is configured.
    pub(super) fn draw(&self) -> Painter<'_> {
        let seconds = std::env::var("PIXELS_SECONDS").map_or(1, |seconds| seconds.parse().unwrap());
        let mut painter = Painter::new(&self.display);
        painter.run(Duration::from_secs(seconds));
        painter
    }

    /// Waits until `seen` gives what was drawn, and then one kind of content after the other: none may be missing.
    pub(super) fn agrees_on_all(&self, painter: &Painter<'_>, what: &str, mut seen: impl FnMut() -> Picture) {
        self.agrees(what, &mut seen);
        for colours in [1, 2, 9, 5000] {
            painter.patch(colours);
            self.agrees(what, &mut seen);
        }
    }

    /// Waits until `seen`, asked again and again, gives what is there.
    pub(super) fn agrees(&self, what: &str, mut seen: impl FnMut() -> Picture) {
        let (truth, end) = (self.truth(), Instant::now() + PATIENCE);
        loop {
            let seen = seen();
            if seen == truth {
                return;
            }
            assert!(Instant::now() < end, "{what} {}", difference(&seen, &truth));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// Where two pictures are not the same.
fn difference(seen: &Picture, truth: &Picture) -> String {
    let wrong: Vec<usize> = (0..truth.len()).filter(|at| seen.get(*at) != truth.get(*at)).collect();
    let places = wrong.iter().take(3).map(|at| {
        let (x, y) = (at % usize::from(WIDTH), at / usize::from(WIDTH));
        format!("({x}, {y}): {:?} for {:?}", seen.get(*at), truth[*at])
    });
    format!("shows {} wrong pixels of {}: {}", wrong.len(), seen.len(), places.collect::<Vec<_>>().join(", "))
}

/// A program that ends with the test.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start their viewers themselves")]
pub(super) fn command(program: &str) -> Command {
    Command::new(program)
}

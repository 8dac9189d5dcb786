//! A session as its neighbours see it.

use std::path::PathBuf;

use crate::support::daemon::Daemon;

/// Uids of the two sessions; those of no other test, since what is left behind is looked for by uid on the whole machine.
pub(super) const UIDS: [u32; 2] = [27_400, 27_410];

/// Where a session is, and what of it can be attacked.
pub(super) struct Seat {
    pub(super) uid: u32,
    pub(super) xvfb: i32,
    pub(super) browser: i32,
    pub(super) display: u32,
    pub(super) devtools: u16,
    pub(super) runtime: PathBuf,
    pub(super) profile: PathBuf,
}

/// Two sessions. For now of two daemons, since one daemon has one.
pub(super) fn two(extra: &str) -> ([Daemon; 2], [Seat; 2]) {
    let of = |first_uid: u32| {
        let text = format!("[host]\nfirst_uid = {first_uid}\nuid_count = 10\n{extra}");
        let mut daemon = Daemon::start(&text);
        daemon.wait_ready();
        let seat = seat(&mut daemon, first_uid);
        (daemon, seat)
    };
    let ((first, a), (second, b)) = (of(UIDS[0]), of(UIDS[1]));
    ([first, second], [a, b])
}

/// The session of this daemon, whose uid is the first of its range.
pub(super) fn seat(daemon: &mut Daemon, uid: u32) -> Seat {
    let browser = daemon.service_pid("browser");
    let status = daemon.control("/v1/status");
    let display = status["sessions"][0]["display"].as_str().unwrap()[1..].parse().unwrap();
    Seat {
        uid,
        xvfb: daemon.service_pid("xvfb"),
        browser,
        display,
        devtools: devtools(browser),
        runtime: daemon.path("run/s0"),
        profile: daemon.path("state/profiles/s1"),
    }
}

fn devtools(browser: i32) -> u16 {
    let line = std::fs::read(format!("/proc/{browser}/cmdline")).unwrap();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let rest = line.split_once("--remote-debugging-port=").unwrap().1;
    rest.split(' ').next().unwrap().parse().unwrap()
}

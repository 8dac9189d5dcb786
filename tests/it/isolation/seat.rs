//! A session as its neighbours see it.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::host_api::HostApi;

/// Uids of the two sessions; those of no other test, since what is left behind is looked for by uid on the whole machine.
pub(super) const UIDS: [u32; 2] = [27_400, 27_401];

/// Where a session is, and what of it can be attacked.
pub(crate) struct Seat {
    pub(crate) uid: u32,
    pub(crate) xvfb: i32,
    pub(crate) browser: i32,
    pub(crate) display: u32,
    pub(crate) devtools: u16,
    pub(crate) runtime: PathBuf,
    pub(crate) profile: PathBuf,
}

/// Two sessions of one daemon, `s1` and `s2`, each with a profile of its own name.
pub(super) fn two(extra: &str) -> (Daemon, [Seat; 2]) {
    let config = format!(
        "[host]\nfirst_uid = {}\nuid_count = 10\n[session]\nautostart = false\n[sessions]\nmax = 2\n{extra}",
        UIDS[0]
    );
    let mut daemon = Daemon::start(&config);
    daemon.api();
    let api = HostApi::on(daemon.path("control.sock"));
    // One after the other, so that the first gets the first uid.
    for id in ["s1", "s2"] {
        api.create_with(&json!({ "session_id": id, "user_id": "u1", "profile": id }));
    }
    let seats = [0, 1].map(|slot| {
        let seat = seat(&daemon, &format!("s{}", slot + 1), slot);
        assert_eq!(seat.uid, UIDS[slot]);
        seat
    });
    (daemon, seats)
}

/// The session `id` in a place of this daemon.
pub(super) fn seat(daemon: &Daemon, id: &str, slot: usize) -> Seat {
    let api = HostApi::on(daemon.path("control.sock"));
    let session = api.session(id);
    let xvfb = api.pid(id, "xvfb").unwrap();
    let browser = api.pid(id, "browser").unwrap();
    Seat {
        uid: std::fs::metadata(format!("/proc/{xvfb}")).unwrap().uid(),
        xvfb,
        browser,
        display: session["display"].as_str().unwrap()[1..].parse().unwrap(),
        devtools: devtools(browser),
        runtime: daemon.path(format!("run/s{slot}")),
        profile: daemon.path(format!("state/profiles/{id}")),
    }
}

/// The port that a browser was told to listen on.
pub(crate) fn devtools(browser: i32) -> u16 {
    let line = std::fs::read(format!("/proc/{browser}/cmdline")).unwrap();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let rest = line.split_once("--remote-debugging-port=").unwrap().1;
    rest.split(' ').next().unwrap().parse().unwrap()
}

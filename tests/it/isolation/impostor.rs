//! A process of one session that listens where the browser of another is about to.

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::Signal;

use super::attacker::{Attempt, ENOUGH, HEARD_NOTHING, attempt_in};
use super::seat::{devtools, two};
use crate::support::automation::Automation;
use crate::support::daemon::{READY, send};
use crate::support::host_api::HostApi;
use crate::support::tokens::token;
use crate::support::viewer::request;
use crate::support::wait_for;

/// A browser that starts for as long as a file is there. Where sessions see it: their `/tmp` is their own.
fn slow_browser(dir: &Path) -> String {
    let program = dir.join("browser");
    let script = format!(
        "#!/bin/sh\nwhile [ -e {} ]; do sleep 0.02; done\nexec /usr/bin/chromium \"$@\"\n",
        dir.join("hold").display()
    );
    std::fs::write(&program, script).unwrap();
    for path in [dir, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("[browser]\nprogram = \"{}\"\n", program.display())
}

#[test]
fn nobody_is_taken_for_another_sessions_browser() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let (mut daemon, [victim, attacker]) = two(&slow_browser(dir.path()));
    let gateway = daemon.gateway();
    let bearer = format!("Bearer {}", token("automation", 600));
    let headers = [("Authorization", bearer.as_str())];
    let (socket, list) = ("/sessions/s1/cdp", "/sessions/s1/cdp/json/list");
    let ask = || {
        let upgrade = Automation::connect(gateway, socket, &headers).map(drop);
        (upgrade, request(gateway, "GET", list, &headers).0)
    };
    assert_eq!(ask(), (Ok(()), 200), "control: the browser itself is reached");

    let hold = dir.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    send(victim.browser, Signal::SIGKILL);
    let api = HostApi::on(daemon.path("control.sock"));
    let starting = wait_for("the browser to be started again", READY, || {
        api.pid("s1", "browser").filter(|pid| *pid != victim.browser)
    });
    let port = devtools(starting);
    let stranger = format!("DevTools port {port} is served by uid {}", attacker.uid);
    std::thread::scope(|scope| {
        let impostor = std::thread::Builder::new().name("impostor".into());
        let outcome =
            impostor.spawn_scoped(scope, || attempt_in(&attacker, &[Attempt::Impersonate(port)])).unwrap();
        wait_for("the impostor", READY, || TcpStream::connect(("127.0.0.1", port)).ok());
        for _ in 0..10 {
            assert_eq!(ask(), (Err(503), 503));
        }
        daemon.wait_log("the probe to notice", |record| {
            record["message"] == "somebody else listens on a browser's DevTools port"
                && record["error"].as_str().is_some_and(|error| error.contains(&stranger))
        });
        let mut control = TcpStream::connect(("127.0.0.1", port)).unwrap();
        control.write_all(ENOUGH).unwrap();
        assert_eq!(outcome.join().unwrap(), [Some(HEARD_NOTHING.to_owned())]);
    });
    std::fs::remove_file(&hold).unwrap();
    wait_for("the browser", READY, || (ask() == (Ok(()), 200)).then_some(()));
}

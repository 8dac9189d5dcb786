//! A daemon that is there for one session, and ends with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use valetd::control_plane::stand_in::{Conduct, StandIn};

use crate::support::control_plane::Receiver;
use crate::support::daemon::{Daemon, Home};
use crate::support::host_api::HostApi;
use crate::support::tokens::token;
use crate::support::viewer::{Viewer, get};
use crate::support::{leaks, wait_for};

const ALONE: &str = "[session]\nexit_when_ended = true\n[display]\nrfb = \"native\"\n";
const NO_BROWSER: &str = "[browser]\nenabled = false\n";
const PATIENCE: Duration = Duration::from_secs(60);
/// What the control plane has of any other drain, and a little more.
const USUAL_SHARE: Duration = Duration::from_secs(4);

fn cause(daemon: &Daemon) -> Value {
    let log = daemon.log();
    let ended = |record: &&Value| record["message"] == "session ended" && record["session"] == "s1";
    log.iter().find(ended).unwrap_or_else(|| panic!("{}", daemon.log_text()))["cause"].clone()
}

#[test]
fn the_daemon_takes_no_other_session_and_ends_when_its_own_is_deleted_and_told() {
    let hears = Arc::new(AtomicBool::new(false));
    let is_heard = Arc::clone(&hears);
    let receiver = Receiver::start(StandIn::failing(Some("token".to_owned()), move |report| {
        let is_deaf = report.report == "events" && !is_heard.load(Ordering::Relaxed);
        if is_deaf { Conduct::Status(503, "about:blank") } else { Conduct::Well }
    }));
    let home = Home::new();
    home.configure(&format!("{ALONE}{}", receiver.config(home.0.path(), "token")));
    let mut daemon = home.start();
    daemon.wait_ready();
    let (api, gateway) = (HostApi::on(daemon.path("control.sock")), daemon.gateway());
    let (status, problem) = api.ask("POST", "/v1/sessions", &json!({ "session_id": "b", "user_id": "u" }));
    assert_eq!((status, &problem["type"]), (503, &json!("urn:valetd:problem:single-session")), "{problem}");
    assert_eq!(problem["detail"], "this host is there for session s1 alone");
    let capacity = api.ask("GET", "/v1/capacity", &Value::Null).1;
    assert_eq!(capacity["capacity"], 1, "{capacity}");

    let mut viewer = Viewer::connect(gateway, "s1", &token("controller", 60)).unwrap();
    assert_eq!(viewer.pixels(0, 0, 4, 4).len(), 16);
    api.end("s1");
    let ended = Instant::now();
    assert_eq!(
        viewer.close_code(PATIENCE),
        4410,
        "its viewers hear that it has ended, not that the host goes"
    );
    // The control plane takes no events yet, and the daemon stays until it does: longer than another would.
    let address = daemon.api();
    let health = wait_for("the host to drain", PATIENCE, || {
        let health: Value = serde_json::from_str(&get(address, "/health").1).ok()?;
        (health["draining"] == true && health["sessions"]["count"] == 0).then_some(health)
    });
    wait_for("a drain's usual share", PATIENCE, || (ended.elapsed() > USUAL_SHARE).then_some(()));
    assert_eq!(get(address, "/readyz").0, 503, "{health}");
    let again = api.ask("POST", "/v1/sessions", &json!({ "session_id": "s1", "user_id": "u" }));
    assert_eq!(again.0, 503, "{}", again.1);
    assert!(!receiver.stand_in.book().events.iter().any(|event| event["kind"] == "session.ended"));
    hears.store(true, Ordering::Relaxed);
    let status = daemon.wait_exit(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", daemon.log_text());
    let told: Vec<_> = receiver.stand_in.book().events.iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(told.last(), Some(&json!("session.ended")), "{told:?}");
    assert_eq!(cause(&daemon), "requested");
    assert_eq!(leaks::processes(&daemon.dir), []);

    // The next one has the same id, and a history in which that has ended.
    let mut next = home.start();
    next.wait_ready();
    next.stop(PATIENCE);
    assert_eq!(cause(&next), "host_draining", "told to stop, it ends as ever");
}

#[test]
fn its_session_ends_by_its_limits_and_that_is_a_clean_end() {
    for (limit, ended) in [("max_duration", "expired"), ("idle_timeout", "idle")] {
        let mut daemon = Daemon::start(&format!("{ALONE}{NO_BROWSER}[sessions]\n{limit} = \"2s\"\n"));
        let status = daemon.wait_exit(PATIENCE);
        assert_eq!((status.code(), cause(&daemon)), (Some(0), json!(ended)), "{}", daemon.log_text());
        assert_eq!(leaks::processes(&daemon.dir), []);
    }
}

#[test]
fn a_session_that_does_not_start_shows_in_the_exit_code() {
    let browser = "[browser]\nprogram = \"/bin/false\"\n[sessions]\nstart_deadline = \"1s\"\n";
    let mut daemon = Daemon::start(&format!("{ALONE}{browser}"));
    let status = daemon.wait_exit(PATIENCE);
    assert_eq!((status.code(), cause(&daemon)), (Some(70), json!("start_failed")), "{}", daemon.log_text());
    assert!(daemon.log_text().contains("session s1 failed (start_failed): browser"), "{}", daemon.log_text());
    assert_eq!(leaks::processes(&daemon.dir), []);

    // One that cannot even be put together: something else is where its profile belongs.
    let home = Home::new();
    home.configure(&format!("{ALONE}[browser]\nprogram = \"/bin/false\"\n"));
    let profiles = home.0.path().join("state/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("s1"), "").unwrap();
    let mut daemon = home.start();
    assert_eq!(daemon.wait_exit(PATIENCE).code(), Some(70), "{}", daemon.log_text());
    assert!(daemon.log_text().contains("cannot start session s1"), "{}", daemon.log_text());
}

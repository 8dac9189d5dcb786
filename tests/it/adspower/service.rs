//! The app itself: found, asked, started again.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::stage::{KEY, PATIENCE, Stage, free_port, is_gone, page, wait_gone};
use crate::faults_host::{in_own_mounts, own_mount};
use crate::support::daemon::send;
use crate::support::viewer::get;
use crate::support::{leaks, wait_for};

#[test]
fn f19_the_api_is_found_though_its_port_was_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut stage = Stage::on_port(port, "");
    let app = stage.app();
    assert_ne!(app.port, port);
    let (head, body) = app.exchange("GET", "/status", &Value::Null).unwrap();
    assert!(head.contains("server: valetd-adspower-stand-in (not AdsPower)"), "{head}");
    assert!(body.contains(r#""stand_in":"valetd""#), "{body}");
    let metrics = get(stage.daemon.api(), "/metrics").1;
    assert!(metrics.contains("valetd_service_up{service=\"adspower\"} 1\n"), "{metrics}");
    // Nobody was shown the key but AdsPower.
    taken.set_nonblocking(true).unwrap();
    let error = taken.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "somebody connected to a stranger");
    assert_eq!(stage.daemon.health()["status"], "ok");
    let status = stage.daemon.control("/v1/status");
    assert!(!status.to_string().contains(KEY));
    // What runs, runs as AdsPower and not as the daemon.
    if nix::unistd::geteuid().is_root() {
        let pid = stage.daemon.service_pid("adspower");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Uid:\t19999\t19999\t19999\t19999\n"), "{status}");
    }
    stage.finish();
}

#[test]
fn f24_it_is_readopted_within_5_s_when_it_starts_itself_anew_and_open_sessions_go_on() {
    let mut stage = Stage::new("");
    stage.create("a", "p1", &page(0, 0, 255));
    let (app, before) = (stage.app(), stage.daemon.component("adspower"));
    let browser = stage.api.pid("a", "browser").unwrap();
    // Opened by nobody's session: found when the API moves.
    let opened = app.ask("POST", "/api/v2/browser-profile/start", &json!({ "profile_id": "p3" }));
    assert_eq!(opened["code"], 0, "{opened}");
    let stray = stage.browser_of("p3");
    app.behave("respawn-elsewhere");
    let since = Instant::now();
    let after = wait_for("the API elsewhere", PATIENCE, || {
        let component = stage.daemon.component("adspower");
        // Until the daemon has seen the end, all is as it was.
        let moved = stage.app() != app && component["pid"] != before["pid"];
        (moved && component["status"] == "ok").then_some(component)
    });
    let took = since.elapsed();
    // The daemon's 5 s begin with the end of the first process, which comes a moment after the answer.
    assert!(took < Duration::from_secs(7), "{took:?}");
    println!("readopted after {took:?}");
    assert!(before["pid"].is_u64() && after["pid"].is_null(), "{before} {after}");
    assert_eq!(after["starts"], before["starts"], "no new start");
    stage.daemon.wait_log("the news", |record| record["message"] == "goes on without its first process");
    let session = stage.api.session("a");
    assert_eq!((&session["state"], stage.api.pid("a", "browser")), (&json!("ready"), Some(browser)));
    stage.create("b", "p2", &page(255, 0, 0));
    wait_gone(stray);
    let metrics = get(stage.daemon.api(), "/metrics").1;
    assert!(metrics.contains("valetd_adspower_strays_total 1\n"), "{metrics}");
    assert!(stage.app().is_open("p1") && stage.app().is_open("p2") && !stage.app().is_open("p3"));
    stage.finish();
}

#[test]
fn f21_one_that_hangs_is_started_again_and_a_session_that_ends_meanwhile_does_not_wait_for_it() {
    let mut stage = Stage::new("");
    stage.create("a", "p1", &page(0, 0, 255));
    let browser = stage.api.pid("a", "browser").unwrap();
    stage.app().behave("hang");
    let asked = Instant::now();
    stage.api.end("a");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert!(is_gone(browser), "it was ended without AdsPower");
    // Nor does one that is asked for.
    let asked = Instant::now();
    let request = json!({ "session_id": "b", "user_id": "u1", "kind": "adspower", "profile": "p1" });
    assert_eq!(stage.api.ask("POST", "/v1/sessions", &request).0, 201);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let failing = stage.wait_app("failing");
    assert!(failing["reason"].is_string(), "{failing}");
    wait_for("another start", PATIENCE, || {
        let component = stage.daemon.component("adspower");
        (component["status"] == "ok" && component["starts"] == 2).then_some(())
    });
    stage.wait_session("b", "ready");
    stage.finish();
}

#[test]
fn its_browsers_go_with_it_when_it_is_killed_and_come_back_after_it() {
    let mut stage = Stage::new("");
    stage.create("a", "p1", &page(0, 0, 255));
    let browser = stage.api.pid("a", "browser").unwrap();
    // With the whole of it: what is left would be taken for a new start of its own.
    let app = stage.daemon.service_pid("adspower");
    send(app, Signal::SIGKILL);
    let degraded = wait_for("the session's news", PATIENCE, || {
        let part = stage.part("a", "browser");
        (part["status"] == "failing").then_some(part)
    });
    assert!(degraded["reason"].is_string(), "{degraded}");
    wait_gone(browser);
    let session = stage.wait_session("a", "ready");
    assert_ne!(stage.api.pid("a", "browser"), Some(browser), "{session}");
    assert_eq!(stage.daemon.component("adspower")["starts"], 2);
    stage.finish();
}

#[test]
fn f45_a_killed_daemon_leaves_nothing_of_it_and_the_next_one_begins_cleanly() {
    let mut stage = Stage::new("");
    stage.create("a", "p1", &page(0, 0, 255));
    stage.daemon.signal(Signal::SIGKILL);
    stage.daemon.wait_exit(PATIENCE);
    wait_for("the keeper's work", PATIENCE, || leaks::processes(&stage.daemon.dir).is_empty().then_some(()));
    assert!(!stage.daemon.path("run/adspower").exists());
    let stage = stage.again();
    assert!(!stage.app().is_open("p1"));
    stage.create("a", "p1", &page(0, 0, 255));
    stage.finish();
}

#[test]
fn f23_one_that_answers_with_pages_or_halves_is_said_to_fail_and_started_again() {
    let mut stage = Stage::new("");
    for (starts, how) in [(2, "html"), (3, "truncated")] {
        stage.app().behave(how);
        let failing = stage.wait_app("failing");
        assert_eq!(failing["reason"], "AdsPower's answer to GET /status is no JSON", "{how}");
        wait_for("another start", PATIENCE, || {
            let component = stage.daemon.component("adspower");
            (component["status"] == "ok" && component["starts"] == starts).then_some(())
        });
    }
    stage.finish();
}

#[test]
fn one_that_is_older_than_it_may_be_is_not_started_until_it_is_not() {
    in_own_mounts(|| {
        let packages = tempfile::tempdir().unwrap();
        let says = |version: &str| {
            let text =
                format!("Package: adspower-global\nStatus: install ok installed\nVersion: {version}\n");
            std::fs::write(packages.path().join("status"), text).unwrap();
        };
        says("7.9.30");
        let mut stage = Stage::prepared(free_port(), "minimum_version = \"7.12\"", |program| {
            std::fs::create_dir(packages.path().join("info")).unwrap();
            let list = packages.path().join("info/adspower-global.list");
            std::fs::write(list, format!("/.\n{}\n", program.display())).unwrap();
            own_mount(packages.path(), "/var/lib/dpkg");
        });
        let failing = stage.wait_app("failing");
        let reason = failing["reason"].as_str().unwrap();
        assert!(reason.contains("7.9.30") && reason.contains("adspower.minimum_version"), "{reason}");
        assert_eq!(stage.daemon.get("/readyz").0, 200, "the host has other sessions");
        says("7.12.29");
        stage.wait_app("ok");
        stage.finish();
    });
}

#[test]
fn profiles_made_through_the_api_stay_and_an_old_app_opens_them_as_well() {
    let mut stage = Stage::new("");
    let made = stage.app().ask(
        "POST",
        "/api/v2/browser-profile/create",
        &json!({ "group_id": "0", "name": "kept", "username": "u" }),
    );
    let id = made["data"]["profile_id"].as_str().unwrap().to_owned();
    stage.app().behave("only-v1");
    stage.create("a", &id, &page(0, 0, 255));
    stage.api.end("a");
    assert!(leaks::processes(&stage.profile(&id)).is_empty());
    let metrics = get(stage.daemon.api(), "/metrics").1;
    assert!(metrics.contains("valetd_adspower_opens_total{outcome=\"ok\"} 1\n"), "{metrics}");
    stage.daemon.stop(PATIENCE);
    let stage = stage.again();
    let listed = stage.app().ask("GET", "/api/v1/user/list?page_size=100", &Value::Null);
    let listed = listed["data"]["list"].as_array().unwrap();
    let kept = listed.iter().find(|profile| profile["user_id"] == id.as_str()).unwrap();
    assert_eq!((&kept["name"], listed.len()), (&json!("kept"), 5), "{kept}");
    stage.finish();
}

//! Sessions on the whole daemon: what they share, what they leave, and what becomes of them when something dies.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::automation::Automation;
use crate::support::daemon::{Daemon, Home, send};
use crate::support::host_api::HostApi;
use crate::support::tokens::{now, sign};
use crate::support::viewer::{Viewer, get};
use crate::support::{leaks, wait_for};

const ON_REQUEST: &str = "[session]\nautostart = false\n[sessions]\nmax = 3";
const PATIENCE: Duration = Duration::from_secs(60);

fn api_of(daemon: &mut Daemon) -> HostApi {
    daemon.api();
    HostApi::on(daemon.path("control.sock"))
}

fn token(session: &str, user: &str, role: &str) -> String {
    sign(&json!({ "session_id": session, "user_id": user, "role": role, "exp": now() + 600 }))
}

#[test]
fn f17_a_profile_is_lent_to_one_session_at_a_time_and_goes_to_the_next_under_another_uid() {
    let mut daemon = Daemon::start(ON_REQUEST);
    let api = api_of(&mut daemon);
    let request = |id: &str| json!({ "session_id": id, "user_id": "u1", "profile": "lent" });
    // Both at once: exactly one gets it.
    let (first, second) = std::thread::scope(|scope| {
        let ask = |id| api.ask("POST", "/v1/sessions?wait=ready&timeout=60s", &request(id));
        let first = scope.spawn(move || ask("a"));
        let second = ask("b");
        (first.join().unwrap(), second)
    });
    let mut statuses = [first.0, second.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{first:?} {second:?}");
    let (winner, loser) = if first.0 == 201 { ("a", second.1) } else { ("b", first.1) };
    assert_eq!(loser["type"], "urn:valetd:problem:profile-busy", "{loser}");

    let profile = daemon.path("state/profiles/lent");
    std::fs::write(profile.join("kept"), "").unwrap();
    let uid = std::fs::metadata(&profile).unwrap().uid();
    api.end(winner);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(std::fs::metadata(&profile).unwrap().uid(), 0, "nobody's in between");
    }
    api.create_with(&request("c"));
    let next = std::fs::metadata(profile.join("kept")).unwrap().uid();
    if nix::unistd::geteuid().is_root() {
        assert_ne!(next, uid, "a uid rests before it is used again");
    }
    api.end("c");
    daemon.stop(PATIENCE);
    assert_eq!(leaks::processes(&daemon.dir), []);
}

#[test]
fn f43_after_a_crash_the_next_start_tells_what_became_of_sessions_and_begins_cleanly() {
    let home = Home::new();
    home.configure(ON_REQUEST);
    let mut daemon = home.start();
    let api = api_of(&mut daemon);
    let request =
        json!({ "session_id": "lost", "user_id": "u1", "profile": "p", "labels": { "task_id": "t1" } });
    api.create_with(&request);
    wait_for("the session's processes to be written down", PATIENCE, || {
        let metrics = get(daemon.api(), "/metrics").1;
        metrics.lines().any(|line| line == "valetd_store_pending_rows 0").then_some(())
    });
    daemon.signal(Signal::SIGKILL);
    let killed = Instant::now();
    daemon.wait_exit(PATIENCE);

    let mut next = home.start();
    let api = api_of(&mut next);
    let session = wait_for("the next daemon to answer", PATIENCE, || {
        let (status, session) = api.ask("GET", "/v1/sessions/lost", &Value::Null);
        (status == 200).then_some(session)
    });
    println!("F43 daemon SIGKILL: answers again in {} ms", killed.elapsed().as_millis());
    assert_eq!(
        (&session["state"], &session["end"]["cause"]),
        (&json!("stopped"), &json!("host_died")),
        "{session}"
    );
    assert_eq!(session["labels"]["task_id"], "t1");
    // The same id and profile are free again, and nothing of the old session is in their way.
    api.create_with(&request);
    let mains: Vec<_> = leaks::processes(&next.dir)
        .into_iter()
        .filter(|(_pid, command)| command.contains("--user-data-dir") && !command.contains("--type="))
        .collect();
    assert_eq!(mains.len(), 1, "one browser on the profile: {mains:?}");
    next.stop(PATIENCE);
}

#[test]
fn a_spare_becomes_a_session_that_shows_the_page_asked_for_and_another_takes_its_place() {
    let mut daemon = Daemon::start(&format!("{ON_REQUEST}\nspare_browsers = 1"));
    let gateway = daemon.gateway();
    let api = api_of(&mut daemon);
    let spare = || {
        wait_for("a spare browser", PATIENCE, || {
            let capacity = api.ask("GET", "/v1/capacity", &Value::Null).1;
            (capacity["spares"]["browsers"] == 1).then_some(())
        });
    };
    spare();
    let page = "data:text/html,<title>asked-for</title>";
    let asked = Instant::now();
    let session = api.create_with(&json!({ "session_id": "w", "user_id": "u1", "start_url": page }));
    println!("from a spare: ready in {} ms", asked.elapsed().as_millis());
    assert_eq!(session["warmth"], "browser", "{session}");
    // Before anybody was let in: the first navigation of an automation must not be undone by this one.
    // The daemon's log is read by a thread of its own.
    daemon.wait_log("the session's state", |record| {
        record["session"] == "w" && record["message"] == "session state"
    });
    let order: Vec<_> = daemon.log().into_iter().filter(|record| record["session"] == "w").collect();
    let at = |message: &str| order.iter().position(|record| record["message"] == message).unwrap();
    assert!(at("a warm browser set out for its page") < at("session state"), "{order:#?}");
    let bearer = format!("Bearer {}", token("w", "u1", "automation"));
    let mut automation =
        Automation::connect(gateway, "/sessions/w/cdp", &[("authorization", &bearer)]).unwrap();
    wait_for("the page to be shown", PATIENCE, || {
        let targets = automation.call(None, "Target.getTargets", json!({}));
        let infos = targets["result"]["targetInfos"].as_array().unwrap();
        infos.iter().any(|target| target["type"] == "page" && target["title"] == "asked-for").then_some(())
    });
    let mut viewer = Viewer::connect(gateway, "w", &token("w", "u1", "spectator")).unwrap();
    assert_eq!(viewer.pixels(0, 0, 8, 8).len(), 64);
    assert_eq!(
        Viewer::connect(gateway, "w", &token("w", "somebody-else", "spectator")).map(drop).unwrap_err(),
        403,
        "it is its user's"
    );
    spare();
    // A profile of its own is not warm.
    let cold = api.create_with(&json!({ "session_id": "c", "user_id": "u1", "profile": "own" }));
    assert_eq!(cold["warmth"], "cold");
    drop((viewer, automation));
    api.end("w");
    daemon.stop(PATIENCE);
    assert_eq!(leaks::processes(&daemon.dir), []);
}

/// What the next start would need to tell a session's processes from others, for one whose processes are older than it.
#[test]
fn f43_processes_of_a_warm_session_are_written_down() {
    let home = Home::new();
    home.configure(&format!("{ON_REQUEST}\nspare_browsers = 1"));
    let mut daemon = home.start();
    let api = api_of(&mut daemon);
    wait_for("a spare browser", PATIENCE, || {
        (api.ask("GET", "/v1/capacity", &Value::Null).1["spares"]["browsers"] == 1).then_some(())
    });
    let session = api.create_with(&json!({ "session_id": "w", "user_id": "u1" }));
    assert_eq!(session["warmth"], "browser", "{session}");
    let pids: Vec<_> = ["browser", "xvfb"].iter().map(|part| api.pid("w", part).unwrap()).collect();
    wait_for("them to be written down", PATIENCE, || {
        let metrics = get(daemon.api(), "/metrics").1;
        metrics.lines().any(|line| line == "valetd_store_pending_rows 0").then_some(())
    });
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit(PATIENCE);
    let file = rusqlite::Connection::open(daemon.path("state/state.db")).unwrap();
    let mut query = file.prepare("SELECT pid FROM processes WHERE id = 'w' ORDER BY service").unwrap();
    let found: Vec<i32> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, pids);
}

#[test]
fn what_kills_one_session_is_nothing_to_another() {
    let mut daemon = Daemon::start(ON_REQUEST);
    let gateway = daemon.gateway();
    let api = api_of(&mut daemon);
    std::thread::scope(|scope| {
        scope.spawn(|| api.create("one"));
        scope.spawn(|| api.create("other"));
    });
    let mut viewer = Viewer::connect(gateway, "other", &token("other", "u1", "controller")).unwrap();
    for part in ["xvfb", "browser"] {
        let pid = api.pid("one", part).unwrap();
        send(pid, Signal::SIGKILL);
        wait_for(&format!("{part} of one to be back"), PATIENCE, || {
            let back = api.pid("one", part).is_some_and(|now| now != pid);
            (back && api.session("one")["state"] == "ready").then_some(())
        });
    }
    let other = api.session("other");
    assert_eq!(other["state"], "ready");
    let starts: Vec<_> = other["components"].as_array().unwrap().iter().map(|part| &part["starts"]).collect();
    assert_eq!(starts, [1, 1], "{other}");
    assert_eq!(viewer.pixels(0, 0, 8, 8).len(), 64, "its viewer has noticed nothing");
    // The id of a session that has ended does not open the next one of that id to the user of the first.
    api.end("other");
    assert_eq!(viewer.close_code(Duration::from_secs(10)), 4410);
    api.create_with(&json!({ "session_id": "other", "user_id": "u2" }));
    let refused = Viewer::connect(gateway, "other", &token("other", "u1", "controller")).map(drop);
    assert_eq!(refused.unwrap_err(), 403);
    daemon.stop(PATIENCE);
    assert_eq!(leaks::processes(&daemon.dir), []);
}

//! Requests for a human: asked for by a control plane, answered by whoever is at the screen.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::api::{Answer, Listener, SentEvent};
use crate::support::automation::Automation;
use crate::support::daemon::{Daemon, Home};
use crate::support::tokens::{now, sign};
use crate::support::viewer::{get, request};
use crate::support::wait_for;

/// A session without a browser that works is there for a human all the same.
const CONFIG: &str =
    "[session]\nautostart = false\n[browser]\nprogram = \"/bin/false\"\n[sessions]\nmax = 3\n";
const PATIENCE: Duration = Duration::from_secs(60);

fn with_session(config: &str) -> Daemon {
    let mut daemon = Daemon::start(config);
    daemon.wait_ready();
    create(&daemon, "s1");
    daemon
}

fn create(daemon: &Daemon, id: &str) {
    let body = json!({ "session_id": id, "user_id": "u1", "labels": { "task_id": "t1" } });
    let created = daemon.ask("POST", "/v1/sessions", Some(&body));
    assert_eq!(created.status, 201, "{created:?}");
}

fn ask(daemon: &Daemon, body: Value) -> Answer {
    daemon.ask("POST", "/v1/sessions/s1/handoffs", Some(&body))
}

fn resolve(daemon: &Daemon, handoff: &str, body: Value) -> Answer {
    daemon.ask("POST", &format!("/v1/sessions/s1/handoffs/{handoff}/resolve"), Some(&body))
}

/// Asks the gateway from a thread of its own.
fn ask_for(gateway: SocketAddr, path: &str, bearer: &str) -> (u16, Value) {
    let (status, body) = request(gateway, "GET", path, &[("Authorization", bearer)]);
    (status, serde_json::from_str(&body).unwrap_or_default())
}

fn heard(events: &mut Listener, name: &str) -> SentEvent {
    events.next(PATIENCE, |event| event.event == name).unwrap()
}

#[test]
fn a_human_is_asked_for_once_answers_once_and_the_answer_is_told() {
    let mut daemon = with_session(CONFIG);
    let mut events = daemon.listen("/v1/events?session_id=s1", Some("0"));
    let body = json!({ "handoff_id": "h1", "kind": "captcha", "reason": "a picture puzzle", "event_scope": "task-1" });
    let asked = ask(&daemon, body.clone());
    assert_eq!((asked.status, &asked.json["state"]), (201, &json!("open")), "{asked:?}");
    let lasts = asked.json["expires_at"].as_f64().unwrap() - asked.json["created_at"].as_f64().unwrap();
    assert!((lasts - 900.0).abs() < 1.0, "{lasts}");
    let again = ask(&daemon, body.clone());
    assert_eq!((again.status, &again.json), (200, &asked.json), "a lost answer costs nothing");
    let other = ask(&daemon, json!({ "handoff_id": "h1", "kind": "review", "reason": "another" }));
    assert_eq!((other.status, other.problem()), (409, "handoff-exists"));
    let told = heard(&mut events, "human.requested").data;
    assert_eq!((&told["scope"], &told["labels"]["task_id"]), (&json!("task-1"), &json!("t1")), "{told}");
    let session = daemon.ask("GET", "/v1/sessions/s1", None).json;
    assert_eq!(session["handoffs"], json!([asked.json]));

    // Whoever waits hears of it at once, and whoever comes later as well.
    let (waited, answered) = std::thread::scope(|scope| {
        let wait = || daemon.ask("GET", "/v1/sessions/s1/handoffs/h1?wait=closed&timeout=60s", None);
        let waiting = scope.spawn(wait);
        let late = daemon.ask("GET", "/v1/sessions/s1/handoffs/h1?wait=closed&timeout=1s", None);
        assert_eq!((late.status, &late.json["wait_timed_out"]), (200, &json!(true)), "{late:?}");
        let answered = resolve(&daemon, "h1", json!({ "outcome": "resolved", "note": "done\nby hand" }));
        (waiting.join().unwrap(), answered)
    });
    assert_eq!((answered.status, &answered.json["state"]), (200, &json!("resolved")), "{answered:?}");
    assert_eq!((waited.status, &waited.json), (200, &answered.json));
    let told = heard(&mut events, "human.resolved").data;
    assert_eq!(
        (&told["scope"], &told["handoff_id"], &told["note"]),
        (&json!("task-1"), &json!("h1"), &json!("done\nby hand"))
    );
    let once = told["idempotency_id"].as_str().unwrap();
    assert!(once.starts_with("s1.") && once.contains(".h1.") && once.ends_with(".human.resolved"), "{once}");

    let first = resolve(&daemon, "h1", json!({ "outcome": "resolved", "note": "another word" }));
    assert_eq!((first.status, &first.json), (200, &answered.json), "the first answer stands");
    let contrary = resolve(&daemon, "h1", json!({ "outcome": "rejected" }));
    assert_eq!((contrary.status, contrary.problem()), (409, "handoff-over"), "{contrary:?}");
    let unknown = resolve(&daemon, "h9", json!({ "outcome": "resolved" }));
    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-handoff"));
    assert_eq!(ask(&daemon, body).json, answered.json, "asked for again it is what it has become");
    let list = daemon.ask("GET", "/v1/sessions/s1/handoffs", None).json;
    assert_eq!(list, json!({ "handoffs": [answered.json] }));

    let metrics = get(daemon.api(), "/metrics").1;
    for line in [
        "valetd_handoffs_total{kind=\"captcha\",outcome=\"requested\"} 1",
        "valetd_handoffs_total{kind=\"captcha\",outcome=\"resolved\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let log = daemon.log_text();
    assert!(!log.contains("picture puzzle") && !log.contains("by hand"), "words are the user's");
}

#[test]
fn nobody_comes_in_time_or_the_session_ends_before() {
    let daemon = with_session(CONFIG);
    let mut events = daemon.listen("/v1/events?session_id=s1", Some("0"));
    let short = json!({ "handoff_id": "short", "kind": "review", "reason": "look", "expires_in": "1s" });
    assert_eq!(ask(&daemon, short).status, 201);
    let long = json!({ "handoff_id": "long", "kind": "engine_exhausted", "reason": "stuck" });
    assert_eq!(ask(&daemon, long).status, 201);
    assert_eq!(heard(&mut events, "human.expired").data["handoff_id"], "short");
    let late = resolve(&daemon, "short", json!({ "outcome": "approved" }));
    assert_eq!((late.status, late.problem()), (409, "handoff-over"));
    assert_eq!(late.json["detail"], "the handoff is over: expired");

    let waited = std::thread::scope(|scope| {
        let path = "/v1/sessions/s1/handoffs/long?wait=closed&timeout=60s";
        let waiting = scope.spawn(|| daemon.ask("GET", path, None));
        assert_eq!(daemon.ask("DELETE", "/v1/sessions/s1?wait=ended", None).status, 200);
        waiting.join().unwrap()
    });
    assert_eq!((waited.status, &waited.json["state"]), (200, &json!("cancelled")), "{waited:?}");
    assert_eq!(heard(&mut events, "human.cancelled").data["handoff_id"], "long");
    heard(&mut events, "session.ended");
    let after = daemon.ask("GET", "/v1/sessions/s1/handoffs/long", None);
    assert_eq!((after.status, &after.json["state"]), (200, &json!("cancelled")), "it stays known");
    for answer in [
        ask(&daemon, json!({ "kind": "captcha", "reason": "too late" })),
        resolve(&daemon, "long", json!({ "outcome": "resolved" })),
    ] {
        assert_eq!((answer.status, answer.problem()), (410, "session-over"), "{answer:?}");
    }
}

#[test]
fn a_session_that_waits_for_a_human_is_not_idle() {
    let daemon =
        with_session(&format!("{CONFIG}idle_timeout = \"1s\"\n").replace("/bin/false", "/usr/bin/chromium"));
    let ready = daemon.ask(
        "POST",
        "/v1/sessions?wait=ready&timeout=60s",
        Some(&json!({ "session_id": "s2", "user_id": "u1", "idle_timeout": "4s" })),
    );
    assert_eq!(ready.status, 201, "{ready:?}");
    let body = json!({ "handoff_id": "h", "kind": "captcha", "reason": "r", "expires_in": "6s" });
    let asked = daemon.ask("POST", "/v1/sessions/s2/handoffs", Some(&body));
    assert_eq!(asked.status, 201, "{asked:?}");
    let session = wait_for("the session to be idle", PATIENCE, || {
        let session = daemon.ask("GET", "/v1/sessions/s2", None).json;
        (session["end"]["cause"] == "idle").then_some(session)
    });
    // It outlived its own timeout by the time that a human was waited for.
    assert_eq!(session["handoffs"][0]["state"], "expired", "{session}");
    let ended = wait_for("its end", PATIENCE, || {
        daemon.ask("GET", "/v1/sessions/s2", None).json["ended_at"].as_f64()
    });
    let closed = session["handoffs"][0]["closed_at"].as_f64().unwrap();
    assert!(ended - closed >= 3.9, "{ended} {closed}");
}

#[test]
fn f43_what_came_of_a_handoff_is_known_after_a_crash() {
    let home = Home::new();
    home.configure(CONFIG);
    let mut daemon = home.start();
    daemon.wait_ready();
    create(&daemon, "s1");
    for id in ["done", "open"] {
        assert_eq!(ask(&daemon, json!({ "handoff_id": id, "kind": "review", "reason": "r" })).status, 201);
    }
    assert_eq!(resolve(&daemon, "done", json!({ "outcome": "approved" })).status, 200);
    wait_for("it to be written down", PATIENCE, || {
        let metrics = get(daemon.api(), "/metrics").1;
        metrics.lines().any(|line| line == "valetd_store_pending_rows 0").then_some(())
    });
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit(PATIENCE);
    let mut next = home.start();
    next.wait_ready();
    let states = ["done", "open"]
        .map(|id| next.ask("GET", &format!("/v1/sessions/s1/handoffs/{id}"), None).json["state"].clone());
    assert_eq!(states, [json!("approved"), json!("cancelled")]);
    next.stop(PATIENCE);
}

#[test]
fn whoever_is_at_the_screen_sees_what_is_wanted_and_the_controller_answers() {
    let mut daemon = with_session(CONFIG);
    let mut events = daemon.listen("/v1/events?session_id=s1", Some("0"));
    let bearer = |session: &str, user: &str, role: &str| {
        let claims = json!({ "session_id": session, "user_id": user, "role": role, "exp": now() + 600 });
        format!("Bearer {}", sign(&claims))
    };
    let (controller, spectator) = (bearer("s1", "u1", "controller"), bearer("s1", "u1", "spectator"));
    let wanted = "/sessions/s1/handoffs";
    let nothing = daemon.ask_gateway("GET", wanted, &[("Authorization", &spectator)], None);
    assert_eq!((nothing.status, &nothing.json["handoffs"]), (200, &json!([])), "{nothing:?}");
    let gateway = daemon.gateway();

    // Whoever waits for news has it at once.
    let after = format!("{wanted}?after={}", nothing.json["version"]);
    let news = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask_for(gateway, &after, &spectator));
        let body = json!({ "handoff_id": "h1", "kind": "review", "reason": "look", "event_scope": "t" });
        assert_eq!(ask(&daemon, body).status, 201);
        waiting.join().unwrap()
    });
    let (status, news) = news;
    assert_eq!(status, 200, "{news}");
    let open = &news["handoffs"][0];
    assert_eq!(
        (&open["handoff_id"], &open["kind"], &open["reason"]),
        (&json!("h1"), &json!("review"), &json!("look"))
    );
    assert!(open.get("event_scope").is_none(), "that is between the caller and its workflow: {open}");

    let resolve = "/sessions/s1/handoffs/h1/resolve";
    let approve = Some(r#"{"outcome":"approved","note":"fine"}"#);
    for (credential, status) in [
        (None, 401),
        (Some(spectator.clone()), 403),
        (Some(bearer("s1", "u1", "automation")), 403),
        (Some(bearer("s1", "somebody", "controller")), 403),
        (Some(bearer("s2", "u1", "controller")), 403),
    ] {
        let headers: Vec<_> =
            credential.iter().map(|credential| ("Authorization", credential.as_str())).collect();
        assert_eq!(daemon.ask_gateway("POST", resolve, &headers, approve).status, status, "{credential:?}");
    }
    let good = [("Authorization", controller.as_str())];
    let foreign = [good[0], ("Origin", "https://elsewhere.example")];
    assert_eq!(daemon.ask_gateway("POST", resolve, &foreign, approve).status, 403);
    for bad in
        [None, Some("{}"), Some(r#"{"outcome":"expired"}"#), Some(r#"{"outcome":"approved","by":"me"}"#)]
    {
        let refused = daemon.ask_gateway("POST", resolve, &good, bad);
        assert_eq!((refused.status, refused.problem()), (400, "invalid-request"), "{bad:?}");
    }
    let large = format!(r#"{{"outcome":"approved","note":"{}"}}"#, "x".repeat(100_000));
    assert_eq!(daemon.ask_gateway("POST", resolve, &good, Some(&large)).status, 400);
    let unknown = daemon.ask_gateway("POST", "/sessions/s1/handoffs/h9/resolve", &good, approve);
    assert_eq!((unknown.status, unknown.problem()), (404, "unknown-handoff"));
    assert_eq!(daemon.ask_gateway("GET", &format!("{wanted}?after=x"), &good, None).status, 400);

    let answered = daemon.ask_gateway("POST", resolve, &good, approve);
    assert_eq!((answered.status, &answered.json["state"]), (200, &json!("approved")), "{answered:?}");
    assert_eq!(
        daemon.ask_gateway("POST", resolve, &good, approve).status,
        200,
        "a lost answer costs nothing"
    );
    let contrary = daemon.ask_gateway("POST", resolve, &good, Some(r#"{"outcome":"rejected"}"#));
    assert_eq!((contrary.status, contrary.problem()), (409, "handoff-over"));
    let told = heard(&mut events, "human.approved").data;
    assert_eq!(
        (&told["by"], &told["note"], &told["scope"]),
        (&json!("user u1"), &json!("fine"), &json!("t"))
    );
    assert_eq!(daemon.ask_gateway("GET", wanted, &good, None).json["handoffs"], json!([]));
}

#[test]
fn whoever_waits_for_news_does_not_hold_up_the_end() {
    let mut daemon = with_session(CONFIG);
    let gateway = daemon.gateway();
    let claims = json!({ "session_id": "s1", "user_id": "u1", "role": "spectator", "exp": now() + 600 });
    let bearer = format!("Bearer {}", sign(&claims));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask_for(gateway, "/sessions/s1/handoffs?after=0", &bearer));
        wait_for("the question to be open", PATIENCE, || {
            let metrics = get(daemon.api(), "/metrics").1;
            metrics.lines().any(|line| line == "valetd_gateway_connections 1").then_some(())
        });
        let begun = Instant::now();
        daemon.stop(PATIENCE);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert_eq!(waiting.join().unwrap().0, 503);
    });
}

/// A session with a browser and an automation at a page with a field that has the focus, and a human that is wanted.
fn with_automation(fence: &str) -> (Daemon, Automation, String) {
    let config = CONFIG.replace("/bin/false", "/usr/bin/chromium");
    let mut daemon = Daemon::start(&format!("{config}[cdp]\nfence_automation = \"{fence}\"\n"));
    daemon.wait_ready();
    let body = json!({ "session_id": "s1", "user_id": "u1" });
    assert_eq!(daemon.ask("POST", "/v1/sessions?wait=ready&timeout=60s", Some(&body)).status, 201);
    let claims = json!({ "session_id": "s1", "user_id": "u1", "role": "automation", "exp": now() + 600 });
    let bearer = format!("Bearer {}", sign(&claims));
    let mut automation =
        Automation::connect(daemon.gateway(), "/sessions/s1/cdp", &[("Authorization", &bearer)]).unwrap();
    let page = automation.page("data:text/html,<input autofocus>");
    automation.result(Some(&page), "Page.bringToFront", json!({}));
    automation.evaluate(&page, "document.querySelector('input').focus()");
    automation.result(Some(&page), "Input.insertText", json!({ "text": "a" }));
    assert_eq!(value(&mut automation, &page), "a", "control");
    assert_eq!(ask(&daemon, json!({ "handoff_id": "h", "kind": "captcha", "reason": "r" })).status, 201);
    (daemon, automation, page)
}

fn value(automation: &mut Automation, page: &str) -> Value {
    automation.evaluate(page, "document.querySelector('input').value")
}

#[test]
fn an_automation_that_is_fenced_looks_on_while_a_human_is_at_it() {
    let (mut daemon, mut automation, page) = with_automation("fail");
    let refused = automation.call(Some(&page), "Input.insertText", json!({ "text": "b" }));
    assert_eq!(refused["error"]["code"], -32000, "{refused}");
    assert!(
        refused["error"]["message"].as_str().unwrap().starts_with("A human has the session"),
        "{refused}"
    );
    assert_eq!(value(&mut automation, &page), "a", "and it may look");
    assert!(get(daemon.api(), "/metrics").1.contains("valetd_gateway_cdp_denied_total{reason=\"human\"} 1"));
    assert_eq!(resolve(&daemon, "h", json!({ "outcome": "resolved" })).status, 200);
    automation.result(Some(&page), "Input.insertText", json!({ "text": "b" }));
    assert_eq!(value(&mut automation, &page), "ab");
}

#[test]
fn an_automation_that_waits_goes_on_where_it_was_when_the_human_is_done() {
    let (daemon, mut automation, page) = with_automation("wait");
    for (id, text) in [(900, "b"), (901, "c")] {
        let params = json!({ "text": text });
        let command = json!({ "id": id, "method": "Input.insertText", "params": params, "sessionId": page });
        automation.send(&command.to_string());
    }
    assert_eq!(value(&mut automation, &page), "a", "what only looks does not wait");
    assert_eq!(resolve(&daemon, "h", json!({ "outcome": "resolved" })).status, 200);
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let message = automation.message().unwrap();
        answered.extend(message["id"].as_i64().filter(|id| *id >= 900));
        assert!(message.get("error").is_none(), "{message}");
    }
    assert_eq!(answered, [900, 901]);
    assert_eq!(value(&mut automation, &page), "abc");
}

//! The host API against the real daemon: the four verbs, who may use them, and what they say when they cannot.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use valetd::api::routes::{Proof, ROUTES};

use crate::support::api::{Answer, Listener};
use crate::support::daemon::{Daemon, Home};
use crate::support::tokens::{now, sign, token};
use crate::support::viewer::Viewer;
use crate::support::wait_for;

/// For a session on a loaded machine to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in place of the browser that ends at once: sessions get their display and never become ready.
const BROKEN: &str = "[session]\nautostart = false\n[browser]\nprogram = \"/bin/false\"\n";

/// A daemon without sessions of its own, whose sessions have `browser`.
fn host(config: &str) -> Daemon {
    let mut daemon = Daemon::start(config);
    daemon.wait_ready();
    daemon
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn create(daemon: &Daemon, body: Value) -> Answer {
    daemon.ask("POST", "/v1/sessions", Some(&body))
}

fn pointers(answer: &Answer) -> Vec<&str> {
    let errors = answer.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
}

#[test]
fn every_private_route_asks_for_an_operator_on_tcp_and_for_nothing_on_the_socket() {
    let mut daemon = host(BROKEN);
    let mut private = 0;
    for route in ROUTES {
        let path = route.pattern.replace("{id}", "s1").replace("{handoff}", "h1").replace("{name}", "p1");
        let body = matches!(route.method, "POST" | "PATCH").then_some("{}");
        let ask = |daemon: &mut Daemon, headers: &[(&str, &str)]| {
            daemon.ask_tcp(route.method, &path, headers, body)
        };
        match route.proof {
            Proof::Nothing => {
                let answer = ask(&mut daemon, &[]);
                assert_eq!(answer.status, 200, "{path}");
                continue;
            }
            Proof::Local => {
                assert_eq!(ask(&mut daemon, &[]).status, 404, "{path}");
                assert_eq!(daemon.ask(route.method, &path, None).status, 200, "{path}");
                continue;
            }
            Proof::Operator => private += 1,
        }
        let answer = ask(&mut daemon, &[]);
        assert_eq!((answer.status, answer.problem()), (401, "credential-missing"), "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert_eq!(answer.headers["cache-control"], "no-store");
        for role in ["spectator", "controller", "automation"] {
            let answer = ask(&mut daemon, &[("Authorization", &bearer(&token(role, 60)))]);
            assert_eq!((answer.status, answer.problem()), (403, "wrong-role"), "{path} {role}");
        }
        let old = sign(&json!({ "session_id": "s1", "user_id": "u", "role": "operator", "exp": now() - 1 }));
        assert_eq!(ask(&mut daemon, &[("Authorization", &bearer(&old))]).status, 401, "{path}");
        let good = bearer(&token("operator", 60));
        let answer = ask(&mut daemon, &[("Authorization", &good), ("Origin", "http://localhost")]);
        assert_eq!((answer.status, answer.problem()), (403, "origin-not-allowed"), "{path}");
        if !path.ends_with("/events") {
            let answer = ask(&mut daemon, &[("Authorization", &good)]);
            assert!(!matches!(answer.status, 401 | 403), "{path}: {answer:?}");
            let body = body.map(|body| serde_json::from_str(body).unwrap());
            let answer = daemon.ask(route.method, &path, body.as_ref());
            assert!(!matches!(answer.status, 401 | 403), "{path}: {answer:?}");
        }
    }
    assert!(private >= 12, "{private}");
    let other = daemon.ask_tcp("PUT", "/v1/sessions", &[], None);
    assert_eq!((other.status, other.problem()), (405, "method-not-allowed"));
    assert_eq!(other.headers["allow"], "GET, POST, HEAD");
}

#[test]
fn a_session_is_provisioned_looked_at_extended_and_ended() {
    let mut daemon = host(
        "[session]\nautostart = false\n[sessions]\nmax = 2\n[gateway]\npublic_url = \"https://host-7.example.org/\"",
    );
    let operator = bearer(&token("operator", 300));
    let mut events = daemon.listen("/v1/events", None);
    let body = json!({
        "session_id": "s7", "user_id": "u7", "display": { "width": 640, "height": 480 }, "max_duration": "1h",
        "labels": { "task_id": "t-1" },
    });
    // Over TCP, as a control plane would.
    let created = daemon.ask_tcp(
        "POST",
        "/v1/sessions?wait=ready&timeout=60s",
        &[("Authorization", &operator), ("Idempotency-Key", "k-1")],
        Some(&body.to_string()),
    );
    assert_eq!(created.status, 201, "{created:?}\n{}", daemon.log_text());
    assert_eq!(created.headers["location"], "/v1/sessions/s7");
    assert_eq!((&created.json["state"], &created.json["warmth"]), (&json!("ready"), &json!("cold")));
    assert!(created.json["expires_at"].as_f64() > created.json["created_at"].as_f64());

    // The same again is no second session; another body under the key is a mistake.
    let key = [("Idempotency-Key", "k-1")];
    let again = daemon.ask_with("POST", "/v1/sessions", &key, Some(&body));
    assert_eq!((again.status, &again.json["session_id"]), (200, &json!("s7")), "{again:?}");
    let other = daemon.ask_with("POST", "/v1/sessions", &key, Some(&json!({ "user_id": "u" })));
    assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"));
    let taken = create(&daemon, body);
    assert_eq!((taken.status, taken.problem()), (409, "session-exists"));

    lists_know_their_filters(&daemon);
    let health = daemon.ask("GET", "/v1/sessions/s7/health", None);
    assert_eq!((health.status, &health.json["status"]), (200, &json!("ok")), "{health:?}");

    // The links are those of the configuration, and the tokens open the door.
    let connection =
        daemon.ask("GET", "/v1/sessions/s7/connection?tokens=controller,automation&ttl=1m", None);
    assert_eq!(connection.json["vnc_url"], "wss://host-7.example.org/sessions/s7/vnc", "{connection:?}");
    assert_eq!(connection.json["cdp_url"], "wss://host-7.example.org/sessions/s7/cdp");
    let controller = connection.json["tokens"]["controller"]["token"].as_str().unwrap().to_owned();
    let viewer = Viewer::connect(daemon.gateway(), "s7", &controller).unwrap();
    assert_eq!(viewer.size, (640, 480));
    wait_for("the viewer to be counted", PATIENCE, || {
        let session = daemon.ask("GET", "/v1/sessions/s7", None);
        (session.json["viewers"]["controllers"] == 1).then_some(())
    });

    let body = json!({ "expires_in": "30m", "idle_timeout": "20m", "labels": { "step": "2" } });
    let extended = daemon.ask("PATCH", "/v1/sessions/s7", Some(&body));
    assert_eq!(extended.status, 200, "{extended:?}");
    assert_eq!(extended.json["idle_timeout"], "20m");
    assert_eq!(extended.json["labels"], json!({ "task_id": "t-1", "step": "2" }));
    let endless = daemon.ask("PATCH", "/v1/sessions/s7", Some(&json!({ "idle_timeout": null })));
    assert!(endless.json.get("idle_timeout").is_none(), "{endless:?}");
    let over = daemon.ask("PATCH", "/v1/sessions/s7", Some(&json!({ "expires_in": "25h" })));
    assert_eq!((over.status, over.problem(), pointers(&over)), (422, "over-limit", vec!["/expires_in"]));

    it_ends_once_and_stays_known(&daemon);
    its_life_was_told_and_can_be_heard_again(&daemon, &mut events);

    let metrics = daemon.get("/metrics").1;
    for line in [
        "valetd_session_created_total{warmth=\"cold\"} 1",
        "valetd_session_ended_total{cause=\"requested\"} 1",
        "valetd_session_denied_total{reason=\"idempotency-key-reused\"} 1",
        "valetd_session_capacity 2",
        "valetd_session_start_seconds_count{warmth=\"cold\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    daemon.stop(PATIENCE);
    let log = daemon.log_text();
    assert!(!log.contains(&controller) && !log.contains(operator.trim_start_matches("Bearer ")));
    let audited = |action: &str, by: &str| {
        daemon.log().iter().any(|record| {
            record["action"] == action && record["by"].as_str().is_some_and(|who| who.starts_with(by))
        })
    };
    assert!(audited("create", "user u1") && audited("end", "uid ") && audited("mint token", "uid "), "{log}");
}

/// One session is there, of task t-1.
fn lists_know_their_filters(daemon: &Daemon) {
    let found = |query: &str| {
        let list = daemon.ask("GET", &format!("/v1/sessions?{query}"), None);
        assert_eq!(list.status, 200, "{list:?}");
        list.json["sessions"].as_array().unwrap().len()
    };
    for (query, count) in [
        ("", 1),
        ("label=task_id:t-1&kind=chromium&user_id=u7&state=ready", 1),
        ("label=task_id:t-2", 0),
        ("state=stopped", 0),
        ("user_id=u", 0),
    ] {
        assert_eq!(found(query), count, "{query}");
    }
    assert_eq!(daemon.ask("GET", "/v1/sessions?state=up", None).problem(), "invalid-request");
}

fn it_ends_once_and_stays_known(daemon: &Daemon) {
    let ended = daemon.ask("DELETE", "/v1/sessions/s7?wait=ended&timeout=60s&reason=all+done", None);
    assert_eq!((ended.status, &ended.json["state"]), (200, &json!("stopped")), "{ended:?}");
    assert_eq!(ended.json["end"], json!({ "cause": "requested", "reason": "all done" }));
    let again = daemon.ask("DELETE", "/v1/sessions/s7", None);
    assert_eq!((again.status, &again.json["end"]["reason"]), (200, &json!("all done")));
    assert_eq!(daemon.ask("GET", "/v1/sessions/s7", None).json["state"], "stopped");
    assert_eq!(
        daemon.ask("GET", "/v1/sessions?state=all", None).json["sessions"].as_array().unwrap().len(),
        1
    );
    for (method, path) in [("GET", "/v1/sessions/s7/health"), ("GET", "/v1/sessions/s7/connection")] {
        let gone = daemon.ask(method, path, None);
        assert_eq!((gone.status, gone.problem()), (410, "session-over"), "{path}");
    }
    let gone = daemon.ask("PATCH", "/v1/sessions/s7", Some(&json!({ "expires_in": "1m" })));
    assert_eq!((gone.status, gone.problem()), (410, "session-over"));
    assert_eq!(daemon.ask("DELETE", "/v1/sessions/never", None).problem(), "unknown-session");
}

fn its_life_was_told_and_can_be_heard_again(daemon: &Daemon, events: &mut Listener) {
    let first = events.next(PATIENCE, |event| event.event == "session.created").unwrap();
    assert_eq!((&first.data["session_id"], &first.data["labels"]["task_id"]), (&json!("s7"), &json!("t-1")));
    events.next(PATIENCE, |event| event.data["state"] == "ready").unwrap();
    let last = events.next(PATIENCE, |event| event.event == "session.ended").unwrap();
    assert_eq!((&last.data["cause"], &last.data["reason"]), (&json!("requested"), &json!("all done")));
    let mut resumed = daemon.listen("/v1/events?session_id=s7", Some(&first.id));
    let next = resumed.next(PATIENCE, |_any| true).unwrap();
    assert_eq!(next.event, "session.state", "what comes after the first: {next:?}");
    let mut other_run = daemon.listen("/v1/events", Some("otherrun-12"));
    assert_eq!(other_run.next(PATIENCE, |_any| true).unwrap().event, "gap");
    assert_eq!(other_run.next(PATIENCE, |_any| true).unwrap(), first);
}

#[test]
fn a_full_host_says_so_and_the_same_request_twice_at_once_is_one_session() {
    let mut daemon = host(&format!("{BROKEN}[sessions]\nmax = 1\n"));
    let key = [("Idempotency-Key", "same")];
    let body = json!({ "user_id": "u1" });
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || daemon.ask_with("POST", "/v1/sessions", &key, Some(&body));
        let tasks: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let id = answers[0].json["session_id"].clone();
    assert!(answers.iter().all(|answer| answer.json["session_id"] == id), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{answers:?}");

    let full = create(&daemon, json!({ "user_id": "u2" }));
    assert_eq!((full.status, full.problem()), (503, "over-capacity"), "{full:?}");
    assert!(full.headers.contains_key("retry-after"));
    let capacity = daemon.ask("GET", "/v1/capacity", None).json;
    assert_eq!((&capacity["capacity"], &capacity["free"]), (&json!(1), &json!(0)), "{capacity}");
    let health = daemon.health();
    assert_eq!(health["sessions"]["count"], 1, "{health}");
    assert_eq!(daemon.get("/readyz").0, 200, "a session that somebody asked for is their own affair");
}

#[test]
fn who_waits_for_a_place_gets_the_next_one_and_the_same_request_twice_gets_it_once() {
    let daemon = host(&format!("{BROKEN}[sessions]\nmax = 1\nqueue_length = 2\nqueue_deadline = \"60s\"\n"));
    assert_eq!(create(&daemon, json!({ "session_id": "first", "user_id": "u1" })).status, 201);
    let (key, body) = ([("Idempotency-Key", "same")], json!({ "user_id": "u2" }));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || daemon.ask_with("POST", "/v1/sessions", &key, Some(&body));
        let tasks = [scope.spawn(ask), scope.spawn(ask)];
        wait_for("both to wait", PATIENCE, || {
            (daemon.ask("GET", "/v1/capacity", None).json["queued"] == 2).then_some(())
        });
        let third = create(&daemon, json!({ "user_id": "u3" }));
        assert_eq!((third.status, third.problem()), (503, "over-capacity"), "the queue is full");
        assert!(matches!(daemon.ask("DELETE", "/v1/sessions/first", None).status, 200 | 202));
        tasks.map(|task| task.join().unwrap()).into()
    });
    let mut statuses = [answers[0].status, answers[1].status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 201], "{answers:?}");
    assert_eq!(answers[0].json["session_id"], answers[1].json["session_id"], "{answers:?}");
}

#[test]
fn a_session_that_waits_for_a_place_can_be_ended_and_never_begins() {
    let daemon = host(&format!("{BROKEN}[sessions]\nmax = 1\nqueue_length = 2\nqueue_deadline = \"60s\"\n"));
    assert_eq!(create(&daemon, json!({ "session_id": "first", "user_id": "u1" })).status, 201);
    let (key, body) = ([("Idempotency-Key", "k")], json!({ "session_id": "second", "user_id": "u2" }));
    let ask = || daemon.ask_with("POST", "/v1/sessions", &key, Some(&body));
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(ask);
        wait_for("it to wait", PATIENCE, || {
            (daemon.ask("GET", "/v1/capacity", None).json["queued"] == 1).then_some(())
        });
        for _ in 0..2 {
            let ended = daemon.ask("DELETE", "/v1/sessions/second?wait=ended&reason=enough", None);
            assert_eq!((ended.status, &ended.json["state"]), (200, &json!("stopped")), "{ended:?}");
            assert_eq!(ended.json["end"], json!({ "cause": "requested", "reason": "enough" }), "{ended:?}");
        }
        asked.join().unwrap()
    });
    assert_eq!((asked.status, asked.problem()), (410, "session-over"), "{asked:?}");
    assert_eq!(asked.json["detail"], "session second was ended before it had begun");
    assert_eq!(daemon.ask("DELETE", "/v1/sessions/first?wait=ended", None).status, 200);
    assert_eq!(ask().status, 410, "nor does the same request bring it back");
    assert_eq!(daemon.ask("GET", "/v1/capacity", None).json["occupied"], 0);
}

/// A profile of many files, which takes a while to change hands.
fn big_profile(daemon: &Daemon, name: &str) -> PathBuf {
    let profile = daemon.path("state/profiles").join(name);
    std::fs::create_dir_all(profile.join("last")).unwrap();
    for number in 0..10_000 {
        std::fs::write(profile.join(number.to_string()), "").unwrap();
    }
    profile
}

/// Ends a session while it is put together: its id, and what the one who asked for it gets.
fn end_while_it_is_put_together(daemon: &Daemon, profile: &str) -> (String, Answer) {
    let mut attempt = 0;
    wait_for("an end that comes before the beginning", PATIENCE, || {
        attempt += 1;
        let id = format!("{profile}-{attempt}");
        let (path, body) =
            (format!("/v1/sessions/{id}"), json!({ "session_id": id, "user_id": "u1", "profile": profile }));
        let (ending, asked) = std::thread::scope(|scope| {
            let asked = scope
                .spawn(|| daemon.ask_with("POST", "/v1/sessions", &[("Idempotency-Key", &id)], Some(&body)));
            let ending = wait_for("the session to be known", PATIENCE, || {
                let ending = daemon.ask("DELETE", &path, None);
                (ending.status != 404).then_some(ending)
            });
            (ending, asked.join().unwrap())
        });
        let over = daemon.ask("DELETE", &format!("{path}?wait=ended"), None);
        assert_eq!((over.status, &over.json["end"]["cause"]), (200, &json!("requested")), "{over:?}");
        // One that has been put together has parts.
        let in_time = ending.json["components"] == json!([]);
        assert!(
            !in_time || (ending.status, &ending.json["state"]) == (202, &json!("draining")),
            "{ending:?}"
        );
        in_time.then_some((id, asked))
    })
}

#[test]
fn a_session_that_is_being_put_together_can_be_ended() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: nothing takes long, and nothing was tested");
        return;
    }
    let daemon = host(&format!("{BROKEN}[sessions]\nmax = 1\n"));
    big_profile(&daemon, "big");
    let (id, asked) = end_while_it_is_put_together(&daemon, "big");
    assert_eq!(asked.status, 201, "it was there for a moment: {asked:?}");
    assert_eq!(daemon.ask("GET", &format!("/v1/sessions/{id}"), None).json["state"], "stopped");

    // Where it cannot be put together it never was there, and the same request does not bring it back.
    let last = big_profile(&daemon, "bad").join("last/file");
    std::fs::write(&last, "").unwrap();
    std::fs::hard_link(&last, daemon.path("second-name")).unwrap();
    let (id, asked) = end_while_it_is_put_together(&daemon, "bad");
    assert_eq!((asked.status, asked.problem()), (410, "session-over"), "{asked:?}");
    std::fs::remove_file(daemon.path("second-name")).unwrap();
    let body = json!({ "session_id": id, "user_id": "u1", "profile": "bad" });
    let again = daemon.ask_with("POST", "/v1/sessions", &[("Idempotency-Key", &id)], Some(&body));
    assert_eq!(again.status, 410, "{again:?}");
}

#[test]
fn a_request_that_comes_again_is_never_answered_with_a_later_session_of_the_same_id() {
    let home = Home::new();
    home.configure(&format!("{BROKEN}[sessions]\nmax = 1\n"));
    let mut daemon = home.start();
    daemon.wait_ready();
    let ask = |daemon: &Daemon| {
        let body = json!({ "session_id": "s", "user_id": "u1" });
        daemon.ask_with("POST", "/v1/sessions", &[("Idempotency-Key", "k")], Some(&body))
    };
    assert_eq!(ask(&daemon).status, 201);
    assert_eq!(ask(&daemon).status, 200, "control: while it is there");
    for _run in 0..2 {
        assert_eq!(daemon.ask("DELETE", "/v1/sessions/s?wait=ended", None).status, 200);
        assert_eq!(create(&daemon, json!({ "session_id": "s", "user_id": "u2" })).status, 201);
        let again = ask(&daemon);
        assert_eq!((again.status, again.problem()), (410, "session-over"), "{again:?}");
        daemon.stop(PATIENCE);
        daemon = home.start();
        daemon.wait_ready();
        assert_eq!(ask(&daemon).status, 410, "nor by another run of the daemon");
        assert_eq!(create(&daemon, json!({ "session_id": "s", "user_id": "u3" })).status, 201);
    }
}

#[test]
fn a_session_ends_when_its_time_is_over_or_it_cannot_start() {
    let daemon = host(&format!("{BROKEN}[sessions]\nmax = 2\nstart_deadline = \"2s\"\n"));
    // Waiting for what fails ends with why.
    let failed = daemon.ask("POST", "/v1/sessions?wait=ready", Some(&json!({ "user_id": "u1" })));
    assert_eq!((failed.status, failed.problem()), (503, "start-failed"), "{failed:?}");
    assert!(failed.json["detail"].as_str().unwrap().contains("browser"), "{failed:?}");
    // A wait that is over before that tells where it is.
    let late = daemon.ask("POST", "/v1/sessions?wait=ready&timeout=1s", Some(&json!({ "user_id": "u1" })));
    assert_eq!((late.status, &late.json["wait_timed_out"]), (201, &json!(true)), "{late:?}");
    let short = create(&daemon, json!({ "user_id": "u1", "max_duration": "1s" }));
    assert_eq!(short.status, 201, "{short:?}");
    let path = format!("/v1/sessions/{}", short.json["session_id"].as_str().unwrap());
    // It is not ready, so that nobody could use it: it is not idle either.
    wait_for("the session's time to be over", PATIENCE, || {
        (daemon.ask("GET", &path, None).json["end"]["cause"] == "expired").then_some(())
    });
}

#[test]
fn what_is_wrong_with_a_request_is_told_in_a_problem_of_its_type() {
    let mut daemon = host(BROKEN);
    let operator = bearer(&token("operator", 60));
    let headers = [("Authorization", operator.as_str())];
    let mut post = |body: &str, more: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().chain(more).copied().collect();
        let answer = daemon.ask_tcp("POST", "/v1/sessions", &headers, Some(body));
        (answer.status, answer.problem().to_owned(), pointers(&answer).join(" "))
    };
    for (body, status, problem, at) in [
        ("{", 400, "invalid-request", ""),
        ("[]", 422, "invalid-request", " /user_id"),
        (
            r#"{"user_id":"u","argv":[],"uid":0,"display":{"width":1}}"#,
            422,
            "invalid-request",
            "/display/width /display/height /argv /uid",
        ),
        (r#"{"user_id":"u","proxy":{"server":"http://a:b@c:1"}}"#, 422, "bad-proxy", "/proxy/server"),
        (r#"{"user_id":"u","kind":"adspower"}"#, 422, "kind-unavailable", "/kind"),
        (r#"{"user_id":"u","env":{"LD_PRELOAD":"x"}}"#, 422, "variable-not-allowed", "/env/LD_PRELOAD"),
        (r#"{"user_id":"u","max_duration":"25h"}"#, 422, "over-limit", "/max_duration"),
        (r#"{"user_id":"u","start_url":"javascript:alert(1)"}"#, 422, "invalid-request", "/start_url"),
    ] {
        assert_eq!(post(body, &[]), (status, problem.to_owned(), at.to_owned()), "{body}");
    }
    let typed = [("Content-Type", "text/plain")];
    assert_eq!(post("{}", &typed).1, "unsupported-media-type");
    assert_eq!(post(r#"{"user_id":"u"}"#, &[("Idempotency-Key", "a b")]).1, "invalid-request");
    assert_eq!(
        post(&format!("{{\"user_id\":\"{}\"}}", "x".repeat(70_000)), &[]),
        (413, "body-too-large".to_owned(), String::new())
    );
    assert_eq!(
        daemon.get("/metrics").1.matches("valetd_session_created_total{warmth=\"cold\"} 0").count(),
        1
    );
}

#[test]
fn listeners_are_bounded_and_hear_the_end() {
    let mut daemon = host(BROKEN);
    let mut listeners: Vec<_> = (0..32).map(|_| daemon.listen("/v1/events", None)).collect();
    // A place is taken when the answer has begun, so the last of them is waited for.
    wait_for("no place for one more", PATIENCE, || {
        let answer = daemon.ask("HEAD", "/v1/events", None);
        (answer.status == 429).then_some(())
    });
    create(&daemon, json!({ "session_id": "last", "user_id": "u1" }));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let mut listener = listeners.pop().unwrap();
    let ended = listener.next(PATIENCE, |event| event.event == "session.ended").unwrap();
    assert_eq!(ended.data["cause"], "host_draining");
    assert_eq!(listener.next(PATIENCE, |_any| true), None, "a clean end");
    drop(listeners);
    assert!(daemon.wait_exit(PATIENCE).success());
}

#[test]
fn without_a_key_of_its_own_a_host_makes_no_tokens() {
    let home = Home::new();
    let config = home.configure("");
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config/files/ed25519.pem");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut table: toml::Table = text.parse().unwrap();
    table["auth"] = toml::toml! { keys = [{ algorithm = "EdDSA", public_key_file = "KEY" }] }.into();
    table.insert("browser".to_owned(), toml::toml! { enabled = false }.into());
    let text = toml::to_string(&table).unwrap().replace("KEY", key);
    std::fs::write(&config, text).unwrap();
    let mut daemon = home.start();
    daemon.wait_ready();
    let links = daemon.ask("GET", "/v1/sessions/s1/connection", None);
    assert_eq!(links.json["viewer_url"], format!("http://{}/#session=s1", daemon.gateway()), "{links:?}");
    assert!(links.json.get("cdp_url").is_none(), "no browser, no CDP");
    let refused = daemon.ask("GET", "/v1/sessions/s1/connection?tokens=controller", None);
    assert_eq!((refused.status, refused.problem()), (409, "no-signing-key"));
    assert_eq!(daemon.health()["status"], "ok");
}

#[test]
fn the_command_line_creates_lists_shows_opens_and_stops() {
    let mut daemon = host("[session]\nautostart = false\n[sessions]\nmax = 1");
    let config = daemon.path("valetd.toml");
    let valetd = |line: &str| {
        #[expect(clippy::disallowed_methods, reason = "the test runs the command as a person would")]
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_valetd"))
            .arg("session")
            .args(line.split_whitespace())
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(valetd("list"), (0, "no sessions\n".to_owned(), String::new()));
    let (code, out, err) =
        valetd("create --user u9 --id s9 --size 640x480 --label task_id=t --max-duration 1h");
    assert_eq!(code, 0, "{out}{err}\n{}", daemon.log_text());
    assert!(out.starts_with("session s9  ready\n") && out.contains("task_id=t"), "{out}");
    let (code, out, _err) = valetd("list");
    assert!(code == 0 && out.lines().count() == 2 && out.contains("u9"), "{out}");
    let (code, out, _err) = valetd("show s9 --json");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["state"]), (0, &json!("ready")), "{out}");
    let (code, out, _err) = valetd("open s9 --role spectator");
    assert_eq!(code, 0);
    let token = out.trim().split_once("&token=").unwrap().1;
    assert_eq!(Viewer::connect(daemon.gateway(), "s9", token).unwrap().size, (640, 480));
    let (code, _out, err) = valetd("create --user u9");
    assert!(code == 1 && err.contains("Every place for a session is taken."), "{err}");
    let (code, _out, err) = valetd("show nobody");
    assert_eq!((code, err.as_str()), (1, "valetd: The session is not on this host.\n"));
    let (code, _out, err) = valetd("create --user u9 --proxy nonsense");
    assert!(code == 1 && err.contains("\n  proxy.server: must be scheme://host:port"), "{err}");
    assert_eq!(valetd("stop s9 --reason done"), (0, "session s9 ended\n".to_owned(), String::new()));
    let (code, out, _err) = valetd("list --all");
    assert!(code == 0 && out.contains("stopped") && out.contains("requested"), "{out}");
    let (code, out, err) = valetd("create --user u9 --id s10 --idle-timeout 1s");
    assert_eq!(code, 0, "{out}{err}");
    wait_for("nobody's session to end", PATIENCE, || {
        (daemon.ask("GET", "/v1/sessions/s10", None).json["end"]["cause"] == "idle").then_some(())
    });
}

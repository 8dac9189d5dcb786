//! The line to the control plane, over a real daemon.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use valetd::control_plane::stand_in::{Book, Conduct, StandIn};

use crate::faults::record;
use crate::support::control_plane::{FlyApi, Receiver, Tls, write_secret};
use crate::support::daemon::{Daemon, Home, send};
use crate::support::imds::Imds;
use crate::support::viewer::get;
use crate::support::wait_for;

/// A session without a browser that works has handoffs all the same.
const CONFIG: &str =
    "[session]\nautostart = false\n[browser]\nprogram = \"/bin/false\"\n[sessions]\nmax = 3\n";
const PATIENCE: Duration = Duration::from_secs(60);

fn started(receiver: &Receiver, more: &str) -> (Home, Daemon) {
    let home = Home::new();
    home.configure(&format!("{CONFIG}{}{more}", receiver.config(home.0.path(), "token")));
    let mut daemon = home.start();
    daemon.wait_ready();
    (home, daemon)
}

fn create(daemon: &Daemon, id: &str) -> Value {
    let body = json!({ "session_id": id, "user_id": "u1", "labels": { "task_id": "t1" } });
    let created = daemon.ask("POST", "/v1/sessions", Some(&body));
    assert_eq!(created.status, 201, "{created:?}");
    created.json
}

fn ask_for_human(daemon: &Daemon, session: &str, handoff: &str, reason: &str) {
    let body = json!({ "handoff_id": handoff, "kind": "review", "reason": reason });
    let asked = daemon.ask("POST", &format!("/v1/sessions/{session}/handoffs"), Some(&body));
    assert_eq!(asked.status, 201, "{asked:?}");
}

fn answer(daemon: &Daemon, session: &str, handoff: &str) {
    let path = format!("/v1/sessions/{session}/handoffs/{handoff}/resolve");
    let answered = daemon.ask("POST", &path, Some(&json!({ "outcome": "resolved" })));
    assert_eq!(answered.status, 200, "{answered:?}");
}

/// Handoffs asked for and answered: two events each.
fn make_events(daemon: &Daemon, session: &str, count: usize, reason: &str) {
    for number in 0..count {
        let handoff = format!("h{number}");
        ask_for_human(daemon, session, &handoff, reason);
        answer(daemon, session, &handoff);
    }
}

fn wait_book<T>(receiver: &Receiver, what: &str, found: impl Fn(&Book) -> Option<T>) -> T {
    wait_for(what, PATIENCE, || found(&receiver.stand_in.book()))
}

fn wait_event(receiver: &Receiver, kind: &str, session: &str) -> Value {
    wait_book(receiver, kind, |book| {
        book.events.iter().find(|event| event["kind"] == kind && event["session_id"] == session).cloned()
    })
}

fn wait_heartbeat(receiver: &Receiver, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    wait_book(receiver, what, |book| book.heartbeat.clone().filter(|heartbeat| is_it(heartbeat)))
}

fn metric(daemon: &mut Daemon, name: &str) -> f64 {
    let text = get(daemon.api(), "/metrics").1;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[test]
fn a_host_registers_tells_how_it_is_and_what_happens_until_its_end() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (_home, mut daemon) = started(&receiver, "");
    let registration = wait_book(&receiver, "registration", |book| book.registration.clone());
    assert_eq!(
        (&registration["protocol"], &registration["api_port"]),
        (&json!(1), &json!(daemon.api().port()))
    );
    let session = create(&daemon, "s1");
    ask_for_human(&daemon, "s1", "h1", "a picture puzzle");
    answer(&daemon, "s1", "h1");
    let told = wait_event(&receiver, "human.resolved", "s1");
    assert_eq!((&told["data"]["handoff_id"], &told["labels"]["task_id"]), (&json!("h1"), &json!("t1")));
    assert_eq!(told["session_created_at"], session["created_at"], "the session that the API tells of");
    let once = told["data"]["idempotency_id"].as_str().unwrap();
    assert!(once.starts_with("s1.") && once.ends_with(".human.resolved"), "{once}");

    // What the heartbeat tells can be pulled as well.
    let heartbeat = wait_heartbeat(&receiver, "the session", |heartbeat| {
        heartbeat["sessions"][0]["session_id"] == "s1" && heartbeat["health"]["host"].is_object()
    });
    let health = daemon.health();
    for (told, pulled) in [
        (&heartbeat["health"]["run_id"], &health["run_id"]),
        (&heartbeat["origin"]["run_id"], &health["run_id"]),
        (&heartbeat["origin"]["host_id"], &health["host"]["id"]),
        (&heartbeat["health"]["host"], &health["host"]),
        (&heartbeat["health"]["sessions"], &health["sessions"]),
        (&heartbeat["health"]["gateway_url"], &health["gateway_url"]),
        (&heartbeat["health"]["version"], &health["version"]),
    ] {
        assert!(!told.is_null() && told == pulled, "{told} {pulled}");
    }
    let listed = daemon.ask("GET", "/v1/sessions?state=all", None).json["sessions"][0].clone();
    let links = daemon.ask("GET", "/v1/sessions/s1/connection", None).json;
    let told = &heartbeat["sessions"][0];
    for key in ["session_id", "created_at", "user_id", "kind", "labels", "expires_at"] {
        assert!(!told[key].is_null() && told[key] == listed[key], "{key}: {told} {listed}");
    }
    for key in ["viewer_url", "vnc_url", "cdp_url"] {
        assert!(!told[key].is_null() && told[key] == links[key], "{key}: {told} {links}");
    }
    let secret = [heartbeat.to_string(), registration.to_string()].concat();
    assert!(!secret.contains("eyJ"), "no token is in it");
    assert_eq!(daemon.component("control_plane")["status"], "ok");
    assert_eq!(metric(&mut daemon, "valetd_control_plane_connected"), 1.0);

    daemon.stop(PATIENCE);
    let book = receiver.stand_in.book();
    let ended = book.events.iter().find(|event| event["kind"] == "session.ended").unwrap();
    assert_eq!(ended["data"]["cause"], "host_draining");
    let last = book.heartbeat.as_ref().unwrap();
    assert_eq!((&last["health"]["draining"], &last["sessions"]), (&json!(true), &json!([])), "{last}");
    assert_eq!((book.registrations, book.strangers, book.repeated), (1, 0, 0));
}

#[test]
fn heartbeats_are_few_however_much_happens() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (_home, daemon) = started(&receiver, "");
    create(&daemon, "s1");
    wait_event(&receiver, "session.created", "s1");
    let (before, began) = (receiver.stand_in.book().heartbeats, Instant::now());
    make_events(&daemon, "s1", 100, "r");
    wait_book(&receiver, "200 events", |book| (book.events.len() > 200).then_some(()));
    let (sent, seconds) = (receiver.stand_in.book().heartbeats - before, began.elapsed().as_secs());
    assert!(sent <= seconds + 2, "{sent} in {seconds} s");
}

#[test]
fn f37_a_host_that_is_not_known_takes_no_sessions_and_keeps_its_own_until_it_is_known_again() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (home, mut daemon) = started(&receiver, "");
    create(&daemon, "kept");
    wait_event(&receiver, "session.created", "kept");
    let refused = Instant::now();
    receiver.stand_in.want(Some("another".to_owned()));
    wait_for("the host to refuse", PATIENCE, || (daemon.get("/readyz").0 == 503).then_some(()));
    record("F37 noticed", refused.elapsed());
    let body = json!({ "user_id": "u1" });
    let denied = daemon.ask("POST", "/v1/sessions", Some(&body));
    assert_eq!((denied.status, denied.problem()), (503, "host-refused"), "{denied:?}");
    assert!(denied.headers.contains_key("retry-after"));
    let capacity = daemon.ask("GET", "/v1/capacity", None).json;
    assert_eq!((&capacity["free"], &capacity["refused"]), (&json!(0), &json!(true)), "{capacity}");
    let health = wait_for("the session to be no worse than the host", PATIENCE, || {
        Some(daemon.health()).filter(|health| health["status"] == "degraded")
    });
    let part = daemon.component("control_plane");
    assert_eq!(part["status"], "failing", "{health}");
    assert!(part["reason"].as_str().unwrap().contains("it answers 401"), "{part}");
    assert_eq!(metric(&mut daemon, "valetd_control_plane_refused"), 1.0);
    // Those that run go on, and what happens to them is kept.
    ask_for_human(&daemon, "kept", "h1", "r");
    answer(&daemon, "kept", "h1");
    wait_for("a few tries", PATIENCE, || (receiver.stand_in.book().strangers >= 4).then_some(()));
    let errors = daemon
        .log()
        .iter()
        .filter(|record| {
            record["level"] == "ERROR"
                && record["message"].as_str().is_some_and(|text| text.contains("does not know this host"))
        })
        .count();
    assert_eq!(errors, 1, "said once");

    // The file has another credential, and nobody tells the daemon so.
    write_secret(home.0.path(), "control_plane_token", b"another");
    wait_for("the host to take sessions", PATIENCE, || (daemon.get("/readyz").0 == 200).then_some(()));
    assert_eq!(daemon.ask("POST", "/v1/sessions", Some(&body)).status, 201);
    wait_event(&receiver, "human.resolved", "kept");
    assert_eq!(metric(&mut daemon, "valetd_control_plane_refused"), 0.0);
    daemon.stop(PATIENCE);
}

#[test]
fn f37_a_host_that_was_refused_takes_no_sessions_after_a_restart_until_it_is_heard() {
    let receiver = Receiver::start(StandIn::new(Some("another".to_owned())));
    let home = Home::new();
    home.configure(&format!("{CONFIG}{}", receiver.config(home.0.path(), "token")));
    let mut daemon = home.start();
    let mark = daemon.path("state/control-plane-refused");
    wait_for("the host to refuse", PATIENCE, || {
        (mark.exists() && daemon.get("/readyz").0 == 503).then_some(())
    });
    daemon.stop(PATIENCE);
    // Nobody says anything to the next.
    let (address, stand_in) = (receiver.address, receiver.stand_in.clone());
    drop(receiver);
    let mut daemon = home.start();
    assert_eq!(daemon.get("/readyz").0, 503, "from the first answer on");
    let denied = daemon.ask("POST", "/v1/sessions", Some(&json!({ "user_id": "u1" })));
    assert_eq!((denied.status, denied.problem()), (503, "host-refused"), "{denied:?}");
    assert_eq!(daemon.component("control_plane")["reason"], "this host was refused");
    stand_in.want(Some("token".to_owned()));
    let _receiver = Receiver::on(address, stand_in);
    wait_for("the host to take sessions", PATIENCE, || (daemon.get("/readyz").0 == 200).then_some(()));
    wait_for("the mark to go", PATIENCE, || (!mark.exists()).then_some(()));
    daemon.stop(PATIENCE);
}

#[test]
fn a_credential_that_is_renewed_on_both_sides_refuses_nobody() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (home, mut daemon) = started(&receiver, "");
    wait_heartbeat(&receiver, "a heartbeat", |_| true);
    write_secret(home.0.path(), "control_plane_token", b"another");
    receiver.stand_in.want(Some("another".to_owned()));
    let heard = receiver.stand_in.book().heartbeats;
    wait_book(&receiver, "more heartbeats", |book| (book.heartbeats > heard + 1).then_some(()));
    let book = receiver.stand_in.book();
    assert_eq!((book.strangers, book.registrations), (1, 1), "the old one was shown once");
    drop(book);
    assert!(!daemon.log_text().contains("does not know this host"), "{}", daemon.log_text());
    assert_eq!(daemon.get("/readyz").0, 200);
    daemon.stop(PATIENCE);
}

#[test]
fn a_reload_brings_a_new_credential_though_the_old_one_is_still_good() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (home, mut daemon) = started(&receiver, "");
    wait_heartbeat(&receiver, "a heartbeat", |_| true);
    write_secret(home.0.path(), "control_plane_token", b"another");
    daemon.signal(Signal::SIGHUP);
    wait_book(&receiver, "the new one to be shown", |book| (book.strangers > 0).then_some(()));
    receiver.stand_in.want(Some("another".to_owned()));
    let heard = receiver.stand_in.book().heartbeats;
    wait_book(&receiver, "more heartbeats", |book| (book.heartbeats > heard + 1).then_some(()));
    daemon.stop(PATIENCE);
}

/// Resident memory of its own, in bytes.
fn memory(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn f36_an_outage_costs_no_memory_no_session_and_is_made_good_at_once() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (_home, mut daemon) = started(&receiver, "");
    let rounds = |name: &str| {
        for round in 0..3 {
            let id = format!("{name}{round}");
            create(&daemon, &id);
            // Several at a time: each answer waits for the disk.
            std::thread::scope(|scope| {
                for part in 0..4 {
                    let (daemon, id) = (&daemon, &id);
                    scope.spawn(move || {
                        for number in part * 100..(part + 1) * 100 {
                            let handoff = format!("h{number}");
                            ask_for_human(daemon, id, &handoff, &"x".repeat(400));
                            answer(daemon, id, &handoff);
                        }
                    });
                }
            });
            let path = format!("/v1/sessions/{id}?wait=ended");
            assert_eq!(daemon.ask("DELETE", &path, None).status, 200);
        }
    };
    // The same with a receiver first: whatever it costs besides has been paid then.
    rounds("heard");
    wait_event(&receiver, "session.ended", "heard2");
    let before = memory(&daemon);
    let (address, stand_in) = (receiver.address, receiver.stand_in.clone());
    drop(receiver);
    rounds("unheard");
    let grown = memory(&daemon).saturating_sub(before);
    assert_eq!(daemon.get("/readyz").0, 200);
    assert_eq!(daemon.component("control_plane")["status"], "ok", "an outage of a few seconds is none");
    let receiver = Receiver::on(address, stand_in);
    let back = Instant::now();
    wait_for("everything to be told", PATIENCE, || {
        let heartbeat = receiver.stand_in.book().heartbeat.clone()?;
        let ended = receiver
            .stand_in
            .book()
            .events
            .iter()
            .any(|event| event["kind"] == "session.ended" && event["session_id"] == "unheard2");
        (ended && heartbeat["events"]["waiting"] == 0).then_some(())
    });
    record("F36 caught up", back.elapsed());
    println!("F36: {} KiB more after 2400 events", grown / 1024);
    assert!(grown <= 2 << 20, "{grown} bytes more");
    let book = receiver.stand_in.book();
    assert!(book.events.len() > 4800, "{}", book.events.len());
    assert_eq!(book.heartbeat.as_ref().unwrap()["events"]["dropped"], 0);
    // What had waited came a hundred at a time, which is compressed.
    assert!(book.compressed >= 20, "{}", book.compressed);
    drop(book);
    daemon.stop(PATIENCE);
}

#[test]
fn a_receiver_that_takes_nothing_compressed_gets_it_plain() {
    let (held, unpacked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (hold, count) = (Arc::clone(&held), Arc::clone(&unpacked));
    let stand_in = StandIn::failing(Some("token".to_owned()), move |report| {
        if report.report == "events" && hold.load(Relaxed) {
            return Conduct::Status(503, "unavailable");
        }
        if report.compressed {
            count.fetch_add(1, Relaxed);
            return Conduct::Status(415, "unsupported-media-type");
        }
        Conduct::Well
    });
    let receiver = Receiver::start(stand_in);
    let (_home, daemon) = started(&receiver, "");
    create(&daemon, "s1");
    make_events(&daemon, "s1", 60, &"long ".repeat(90));
    held.store(false, Relaxed);
    wait_book(&receiver, "all of them", |book| (book.events.len() > 120).then_some(()));
    assert_eq!(receiver.stand_in.book().compressed, 0);
    assert_eq!(unpacked.load(Relaxed), 1, "it is not tried again");
}

#[test]
fn an_event_that_is_never_taken_is_set_aside_and_the_others_go_on() {
    let receiver = Receiver::start(StandIn::failing(Some("token".to_owned()), |report| {
        match report.body.to_string().contains("\"reason\":\"poison\"") {
            true => Conduct::Status(422, "invalid"),
            false => Conduct::Well,
        }
    }));
    let (_home, mut daemon) = started(&receiver, "");
    create(&daemon, "s1");
    for number in 0..40 {
        let handoff = format!("h{number}");
        ask_for_human(&daemon, "s1", &handoff, "fine");
        answer(&daemon, "s1", &handoff);
    }
    ask_for_human(&daemon, "s1", "bad", "poison");
    ask_for_human(&daemon, "s1", "last", "fine");
    wait_book(&receiver, "the last", |book| {
        book.events.iter().any(|event| event["data"]["handoff_id"] == "last").then_some(())
    });
    let told = daemon.wait_log("what was set aside", |record| {
        record["level"] == "ERROR"
            && record["message"].as_str().is_some_and(|text| text.contains("set aside"))
    });
    assert_eq!((&told["kind"], &told["session"]), (&json!("human.requested"), &json!("s1")), "{told}");
    let heartbeat = wait_heartbeat(&receiver, "the count", |heartbeat| heartbeat["events"]["set_aside"] == 1);
    assert_eq!(heartbeat["events"]["dropped"], 0);
    assert_eq!(metric(&mut daemon, "valetd_control_plane_set_aside_events_total"), 1.0);
    assert_eq!(daemon.component("control_plane")["status"], "ok");
    assert!(!daemon.log_text().contains("poison"), "what is in it is the user's");
    let kept = rusqlite::Connection::open(daemon.path("state/state.db"));
    daemon.stop(PATIENCE);
    let kept: String = kept
        .unwrap()
        .query_row("SELECT payload FROM outbox WHERE refused_ms IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert!(kept.contains("poison"), "{kept}");
}

#[test]
fn the_labels_that_a_killed_daemons_successor_tells_are_the_amended_ones() {
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (home, mut daemon) = started(&receiver, "");
    create(&daemon, "s1");
    let amended = daemon.ask("PATCH", "/v1/sessions/s1", Some(&json!({ "labels": { "task_id": "t2" } })));
    assert_eq!(amended.status, 200, "{amended:?}");
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit(PATIENCE);
    let mut next = home.start();
    let ended = wait_event(&receiver, "session.ended", "s1");
    assert_eq!(ended["labels"]["task_id"], "t2", "{ended}");
    next.stop(PATIENCE);
}

#[test]
fn the_end_of_a_daemon_waits_for_the_control_plane_no_longer_than_it_may() {
    let receiver = Receiver::start(StandIn::failing(Some("token".to_owned()), |report| {
        if report.report == "register" { Conduct::Well } else { Conduct::Hang }
    }));
    let (home, mut daemon) = started(&receiver, "[host]\ndrain_budget = \"8s\"\n");
    create(&daemon, "s1");
    let told = Instant::now();
    daemon.stop(PATIENCE);
    record("stop with a control plane that hangs", told.elapsed());
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    // What could not be told is told by the next.
    drop(receiver);
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    home.configure(&format!("{CONFIG}{}", receiver.config(home.0.path(), "token")));
    let mut next = home.start();
    let ended = wait_event(&receiver, "session.ended", "s1");
    assert_eq!(ended["data"]["cause"], "host_draining");
    next.stop(PATIENCE);
}

#[test]
fn on_fly_a_token_of_the_machine_is_shown_and_renewed_before_it_ends() {
    let receiver = Receiver::start(StandIn::new(Some("nobody has it".to_owned())));
    let home = Home::new();
    let socket = home.0.path().join("fly");
    // Shown until a minute before its end.
    let fly = FlyApi::start(&socket, 64, receiver.stand_in.clone());
    home.configure(&format!(
        "{CONFIG}[control_plane]\nurl = \"http://{}\"\nauth = \"fly_oidc\"\naudience = \"https://control\"\n\
         fly_socket = \"{}\"\nheartbeat = \"1s\"\n",
        receiver.address,
        socket.display()
    ));
    let mut daemon = home.start();
    daemon.wait_ready();
    wait_book(&receiver, "six heartbeats", |book| (book.heartbeats >= 6).then_some(()));
    let granted = fly.granted.load(Relaxed);
    assert!((2..6).contains(&granted), "{granted}");
    assert_eq!(receiver.stand_in.book().strangers, 0);
    let asked = fly.asked.lock().unwrap()[0].clone();
    assert!(asked.starts_with("POST /v1/tokens/oidc HTTP/1.1\r\n"), "{asked}");
    assert!(asked.ends_with(r#"{"aud":"https://control"}"#), "{asked}");
    assert!(!daemon.log_text().contains("c2lnbmVk"), "no token is in the log");
    daemon.stop(PATIENCE);
}

#[test]
fn with_a_certificate_the_host_is_known_and_without_the_right_ca_nobody_is_told_anything() {
    let receiver = Receiver::start(StandIn::new(None));
    let tls = Tls::start(receiver.address);
    let home = Home::new();
    let path = |name: &str, text: &str| write_secret(home.0.path(), name, text.as_bytes());
    let section = |ca: &str| {
        format!(
            "{CONFIG}[control_plane]\nurl = \"https://{}\"\nauth = \"mtls\"\nclient_certificate = \"{}\"\n\
             client_key = \"{}\"\nca = \"{ca}\"\nheartbeat = \"1s\"\n",
            tls.address,
            path("client.pem", &tls.client.0),
            path("client.key", &tls.client.1),
        )
    };
    home.configure(&section(&path("ca.pem", &tls.ca)));
    let mut daemon = home.start();
    daemon.wait_ready();
    create(&daemon, "s1");
    wait_event(&receiver, "session.created", "s1");
    daemon.stop(PATIENCE);

    let other = Tls::start(receiver.address);
    home.configure(&section(&path("other.pem", &other.ca)));
    let heard = receiver.stand_in.book().registrations;
    let mut daemon = home.start();
    daemon.wait_ready();
    let told = daemon.wait_log("that it is not heard", |record| {
        record["message"] == "the control plane does not hear this host"
    });
    assert!(told["error"].as_str().unwrap().contains("it cannot be reached"), "{told}");
    assert_eq!(receiver.stand_in.book().registrations, heard);
    assert_eq!(daemon.get("/readyz").0, 200, "that is no reason not to work");
    daemon.stop(PATIENCE);
}

#[test]
fn a_clock_that_is_off_is_told_of() {
    // The stand-in's clock is this machine's: the same to a second.
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (_home, mut daemon) = started(&receiver, "");
    let heartbeat = wait_heartbeat(&receiver, "a comparison of clocks", |heartbeat| {
        heartbeat["clock_skew_seconds"].is_number()
    });
    assert!(heartbeat["clock_skew_seconds"].as_f64().unwrap().abs() < 1.5, "{heartbeat}");
    assert!(metric(&mut daemon, "valetd_control_plane_clock_skew_seconds").abs() < 1.5);
}

#[test]
fn f52_the_control_plane_hears_that_the_machine_is_to_go_while_it_still_can() {
    let imds = Imds::start();
    let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
    let (_home, mut daemon) = started(&receiver, &imds.config("ec2"));
    create(&daemon, "s1");
    let known =
        wait_heartbeat(&receiver, "who it is", |heartbeat| heartbeat["origin"]["host_id"].is_string());
    assert_eq!(known["origin"]["host_id"], "i-0123456789abcdef0");
    imds.interrupt("terminate", 120);
    let told = wait_heartbeat(&receiver, "the notice", |heartbeat| heartbeat["health"]["draining"] == true);
    let notice = &told["notices"][0];
    assert_eq!(
        (&notice["kind"], &notice["what"]),
        (&json!("spot_interruption"), &json!("terminate")),
        "{told}"
    );
    assert!(notice["at"].as_f64().unwrap() > told["sent_at"].as_f64().unwrap(), "{told}");
    // The daemon stays, and so does the line.
    wait_event(&receiver, "session.ended", "s1");
    wait_heartbeat(&receiver, "nothing left", |heartbeat| heartbeat["sessions"] == json!([]));
    daemon.stop(PATIENCE);
}

/// Stopped also where a test fails.
struct Dev(std::process::Child);

impl Drop for Dev {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            send(i32::try_from(self.0.id()).unwrap(), Signal::SIGTERM);
            let _reaped = self.0.wait();
        }
    }
}

#[test]
fn a_developer_sees_on_a_page_what_is_reported() {
    #[expect(clippy::disallowed_methods, reason = "a developer's command")]
    let dev = std::process::Command::new(env!("CARGO_BIN_EXE_valetd"))
        .args(["dev", "--json", "--port", "0", "--no-browser"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut dev = Dev(dev);
    let mut line = String::new();
    BufReader::new(dev.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let links: Value = serde_json::from_str(&line).unwrap();
    let address =
        links["control_plane_url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let reports = || serde_json::from_str::<Value>(&get_of(address, "/reports").1).unwrap();
    let heartbeat = wait_for("a session that is ready", PATIENCE, || {
        Some(reports()["heartbeat"].clone()).filter(|heartbeat| heartbeat["sessions"][0]["state"] == "ready")
    });
    assert_eq!(heartbeat["health"]["gateway_url"], links["gateway_url"]);
    let (head, page) = get_of(address, "/");
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self';"), "{head}");
    assert!(page.contains("<th>dev</th>") && page.contains("session.created"), "{page}");
    assert!(!page.contains("<script") && !page.contains("eyJ"), "{page}");
    // A page elsewhere whose name leads here is no friend.
    let (head, _) = exchange(address, "evil.example", "/reports");
    assert!(head.starts_with("HTTP/1.1 421"), "{head}");
    send(i32::try_from(dev.0.id()).unwrap(), Signal::SIGTERM);
    let status = wait_for("its end", PATIENCE, || dev.0.try_wait().unwrap());
    assert!(status.success(), "{status:?}");
}

fn get_of(address: SocketAddr, path: &str) -> (String, String) {
    let (head, body) = exchange(address, &address.to_string(), path);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (head, body)
}

/// Head and body.
fn exchange(address: SocketAddr, host: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

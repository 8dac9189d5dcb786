//! What is told to the control plane, while the daemon is killed at random points and the receiver fails at random.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use valetd::control_plane::stand_in::{Book, Conduct, StandIn, Taken};

use crate::support::control_plane::{Chance, Receiver};
use crate::support::daemon::Home;
use crate::support::wait_for;

/// A session without a browser that works has handoffs all the same.
const CONFIG: &str =
    "[session]\nautostart = false\n[browser]\nprogram = \"/bin/false\"\n[sessions]\nmax = 3\n";
const PATIENCE: Duration = Duration::from_secs(60);
/// Events whose happening the API has confirmed, at least.
const CONFIRMED: usize = 1000;
/// Daemons that are killed, at least.
const KILLED: usize = 8;
/// Reports that are never answered cost ten seconds each.
const MOST_HANGS: u64 = 1;

/// Asks the host API; nothing where the daemon goes meanwhile.
fn try_ask(socket: &Path, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let body = body.to_string();
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// Session, when it was asked for in milliseconds, and its event: what the API has said that happened.
type Confirmed = BTreeSet<(String, i64, String)>;

fn millis(seconds: &Value) -> i64 {
    // Whole milliseconds, which a float has no trouble with.
    #[expect(clippy::cast_possible_truncation, reason = "a time of this century")]
    let millis = (seconds.as_f64().unwrap() * 1000.0).round() as i64;
    millis
}

/// Uses the daemon until it is gone.
fn use_it(socket: &Path, life: usize, confirmed: &mut Confirmed) -> Option<()> {
    let mut sessions = Vec::new();
    // One id that comes back in each life, and one that does not.
    for id in ["again".to_owned(), format!("life-{life}")] {
        let body = json!({ "session_id": id, "user_id": "u1", "labels": { "life": life.to_string() } });
        let (status, session) = try_ask(socket, "POST", "/v1/sessions", &body)?;
        assert_eq!(status, 201, "{session}");
        let created = millis(&session["created_at"]);
        confirmed.insert((id.clone(), created, "session.created".to_owned()));
        sessions.push((id, created));
    }
    for number in 0.. {
        let (id, created) = &sessions[number % sessions.len()];
        let (handoff, path) = (format!("h{number}"), format!("/v1/sessions/{id}/handoffs"));
        let reason = "x".repeat(number % 300 + 1);
        let body = json!({ "handoff_id": handoff, "kind": "review", "reason": reason, "event_scope": "t" });
        let (status, answer) = try_ask(socket, "POST", &path, &body)?;
        assert_eq!(status, 201, "{answer}");
        confirmed.insert((id.clone(), *created, format!("human.requested {handoff}")));
        let resolve = json!({ "outcome": "approved", "note": "n" });
        let (status, answer) = try_ask(socket, "POST", &format!("{path}/{handoff}/resolve"), &resolve)?;
        assert_eq!(status, 200, "{answer}");
        confirmed.insert((id.clone(), *created, format!("human.approved {handoff}")));
    }
    None
}

fn conduct(chance: &Chance, report: &Taken) -> Conduct {
    match chance.below(100) {
        0..8 => Conduct::Status(503, "unavailable"),
        8..12 => Conduct::Status(500, "internal"),
        12..24 => Conduct::TakeAndBreak,
        24..32 => Conduct::Break,
        32..36 => Conduct::Nonsense,
        36..38 => Conduct::Later(429, 1),
        38 if report.report == "events" => Conduct::Hang,
        _ => Conduct::Well,
    }
}

/// Events by session, in the order in which they came first.
fn by_session(book: &Book) -> BTreeMap<(String, i64), Vec<&Value>> {
    let mut sessions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in &book.events {
        let id = event["session_id"].as_str().unwrap().to_owned();
        sessions.entry((id, millis(&event["session_created_at"]))).or_default().push(event);
    }
    sessions
}

fn name(event: &Value) -> String {
    let kind = event["kind"].as_str().unwrap();
    event["data"]["handoff_id"].as_str().map_or(kind.to_owned(), |handoff| format!("{kind} {handoff}"))
}

fn check(book: &Book, confirmed: &Confirmed) {
    let sessions = by_session(book);
    for (session, events) in &sessions {
        let numbers: Vec<i64> = events.iter().map(|event| event["number"].as_i64().unwrap()).collect();
        let expected: Vec<i64> = (1..).take(numbers.len()).collect();
        assert_eq!(numbers, expected, "{session:?}: none missing, none before another");
        assert_eq!(events[0]["kind"], "session.created", "{session:?}");
        let ends = events.iter().filter(|event| event["kind"] == "session.ended").count();
        assert_eq!((ends, &events[events.len() - 1]["kind"]), (1, &json!("session.ended")), "{session:?}");
        let asked = events.iter().filter(|event| event["kind"] == "human.requested").count();
        let closed = |event: &&&Value| {
            ["human.approved", "human.cancelled"].contains(&event["kind"].as_str().unwrap())
        };
        assert_eq!(asked, events.iter().filter(closed).count(), "{session:?}: each handoff has an end");
    }
    let told: Confirmed = sessions
        .iter()
        .flat_map(|((id, created), events)| events.iter().map(|event| (id.clone(), *created, name(event))))
        .collect();
    let missing: Vec<_> = confirmed.difference(&told).take(5).collect();
    assert!(missing.is_empty(), "of {}: {missing:?} and so on", confirmed.len());
    assert_eq!(book.contradictions, [json!(null); 0], "what comes again is the same");
}

#[test]
fn f36_each_event_arrives_in_order_though_the_daemon_is_killed_and_the_receiver_fails_at_random() {
    let seed = std::env::var("VALETD_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let clock = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let seed = seed.unwrap_or_else(clock);
    println!("VALETD_TEST_SEED={seed}");
    let chance = Chance::new(seed);
    let (luck, calm) =
        (Chance::new(seed ^ 0x5eed), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let (quiet, hangs) = (std::sync::Arc::clone(&calm), std::sync::atomic::AtomicU64::new(0));
    let stand_in = StandIn::failing(Some("token".to_owned()), move |report| {
        use std::sync::atomic::Ordering::Relaxed;
        if quiet.load(Relaxed) {
            return Conduct::Well;
        }
        match conduct(&luck, report) {
            Conduct::Hang if hangs.fetch_add(1, Relaxed) >= MOST_HANGS => Conduct::Break,
            conduct => conduct,
        }
    });
    let receiver = Receiver::start(stand_in);
    let home = Home::new();
    home.configure(&format!("{CONFIG}{}", receiver.config(home.0.path(), "token")));
    let socket: PathBuf = home.0.path().join("control.sock");

    let began = Instant::now();
    let (mut confirmed, mut life) = (Confirmed::new(), 0);
    while confirmed.len() < CONFIRMED || life < KILLED {
        life += 1;
        let mut daemon = home.start();
        daemon.wait_ready();
        let end = chance.millis(100, 2500);
        std::thread::scope(|scope| {
            let user = scope.spawn(|| use_it(&socket, life, &mut confirmed));
            // Chance has it, and not a condition, when this one dies.
            let until = Instant::now() + end;
            while Instant::now() < until && !user.is_finished() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            daemon.signal(Signal::SIGKILL);
            user.join().unwrap();
        });
        daemon.wait_exit(PATIENCE);
    }
    println!("{} events confirmed by {life} daemons in {:?}", confirmed.len(), began.elapsed());

    // The last one is let live until all is told.
    let mut daemon = home.start();
    daemon.wait_ready();
    calm.store(true, std::sync::atomic::Ordering::Relaxed);
    let caught_up = Instant::now();
    wait_for("everything to be told", PATIENCE, || {
        let book = receiver.stand_in.book();
        let heartbeat = book.heartbeat.as_ref()?;
        (heartbeat["events"]["waiting"] == 0 && heartbeat["origin"]["run_id"] == run_of(&daemon))
            .then_some(())
    });
    println!("caught up after {:?}", caught_up.elapsed());
    daemon.stop(PATIENCE);
    let book = receiver.stand_in.book();
    check(&book, &confirmed);
    let last = book.heartbeat.as_ref().unwrap();
    assert_eq!((&last["events"]["dropped"], &last["events"]["set_aside"]), (&json!(0), &json!(0)), "{last}");
    assert!(book.repeated > 0, "chance has never lost an answer");
    println!("{} events, {} came again, {:?} in all", book.events.len(), book.repeated, began.elapsed());
}

/// The run of a daemon, as it says itself.
fn run_of(daemon: &crate::support::daemon::Daemon) -> Value {
    daemon.control("/health")["run_id"].clone()
}

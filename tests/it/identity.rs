//! Who the machine is, as the daemon tells it, and what it does when its cloud announces that the machine is to go.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::faults::{NO_BROWSER, assert_no_leaks, record};
use crate::support::daemon::{Daemon, Home, send};
use crate::support::imds::{Imds, Mode};
use crate::support::tokens::token;
use crate::support::viewer::Viewer;
use crate::support::wait_for;

/// No session until somebody asks.
const EMPTY: &str = "[session]\nautostart = false\n[browser]\nenabled = false\n";
/// For a lookup, tries after failures included.
const KNOWN: Duration = Duration::from_secs(20);
/// From an announcement to the host's doing something; polls are 5 s apart, and the machine may be busy.
const DETECTED: Duration = Duration::from_secs(20);

fn wait_host(daemon: &mut Daemon) -> Value {
    wait_for("the machine to be known", KNOWN, || {
        Some(daemon.health()["host"].clone()).filter(Value::is_object)
    })
}

fn wait_notice(daemon: &mut Daemon, kind: &str) -> Value {
    wait_for(kind, DETECTED, || {
        Some(daemon.health()["notice"].clone()).filter(|notice| notice["kind"] == kind)
    })
}

fn metric(daemon: &mut Daemon, name: &str) -> f64 {
    let text = daemon.get("/metrics").1;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

const LOOKUPS_FAILED: &str = "valetd_host_lookup_failures_total{what=\"identity\"}";
const POLLS_FAILED: &str = "valetd_host_lookup_failures_total{what=\"notices\"}";

/// What `valetd status` prints.
fn status(daemon: &Daemon) -> String {
    #[expect(clippy::disallowed_methods, reason = "an operator's command")]
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_valetd"))
        .args(["status", "--config"])
        .arg(daemon.path("valetd.toml"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_machine_of_ec2_is_known_to_everybody_and_its_tags_to_operators() {
    let imds = Imds::start();
    let mut daemon = Daemon::start(&format!("{EMPTY}{}", imds.config("auto")));
    let expected = json!({
        "provider": "ec2",
        "id": "i-0123456789abcdef0",
        "type": "m7i.large",
        "life_cycle": "spot",
        "region": "eu-central-1",
        "zone": "eu-central-1a",
        "address": "10.0.0.5",
    });
    assert_eq!(wait_host(&mut daemon), expected);
    let description: Value = serde_json::from_str(&daemon.get("/openapi.json").1).unwrap();
    let described = &description["components"]["schemas"]["HealthHost"]["properties"];
    for key in expected.as_object().unwrap().keys() {
        assert!(described[key]["description"].is_string(), "{key}: {described}");
    }
    let info = "valetd_host_info{id=\"i-0123456789abcdef0\",provider=\"ec2\",region=\"eu-central-1\",zone=\"eu-central-1a\"}";
    assert_eq!(metric(&mut daemon, info), 1.0);
    let shown = status(&daemon);
    let line = "host i-0123456789abcdef0  ec2, m7i.large, spot, eu-central-1a, 10.0.0.5\n";
    assert!(shown.contains(line), "{shown}");
    let told = daemon.wait_log("who it is", |record| record["message"] == "this machine is known");
    assert_eq!(told["id"], "i-0123456789abcdef0");
    // Tags may hold anything, and are for those who run the host.
    let tags = json!({ "Name": "sandbox 7", "team:owner": "canary-team" });
    assert_eq!(daemon.control("/v1/status")["host_tags"], tags);
    let open = [daemon.get("/health").1, daemon.get("/metrics").1, daemon.log_text()];
    assert!(open.iter().all(|text| !text.contains("canary") && !text.contains("AQAEA")), "{open:?}");
    assert!(imds.asked().iter().all(|path| !path.starts_with("401")), "{:?}", imds.asked());
    daemon.stop(Duration::from_secs(30));
}

#[test]
fn f53_a_metadata_service_that_misbehaves_is_counted_and_asked_again_and_the_daemon_is_well() {
    for mode in [Mode::Hangs, Mode::Garbage, Mode::Floods, Mode::Redirects] {
        let imds = Imds::start();
        imds.answer(mode);
        let began = Instant::now();
        let mut daemon = Daemon::start(&format!("{EMPTY}{}", imds.config("ec2")));
        daemon.wait_ready();
        wait_for("a failed lookup", KNOWN, || (metric(&mut daemon, LOOKUPS_FAILED) >= 1.0).then_some(()));
        let health = daemon.health();
        assert_eq!((&health["status"], &health["host"]), (&json!("ok"), &Value::Null), "{mode:?}");
        let told = daemon.wait_log("the failure", |record| record["error"].is_string());
        let error = told["error"].as_str().unwrap();
        assert!(!error.contains(char::is_control) && error.len() < 300, "{mode:?}: {error}");
        imds.answer(Mode::Well);
        assert_eq!(wait_host(&mut daemon)["id"], "i-0123456789abcdef0", "{mode:?}");
        record(&format!("F53 {mode:?}"), began.elapsed());
        daemon.stop(Duration::from_secs(30));
    }
}

#[test]
fn without_a_cloud_and_with_flys_environment_the_machine_is_known_at_once() {
    let imds = Imds::start();
    imds.answer(Mode::Hangs);
    let mut daemon = Daemon::start(&format!("{EMPTY}{}", imds.config("auto")));
    let began = Instant::now();
    daemon.wait_ready();
    let host = wait_host(&mut daemon);
    // A test machine may be one of EC2, whose firmware says so.
    let vendor = std::fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    if !vendor.starts_with("Amazon EC2") {
        assert_eq!((&host["provider"], host["id"].as_str().unwrap().len()), (&json!("local"), 32));
        println!("local after {} ms", began.elapsed().as_millis());
    }
    daemon.stop(Duration::from_secs(30));

    let home = Home::new();
    home.configure(&format!("{EMPTY}{}", imds.config("auto")));
    let before = imds.asked().len();
    let fly = [
        ("FLY_APP_NAME", "sandboxes"),
        ("FLY_MACHINE_ID", "d891234f7e5018"),
        ("FLY_REGION", "fra"),
        ("FLY_PRIVATE_IP", "fdaa:0:18:a7b:7d:f066:f83a:2"),
    ];
    let mut daemon = home.start_with(&fly);
    let expected = json!({
        "provider": "fly",
        "id": "d891234f7e5018",
        "name": "sandboxes",
        "region": "fra",
        "address": "fdaa:0:18:a7b:7d:f066:f83a:2",
    });
    assert_eq!(wait_host(&mut daemon), expected);
    assert_eq!((imds.tokens(), imds.asked().len()), (0, before), "EC2 was not asked");
    daemon.stop(Duration::from_secs(30));
}

#[test]
fn f53_the_last_known_stays_when_the_service_dies_and_its_token_is_renewed() {
    let mut imds = Imds::start();
    // Two minutes early is at once: each question gets a token of its own.
    imds.grant(121);
    let mut daemon = Daemon::start(&format!("{EMPTY}{}", imds.config("ec2")));
    wait_host(&mut daemon);
    let before = imds.tokens();
    wait_for("a token that ends soon to be replaced", KNOWN, || (imds.tokens() > before).then_some(()));

    imds.grant(21_600);
    let asked = imds.asked().len();
    wait_for("two rounds with one token", KNOWN, || (imds.asked().len() >= asked + 6).then_some(()));
    imds.expire_tokens();
    let refused = |imds: &Imds| imds.asked().iter().filter(|path| path.starts_with("401")).count();
    wait_for("a refusal", KNOWN, || (refused(&imds) == 1).then_some(()));
    let asked = imds.asked().len();
    wait_for("a round after it", KNOWN, || (imds.asked().len() >= asked + 3).then_some(()));
    assert_eq!((refused(&imds), metric(&mut daemon, POLLS_FAILED)), (1, 0.0));

    imds.die();
    wait_for("a failed poll", KNOWN, || (metric(&mut daemon, POLLS_FAILED) >= 1.0).then_some(()));
    assert_eq!(daemon.health()["host"]["id"], "i-0123456789abcdef0");
    assert_eq!((daemon.health()["status"].clone(), daemon.get("/readyz").0), (json!("ok"), 200));
    assert_eq!(daemon.health()["notice"], Value::Null);
    imds.revive();
    let began = Instant::now();
    daemon.wait_log("that it is back", |record| record["message"] == "EC2's announcements can be seen again");
    record("F53 metadata service back", began.elapsed());
    daemon.stop(Duration::from_secs(30));
}

#[test]
fn f52_before_an_interruption_sessions_end_in_order_and_the_daemon_stays_without() {
    let imds = Imds::start();
    let mut daemon = Daemon::start(&imds.config("ec2"));
    daemon.wait_ready();
    wait_host(&mut daemon);
    let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("spectator", 60)).unwrap();

    let announced = Instant::now();
    imds.interrupt("terminate", 120);
    wait_for("the host to be unready", DETECTED, || (daemon.get("/readyz").0 == 503).then_some(()));
    record("F52 noticed", announced.elapsed());
    assert_eq!(viewer.close_code(Duration::from_secs(5)), 1001);
    let notice = daemon.health()["notice"].clone();
    assert_eq!((&notice["kind"], &notice["what"]), (&json!("spot_interruption"), &json!("terminate")));
    assert!(notice["at"].as_f64().unwrap() > notice["since"].as_f64().unwrap(), "{notice}");
    let refused = daemon.ask("POST", "/v1/sessions", Some(&json!({ "user_id": "u1" })));
    assert_eq!((refused.status, refused.problem()), (503, "draining"));

    let ended = wait_for("the session's end", Duration::from_secs(90), || {
        let session = daemon.ask("GET", "/v1/sessions/s1", None).json;
        (session["state"] == "stopped").then_some(session)
    });
    record("F52 drained", announced.elapsed());
    assert_eq!(ended["end"]["cause"], "host_draining");
    let preferences = std::fs::read_to_string(daemon.path("state/profiles/s1/Default/Preferences")).unwrap();
    let preferences: Value = serde_json::from_str(&preferences).unwrap();
    assert_eq!(preferences["profile"]["exit_type"], "Normal", "a clean exit, as Chromium sees it");

    // Were it to end, a service manager would start one that takes sessions.
    daemon.wait_log("the wait", |record| record["message"] == "drained: waiting to be stopped");
    let health = daemon.health();
    assert_eq!((&health["draining"], &health["sessions"]["count"]), (&json!(true), &json!(0)));
    assert_eq!((daemon.get("/livez").0, daemon.get("/readyz").0), (200, 503));
    let refused = daemon.ask("POST", "/v1/sessions", Some(&json!({ "user_id": "u1" })));
    assert_eq!((refused.status, refused.problem()), (503, "draining"));
    assert_eq!(metric(&mut daemon, "valetd_host_notices{kind=\"spot_interruption\"}"), 1.0);
    assert!(status(&daemon).contains("\nnotice spot_interruption (terminate), in "), "{}", status(&daemon));
    daemon.stop(Duration::from_secs(10));
    assert_no_leaks(&daemon);
}

#[test]
fn f52_a_stop_that_comes_during_the_drain_is_not_put_off() {
    let imds = Imds::start();
    let mut daemon = Daemon::start(&format!("[host]\ndrain_budget = \"500ms\"\n{}", imds.config("ec2")));
    daemon.wait_ready();
    // It gets TERM, and is killed 5 s later: the drain has that time, the stop has not.
    send(daemon.service_pid("browser"), Signal::SIGSTOP);
    imds.interrupt("stop", 120);
    // A browser that does not answer makes the host unready too.
    wait_for("the host to drain", DETECTED, || (daemon.health()["draining"] == true).then_some(()));
    let told = Instant::now();
    daemon.stop(Duration::from_secs(4));
    record("F52 stopped while draining", told.elapsed());
    assert_no_leaks(&daemon);
}

#[test]
fn f52_a_daemon_on_a_machine_that_goes_drains_at_once_and_systemd_hears_of_an_end_when_it_is_one() {
    let imds = Imds::start();
    imds.interrupt("terminate", 60);
    let home = Home::new();
    home.configure(&format!("{NO_BROWSER}\n{}", imds.config("auto")));
    let path = home.0.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(KNOWN)).unwrap();
    let receive = |wanted: &str| {
        let (mut seen, mut buffer) = (String::new(), [0; 4096]);
        while !seen.lines().any(|line| line.starts_with(wanted)) {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}\n{seen}"));
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            seen.push('\n');
        }
        seen
    };
    let mut daemon = home.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let mut told = receive("STATUS=draining");
    told.push_str(&receive("STATUS=drained"));
    assert!(told.contains("READY=1") && !told.contains("STOPPING=1"), "{told}");
    assert_eq!((daemon.get("/livez").0, daemon.get("/readyz").0), (200, 503));
    daemon.signal(Signal::SIGTERM);
    receive("STOPPING=1");
    assert!(daemon.wait_exit(Duration::from_secs(10)).success());
}

#[test]
fn f52_a_group_that_lets_go_drains_the_host_and_its_call_back_brings_a_fresh_daemon() {
    let imds = Imds::start();
    let mut daemon = Daemon::start(&format!("{NO_BROWSER}\n{}", imds.config("ec2")));
    daemon.wait_ready();
    imds.set("autoscaling/target-lifecycle-state", "Warmed:Running");
    let notice = wait_notice(&mut daemon, "leaving_group");
    assert_eq!((&notice["what"], &notice["at"]), (&json!("Warmed:Running"), &Value::Null));
    daemon.wait_log("the wait", |record| record["message"] == "drained: waiting to be stopped");
    assert_eq!(daemon.get("/readyz").0, 503);
    // It ends with a status on which service managers start the next one, after a minute in which nothing else is heard.
    imds.set("autoscaling/target-lifecycle-state", "InService");
    let called = Instant::now();
    let ended = daemon.wait_exit(Duration::from_secs(90));
    record("F52 called back", called.elapsed());
    assert_eq!(ended.code(), Some(1));
    assert!(called.elapsed() > Duration::from_secs(50), "{:?}", called.elapsed());
    assert_no_leaks(&daemon);
}

#[test]
fn f52_a_recommendation_to_move_away_is_shown_and_followed_only_where_that_is_configured() {
    let imds = Imds::start();
    let given = r#"{"noticeTime": "2026-11-25T18:31:58Z"}"#;
    let mut daemon = Daemon::start(&format!("{EMPTY}{}", imds.config("ec2")));
    daemon.wait_ready();
    imds.set("events/recommendations/rebalance", given);
    let notice = wait_notice(&mut daemon, "rebalance");
    assert_eq!(notice, json!({ "kind": "rebalance", "since": 1_795_631_518.0 }));
    assert_eq!((daemon.get("/readyz").0, daemon.health()["status"].clone()), (200, json!("ok")));
    assert_eq!(metric(&mut daemon, "valetd_host_notices{kind=\"rebalance\"}"), 1.0);
    daemon.wait_log("a warning", |record| {
        record["level"] == "WARN" && record["message"] == "EC2 may take this machine back soon"
    });
    // Taken back, it is told no more.
    imds.remove("events/recommendations/rebalance");
    wait_for("it to be over", DETECTED, || daemon.health()["notice"].is_null().then_some(()));
    daemon.stop(Duration::from_secs(30));

    imds.set("events/recommendations/rebalance", given);
    let follow = format!("{EMPTY}{}drain_on_rebalance = true\n", imds.config("ec2"));
    let mut daemon = Daemon::start(&follow);
    wait_for("the host to be unready", DETECTED, || (daemon.get("/readyz").0 == 503).then_some(()));
    daemon.wait_log("the wait", |record| record["message"] == "drained: waiting to be stopped");
    daemon.stop(Duration::from_secs(30));
}

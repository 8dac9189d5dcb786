//! Sessions whose browser AdsPower opens.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::stage::{PATIENCE, Stage, has_chromium, page, wait_colour, wait_gone};
use crate::support::automation::Automation;
use crate::support::daemon::send;
use crate::support::net::Listener;
use crate::support::tokens::{now, sign};
use crate::support::{leaks, wait_for};

const LOCAL: &str = "data:text/html,<title>local</title><p%20id=p>here";

fn token(session: &str) -> String {
    sign(&json!({ "session_id": session, "user_id": "u1", "role": "automation", "exp": now() + 600 }))
}

/// Drives a session's browser through the gateway, at the address that it always has.
fn drive(stage: &mut Stage, id: &str) {
    let gateway = stage.daemon.gateway();
    let bearer = format!("Bearer {}", token(id));
    let mut automation = wait_for("the CDP proxy", PATIENCE, || {
        let path = format!("/sessions/{id}/cdp");
        Automation::connect(gateway, &path, &[("Authorization", &bearer)]).ok()
    });
    let session = automation.page(LOCAL);
    assert_eq!(automation.evaluate(&session, "document.getElementById('p').textContent"), "here");
}

#[test]
fn two_profiles_are_shown_on_two_displays_and_driven_and_leave_nothing() {
    let mut stage = Stage::new("");
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| stage.create("a", "p1", &page(0, 200, 0)));
        (stage.create("b", "p2", &page(200, 0, 0)), one.join().unwrap())
    });
    let (a, b) = if one["session_id"] == "a" { (one, other) } else { (other, one) };
    assert_eq!((&a["kind"], &a["profile"]), (&json!("adspower"), &json!("p1")), "{a}");
    // Whichever came first has the first place.
    let slot = |session: &Value| {
        let display = session["display"].as_str().unwrap();
        let of = |slot: usize| leaks::processes(&stage.daemon.path(format!("run/s{slot}/xauthority")));
        (0..2)
            .find(|slot| of(*slot).iter().any(|(_, line)| line.contains(&format!("Xvfb {display} "))))
            .unwrap()
    };
    let (of_a, of_b) = (stage.display(&a, slot(&a)), stage.display(&b, slot(&b)));
    wait_colour(&of_a, 0, 200, 0);
    wait_colour(&of_b, 200, 0, 0);
    let (own, own_display) = stage.own_display();
    assert!(has_chromium(&of_a) && has_chromium(&of_b), "control");
    assert!(!has_chromium(&own_display), "nothing is on AdsPower's own display");
    assert_eq!(stage.cookies().len(), 3, "{:?}", stage.cookies());

    drive(&mut stage, "a");
    drive(&mut stage, "b");
    let browser = stage.api.pid("a", "browser").unwrap();
    stage.api.end("a");
    assert!(!stage.app().is_open("p1") && stage.app().is_open("p2"));
    wait_gone(browser);
    let number = |session: &Value| session["display"].as_str().unwrap()[1..].to_owned();
    let mut expected = vec![own.to_string(), number(&b)];
    expected.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(stage.cookies(), expected);
    let door = stage.daemon.path(format!("run/adspower/tmp/.X11-unix/X{}", number(&a)));
    assert!(std::fs::symlink_metadata(&door).is_err(), "{}", door.display());
    assert_eq!(leaks::processes(&stage.profile("p1")), []);
    assert!(!leaks::processes(&stage.profile("p2")).is_empty(), "control");
    // The next session of the profile finds what the last one left in it.
    assert!(stage.profile("p1").join("Default").exists());
    stage.create("c", "p1", &page(0, 0, 200));
    stage.finish();
}

#[test]
fn a_browser_that_is_killed_comes_back_and_so_it_does_when_its_display_is() {
    let mut stage = Stage::new("");
    let session = stage.create("a", "p1", &page(0, 200, 0));
    drive(&mut stage, "a");
    let first = stage.api.pid("a", "browser").unwrap();
    send(first, Signal::SIGKILL);
    let comes_back = |before: i32| {
        wait_for("another browser", PATIENCE, || {
            let pid = stage.api.pid("a", "browser").filter(|pid| *pid != before)?;
            (stage.api.session("a")["state"] == "ready").then_some(pid)
        })
    };
    let second = comes_back(first);
    send(stage.api.pid("a", "xvfb").unwrap(), Signal::SIGKILL);
    comes_back(second);
    wait_colour(&stage.display(&session, 0), 0, 200, 0);
    drive(&mut stage, "a");
    wait_gone(second);
    stage.finish();
}

#[test]
fn f26_a_port_that_is_somebody_elses_is_never_connected_to() {
    let stage = Stage::new("");
    let stranger = Listener::counting("127.0.0.1", 0);
    stage.app().behave(&format!("wrong-port={}", stranger.address.port()));
    let request = json!({ "session_id": "a", "user_id": "u1", "kind": "adspower", "profile": "p1" });
    assert_eq!(stage.api.ask("POST", "/v1/sessions", &request).0, 201);
    let part = wait_for("the refusal", PATIENCE, || {
        let part = stage.part("a", "browser");
        (part["status"] == "failing").then_some(part)
    });
    let reason = part["reason"].as_str().unwrap();
    assert!(reason.starts_with("AdsPower opened a browser that is not taken"), "{part}");
    assert_eq!(stranger.settled(), 0, "connections to a stranger");
    stage.app().behave("well");
    stage.wait_session("a", "ready");
    assert_eq!(stranger.settled(), 0, "connections to a stranger");

    // Nor is one of AdsPower's own that is another profile's.
    let path = "/api/v2/browser-profile/active?profile_id=p1";
    let other = stage.app().ask("GET", path, &Value::Null)["data"]["debug_port"].as_str().unwrap().to_owned();
    stage.app().behave(&format!("wrong-port={other}"));
    let request = json!({ "session_id": "b", "user_id": "u1", "kind": "adspower", "profile": "p2" });
    assert_eq!(stage.api.ask("POST", "/v1/sessions", &request).0, 201);
    let reason = wait_for("the refusal", PATIENCE, || {
        let part = stage.part("b", "browser");
        part["reason"].as_str().filter(|_| part["status"] == "failing").map(ToOwned::to_owned)
    });
    assert!(reason.ends_with("its DevTools are another browser's"), "{reason}");
    assert_eq!(stage.api.session("a")["state"], "ready");
    stage.finish();
}

#[test]
fn what_the_pool_has_for_a_profile_is_told_to_adspower_before_it_opens_it() {
    let stage = Stage::new("[profiles]\ncooldown = \"0s\"");
    let added = json!({
        "user_id": "u1", "kind": "adspower", "external_id": "p1", "proxy": { "server": "socks5://10.0.0.1:1080" },
        "fingerprint": { "language": ["de-DE"] },
    });
    let (status, profile) = stage.api.ask("POST", "/v1/profiles", &added);
    assert_eq!((status, &profile["fingerprint"]), (201, &json!({ "language": ["de-DE"] })), "{profile}");
    let request = json!({ "session_id": "a", "user_id": "u1", "kind": "adspower", "pool": true });
    stage.api.create_with(&request);
    let text = std::fs::read_to_string(stage.profile("p1").join("../../stand-in.json")).unwrap();
    let known: Value = serde_json::from_str(&text).unwrap();
    let of = |id: &str| known["profiles"][id]["fields"].clone();
    let told = of("p1");
    let proxy = json!({
        "proxy_soft": "other", "proxy_type": "socks5", "proxy_host": "10.0.0.1", "proxy_port": "1080",
    });
    assert_eq!(
        (&told["user_proxy_config"], &told["fingerprint_config"]),
        (&proxy, &json!({ "language": ["de-DE"] })),
        "{told}"
    );
    assert!(of("p2").is_object() && of("p2")["user_proxy_config"].is_null(), "{known}");
    stage.finish();
}

#[test]
fn what_belongs_to_the_profile_is_refused_and_so_is_a_host_without_adspower() {
    let stage = Stage::new("");
    let ask = |field: &str, value: Value| {
        let mut request = json!({ "user_id": "u1", "kind": "adspower", "profile": "p1" });
        request[field] = value;
        let (status, problem) = stage.api.ask("POST", "/v1/sessions", &request);
        (status, problem["type"].as_str().unwrap().to_owned(), problem["errors"][0]["pointer"].clone())
    };
    let invalid = "urn:valetd:problem:invalid-request".to_owned();
    let proxy = ask("proxy", json!({ "server": "http://127.0.0.1:1" }));
    assert_eq!(proxy, (422, invalid.clone(), json!("/proxy")));
    assert_eq!(ask("env", json!({ "TZ": "UTC" })), (422, invalid.clone(), json!("/env")));
    let unnamed = json!({ "user_id": "u1", "kind": "adspower" });
    let (status, problem) = stage.api.ask("POST", "/v1/sessions", &unnamed);
    assert_eq!((status, &problem["type"]), (422, &json!(invalid)), "{problem}");
    // A profile that AdsPower does not have shows as such.
    let unknown = json!({ "session_id": "u", "user_id": "u1", "kind": "adspower", "profile": "nobodys" });
    assert_eq!(stage.api.ask("POST", "/v1/sessions", &unknown).0, 201);
    let part = wait_for("the refusal", PATIENCE, || {
        let part = stage.part("u", "browser");
        (part["status"] == "failing").then_some(part)
    });
    assert!(part["reason"].as_str().unwrap().contains("profile does not exist"), "{part}");
    stage.api.end("u");
    stage.finish();
}

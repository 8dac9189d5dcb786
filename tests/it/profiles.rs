//! The pool of profiles on the whole daemon: what rotates, what rests, what is kept from being used, and what a crash leaves.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::faults::touchy_browser;
use crate::faults_sessions::Frozen;
use crate::support::automation::Automation;
use crate::support::daemon::{Daemon, Home};
use crate::support::host_api::HostApi;
use crate::support::tokens::{now, sign};
use crate::support::viewer::get;
use crate::support::wait_for;

const ON_REQUEST: &str = "[session]\nautostart = false\n[sessions]\nmax = 4\n";
const PATIENCE: Duration = Duration::from_secs(60);
const PROBLEM: &str = "urn:valetd:problem:";

fn api_of(daemon: &mut Daemon) -> HostApi {
    daemon.api();
    let api = HostApi::on(daemon.path("control.sock"));
    // Its pool is there once its manager answers.
    wait_for("the manager", PATIENCE, || {
        (api.ask("GET", "/v1/profiles", &Value::Null).0 == 200).then_some(())
    });
    api
}

fn pooled(id: &str) -> Value {
    json!({ "session_id": id, "user_id": "u1", "pool": true })
}

fn create(api: &HostApi, request: &Value) -> (u16, Value) {
    api.ask("POST", "/v1/sessions?wait=ready&timeout=60s", request)
}

fn refused(api: &HostApi, request: &Value) -> (u16, String) {
    let (status, problem) = create(api, request);
    let name = problem["type"].as_str().and_then(|name| name.strip_prefix(PROBLEM));
    (status, name.unwrap_or_else(|| panic!("{problem}")).to_owned())
}

fn profile_of(session: &Value) -> String {
    session["profile"].as_str().unwrap_or_else(|| panic!("{session}")).to_owned()
}

fn profile(api: &HostApi, name: &str) -> Value {
    let (status, profile) = api.ask("GET", &format!("/v1/profiles/{name}"), &Value::Null);
    assert_eq!(status, 200, "{profile}");
    profile
}

fn states(api: &HostApi) -> Vec<(String, String)> {
    let (status, list) = api.ask("GET", "/v1/profiles?user_id=u1", &Value::Null);
    assert_eq!(status, 200, "{list}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let profiles = list["profiles"].as_array().unwrap().iter();
    profiles.map(|profile| (text(&profile["name"]), text(&profile["state"]))).collect()
}

/// Waits until the profile has been looked after since its session's end, and gives it as it is then.
fn returned(api: &HostApi, name: &str) -> Value {
    wait_for("the profile to be given back", PATIENCE, || {
        let found = profile(api, name);
        (found["state"] != "active").then_some(found)
    })
}

fn wait_written(daemon: &mut Daemon) {
    wait_for("everything to be written down", PATIENCE, || {
        let metrics = get(daemon.api(), "/metrics").1;
        metrics.lines().any(|line| line == "valetd_store_pending_rows 0").then_some(())
    });
}

#[test]
fn profiles_rotate_and_rest_and_who_has_none_left_is_told_when_to_come_back() {
    let mut daemon = Daemon::start(&format!("{ON_REQUEST}[profiles]\nper_user = 2"));
    let api = api_of(&mut daemon);
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| api.create_with(&pooled("b")));
        (api.create_with(&pooled("a")), other.join().unwrap())
    });
    let (first, second) = (profile_of(&first), profile_of(&second));
    assert_ne!(first, second, "one session to a profile");
    assert!(daemon.path("state/profiles").join(&first).is_dir());
    let held = profile(&api, &first);
    assert_eq!((&held["state"], &held["session_id"]), (&json!("active"), &json!("a")));
    assert_eq!(refused(&api, &pooled("c")), (409, "profiles-in-use".to_owned()));
    // The name alone does not get past the pool.
    let named = |user: &str| json!({ "session_id": "c", "user_id": user, "profile": first });
    assert_eq!(refused(&api, &named("u1")), (409, "profile-busy".to_owned()));
    assert_eq!(refused(&api, &named("u2")), (404, "unknown-profile".to_owned()));
    let made_up = json!({ "session_id": "c", "user_id": "u2", "profile": "pool-0123456789abcdef" });
    assert_eq!(refused(&api, &made_up), (404, "unknown-profile".to_owned()));
    let in_use = api.ask("DELETE", &format!("/v1/profiles/{first}"), &Value::Null);
    assert_eq!((in_use.0, &in_use.1["type"]), (409, &json!(format!("{PROBLEM}profile-busy"))));

    api.end("a");
    assert_eq!(returned(&api, &first)["state"], "cooldown");
    // Another user has their own.
    let other = api.create_with(&json!({ "session_id": "d", "user_id": "u2", "pool": true }));
    let other = profile_of(&other);
    assert!(![&first, &second].contains(&&other));
    api.end("d");
    api.end("b");
    for name in [&second, &other] {
        returned(&api, name);
    }
    let answer = daemon.ask("POST", "/v1/sessions", Some(&pooled("c")));
    assert_eq!((answer.status, answer.problem()), (503, "profiles-cooling"), "{answer:?}");
    let after: u64 = answer.headers["retry-after"].parse().unwrap();
    assert!((1_700..=36 * 60).contains(&after), "{after}");
    assert_eq!(refused(&api, &named("u1")), (503, "profiles-cooling".to_owned()));
    let metrics = get(daemon.api(), "/metrics").1;
    for line in [
        "valetd_profile_count{state=\"cooldown\"} 3",
        "valetd_profile_count{state=\"idle\"} 0",
        "valetd_session_denied_total{reason=\"profiles-cooling\"} 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    // An operator may end a rest; the one that was used longest ago is next.
    for name in [&second, &first] {
        let (status, released) = api.ask("POST", &format!("/v1/profiles/{name}/release"), &Value::Null);
        assert_eq!((status, &released["state"]), (200, &json!("idle")));
    }
    let uses = |name: &str| profile(&api, name)["last_used_at"].as_f64().unwrap();
    let before = [(&first, uses(&first)), (&second, uses(&second))];
    let chosen = profile_of(&api.create_with(&pooled("c")));
    let of = |is_chosen: bool| before.iter().find(|(name, _)| (**name == chosen) == is_chosen).unwrap().1;
    // Both may have been lent in the same millisecond.
    assert!(of(true) <= of(false), "{before:?}, {chosen}");
    daemon.stop(PATIENCE);
}

#[test]
fn f43_the_pool_is_as_it_was_after_the_daemon_was_killed() {
    let home = Home::new();
    home.configure(&format!("{ON_REQUEST}[profiles]\nper_user = 3"));
    let mut daemon = home.start();
    let api = api_of(&mut daemon);
    for id in ["a", "b", "c"] {
        api.create_with(&pooled(id));
    }
    let name = |id: &str| profile_of(&api.session(id));
    let (held, resting, kept) = (name("a"), name("b"), name("c"));
    let body = json!({ "reason": "looked at" });
    let (status, condemned) = api.ask("POST", &format!("/v1/profiles/{kept}/quarantine"), &body);
    assert_eq!((status, &condemned["state"]), (200, &json!("active")), "it is in use still");
    api.end("b");
    api.end("c");
    returned(&api, &kept);
    let again = json!({ "reason": "looked at again" });
    assert_eq!(api.ask("POST", &format!("/v1/profiles/{kept}/quarantine"), &again).0, 200);
    let available = returned(&api, &resting)["available_at"].as_f64().unwrap();
    let uses = profile(&api, &held)["uses"].clone();
    wait_written(&mut daemon);
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit(PATIENCE);

    let mut next = home.start();
    let api = api_of(&mut next);
    let word = |name: &str| profile(&api, name)["state"].as_str().unwrap().to_owned();
    assert_eq!(word(&kept), "quarantined");
    assert_eq!(profile(&api, &kept)["reason"], "looked at again");
    assert_eq!(word(&resting), "cooldown");
    let later = profile(&api, &resting)["available_at"].as_f64().unwrap();
    assert!((later - available).abs() < 5.0, "{available} {later}");
    // Its session died with the daemon.
    let cut = profile(&api, &held);
    assert_eq!((&cut["state"], &cut["failures"]), (&json!("cooldown"), &json!(0)), "{cut}");
    assert_eq!(cut["uses"], uses);
    assert_eq!(refused(&api, &pooled("d")), (503, "profiles-cooling".to_owned()));
    // And once more, with nothing in between.
    let before = states(&api);
    wait_written(&mut next);
    next.stop(PATIENCE);
    let mut last = home.start();
    assert_eq!(states(&api_of(&mut last)), before);
    last.stop(PATIENCE);
}

#[test]
fn a_profile_whose_sessions_fail_is_quarantined_until_somebody_releases_it() {
    // A browser that ends at once: no session is ever ready.
    let config = "[session]\nautostart = false\n[sessions]\nstart_deadline = \"1s\"\n[browser]\nprogram = \"/bin/false\"\n\
                  [profiles]\nper_user = 1\ncooldown = \"0s\"\nquarantine_after = 2";
    let mut daemon = Daemon::start(config);
    let api = api_of(&mut daemon);
    for _ in 0..2 {
        assert_eq!(refused(&api, &pooled("a")), (503, "start-failed".to_owned()));
        wait_for("nothing of it to be left", PATIENCE, || {
            states(&api).iter().all(|(_name, state)| state != "active").then_some(())
        });
    }
    let [(name, state)] = &states(&api)[..] else { panic!("one profile") };
    assert_eq!(state, "quarantined");
    let found = profile(&api, name);
    let reason = found["reason"].as_str().unwrap();
    assert!(reason.starts_with("2 sessions in a row failed with it: start_failed"), "{reason}");
    assert_eq!(refused(&api, &pooled("a")), (409, "profile-quarantined".to_owned()));
    let listed = api.ask("GET", "/v1/profiles?state=quarantined", &Value::Null).1;
    assert_eq!(listed["profiles"].as_array().map(Vec::len), Some(1), "{listed}");
    let (status, released) = api.ask("POST", &format!("/v1/profiles/{name}/release"), &Value::Null);
    assert_eq!((status, &released["state"], &released["failures"]), (200, &json!("idle"), &json!(0)));
    assert_eq!(refused(&api, &pooled("b")), (503, "start-failed".to_owned()), "it was given it again");
    daemon.stop(PATIENCE);
}

#[test]
fn a_browser_that_starts_with_nobodys_profile_is_the_hosts_fault_and_quarantines_none() {
    let config = "[session]\nautostart = false\n[sessions]\nstart_deadline = \"1s\"\n[browser]\nprogram = \"/bin/false\"\n\
                  [profiles]\nper_user = 1\ncooldown = \"0s\"\nquarantine_after = 2";
    let mut daemon = Daemon::start(config);
    let api = api_of(&mut daemon);
    for user in ["u1", "u2", "u1", "u2", "u1", "u2"] {
        let request = json!({ "session_id": "a", "user_id": user, "pool": true });
        assert_eq!(refused(&api, &request), (503, "start-failed".to_owned()), "{user}");
        wait_for("nothing of it to be left", PATIENCE, || {
            let listed = api.ask("GET", "/v1/profiles?state=active", &Value::Null).1;
            listed["profiles"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
    let listed = api.ask("GET", "/v1/profiles", &Value::Null).1;
    let failures = listed["profiles"].as_array().unwrap().iter().map(|profile| &profile["failures"]);
    let mut failures: Vec<_> = failures.map(|failures| failures.as_u64().unwrap()).collect();
    failures.sort_unstable();
    assert_eq!(failures, [0, 1], "{listed}");
    daemon.stop(PATIENCE);
}

#[test]
fn what_a_pooled_profile_holds_is_there_when_it_comes_back_and_gone_when_it_is_removed() {
    let mut daemon = Daemon::start(&format!("{ON_REQUEST}[profiles]\nper_user = 1\ncooldown = \"0s\""));
    let gateway = daemon.gateway();
    let api = api_of(&mut daemon);
    let automation = |id: &str| {
        let claims = json!({ "session_id": id, "user_id": "u1", "role": "automation", "exp": now() + 600 });
        let bearer = format!("Bearer {}", sign(&claims));
        let path = format!("/sessions/{id}/cdp");
        Automation::connect(gateway, &path, &[("authorization", &bearer)]).unwrap()
    };
    let session = api.create_with(&pooled("a"));
    let name = profile_of(&session);
    let mut first = automation("a");
    let cookie = json!({ "cookies": [{
        "name": "kept", "value": "yes", "domain": "example.org", "path": "/", "expires": now() + 86_400,
    }]});
    first.result(None, "Storage.setCookies", cookie);
    drop(first);
    api.end("a");
    let session = api.create_with(&pooled("b"));
    assert_eq!(profile_of(&session), name);
    let cookies = automation("b").result(None, "Storage.getCookies", json!({}));
    let found = cookies["cookies"].as_array().unwrap().iter().find(|cookie| cookie["name"] == "kept");
    assert_eq!(found.map(|cookie| &cookie["value"]), Some(&json!("yes")), "{cookies}");
    api.end("b");

    let directory: PathBuf = daemon.path("state/profiles").join(&name);
    assert!(directory.is_dir());
    let (status, removed) = api.ask("DELETE", &format!("/v1/profiles/{name}"), &Value::Null);
    assert_eq!((status, &removed["name"]), (200, &json!(name)));
    let left: Vec<_> = std::fs::read_dir(daemon.path("state/profiles"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.starts_with(&name))
        .collect();
    assert_eq!(left, [] as [String; 0]);
    assert_eq!(api.ask("GET", &format!("/v1/profiles/{name}"), &Value::Null).0, 404);
    let session = api.create_with(&pooled("c"));
    let cookies = automation("c").result(None, "Storage.getCookies", json!({}));
    assert_eq!(cookies["cookies"], json!([]), "{session}");
    daemon.stop(PATIENCE);
}

#[test]
fn proxies_of_the_settings_reach_the_browser_and_a_request_s_own_wins() {
    let proxies = "proxies = [\"http://127.0.0.1:9\", \"http://127.0.0.1:10\"]";
    let config = format!(
        "{ON_REQUEST}[profiles]\nper_user = 1\ncooldown = \"0s\"\n{proxies}\nproxy_rotation = \"session\""
    );
    let mut daemon = Daemon::start(&config);
    let api = api_of(&mut daemon);
    let used = |request: &Value| {
        let session = api.create_with(request);
        let id = session["session_id"].as_str().unwrap();
        let line = std::fs::read(format!("/proc/{}/cmdline", api.pid(id, "browser").unwrap())).unwrap();
        api.end(id);
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(line.contains("--user-data-dir="), "{line:?}");
        line.split(['\0', ' ']).find_map(|arg| arg.strip_prefix("--proxy-server=").map(str::to_owned))
    };
    assert_eq!(used(&pooled("a")).as_deref(), Some("http://127.0.0.1:9"));
    assert_eq!(used(&pooled("b")).as_deref(), Some("http://127.0.0.1:10"));
    let mut own = pooled("c");
    own["proxy"] = json!({ "server": "http://127.0.0.1:11" });
    assert_eq!(used(&own).as_deref(), Some("http://127.0.0.1:11"));
    assert_eq!(used(&json!({ "session_id": "d", "user_id": "u1" })), None, "not of the pool");
    daemon.stop(PATIENCE);
}

#[test]
fn the_command_line_does_what_the_api_does() {
    let mut daemon = Daemon::start(&format!("{ON_REQUEST}[profiles]\nper_user = 1"));
    let api = api_of(&mut daemon);
    let config = daemon.path("valetd.toml");
    let valetd = |line: &str| {
        #[expect(clippy::disallowed_methods, reason = "a person types it")]
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_valetd"))
            .args(line.split(' '))
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout) + &text(output.stderr))
    };
    assert_eq!(valetd("profile list"), (true, "no profiles\n".to_owned()));
    let (good, added) = valetd("profile add --user u1 --proxy http://127.0.0.1:9 --json");
    assert!(good, "{added}");
    let added: Value = serde_json::from_str(&added).unwrap();
    let name = added["name"].as_str().unwrap();
    assert_eq!((&added["state"], &added["proxy"]), (&json!("idle"), &json!("http://127.0.0.1:9")));
    let (good, said) = valetd("profile add --user u1");
    assert!(!good && said.contains("the user has 1 profiles of this kind"), "{said}");
    let of_adspower = "profile add --user u1 --kind adspower --external-id k1";
    let (good, said) = valetd(&format!("{of_adspower} --proxy socks4://127.0.0.1:9"));
    assert!(!good && said.contains("must be http, https or socks5 with adspower"), "{said}");
    let own = "--proxy http://127.0.0.1:9 --fingerprint {\"ua\":\"x\"}";
    let (good, said) = valetd(&format!("{of_adspower} {own}"));
    assert!(good && said.ends_with(" added\n"), "{said}");
    let (good, said) = valetd("profile add --user u2 --kind adspower --external-id k1");
    assert!(!good && said.contains("stands for it already"), "{said}");
    assert_eq!(
        valetd(&format!("profile quarantine {name} --reason odd")),
        (true, format!("profile {name} quarantined\n"))
    );
    let (good, table) = valetd("profile list --user u1 --state quarantined");
    assert!(good && table.lines().count() == 2 && table.contains(name) && table.contains("odd"), "{table}");
    assert_eq!(valetd(&format!("profile release {name}")), (true, format!("profile {name} idle\n")));
    let (good, shown) = valetd(&format!("profile show {name}"));
    assert!(good && shown.starts_with(&format!("profile {name}  idle\n")), "{shown}");
    let (good, session) = valetd("session create --user u1 --id s --pool --json");
    assert!(good, "{session}");
    assert_eq!(profile_of(&serde_json::from_str(&session).unwrap()), name);
    let (good, said) = valetd(&format!("profile remove {name}"));
    assert!(!good && said.contains("in use by another session"), "{said}");
    assert!(valetd("session stop s").0);
    returned(&api, name);
    assert_eq!(valetd(&format!("profile remove {name}")), (true, format!("profile {name} removed\n")));
    // What was done, and by whom, is in the log.
    let log = daemon.log();
    let audited: Vec<_> = log.iter().filter(|record| record["action"] == "quarantine a profile").collect();
    let [record] = &audited[..] else { panic!("{audited:?}") };
    assert_eq!((&record["profile"], &record["outcome"]), (&json!(name), &json!("quarantined")));
    daemon.stop(PATIENCE);
}

#[test]
fn f18_a_profile_that_broke_comes_back_as_it_was_after_an_earlier_session() {
    let (_dir, browser) = touchy_browser();
    let config =
        format!("{ON_REQUEST}[browser]\nprogram = {browser:?}\n[profiles]\nper_user = 1\ncooldown = \"1s\"");
    let mut daemon = Daemon::start(&config);
    let api = api_of(&mut daemon);
    let name = profile_of(&api.create_with(&pooled("a")));
    let profiles = daemon.path("state/profiles");
    std::fs::write(profiles.join(&name).join("mark"), "of session a").unwrap();
    api.end("a");
    wait_for("the profile to have rested", PATIENCE, || {
        (profile(&api, &name)["state"] == "idle").then_some(())
    });
    let snapshot = profiles.join(format!("{name}.snapshot"));
    assert_eq!(std::fs::read_to_string(snapshot.join("mark")).unwrap(), "of session a");
    assert!(snapshot.join("Default").is_dir() && !snapshot.join("Default/Cache").exists());

    std::fs::write(profiles.join(&name).join("mark"), "spoilt").unwrap();
    std::fs::write(profiles.join(&name).join("poison"), "").unwrap();
    let session = api.create_with(&pooled("b"));
    let browser = session["components"].as_array().unwrap().iter().find(|part| part["name"] == "browser");
    assert_eq!(
        browser.map(|part| &part["starts"]),
        Some(&json!(3)),
        "two with it, one with the copy: {session}"
    );
    assert_eq!(std::fs::read_to_string(profiles.join(&name).join("mark")).unwrap(), "of session a");
    let aside = profiles.join(format!("{name}.aside"));
    assert_eq!(std::fs::read_to_string(aside.join("mark")).unwrap(), "spoilt");
    assert!(daemon.log_text().contains("trying with an older copy of its profile"), "never silent");
    api.end("b");
    assert_eq!(returned(&api, &name)["failures"], 1, "the pool knows");
    daemon.stop(PATIENCE);
}

#[test]
fn a_profile_above_its_quota_loses_its_caches_and_where_that_is_not_enough_is_quarantined() {
    let config = format!("{ON_REQUEST}[profiles]\nper_user = 1\ncooldown = \"0s\"\nquota = \"64MiB\"");
    let mut daemon = Daemon::start(&config);
    let api = api_of(&mut daemon);
    let name = profile_of(&api.create_with(&pooled("a")));
    let directory = daemon.path("state/profiles").join(&name);
    let fill = |place: &str| {
        let place = directory.join(place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("filler"), vec![1; 70 << 20]).unwrap();
        place.join("filler")
    };
    let cached = fill("Default/GPUCache");
    api.end("a");
    assert_eq!(returned(&api, &name)["state"], "idle");
    assert!(!cached.exists());
    api.create_with(&pooled("b"));
    let kept = fill("Default/IndexedDB");
    api.end("b");
    let found = returned(&api, &name);
    assert_eq!(found["state"], "quarantined");
    let reason = found["reason"].as_str().unwrap();
    assert!(reason.starts_with("it holds ") && reason.ends_with("and may hold 64 MiB"), "{reason}");
    assert!(kept.exists(), "an operator decides");
    daemon.stop(PATIENCE);
}

#[test]
fn who_wants_a_profile_may_wait_for_a_place_and_who_can_have_none_does_not() {
    let config = "[session]\nautostart = false\n[sessions]\nmax = 1\nqueue_length = 2\nqueue_deadline = \"60s\"\n\
                  [profiles]\nper_user = 1";
    let mut daemon = Daemon::start(config);
    let api = api_of(&mut daemon);
    api.create_with(&pooled("a"));
    let queued = || api.ask("GET", "/v1/capacity", &Value::Null).1["queued"].clone();
    std::thread::scope(|scope| {
        let other = json!({ "session_id": "b", "user_id": "u2", "pool": true });
        let waiting = scope.spawn(|| create(&api, &{ other }));
        wait_for("it to wait", PATIENCE, || (queued() == 1).then_some(()));
        assert_eq!(
            api.ask("GET", "/v1/profiles?user_id=u2", &Value::Null).1["profiles"],
            json!([]),
            "not lent yet"
        );
        assert_eq!(refused(&api, &pooled("c")), (409, "profiles-in-use".to_owned()));
        assert_eq!(queued(), 1);
        api.end("a");
        let (status, session) = waiting.join().unwrap();
        assert_eq!(status, 201, "{session}");
        assert_eq!(profile(&api, &profile_of(&session))["session_id"], "b");
    });
    daemon.stop(PATIENCE);
}

#[test]
fn f12_a_profile_stays_with_what_survives_sigkill_also_after_the_daemon() {
    let home = Home::new();
    home.configure(&format!("{ON_REQUEST}[profiles]\nper_user = 1\ncooldown = \"0s\""));
    let mut daemon = home.start();
    let api = api_of(&mut daemon);
    let name = profile_of(&api.create_with(&pooled("a")));
    let Some(frozen) = Frozen::freeze(api.pid("a", "browser").unwrap()) else { return };
    assert_eq!(api.ask("DELETE", "/v1/sessions/a", &Value::Null).0, 202);
    daemon.wait_log("an alarm", |record| {
        record["message"].as_str().is_some_and(|text| text.contains("processes survive SIGKILL"))
    });
    assert_eq!(profile(&api, &name)["session_id"], "a");
    assert_eq!(refused(&api, &pooled("b")), (409, "profiles-in-use".to_owned()));
    wait_written(&mut daemon);
    daemon.signal(Signal::SIGKILL);
    daemon.wait_exit(PATIENCE);

    let mut next = home.start();
    let api = api_of(&mut next);
    let found = profile(&api, &name);
    assert_eq!(found["state"], "quarantined");
    assert!(found["reason"].as_str().unwrap().ends_with("of its last session cannot be ended"), "{found}");
    assert_eq!(refused(&api, &pooled("b")), (409, "profile-quarantined".to_owned()));
    drop(frozen);
    assert_eq!(api.ask("POST", &format!("/v1/profiles/{name}/release"), &Value::Null).0, 200);
    assert_eq!(profile_of(&api.create_with(&pooled("b"))), name);
    api.end("b");
    next.stop(PATIENCE);
}

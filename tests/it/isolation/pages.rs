//! A page in a session's browser against everything that listens on the host and beside it. Two walls are tried apart: the
//! packet filter without the browser's own Local Network Access checks, and both together; and a run without either shows
//! that the page does reach what it tries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::seat::seat;
use crate::support::daemon::{Daemon, READY};
use crate::support::net::{INTERNET, Listener, Shared, World, in_own_network};
use crate::support::wait_for;

/// Ways of a page to reach a server that speaks HTTP.
const KINDS: [&str; 5] = ["get", "post", "ws", "img", "frame"];
/// A page that asks its server for targets, tries each in every way, and reports which attempts it saw succeed.
const PAGE: &str = include_str!("page.html");
/// Without the browser's own checks on requests to private addresses.
const NO_CHECKS: &str = "--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets,LocalNetworkAccessChecksWebRTC,LocalNetworkAccessChecksSplitPermissions,PrivateNetworkAccessRespectPreflightResults,BlockInsecurePrivateNetworkRequests";
/// A name of the attacker's that has come to mean this host.
const REBOUND: &str = "--host-resolver-rules=MAP rebound.test 127.0.0.1";
/// Only TURN over TCP is tried there, which says nothing that HTTP would.
const TURN: &str = "127.0.0.1:3478";
/// In a private network, and allowed by the configuration.
const ALLOWED: &str = "10.9.9.9:8080";

/// What was reached: the target, and how.
type Reached = BTreeSet<(String, String)>;

/// Everything that the page must not reach, and what it may.
struct Targets {
    seen: Shared<Reached>,
    here: Vec<Listener>,
    beside: Vec<Listener>,
}

impl Targets {
    fn listen(world: &World) -> Self {
        let seen: Shared<Reached> = Arc::default();
        let listener = |(ip, port): (&str, u16), seen: &Shared<Reached>| {
            let seen = Arc::clone(seen);
            let name = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            let note = move |line: &str, _body: &str| {
                let kind =
                    line.split_once("/probe-").map_or(line, |(_, rest)| rest.split(' ').next().unwrap());
                seen.lock().unwrap().insert((name.clone(), kind.to_owned()));
                String::new()
            };
            Listener::answering(ip, port, Box::new(note))
        };
        let here = [
            ("127.0.0.1", 50_325),
            ("127.0.0.1", 9_222),
            ("127.0.0.1", 5_900),
            ("127.0.0.1", 21_500),
            ("127.0.0.1", 3_478),
            ("::1", 50_325),
            ("11.22.33.1", 8_081),
        ];
        let here = here.into_iter().map(|at| listener(at, &seen)).collect();
        let outside = Arc::clone(&seen);
        let beside = world.with(move || {
            let beside = [
                ("169.254.169.254", 80),
                ("fd00:ec2::254", 80),
                ("fdaa::3", 80),
                ("10.9.9.9", 80),
                ("10.9.9.9", 8_080),
            ];
            beside.into_iter().map(|at| listener(at, &outside)).collect()
        });
        Self { seen, here, beside }
    }

    /// Connections, to whichever of them.
    fn connections(&self) -> Vec<(String, usize)> {
        let all = self.here.iter().chain(&self.beside);
        all.map(|listener| (listener.address.to_string(), listener.settled())).collect()
    }

    /// Where the page tries all kinds.
    fn names(&self) -> Vec<String> {
        let all = self.here.iter().chain(&self.beside).map(|listener| listener.address.to_string());
        all.filter(|name| name != TURN).collect()
    }
}

/// Opens the page in a session and waits until it has tried everything. What it says worked, and the paths of its requests
/// that the daemon logged.
fn visit(world: &World, targets: &Targets, network: &str, arguments: &[&str]) -> Reached {
    let (order, report): (Shared<String>, Shared<Option<String>>) = (Arc::default(), Arc::default());
    let (asked, reported) = (Arc::clone(&order), Arc::clone(&report));
    let page = world.with(move || {
        let answer = move |line: &str, body: &str| match line.split(' ').nth(1) {
            Some("/targets") => asked.lock().unwrap().clone(),
            Some("/report") => {
                *reported.lock().unwrap() = Some(body.to_owned());
                String::new()
            }
            _ => PAGE.to_owned(),
        };
        Listener::answering(INTERNET, 80, Box::new(answer))
    });
    let config = json!({
        "isolation": { "network": network, "allow": [ALLOWED] },
        "browser": { "start_url": format!("http://{INTERNET}/"), "extra_args": arguments },
        "gateway": { "listen": "127.0.0.1:6080" },
        "api": { "listen": "127.0.0.1:8089" },
    });
    let mut daemon = Daemon::start(&toml::to_string(&config).unwrap());
    daemon.wait_ready();
    let own = seat(&daemon, "s1", 0);
    assert_ne!(own.devtools, 21_500, "that one is taken");
    let daemons = ["127.0.0.1:6080", "127.0.0.1:8089"].map(str::to_owned);
    let devtools = format!("127.0.0.1:{}", own.devtools);
    let mut tried = targets.names();
    tried.extend(daemons.clone());
    tried.extend(["rebound.test:50325", "rebound.test:6080"].map(str::to_owned));
    tried.push(devtools.clone());
    *order.lock().unwrap() = json!({ "http": tried, "turn": [TURN], "kinds": KINDS }).to_string();
    let said = wait_for("the page's report", READY, || report.lock().unwrap().take());
    let said: Value = serde_json::from_str(&said).unwrap();
    let attempts = said["attempts"].as_u64().unwrap();
    assert_eq!(attempts, u64::try_from(tried.len() * KINDS.len() + 1).unwrap(), "it tried everything");

    let mut reached = std::mem::take(&mut *targets.seen.lock().unwrap());
    let log = daemon.log_text();
    for kind in KINDS.into_iter().filter(|kind| log.contains(&format!("/probe-{kind}"))) {
        reached.insert(("the daemon's own listeners".into(), kind.into()));
    }
    let own_port = format!("get {devtools}");
    if said["worked"].as_array().unwrap().iter().any(|worked| *worked == own_port) {
        reached.insert(("its own DevTools port".into(), "get".into()));
    }
    daemon.stop(Duration::from_secs(30));
    drop(page);
    println!("network = {network}, {arguments:?}: {attempts} attempts, {} reached something", reached.len());
    reached
}

fn allowed(reached: &Reached) -> Reached {
    reached.iter().filter(|(target, _)| target == ALLOWED).cloned().collect()
}

#[test]
fn a_page_reaches_no_listener_of_the_host_nor_beside_it_but_what_is_allowed() {
    in_own_network(|world| {
        let targets = Targets::listen(world);
        let count = |name: &str| targets.connections().into_iter().find(|(at, _)| at == name).unwrap().1;
        let others = || -> usize {
            targets.connections().iter().filter(|(name, _)| name != ALLOWED).map(|(_, count)| count).sum()
        };

        let both = visit(world, &targets, "filtered", &[REBOUND]);
        assert_eq!((both, others()), (Reached::new(), 0), "{:?}", targets.connections());

        let filter_alone = visit(world, &targets, "filtered", &[REBOUND, NO_CHECKS]);
        assert_eq!(filter_alone, allowed(&filter_alone), "{:?}", targets.connections());
        assert_eq!(others(), 0, "{:?}", targets.connections());
        assert!(!filter_alone.is_empty() && count(ALLOWED) > 0, "control: the page reaches what it may");

        let neither = visit(world, &targets, "open", &[REBOUND, NO_CHECKS]);
        let missing: Vec<_> = targets
            .names()
            .into_iter()
            .chain(["the daemon's own listeners".to_owned()])
            .flat_map(|target| KINDS.map(|kind| (target.clone(), kind.to_owned())))
            .chain([("its own DevTools port".to_owned(), "get".to_owned())])
            .filter(|attempt| !neither.contains(attempt))
            .collect();
        assert!(missing.is_empty(), "control: without walls the page does not reach {missing:?}");
        assert!(count(TURN) > 0, "control: without walls TURN gets through");
    });
}

//! What AdsPower may reach, and who may reach it.

use std::net::SocketAddr;

use super::stage::{Stage, page};
use crate::isolation::{Attempt, Seat, attempt_in};
use crate::support::leaks;
use crate::support::net::{BESIDE, Listener, in_own_network};

const FILTERED: &str = "[host]\nfirst_uid = 27410\nuid_count = 10\n[isolation]\nnetwork = \"filtered\"\n";

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_session_reaches_nothing_of_adspowers_and_adspower_nothing_of_the_hosts() {
    in_own_network(|world| {
        let beside = world.with(|| BESIDE.map(|ip| Listener::counting(ip, 80)));
        let stage = Stage::new(FILTERED);
        stage.create("a", "p1", &page(0, 0, 255));
        stage.api.create("c");
        let debug_port: u16 = {
            let active = stage.app().ask(
                "GET",
                "/api/v2/browser-profile/active?profile_id=p1",
                &serde_json::Value::Null,
            );
            active["data"]["debug_port"].as_str().unwrap().parse().unwrap()
        };
        let of = |id: &str, slot: usize, uid: u32| {
            let xvfb = stage.api.pid(id, "xvfb").unwrap();
            Seat {
                uid,
                xvfb,
                browser: xvfb,
                display: 0,
                devtools: 0,
                runtime: stage.daemon.path(format!("run/s{slot}")),
                profile: stage.daemon.dir.clone(),
            }
        };
        // A session of AdsPower's has a display of its own uid, and one of Chromium's too.
        let ours = [loopback(stage.app().port), loopback(debug_port)].map(Attempt::Tcp);
        for seat in [of("a", 0, 27_410), of("c", 1, 27_411)] {
            let outcomes = attempt_in(&seat, &ours);
            assert!(outcomes.iter().all(Option::is_some), "{outcomes:?}");
        }
        let mut daemon = stage;
        let gateway = daemon.daemon.gateway();
        let api = daemon.daemon.api();
        let devtools = crate::isolation::devtools(daemon.api.pid("c", "browser").unwrap());
        let server = daemon.daemon.path("run/adspower/server-xauthority");
        let xvfb = leaks::processes(&server).into_iter().find(|(_, line)| line.contains("Xvfb")).unwrap().0;
        let app = Seat {
            uid: 27_409,
            xvfb,
            browser: xvfb,
            display: 0,
            devtools: 0,
            runtime: server.clone(),
            profile: server.clone(),
        };
        let mut closed: Vec<Attempt> = [gateway, api, loopback(devtools)].map(Attempt::Tcp).to_vec();
        closed.extend(beside.iter().map(|listener| Attempt::Tcp(listener.address)));
        let files = ["jwt_secret", "adspower_key", "state/state.db", "run/s1/xauthority"];
        closed.extend(files.map(|name| Attempt::Read(daemon.daemon.path(name))));
        closed.push(Attempt::List(daemon.daemon.path("state/scratch")));
        closed.push(Attempt::Unix(daemon.daemon.path("control.sock")));
        let outcomes = attempt_in(&app, &closed);
        let worked: Vec<_> = closed.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_none()).collect();
        assert!(worked.is_empty(), "{worked:?}");
        for listener in &beside {
            assert_eq!(listener.settled(), 0, "{}", listener.address);
        }
        // Controls: its own servers, and the same attempts by root.
        assert_eq!(attempt_in(&app, &ours), [None, None]);
        let mut failed = Vec::new();
        for attempt in &closed {
            failed.extend(attempt.make().err().map(|error| (attempt.clone(), error)));
        }
        assert!(failed.is_empty(), "controls: {failed:?}");
        // Nor does a session see the key, which is on AdsPower's command line.
        let pid = daemon.daemon.service_pid("adspower");
        let look = [Attempt::Read(format!("/proc/{pid}/cmdline").into())];
        assert!(look[0].make().is_ok(), "control");
        assert!(attempt_in(&of_session(&daemon, "c"), &look)[0].is_some());
        daemon.finish();
    });
}

fn of_session(stage: &Stage, id: &str) -> Seat {
    let xvfb = stage.api.pid(id, "xvfb").unwrap();
    let dir = stage.daemon.dir.clone();
    Seat { uid: 27_411, xvfb, browser: xvfb, display: 0, devtools: 0, runtime: dir.clone(), profile: dir }
}

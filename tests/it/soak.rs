//! Sessions that come and go, three at a time, each with a viewer and an automation, while something of them is killed at
//! random: nothing of them may be left, and the daemon may not grow. `SOAK_ROUNDS` sets how often (`make soak`: 100).

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::automation::Automation;
use crate::support::daemon::{Daemon, send};
use crate::support::host_api::HostApi;
use crate::support::tokens::{now, sign};
use crate::support::viewer::Viewer;
use crate::support::{leaks, wait_for};

const CONFIG: &str = "[session]\nautostart = false\n[sessions]\nmax = 3";
/// Enough to see a leak of one per session without making everybody wait.
const DEFAULT_ROUNDS: usize = 4;
/// What may be counted differently from one look to the next: a connection that is just closing.
const SLACK_FILES: usize = 3;
/// The allocator's ups and downs, and what is remembered of the last sessions and events.
const SLACK_MEMORY_KIB: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(60);

/// What sessions use and must give back.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    processes: Vec<(i32, String)>,
    cgroups: Vec<String>,
    runtime: Vec<String>,
    scratch: Vec<String>,
    x_sockets: Vec<String>,
    shared_memory: usize,
    mounts: usize,
}

impl Left {
    fn of(daemon: &Daemon) -> Self {
        let own = [daemon.pid()];
        let mut processes = leaks::processes(&daemon.dir);
        // The daemon names its directory in its arguments; its keeper has none.
        processes
            .retain(|(pid, command)| !own.contains(&pid.cast_unsigned()) && !command.contains(" keeper"));
        let cgroups = leaks::cgroups(&daemon.path("state")).iter().flat_map(|base| groups_in(base)).collect();
        Self {
            processes,
            cgroups,
            runtime: sessions_in(&daemon.path("run")),
            scratch: sessions_in(&daemon.path("state/scratch")),
            x_sockets: leaks::dangling_x_sockets(&daemon.dir),
            shared_memory: leaks::shared_memory_of(20_000..30_000),
            mounts: mounts_of(daemon),
        }
    }
}

fn sessions_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('s')).collect()
}

/// The groups of sessions in the runs beneath a daemon's cgroup.
fn groups_in(base: &Path) -> Vec<String> {
    let runs = std::fs::read_dir(base).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    runs.filter(|run| run.is_dir()).flat_map(|run| sessions_in(&run)).collect()
}

/// Mounts of the daemon's directory in the host's own namespace.
fn mounts_of(daemon: &Daemon) -> usize {
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", daemon.pid())).unwrap();
    table.lines().filter(|line| line.contains(daemon.dir.to_str().unwrap())).count()
}

/// Memory of its own that a process has touched; pages of the program's file come and go with what runs.
fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// A linear congruential generator (Knuth's MMIX): random enough to choose victims, and the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

#[test]
fn sessions_that_come_and_go_and_are_killed_at_random_leave_nothing() {
    let rounds = std::env::var("SOAK_ROUNDS").ok().map_or(DEFAULT_ROUNDS, |text| text.parse().unwrap());
    let seed = now();
    println!("{rounds} rounds, seed {seed}");
    let mut random = Random(seed);
    let mut daemon = Daemon::start(CONFIG);
    let gateway = daemon.gateway();
    let api = HostApi::on(daemon.path("control.sock"));
    let before = Left::of(&daemon);
    let (mut files, mut memory) = (0, 0);
    for round in 0..rounds {
        let begun = Instant::now();
        let ids: Vec<_> = (0..3).map(|number| format!("r{round}-{number}")).collect();
        std::thread::scope(|scope| {
            for id in &ids {
                scope.spawn(|| api.create(id));
            }
        });
        let mut guests: Vec<_> = ids.iter().map(|id| visit(gateway, id)).collect();
        let victim = &ids[random.below(3)];
        let part = ["xvfb", "browser"][random.below(2)];
        if let Some(pid) = api.pid(victim, part) {
            send(pid, Signal::SIGKILL);
        }
        if random.below(2) == 0 {
            wait_for(&format!("{victim} to be whole after its {part} was killed"), PATIENCE, || {
                let session = api.session(victim);
                let whole = session["state"] == "ready"
                    && session["components"].as_array()?.iter().any(|component| component["starts"] != 1);
                whole.then_some(())
            });
        }
        std::thread::scope(|scope| {
            for id in &ids {
                scope.spawn(|| api.end(id));
            }
        });
        guests.clear();
        let after = wait_for("all to be given back", PATIENCE, || {
            let after = Left::of(&daemon);
            (after == before || begun.elapsed() > PATIENCE * 2).then_some(after)
        });
        assert_eq!(after, before, "round {round}, after {victim}'s {part} was killed");
        // The first rounds fill pools and caches.
        if round == 1 {
            wait_for("connections to close", PATIENCE, || settled(&daemon).then_some(()));
            (files, memory) = (leaks::open_files(daemon.pid()), anonymous_kib(daemon.pid()));
        }
        let took = begun.elapsed().as_millis();
        println!("round {round}: {victim}'s {part} killed, {took} ms, {} KiB", anonymous_kib(daemon.pid()));
    }
    wait_for("connections to close", PATIENCE, || settled(&daemon).then_some(()));
    let (files_now, memory_now) = (leaks::open_files(daemon.pid()), anonymous_kib(daemon.pid()));
    println!("open files {files} then {files_now}; memory {memory} KiB then {memory_now} KiB");
    assert!(files_now <= files + SLACK_FILES, "{files} open files, then {files_now}");
    // What the last session's pictures took is given back a moment after its end.
    wait_for(&format!("memory to be {} KiB again", memory + SLACK_MEMORY_KIB), PATIENCE, || {
        (anonymous_kib(daemon.pid()) <= memory + SLACK_MEMORY_KIB).then_some(())
    });
    daemon.stop(Duration::from_secs(30));
    assert_eq!(leaks::processes(&daemon.dir), []);
}

/// A viewer who has seen the picture, and an automation that has had an answer.
fn visit(gateway: SocketAddr, session: &str) -> (Viewer, Automation) {
    let token = |role: &str| {
        sign(&json!({ "session_id": session, "user_id": "u1", "role": role, "exp": now() + 600 }))
    };
    let mut viewer = Viewer::connect(gateway, session, &token("controller")).unwrap();
    assert_eq!(viewer.pixels(0, 0, 8, 8).len(), 64);
    let bearer = format!("Bearer {}", token("automation"));
    let path = format!("/sessions/{session}/cdp");
    let mut automation = Automation::connect(gateway, &path, &[("authorization", &bearer)]).unwrap();
    let version = automation.call(None, "Browser.getVersion", json!({}));
    assert!(version["result"]["product"].as_str().unwrap().starts_with("Chrome/"), "{version}");
    (viewer, automation)
}

/// Whether the daemon has no connection of a viewer or automation any more.
fn settled(daemon: &Daemon) -> bool {
    let status = daemon.control("/v1/status");
    status["sessions"].as_array().unwrap().is_empty()
}

//! What happens when the host lacks something: a port, room on its disk, descriptors, or a memory of what was before.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use valetd::control_plane::stand_in::StandIn;
use valetd::sys::procfs::{self, Stat};

use crate::faults::{
    BROWSER_BACK, NO_BROWSER, X11VNC, assert_no_leaks, record, stop_without_leaks, wait_restarted,
};
use crate::support::control_plane::Receiver;
use crate::support::daemon::{Daemon, Home, READY, send};
use crate::support::tokens::token;
use crate::support::viewer::{Viewer, get};
use crate::support::{leaks, wait_for};

#[test]
fn f19_a_port_that_is_taken_ends_the_start_with_a_reason() {
    for section in ["gateway", "api"] {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let began = Instant::now();
        let mut daemon = Daemon::start(&format!("{NO_BROWSER}\n[{section}]\nlisten = \"{address}\""));
        let status = daemon.wait_exit(READY);
        println!("F19 {section}: ended after {} ms", began.elapsed().as_millis());
        assert_eq!(status.code(), Some(1));
        let reason = format!("cannot listen on {address}: Address already in use");
        assert!(daemon.log_text().contains(&reason), "{}", daemon.log_text());
        assert_no_leaks(&daemon);
        assert!(!daemon.path("run").exists(), "nothing was begun");
    }
}

#[test]
fn f34_a_state_file_of_garbage_is_kept_aside_and_said() {
    let home = Home::new();
    home.configure(NO_BROWSER);
    let state = home.0.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let garbage = "\0 this is no state file ".repeat(400);
    std::fs::write(state.join("state.db"), &garbage).unwrap();
    let began = Instant::now();
    let mut daemon = home.start();
    daemon.wait_ready();
    record("F34 garbage for a state file", began.elapsed());
    let told = daemon.wait_log("the loss", |record| {
        record["level"] == "ERROR"
            && record["message"].as_str().is_some_and(|text| text.contains("state file"))
    });
    let kept = told["kept"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(kept).unwrap(), garbage);
    assert!(daemon.get("/metrics").1.contains("valetd_store_set_aside_total 1"));
    stop_without_leaks(daemon);
    // A state file that is one again.
    let state = rusqlite::Connection::open(state.join("state.db")).unwrap();
    let ended: i64 = state
        .query_row("SELECT count(*) FROM sessions WHERE ended_ms IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(ended, 1);
}

/// A process that waits for its end, and has nothing to do with the daemon.
struct Bystander(Child);

impl Bystander {
    #[expect(clippy::disallowed_methods, reason = "a process that is not the daemon's, which the test ends")]
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    fn stat(&self) -> Stat {
        Stat::of(self.0.id()).unwrap()
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn keeper_of(daemon: &Daemon) -> i32 {
    let is_keeper = |stat: &Stat| {
        stat.ppid == daemon.pid()
            && std::fs::read_to_string(format!("/proc/{}/cmdline", stat.pid))
                .is_ok_and(|command| command.split('\0').any(|word| word == "keeper"))
    };
    procfs::all().unwrap().iter().find(|stat| is_keeper(stat)).unwrap().pid.cast_signed()
}

#[test]
fn f45_after_the_death_of_daemon_and_keeper_a_pid_of_somebody_else_is_left_alone() {
    let home = Home::new();
    home.configure(X11VNC);
    let mut first = home.start();
    first.wait_ready();
    let keeper = keeper_of(&first);
    send(keeper, Signal::SIGSTOP);
    first.signal(Signal::SIGKILL);
    send(keeper, Signal::SIGKILL);
    first.wait_exit(Duration::from_secs(5));

    let (mut innocent, mut recorded) = (Bystander::start(), Bystander::start());
    let state = rusqlite::Connection::open(home.0.path().join("state/state.db")).unwrap();
    for (service, stat, later) in [("xvfb", innocent.stat(), 1), ("x11vnc", recorded.stat(), 0)] {
        let start_time = i64::try_from(stat.start_time).unwrap() + later;
        let sql =
            "UPDATE processes SET pid = ?1, start_time = ?2, cgroup = NULL WHERE id = 's1' AND service = ?3";
        assert_eq!(
            state.execute(sql, rusqlite::params![stat.pid, start_time, service]).unwrap(),
            1,
            "{service}"
        );
    }
    state.close().unwrap();

    let restarted = Instant::now();
    let mut second = home.start();
    wait_for("the recorded process to be ended", READY, || recorded.has_ended().then_some(()));
    second.wait_ready();
    record("F45 daemon and keeper SIGKILL, and restart", restarted.elapsed());
    assert!(!innocent.has_ended(), "the pid is another process's than the recorded one's");
    assert!(!second.log_text().contains("cannot be ended"), "{}", second.log_text());
    let displays =
        leaks::processes(&second.dir).iter().filter(|(_, command)| command.contains("Xvfb")).count();
    assert_eq!(displays, 1, "the old one is gone");
    drop(first);
    stop_without_leaks(second);
}

/// A small file system on a directory, in a mount namespace of the calling thread's own.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    fn mount(dir: &Path, mib: usize) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        std::fs::create_dir_all(dir).unwrap();
        let options = format!("size={mib}m,mode=711");
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Self { dir: dir.to_owned() }
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for size in [1 << 16, 1 << 12] {
            while file.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _still_in_use = umount(&self.dir);
    }
}

/// Puts a file or a directory over another, for the calling thread and what it starts, which have mounts of their own from here
/// on.
pub(crate) fn own_mount(what: &Path, over: &str) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some(what), over, none, MsFlags::MS_BIND, none).unwrap();
}

/// Runs `test` in a thread that may have mounts of its own; nothing where that takes more rights than the caller has.
pub(crate) fn in_own_mounts(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: nothing was tested");
        return;
    }
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("host under test".into()).spawn_scoped(scope, test).unwrap();
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn metric(daemon: &mut Daemon, name: &str) -> u64 {
    let text = daemon.get("/metrics").1;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[test]
fn f27_a_full_disk_costs_no_viewer_and_no_session_and_is_over_when_there_is_room() {
    in_own_mounts(|| {
        let home = Home::new();
        home.configure("");
        let disk = SmallDisk::mount(&home.0.path().join("state"), 192);
        let mut daemon = home.start();
        daemon.wait_ready();
        let mut viewer = Viewer::connect(daemon.gateway(), "s1", &token("controller", 600)).unwrap();
        let browser = daemon.service_pid("browser");
        let cookies = home.0.path().join("state/profiles/s1/kept");
        std::fs::write(&cookies, "").unwrap();
        assert_eq!(metric(&mut daemon, "valetd_store_write_failures_total"), 0);

        // A browser that dies has its next process written down, and finds no room for its profile.
        disk.fill();
        assert_eq!(daemon.get("/readyz").0, 200);
        let killed = Instant::now();
        send(browser, Signal::SIGKILL);
        wait_for("the store to fail", READY, || {
            disk.fill();
            (metric(&mut daemon, "valetd_store_write_failures_total") > 0).then_some(())
        });
        println!("F27 the store says so after {} ms", killed.elapsed().as_millis());
        daemon.wait_log("a warning", |record| {
            record["level"] == "WARN"
                && record["message"] == "the state file cannot be written to: its rows wait in memory"
        });
        // Long enough for a browser that does not start to be tried more often than its profile is trusted.
        wait_for("further tries, or a browser that runs without room", READY, || {
            disk.fill();
            assert_eq!(viewer.pixels(0, 0, 4, 4).len(), 16, "the viewer is served as before");
            let starts = daemon.component("browser")["starts"].as_u64()?;
            (starts >= 5 || killed.elapsed() > Duration::from_secs(10)).then_some(())
        });
        println!("F27 without room the browser was started {} times", daemon.component("browser")["starts"]);
        println!("F27 without room the session is {}", daemon.control("/v1/status")["sessions"][0]["state"]);

        let room = Instant::now();
        disk.make_room();
        daemon.wait_log("the store to be well", |record| {
            record["message"].as_str().is_some_and(|text| text.contains("written to again"))
        });
        record("F27 state file", room.elapsed());
        wait_restarted(&mut daemon, "browser", browser, BROWSER_BACK + Duration::from_secs(10));
        daemon.wait_ready();
        record("F27 browser", room.elapsed());
        assert!(cookies.exists(), "a full disk is no fault of the profile's");
        assert_eq!(viewer.pixels(0, 0, 4, 4).len(), 16);
        assert_eq!(metric(&mut daemon, "valetd_store_pending_rows"), 0);
        drop(viewer);
        stop_without_leaks(daemon);
    });
}

#[test]
fn f27_a_humans_answer_that_the_disk_does_not_take_is_not_said_to_be_kept() {
    in_own_mounts(|| {
        let receiver = Receiver::start(StandIn::new(Some("token".to_owned())));
        let home = Home::new();
        home.configure(&format!("{NO_BROWSER}\n{}", receiver.config(home.0.path(), "token")));
        let disk = SmallDisk::mount(&home.0.path().join("state"), 16);
        let mut daemon = home.start();
        daemon.wait_ready();
        let ask = |number: usize| {
            let body =
                json!({ "handoff_id": format!("h{number}"), "kind": "review", "reason": "x".repeat(500) });
            daemon.ask("POST", "/v1/sessions/s1/handoffs", Some(&body))
        };
        let approve = |number: usize| {
            let path = format!("/v1/sessions/s1/handoffs/h{number}/resolve");
            daemon.ask("POST", &path, Some(&json!({ "outcome": "approved" })))
        };
        // What the file has taken before it writes into again.
        let (number, refused) = (0..1000)
            .find_map(|number| {
                disk.fill();
                assert!(matches!(ask(number).status, 201 | 503));
                let answer = approve(number);
                (answer.status != 200).then_some((number, answer))
            })
            .unwrap();
        assert_eq!((refused.status, refused.problem()), (503, "not-kept"), "{refused:?}");
        assert!(refused.headers.contains_key("retry-after"));
        let is_told = || {
            let id = format!("h{number}");
            let events = &receiver.stand_in.book().events;
            events.iter().any(|event| event["kind"] == "human.approved" && event["data"]["handoff_id"] == *id)
        };
        assert!(!is_told(), "what is not on disk is not told");
        disk.make_room();
        let kept = wait_for("the same answer to be taken", READY, || {
            Some(approve(number)).filter(|answer| answer.status == 200)
        });
        assert_eq!(kept.json["state"], "approved");
        wait_for("the approval to be told", READY, || is_told().then_some(()));
        stop_without_leaks(daemon);
    });
}

/// Processor time that a process has used, user and system.
fn processor_time(pid: u32) -> Duration {
    /// Of `/proc/<pid>/stat`, wherever Linux runs (`USER_HZ`).
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// Lets the daemon have no descriptor more than it has now, but `spare`. Gives back what it had before.
fn limit_files(daemon: &Daemon, spare: u64) -> Rlimit {
    let pid = Pid::from_raw(daemon.pid().cast_signed()).unwrap();
    let used: Vec<u64> = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let free = (0..).filter(|fd| !used.contains(fd)).nth(usize::try_from(spare).unwrap()).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let maximum: u64 = line.split_ascii_whitespace().nth(4).unwrap().parse().unwrap();
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(free), maximum: Some(maximum) }).unwrap()
}

#[test]
fn f28_a_daemon_without_descriptors_serves_whom_it_has_waits_without_spinning_and_recovers() {
    /// Longer than the misses after which a service counts as hung.
    const WITHOUT: Duration = Duration::from_secs(12);
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let (gateway, api) = (daemon.gateway(), daemon.api());
    let mut viewer = Viewer::connect(gateway, "s1", &token("controller", 600)).unwrap();
    assert_eq!(viewer.pixels(0, 0, 4, 4).len(), 16);

    let before = limit_files(&daemon, 1);
    let began = Instant::now();
    let waiting: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(gateway).unwrap()).collect();
    daemon.wait_log("the gateway to say so", |record| {
        record["level"] == "WARN" && record["message"] == "cannot accept connections"
    });
    let used = processor_time(daemon.pid());
    let window = Instant::now();
    let mut worst = Duration::ZERO;
    wait_for("the time without descriptors", WITHOUT * 2, || {
        let asked = Instant::now();
        assert_eq!(viewer.pixels(0, 0, 4, 4).len(), 16, "the viewer is served as before");
        worst = worst.max(asked.elapsed());
        std::thread::park_timeout(Duration::from_millis(200));
        (began.elapsed() > WITHOUT).then_some(())
    });
    let share = (processor_time(daemon.pid()) - used).as_secs_f64() / window.elapsed().as_secs_f64();
    println!("F28 {:.1} % of a core, a viewer waits {} ms at most", share * 100.0, worst.as_millis());
    assert!(share < 0.05, "{share}");

    let lifted = Instant::now();
    let pid = Pid::from_raw(daemon.pid().cast_signed()).unwrap();
    prlimit(Some(pid), Resource::Nofile, before).unwrap();
    drop(waiting);
    let mut other = Viewer::connect(gateway, "s1", &token("spectator", 60)).unwrap();
    assert_eq!(other.pixels(0, 0, 4, 4).len(), 16);
    record("F28 no descriptors", lifted.elapsed());
    assert_eq!(viewer.pixels(0, 0, 4, 4).len(), 16);
    assert_eq!(daemon.component("xvfb")["starts"], json!(1), "it was well all the time");
    wait_for("the session to be ready", Duration::from_secs(10), || {
        (get(api, "/readyz").0 == 200).then_some(())
    });
    drop((viewer, other));
    stop_without_leaks(daemon);
}

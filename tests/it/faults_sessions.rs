//! What happens when a part of a browser dies, and when a process cannot be killed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use valetd::sys::procfs::{self, Stat};

use crate::faults::{BROWSER_BACK, DISPLAY_BACK, NO_BROWSER, record, stop_without_leaks, wait_component};
use crate::support::automation::Automation;
use crate::support::daemon::{Daemon, Home, READY, try_send};
use crate::support::tokens::token;
use crate::support::viewer::{Viewer, get};
use crate::support::{leaks, wait_for};

/// For a browser to replace a process of its own on a loaded machine.
const PART_BACK: Duration = Duration::from_secs(20);
/// At the third crash of the process that draws, Chromium 156 gives up the way in which it drew; where that was the last one
/// left, as without a GPU, it ends itself ("GPU process isn't usable. Goodbye.").
const GPU_CRASHES: usize = 5;
/// Where cgroup v1 freezes: what is frozen there takes SIGKILL only once it is thawed, like a process that waits for a disk.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// The processes of one type beneath a browser's main process. Extensions have pages too, which nobody sees.
fn parts(browser: i32, kind: &str) -> Vec<i32> {
    let all = procfs::all().unwrap();
    let mut family = vec![browser.cast_unsigned()];
    while let Some(child) = all.iter().find(|stat| family.contains(&stat.ppid) && !family.contains(&stat.pid))
    {
        family.push(child.pid);
    }
    let is_one = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains(kind) && !command.contains("--extension-process")
    };
    let zombie = |pid: &u32| Stat::of(*pid).is_ok_and(|stat| stat.is_zombie());
    family.into_iter().filter(|pid| is_one(pid) && !zombie(pid)).map(u32::cast_signed).collect()
}

/// Has the page paint itself, and waits until a viewer sees it.
fn paint(daemon: &mut Daemon, colour: (u8, u8, u8)) {
    let authorization = format!("Bearer {}", token("automation", 600));
    let gateway = daemon.gateway();
    let (red, green, blue) = colour;
    wait_for("a page that answers", PART_BACK, || {
        let headers = [("Authorization", authorization.as_str())];
        let mut automation = Automation::connect(gateway, "/sessions/s1/cdp", &headers).ok()?;
        let targets = automation.result(None, "Target.getTargets", json!({}));
        let page = targets["targetInfos"].as_array()?.iter().find(|target| target["type"] == "page")?.clone();
        let params = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = automation.call(None, "Target.attachToTarget", params);
        let page = attached["result"]["sessionId"].as_str()?.to_owned();
        // A tab that has crashed comes back when it goes somewhere.
        automation.call(Some(&page), "Page.navigate", json!({ "url": "about:blank" }));
        let style = format!("document.body.style.background = 'rgb({red}, {green}, {blue})'; 42");
        let params = json!({ "expression": style, "returnByValue": true });
        let answer = automation.call(Some(&page), "Runtime.evaluate", params);
        (answer["result"]["result"]["value"] == 42).then_some(())
    });
    let mut viewer = Viewer::connect(gateway, "s1", &token("spectator", 60)).unwrap();
    wait_for("the page on the screen", PART_BACK, || {
        let [b, g, r, _] = viewer.pixels(400, 450, 1, 1)[0];
        ((r, g, b) == colour).then_some(())
    });
}

fn crashes_told(daemon: &Daemon) -> usize {
    daemon.log().iter().filter(|record| record["message"] == "a tab crashed").count()
}

#[test]
fn f3_a_killed_renderer_is_told_and_is_no_reason_to_restart_a_browser() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    let browser = daemon.service_pid("browser");
    paint(&mut daemon, (200, 30, 30));
    let renderers = parts(browser, "--type=renderer");
    let killed = Instant::now();
    let sent = renderers.iter().filter(|renderer| try_send(**renderer, Signal::SIGKILL)).count();
    assert!(sent > 0, "{renderers:?}");
    let told = daemon.wait_log("the crash of the tab", |record| record["message"] == "a tab crashed");
    println!("F3 told after {} ms", killed.elapsed().as_millis());
    assert_eq!((&told["level"], &told["session"]), (&json!("WARN"), &json!("s1")), "{told}");
    assert_eq!(told["reason"], "killed", "nothing was short of memory");
    assert_eq!(daemon.get("/readyz").0, 200, "the session stays ready");
    paint(&mut daemon, (30, 200, 30));
    record("F3 renderer SIGKILL", killed.elapsed());
    assert_eq!(crashes_told(&daemon), 1, "{}", daemon.log_text());
    let (_, metrics) = daemon.get("/metrics");
    assert!(metrics.contains("valetd_session_tab_crashes_total 1"), "{metrics}");
    assert_eq!(daemon.control("/v1/sessions/s1")["tab_crashes"], 1);
    let component = daemon.component("browser");
    assert_eq!((&component["starts"], &component["pid"]), (&json!(1), &json!(browser)));
    stop_without_leaks(daemon);
}

#[test]
fn f4_a_process_that_draws_may_die_again_and_again_and_pages_are_drawn_all_the_same() {
    let mut daemon = Daemon::start("");
    daemon.wait_ready();
    paint(&mut daemon, (200, 30, 30));
    let first = daemon.service_pid("browser");
    let mut last = None;
    let began = Instant::now();
    for round in 1..=GPU_CRASHES {
        // It may go with its browser before the signal comes.
        let (browser, gpu) = wait_for("a process that draws", BROWSER_BACK, || {
            let browser = i32::try_from(daemon.component("browser")["pid"].as_i64()?).unwrap();
            let gpu = parts(browser, "--type=gpu-process").into_iter().find(|pid| Some(*pid) != last)?;
            try_send(gpu, Signal::SIGKILL).then_some((browser, gpu))
        });
        println!(
            "F4 crash {round}: the browser is {}",
            if browser == first { "the same" } else { "another" }
        );
        last = Some(gpu);
    }
    let killed = Instant::now();
    paint(&mut daemon, (30, 200, 30));
    daemon.wait_ready();
    record("F4 GPU process SIGKILL, after the last of five", killed.elapsed());
    println!("F4 all of it took {} ms", began.elapsed().as_millis());
    let starts = daemon.component("browser")["starts"].as_u64().unwrap();
    println!("F4 the browser was started {starts} times");
    assert!(starts <= 2, "not each crash is the browser's");
    assert_eq!(daemon.component("xvfb")["starts"], 1);
    stop_without_leaks(daemon);
}

/// A process that SIGKILL does not reach until this is dropped.
pub(crate) struct Frozen {
    dir: PathBuf,
}

impl Frozen {
    /// `None` where the host has no freezer that we may use.
    pub(crate) fn freeze(pid: i32) -> Option<Self> {
        let dir = PathBuf::from(FREEZER).join(format!("valetd-test-{}-{pid}", std::process::id()));
        if std::fs::create_dir(&dir).is_err() {
            println!("no cgroup v1 freezer: nothing was tested");
            return None;
        }
        let frozen = Self { dir };
        std::fs::write(frozen.dir.join("cgroup.procs"), pid.to_string()).unwrap();
        let state = frozen.dir.join("freezer.state");
        std::fs::write(&state, "FROZEN").unwrap();
        wait_for("a process to freeze", Duration::from_secs(10), || {
            (std::fs::read_to_string(&state).unwrap().trim() == "FROZEN").then_some(())
        });
        Some(frozen)
    }
}

impl Drop for Frozen {
    /// Nothing is asserted here: it may be on the way out of a test that has failed.
    fn drop(&mut self) {
        let _thawed = std::fs::write(self.dir.join("freezer.state"), "THAWED");
        let end = Instant::now() + Duration::from_secs(10);
        while std::fs::remove_dir(&self.dir).is_err() && Instant::now() < end {
            let left = std::fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
            for pid in left.lines() {
                let _ended = std::fs::write(Path::new(FREEZER).join("cgroup.procs"), pid);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

#[test]
fn f12_a_display_that_survives_sigkill_is_said_so_and_not_replaced_until_it_is_gone() {
    let mut daemon = Daemon::start(NO_BROWSER);
    daemon.wait_ready();
    let xvfb = daemon.service_pid("xvfb");
    let stuck = Instant::now();
    let Some(frozen) = Frozen::freeze(xvfb) else { return };
    wait_for("health to say so", Duration::from_secs(40), || {
        (daemon.component("xvfb")["reason"] == "processes survive SIGKILL").then_some(())
    });
    println!("F12 shown in health after {} ms", stuck.elapsed().as_millis());
    daemon.wait_log("an alarm", |record| {
        record["level"] == "ERROR" && record["message"].as_str().is_some_and(|text| text.contains("SIGKILL"))
    });
    let component = daemon.component("xvfb");
    assert_eq!((&component["status"], &component["starts"]), (&json!("failing"), &json!(1)), "{component}");
    let health = daemon.health();
    assert_eq!((&health["status"], &health["components"][0]["status"]), (&json!("failing"), &json!("ok")));

    let thawed = Instant::now();
    drop(frozen);
    wait_component(&mut daemon, "xvfb", "ok", DISPLAY_BACK);
    daemon.wait_ready();
    record("F12 Xvfb thawed", thawed.elapsed());
    assert_eq!(daemon.component("xvfb")["starts"], 2);
    assert_ne!(daemon.service_pid("xvfb"), xvfb);
    stop_without_leaks(daemon);
}

#[test]
fn f12_a_drain_does_not_wait_for_ever_for_what_survives_sigkill_nor_does_the_next_start() {
    /// The keeper's word, the sweep of the run and the last tasks come on top of the budget, each with its own bound.
    const BEYOND: Duration = Duration::from_secs(15);
    let budget = Duration::from_secs(6);
    let home = Home::new();
    home.configure("[host]\ndrain_budget = \"6s\"");
    let mut first = home.start();
    first.wait_ready();
    let browser = first.service_pid("browser");
    let started = Stat::of(browser.cast_unsigned()).unwrap().start_time;
    let Some(frozen) = Frozen::freeze(browser) else { return };
    let told = Instant::now();
    first.signal(Signal::SIGTERM);
    let status = first.wait_exit(budget + BEYOND);
    println!("F12 the drain ended after {} ms with {status}", told.elapsed().as_millis());
    let log = first.log_text();
    assert!(log.contains("survive SIGKILL"), "{log}");
    let lives = || Stat::of(browser.cast_unsigned()).is_ok_and(|stat| stat.start_time == started);
    assert!(lives(), "still frozen");

    let again = Instant::now();
    let mut second = home.start();
    second.wait_ready();
    record("F12 the next daemon, beside what is stuck", again.elapsed());
    assert!(second.log_text().contains("cannot sweep what an earlier run left"), "{}", second.log_text());
    assert!(lives(), "still frozen");
    let mut viewer = Viewer::connect(second.gateway(), "s1", &token("spectator", 60)).unwrap();
    assert_eq!(viewer.pixels(0, 0, 2, 2).len(), 4);
    drop(viewer);

    let thawed = Instant::now();
    drop(frozen);
    wait_for("what was stuck to go", Duration::from_secs(10), || (!lives()).then_some(()));
    record("F12 browser thawed", thawed.elapsed());
    assert_eq!(get(second.api(), "/readyz").0, 200);
    second.stop(READY);
    drop((first, second));
    // The next start finds the directories that could not go.
    let mut third = home.start();
    third.wait_ready();
    stop_without_leaks(third);
    assert_eq!(leaks::cgroups(&home.0.path().join("state")), Vec::<PathBuf>::new());
}

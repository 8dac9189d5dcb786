//! A daemon of its own, which a test may kill.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use valetd::supervise::{Group, GroupStatus, ServiceState, StopReport};
use valetd::sys::{Host, InstanceLock, Limits, procfs};
use valetd::tasks::Scope;

use super::stage::{PATIENCE, Script, marker_prefix, of, params, signal, spec, wait_for};

/// The variable that makes [`stand_in_daemon`] a daemon, holding its state directory.
const STAND_IN: &str = "VALETD_TEST_STAND_IN";

pub(super) fn is_keeper(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text == b"valetd\0keeper\0")
}

/// `prefix` is `hash/run/`.
pub(super) fn cgroup_left(prefix: &str) -> bool {
    let Ok(own) = valetd::sys::cgroup::own_dir() else { return false };
    own.join(format!("valetd-{}", prefix.trim_end_matches('/'))).exists()
}

/// Another process with a supervisor in it: this test binary, running [`stand_in_daemon`] alone.
pub(super) struct StandIn {
    pub(super) child: std::process::Child,
    ready: PathBuf,
}

impl StandIn {
    #[expect(clippy::disallowed_methods, reason = "a daemon of its own, which the test kills")]
    pub(super) fn start(state: &Path, role: &str) -> Self {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "supervise::stand_in::stand_in_daemon", "--ignored", "--nocapture"])
            .env(STAND_IN, state)
            .env("VALETD_TEST_ROLE", role)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Self { child, ready: state.join("ready") }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote once it was ready.
    #[expect(clippy::disallowed_methods, reason = "waits for a file of another process, with a deadline")]
    pub(super) fn until_ready(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match std::fs::read_to_string(&self.ready) {
                Ok(text) => return text,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "the stand-in has ended");
            assert!(Instant::now() < deadline, "the stand-in is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Not a test: see [`StandIn`].
#[tokio::test]
#[ignore = "a process for other tests"]
async fn stand_in_daemon() {
    let Some(state) = std::env::var_os(STAND_IN).map(PathBuf::from) else { return };
    let ready = match std::env::var("VALETD_TEST_ROLE").unwrap().as_str() {
        "idle" => idle(&state).await,
        _ => cycles(&state).await,
    };
    // In one step, so that nobody reads half of it.
    std::fs::write(state.join("half"), ready.text).unwrap();
    std::fs::rename(state.join("half"), state.join("ready")).unwrap();
    if ready.stays {
        std::future::pending::<()>().await;
    }
}

pub(super) struct Ready {
    text: String,
    stays: bool,
}

pub(super) async fn idle(state: &Path) -> Ready {
    let lock = InstanceLock::acquire(state).unwrap();
    let mut scope = Scope::new();
    let host = Host::start(&mut scope, params(state)).await.unwrap();
    let ephemeral = state.join("ephemeral");
    std::fs::create_dir(&ephemeral).unwrap();
    std::fs::write(ephemeral.join("cookie"), "x").unwrap();
    host.remove_on_death(&ephemeral).await;
    let specs = vec![
        spec("display", &[], Script::new("steady.sh", &[])),
        spec("browser", &["display"], Script::new("leaves-grandchild.sh", &["5"])),
    ];
    let group = Group::spawn(&mut scope, "stage", specs, &host, Limits::default()).unwrap();
    group.start();
    let mut status = group.status();
    let up = |all: &GroupStatus| all.services.iter().all(|service| service.state == ServiceState::Up);
    timeout(PATIENCE, status.wait_for(up)).await.unwrap().unwrap();
    let text = marker_prefix(&host);
    // Held for as long as the process lives.
    std::mem::forget((lock, scope, host, group));
    Ready { text, stays: true }
}

pub(super) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

pub(super) fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

pub(super) fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

pub(super) async fn cycles(state: &Path) -> Ready {
    let mut scope = Scope::new();
    let host = Host::start(&mut scope, params(state)).await.unwrap();
    let specs = vec![
        spec("display", &[], Script::new("leaves-grandchild.sh", &["3"])),
        spec("flood", &["display"], Script::new("floods-stderr.sh", &[])),
    ];
    let group = Group::spawn(&mut scope, "stage", specs, &host, Limits::default()).unwrap();
    let up = |all: &GroupStatus| all.services.iter().all(|service| service.state == ServiceState::Up);
    let (mut files, mut memory, mut cpu, began) = (0, 0, 0, Instant::now());
    for cycle in 0..12 {
        group.start();
        let status = timeout(PATIENCE, group.status().wait_for(up)).await.unwrap().unwrap().clone();
        let pid = of(&status, "display").pid.unwrap();
        let starts = of(&status, "flood").starts;
        signal(pid, rustix::process::Signal::KILL);
        let again = |all: &GroupStatus| up(all) && of(all, "flood").starts > starts;
        timeout(PATIENCE, group.status().wait_for(again)).await.unwrap().unwrap();
        let report = group.stop(PATIENCE).await.unwrap();
        assert_eq!(report, StopReport::default());
        wait_for("no child but the keeper", || async { procfs::own_children().unwrap().len() == 1 }).await;
        if cycle == 1 {
            (files, memory, cpu) = (open_files(), memory_kib(), cpu_ticks());
        }
    }
    let grown = memory_kib().saturating_sub(memory);
    let text = format!(
        "10 cycles with a flood: fds {files} -> {}, RSS +{grown} KiB, {} CPU ticks in {} ms",
        open_files(),
        cpu_ticks() - cpu,
        began.elapsed().as_millis()
    );
    // The last pipes of a run are closed an instant after its end, at either count.
    wait_for("no more descriptors than after two cycles", || async { open_files() <= files }).await;
    assert!(grown < 4096, "memory grows: {grown} KiB");
    assert_eq!(host.finish().await.unwrap(), 0);
    Ready { text, stays: false }
}

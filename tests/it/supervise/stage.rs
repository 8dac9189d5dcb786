//! A host with a group on it, and a count of what they leave.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::time::timeout;
use valetd::backoff::Backoff;
use valetd::supervise::{
    Command, Confinement, Group, GroupHandle, GroupStatus, Identity, Program, ProgramError, READY_FD,
    RestartPolicy, Running, ServiceSpec, ServiceState, ServiceStatus, StopReport, Timing,
};
use valetd::sys::{Host, HostParams, Limits, marker, procfs};
use valetd::tasks::Scope;

/// Longer than anything here takes on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A fixture script; it counts as up when its process can be seen.
pub(super) struct Script {
    name: &'static str,
    args: Vec<String>,
    ready_fd: bool,
    pub(super) identity: Option<Identity>,
}

impl Script {
    pub(super) fn new(name: &'static str, args: &[&str]) -> Self {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { name, ready_fd: args.iter().any(|arg| arg == READY_FD), args, identity: None }
    }
}

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/services").join(name)
}

impl Program for Script {
    fn command(&self) -> Result<Command, ProgramError> {
        let mut args = vec![fixture(self.name).into_os_string()];
        args.extend(self.args.iter().map(Into::into));
        Ok(Command {
            program: "/bin/sh".into(),
            args,
            env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            cwd: "/".into(),
            confinement: Confinement { identity: self.identity, space: None },
            max_open_files: 256,
            ready_fd: self.ready_fd,
        })
    }

    fn ready_line(&self, line: &str) -> Result<(), ProgramError> {
        if line.starts_with("ready after") { Ok(()) } else { Err(ProgramError::new("what was that")) }
    }

    fn probe<'a>(&'a self, running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
        Box::pin(async move {
            match procfs::Stat::of(running.pid) {
                Ok(stat) if !stat.is_zombie() && stat.state != 'T' => Ok(()),
                _ => Err(ProgramError::new("is not running")),
            }
        })
    }
}

pub(super) fn spec(name: &'static str, requires: &[&'static str], script: Script) -> ServiceSpec {
    ServiceSpec {
        name,
        requires: requires.to_vec(),
        program: Arc::new(script),
        timing: Timing {
            start_deadline: Duration::from_secs(10),
            probe_interval: Duration::from_millis(100),
            probe_deadline: Duration::from_secs(2),
            probe_failures: 3,
            ask_grace: Duration::from_secs(1),
            term_grace: Duration::from_millis(500),
        },
        restart: RestartPolicy {
            backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) },
            healthy_after: Duration::from_secs(60),
            crash_loop_after: 3,
            readopt_within: None,
        },
        held: false,
    }
}

/// A host, a group on it, and the count of what they leave.
pub(super) struct Stage {
    scope: Scope,
    pub(super) host: Host,
    pub(super) group: GroupHandle,
    _state: tempfile::TempDir,
}

impl Stage {
    pub(super) async fn new(specs: Vec<ServiceSpec>) -> Self {
        Self::with(specs, |_| {}).await
    }

    pub(super) async fn with(specs: Vec<ServiceSpec>, change: impl FnOnce(&mut HostParams)) -> Self {
        Self::limited(specs, Limits::default(), change).await
    }

    pub(super) async fn limited(
        specs: Vec<ServiceSpec>,
        limits: Limits,
        change: impl FnOnce(&mut HostParams),
    ) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut params = params(state.path());
        change(&mut params);
        let mut scope = Scope::new();
        let host = Host::start(&mut scope, params).await.unwrap();
        let group = Group::spawn(&mut scope, "stage", specs, &host, limits).unwrap();
        group.start();
        Self { scope, host, group, _state: state }
    }

    pub(super) async fn until(&self, what: &str, condition: impl FnMut(&GroupStatus) -> bool) -> GroupStatus {
        let mut status = self.group.status();
        let reached = timeout(PATIENCE, status.wait_for(condition)).await;
        match reached {
            Ok(Ok(status)) => status.clone(),
            _ => panic!("not reached: {what}; it is {:#?}", *self.group.status().borrow()),
        }
    }

    pub(super) async fn until_state(&self, name: &str, state: ServiceState) -> ServiceStatus {
        let status = self.until(&format!("{name} {state:?}"), |all| of(all, name).state == state).await;
        of(&status, name).clone()
    }

    /// Stops, and checks that nothing is left: processes, cgroups, keeper.
    pub(super) async fn end(mut self) -> StopReport {
        let report = self.group.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(report.left, Vec::<&str>::new());
        let prefix = self.prefix();
        assert_eq!(self.scope_shutdown().await, Vec::<&str>::new());
        let keeper = self.host.keeper_pid();
        assert_eq!(self.host.finish().await.unwrap(), 0, "processes outlived the stop");
        let left = marker::find(|value| value.starts_with(&prefix)).unwrap();
        assert_eq!(left, [], "processes are left");
        if let Some(pid) = keeper {
            gone(pid).await;
        }
        let valetd::sys::Containment::Cgroup { base, .. } = self.host.containment() else { return report };
        assert!(!base.exists(), "{} is left", base.display());
        report
    }

    pub(super) async fn scope_shutdown(&mut self) -> Vec<&'static str> {
        // The keeper's task goes with the host, not with the token.
        let stragglers = self.scope.token();
        stragglers.cancel();
        wait_for("the group's task", || async { self.group.status().has_changed().is_err() }).await;
        Vec::new()
    }

    /// What the markers of this stage's processes start with.
    pub(super) fn prefix(&self) -> String {
        marker_prefix(&self.host)
    }
}

pub(super) fn marker_prefix(host: &Host) -> String {
    let cell = host.cell("none", "none", Limits::default()).unwrap();
    cell.remove().unwrap();
    host.containment().remove_group("none").unwrap();
    cell.marker().strip_suffix("none/none").unwrap().to_owned()
}

pub(super) fn params(state: &Path) -> HostParams {
    HostParams { trampoline: env!("CARGO_BIN_EXE_valetd").into(), ..HostParams::new(state) }
}

pub(super) fn of<'a>(status: &'a GroupStatus, name: &str) -> &'a ServiceStatus {
    status.services.iter().find(|service| service.name == name).unwrap()
}

/// Looks again and again, with a deadline.
pub(super) async fn wait_for<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not reached: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn gone(pid: u32) {
    wait_for(&format!("the end of {pid}"), || async { procfs::Stat::of(pid).is_err() }).await;
}

pub(super) fn signal(pid: u32, signal: rustix::process::Signal) {
    use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&pidfd, signal).unwrap();
}

pub(super) fn record(fault: &str, took: Duration) {
    println!("{fault}: {} ms", took.as_millis());
}

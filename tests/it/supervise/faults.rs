//! The faults, one by one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use valetd::supervise::{
    Command, GroupStatus, Identity, Program, ProgramError, READY_FD, Running, ServiceState, StopReport,
};
use valetd::sys::{Host, InstanceLock, Limits, LockError, marker, procfs};
use valetd::tasks::Scope;

use super::stage::{PATIENCE, Script, Stage, of, params, record, signal, spec, wait_for};
use super::stand_in::{StandIn, cgroup_left, is_keeper};

#[tokio::test]
async fn a_group_comes_up_in_order_and_its_stop_leaves_nothing() {
    let stage = Stage::new(vec![
        spec("viewer", &["browser"], Script::new("steady.sh", &[])),
        spec("browser", &["display"], Script::new("steady.sh", &[])),
        spec("display", &[], Script::new("ready-late.sh", &[READY_FD, "0.2"])),
    ])
    .await;
    let status = stage.until("all up", |all| all.services.iter().all(|s| s.state == ServiceState::Up)).await;
    let start = |name| procfs::Stat::of(of(&status, name).pid.unwrap()).unwrap().start_time;
    assert!(start("display") < start("browser") && start("browser") <= start("viewer"));
    assert!(stage.group.ping(PATIENCE).await);
    assert_eq!(stage.end().await, StopReport::default());
}

#[tokio::test]
async fn f7_a_crash_loop_backs_off_and_is_flagged_while_tries_go_on() {
    let stage = Stage::new(vec![spec("it", &[], Script::new("crash-loop.sh", &[]))]).await;
    let started = Instant::now();
    let status = stage.until("a crash loop", |all| of(all, "it").crash_loop).await;
    record("F7 flagged", started.elapsed());
    assert_eq!(of(&status, "it").starts, 3);
    assert_eq!(of(&status, "it").reason.as_deref(), Some("exited with status 3: about to fall"));
    // Two waits of at least half of 100 and 200 ms.
    assert!(started.elapsed() >= Duration::from_millis(150));
    stage.until("another try", |all| of(all, "it").starts == 4).await;
    stage.end().await;
}

#[tokio::test]
async fn f30_a_group_that_may_have_no_more_processes_is_told_so_and_alone_suffers() {
    // Controllers may be with cgroup1, or not be delegated.
    let controllers = valetd::sys::cgroup::own_dir().map(|own| own.join("cgroup.controllers"));
    let offered = controllers.and_then(std::fs::read_to_string).unwrap_or_default();
    if !nix::unistd::geteuid().is_root() || !offered.split_whitespace().any(|name| name == "pids") {
        println!("no pids controller in cgroup2 here: nothing was tested");
        return;
    }
    let limits = Limits { pids: Some(16), ..Limits::default() };
    let many = spec("many", &[], Script::new("forks-many.sh", &[]));
    let stage = Stage::limited(vec![many], limits, |_| {}).await;
    let status = stage.until("a failure", |all| of(all, "many").reason.is_some()).await;
    let reason = of(&status, "many").reason.clone().unwrap();
    assert!(reason.contains("fork"), "{reason}");
    stage.until("another try", |all| of(all, "many").starts >= 2).await;
    assert!(stage.group.ping(PATIENCE).await, "the daemon goes on");
    assert_eq!(stage.end().await.left, Vec::<&str>::new());
}

#[tokio::test]
async fn f8_an_exit_with_status_0_unasked_is_a_failure_and_restarted_at_once() {
    let stage = Stage::new(vec![spec("it", &[], Script::new("exit0.sh", &[]))]).await;
    let started = Instant::now();
    let status = stage.until("a second start", |all| of(all, "it").starts >= 2).await;
    record("F8 restart", started.elapsed());
    assert_eq!(of(&status, "it").reason.as_deref(), Some("exited with status 0"));
    stage.end().await;
}

#[tokio::test]
async fn f9_one_that_is_never_ready_is_killed_at_its_deadline() {
    let mut late = spec("it", &[], Script::new("ready-late.sh", &[READY_FD, "600"]));
    late.timing.start_deadline = Duration::from_millis(300);
    let stage = Stage::new(vec![late]).await;
    let status = stage.until_state("it", ServiceState::BackingOff).await;
    assert_eq!(status.reason.as_deref(), Some("not ready within 0.3 s"));
    stage.end().await;
}

async fn grandchildren_die(without_cgroups: bool) -> Duration {
    let specs = vec![spec("it", &[], Script::new("leaves-grandchild.sh", &["20"]))];
    let stage = Stage::with(specs, |params| params.without_cgroups = without_cgroups).await;
    let prefix = stage.prefix();
    let count = || marker::find(|value| value.starts_with(&prefix)).unwrap().len();
    // The main process, and for each grandchild a shell with its sleep.
    wait_for("twenty grandchildren", || async { count() == 41 }).await;
    let before = stage.until_state("it", ServiceState::Up).await;
    signal(before.pid.unwrap(), rustix::process::Signal::KILL);
    let killed = Instant::now();
    stage.until("back-off", |all| of(all, "it").state == ServiceState::BackingOff).await;
    let took = killed.elapsed();
    stage.group.stop(PATIENCE).await.unwrap();
    assert_eq!(count(), 0);
    stage.end().await;
    took
}

#[tokio::test]
async fn f10_grandchildren_in_sessions_of_their_own_die_with_their_service() {
    record("F10 by cgroup: SIGKILL to empty and clean, 41 processes", grandchildren_die(false).await);
}

#[tokio::test]
async fn f10_where_there_is_no_cgroup_the_marker_finds_them() {
    record("F10 by marker: SIGKILL to empty and clean, 41 processes", grandchildren_die(true).await);
}

#[tokio::test]
async fn f11_one_that_ignores_term_is_killed_after_its_grace() {
    let stage = Stage::new(vec![spec("it", &[], Script::new("ignores-term.sh", &[READY_FD]))]).await;
    stage.until_state("it", ServiceState::Up).await;
    let asked = Instant::now();
    let report = stage.end().await;
    record("F11 stop (grace 500 ms)", asked.elapsed());
    assert_eq!(report, StopReport::default());
    assert!(asked.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn a_stop_whose_budget_is_spent_kills_and_says_whom() {
    let mut deaf = spec("it", &[], Script::new("ignores-term.sh", &[READY_FD]));
    deaf.timing.term_grace = Duration::from_secs(600);
    let stage = Stage::new(vec![deaf]).await;
    stage.until_state("it", ServiceState::Up).await;
    let report = stage.group.stop(Duration::from_millis(100)).await.unwrap();
    assert_eq!(report, StopReport { forced: vec!["it"], left: vec![] });
    stage.end().await;
}

#[tokio::test]
async fn f14_a_grandchild_that_holds_the_pipe_does_not_hide_the_exit() {
    let stage = Stage::new(vec![spec("it", &[], Script::new("holds-pipe.sh", &[]))]).await;
    let status = stage.until_state("it", ServiceState::BackingOff).await;
    assert_eq!(status.reason.as_deref(), Some("exited with status 4: gone, but not my child"));
    stage.end().await;
}

#[tokio::test]
async fn f14_closed_output_is_not_an_exit() {
    let stage = Stage::new(vec![spec("it", &[], Script::new("closes-pipes.sh", &[]))]).await;
    let up = stage.until_state("it", ServiceState::Up).await;
    let pid = up.pid.unwrap();
    let closed = || async move { !Path::new(&format!("/proc/{pid}/fd/1")).exists() };
    wait_for("closed pipes", closed).await;
    stage.group.ping(PATIENCE).await;
    let now = of(&stage.group.status().borrow(), "it").clone();
    assert_eq!((now.pid, now.starts, now.state), (Some(pid), 1, ServiceState::Up));
    stage.end().await;
}

#[tokio::test]
async fn f5_a_stopped_process_shows_at_once_and_is_replaced() {
    let stage = Stage::new(vec![spec("it", &[], Script::new("steady.sh", &[]))]).await;
    let before = stage.until_state("it", ServiceState::Up).await.pid.unwrap();
    signal(before, rustix::process::Signal::STOP);
    let hung = Instant::now();
    stage.until_state("it", ServiceState::Unresponsive).await;
    record("F5 shown", hung.elapsed());
    let status = stage.until("a failure", |all| of(all, "it").state == ServiceState::BackingOff).await;
    assert_eq!(of(&status, "it").reason.as_deref(), Some("did not answer 3 probes"));
    let after = stage.until_state("it", ServiceState::Up).await;
    record("F5 replaced", hung.elapsed());
    assert_ne!(after.pid, Some(before));
    stage.end().await;
}

#[tokio::test]
async fn a_dependant_restarts_with_what_it_requires_and_pays_nothing() {
    let stage = Stage::new(vec![
        spec("display", &[], Script::new("steady.sh", &[])),
        spec("browser", &["display"], Script::new("steady.sh", &[])),
    ])
    .await;
    let up = |all: &GroupStatus| all.services.iter().all(|service| service.state == ServiceState::Up);
    let before = stage.until("all up", up).await;
    signal(of(&before, "display").pid.unwrap(), rustix::process::Signal::KILL);
    let killed = Instant::now();
    let after = stage.until("both again", |all| up(all) && of(all, "browser").starts == 2).await;
    record("F1 both again", killed.elapsed());
    assert_eq!((of(&after, "display").starts, of(&after, "browser").starts), (2, 2));
    stage.group.restart("display").await.unwrap();
    stage.until("both a third time", |all| up(all) && all.services.iter().all(|s| s.starts == 3)).await;
    stage.end().await;
}

#[tokio::test]
async fn what_cannot_be_executed_says_at_which_stage() {
    struct Nothing;
    impl Program for Nothing {
        fn command(&self) -> Result<Command, ProgramError> {
            let mut command = Script::new("steady.sh", &[]).command()?;
            command.program = "/no/such/program".into();
            Ok(command)
        }
        fn probe<'a>(&'a self, _: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
            Box::pin(async { Ok(()) })
        }
    }
    let mut broken = spec("it", &[], Script::new("steady.sh", &[]));
    broken.program = Arc::new(Nothing);
    let stage = Stage::new(vec![broken]).await;
    let status = stage.until_state("it", ServiceState::BackingOff).await;
    let expected = "cannot start /no/such/program: exec: No such file or directory (os error 2)";
    assert_eq!(status.reason.as_deref(), Some(expected));
    stage.end().await;
}

#[tokio::test]
async fn a_service_of_another_uid_has_no_rights_no_groups_and_nothing_of_ours_open() {
    let root = nix::unistd::geteuid().is_root();
    let mut script = Script::new("steady.sh", &[]);
    // No passwd entry has it.
    script.identity = root.then_some(Identity { uid: 23_456, gid: 23_457 });
    let stage = Stage::new(vec![spec("it", &[], script)]).await;
    let pid = stage.until_state("it", ServiceState::Up).await.pid.unwrap();
    // The shell had its script open.
    let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    let environ = || std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let open = || -> Vec<_> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // The name is another a little before the variables are there again, and then it reads its libraries.
    wait_for("the exec of sleep, with three descriptors", || async {
        name() == "sleep\n" && !environ().is_empty() && open() == ["0", "1", "2"]
    })
    .await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    if root {
        assert_eq!(field("Uid:"), "23456 23456 23456 23456");
        assert_eq!(field("Gid:"), "23457 23457 23457 23457");
        assert_eq!(field("Groups:"), "");
        assert_eq!(field("CapBnd:"), "0000000000000000");
    }
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let words = |prefix| -> Vec<String> {
        let line = limits.lines().find(|line| line.starts_with(prefix)).unwrap();
        line[26..].split_ascii_whitespace().take(2).map(str::to_owned).collect()
    };
    assert_eq!(words("Max open files"), ["256", "256"]);
    assert_eq!(words("Max core file size"), ["0", "0"]);
    let environ = environ();
    let names: Vec<_> = environ
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| String::from_utf8_lossy(entry).split('=').next().unwrap().to_owned())
        .collect();
    // The shell adds PWD and its kind.
    assert!(names.contains(&"PATH".to_owned()) && names.contains(&"VALETD_RUN".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    assert_eq!(procfs::Stat::of(pid).unwrap().session, pid);
    stage.end().await;
}

#[tokio::test]
async fn the_keeper_is_replaced_when_it_dies() {
    let stage = Stage::new(Vec::new()).await;
    let first = stage.host.keeper_pid().unwrap();
    // Not by the signals that a terminal or an operator would send to all.
    let masked = || async move {
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        status.lines().any(|line| line.starts_with("SigBlk:") && line.ends_with("fffffffe7ffbfeff"))
    };
    wait_for("a deaf keeper", masked).await;
    signal(first, rustix::process::Signal::KILL);
    wait_for("another keeper", || async { stage.host.keeper_pid().is_some_and(|pid| pid != first) }).await;
    stage.end().await;
}

#[test]
fn f48_the_second_daemon_on_a_state_directory_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let mut daemon = StandIn::start(state.path(), "idle");
    daemon.until_ready();
    let error = InstanceLock::acquire(state.path()).unwrap_err();
    assert!(matches!(error, LockError::Held { holder: Some(pid), .. } if pid == daemon.pid()), "{error}");
    daemon.kill();
    InstanceLock::acquire(state.path()).unwrap();
}

#[tokio::test]
async fn f44_all_of_a_killed_daemon_dies_without_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let mut daemon = StandIn::start(state.path(), "idle");
    let prefix = daemon.until_ready();
    let ephemeral = state.path().join("ephemeral");
    assert!(ephemeral.exists());
    let count = || marker::find(|value| value.starts_with(&prefix)).unwrap().len();
    wait_for("its services", || async { count() == 12 }).await;
    let killed = Instant::now();
    daemon.kill();
    wait_for("nothing", || async { count() == 0 && !ephemeral.exists() && !cgroup_left(&prefix) }).await;
    record("F44 SIGKILL of the daemon to nothing left", killed.elapsed());
}

#[tokio::test]
async fn f44_with_the_keeper_killed_as_well_the_next_start_sweeps() {
    let state = tempfile::tempdir().unwrap();
    let mut daemon = StandIn::start(state.path(), "idle");
    let prefix = daemon.until_ready();
    let count = || marker::find(|value| value.starts_with(&prefix)).unwrap().len();
    wait_for("its services", || async { count() == 12 }).await;
    let keepers: Vec<_> = procfs::all()
        .unwrap()
        .into_iter()
        .filter(|stat| stat.ppid == daemon.pid() && is_keeper(stat.pid))
        .collect();
    assert_eq!(keepers.len(), 1);
    // Stopped first: a dead daemon cannot start another keeper.
    signal(daemon.pid(), rustix::process::Signal::STOP);
    signal(keepers[0].pid, rustix::process::Signal::KILL);
    daemon.kill();
    // Those of its services that were its children died with it; what they left did not.
    wait_for("main processes gone", || async { count() == 10 }).await;
    let mut scope = Scope::new();
    let began = Instant::now();
    let host = Host::start(&mut scope, params(state.path())).await.unwrap();
    record("F44 next start with sweep", began.elapsed());
    assert_eq!(count(), 0);
    assert!(!cgroup_left(&prefix));
    assert_eq!(host.finish().await.unwrap(), 0);
}

#[test]
fn f13_and_many_cycles_leave_no_descriptor_no_zombie_and_no_memory_behind() {
    let state = tempfile::tempdir().unwrap();
    let mut daemon = StandIn::start(state.path(), "cycles");
    let report = daemon.until_ready();
    println!("{report}");
    assert!(daemon.child.wait().unwrap().success());
}

//! Each rule by itself, in virtual time.

use std::time::{Duration, Instant};

use super::super::spec::{RestartPolicy, Timing};
use super::super::status::ServiceState;
use super::{Action, Event, GraphError, Machine, Node, Report, RunEvent, RunId, Todo};
use crate::backoff::Backoff;
use crate::sys::Exit;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn node(name: &'static str, requires: &[&'static str]) -> Node {
    Node {
        name,
        requires: requires.to_vec(),
        timing: Timing {
            start_deadline: 5 * SECOND,
            probe_interval: 2 * SECOND,
            probe_deadline: SECOND,
            probe_failures: 3,
            ask_grace: 3 * SECOND,
            term_grace: 4 * SECOND,
        },
        restart: RestartPolicy {
            backoff: Backoff { first: SECOND, max: 30 * SECOND },
            healthy_after: 60 * SECOND,
            crash_loop_after: 3,
            readopt_within: None,
        },
        held: false,
    }
}

/// A machine with a clock, and what it wants done.
struct Bench {
    machine: Machine,
    now: Instant,
    reports: Vec<Report>,
}

impl Bench {
    fn new(nodes: Vec<Node>) -> Self {
        Self { machine: Machine::new(nodes).unwrap(), now: Instant::now(), reports: Vec::new() }
    }

    fn chain() -> Self {
        Self::new(vec![node("display", &[]), node("browser", &["display"])])
    }

    /// What it wants done, reports aside.
    fn send(&mut self, event: Event) -> Vec<Action> {
        self.machine.handle(self.now, 1.0, event).unwrap();
        let (reports, rest): (Vec<_>, Vec<_>) = self
            .machine
            .take_actions()
            .into_iter()
            .partition(|action| matches!(action.todo, Todo::Report(_)));
        self.reports.extend(reports.into_iter().map(|action| match action.todo {
            Todo::Report(report) => report,
            _ => unreachable!(),
        }));
        rest
    }

    fn run(&mut self, service: usize, run: u64, what: RunEvent) -> Vec<Action> {
        self.send(Event::Run { service, run: RunId(run), what })
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.send(Event::Tick)
    }

    /// A launched run comes up.
    fn up(&mut self, service: usize, run: u64) -> Vec<Action> {
        let asked = self.run(service, run, RunEvent::Spawned { pid: 100, says_when_ready: false });
        assert_eq!(asked, [todo(service, run, Todo::Probe)]);
        self.run(service, run, RunEvent::Probed(Ok(())))
    }

    fn exit(&mut self, service: usize, run: u64) -> Vec<Action> {
        self.run(
            service,
            run,
            RunEvent::Exited { exit: Exit::Status(1), last_line: None, others_left: false },
        )
    }

    /// The main process ends, and others of its run do not.
    fn leave_others(&mut self, service: usize, run: u64) -> Vec<Action> {
        let exit = Exit::Status(0);
        self.run(service, run, RunEvent::Exited { exit, last_line: None, others_left: true })
    }

    /// A killed run, whose exit is known, is seen empty and cleaned up after.
    fn end(&mut self, service: usize, run: u64) -> Vec<Action> {
        assert_eq!(self.run(service, run, RunEvent::Emptied), [todo(service, run, Todo::CleanUp)]);
        self.run(service, run, RunEvent::CleanedUp)
    }

    fn states(&self) -> Vec<ServiceState> {
        self.machine.views().into_iter().map(|view| view.state).collect()
    }

    fn reason(&self, service: usize) -> Option<String> {
        self.machine.views()[service].reason.clone()
    }
}

fn todo(service: usize, run: u64, todo: Todo) -> Action {
    Action { service, run: RunId(run), todo }
}

fn launch(service: usize, run: u64, attempt: u32) -> [Action; 1] {
    [todo(service, run, Todo::Launch { attempt })]
}

#[test]
fn lists_that_are_no_graph_are_refused() {
    let refused = |nodes| Machine::new(nodes).unwrap_err();
    assert_eq!(refused(vec![node("a", &[]), node("a", &[])]), GraphError::Duplicate("a"));
    let unknown = GraphError::Unknown { service: "a", requires: "b" };
    assert_eq!(refused(vec![node("a", &["b"])]), unknown);
    assert_eq!(refused(vec![node("a", &["a"])]), GraphError::Cycle("a"));
    let cycle = vec![node("x", &[]), node("a", &["x", "b"]), node("b", &["a"])];
    assert_eq!(refused(cycle), GraphError::Cycle("a"));
}

#[test]
fn a_service_starts_when_what_it_requires_is_up() {
    let mut bench = Bench::chain();
    assert_eq!(bench.send(Event::Start), launch(0, 0, 0));
    assert_eq!(bench.states(), [ServiceState::Starting, ServiceState::Waiting]);
    assert_eq!(bench.up(0, 0), launch(1, 1, 0));
    assert_eq!(bench.up(1, 1), []);
    assert_eq!(bench.states(), [ServiceState::Up, ServiceState::Up]);
    assert_eq!(bench.reports, [Report::Up { took: Duration::ZERO }, Report::Up { took: Duration::ZERO }]);
}

#[test]
fn probes_begin_after_the_readiness_line_and_repeat_until_the_first_answer() {
    let mut bench = Bench::chain();
    bench.send(Event::Start);
    assert_eq!(bench.run(0, 0, RunEvent::Spawned { pid: 9, says_when_ready: true }), []);
    assert_eq!(bench.run(0, 0, RunEvent::ReadyLine(Ok(()))), [todo(0, 0, Todo::Probe)]);
    assert_eq!(bench.run(0, 0, RunEvent::Probed(Err("not yet".into()))), []);
    assert_eq!(bench.pass(Duration::from_millis(19)), []);
    assert_eq!(bench.pass(Duration::from_millis(1)), [todo(0, 0, Todo::Probe)]);
    assert_eq!(bench.run(0, 0, RunEvent::Probed(Ok(()))), launch(1, 1, 0));
}

#[test]
fn one_that_is_not_ready_in_time_is_killed_and_backs_off() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    bench.run(0, 0, RunEvent::Spawned { pid: 9, says_when_ready: true });
    assert_eq!(bench.machine.deadline(), Some(bench.now + 5 * SECOND));
    assert_eq!(bench.pass(5 * SECOND), [todo(0, 0, Todo::KillAll)]);
    assert_eq!(bench.reason(0).as_deref(), Some("not ready within 5 s"));
    assert_eq!(bench.exit(0, 0), []);
    assert_eq!(bench.end(0, 0), []);
    assert_eq!(bench.states(), [ServiceState::BackingOff]);
    assert_eq!(bench.pass(SECOND), launch(0, 1, 1));
}

#[test]
fn an_exit_unasked_is_a_failure_whatever_its_status_and_all_of_it_is_killed() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    bench.up(0, 0);
    let exit = RunEvent::Exited { exit: Exit::Status(0), last_line: Some("bye".into()), others_left: false };
    assert_eq!(bench.run(0, 0, exit), [todo(0, 0, Todo::KillAll)]);
    assert_eq!(bench.reason(0).as_deref(), Some("exited with status 0: bye"));
    bench.end(0, 0);
    assert_eq!(bench.states(), [ServiceState::BackingOff]);
}

#[test]
fn back_off_doubles_flags_a_crash_loop_once_and_begins_anew_after_health() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    for (run, wait) in [(0, 1), (1, 2), (2, 4), (3, 8)] {
        bench.run(0, run, RunEvent::SpawnFailed("no".into()));
        assert_eq!(bench.pass(wait * SECOND - Duration::from_nanos(1)), []);
        assert_eq!(bench.pass(Duration::from_nanos(1)).len(), 1, "after {wait} s");
        assert_eq!(bench.machine.views()[0].crash_loop, run >= 2);
    }
    let loops =
        |bench: &Bench| bench.reports.iter().filter(|r| matches!(r, Report::CrashLoop { .. })).count();
    assert_eq!(loops(&bench), 1);
    bench.up(0, 4);
    assert_eq!((bench.reason(0), bench.machine.views()[0].crash_loop), (None, true));
    bench.pass(60 * SECOND);
    assert!(!bench.machine.views()[0].crash_loop);
    bench.exit(0, 4);
    bench.end(0, 4);
    assert_eq!(bench.pass(SECOND).len(), 1, "the first wait again");
}

#[test]
fn a_missed_probe_shows_at_once_and_the_third_kills() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    bench.up(0, 0);
    for miss in 1..=3 {
        assert_eq!(bench.pass(2 * SECOND), [todo(0, 0, Todo::Probe)]);
        assert_eq!(bench.pass(SECOND), [], "never two at a time");
        let actions = bench.run(0, 0, RunEvent::Probed(Err("silence".into())));
        if miss < 3 {
            assert_eq!((actions, bench.states()), (vec![], vec![ServiceState::Unresponsive]));
        } else {
            assert_eq!(actions, [todo(0, 0, Todo::KillAll)]);
        }
    }
    assert_eq!(bench.reason(0).as_deref(), Some("did not answer 3 probes"));
    let late = RunEvent::Probed(Ok(()));
    assert_eq!(bench.run(0, 0, late), [], "a late answer changes nothing");
}

#[test]
fn a_probe_that_could_not_be_made_is_neither_a_miss_nor_an_answer() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    let not_probed = || RunEvent::NotProbed("no descriptors".into());
    bench.send(Event::Start);
    bench.run(0, 0, RunEvent::Spawned { pid: 1, says_when_ready: false });
    assert_eq!(bench.run(0, 0, not_probed()), []);
    assert_eq!(bench.states(), [ServiceState::Starting], "it is not up before it has answered");
    bench.pass(2 * SECOND);
    bench.run(0, 0, RunEvent::Probed(Ok(())));
    for _ in 0..5 {
        assert_eq!(bench.pass(2 * SECOND), [todo(0, 0, Todo::Probe)]);
        assert_eq!(bench.run(0, 0, not_probed()), []);
        assert_eq!(bench.states(), [ServiceState::Up]);
    }
}

#[test]
fn a_good_probe_wipes_the_misses() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    bench.up(0, 0);
    for answer in [Err("a".to_owned()), Err("b".to_owned()), Ok(()), Err("c".to_owned()), Err("d".to_owned())]
    {
        bench.pass(2 * SECOND);
        assert_eq!(bench.run(0, 0, RunEvent::Probed(answer)), []);
    }
    assert_eq!(bench.states(), [ServiceState::Unresponsive]);
}

#[test]
fn a_stop_asks_then_terminates_then_kills_and_dependants_go_first() {
    let mut nodes = vec![node("display", &[]), node("browser", &["display"])];
    // Probes go on until its own turn comes; none is due here.
    nodes[0].timing.probe_interval = 600 * SECOND;
    let mut bench = Bench::new(nodes);
    bench.send(Event::Start);
    bench.up(0, 0);
    bench.up(1, 1);
    assert_eq!(bench.send(Event::Stop), [todo(1, 1, Todo::AskToStop)]);
    assert_eq!(bench.run(1, 1, RunEvent::Asked(true)), []);
    assert_eq!(bench.pass(3 * SECOND), [todo(1, 1, Todo::Terminate)]);
    assert_eq!(bench.pass(4 * SECOND), [todo(1, 1, Todo::KillAll)]);
    assert_eq!(bench.run(1, 1, RunEvent::Emptied), [], "its exit is not known yet");
    assert_eq!(bench.exit(1, 1), [todo(1, 1, Todo::CleanUp)]);
    assert_eq!(bench.run(1, 1, RunEvent::CleanedUp), [todo(0, 0, Todo::AskToStop)]);
    assert_eq!(bench.run(0, 0, RunEvent::Asked(false)), [todo(0, 0, Todo::Terminate)]);
    assert_eq!(bench.exit(0, 0), [todo(0, 0, Todo::KillAll)], "what it left behind");
    assert_eq!(bench.end(0, 0), []);
    assert!(bench.machine.is_stopped());
    assert_eq!(bench.machine.deadline(), None);
}

#[test]
fn a_stop_in_haste_kills_all_at_once() {
    let mut bench = Bench::chain();
    bench.send(Event::Start);
    bench.up(0, 0);
    bench.up(1, 1);
    bench.send(Event::Stop);
    assert_eq!(bench.send(Event::StopNow), [todo(0, 0, Todo::KillAll), todo(1, 1, Todo::KillAll)]);
}

#[test]
fn a_lost_requirement_takes_its_dependants_along_without_a_penalty() {
    let mut bench = Bench::chain();
    bench.send(Event::Start);
    bench.up(0, 0);
    bench.up(1, 1);
    let kill_and_term = [todo(0, 0, Todo::KillAll), todo(1, 1, Todo::Terminate)];
    assert_eq!(bench.exit(0, 0), kill_and_term);
    assert_eq!(bench.reason(1).as_deref(), Some("display went away"));
    assert_eq!(bench.exit(1, 1), [todo(1, 1, Todo::KillAll)]);
    bench.end(1, 1);
    bench.end(0, 0);
    assert_eq!(bench.states(), [ServiceState::BackingOff, ServiceState::Waiting]);
    assert_eq!(bench.pass(SECOND), launch(0, 2, 1));
    assert_eq!(bench.up(0, 2), launch(1, 3, 1));
}

#[test]
fn a_dependant_that_falls_just_before_its_requirement_is_not_blamed() {
    let mut bench = Bench::chain();
    bench.send(Event::Start);
    bench.up(0, 0);
    bench.up(1, 1);
    bench.exit(1, 1);
    bench.now += Duration::from_millis(20);
    bench.exit(0, 0);
    bench.end(1, 1);
    bench.end(0, 0);
    assert_eq!(bench.states(), [ServiceState::BackingOff, ServiceState::Waiting]);
    bench.pass(SECOND);
    assert_eq!(bench.up(0, 2), launch(1, 3, 1));
}

#[test]
fn stop_during_back_off_cancels_it() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    bench.run(0, 0, RunEvent::SpawnFailed("no".into()));
    assert_eq!(bench.send(Event::Stop), []);
    assert!(bench.machine.is_stopped());
    assert_eq!(bench.pass(60 * SECOND), []);
}

#[test]
fn a_start_during_a_stop_is_remembered() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    bench.up(0, 0);
    bench.send(Event::Stop);
    assert_eq!(bench.send(Event::Start), []);
    bench.exit(0, 0);
    assert_eq!(bench.end(0, 0), launch(0, 1, 1));
}

#[test]
fn a_stop_during_the_launch_waits_for_it_and_ends_it() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    assert_eq!(bench.send(Event::Stop), []);
    let spawned = RunEvent::Spawned { pid: 9, says_when_ready: false };
    assert_eq!(bench.run(0, 0, spawned), [todo(0, 0, Todo::Probe), todo(0, 0, Todo::Terminate)]);
}

#[test]
fn a_restart_stops_dependants_first_and_counts_as_no_failure() {
    let mut bench = Bench::chain();
    bench.send(Event::Start);
    bench.up(0, 0);
    bench.up(1, 1);
    assert_eq!(bench.send(Event::Restart(0)), [todo(1, 1, Todo::AskToStop)]);
    bench.exit(1, 1);
    assert_eq!(bench.end(1, 1), [todo(0, 0, Todo::AskToStop)]);
    bench.exit(0, 0);
    assert_eq!(bench.end(0, 0), launch(0, 2, 1));
    assert_eq!(bench.up(0, 2), launch(1, 3, 1));
}

#[test]
fn processes_that_survive_sigkill_are_killed_again_and_the_state_says_so() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    bench.send(Event::Start);
    bench.up(0, 0);
    bench.exit(0, 0);
    assert_eq!(bench.run(0, 0, RunEvent::NotEmptied), []);
    assert_eq!(bench.reason(0).as_deref(), Some("processes survive SIGKILL"));
    assert_eq!(bench.states(), [ServiceState::Stopping]);
    assert_eq!(bench.pass(SECOND), [todo(0, 0, Todo::KillAll)]);
    assert_eq!(bench.run(0, 0, RunEvent::NotEmptied), []);
    assert_eq!(bench.pass(SECOND), [todo(0, 0, Todo::KillAll)]);
    let told = bench.reports.iter().filter(|report| **report == Report::Stuck).count();
    assert_eq!(told, 1, "however often it is tried");
    bench.end(0, 0);
    assert_eq!(bench.states(), [ServiceState::BackingOff]);
}

#[test]
fn events_that_cannot_be_are_answered_and_change_nothing() {
    let mut bench = Bench::new(vec![node("it", &[])]);
    let now = bench.now;
    let stray = Event::Run { service: 0, run: RunId(7), what: RunEvent::Emptied };
    let error = bench.machine.handle(now, 0.0, stray).unwrap_err();
    assert_eq!(error.to_string(), "Emptied does not belong to it while it is Stopped");
    assert!(bench.machine.handle(now, 0.0, Event::Restart(0)).is_err(), "not wanted");
    assert!(bench.machine.handle(now, 0.0, Event::Restart(5)).is_err(), "not there");
    assert_eq!((bench.machine.take_actions(), bench.states()), (vec![], vec![ServiceState::Stopped]));
}

/// A service that starts itself anew.
fn respawning() -> Bench {
    let mut node = node("app", &[]);
    node.restart.readopt_within = Some(5 * SECOND);
    let mut bench = Bench::new(vec![node]);
    bench.send(Event::Start);
    bench.up(0, 0);
    bench
}

#[test]
fn f24_a_run_goes_on_without_its_main_process_when_others_answer_in_time() {
    let mut bench = respawning();
    assert_eq!(bench.leave_others(0, 0), []);
    let view = bench.machine.views().remove(0);
    assert_eq!((view.state, view.pid), (ServiceState::Unresponsive, None));
    assert_eq!(bench.reason(0).as_deref(), Some("the main process exited with status 0"));
    assert_eq!(bench.pass(Duration::ZERO), [todo(0, 0, Todo::Probe)], "asked at once");
    bench.run(0, 0, RunEvent::Probed(Err("nobody listens".into())));
    assert_eq!(bench.pass(4 * SECOND), [todo(0, 0, Todo::Probe)]);
    assert_eq!(bench.run(0, 0, RunEvent::Probed(Ok(()))), []);
    let view = bench.machine.views().remove(0);
    assert_eq!((view.state, view.pid, view.starts), (ServiceState::Up, None, 1));
    assert_eq!(view.reason, None);
    assert_eq!(bench.reports.last(), Some(&Report::Readopted));
    assert!(
        !bench.reports.iter().any(|report| matches!(report, Report::Failed { .. })),
        "{:?}",
        bench.reports
    );
}

#[test]
fn f24_others_that_do_not_answer_in_time_are_killed_and_the_service_starts_again() {
    let mut bench = respawning();
    bench.leave_others(0, 0);
    bench.pass(Duration::ZERO);
    bench.run(0, 0, RunEvent::Probed(Err("nobody listens".into())));
    assert_eq!(bench.pass(5 * SECOND), [todo(0, 0, Todo::KillAll)]);
    assert_eq!(bench.end(0, 0), [], "its exit is known");
    assert_eq!(bench.states(), [ServiceState::BackingOff]);
    assert_eq!(bench.pass(SECOND), launch(0, 1, 1));
}

#[test]
fn f24_an_orphaned_run_that_hangs_later_fails_as_any_other() {
    let mut bench = respawning();
    bench.leave_others(0, 0);
    bench.pass(Duration::ZERO);
    bench.run(0, 0, RunEvent::Probed(Ok(())));
    for miss in 1..=3 {
        assert_eq!(bench.pass(2 * SECOND), [todo(0, 0, Todo::Probe)]);
        let expected = if miss == 3 { vec![todo(0, 0, Todo::KillAll)] } else { vec![] };
        assert_eq!(bench.run(0, 0, RunEvent::Probed(Err("nobody listens".into()))), expected);
    }
    bench.end(0, 0);
    assert_eq!(bench.states(), [ServiceState::BackingOff]);
}

#[test]
fn f24_an_orphaned_run_is_stopped_by_signals_and_seen_empty() {
    let mut bench = respawning();
    bench.leave_others(0, 0);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.send(Event::Stop), [todo(0, 0, Todo::Terminate)]);
    assert_eq!(bench.pass(4 * SECOND), [todo(0, 0, Todo::KillAll)]);
    bench.end(0, 0);
    assert_eq!(bench.states(), [ServiceState::Stopped]);
}

#[test]
fn without_such_a_policy_others_that_are_left_are_killed_with_the_run() {
    let mut bench = Bench::new(vec![node("app", &[])]);
    bench.send(Event::Start);
    bench.up(0, 0);
    assert_eq!(bench.leave_others(0, 0), [todo(0, 0, Todo::KillAll)]);
}

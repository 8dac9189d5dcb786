//! One service: its states, and the timers in them.

use std::time::{Duration, Instant};

use super::super::status::ServiceState;
use super::vocabulary::{Node, RunId, View};

/// Between probes of a service that has not answered yet. Nobody listens yet as a rule, and to learn that costs nothing.
pub(super) const START_PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// Before a kill that left processes is repeated.
pub(super) const KILL_AGAIN: Duration = Duration::from_secs(1);

/// What it is. Variants own their data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Actual {
    Stopped,
    Waiting,
    Launching { run: RunId },
    Starting { live: Live, phase: Phase, deadline: Instant },
    Up { live: Live, since: Instant, misses: u32, probe: ProbeClock },
    Ending { live: Live, step: Step, cause: Cause },
    BackingOff { until: Instant },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) run: RunId,
    pub(super) pid: u32,
    pub(super) spawned: Instant,
    /// Whether its main process has ended and others carry it on, or are about to.
    pub(super) orphaned: bool,
}

impl Live {
    fn main_pid(self) -> Option<u32> {
        (!self.orphaned).then_some(self.pid)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Line,
    Probing(ProbeClock),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeClock {
    At(Instant),
    InFlight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Asking { until: Instant },
    Terminating { until: Instant },
    Killing { exited: bool, emptied: bool, again: Option<Instant> },
    CleaningUp,
}

/// Why a run is ended, which says what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Unwanted,
    Failure { retry_in: Duration },
    RequirementLost,
    Restart,
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) node: Node,
    pub(super) requires: Vec<usize>,
    pub(super) required_by: Vec<usize>,
    /// Whether it is wanted: all of a group are, or none, but for those that are held.
    pub(super) wanted: bool,
    pub(super) restart_asked: bool,
    pub(super) actual: Actual,
    pub(super) starts: u32,
    pub(super) failures: u32,
    pub(super) failed_at: Option<Instant>,
    pub(super) crash_loop: bool,
    pub(super) reason: Option<String>,
}

impl Service {
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            requires: Vec::new(),
            required_by: Vec::new(),
            wanted: false,
            restart_asked: false,
            actual: Actual::Stopped,
            starts: 0,
            failures: 0,
            failed_at: None,
            crash_loop: false,
            reason: None,
        }
    }

    /// The run that is in progress.
    pub(super) fn run(&self) -> Option<RunId> {
        match &self.actual {
            Actual::Launching { run } => Some(*run),
            Actual::Starting { live, .. } | Actual::Up { live, .. } | Actual::Ending { live, .. } => {
                Some(live.run)
            }
            Actual::Stopped | Actual::Waiting | Actual::BackingOff { .. } => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.actual, Actual::Up { .. })
    }

    /// Up, and answered its last probe.
    pub(super) fn answers(&self) -> bool {
        matches!(self.actual, Actual::Up { misses: 0, .. })
    }

    /// When a [`super::Event::Tick`] would do something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.actual {
            Actual::Stopped | Actual::Waiting | Actual::Launching { .. } => None,
            Actual::Starting { phase: Phase::Probing(ProbeClock::At(at)), deadline, .. } => {
                Some(*at.min(deadline))
            }
            Actual::Starting { deadline, .. } => Some(*deadline),
            Actual::Up { since, probe, .. } => {
                let healthy = (self.failures > 0).then(|| *since + self.node.restart.healthy_after);
                match probe {
                    ProbeClock::At(at) => Some(healthy.map_or(*at, |healthy| healthy.min(*at))),
                    ProbeClock::InFlight => healthy,
                }
            }
            Actual::Ending { step, .. } => match step {
                Step::Asking { until } | Step::Terminating { until } => Some(*until),
                Step::Killing { again, .. } => *again,
                Step::CleaningUp => None,
            },
            Actual::BackingOff { until } => Some(*until),
        }
    }

    pub(super) fn healthy(&mut self) {
        self.failures = 0;
        self.crash_loop = false;
    }

    /// Takes the last failure back: it was a consequence of a requirement's end.
    pub(super) fn forgive(&mut self) {
        self.failures = self.failures.saturating_sub(1);
        self.crash_loop &= self.failures >= self.node.restart.crash_loop_after;
        self.failed_at = None;
    }

    pub(super) fn view(&self) -> View {
        let (state, pid) = match &self.actual {
            Actual::Stopped => (ServiceState::Stopped, None),
            Actual::Waiting => (ServiceState::Waiting, None),
            Actual::Launching { .. } => (ServiceState::Starting, None),
            Actual::Starting { live, .. } if live.orphaned => (ServiceState::Unresponsive, None),
            Actual::Starting { live, .. } => (ServiceState::Starting, Some(live.pid)),
            Actual::Up { live, misses: 0, .. } => (ServiceState::Up, live.main_pid()),
            Actual::Up { live, .. } => (ServiceState::Unresponsive, live.main_pid()),
            Actual::Ending { live, step: Step::Asking { .. } | Step::Terminating { .. }, .. }
            | Actual::Ending { live, step: Step::Killing { exited: false, .. }, .. } => {
                (ServiceState::Stopping, live.main_pid())
            }
            Actual::Ending { .. } => (ServiceState::Stopping, None),
            Actual::BackingOff { .. } => (ServiceState::BackingOff, None),
        };
        View { state, pid, starts: self.starts, crash_loop: self.crash_loop, reason: self.reason.clone() }
    }
}

//! What to do about one session's browser: decided here, carried out by the [driver](super::driver). Pure.
//!
//! ```text
//! Waiting ─► Opening ─► Up ⇄ Up with misses
//!    ▲  ▲       │        │
//!    │  └───────┴────────┤ AdsPower went, and its browsers with it; or Closing, when the display went
//!    └── BackingOff ◄────┘ it failed and is closed: gone, hung, or not listed any more
//! ```

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// As for services of our own: a hang shows within 2 s.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Misses in a row after which a browser counts as hung; as for Chromiums of ours.
const MISSES: u32 = 5;
/// Before it is opened again.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), max: Duration::from_secs(30) };
/// Up for so long, the next failure counts as the first again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

const GONE_DISPLAY: &str = "the display went away";
const GONE_APP: &str = "AdsPower went away";

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session's display: which of its lives it is in, or none while it is down.
    Display(Option<u32>),
    /// Whether AdsPower can be asked.
    App(bool),
    /// It was opened and looked at, or was not and is closed.
    Opened(Result<(), NotOpened>),
    /// It answered, or did not.
    Probed(Result<(), Miss>),
    /// AdsPower does not list it any more.
    Lost,
    /// It was closed, as far as that could be done.
    Closed,
    /// A deadline may have passed.
    Tick,
}

/// Why none was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOpened {
    /// In words.
    pub reason: String,
    /// Whether it is this browser's: AdsPower was asked and refused, or what it opened cannot be used. Otherwise AdsPower could
    /// not be asked, or something of ours failed.
    pub is_its_own: bool,
}

impl From<String> for NotOpened {
    fn from(reason: String) -> Self {
        Self { reason, is_its_own: false }
    }
}

impl From<&str> for NotOpened {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

/// Why a probe brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// Nobody listens where it did, or somebody else does.
    Gone(String),
    /// It does not answer.
    Silent(String),
}

/// What to do. Each is answered by one event, and there is never more than one of them open: a probe that is gets dropped by
/// what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `Opened`.
    Open,
    /// `Probed`.
    Probe,
    /// `Closed`.
    Close,
}

/// How it is, for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// In one word.
    pub state: State,
    /// Why it is not up.
    pub reason: Option<String>,
    /// How often it was opened, or tried to be.
    pub starts: u32,
    /// Whether what went wrong last is this browser's own, and may be its profile's; see [`NotOpened::is_its_own`].
    pub failed: bool,
}

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On its way up for the first time.
    Starting,
    /// It answered its last probe.
    Up,
    /// It does not work, and is opened again.
    Failing,
    /// It is not wanted any more.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// `stale`: its display went meanwhile.
    Opening {
        stale: bool,
    },
    Up {
        since: Instant,
        misses: u32,
        probe: Option<Instant>,
    },
    /// With the time to wait before it is opened again.
    Closing {
        retry_in: Duration,
    },
    BackingOff {
        until: Instant,
    },
}

/// The state of a browser that is wanted. After each event, carry out the action; at [`Machine::deadline`], send a tick.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    display: Option<u32>,
    app: bool,
    starts: u32,
    failures: u32,
    was_up: bool,
    /// What went wrong last is this browser's own.
    failed: bool,
    reason: Option<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            phase: Phase::Waiting,
            display: None,
            app: false,
            starts: 0,
            failures: 0,
            was_up: false,
            failed: false,
            reason: None,
        }
    }
}

impl Machine {
    /// When to send the next tick.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Up { probe, .. } => probe,
            Phase::BackingOff { until } => Some(until),
            Phase::Waiting | Phase::Opening { .. } | Phase::Closing { .. } => None,
        }
    }

    /// Whether a browser is open and good.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Whether one is being opened.
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening { .. })
    }

    /// Whether AdsPower was ever asked for one.
    pub fn was_asked(&self) -> bool {
        self.starts > 0
    }

    /// How it is.
    pub fn view(&self) -> View {
        let state = match self.phase {
            Phase::Up { misses: 0, .. } => State::Up,
            Phase::Waiting | Phase::Opening { .. } if !self.was_up && self.failures == 0 => State::Starting,
            _ => State::Failing,
        };
        let waits_for = match (self.phase, self.app, self.display) {
            (Phase::Waiting, false, _) => Some("AdsPower is not up"),
            (Phase::Waiting, true, None) => Some("the display is not up"),
            _ => None,
        };
        let reason = self.reason.clone().or_else(|| waits_for.map(str::to_owned));
        View { state, reason, starts: self.starts, failed: self.failed }
    }

    /// Takes one event. `random` is uniform in `0.0..1.0`.
    pub fn handle(&mut self, now: Instant, random: f64, event: Event) -> Option<Action> {
        match event {
            Event::Display(display) => return self.display(display, now),
            Event::App(is_up) => self.app(is_up),
            Event::Opened(outcome) => return self.opened(outcome, now, random),
            Event::Probed(outcome) => return self.probed(outcome, now, random),
            Event::Lost => {
                // It may run all the same, and would stand in the way of the next one.
                if matches!(self.phase, Phase::Up { .. }) {
                    let retry_in = self.count_failure(random);
                    return self.close("AdsPower does not list it any more".to_owned(), retry_in);
                }
            }
            Event::Closed => {
                if let Phase::Closing { retry_in } = self.phase {
                    self.phase = Phase::BackingOff { until: now + retry_in };
                }
            }
            Event::Tick => {}
        }
        self.settle(now)
    }

    fn display(&mut self, display: Option<u32>, now: Instant) -> Option<Action> {
        let before = std::mem::replace(&mut self.display, display);
        if before == display {
            return self.settle(now);
        }
        match &mut self.phase {
            Phase::Opening { stale } => *stale = true,
            Phase::Up { .. } => return self.close(GONE_DISPLAY.to_owned(), Duration::ZERO),
            _ => {}
        }
        self.settle(now)
    }

    fn app(&mut self, is_up: bool) {
        self.app = is_up;
        self.failed &= is_up;
        // Its browsers went with it; that is no failure of this one.
        if !is_up && let Phase::Up { .. } | Phase::BackingOff { .. } = self.phase {
            self.phase = Phase::Waiting;
            self.reason = Some(GONE_APP.to_owned());
        }
    }

    fn opened(&mut self, outcome: Result<(), NotOpened>, now: Instant, random: f64) -> Option<Action> {
        let Phase::Opening { stale } = self.phase else { return None };
        match outcome {
            // It has gone meanwhile, and what it opened with it; whatever it said of that.
            outcome if !self.app => {
                self.phase = Phase::Waiting;
                self.failed = false;
                self.reason = Some(outcome.err().map_or_else(|| GONE_APP.to_owned(), |error| error.reason));
            }
            Ok(()) if stale => return self.close(GONE_DISPLAY.to_owned(), Duration::ZERO),
            Ok(()) => {
                self.phase = Phase::Up { since: now, misses: 0, probe: Some(now + PROBE_INTERVAL) };
                self.was_up = true;
                self.failed = false;
                self.reason = None;
            }
            Err(NotOpened { reason, is_its_own }) => {
                self.failed = is_its_own;
                self.back_off(reason, now, random);
            }
        }
        self.settle(now)
    }

    fn probed(&mut self, outcome: Result<(), Miss>, now: Instant, random: f64) -> Option<Action> {
        let Phase::Up { since, misses, probe } = &mut self.phase else { return self.settle(now) };
        let is_healthy = *since + HEALTHY_AFTER <= now;
        *probe = Some(now + PROBE_INTERVAL);
        match outcome {
            Ok(()) => {
                *misses = 0;
                self.failed = false;
                self.reason = None;
            }
            Err(miss) => {
                *misses += 1;
                let hangs = *misses >= MISSES;
                if is_healthy {
                    self.failures = 0;
                }
                self.failed = true;
                match miss {
                    Miss::Silent(reason) if !hangs => self.reason = Some(reason),
                    // One that is gone where it was reached may run all the same.
                    Miss::Gone(reason) | Miss::Silent(reason) => {
                        let retry_in = self.count_failure(random);
                        return self.close(reason, retry_in);
                    }
                }
            }
        }
        self.settle(now)
    }

    fn close(&mut self, reason: String, retry_in: Duration) -> Option<Action> {
        self.reason = Some(reason);
        self.phase = Phase::Closing { retry_in };
        Some(Action::Close)
    }

    fn back_off(&mut self, reason: String, now: Instant, random: f64) {
        let retry_in = self.count_failure(random);
        self.reason = Some(reason);
        self.phase = Phase::BackingOff { until: now + retry_in };
    }

    fn count_failure(&mut self, random: f64) -> Duration {
        let retry_in = BACKOFF.delay(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        retry_in
    }

    fn settle(&mut self, now: Instant) -> Option<Action> {
        match &mut self.phase {
            Phase::BackingOff { until } if *until <= now => {
                self.phase = Phase::Waiting;
                self.settle(now)
            }
            Phase::Waiting if self.app && self.display.is_some() => {
                self.phase = Phase::Opening { stale: false };
                self.starts = self.starts.saturating_add(1);
                Some(Action::Open)
            }
            Phase::Up { probe: probe @ Some(_), .. } if probe.is_some_and(|at| at <= now) => {
                *probe = None;
                Some(Action::Probe)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        machine: Machine,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { machine: Machine::default(), now: Instant::now() }
        }

        /// One whose browser is up.
        fn up() -> Self {
            let mut bench = Self::new();
            assert_eq!(bench.send(Event::App(true)), None);
            assert_eq!(bench.send(Event::Display(Some(1))), Some(Action::Open));
            assert_eq!(bench.send(Event::Opened(Ok(()))), None);
            bench
        }

        fn send(&mut self, event: Event) -> Option<Action> {
            self.machine.handle(self.now, 1.0, event)
        }

        fn pass(&mut self, time: Duration) -> Option<Action> {
            self.now += time;
            self.send(Event::Tick)
        }

        fn state(&self) -> State {
            self.machine.view().state
        }

        fn reason(&self) -> String {
            self.machine.view().reason.unwrap_or_default()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_opened_once_there_are_a_display_and_an_app() {
        let mut bench = Bench::new();
        assert_eq!((bench.state(), bench.reason()), (State::Starting, "AdsPower is not up".to_owned()));
        assert_eq!(bench.send(Event::App(true)), None);
        assert_eq!(bench.reason(), "the display is not up");
        assert_eq!(bench.send(Event::Display(Some(1))), Some(Action::Open));
        assert_eq!((bench.state(), bench.machine.deadline()), (State::Starting, None));
        bench.send(Event::Opened(Ok(())));
        let view = View { state: State::Up, reason: None, starts: 1, failed: false };
        assert_eq!(bench.machine.view(), view);
        assert_eq!(bench.pass(SECOND), Some(Action::Probe));
        assert_eq!(bench.machine.deadline(), None, "one probe at a time");
        assert_eq!(bench.send(Event::Probed(Ok(()))), None);
        assert_eq!(bench.pass(SECOND), Some(Action::Probe));
    }

    #[test]
    fn one_that_is_gone_is_opened_again_with_back_off() {
        let mut bench = Bench::up();
        bench.pass(SECOND);
        let gone = Event::Probed(Err(Miss::Gone("nobody listens".into())));
        assert_eq!(bench.send(gone), Some(Action::Close), "it may run all the same");
        assert_eq!((bench.state(), bench.reason()), (State::Failing, "nobody listens".to_owned()));
        assert_eq!(bench.send(Event::Closed), None);
        assert_eq!(bench.pass(Duration::from_millis(200)), Some(Action::Open));
        assert_eq!(bench.send(Event::Opened(Err("refused".into()))), None);
        assert_eq!(bench.pass(Duration::from_millis(399)), None, "the second wait is longer");
        assert_eq!(bench.pass(Duration::from_millis(1)), Some(Action::Open));
        bench.send(Event::Opened(Ok(())));
        assert_eq!((bench.state(), bench.machine.view().starts), (State::Up, 3));
    }

    #[test]
    fn a_miss_shows_at_once_and_the_fifth_closes() {
        let mut bench = Bench::up();
        for miss in 1..=5 {
            assert_eq!(bench.pass(SECOND), Some(Action::Probe));
            let action = bench.send(Event::Probed(Err(Miss::Silent("no answer".into()))));
            assert_eq!(action, (miss == 5).then_some(Action::Close), "{miss}");
            assert_eq!(bench.state(), State::Failing);
        }
        assert_eq!(bench.send(Event::Closed), None);
        assert_eq!(bench.pass(Duration::from_millis(200)), Some(Action::Open));
    }

    #[test]
    fn a_display_that_comes_back_gets_its_browser_back() {
        let mut bench = Bench::up();
        assert_eq!(bench.send(Event::Display(None)), Some(Action::Close));
        assert_eq!(bench.send(Event::Display(Some(2))), None);
        assert_eq!(bench.send(Event::Closed), Some(Action::Open), "at once");
        // It goes again while the browser is being opened on it.
        assert_eq!(bench.send(Event::Display(Some(3))), None);
        assert_eq!(bench.send(Event::Opened(Ok(()))), Some(Action::Close));
    }

    #[test]
    fn an_app_that_goes_takes_the_browser_along_and_is_waited_for_without_a_penalty() {
        let mut bench = Bench::up();
        assert_eq!(bench.send(Event::App(false)), None);
        assert_eq!((bench.state(), bench.reason()), (State::Failing, "AdsPower went away".to_owned()));
        assert_eq!(bench.pass(60 * SECOND), None);
        assert_eq!(bench.send(Event::App(true)), Some(Action::Open), "at once");
        // It goes while the browser is being opened, whatever it says of that.
        for outcome in [Err("AdsPower went".into()), Ok(())] {
            bench.send(Event::App(false));
            assert_eq!(bench.send(Event::Opened(outcome)), None);
            assert!(!bench.machine.is_open());
            assert_eq!(bench.send(Event::App(true)), Some(Action::Open), "at once");
        }
    }

    #[test]
    fn one_that_the_app_does_not_list_is_closed_and_opened_again() {
        let mut bench = Bench::up();
        assert_eq!(bench.send(Event::Lost), Some(Action::Close), "it may run all the same");
        assert_eq!(bench.state(), State::Failing);
        assert_eq!(bench.send(Event::Closed), None);
        assert_eq!(bench.pass(Duration::from_millis(200)), Some(Action::Open));
    }

    #[test]
    fn a_healthy_minute_wipes_the_failures() {
        let mut bench = Bench::up();
        let gone = || Event::Probed(Err(Miss::Gone("gone".into())));
        for wait in [200, 400, 800] {
            bench.pass(SECOND);
            bench.send(gone());
            bench.send(Event::Closed);
            assert_eq!(bench.pass(Duration::from_millis(wait)), Some(Action::Open));
            bench.send(Event::Opened(Ok(())));
        }
        assert_eq!(bench.pass(60 * SECOND), Some(Action::Probe));
        bench.send(gone());
        bench.send(Event::Closed);
        assert_eq!(bench.pass(Duration::from_millis(200)), Some(Action::Open));
    }

    #[test]
    fn a_failure_is_the_browsers_own_where_adspower_was_asked_and_nothing_else_went() {
        let mut bench = Bench::up();
        let failed = |bench: &Bench| bench.machine.view().failed;
        bench.pass(SECOND);
        bench.send(Event::Probed(Err(Miss::Gone("gone".into()))));
        assert!(failed(&bench));
        bench.send(Event::Closed);
        for is_its_own in [false, true] {
            assert_eq!(bench.pass(60 * SECOND), Some(Action::Open));
            bench.send(Event::Opened(Err(NotOpened { reason: "no".into(), is_its_own })));
            assert_eq!(failed(&bench), is_its_own);
        }
        bench.send(Event::App(false));
        assert!(!failed(&bench), "AdsPower went");
        assert_eq!(bench.send(Event::App(true)), Some(Action::Open));
        bench.send(Event::Opened(Ok(())));
        assert!(!failed(&bench));
    }
}

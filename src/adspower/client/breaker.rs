//! When an API that fails is asked again: after five failures in a row nobody is, until one call has tried. Without a clock;
//! instants come in.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Failures in a row.
const FAILURES: u32 = 5;
/// Until a trial. There is one client, so that no jitter is needed.
const REST: Backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(60) };
/// What those are told who come while a trial is under way.
const TRIAL: Duration = Duration::from_secs(1);

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Calls are made.
    Closed,
    /// No calls are made.
    Open,
    /// One is.
    HalfOpen,
}

impl Position {
    pub(super) const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, trials: u32 },
    HalfOpen { trials: u32 },
}

/// A call that may be made, to be settled by what comes of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admitted {
    epoch: u64,
    trial: bool,
}

/// What a call shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is an API that answers, whatever it says.
    Answers,
    /// There is none.
    Fails,
    /// Nothing: the caller went, or did not listen for long.
    Nothing,
}

/// The breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    epoch: u64,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { state: State::Closed { failures: 0 }, epoch: 0 }
    }

    pub(super) fn position(&self) -> Position {
        match self.state {
            State::Closed { .. } => Position::Closed,
            State::Open { .. } => Position::Open,
            State::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    /// For how long no call would be admitted.
    pub(super) fn rests(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Open { until, .. } if now < until => Some(until - now),
            State::HalfOpen { .. } => Some(TRIAL),
            State::Open { .. } | State::Closed { .. } => None,
        }
    }

    /// Takes a call that is about to be made, which may be the trial; or says for how long there is none.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admitted, Duration> {
        if let Some(rest) = self.rests(now) {
            return Err(rest);
        }
        let trial = match self.state {
            State::Open { trials, .. } => {
                self.state = State::HalfOpen { trials };
                true
            }
            State::Closed { .. } | State::HalfOpen { .. } => false,
        };
        Ok(Admitted { epoch: self.epoch, trial })
    }

    /// What came of a call. One from before a [`Breaker::reset`] says nothing about what is there now.
    pub(super) fn settle(&mut self, admitted: Admitted, verdict: Verdict, now: Instant) {
        if admitted.epoch != self.epoch {
            return;
        }
        self.state = match (self.state, verdict) {
            // Also one that was made before the others failed.
            (_, Verdict::Answers) => State::Closed { failures: 0 },
            (State::Closed { failures }, Verdict::Fails) if failures + 1 >= FAILURES => rest(now, 0),
            (State::Closed { failures }, Verdict::Fails) => State::Closed { failures: failures + 1 },
            (State::HalfOpen { trials }, Verdict::Fails) if admitted.trial => rest(now, trials + 1),
            // The next caller tries.
            (State::HalfOpen { trials }, Verdict::Nothing) if admitted.trial => {
                State::Open { until: now, trials }
            }
            (state, Verdict::Fails | Verdict::Nothing) => state,
        };
    }

    /// What is asked now is another app.
    pub(super) fn reset(&mut self) {
        *self = Self { epoch: self.epoch + 1, ..Self::new() };
    }
}

fn rest(now: Instant, trials: u32) -> State {
    // The whole step, without jitter.
    State::Open { until: now + REST.delay(trials, 1.0), trials }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn failing(breaker: &mut Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            let admitted = breaker.admit(now).unwrap();
            breaker.settle(admitted, Verdict::Fails, now);
        }
    }

    #[test]
    fn it_opens_after_five_failures_in_a_row_and_any_answer_begins_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        failing(&mut breaker, 4, now);
        let admitted = breaker.admit(now).unwrap();
        breaker.settle(admitted, Verdict::Answers, now);
        failing(&mut breaker, 4, now);
        let admitted = breaker.admit(now).unwrap();
        breaker.settle(admitted, Verdict::Nothing, now);
        assert_eq!(breaker.position(), Position::Closed);
        failing(&mut breaker, 1, now);
        assert_eq!(breaker.position(), Position::Open);
        assert_eq!(breaker.admit(now + 3 * S).unwrap_err(), 7 * S);
    }

    #[test]
    fn one_call_tries_after_10_s_and_the_rest_grows_to_60_s() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new();
        failing(&mut breaker, 5, now);
        for seconds in [10, 20, 40, 60, 60] {
            assert!(breaker.admit(now + seconds * S - S / 1000).is_err(), "{seconds}");
            now += seconds * S;
            let trial = breaker.admit(now).unwrap();
            assert_eq!(breaker.position(), Position::HalfOpen);
            assert_eq!(breaker.admit(now).unwrap_err(), S, "there is one trial");
            breaker.settle(trial, Verdict::Fails, now);
            assert_eq!(breaker.position(), Position::Open);
        }
        let trial = breaker.admit(now + 60 * S).unwrap();
        breaker.settle(trial, Verdict::Answers, now + 60 * S);
        assert_eq!(breaker.position(), Position::Closed);
        failing(&mut breaker, 5, now);
        assert_eq!(breaker.rests(now), Some(10 * S), "a new failure begins with the short rest");
    }

    #[test]
    fn a_trial_whose_caller_goes_leaves_the_trial_to_the_next() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        failing(&mut breaker, 5, start);
        let now = start + 10 * S;
        let trial = breaker.admit(now).unwrap();
        breaker.settle(trial, Verdict::Nothing, now);
        assert_eq!(breaker.position(), Position::Open);
        assert!(breaker.admit(now).is_ok());
    }

    #[test]
    fn calls_from_before_decide_no_trial_unless_they_are_answered() {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        let (early, other) = (breaker.admit(start).unwrap(), breaker.admit(start).unwrap());
        failing(&mut breaker, 5, start);
        let now = start + 10 * S;
        let _trial = breaker.admit(now).unwrap();
        breaker.settle(early, Verdict::Fails, now);
        assert_eq!(breaker.position(), Position::HalfOpen);
        breaker.settle(other, Verdict::Answers, now);
        assert_eq!(breaker.position(), Position::Closed);
    }

    #[test]
    fn another_app_begins_with_a_clean_slate_that_the_calls_of_the_last_one_do_not_touch() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        let old = breaker.admit(now).unwrap();
        failing(&mut breaker, 5, now);
        breaker.reset();
        failing(&mut breaker, 4, now);
        breaker.settle(old, Verdict::Fails, now);
        assert_eq!(breaker.position(), Position::Closed);
        failing(&mut breaker, 1, now);
        breaker.settle(old, Verdict::Answers, now);
        assert_eq!(breaker.position(), Position::Open);
    }
}

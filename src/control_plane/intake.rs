//! Whether the manager is to take sessions, and whether it knows. Pure.

use std::time::{Duration, Instant};

/// Between tries of a manager that does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// The intake as it is wanted and as it was set.
#[derive(Debug)]
pub(super) struct Intake {
    wanted: bool,
    /// None where the manager did not answer: it may have heard all the same.
    done: Option<bool>,
    retry_at: Option<Instant>,
}

impl Intake {
    /// As a manager has it at first.
    pub(super) fn open() -> Self {
        Self { wanted: true, done: Some(true), retry_at: None }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub(super) fn want(&mut self, open: bool) {
        (self.wanted, self.retry_at) = (open, None);
    }

    /// When the manager is to be told, if at all.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.done != Some(self.wanted)).then(|| self.retry_at.unwrap_or(now))
    }

    /// The manager was told what is wanted, and has done it or did not answer.
    pub(super) fn told(&mut self, is_done: bool, now: Instant) {
        self.done = is_done.then_some(self.wanted);
        self.retry_at = (!is_done).then(|| now + RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manager_did_not_hear_is_said_again() {
        let now = Instant::now();
        let mut intake = Intake::open();
        assert_eq!(intake.due(now), None);
        intake.want(false);
        assert_eq!(intake.due(now), Some(now));
        intake.told(false, now);
        assert!(!intake.is_wanted());
        assert_eq!(intake.due(now), Some(now + RETRY));
        // It may have heard that it is to take none.
        intake.want(true);
        assert_eq!(intake.due(now), Some(now));
        intake.told(true, now);
        assert_eq!(intake.due(now + RETRY), None);
    }
}

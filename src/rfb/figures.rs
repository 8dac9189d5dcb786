//! Running figures: how often something happens, and how long it takes as a rule. They cost an addition where it happens and
//! nothing where it does not: whoever asks says when that is.

use std::time::{Duration, Instant};

/// How often something happened in the last whole second.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    start: Instant,
    /// Seconds from `start` to the beginning of the latest in which something happened.
    second: u64,
    /// In that one, and in the one before.
    latest: u64,
    before: u64,
}

impl Rate {
    /// Nothing has happened yet. Seconds count from `start`.
    pub fn new(start: Instant) -> Self {
        Self { start, second: 0, latest: 0, before: 0 }
    }

    /// It happened `count` times.
    pub fn add(&mut self, count: u64, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        if second > self.second {
            self.before = if second == self.second + 1 { self.latest } else { 0 };
            (self.second, self.latest) = (second, 0);
        }
        self.latest = self.latest.saturating_add(count);
    }

    /// In the last second that is over.
    pub fn per_second(&self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.start).as_secs();
        match second.checked_sub(self.second) {
            None | Some(0) => self.before,
            Some(1) => self.latest,
            Some(_) => 0,
        }
    }
}

/// How long something takes, each time weighing an eighth (RFC 6298 has the same for round trips).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usual(Option<Duration>);

impl Usual {
    /// It took so long now.
    pub fn add(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// As a rule; `None` where it never happened.
    pub fn get(&self) -> Option<Duration> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_whole_second_and_falls_to_nothing_by_itself() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = Rate::new(start);
        for ms in (0..1000).step_by(100) {
            rate.add(1, at(ms));
        }
        assert_eq!((rate.per_second(at(900)), rate.per_second(at(1500))), (0, 10));
        rate.add(3, at(1100));
        rate.add(4, at(1999));
        assert_eq!((rate.per_second(at(1999)), rate.per_second(at(2000))), (10, 7));
        assert_eq!(rate.per_second(at(3000)), 0, "nothing happened for a second");
        rate.add(1, at(9500));
        assert_eq!((rate.per_second(at(9999)), rate.per_second(at(10_000))), (0, 1));
    }

    #[test]
    fn one_long_time_does_not_make_it_usual() {
        let mut usual = Usual::default();
        assert_eq!(usual.get(), None);
        usual.add(Duration::from_millis(8));
        usual.add(Duration::from_millis(80));
        assert_eq!(usual.get(), Some(Duration::from_millis(17)));
    }
}

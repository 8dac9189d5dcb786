//! How often AdsPower may be asked: a rate that depends on how many profiles the account has, and what it says when it is
//! asked too often. Without a clock; instants come in.

use std::time::{Duration, Instant};

/// Between calls while nothing is known of the account. Older apps take one call a second; the tenth is for calls that take
/// unequally long to arrive, here and below.
const UNKNOWN: Duration = Duration::from_millis(1100);

/// More profiles than this, and what stands between calls then: 10, 5 and 2 calls a second.
const RATES: [(u64, Duration); 3] =
    [(5000, Duration::from_millis(110)), (200, Duration::from_millis(220)), (0, Duration::from_millis(550))];

/// What stands between calls after AdsPower said that there were too many, and for how long, from the first such answer
/// to the third in a row. The first step holds long: an older app says so each time that it is tried with a faster pace.
const SLOWED: [(Duration, Duration); 3] = [
    (UNKNOWN, Duration::from_secs(300)),
    (Duration::from_millis(2200), Duration::from_secs(30)),
    (Duration::from_millis(4400), Duration::from_secs(30)),
];

/// Longest `Retry-After` that is honoured. Nothing that is documented asks for more than a second.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// By then a request over loopback has arrived. A call counts from its arrival, which is not seen; its answer shows the
/// latest moment that it can have been.
const ARRIVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy)]
struct Slowed {
    step: usize,
    until: Instant,
}

/// When the next call may be made.
#[derive(Debug)]
pub(super) struct Pace {
    fixed: Option<Duration>,
    profiles: Option<u64>,
    slowed: Option<Slowed>,
    /// AdsPower asked not to be asked until then.
    held: Option<Instant>,
    /// The last call arrived then, at the latest.
    last: Option<Instant>,
}

impl Pace {
    /// With the configuration's own interval, or one that depends on what becomes known.
    pub(super) fn new(fixed: Option<Duration>) -> Self {
        Self { fixed, profiles: None, slowed: None, held: None, last: None }
    }

    /// When the next call may be made; not in the future when it may be now.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        let interval = self.interval(now);
        let spaced = self.last.map_or(now, |last| last + interval);
        self.held.map_or(spaced, |held| held.max(spaced))
    }

    /// Whether AdsPower said lately that it is asked too often.
    pub(super) fn is_slowed(&mut self, now: Instant) -> bool {
        self.recover(now);
        self.slowed.is_some()
    }

    /// A call is being made.
    pub(super) fn sent(&mut self, now: Instant) {
        self.last = Some(now + ARRIVAL);
    }

    /// A call was answered, so that it arrived by now.
    pub(super) fn answered(&mut self, now: Instant) {
        self.last = self.last.map(|last| last.min(now));
    }

    /// The account has this many profiles.
    pub(super) fn known(&mut self, profiles: u64) {
        self.profiles = Some(profiles);
    }

    /// The account has this many profiles or more; the rate for fewer is never faster.
    pub(super) fn known_at_least(&mut self, profiles: u64) {
        self.profiles = self.profiles.max(Some(profiles));
    }

    /// AdsPower said that it is asked too often.
    pub(super) fn refused(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.recover(now);
        let step = self.slowed.map_or(0, |slowed| (slowed.step + 1).min(SLOWED.len() - 1));
        self.slowed = Some(Slowed { step, until: now + lasts(step) });
        let held = retry_after.map(|wait| now + wait.min(MAX_RETRY_AFTER));
        self.held = self.held.max(held);
    }

    fn interval(&mut self, now: Instant) -> Duration {
        self.recover(now);
        let usual = self.fixed.unwrap_or_else(|| self.profiles.map_or(UNKNOWN, by_profiles));
        self.slowed.map_or(usual, |slowed| usual.max(interval_of(slowed.step)))
    }

    /// Step by step back to the usual pace.
    fn recover(&mut self, now: Instant) {
        while let Some(slowed) = self.slowed.filter(|slowed| slowed.until <= now) {
            let below = slowed.step.checked_sub(1);
            self.slowed = below.map(|step| Slowed { step, until: slowed.until + lasts(step) });
        }
        self.held = self.held.filter(|held| *held > now);
    }
}

fn by_profiles(profiles: u64) -> Duration {
    RATES.into_iter().find(|(above, _)| profiles > *above).map_or(RATES[2].1, |(_, interval)| interval)
}

fn interval_of(step: usize) -> Duration {
    SLOWED[step.min(SLOWED.len() - 1)].0
}

fn lasts(step: usize) -> Duration {
    SLOWED[step.min(SLOWED.len() - 1)].1
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Between two calls of which the first is answered at once, right now.
    fn gap(pace: &mut Pace, now: Instant) -> Duration {
        pace.sent(now);
        pace.answered(now);
        pace.next(now) - now
    }

    #[test]
    fn the_first_call_waits_for_nothing_and_the_next_for_the_rate_of_the_account() {
        let now = Instant::now();
        assert_eq!(Pace::new(None).next(now), now);
        assert_eq!(gap(&mut Pace::new(None), now), 1100 * MS);
        for (profiles, milliseconds) in
            [(0, 550), (1, 550), (200, 550), (201, 220), (5000, 220), (5001, 110), (u64::MAX, 110)]
        {
            let mut pace = Pace::new(None);
            pace.known(profiles);
            assert_eq!(gap(&mut pace, now), milliseconds * MS, "{profiles}");
        }
        let mut pace = Pace::new(None);
        for (profiles, milliseconds) in [(100, 550), (300, 220), (250, 220)] {
            pace.known_at_least(profiles);
            assert_eq!(gap(&mut pace, now), milliseconds * MS, "at least {profiles}");
        }
        let mut fixed = Pace::new(Some(700 * MS));
        fixed.known(10_000);
        assert_eq!(gap(&mut fixed, now), 700 * MS);
    }

    #[test]
    fn a_call_counts_from_its_answer_and_a_slow_one_from_soon_after_it_was_made() {
        let start = Instant::now();
        let mut pace = Pace::new(None);
        pace.sent(start);
        assert_eq!(pace.next(start), start + 1350 * MS);
        pace.answered(start + 100 * MS);
        assert_eq!(pace.next(start + 100 * MS), start + 1200 * MS);
        pace.sent(start);
        pace.answered(start + 5000 * MS);
        assert_eq!(pace.next(start + 5000 * MS), start + 1350 * MS);
    }

    #[test]
    fn too_often_slows_the_pace_and_it_comes_back_step_by_step() {
        let start = Instant::now();
        let mut pace = Pace::new(None);
        pace.known(6000);
        for milliseconds in [1100, 2200, 4400, 4400] {
            pace.refused(start, None);
            assert!(pace.is_slowed(start));
            assert_eq!(gap(&mut pace, start), milliseconds * MS);
        }
        for (seconds, milliseconds) in
            [(29, 4400), (31, 2200), (59, 2200), (61, 1100), (359, 1100), (361, 110)]
        {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(gap(&mut pace, now), milliseconds * MS, "after {seconds} s");
        }
        assert!(!pace.is_slowed(start + Duration::from_secs(361)));
    }

    #[test]
    fn a_slower_pace_of_the_configuration_stays_when_it_is_slowed() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(3000 * MS));
        pace.refused(now, None);
        assert_eq!(gap(&mut pace, now), 3000 * MS);
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_cap_and_the_longest_counts() {
        let now = Instant::now();
        let mut pace = Pace::new(None);
        pace.refused(now, Some(7000 * MS));
        pace.refused(now, Some(2000 * MS));
        assert_eq!(pace.next(now), now + 7000 * MS);
        pace.refused(now, Some(Duration::MAX));
        assert_eq!(pace.next(now), now + 30_000 * MS);
        let later = now + 40_000 * MS;
        assert_eq!(pace.next(later), later);
    }

    /// An app that takes `limit` calls in any second, and how many of `calls` it turned down, while twice as many are wanted.
    fn turned_down(limit: usize, profiles: Option<u64>, calls: usize) -> usize {
        let mut now = Instant::now();
        let mut pace = Pace::new(None);
        if let Some(profiles) = profiles {
            pace.known(profiles);
        }
        let (mut arrived, mut refused) = (VecDeque::new(), 0);
        for number in 0..calls {
            // There is always somebody who waits: that is any load above the pace.
            now = now.max(pace.next(now));
            pace.sent(now);
            // Calls take from 1 to 200 ms to arrive, and as long again to be answered.
            let way = u32::try_from(number * 7919 % 200).unwrap() * MS + MS;
            let arrival = now + way;
            while arrived.front().is_some_and(|first| arrival - *first >= Duration::from_secs(1)) {
                arrived.pop_front();
            }
            let taken = arrived.len() < limit;
            if taken {
                arrived.push_back(arrival);
            }
            now = arrival + way;
            pace.answered(now);
            if !taken {
                refused += 1;
                pace.refused(now, None);
            }
        }
        refused
    }

    #[test]
    fn f22_at_any_load_the_documented_rates_turn_nothing_down() {
        for (limit, profiles) in [(1, None), (2, Some(150)), (5, Some(300)), (10, Some(9000))] {
            assert_eq!(turned_down(limit, profiles, 3000), 0, "{limit} a second");
        }
    }

    #[test]
    fn f22_an_older_app_that_takes_one_a_second_turns_down_1_percent_at_most() {
        let refused = turned_down(1, Some(9000), 3000);
        assert!((1..=30).contains(&refused), "{refused} of 3000");
    }
}

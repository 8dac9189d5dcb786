//! How much a viewer may have in flight: what it has not acknowledged, measured by a fence behind each update. A window that
//! grows while answers come at once, and shrinks when they come late, since then they wait in a queue somewhere (TCP Vegas;
//! the constants are TigerVNC's).
//!
//! A viewer answers a fence after it has drawn what came before it, so that its own slowness counts as well.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes: a first guess, and the bounds.
const FIRST: usize = 16 << 10;
const LEAST: usize = 4 << 10;
const MOST: usize = 4 << 20;
/// Updates; 16 of 60 a second are a round trip of 260 ms.
const MOST_UPDATES: usize = 16;
/// Beyond the shortest round trip: as good as none, little, much.
const NOTHING: Duration = Duration::from_millis(5);
const LITTLE: Duration = Duration::from_millis(25);
const MUCH: Duration = Duration::from_millis(50);
/// So much later than ever means that everything has changed.
const SPIKE: Duration = Duration::from_millis(100);
const STEP: usize = 4 << 10;
/// A shortest round trip older than this is measured anew: the line may be another one.
const BASE_AGE: Duration = Duration::from_secs(60);
/// The same of a best rate; one that is too high only makes for a smaller window.
const RATE_AGE: Duration = Duration::from_secs(10);

/// The updates of one viewer that are on their way.
#[derive(Debug)]
pub struct Flow {
    window: usize,
    /// Until the first sign of a queue the window doubles.
    is_starting: bool,
    base: Option<(Duration, Instant)>,
    /// The best that came through of late, in bytes a second, and when.
    rate: Option<(u128, Instant)>,
    /// When the latest answer came.
    answered: Option<Instant>,
    in_flight: VecDeque<Sent>,
    bytes: usize,
    next: u32,
    /// The latest round trip.
    round_trip: Option<Duration>,
}

#[derive(Debug)]
struct Sent {
    number: u32,
    bytes: usize,
    at: Instant,
    /// Whether there was more to send than the window took: only then does an answer say something about the window.
    was_full: bool,
}

/// An update that was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// How large it was.
    pub bytes: usize,
    /// How long it took on the line, and to be drawn, with what was on its way before it out of the way.
    pub took: Duration,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            window: FIRST,
            is_starting: true,
            base: None,
            rate: None,
            answered: None,
            in_flight: VecDeque::new(),
            bytes: 0,
            next: 1,
            round_trip: None,
        }
    }
}

impl Flow {
    /// Begins anew with a viewer that answers no more, but with no number twice: an answer may be on its way.
    pub fn reset(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// Whether another update may leave. One always may: an update can be larger than any window.
    pub fn may_send(&self) -> bool {
        self.in_flight.is_empty() || (self.bytes < self.window && self.in_flight.len() < MOST_UPDATES)
    }

    /// Notes an update, and gives the number that its fence carries.
    pub fn sent(&mut self, bytes: usize, now: Instant) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.bytes += bytes;
        let was_full = self.bytes >= self.window / 2;
        self.in_flight.push_back(Sent { number, bytes, at: now, was_full });
        number
    }

    /// The viewer has drawn the update of that number, and all before it. Numbers that are not in flight say nothing.
    pub fn acknowledged(&mut self, number: u32, now: Instant) -> Option<Drawn> {
        if !self.in_flight.iter().any(|sent| sent.number == number) {
            return None;
        }
        while let Some(sent) = self.in_flight.pop_front() {
            self.bytes = self.bytes.saturating_sub(sent.bytes);
            if sent.number == number {
                let took = self.adapt(&sent, now);
                self.answered = Some(now);
                return Some(Drawn { bytes: sent.bytes, took });
            }
        }
        None
    }

    /// How long the update took on the line by itself.
    fn adapt(&mut self, sent: &Sent, now: Instant) -> Duration {
        let round_trip = now.saturating_duration_since(sent.at);
        self.round_trip = Some(round_trip);
        let base = match self.base {
            Some((base, since)) if base <= round_trip && now.saturating_duration_since(since) < BASE_AGE => {
                base
            }
            _ => {
                self.base = Some((round_trip, now));
                round_trip
            }
        };
        let late = round_trip - base;
        // What an update takes by itself is no queue: a window smaller than the line carries would leave it idle.
        // It had the line to itself since the one before it was through, or since it left.
        let begun = self.answered.map_or(sent.at + base, |answered| answered.max(sent.at + base));
        let took = now.saturating_duration_since(begun);
        let waited = late.saturating_sub(self.at_best(sent.bytes, took, now));
        let window = if waited > SPIKE && waited > base / 2 {
            self.is_starting = false;
            // What was in flight at that pace, had nothing waited.
            scaled(self.window, round_trip - waited, round_trip)
        } else if waited > MUCH {
            self.is_starting = false;
            self.window.saturating_sub(STEP)
        } else if !sent.was_full {
            self.window
        } else if self.is_starting && waited <= LITTLE {
            self.window * 2
        } else if waited <= NOTHING {
            self.window + 2 * STEP
        } else if waited <= LITTLE {
            self.is_starting = false;
            self.window + STEP
        } else {
            self.window
        };
        self.window = window.clamp(LEAST, MOST);
        took
    }

    /// How long an update of so many `bytes`, which took so long, takes at the best rate of late.
    fn at_best(&mut self, bytes: usize, took: Duration, now: Instant) -> Duration {
        // Of a small one, that says nothing of the line.
        if bytes < LEAST {
            return Duration::ZERO;
        }
        let bytes = u128::try_from(bytes).unwrap_or(u128::MAX);
        let rate = bytes * 1_000_000 / took.as_micros().max(1);
        let best = match self.rate {
            Some((best, since)) if best >= rate && now.saturating_duration_since(since) < RATE_AGE => best,
            _ => {
                self.rate = Some((rate, now));
                rate
            }
        };
        Duration::from_micros(u64::try_from(bytes * 1_000_000 / best.max(1)).unwrap_or(u64::MAX))
    }

    /// The latest round trip: from an update to its being drawn, and back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Bytes that are on their way.
    pub fn in_flight(&self) -> usize {
        self.bytes
    }

    /// Bytes that may be on their way.
    pub fn window(&self) -> usize {
        self.window
    }
}

/// `window` by `base / round_trip`, which is less than one.
fn scaled(window: usize, base: Duration, round_trip: Duration) -> usize {
    let bytes = u128::try_from(window).unwrap_or(u128::MAX);
    let scaled = bytes.saturating_mul(base.as_micros()) / round_trip.as_micros().max(1);
    usize::try_from(scaled).unwrap_or(window).min(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends updates of `bytes` as often as they may leave, over a line that takes `rate` bytes a second behind a queue
    /// without end, for a second. Gives the most that waited in that queue towards the end, in milliseconds, and how many
    /// bytes came through.
    fn run(flow: &mut Flow, bytes: usize, rate: u64, latency: Duration) -> (Duration, usize) {
        let start = Instant::now();
        let (mut now, end) = (start, start + Duration::from_secs(4));
        let mut line_free = start;
        let mut answers: VecDeque<(Instant, u32)> = VecDeque::new();
        let (mut worst, mut through) = (Duration::ZERO, 0);
        while now < end {
            while let Some((at, number)) = answers.front().copied().filter(|(at, _)| *at <= now) {
                flow.acknowledged(number, at);
                answers.pop_front();
            }
            if flow.may_send() {
                let number = flow.sent(bytes, now);
                let waits = line_free.saturating_duration_since(now);
                if now > start + Duration::from_secs(2) {
                    worst = worst.max(waits);
                    through += bytes;
                }
                line_free = line_free.max(now) + Duration::from_micros(bytes as u64 * 1_000_000 / rate);
                answers.push_back((line_free + latency, number));
            }
            now += MS;
        }
        (worst, through)
    }

    #[test]
    fn a_slow_line_is_kept_busy_without_a_long_queue_before_it() {
        // 20 Mbit/s and 60 ms, frames of 10 KiB.
        let mut flow = Flow::default();
        let (queue, through) = run(&mut flow, 10 << 10, 2_500_000, 60 * MS);
        assert!(queue < 120 * MS, "{queue:?}");
        assert!(through > 3_500_000, "{through} of 5 MB in two seconds");
    }

    #[test]
    fn a_fast_line_is_not_held_back() {
        let mut flow = Flow::default();
        let (_, through) = run(&mut flow, 100 << 10, 1_000_000_000, MS);
        assert!(through > 50_000_000, "{through}");
        assert!(flow.window() >= 1 << 20, "{}", flow.window());
    }

    #[test]
    fn one_update_may_always_leave_and_a_viewer_that_answers_nothing_gets_no_more() {
        let mut flow = Flow::default();
        let now = Instant::now();
        assert!(flow.may_send());
        let number = flow.sent(10 << 20, now);
        assert!(!flow.may_send());
        flow.acknowledged(number + 7, now + MS);
        assert!(!flow.may_send(), "a number that is not in flight");
        flow.acknowledged(number, now + 20 * MS);
        assert!(flow.may_send());
        assert_eq!(flow.round_trip(), Some(20 * MS));
    }

    #[test]
    fn what_is_in_flight_to_a_viewer_that_answers_no_more_holds_nothing_back() {
        let mut flow = Flow::default();
        let now = Instant::now();
        let before = flow.sent(10 << 20, now);
        flow.reset();
        assert!(flow.may_send());
        assert_ne!(flow.sent(10 << 20, now), before);
        flow.acknowledged(before, now + MS);
        assert!(!flow.may_send());
    }

    #[test]
    fn an_answer_stands_for_all_before_it() {
        let mut flow = Flow::default();
        let now = Instant::now();
        flow.sent(100, now);
        let second = flow.sent(100, now);
        flow.acknowledged(second, now + MS);
        assert_eq!((flow.bytes, flow.in_flight.len()), (0, 0));
    }

    #[test]
    fn small_updates_open_no_window_and_a_spike_closes_it() {
        let mut flow = Flow::default();
        let mut now = Instant::now();
        for _ in 0..100 {
            let number = flow.sent(10, now);
            now += MS;
            flow.acknowledged(number, now);
        }
        assert_eq!(flow.window(), FIRST);
        let number = flow.sent(10, now);
        flow.acknowledged(number, now + 200 * MS);
        assert_eq!(flow.window(), LEAST);
    }
}

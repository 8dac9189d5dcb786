//! The JPEG quality that a viewer's line carries in time: where pictures take long on it, quality gives way, and comes back. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::flow::Drawn;

/// A picture that takes so long leaves no room on the line at 30 a second, and waits for the one before it.
const LONG: Duration = Duration::from_millis(28);
/// One of the next quality would take about twice as long: there is room for that.
const SHORT: Duration = Duration::from_millis(13);
/// Bytes a second: what comes through faster than that waits for something else than the line, such as a viewer that draws.
const FAST: u128 = 6 << 20;
/// Pictures that take long one after another.
const MOST_LONG: u32 = 3;
/// For so long there has to be room for more, or no picture at all.
const PROOF: Duration = Duration::from_secs(1);
/// Levels below the one that is asked for, step by step. Few, so that viewers can be sent the same; each saves a third to a half.
const BELOW: [u8; 4] = [0, 2, 4, 5];

/// How far one viewer's quality has given way.
#[derive(Debug, Default)]
pub struct Quality {
    steps: usize,
    /// Updates with loss that are on their way.
    pictures: VecDeque<u32>,
    /// When the last one left, or was drawn.
    last: Option<Instant>,
    long: u32,
    /// Since when pictures have taken no time.
    short_since: Option<Instant>,
}

impl Quality {
    /// The level for a viewer that asks for `level`: that, after a pause.
    pub fn of(&self, level: u8, now: Instant) -> u8 {
        if self.has_paused(now) {
            return level;
        }
        level.saturating_sub(BELOW.get(self.steps).copied().unwrap_or(0))
    }

    /// Begins anew, with nothing on its way.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn has_paused(&self, now: Instant) -> bool {
        self.pictures.is_empty() && self.last.is_none_or(|last| now.saturating_duration_since(last) > PROOF)
    }

    /// Notes that the update of that number left, with loss.
    pub fn sent(&mut self, number: u32, now: Instant) {
        if self.has_paused(now) {
            self.reset();
        }
        self.last = Some(now);
        self.pictures.push_back(number);
    }

    /// Notes that the update of that number was drawn.
    pub fn drawn(&mut self, number: u32, Drawn { bytes, took }: Drawn, now: Instant) {
        let Some(place) = self.pictures.iter().position(|picture| *picture == number) else { return };
        self.pictures.drain(..=place);
        self.last = Some(now);
        let rate = u128::try_from(bytes).unwrap_or(u128::MAX) * 1_000_000 / took.as_micros().max(1);
        if took > LONG && rate < FAST {
            self.short_since = None;
            self.long += 1;
            if self.long >= MOST_LONG && self.steps + 1 < BELOW.len() {
                (self.steps, self.long) = (self.steps + 1, 0);
                // What is on its way is of the quality before.
                self.pictures.clear();
            }
            return;
        }
        self.long = 0;
        if took > SHORT && rate < FAST {
            self.short_since = None;
            return;
        }
        let since = *self.short_since.get_or_insert(now);
        if self.steps > 0 && now.saturating_duration_since(since) >= PROOF {
            (self.steps, self.short_since) = (self.steps - 1, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::Flow;
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const ASKED: u8 = 6;

    /// Bytes of a picture at a level, of 1280×720 as photographs are.
    fn bytes(level: u8) -> usize {
        [40_000, 65_000, 85_000, 90_000, 140_000, 200_000, 250_000][usize::from(level)]
    }

    struct Line {
        flow: Flow,
        quality: Quality,
        now: Instant,
        /// Bytes a second.
        rate: u64,
        free: Instant,
        answers: VecDeque<(Instant, u32)>,
        next_picture: Instant,
    }

    impl Line {
        fn new(rate: u64) -> Self {
            let now = Instant::now();
            let (flow, quality) = (Flow::default(), Quality::default());
            Self { flow, quality, now, rate, free: now, answers: VecDeque::new(), next_picture: now }
        }

        fn hear(&mut self) {
            while let Some((at, number)) = self.answers.front().copied().filter(|(at, _)| *at <= self.now) {
                self.answers.pop_front();
                if let Some(drawn) = self.flow.acknowledged(number, at) {
                    self.quality.drawn(number, drawn, at);
                }
            }
        }

        fn level(&self) -> u8 {
            self.quality.of(ASKED, self.now)
        }

        fn leave(&mut self, bytes: usize) -> u32 {
            let number = self.flow.sent(bytes, self.now);
            let takes = Duration::from_micros(u64::try_from(bytes).unwrap() * 1_000_000 / self.rate);
            self.free = self.free.max(self.now) + takes;
            self.answers.push_back((self.free + 60 * MS, number));
            number
        }

        /// A film of 30 pictures a second for so long: how many came a second, and how long the slowest of the last half took.
        fn play(&mut self, length: Duration) -> (u32, Duration) {
            let (start, end) = (self.now, self.now + length);
            let (mut count, mut worst, mut waiting) = (0, Duration::ZERO, None);
            while self.now < end {
                self.hear();
                if self.next_picture <= self.now {
                    waiting = Some(self.next_picture);
                    self.next_picture += 33 * MS;
                }
                if self.flow.may_send()
                    && let Some(since) = waiting.take()
                {
                    let number = self.leave(bytes(self.level()));
                    self.quality.sent(number, self.now);
                    if self.now > start + length / 2 {
                        count += 1;
                        worst = worst.max(self.free + 30 * MS - since);
                    }
                }
                self.now += MS;
            }
            (count * 2 / u32::try_from(length.as_secs()).unwrap(), worst)
        }
    }

    #[test]
    fn on_a_slow_line_quality_gives_way_and_time_does_not() {
        // 20 Mbit/s, 60 ms.
        let mut line = Line::new(2_500_000);
        line.leave(100);
        line.now += 100 * MS;
        let (pictures, latency) = line.play(Duration::from_secs(8));
        assert_eq!(line.level(), 1);
        // The first picture after a pause is as it was asked for.
        line.now += 500 * MS;
        line.hear();
        line.now += 1100 * MS;
        assert_eq!(line.level(), ASKED);
        assert!(pictures >= 27 && latency <= 90 * MS, "{pictures} a second, {latency:?}");
    }

    #[test]
    fn it_comes_back_when_the_line_carries_more_and_a_fast_line_keeps_it() {
        let mut line = Line::new(2_500_000);
        line.leave(100);
        line.now += 100 * MS;
        line.play(Duration::from_secs(4));
        assert!(line.level() < ASKED);
        line.rate = 40_000_000;
        let (pictures, _) = line.play(Duration::from_secs(6));
        assert_eq!((line.level(), pictures), (ASKED, 30));
    }

    #[test]
    fn a_line_that_takes_seconds_for_a_picture_is_no_pause() {
        let mut line = Line::new(100_000);
        line.leave(100);
        line.now += 100 * MS;
        line.play(Duration::from_secs(30));
        assert!(line.level() <= 2, "{}", line.level());
    }

    #[test]
    fn a_viewer_that_draws_slowly_over_a_fast_line_loses_no_quality() {
        let mut quality = Quality::default();
        let start = Instant::now();
        for number in 0..20 {
            quality.sent(number, start + 80 * MS * number);
            quality.drawn(number, Drawn { bytes: 800_000, took: 80 * MS }, start + 80 * MS * number);
        }
        let now = start + 80 * MS * 20;
        assert_eq!(quality.of(ASKED, now), ASKED);
        // Those without loss say nothing.
        for number in 20..40 {
            quality.drawn(number, Drawn { bytes: 8000, took: 80 * MS }, start + 80 * MS * number);
        }
        assert_eq!((quality.of(ASKED, now), quality.of(1, now)), (ASKED, 1));
    }
}

//! Exponential back-off with jitter, as a value: the caller brings randomness and keeps time.

use std::time::Duration;

/// How long to wait before the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Wait before the first retry, before jitter.
    pub first: Duration,
    /// No wait is longer than this, jitter included.
    pub max: Duration,
}

impl Backoff {
    /// The wait before retry number `retry` (0 is the first). `random` is uniform in `0.0..1.0`; the result lies between
    /// half the exponential step and the whole of it ("equal jitter"), so that many hosts do not retry in step and no
    /// retry comes at once.
    pub fn delay(&self, retry: u32, random: f64) -> Duration {
        let factor = 2_u32.saturating_pow(retry.min(31));
        let step = self.first.saturating_mul(factor).min(self.max);
        step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

/// Uniform in `0.0..1.0`, for callers that have no randomness of their own to bring.
pub fn random_fraction() -> f64 {
    let mut random = [0; 4];
    // Without randomness the jitter is the middle one.
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) };

    #[test]
    fn doubles_up_to_the_cap_and_stays_there() {
        let waits: Vec<_> = [0, 1, 2, 8, 9, 40, u32::MAX].map(|n| BACKOFF.delay(n, 1.0).as_millis()).into();
        assert_eq!(waits, [100, 200, 400, 25_600, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn jitter_keeps_at_least_half_of_the_step() {
        assert_eq!(BACKOFF.delay(1, 0.0), Duration::from_millis(100));
        assert_eq!(BACKOFF.delay(1, 0.5), Duration::from_millis(150));
    }
}

//! The wall clock, and waiting for a time of day. Sleeping alone would miss it when somebody sets the clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How often the two clocks are compared; one timer for all viewers.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A difference below this is drift, not a step.
const STEP: Duration = Duration::from_millis(250);

/// Seconds since 1970; 0 on a clock before that.
pub fn unix_now() -> u64 {
    since_epoch().as_secs()
}

/// Milliseconds since 1970, signed as SQLite's integers are; 0 on a clock before that.
pub fn unix_now_ms() -> i64 {
    unix_ms(SystemTime::now())
}

/// The same of any time.
pub fn unix_ms(time: SystemTime) -> i64 {
    i64::try_from(since_epoch_at(time).as_millis()).unwrap_or(i64::MAX)
}

/// Seconds since 1970, of whole milliseconds: those of [`unix_ms`], so that a time is told alike before and after it was
/// written down. 0 before that.
pub fn unix_seconds(time: SystemTime) -> f64 {
    ms_as_seconds(unix_ms(time))
}

/// Milliseconds as seconds; 0 for fewer than none.
pub fn ms_as_seconds(ms: i64) -> f64 {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default()).as_secs_f64()
}

/// Milliseconds since the boot, sleep included, which nobody can set.
pub fn boottime_ms() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

fn since_epoch_at(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn since_epoch() -> Duration {
    since_epoch_at(SystemTime::now())
}

/// Ends at that time; never without one.
pub async fn until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells sleepers that the clock was set, and people.
pub async fn watch_steps(steps: watch::Sender<u64>, stop: CancellationToken) {
    notice_steps(steps, stop, || tracing::warn!("the system's clock was set")).await;
}

/// Tells sleepers, and whoever `told` tells: that the clock was set, or that the machine slept, which looks alike.
pub async fn notice_steps(steps: watch::Sender<u64>, stop: CancellationToken, told: impl Fn()) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut wall, mut mono) = (since_epoch(), Instant::now());
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let expected = wall + mono.elapsed();
        (wall, mono) = (since_epoch(), Instant::now());
        if wall.abs_diff(expected) > STEP {
            told();
            steps.send_modify(|count| *count += 1);
        }
    }
}

/// Ends when the wall clock reaches `unix` seconds, however it gets there.
pub async fn reached(unix: u64, steps: &mut watch::Receiver<u64>) {
    loop {
        let left = Duration::from_secs(unix).saturating_sub(since_epoch());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = sleep(left) => {}
            changed = steps.changed() => {
                if changed.is_err() {
                    // Nobody watches the clock any more: the gateway is ending, and every viewer with it.
                    sleep(left).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_same_in_seconds_as_in_milliseconds() {
        let at = UNIX_EPOCH + Duration::from_nanos(1_796_100_622_970_999_999);
        assert_eq!((unix_ms(at), unix_seconds(at)), (1_796_100_622_970, 1_796_100_622.97));
    }
}

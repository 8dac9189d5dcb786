//! When somebody last acted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// The time of the last key, pointer or clipboard message that was sent on. Shared between a relay and whoever ends
/// idle sessions; what a spectator sends does not count.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    last_ms: AtomicU64,
    /// What this is a part of.
    whole: OnceLock<Arc<Activity>>,
}

impl Activity {
    /// Counts as active at `now`.
    pub fn new(now: Instant) -> Self {
        Self { start: now, last_ms: AtomicU64::new(0), whole: OnceLock::new() }
    }

    /// Somebody acted at `now`.
    pub fn touch(&self, now: Instant) {
        self.last_ms.fetch_max(self.since_start_ms(now), Ordering::Relaxed);
        if let Some(whole) = self.whole.get() {
            whole.touch(now);
        }
    }

    /// From now on, whoever acts here acts there as well. Good once.
    pub fn counts_for(&self, whole: &Arc<Activity>) {
        self.whole.get_or_init(|| Arc::clone(whole));
    }

    /// For how long nobody has acted, to a millisecond.
    pub fn idle_for(&self, now: Instant) -> Duration {
        let last = self.last_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.since_start_ms(now).saturating_sub(last))
    }

    /// Ends when nobody has acted for as long as `limit`; never without one.
    pub async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let idle = self.idle_for(Instant::now());
            if idle >= limit {
                return;
            }
            sleep(limit - idle).await;
        }
    }

    fn since_start_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idleness_counts_from_the_latest_touch_in_whatever_order_they_come() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity::new(start);
        assert_eq!(activity.idle_for(at(3)), Duration::from_secs(3));
        activity.touch(at(5));
        activity.touch(at(4));
        assert_eq!(activity.idle_for(at(7)), Duration::from_secs(2));
        assert_eq!(activity.idle_for(at(1)), Duration::ZERO);
    }

    #[test]
    fn who_acts_in_a_part_acts_in_the_whole() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let whole = Arc::new(Activity::new(start));
        let part = Activity::new(at(2));
        part.touch(at(3));
        assert_eq!(whole.idle_for(at(9)), Duration::from_secs(9));
        part.counts_for(&whole);
        part.touch(at(5));
        assert_eq!(
            (part.idle_for(at(9)), whole.idle_for(at(9))),
            (Duration::from_secs(4), Duration::from_secs(4))
        );
    }
}

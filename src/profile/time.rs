//! Moments that still mean something after a restart, and lengths of time that begin at one.

use std::sync::Arc;
use std::time::Duration;

/// A reading of the clocks. Within one boot the time since it counts, sleep included, which nobody can set; between two boots
/// there is the wall clock alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Names the boot.
    pub boot_id: Arc<str>,
    /// Milliseconds since the boot.
    pub boottime_ms: i64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

impl Moment {
    /// How long ago `earlier` was; nothing where the wall clock has gone back since.
    pub fn since(&self, earlier: &Self) -> Duration {
        let passed = if self.boot_id == earlier.boot_id {
            self.boottime_ms.saturating_sub(earlier.boottime_ms)
        } else {
            self.wall_ms.saturating_sub(earlier.wall_ms)
        };
        Duration::from_millis(u64::try_from(passed).unwrap_or_default())
    }
}

/// A length of time that has to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// From when on.
    pub from: Moment,
    /// How long.
    pub length: Duration,
}

impl Rest {
    /// What is left of it: never more than its whole length, also where the wall clock went back between two boots.
    pub fn left(&self, now: &Moment) -> Duration {
        self.length.saturating_sub(now.since(&self.from))
    }

    /// The same rest seen from this boot: what is left of one that began in another boot begins now, so that the wall clock is
    /// asked once and no more. Never longer than `most`.
    pub(super) fn resumed(self, now: &Moment, most: Duration) -> Self {
        if self.from.boot_id == now.boot_id && self.length <= most {
            return self;
        }
        let length = self.left(now).min(most);
        Self { from: now.clone(), length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(boot: &str, boottime_ms: i64, wall_ms: i64) -> Moment {
        Moment { boot_id: boot.into(), boottime_ms, wall_ms }
    }

    #[test]
    fn f31_within_a_boot_nobody_who_sets_the_clock_shortens_or_lengthens_a_rest() {
        let rest = Rest { from: at("a", 1_000, 5_000_000), length: MINUTE };
        for wall in [0, 5_000_000, i64::MAX] {
            assert_eq!(rest.left(&at("a", 31_000, wall)), MINUTE / 2, "{wall}");
            assert_eq!(rest.left(&at("a", 61_000, wall)), Duration::ZERO, "{wall}");
        }
    }

    #[test]
    fn f31_between_boots_the_wall_clock_decides_and_never_makes_it_longer_than_it_was() {
        let rest = Rest { from: at("a", 9_000_000, 5_000_000), length: MINUTE };
        assert_eq!(rest.left(&at("b", 10, 5_045_000)), MINUTE / 4);
        assert_eq!(rest.left(&at("b", 10, 5_060_000)), Duration::ZERO);
        assert_eq!(rest.left(&at("b", 10, 0)), MINUTE, "the clock went back");
        // Once seen in the new boot, it runs by that boot's time.
        let resumed = rest.resumed(&at("b", 10, 0), MINUTE);
        assert_eq!(resumed.left(&at("b", 30_010, 0)), MINUTE / 2);
        assert_eq!(resumed.clone().resumed(&at("b", 30_010, 0), MINUTE), resumed);
    }

    #[test]
    fn a_rest_that_was_longer_than_any_is_now_is_cut() {
        let rest = Rest { from: at("a", 0, 0), length: 10 * MINUTE };
        assert_eq!(rest.clone().resumed(&at("a", 1_000, 0), MINUTE).left(&at("a", 1_000, 0)), MINUTE);
        assert_eq!(rest.resumed(&at("a", 570_000, 0), MINUTE).left(&at("a", 570_000, 0)), MINUTE / 2);
    }
}

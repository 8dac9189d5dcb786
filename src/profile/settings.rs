//! How the pool works, already checked.

use std::time::Duration;

use crate::proxy::Proxy;

/// How the pool works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Profiles of a user of one kind.
    pub per_user: usize,
    /// For how long a profile rests after each use, at least.
    pub cooldown: Duration,
    /// Sessions in a row that fail before a profile is quarantined.
    pub quarantine_after: u32,
    /// Proxies to go round.
    pub proxies: Vec<Proxy>,
    /// Whom they are given to.
    pub rotation: Rotation,
    /// What the directory of a profile may hold, in bytes; none: anything.
    pub quota: Option<u64>,
}

/// Whom proxies are given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Nobody.
    Off,
    /// Each profile gets one when it is made, and keeps it.
    Profile,
    /// Each session gets the next one.
    Session,
}

impl Rotation {
    /// All of them, for messages.
    pub const ALL: [Self; 3] = [Self::Off, Self::Profile, Self::Session];

    /// The rotation as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Profile => "profile",
            Self::Session => "session",
        }
    }
}

/// A rest is up to this part longer than the cooldown, so that profiles that were used together do not come back together.
const JITTER: f64 = 0.2;

impl Settings {
    /// The rest after a use. `random` is uniform in `0.0..1.0`.
    pub(super) fn rest(&self, random: f64) -> Duration {
        // Whole milliseconds, as they are written down.
        let longer = self.cooldown.mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0));
        Duration::from_millis(u64::try_from(longer.as_millis()).unwrap_or(u64::MAX)).max(self.cooldown)
    }

    /// The longest that a rest can be.
    pub(super) fn longest_rest(&self) -> Duration {
        self.rest(1.0)
    }
}

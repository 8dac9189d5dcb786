//! Profiles that rotate: which browser identities there are for a user, who has one, and when it may be used again. Pure:
//! time and randomness come in, rows and answers go out. The session manager owns the one [`Pool`].
//!
//! **Invariant:** a profile has one holder at a time, and only the newest [`Lease`] of it can change anything.
//! **Invariant:** nobody gets a profile before its cooldown is over, whatever was restarted and whoever set the clock.

mod choice;
mod doubt;
mod kind;
mod pool;
#[cfg(test)]
mod random_tests;
mod record;
mod row;
mod settings;
#[cfg(test)]
mod tests;
mod time;

pub use choice::{Unavailable, Wanted};
pub use doubt::Doubt;
pub use kind::Kind;
pub use pool::{Change, ChangeError, Counts, NewProfile, Outcome, Pool, Stale};
pub use record::{BadFingerprint, Fingerprint, Lease, MAX_FINGERPRINT_BYTES, Profile, State, StateWord};
pub use row::BadRow;
pub use settings::{Rotation, Settings};
pub use time::{Moment, Rest};

/// How names in the pool begin. Nobody else's profile is called so.
pub const PREFIX: &str = "pool-";

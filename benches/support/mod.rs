//! What the benches share: a daemon in a place of its own, and waiting.

pub(crate) mod daemon;
#[path = "../../tests/it/support/home.rs"]
pub(crate) mod home;
pub(crate) mod process;

use std::thread;
use std::time::{Duration, Instant};

/// Waits without anything to wait for: for a machine to come to rest, or until a condition is asked again.
pub(crate) fn rest(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

//! What the tests share: a real daemon with its own directories, tokens for it, and a small viewer.

pub(crate) mod api;
pub(crate) mod automation;
pub(crate) mod control_plane;
pub(crate) mod daemon;
pub(crate) mod home;
pub(crate) mod host_api;
pub(crate) mod imds;
pub(crate) mod leaks;
pub(crate) mod native;
pub(crate) mod net;
pub(crate) mod sockets;
pub(crate) mod tokens;
pub(crate) mod viewer;
pub(crate) mod x;

use std::time::{Duration, Instant};

/// Waits until `condition` gives something, or fails with `what` after `deadline`.
pub(crate) fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain for: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

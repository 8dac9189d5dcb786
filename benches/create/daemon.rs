//! The daemon as it is measured here: without a session of its own.

use crate::Outcome;
use crate::support::daemon::Daemon;

/// One that keeps so many browsers ready.
pub(crate) fn start(spare_browsers: usize) -> Outcome<Daemon> {
    Daemon::start(&format!(
        r#"
        [session]
        autostart = false
        [sessions]
        max = 4
        spare_browsers = {spare_browsers}
        [isolation]
        network = "open"
        "#
    ))
}

//! Settings of AdsPower, already checked.

use std::path::PathBuf;
use std::time::Duration;

use super::version::Version;
use crate::secret::Secret;
use crate::sys::Limits;

/// The app and how it is asked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Path of the program.
    pub program: PathBuf,
    /// Further arguments, after those that it is always given.
    pub args: Vec<String>,
    /// Where its Local API is to listen; where that is taken it picks another port by itself.
    pub port: u16,
    /// What it is given to log in with, and what every call shows.
    pub api_key: Secret<String>,
    /// User and group that it runs as; no session's. Unused when the daemon is not root.
    pub uid: u32,
    /// Least time between calls; none: by the number of profiles of the account.
    pub pace: Option<Duration>,
    /// On it and all of its browsers together.
    pub limits: Limits,
    /// What is older is not started.
    pub minimum_version: Option<Version>,
}

impl PartialEq for Config {
    /// [`Secret`] has none, so that nobody compares a peer's secret by accident. Both of these are our own.
    fn eq(&self, other: &Self) -> bool {
        // Taken apart by name: a new field must be thought of here.
        let Self { program, args, port, api_key, uid, pace, limits, minimum_version } = self;
        *program == other.program
            && *args == other.args
            && *port == other.port
            && api_key.expose() == other.api_key.expose()
            && *uid == other.uid
            && *pace == other.pace
            && *limits == other.limits
            && *minimum_version == other.minimum_version
    }
}

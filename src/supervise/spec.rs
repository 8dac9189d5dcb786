//! What a service is, as its supervisor needs to know it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::backoff::Backoff;
use crate::secret::Secret;
pub use crate::sys::command::{Command, Confinement, Identity, READY_FD};

/// One service of a group.
#[derive(Clone)]
pub struct ServiceSpec {
    /// Its name in logs, status and metrics: `xvfb`, `x11vnc`, `browser`.
    pub name: &'static str,
    /// Services of the same group that must be up before this one starts. When one of them goes, this one is stopped and
    /// starts again after it.
    pub requires: Vec<&'static str>,
    /// What runs, and how to ask it how it is.
    pub program: Arc<dyn Program>,
    /// Deadlines.
    pub timing: Timing,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// Not started with the group, but when it is released ([`super::GroupHandle::release`]).
    pub held: bool,
}

/// A program that can be started, asked and stopped. Implementations learn what they need of the services they require
/// (a display number, say) from handles given to them at construction.
pub trait Program: Send + Sync + 'static {
    /// Prepares one start (directories, stale files, a free port) and says what to run. Called on a thread that may block,
    /// never while an earlier run is still there.
    fn command(&self) -> Result<Command, ProgramError>;

    /// What it is given and may print: kept out of the log.
    fn secrets(&self) -> Vec<Secret<String>> {
        Vec::new()
    }

    /// Takes the first line that the service wrote on its readiness pipe ([`Command::ready_fd`]). Called once a
    /// run, on a thread that may block.
    fn ready_line(&self, _line: &str) -> Result<(), ProgramError> {
        Ok(())
    }

    /// One end-to-end question: asked until it answers for the first time (the service is up then), and at every
    /// [`Timing::probe_interval`] after that. The supervisor sets the deadline; the future may be dropped at any await.
    fn probe<'a>(&'a self, running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>>;

    /// Asks the service to end in its own way (`Browser.close`), before any signal. `Ok(false)`: it has no such way.
    fn ask_to_stop<'a>(&'a self, _running: &'a Running) -> BoxFuture<'a, Result<bool, ProgramError>> {
        Box::pin(async { Ok(false) })
    }

    /// Removes what a run left (lock files, sockets), however it ended. Called on a thread that may block, once a run,
    /// when no process of it is left.
    fn clean_up(&self, _ended: &Running) {}
}

/// Why a program could not be prepared, or did not answer a probe.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ProgramError {
    /// What was tried, in words for an operator.
    pub what: String,
    /// The cause beneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProgramError {
    /// An error with nothing beneath.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// An error with a cause.
    pub fn caused_by(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }
}

/// A run of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Pid of the main process. For looking things up; signals go through its pidfd or cgroup.
    pub pid: u32,
    /// How many times the service was started before this run.
    pub attempt: u32,
}

/// Deadlines of a service.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From spawn to the first good probe.
    pub start_deadline: Duration,
    /// Between probes once up.
    pub probe_interval: Duration,
    /// For one probe.
    pub probe_deadline: Duration,
    /// Failed probes in a row after which the service counts as hung and is killed. The first one already shows in its
    /// status.
    pub probe_failures: u32,
    /// From the polite request to TERM, where the program has one.
    pub ask_grace: Duration,
    /// From TERM to the kill of all that is left.
    pub term_grace: Duration,
}

/// What to do when a service ends unasked; exit code 0 is such an end as well.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// Wait before each start after a failure.
    pub backoff: Backoff,
    /// Up for so long, the next failure counts as the first again.
    pub healthy_after: Duration,
    /// So many failures in a row make a crash loop: said once, and shown as such, while tries go on.
    pub crash_loop_after: u32,
    /// For programs that start themselves anew and let their first process end: where others of the run are left then, and
    /// answer a probe within this time, the run goes on without a main process.
    pub readopt_within: Option<Duration>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(30) },
            healthy_after: Duration::from_secs(60),
            crash_loop_after: 5,
            readopt_within: None,
        }
    }
}

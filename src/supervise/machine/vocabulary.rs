//! What goes into the machine and what comes out of it.

use std::time::Duration;

use super::super::spec::{RestartPolicy, Timing};
use super::super::status::ServiceState;
use crate::sys::Exit;

/// One service, as the machine needs to know it. Services are named by their index in the list that it was built from.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Names of those that must be up before it.
    pub requires: Vec<&'static str>,
    /// Deadlines.
    pub timing: Timing,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// Not started with the group, but when it is released.
    pub held: bool,
}

/// Why a list of services is not a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two have one name.
    #[error("two services are called {0}")]
    Duplicate(&'static str),
    /// A requirement is not in the list.
    #[error("{service} requires {requires}, which is not in the group")]
    Unknown {
        /// Who requires.
        service: &'static str,
        /// What is missing.
        requires: &'static str,
    },
    /// Services require each other.
    #[error("{0} requires itself, by way of others or not")]
    Cycle(&'static str),
}

/// A run of a service: unique within a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All services are wanted.
    Start,
    /// None is.
    Stop,
    /// None is, and there is no time left for asking.
    StopNow,
    /// This one is to be stopped and started again, with those that require it.
    Restart(usize),
    /// This one is held no longer.
    Release(usize),
    /// A deadline may have passed.
    Tick,
    /// Something about a run.
    Run {
        /// Of which service.
        service: usize,
        /// Which run.
        run: RunId,
        /// What.
        what: RunEvent,
    },
}

/// What happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// It has been exec'd.
    Spawned {
        /// Main process.
        pid: u32,
        /// Whether it says itself when it is ready to be probed.
        says_when_ready: bool,
    },
    /// It was not, and nothing of it is left.
    SpawnFailed(String),
    /// It said that it is ready; an error when that made no sense.
    ReadyLine(Result<(), String>),
    /// It answered a probe, or did not.
    Probed(Result<(), String>),
    /// It could not be asked, for a reason of ours.
    NotProbed(String),
    /// Whether it could be asked to stop.
    Asked(bool),
    /// The main process has ended.
    Exited {
        /// How.
        exit: Exit,
        /// The last thing it complained about.
        last_line: Option<String>,
        /// Whether other processes of the run are left; only looked at where they may carry it on.
        others_left: bool,
    },
    /// No process of it is left.
    Emptied,
    /// Processes of it survive SIGKILL.
    NotEmptied,
    /// What it left on disk is gone.
    CleanedUp,
}

/// What to do about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Of which service.
    pub service: usize,
    /// Which run.
    pub run: RunId,
    /// What.
    pub todo: Todo,
}

/// What to do. Each but `Terminate` and `Report` is answered by one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Todo {
    /// Prepare and spawn: `Spawned` or `SpawnFailed`; then `ReadyLine` perhaps, and `Exited` surely.
    Launch {
        /// How often it was started before.
        attempt: u32,
    },
    /// Ask how it is: `Probed` or `NotProbed`.
    Probe,
    /// Ask it to end: `Asked`.
    AskToStop,
    /// SIGTERM to its main process, or to all of it where that has ended.
    Terminate,
    /// SIGKILL to all of it, and see it gone: `Emptied` or `NotEmptied`. Questions that are still open are dropped.
    KillAll,
    /// Remove what it left: `CleanedUp`.
    CleanUp,
    /// Tell people.
    Report(Report),
}

/// What people should hear, once each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is up.
    Up {
        /// From its spawn.
        took: Duration,
    },
    /// Its main process has ended, and others of it may carry it on.
    Orphaned {
        /// How it ended.
        reason: String,
    },
    /// They do.
    Readopted,
    /// It failed.
    Failed {
        /// Why.
        reason: String,
        /// When it is tried again, counted from its end.
        retry_in: Duration,
    },
    /// It fails again and again; not repeated until it has been healthy.
    CrashLoop {
        /// How often in a row.
        failures: u32,
    },
    /// Processes of it survive SIGKILL; the kill is repeated.
    Stuck,
}

/// An event that the state does not allow: a mistake of whoever reports events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not belong to {service} while it is {state}")]
pub struct Illegal {
    /// The service's name.
    pub service: String,
    /// Its state.
    pub state: String,
    /// The event.
    pub event: String,
}

/// A service as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What it is doing.
    pub state: ServiceState,
    /// Main process, while there is one.
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u32,
    /// Whether it fails again and again.
    pub crash_loop: bool,
    /// Why it is not up.
    pub reason: Option<String>,
}

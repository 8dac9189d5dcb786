//! What others hold of a group.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::status::GroupStatus;

/// The group's actor is gone: its scope has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the group's supervisor has ended")]
pub struct Gone;

/// Why a service was not restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// No service of that name.
    #[error("no service is called {0}")]
    Unknown(String),
    /// The group is stopped or stopping.
    #[error("the group is not meant to run")]
    NotWanted,
    /// Its actor is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// How a stop went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopReport {
    /// Services that were killed, since the budget was spent.
    pub forced: Vec<&'static str>,
    /// Services of which something is still there.
    pub left: Vec<&'static str>,
}

/// The name of a group in the log. It may change while the group runs: a spare becomes somebody's session.
#[derive(Debug, Clone)]
pub(super) struct Label(Arc<watch::Sender<Arc<str>>>);

impl Label {
    pub(super) fn new(name: &str) -> Self {
        Self(Arc::new(watch::Sender::new(name.into())))
    }

    pub(super) fn set(&self, name: &str) {
        self.0.send_replace(name.into());
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.borrow())
    }
}

/// To the actor.
pub(super) enum Request {
    Stop { budget: Duration, reply: oneshot::Sender<StopReport> },
    Restart { service: String, reply: oneshot::Sender<Result<(), RestartError>> },
    Release { service: &'static str },
    Ping(oneshot::Sender<()>),
}

/// A handle to a group; clones are equal. The group lives with the scope that it was spawned in, not with its handles.
#[derive(Clone)]
pub struct GroupHandle {
    pub(super) wanted: Arc<watch::Sender<bool>>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) status: watch::Receiver<GroupStatus>,
    pub(super) label: Label,
}

impl GroupHandle {
    /// What the group is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<GroupStatus> {
        self.status.clone()
    }

    /// All services are wanted from now on; progress shows in the status.
    pub fn start(&self) {
        self.wanted.send_replace(true);
    }

    /// Stops all services, dependants first; those not down within `budget` are killed. Returns when all are down, or a
    /// few seconds after the budget with the names of those that are not.
    ///
    /// # Errors
    /// [`Gone`] when the actor has ended.
    pub async fn stop(&self, budget: Duration) -> Result<StopReport, Gone> {
        self.wanted.send_replace(false);
        let (reply, report) = oneshot::channel();
        self.requests.send(Request::Stop { budget, reply }).await.map_err(|_| Gone)?;
        report.await.map_err(|_| Gone)
    }

    /// Stops a service, after those that require it, and starts them again without back-off. Returns when that is decided.
    ///
    /// # Errors
    /// [`RestartError`]
    pub async fn restart(&self, service: &str) -> Result<(), RestartError> {
        let (reply, outcome) = oneshot::channel();
        let request = Request::Restart { service: service.to_owned(), reply };
        self.requests.send(request).await.map_err(|_| Gone)?;
        outcome.await.map_err(|_| Gone)?
    }

    /// Starts a service that was held, once those that it requires are up.
    ///
    /// # Errors
    /// [`Gone`] when the actor has ended.
    pub async fn release(&self, service: &'static str) -> Result<(), Gone> {
        self.requests.send(Request::Release { service }).await.map_err(|_| Gone)
    }

    /// The name under which the group stands in the log from now on.
    pub fn rename(&self, name: &str) {
        self.label.set(name);
    }

    /// Whether the actor has ended.
    pub fn is_over(&self) -> bool {
        self.requests.is_closed()
    }

    /// A round trip through the actor: `false` when it did not answer within `deadline`.
    pub async fn ping(&self, deadline: Duration) -> bool {
        let (reply, answer) = oneshot::channel();
        let round_trip =
            async { self.requests.send(Request::Ping(reply)).await.is_ok() && answer.await.is_ok() };
        timeout(deadline, round_trip).await.unwrap_or(false)
    }
}

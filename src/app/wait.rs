//! What a daemon listens to while it serves.

use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::error::Error;
use super::reload::Reloader;
use crate::control_plane::Renewal;
use crate::errors;
use crate::identity::{Announced, Call, Notice};
use crate::ids::SessionId;
use crate::session::{self, Cause, End, SessionRecord, Sessions};
use crate::tasks::Scope;

pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// What the daemon was told.
pub(super) enum Told {
    /// To stop.
    Stop,
    /// That the machine is to go.
    Leave(Notice),
    /// That it is wanted after all.
    Return,
    /// That nothing is left of the session that it is there for.
    Over(Box<SessionRecord>),
}

impl Told {
    /// What it means for the daemon's end.
    pub(super) fn outcome(self) -> Result<(), Error> {
        match self {
            Self::Stop | Self::Leave(_) => Ok(()),
            Self::Return => Err(Error::CalledBack),
            Self::Over(record) => outcome_of(*record),
        }
    }
}

fn outcome_of(record: SessionRecord) -> Result<(), Error> {
    let has_failed = |end: &End| match end.cause {
        Cause::StartFailed | Cause::HostDied => true,
        Cause::Requested | Cause::Expired | Cause::Idle | Cause::HostDraining => false,
    };
    match record.end.filter(has_failed) {
        Some(end) => Err(Error::SessionFailed { id: record.id, end }),
        None => Ok(()),
    }
}

/// From the beginning of the session's end to a daemon that goes without having seen all of it: what survives SIGKILL
/// survives waiting.
const MOST_ENDING: Duration = Duration::from_secs(60);

/// The session that the daemon is there for, where it is to end with it.
pub(super) struct OnlySession {
    id: SessionId,
    created: SystemTime,
    sessions: Sessions,
    draining: watch::Sender<bool>,
}

impl OnlySession {
    /// That of the configuration, which was ordered at `created`.
    pub(super) fn of(
        config: &session::Config,
        created: SystemTime,
        sessions: &Sessions,
        draining: &watch::Sender<bool>,
    ) -> Option<Self> {
        let (id, sessions, draining) = (config.id.clone(), sessions.clone(), draining.clone());
        config.exit_when_ended.then_some(Self { id, created, sessions, draining })
    }

    /// Waits until nothing of it is left. The host is draining from the moment its end begins. Cancel safe.
    async fn over(&self) -> SessionRecord {
        let ended = self.sessions.wait_ended(&self.id, self.created);
        let begins = async { self.sessions.wait_for(&self.id).await.over().await };
        tokio::pin!(ended);
        tokio::select! {
            record = &mut ended => return record,
            () = begins => {}
        }
        self.draining.send_replace(true);
        if let Ok(record) = timeout(MOST_ENDING, &mut ended).await {
            return record;
        }
        // Its end is in its status by now.
        match self.sessions.record(&self.id) {
            Some(record) => record,
            None => ended.await,
        }
    }
}

/// What a daemon listens to while it serves.
pub(super) struct Watch {
    pub(super) signals: Signals,
    pub(super) reloader: Reloader,
    pub(super) announced: watch::Receiver<Announced>,
    /// The line to the control plane asks for its credential.
    pub(super) renewals: Option<mpsc::Receiver<Renewal>>,
    /// The session that the daemon ends with, where there is one.
    pub(super) only: Option<OnlySession>,
}

impl Watch {
    /// Serves until it is told something. An error is a task that ended unasked: nothing can be relied on then.
    pub(super) async fn wait(&mut self, scope: &mut Scope) -> Result<Told, Error> {
        let Self { signals, reloader, announced, renewals, only } = self;
        loop {
            tokio::select! {
                _term = signals.term.recv() => {
                    tracing::info!(signal = "TERM", "draining");
                    return Ok(Told::Stop);
                }
                _int = signals.int.recv() => {
                    tracing::info!(signal = "INT", "draining");
                    return Ok(Told::Stop);
                }
                _hup = signals.hup.recv() => reloader.reload().await,
                // The sender goes with its task, and that ends the daemon.
                Ok(()) = announced.changed() => match &announced.borrow_and_update().call {
                    Call::Serve => {}
                    Call::Drain(notice) => return Ok(Told::Leave(notice.clone())),
                    Call::Return => return Ok(Told::Return),
                },
                record = end_of(only) => {
                    let cause = record.end.as_ref().map(|end| end.cause.as_str());
                    tracing::info!(session = %record.id, cause, "draining, since its session has ended");
                    return Ok(Told::Over(Box::new(record)));
                }
                Some(renewal) = next_renewal(renewals) => {
                    if let Some(auth) = reloader.credential() {
                        // It may have stopped waiting.
                        let _unheard = renewal.send(auth);
                    }
                }
                Some(finished) = scope.join_next() => {
                    let error = Error::TaskEnded { name: finished.name, outcome: finished.outcome };
                    tracing::error!(error = %errors::chain(&error), "draining");
                    return Err(error);
                }
            }
        }
    }
}

async fn next_renewal(renewals: &mut Option<mpsc::Receiver<Renewal>>) -> Option<Renewal> {
    match renewals {
        Some(renewals) => renewals.recv().await,
        None => std::future::pending().await,
    }
}

async fn end_of(only: &Option<OnlySession>) -> SessionRecord {
    match only {
        Some(only) => only.over().await,
        None => std::future::pending().await,
    }
}

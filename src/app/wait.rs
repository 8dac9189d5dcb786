//! What a daemon listens to while it serves.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::error::Error;
use super::reload::Reloader;
use crate::control_plane::Renewal;
use crate::errors;
use crate::identity::{Announced, Call, Notice};
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
}

impl Told {
    /// What it means for the daemon's end.
    pub(super) fn outcome(self) -> Result<(), Error> {
        match self {
            Self::Stop | Self::Leave(_) => Ok(()),
            Self::Return => Err(Error::CalledBack),
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
}

impl Watch {
    /// Serves until it is told something. An error is a task that ended unasked: nothing can be relied on then.
    pub(super) async fn wait(&mut self, scope: &mut Scope) -> Result<Told, Error> {
        let Self { signals, reloader, announced, renewals } = self;
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

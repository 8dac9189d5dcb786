//! Places that are taken, and who waits for one.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::super::admission::Denial;
use super::super::ends::Ending;
use super::super::handle::{CreateError, Created, Unresponsive};
use super::super::handoff::Handoffs;
use super::super::life;
use super::super::request::Idempotency;
use super::super::spec::Spec;
use super::super::viewer::{Session, Terms};
use crate::ids::{ProfileName, SessionId};
use crate::profile::{Kind, Lease};
use crate::store::SessionKey;

/// Who waits for a session to be put together.
pub(super) enum Waiting {
    Autostart(oneshot::Sender<Result<(), life::Error>>),
    /// The same request, once or more often.
    Requests {
        replies: Vec<Reply>,
        idempotency: Option<Idempotency>,
    },
}

/// A place that is taken.
pub(super) struct Place {
    pub(super) phase: Phase,
    pub(super) ending: watch::Sender<Option<Ending>>,
    /// What it has of the pool, given back with it.
    pub(super) lease: Option<Lease>,
}

pub(super) enum Phase {
    Spare,
    Reserved { spec: Arc<Spec>, controls: Controls, waiting: Waiting },
    Live { session: Session, controls: Controls },
}

/// What the manager alone changes of a session that runs.
pub(super) struct Controls {
    pub(super) terms: watch::Sender<Terms>,
    pub(super) handoffs: watch::Sender<Handoffs>,
}

impl Phase {
    pub(super) fn id(&self) -> Option<&SessionId> {
        match self {
            Self::Spare => None,
            Self::Reserved { spec, .. } => Some(&spec.id),
            Self::Live { session, .. } => Some(session.id()),
        }
    }

    /// Which of all sessions of its id it is.
    pub(super) fn key(&self) -> Option<SessionKey> {
        match self {
            Self::Spare => None,
            Self::Reserved { spec, .. } => Some(spec.key()),
            Self::Live { session, .. } => Some(session.key()),
        }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Spare => None,
            Self::Reserved { spec, .. } => Some(spec.kind),
            Self::Live { session, .. } => Some(session.inner.about.kind),
        }
    }

    pub(super) fn profile(&self) -> Option<&ProfileName> {
        match self {
            Self::Spare => None,
            Self::Reserved { spec, .. } => spec.profile.as_ref(),
            Self::Live { session, .. } => session.inner.about.profile.as_ref(),
        }
    }
}

pub(super) type Reply = oneshot::Sender<Result<Created, CreateError>>;

/// A request that is in order.
pub(super) struct Applicant {
    pub(super) spec: Spec,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) reply: Reply,
}

/// One that waits for a place.
pub(super) struct Queued {
    pub(super) applicant: Applicant,
    pub(super) until: Instant,
}

pub(super) fn answer(reply: Reply, outcome: Result<Created, CreateError>) {
    // Whoever asked may have stopped waiting.
    let _gave_up = reply.send(outcome);
}

pub(super) fn refuse(reply: Reply, denial: Denial) {
    answer(reply, Err(denial.into()));
}

pub(super) fn fail(waiting: Waiting, error: CreateError) {
    match (waiting, error) {
        (Waiting::Autostart(reply), CreateError::Failed(error)) => {
            let _unheard = reply.send(Err(error));
        }
        (Waiting::Autostart(_), error) => {
            tracing::error!(%error, "no place for the configuration's own session")
        }
        (Waiting::Requests { replies, .. }, error) => {
            let mut error = Some(error);
            for reply in replies {
                let error = match &mut error {
                    Some(CreateError::Cancelled(id)) => CreateError::Cancelled(id.clone()),
                    // The first one learns why; the others asked for the same and may ask again.
                    error => error.take().unwrap_or(CreateError::Unresponsive(Unresponsive)),
                };
                answer(reply, Err(error));
            }
        }
    }
}

//! Talking to the manager.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::admission::Denial;
use super::handoff::{Answer, Handoff, HandoffDenial, NewHandoff};
use super::ledger::Ledger;
use super::profiles::ProfileRequest;
use super::record::SessionRecord;
use super::request::{Amendment, CreateRequest, Idempotency};
use super::viewer::Session;
use crate::ids::{HandoffId, SessionId};
use crate::store::SessionKey;

/// For an answer that the manager gives without waiting for anything.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// The same at the end of the daemon, whose time is short.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// For a session to be put together, once it has a place. Directories, a cookie, namespaces: some milliseconds.
const ASSEMBLY_DEADLINE: Duration = Duration::from_secs(30);
/// Beyond a stop's budget, for what is killed at its end to go, or to be told from what never will.
const STUCK_GRACE: Duration = Duration::from_secs(5);

/// To the manager.
pub(super) enum Request {
    Ping(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
    /// Whether sessions are taken.
    Intake(bool, oneshot::Sender<()>),
    Create(Box<Create>),
    Stop {
        id: SessionId,
        reason: Option<String>,
        reply: oneshot::Sender<Option<Stopped>>,
    },
    Amend {
        id: SessionId,
        amendment: Amendment,
        reply: oneshot::Sender<Result<SessionRecord, AmendError>>,
    },
    AskForHuman {
        id: SessionId,
        new: NewHandoff,
        reply: oneshot::Sender<Result<(Arc<Handoff>, bool), HandoffError>>,
    },
    Answer {
        session: SessionKey,
        handoff: HandoffId,
        answer: Answer,
        reply: oneshot::Sender<Result<(Arc<Handoff>, bool), HandoffError>>,
    },
    Profiles(ProfileRequest),
    /// `last`: the manager ends too.
    StopAll {
        budget: Duration,
        last: bool,
        done: oneshot::Sender<()>,
    },
}

/// A request for a session, and who waits for it.
pub(super) struct Create {
    pub(super) request: CreateRequest,
    pub(super) idempotency: Option<Idempotency>,
    /// What an earlier run of the daemon made of that key: the digest of the request, and its session.
    pub(super) recalled: Option<([u8; 32], SessionKey)>,
    pub(super) reply: oneshot::Sender<Result<Created, CreateError>>,
}

/// A session that was asked for.
#[derive(Clone)]
pub struct Created {
    /// It.
    pub session: Session,
    /// Whether this request created it; otherwise an earlier one of the same meaning had.
    pub fresh: bool,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It was not admitted.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// It could not be put together.
    #[error("the session could not be started")]
    Failed(#[source] super::life::Error),
    /// The same request came before, and its session has ended since.
    #[error("session {0} has ended since")]
    Over(SessionId),
    /// It was ended before it had begun.
    #[error("session {0} was ended before it had begun")]
    Cancelled(SessionId),
    /// The manager does not answer.
    #[error(transparent)]
    Unresponsive(#[from] Unresponsive),
}

/// A session that is to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Stopped {
    /// As it is.
    pub record: SessionRecord,
    /// Whether it is this request that ends it; another cause may have come first.
    pub is_news: bool,
}

/// Why a session was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AmendError {
    /// There is none of that id.
    #[error("no such session runs")]
    Unknown,
    /// It is ending.
    #[error("the session is ending")]
    Ending,
    /// The host does not allow it.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The manager does not answer.
    #[error(transparent)]
    Unresponsive(#[from] Unresponsive),
}

/// Why a human was not asked, or their answer not taken.
#[derive(Debug, thiserror::Error)]
pub enum HandoffError {
    /// There is no such session.
    #[error("no such session runs")]
    Unknown,
    /// It is ending.
    #[error("the session is ending")]
    Ending,
    /// The handoff is not as it would have to be.
    #[error(transparent)]
    Denied(#[from] HandoffDenial),
    /// It is as was asked, and the disk does not take it: a daemon that dies before it does loses it. To be asked again.
    #[error("it is not on disk yet")]
    NotKept,
    /// The manager does not answer.
    #[error(transparent)]
    Unresponsive(#[from] Unresponsive),
}

/// The manager did not answer in time, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session manager does not answer")]
pub struct Unresponsive;

/// Where sessions reach the manager. Does not keep it alive.
#[derive(Clone)]
pub(super) struct Desk(Option<(mpsc::WeakSender<Request>, Ledger)>);

impl Desk {
    /// That of the manager behind `requests`.
    pub(super) fn at(requests: &mpsc::Sender<Request>, ledger: &Ledger) -> Self {
        Self(Some((requests.downgrade(), ledger.clone())))
    }

    /// Nobody's, for sessions without a manager.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self(None)
    }

    /// Tells the manager, if it is there still.
    pub(super) async fn tell(&self, request: Request) {
        let Some(requests) = self.0.as_ref().and_then(|(requests, _)| requests.upgrade()) else { return };
        // One that is gone meanwhile needs to know nothing.
        let _gone = requests.send(request).await;
    }

    pub(super) async fn answer(
        &self,
        session: SessionKey,
        handoff: HandoffId,
        answer: Answer,
    ) -> Result<(Arc<Handoff>, bool), HandoffError> {
        let (requests, ledger) = self.0.as_ref().ok_or(Unresponsive)?;
        let requests = requests.upgrade().ok_or(Unresponsive)?;
        let request = |reply| Request::Answer { session, handoff, answer, reply };
        let outcome = ask(&requests, ANSWER_DEADLINE, request).await??;
        // Also where it is no news: the answer before this one may have been cut off while it waited.
        kept(ledger).await?;
        Ok(outcome)
    }
}

/// Talks to the manager. Cheap to clone.
#[derive(Clone)]
pub struct ManagerHandle {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) ledger: Ledger,
    /// How long a request may wait for a place.
    pub(super) queue_deadline: Duration,
}

impl ManagerHandle {
    /// One round trip through the manager and every supervisor beneath it: the proof that the daemon is alive.
    ///
    /// # Errors
    /// When it does not answer within `deadline`.
    pub async fn ping(&self, deadline: Duration) -> Result<(), Unresponsive> {
        self.ask(deadline, Request::Ping).await
    }

    /// A session for `request`. Returns when it has been put together and its processes are starting; whether it is ready
    /// yet, its status tells. Waits for a place where the configuration lets requests wait.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub async fn create(
        &self,
        request: CreateRequest,
        idempotency: Option<Idempotency>,
    ) -> Result<Created, CreateError> {
        let recalled = match &idempotency {
            Some(idempotency) => self.ledger.recall(&idempotency.key).await,
            None => None,
        };
        let create = |reply| Request::Create(Box::new(Create { request, idempotency, recalled, reply }));
        let created = self.ask(self.queue_deadline + ASSEMBLY_DEADLINE, create).await?;
        if created.is_ok() {
            self.settle().await;
        }
        created
    }

    /// Waits until what has happened is on disk, where a control plane is to hear of it: before somebody is told.
    pub async fn settle(&self) {
        if self.ledger.reports() {
            self.ledger.settle().await;
        }
    }

    /// Has a session ended; returns when its end has begun. One that waits for a place loses it and never begins. One that has
    /// ended already is told as it was; `None`: nobody knows of such a session.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn stop(
        &self,
        id: &SessionId,
        reason: Option<String>,
    ) -> Result<Option<Stopped>, Unresponsive> {
        let id = id.clone();
        self.ask(ANSWER_DEADLINE, |reply| Request::Stop { id, reason, reply }).await
    }

    /// Changes the terms of a session that runs.
    ///
    /// # Errors
    /// See [`AmendError`].
    pub async fn amend(&self, id: &SessionId, amendment: Amendment) -> Result<SessionRecord, AmendError> {
        let id = id.clone();
        let record = self.ask(ANSWER_DEADLINE, |reply| Request::Amend { id, amendment, reply }).await??;
        self.settle().await;
        Ok(record)
    }

    /// Has no more sessions taken from now on, while those that are there go on.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn close(&self) -> Result<(), Unresponsive> {
        self.ask(CLOSE_DEADLINE, Request::Close).await
    }

    /// Has no sessions taken, or has them taken again; those that are there go on. Nothing is taken while the host drains.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn set_intake(&self, open: bool) -> Result<(), Unresponsive> {
        self.ask(ANSWER_DEADLINE, |reply| Request::Intake(open, reply)).await
    }

    /// Ends all sessions in order, within `budget`: viewers learn of it first, then browsers, then displays. What survives
    /// SIGKILL is given up a little later. No more are taken, and what is asked is still answered. Asked again with less time,
    /// it hurries.
    pub async fn drain(&self, budget: Duration) {
        self.end_all(budget, false).await;
    }

    /// The same, and the end of the manager.
    pub async fn stop_all(&self, budget: Duration) {
        self.end_all(budget, true).await;
    }

    async fn end_all(&self, budget: Duration, last: bool) {
        let (done, finished) = oneshot::channel();
        if self.requests.send(Request::StopAll { budget, last, done }).await.is_ok() {
            // A manager that is gone has nothing left to stop.
            if timeout(budget + STUCK_GRACE, finished).await.is_err() {
                tracing::error!("not all sessions could be ended: going without them");
            }
        }
    }

    /// Asks for a human. The flag: whether the handoff is new; the same one may have been asked for before.
    ///
    /// # Errors
    /// See [`HandoffError`].
    pub async fn ask_for_human(
        &self,
        id: &SessionId,
        new: NewHandoff,
    ) -> Result<(Arc<Handoff>, bool), HandoffError> {
        let id = id.clone();
        let outcome = self.ask(ANSWER_DEADLINE, |reply| Request::AskForHuman { id, new, reply }).await??;
        kept(&self.ledger).await?;
        Ok(outcome)
    }

    pub(super) async fn ask<T>(
        &self,
        deadline: Duration,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Unresponsive> {
        ask(&self.requests, deadline, request).await
    }
}

/// Waits until a handoff is on disk. Where a control plane is to hear of it, whoever acts may not rely on less: a workflow
/// waits for its event.
async fn kept(ledger: &Ledger) -> Result<(), HandoffError> {
    let is_kept = ledger.settle().await;
    if is_kept || !ledger.reports() { Ok(()) } else { Err(HandoffError::NotKept) }
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    deadline: Duration,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Result<T, Unresponsive> {
    let (reply, answer) = oneshot::channel();
    let round_trip = async {
        requests.send(request(reply)).await.map_err(|_closed| Unresponsive)?;
        answer.await.map_err(|_dropped| Unresponsive)
    };
    timeout(deadline, round_trip).await.map_err(|_elapsed| Unresponsive)?
}

//! What ends a session, each to be waited for.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::handoff::Handoffs;
use super::record::End;
use super::status::{ComponentStatus, SessionStatus};
use super::viewer::{Session, Terms};
use crate::clock;

/// How a session is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) end: End,
    /// When what is left of it is killed.
    pub(super) deadline: Instant,
}

/// Waits for whoever may say so to say that it ends; `None` when there is nobody any more.
pub(super) async fn told(ending: &mut watch::Receiver<Option<Ending>>) -> Option<Ending> {
    ending.wait_for(Option::is_some).await.ok().and_then(|ending| ending.clone())
}

/// Waits until less time is left than until `deadline`.
pub(super) async fn hurried(ending: &mut watch::Receiver<Option<Ending>>, deadline: Instant) -> Ending {
    let sooner = |other: &Option<Ending>| other.as_ref().is_some_and(|other| other.deadline < deadline);
    let told = ending.wait_for(sooner).await.ok().and_then(|ending| ending.clone());
    match told {
        Some(sooner) => sooner,
        None => std::future::pending().await,
    }
}

/// Ends when the session's time is over, however it was changed meanwhile.
pub(super) async fn expired(mut terms: watch::Receiver<Terms>) {
    loop {
        let expiry = terms.borrow_and_update().expires.map(|expiry| expiry.at);
        tokio::select! {
            () = clock::until(expiry) => return,
            changed = terms.changed() => if changed.is_err() { std::future::pending::<()>().await },
        }
    }
}

/// Ends when nobody has used the session for as long as its terms say. It is not idle before it was ready.
pub(super) async fn idle(session: &Session, mut terms: watch::Receiver<Terms>) {
    let mut status = session.watch();
    if status.wait_for(|status| status.ready.is_some()).await.is_err() {
        std::future::pending::<()>().await;
    }
    let activity = &session.inner.activity;
    activity.touch(Instant::now());
    let mut handoffs = session.handoffs();
    loop {
        // A human who is wanted may take longer to come, and is what the session is for; that ends by itself.
        if handoffs.borrow_and_update().wants_human() {
            if handoffs.wait_for(|handoffs| !handoffs.wants_human()).await.is_err() {
                std::future::pending::<()>().await;
            }
            activity.touch(Instant::now());
        }
        let limit = terms.borrow_and_update().idle_timeout;
        tokio::select! {
            () = activity.idle(limit) => return,
            changed = terms.changed() => if changed.is_err() { std::future::pending::<()>().await },
            wanted = async { handoffs.wait_for(Handoffs::wants_human).await.is_ok() } => {
                if !wanted {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// Ends when a session has not been ready once within `deadline`, with the part that was in its way and why.
pub(super) async fn not_started(
    mut status: watch::Receiver<SessionStatus>,
    deadline: Option<Duration>,
) -> Option<(&'static str, String)> {
    let Some(deadline) = deadline else { return std::future::pending().await };
    if timeout(deadline, status.wait_for(|status| status.ready.is_some())).await.is_ok() {
        std::future::pending::<()>().await;
    }
    let status = status.borrow();
    let culprit = status.components.iter().find(|component| component.status != ComponentStatus::Ok)?;
    Some((culprit.name, culprit.reason.clone().unwrap_or_else(|| "not up".to_owned())))
}

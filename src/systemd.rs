//! What systemd is told of the daemon: that it is ready, how it is, that it is alive.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ids::SessionId;
use crate::session::{ManagerHandle, SessionState, SessionStatus, Sessions};
use crate::sys;

/// How long the start of the first session may put off `READY=1`; after that, `STATUS=` tells what it waits for.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// What the watchdog's round trip may take of its interval, which systemd measures.
const WATCHDOG_FRACTION: u32 = 2;

/// Tells systemd; without one, this does nothing.
pub(crate) fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sys::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// `READY=1` when the configuration's own session is up, where it has one, or the wait for it has been long enough;
/// `STATUS=` whenever it changes.
pub(crate) async fn notify_state(sessions: Sessions, awaited: Option<SessionId>, over: CancellationToken) {
    let mut told_ready = false;
    let patience = tokio::time::sleep(READY_DEADLINE);
    tokio::pin!(patience);
    let Some(id) = awaited else {
        say(&[NotifyState::Ready]);
        over.cancelled().await;
        return;
    };
    let session = tokio::select! {
        session = sessions.wait_for(&id) => session,
        () = over.cancelled() => return,
    };
    let mut status = session.watch();
    loop {
        let now = status.borrow_and_update().clone();
        let text = format!("session {}: {}", session.id(), describe(&now));
        if !told_ready && now.state == SessionState::Ready {
            told_ready = true;
            say(&[NotifyState::Ready, NotifyState::Status(&text)]);
        } else {
            say(&[NotifyState::Status(&text)]);
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { over.cancelled().await; return },
            () = &mut patience, if !told_ready => {
                told_ready = true;
                say(&[NotifyState::Ready]);
            }
            () = over.cancelled() => return,
        }
    }
}

fn describe(status: &SessionStatus) -> String {
    let word = status.state.as_str();
    let troubles: Vec<_> = status
        .components
        .iter()
        .filter_map(|part| part.reason.as_deref().map(|reason| format!("{} {reason}", part.name)))
        .collect();
    if troubles.is_empty() { word.to_owned() } else { format!("{word} ({})", troubles.join("; ")) }
}

/// Pings systemd at half its interval, each time after a round trip through the manager and the supervisors: were one of
/// them stuck, there would be no ping. While draining they are busy, and the drain has its own budget.
pub(crate) async fn watchdog(
    manager: ManagerHandle,
    period: Duration,
    draining: watch::Receiver<bool>,
    over: CancellationToken,
) {
    let mut ticks = interval(period / WATCHDOG_FRACTION);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while over.run_until_cancelled(ticks.tick()).await.is_some() {
        let alive = *draining.borrow() || manager.ping(period / WATCHDOG_FRACTION).await.is_ok();
        if alive {
            say(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("no watchdog ping: the session manager does not answer");
        }
    }
}

//! Going: the doors close, sessions end, and on a machine that is to go the daemon stays until it is stopped.

use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::wait::{Told, Watch};
use crate::control_plane::LineHandle;
use crate::identity::{self, Notice};
use crate::session::ManagerHandle;
use crate::sys::{Firewall, Host};
use crate::systemd::say;
use crate::tasks::Scope;
use crate::{adspower, errors};

/// Of the drain budget, for telling viewers; browsers and displays have the rest.
const VIEWERS_SHARE: Duration = Duration::from_secs(3);
/// For the operators' listener and the daemon's own tasks, once everything else has stopped.
pub(super) const LAST_SHARE: Duration = Duration::from_secs(1);
/// For the control plane to hear how it all ended, where there is one; of a short budget, no more than a fifth.
const REPORT_SHARE: Duration = Duration::from_secs(2);

/// For AdsPower, once its browsers are closed.
const ADSPOWER_SHARE: Duration = Duration::from_secs(3);
/// What it has where sessions took all the time that there was: one exchange with a receiver that is there.
const LEAST_REPORT: Duration = Duration::from_millis(500);

/// What the control plane has of a drain of `budget` to hear how it all ended. Where the daemon ends with its session, that is
/// all there is left to do, and nobody comes after it who would tell the rest.
pub(super) fn report_share(ended: &Result<Told, Error>, budget: Duration) -> Duration {
    match ended {
        Ok(Told::Over(_)) => budget.saturating_sub(LAST_SHARE),
        _ => REPORT_SHARE.min(budget / 5),
    }
}

/// Ends all sessions by `deadline`, then AdsPower, and tells the control plane within `report` how they ended.
pub(super) async fn end_sessions(
    manager: &ManagerHandle,
    adspower: Option<adspower::Running>,
    line: Option<LineHandle>,
    deadline: Instant,
    report: Duration,
) {
    let left = || deadline.saturating_duration_since(Instant::now()).saturating_sub(LAST_SHARE);
    let for_adspower = if adspower.is_some() { ADSPOWER_SHARE } else { Duration::ZERO };
    let share = line.as_ref().map_or(Duration::ZERO, |_| report.min(left().saturating_sub(for_adspower)));
    manager.stop_all(left().saturating_sub(share + for_adspower)).await;
    if let Some(adspower) = adspower {
        adspower.stop(left().saturating_sub(share)).await;
    }
    if let Some(line) = line {
        line.finish(left().min(share).max(LEAST_REPORT)).await;
    }
}

/// Lets the keeper go, and takes the rules out of force once nothing of a session is left, which must not have an instant
/// without them.
pub(super) async fn put_away(system: &Host, firewall: Option<Firewall>) {
    match system.finish().await {
        Ok(0) => {}
        Ok(count) => tracing::warn!(count, "killed processes that were left after the drain"),
        Err(error) => tracing::error!(error = %errors::chain(&error), "not everything could be stopped"),
    }
    if let Some(firewall) = firewall
        && let Err(error) = firewall.remove().await
    {
        tracing::error!(error = %errors::chain(&error), "the packet filter's table is left");
    }
}

/// What the outside comes in by.
pub(super) struct Doors {
    pub(super) manager: ManagerHandle,
    pub(super) draining: watch::Sender<bool>,
    pub(super) stop_gateway: CancellationToken,
    pub(super) gateway_ended: Option<oneshot::Receiver<()>>,
}

impl Doors {
    /// No new sessions, unready, and viewers told. Once is enough.
    pub(super) async fn close(&mut self) {
        if let Err(error) = self.manager.close().await {
            tracing::error!(%error, "new sessions are not refused yet");
        }
        self.draining.send_replace(true);
        self.stop_gateway.cancel();
        if let Some(ended) = self.gateway_ended.take()
            && timeout(VIEWERS_SHARE, ended).await.is_err()
        {
            tracing::warn!("viewers did not take their goodbye in time");
        }
    }
}

/// Ends all sessions before this machine goes, and stays until it is told to stop: were the daemon to end, a service manager
/// would start another one, which would take sessions on a machine that is going. What it was told then, and when.
pub(super) async fn stand_aside(
    notice: &Notice,
    drain_budget: Duration,
    doors: &mut Doors,
    watch: &mut Watch,
    scope: &mut Scope,
) -> (Result<Told, Error>, Instant) {
    // The machine's notice ends the daemon, and not its session: it stays until it is stopped.
    watch.only = None;
    let given = |notice: &Notice| Instant::now() + identity::budget(notice, drain_budget, SystemTime::now());
    let mut deadline = given(notice);
    let seconds = deadline.saturating_duration_since(Instant::now()).as_secs();
    tracing::warn!(notice = notice.kind.as_str(), seconds, "draining, since this machine is to go");
    // Not `STOPPING=1`: systemd would wait for an end from then on, and kill.
    say(&[NotifyState::Status("draining: this machine is to go")]);
    doors.close().await;
    let mut told = None;
    loop {
        tokio::select! {
            () = doors.manager.drain(deadline.saturating_duration_since(Instant::now())) => break,
            next = watch.wait(scope), if told.is_none() => match next {
                Ok(Told::Leave(notice)) => deadline = deadline.min(given(&notice)),
                // Whoever stops a daemon waits as long as a stop may take, and no longer.
                next => {
                    let now = Instant::now();
                    deadline = deadline.min(now + drain_budget.saturating_sub(LAST_SHARE));
                    told = Some((next, now));
                }
            }
        }
    }
    if let Some(told) = told {
        return told;
    }
    tracing::warn!("drained: waiting to be stopped");
    // Where the drain came before it was ready, systemd would wait for this, and kill.
    say(&[NotifyState::Ready, NotifyState::Status("drained: this machine is to go")]);
    loop {
        match watch.wait(scope).await {
            // Nothing is left to drain.
            Ok(Told::Leave(_)) => {}
            told => return (told, Instant::now()),
        }
    }
}

//! Deriving what a session says of itself from its parts, for as long as it has any.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::sync::watch;

use super::events::Happening;
use super::ledger::Entry;
use super::record::{End, SessionRecord};
use super::status::{BROWSER, Component, ComponentStatus, SessionState, SessionStatus};
use super::telling::Teller;
use super::viewer::Session;
use crate::browser::CrashReason;
use crate::supervise::GroupStatus;
use crate::sys::cgroup;

/// Where a session's status comes from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) services: watch::Receiver<GroupStatus>,
    /// What is not among them: an RFB server that somebody else runs, or a browser that AdsPower opened.
    pub(super) beside: Option<watch::Receiver<Component>>,
    /// Why the session ends, once it does.
    pub(super) end: watch::Receiver<Option<End>>,
}

impl Sources {
    /// The status now, by what it was before.
    pub(super) fn derive(&self, ready: Option<SystemTime>) -> SessionStatus {
        let beside = self.beside.as_ref().map(|component| component.borrow().clone());
        SessionStatus::derive(&self.services.borrow(), beside.as_ref(), self.end.borrow().clone(), ready)
    }

    /// Waits for a change; `false` when there will be none any more.
    async fn changed(&mut self) -> bool {
        let beside_changed = async {
            let changed = match &mut self.beside {
                Some(component) => component.changed().await.is_ok(),
                None => false,
            };
            if !changed {
                // Its watcher ends a little before the services do; what it said last stays.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = self.services.changed() => result.is_ok(),
            result = self.end.changed() => result.is_ok(),
            () = beside_changed => true,
        }
    }
}

/// Who hears of what happens to a session.
#[derive(Clone)]
pub(super) struct Chronicle {
    pub(super) session: Session,
    pub(super) teller: Teller,
    pub(super) entry: Entry,
}

impl Chronicle {
    pub(super) fn tell(&self, what: Happening) {
        self.teller.tell(&self.entry, || self.session.record(), vec![what]);
    }

    /// Writes the session down as it is.
    pub(super) fn enter(&self) {
        self.teller.enter(&self.entry, || self.session.record());
    }
}

/// Publishes the status on `status`, and tells of what changes in it.
pub(super) async fn publish_status(
    mut sources: Sources,
    chronicle: Chronicle,
    status: watch::Sender<SessionStatus>,
) {
    let mut is_first = true;
    loop {
        let before = status.borrow().clone();
        let next = sources.derive(before.ready);
        let first = std::mem::take(&mut is_first);
        let mut news = Vec::new();
        // A warm session is ready from the start, and those who listen wait for that.
        if first || before.state != next.state {
            tracing::info!(session = %chronicle.session.id(), state = next.state.as_str(), "session state");
            news.push(Happening::State(next.state));
        }
        for component in &next.components {
            let known = before.components.iter().find(|known| known.name == component.name);
            // Its processes have run since before it was anybody's, and are entered nowhere yet.
            chronicle.entry.process(known.filter(|_| !first), component);
            if let Some(reason) = newly_failing(before.state, known, component) {
                news.push(Happening::ServiceFailed { service: component.name, reason });
            }
        }
        // Before it can be seen: whoever is told of a state by the API must find it written down.
        if !news.is_empty() {
            let SessionStatus { state, ready, end, components } = next.clone();
            let record = || SessionRecord { state, ready, end, components, ..chronicle.session.record() };
            chronicle.teller.tell(&chronicle.entry, record, news);
        }
        status.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
        if !sources.changed().await {
            return;
        }
    }
}

/// Why a component fails, if it did not before. Reasons may end in what a program said last, after a colon; that may name
/// pages, and events go far.
fn newly_failing(before: SessionState, known: Option<&Component>, component: &Component) -> Option<String> {
    let fails = |component: &Component| component.status == ComponentStatus::Failing;
    if !fails(component) || before.is_over() || known.is_some_and(fails) {
        return None;
    }
    let reason = component.reason.as_deref().unwrap_or_default();
    Some(reason.split(": ").next().unwrap_or_default().to_owned())
}

/// Counts and tells of crashed tabs.
pub(super) struct TabCrashes {
    chronicle: Chronicle,
    /// Of the browser by its pid: the out-of-memory killer's count in its cell, as it was at the last crash.
    kills: (u32, u64),
}

impl TabCrashes {
    pub(super) fn new(chronicle: Chronicle) -> Self {
        Self { chronicle, kills: (0, 0) }
    }

    pub(super) fn tell(&mut self, reason: CrashReason) {
        let reason = if self.is_kernels_doing() && reason == CrashReason::Killed {
            CrashReason::OutOfMemory
        } else {
            reason
        };
        let session = &self.chronicle.session;
        session.inner.counts.tab_crashes.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(session = %session.id(), reason = reason.as_str(), "a tab crashed");
        self.chronicle.tell(Happening::TabCrashed(reason));
    }

    /// Whether the out-of-memory killer took something of the browser since the last crash. Chromium does not know: a SIGKILL
    /// is a SIGKILL.
    fn is_kernels_doing(&mut self) -> bool {
        let components = self.chronicle.session.status().components;
        let browser = components.iter().find(|component| component.name == BROWSER);
        let Some(pid) = browser.and_then(|browser| browser.pid) else { return false };
        let Some(facts) = cgroup::dir_of(pid).ok().and_then(|dir| cgroup::oom(&dir)) else { return false };
        // A browser that was started again has a cell of its own, with a count of its own.
        let before = if self.kills.0 == pid { self.kills.1 } else { 0 };
        self.kills = (pid, facts.kills);
        facts.kills > before
    }
}

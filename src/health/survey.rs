//! Looking at the host's parts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;

use super::assess::{Health, OwnParts, Situation, assess};
use crate::adspower::AdsPower;
use crate::identity::{Announced, Facts};
use crate::ids::SessionId;
use crate::links::Links;
use crate::session::{
    Component, ComponentStatus, Events, ManagerHandle, SessionState, Sessions, adspower_component,
};
use crate::store::StoreHealth;

/// For the round trip through the session manager that each look makes.
const MANAGER_DEADLINE: Duration = Duration::from_secs(1);

/// A part of the daemon that says by itself how it is, and that the host can do without for a while.
pub type Part = watch::Receiver<Component>;

/// What is looked at.
#[derive(Clone)]
pub struct SurveyParams {
    /// The sessions that there are.
    pub sessions: Sessions,
    /// Whether the daemon is about to end.
    pub draining: watch::Receiver<bool>,
    /// Whether what is written down of sessions gets to the disk.
    pub store: watch::Receiver<StoreHealth>,
    /// Who this machine is, once that is known.
    pub host: watch::Receiver<Option<Arc<Facts>>>,
    /// What its cloud announces about it.
    pub announced: watch::Receiver<Announced>,
    /// The configuration's own session, where it has one.
    pub fixed: Option<SessionId>,
    /// The run of the daemon.
    pub run_id: String,
    /// Where the gateway is.
    pub links: Links,
    /// Further parts.
    pub parts: Vec<Part>,
    /// AdsPower, where the host has it.
    pub adspower: Option<AdsPower>,
}

/// Tells how the host is. Cheap to clone.
#[derive(Clone)]
pub struct Survey {
    params: SurveyParams,
    manager: ManagerHandle,
    since: SystemTime,
}

impl Survey {
    /// Looks at `params` and at the manager, from now on.
    pub fn new(params: SurveyParams, manager: ManagerHandle) -> Self {
        Self { params, manager, since: SystemTime::now() }
    }

    /// Who this machine is, once that is known.
    pub fn host(&self) -> Option<Arc<Facts>> {
        self.params.host.borrow().clone()
    }

    /// Waits until it is known who this machine is, for as long as `patience` at most.
    pub async fn known(&self, patience: Duration) {
        let mut host = self.params.host.clone();
        // Unknown or nobody's to say: both are told as they are.
        let _known = timeout(patience, host.wait_for(Option::is_some)).await;
    }

    /// Whatever makes the host another than it was, from now on.
    pub fn changes(&self) -> Changes {
        let SurveyParams { sessions, draining, store, host, announced, .. } = self.params.clone();
        let events = sessions.events();
        Changes { seen: events.newest(), events, sessions, draining, store, host, announced }
    }

    /// Whether the daemon is about to end, or its machine is.
    pub fn is_draining(&self) -> bool {
        *self.params.draining.borrow()
    }

    /// Whether the daemon gets anything done.
    pub async fn is_alive(&self) -> bool {
        // A drain keeps the manager busy, and has its own budget.
        self.is_draining() || self.manager.ping(MANAGER_DEADLINE).await.is_ok()
    }

    /// Whether sessions can be asked for, and the configuration's own, where it has one, is whole. Those that somebody asked
    /// for come and go, and are their own affair.
    pub async fn is_ready(&self) -> bool {
        let SurveyParams { sessions, fixed, .. } = &self.params;
        let is_ready = |id| sessions.get(id).is_some_and(|own| own.status().state == SessionState::Ready);
        !self.is_draining()
            && !sessions.occupancy().refusing
            && fixed.as_ref().is_none_or(is_ready)
            && self.is_alive().await
    }

    /// How everything is.
    pub async fn health(&self) -> Health {
        let SurveyParams { sessions, store, announced, fixed, parts, adspower, .. } = &self.params;
        let draining = self.is_draining();
        let (status, reason) = match self.manager.ping(MANAGER_DEADLINE).await {
            Ok(()) => (ComponentStatus::Ok, None),
            // A drain keeps the manager busy; that is no fault.
            Err(_) if draining => (ComponentStatus::Ok, None),
            Err(error) => (ComponentStatus::Failing, Some(error.to_string())),
        };
        let pid = Some(std::process::id());
        let manager = Component { name: "manager", status, since: self.since, reason, pid, starts: 1 };
        let (status, since, reason) = match &*store.borrow() {
            StoreHealth::Ok => (ComponentStatus::Ok, self.since, None),
            StoreHealth::Failing { since, reason } => {
                (ComponentStatus::Failing, *since, Some(reason.clone()))
            }
        };
        let store = Component { name: "store", status, since, reason, pid: None, starts: 1 };
        let further = parts.iter().map(|part| part.borrow().clone());
        let others =
            std::iter::once(store).chain(further).chain(adspower.as_ref().map(adspower_component)).collect();
        let mut statuses: Vec<_> =
            sessions.all().iter().map(|session| (session.id().clone(), session.status())).collect();
        statuses.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (host, announced) = (self.host(), announced.borrow().clone());
        let situation = Situation {
            fixed: fixed.as_ref(),
            draining,
            occupancy: sessions.occupancy(),
            run_id: &self.params.run_id,
            gateway_url: self.params.links.gateway(),
            host: host.as_deref(),
            notice: announced.gravest(),
        };
        assess(OwnParts { manager, others }, &statuses, &situation)
    }
}

/// News of what a [`Survey`] looks at, but for its further parts.
pub struct Changes {
    events: Events,
    seen: u64,
    sessions: Sessions,
    draining: watch::Receiver<bool>,
    store: watch::Receiver<StoreHealth>,
    host: watch::Receiver<Option<Arc<Facts>>>,
    announced: watch::Receiver<Announced>,
}

impl Changes {
    /// Waits until there is some. Cancel safe.
    pub async fn next(&mut self) {
        tokio::select! {
            () = self.events.wait_past(self.seen) => self.seen = self.events.newest(),
            () = self.sessions.changed() => {}
            () = changed(&mut self.draining) => {}
            () = changed(&mut self.store) => {}
            () = changed(&mut self.host) => {}
            () = changed(&mut self.announced) => {}
        }
    }
}

async fn changed<T>(what: &mut watch::Receiver<T>) {
    // Whoever said it is gone, and there is no more to say.
    if what.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

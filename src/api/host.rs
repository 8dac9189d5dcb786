//! What is asked about the host as a whole: alive, ready, health, metrics, capacity, status.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Context, State, json};
use super::health::{self, Health, HealthStatus};
use super::refused::{Refused, Trouble};
use super::view::Capacity;
use crate::errors::chain;
use crate::http::body::uncached;
use crate::ids::SessionId;
use crate::metrics;
use crate::session::{Component, ComponentStatus, SessionState, Viewers};
use crate::store::StoreHealth;

/// For the round trip through the session manager that each answer about health makes.
const MANAGER_DEADLINE: Duration = Duration::from_secs(1);

/// The answer of `GET /v1/status`, for operators on this host only.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    health: Health,
    pid: u32,
    uptime_seconds: u64,
    /// What the machine is tagged with, where it may know.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    host_tags: BTreeMap<String, String>,
    sessions: Vec<SessionReport>,
}

/// A session with every detail.
#[derive(Debug, Serialize, ToSchema)]
struct SessionReport {
    #[schema(value_type = String)]
    id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user: Option<String>,
    state: SessionState,
    viewers: Viewers,
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    display: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    devtools_port: Option<u16>,
}

pub(super) async fn alive(state: &State) -> bool {
    // A drain keeps the manager busy, and has its own budget.
    *state.draining.borrow() || state.manager.ping(MANAGER_DEADLINE).await.is_ok()
}

/// Whether sessions can be asked for, and the configuration's own, where it has one, is whole. Those that somebody asked for
/// come and go, and are their own affair.
pub(super) async fn ready(state: &State) -> bool {
    let is_ready = |id| state.sessions.get(id).is_some_and(|own| own.status().state == SessionState::Ready);
    !*state.draining.borrow() && state.fixed.as_ref().is_none_or(is_ready) && alive(state).await
}

async fn health(state: &State) -> Health {
    let (status, reason) = match state.manager.ping(MANAGER_DEADLINE).await {
        Ok(()) => (ComponentStatus::Ok, None),
        // A drain keeps the manager busy; that is no fault.
        Err(_) if *state.draining.borrow() => (ComponentStatus::Ok, None),
        Err(error) => (ComponentStatus::Failing, Some(error.to_string())),
    };
    let manager = Component {
        name: "manager",
        status,
        since: state.since,
        reason,
        pid: Some(std::process::id()),
        starts: 1,
    };
    let (status, since, reason) = match &*state.store.borrow() {
        StoreHealth::Ok => (ComponentStatus::Ok, state.since, None),
        StoreHealth::Failing { since, reason } => (ComponentStatus::Failing, *since, Some(reason.clone())),
    };
    let store = Component { name: "store", status, since, reason, pid: None, starts: 1 };
    let mut sessions: Vec<_> =
        state.sessions.all().iter().map(|session| (session.id().clone(), session.status())).collect();
    sessions.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (host, announced) = (state.host.borrow().clone(), state.announced.borrow().clone());
    let situation = health::Situation {
        fixed: state.fixed.as_ref(),
        draining: *state.draining.borrow(),
        occupancy: state.sessions.occupancy(),
        host: host.as_deref(),
        notice: announced.gravest(),
    };
    health::assess(health::OwnParts { manager, store }, &sessions, &situation)
}

pub(super) async fn health_response(state: &State) -> Response<Full<Bytes>> {
    let health = health(state).await;
    json(status_of(health.status), &health)
}

/// A pollers' word as an HTTP status.
pub(super) fn status_of(health: HealthStatus) -> StatusCode {
    match health {
        HealthStatus::Ok | HealthStatus::Degraded => StatusCode::OK,
        HealthStatus::Failing => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub(super) fn metrics_response(state: &State) -> Result<Response<Full<Bytes>>, Box<Refused>> {
    match metrics::render(&state.registry) {
        Ok(text) => Ok(uncached(StatusCode::OK, metrics::CONTENT_TYPE, text)),
        Err(error) => {
            tracing::error!(error = %chain(&error), "cannot write the metrics");
            Err(Trouble::Internal.into())
        }
    }
}

pub(super) async fn status(state: &State) -> Status {
    let report = |session: &crate::session::Session| {
        let record = session.record();
        SessionReport {
            id: record.id,
            user: record.user.map(|user| user.to_string()),
            state: record.state,
            viewers: record.viewers,
            components: record.components,
            display: record.display,
            devtools_port: record.devtools_port,
        }
    };
    let mut sessions: Vec<_> = state.sessions.all().iter().map(report).collect();
    sessions.sort_by(|a, b| a.id.cmp(&b.id));
    Status {
        health: health(state).await,
        pid: std::process::id(),
        uptime_seconds: state.started.elapsed().as_secs(),
        host_tags: state.host.borrow().as_ref().map(|host| host.tags.clone()).unwrap_or_default(),
        sessions,
    }
}

impl Context {
    /// `GET /v1/capacity`.
    pub(super) fn capacity(&self) -> Response<Full<Bytes>> {
        let capacity = Capacity::of(&self.state.sessions.occupancy(), *self.state.draining.borrow());
        json(StatusCode::OK, &capacity)
    }
}

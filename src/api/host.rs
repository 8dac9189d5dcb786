//! What is asked about the host as a whole: alive, ready, health, metrics, capacity, status.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Context, State, json};
use super::refused::{Refused, Trouble};
use super::view::{Capacity, ScreenSize};
use super::watching::{ScreenView, ViewerView};
use crate::errors::chain;
use crate::health::{Health, HealthStatus};
use crate::http::body::uncached;
use crate::ids::SessionId;
use crate::metrics;
use crate::session::{Component, SessionState, Viewers};

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
    /// The same one by one.
    watching: Vec<ViewerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    screen: Option<ScreenView>,
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    display: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    display_size: Option<ScreenSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    devtools_port: Option<u16>,
}

pub(super) async fn health_response(state: &State) -> Response<Full<Bytes>> {
    let health = state.survey.health().await;
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
            watching: record.watching.into_iter().map(ViewerView::from).collect(),
            screen: record.screen.map(ScreenView::from),
            components: record.components,
            display: record.display,
            display_size: record.display_size.map(ScreenSize::from),
            devtools_port: record.devtools_port,
        }
    };
    let mut sessions: Vec<_> = state.sessions.all().iter().map(report).collect();
    sessions.sort_by(|a, b| a.id.cmp(&b.id));
    Status {
        health: state.survey.health().await,
        pid: std::process::id(),
        uptime_seconds: state.started.elapsed().as_secs(),
        host_tags: state.survey.host().map(|host| host.tags.clone()).unwrap_or_default(),
        sessions,
    }
}

impl Context {
    /// `GET /v1/capacity`.
    pub(super) fn capacity(&self) -> Response<Full<Bytes>> {
        let capacity = Capacity::of(&self.state.sessions.occupancy(), self.state.survey.is_draining());
        json(StatusCode::OK, &capacity)
    }
}

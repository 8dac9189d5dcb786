//! What the operators' side answers.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus::Registry;
use serde::Serialize;
use tokio::sync::watch;

use super::access::may_operate;
use super::health::{self, Health, HealthStatus};
use crate::http::{Peer, PeerAddress, Problem, Reply, RequestId};
use crate::ids::SessionId;
use crate::metrics;
use crate::session::{Component, ComponentStatus, ManagerHandle, SessionState, Sessions, Viewers};

/// For the round trip through the session manager that each answer about health makes.
const MANAGER_DEADLINE: Duration = Duration::from_secs(1);

/// What the routes look at.
pub(super) struct State {
    pub(super) sessions: Sessions,
    pub(super) manager: ManagerHandle,
    pub(super) registry: Registry,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) since: SystemTime,
    pub(super) started: Instant,
}

/// The answer of `GET /v1/status`, for operators on this host only.
#[derive(Debug, Serialize)]
struct Status {
    health: Health,
    pid: u32,
    uptime_seconds: u64,
    sessions: Vec<SessionReport>,
}

/// A session with every detail.
#[derive(Debug, Serialize)]
struct SessionReport {
    id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    state: SessionState,
    viewers: Viewers,
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    devtools_port: Option<u16>,
}

/// Answers one request.
pub(super) async fn answer(state: Arc<State>, request: Request<Incoming>, peer: Arc<Peer>) -> Reply {
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::generate);
    let local = matches!(peer.address, PeerAddress::Unix { .. });
    if let PeerAddress::Unix { uid, gid } = peer.address
        && !may_operate(uid, gid)
    {
        let problem =
            Problem::new(StatusCode::FORBIDDEN, "forbidden", "Only root and the valetd group may ask here.");
        return problem.response(&id).into();
    }
    peer.authenticated();
    let path = request.uri().path();
    let known =
        matches!(path, "/livez" | "/readyz" | "/health" | "/metrics") || (local && path == "/v1/status");
    if !known {
        return Problem::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here.")
            .response(&id)
            .into();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let problem =
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Only GET is answered here.");
        return problem.response(&id).into();
    }
    match path {
        "/livez" => word(state.alive().await, "alive", "dead"),
        "/readyz" => word(state.ready().await, "ready", "unready"),
        "/health" => state.health_response().await,
        "/metrics" => state.metrics_response(&id),
        _status => json(StatusCode::OK, &state.status().await),
    }
    .into()
}

impl State {
    async fn alive(&self) -> bool {
        // A drain keeps the manager busy, and has its own budget.
        *self.draining.borrow() || self.manager.ping(MANAGER_DEADLINE).await.is_ok()
    }

    async fn ready(&self) -> bool {
        let sessions = self.sessions.all();
        !*self.draining.borrow()
            && !sessions.is_empty()
            && sessions.iter().all(|session| session.status().state == SessionState::Ready)
            && self.alive().await
    }

    async fn health(&self) -> Health {
        let (status, reason) = match self.manager.ping(MANAGER_DEADLINE).await {
            Ok(()) => (ComponentStatus::Ok, None),
            // A drain keeps the manager busy; that is no fault.
            Err(_) if *self.draining.borrow() => (ComponentStatus::Ok, None),
            Err(error) => (ComponentStatus::Failing, Some(error.to_string())),
        };
        let manager = Component {
            name: "manager",
            status,
            since: self.since,
            reason,
            pid: Some(std::process::id()),
            starts: 1,
        };
        let sessions: Vec<_> =
            self.sessions.all().iter().map(|session| (session.id().clone(), session.status())).collect();
        health::assess(manager, &sessions, *self.draining.borrow())
    }

    async fn health_response(&self) -> Response<Full<Bytes>> {
        let health = self.health().await;
        let status = match health.status {
            HealthStatus::Ok | HealthStatus::Degraded => StatusCode::OK,
            HealthStatus::Failing => StatusCode::SERVICE_UNAVAILABLE,
        };
        json(status, &health)
    }

    fn metrics_response(&self, id: &RequestId) -> Response<Full<Bytes>> {
        match metrics::render(&self.registry) {
            Ok(text) => respond(StatusCode::OK, metrics::CONTENT_TYPE, text.into()),
            Err(error) => {
                tracing::error!(request_id = %id, error = %crate::errors::chain(&error), "cannot write the metrics");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The metrics cannot be written.")
                    .response(id)
            }
        }
    }

    async fn status(&self) -> Status {
        let report = |session: &crate::session::Session| {
            let status = session.status();
            let facts = session.facts();
            SessionReport {
                id: session.id().clone(),
                user: session.user().map(ToString::to_string),
                state: status.state,
                viewers: session.viewers(),
                components: status.components,
                display: facts
                    .display
                    .as_ref()
                    .and_then(|display| display.address().ok())
                    .map(|address| format!(":{}", address.number)),
                devtools_port: facts.devtools_port.as_ref().and_then(|port| *port.borrow()),
            }
        };
        Status {
            health: self.health().await,
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            sessions: self.sessions.all().iter().map(report).collect(),
        }
    }
}

fn word(yes: bool, when: &'static str, otherwise: &'static str) -> Response<Full<Bytes>> {
    let (status, text) =
        if yes { (StatusCode::OK, when) } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise) };
    respond(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => respond(status, "application/json", body.into()),
        // Plain data with text keys; kept as an answer, since a panic would take the connection along.
        Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", Bytes::new()),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

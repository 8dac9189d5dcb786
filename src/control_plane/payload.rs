//! What is sent, and what is answered. `docs/control-plane.openapi.yaml` describes these types.
//!
//! Times are Unix times in seconds. What a receiver does not know it should leave alone: fields are added, never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::{ms_as_seconds, unix_seconds};
use crate::health::{Health, HealthNotice};
use crate::links::Links;
use crate::session::{SessionRecord, SessionState, Viewers};
use crate::store::{EventRow, Outbox};

/// Of this form of the reports.
pub(super) const PROTOCOL: u32 = 1;

/// Which host speaks, in which of its lives.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Origin {
    /// The provider's name for the machine; not there while nobody has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "i-0123456789abcdef0")]
    pub host_id: Option<String>,
    /// The same as long as the machine is up.
    pub boot_id: String,
    /// The same as long as the daemon runs.
    pub run_id: String,
}

/// The first that is heard of a daemon. The same again is no other registration: a lost answer costs nothing.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Registration {
    /// Of this form of the reports: 1.
    pub protocol: u32,
    /// Who speaks.
    pub origin: Origin,
    /// When this was sent, by the host's clock.
    pub sent_at: f64,
    /// The port of the host API, for commands and for pulling.
    pub api_port: u16,
    /// What `GET /health` answers.
    pub health: Health,
}

/// How a host is. Each tells all of it: one that is lost is made good by the next.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Heartbeat {
    /// Of this form of the reports: 1.
    pub protocol: u32,
    /// Who speaks.
    pub origin: Origin,
    /// Counts the heartbeats of a run from 1: one with a lower number than the last is late, and is of no use.
    pub sequence: u64,
    /// When this was sent, by the host's clock.
    pub sent_at: f64,
    /// How far the receiver's clock is ahead of the host's, by its last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub clock_skew_seconds: Option<f64>,
    /// The port of the host API.
    pub api_port: u16,
    /// What `GET /health` answers: how everything is, and how full.
    pub health: Health,
    /// All that the machine's cloud has announced about it.
    pub notices: Vec<HealthNotice>,
    /// The sessions that are there.
    pub sessions: Vec<ReportedSession>,
    /// The events that have not been taken yet.
    pub events: Backlog,
}

/// A session that is there.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ReportedSession {
    /// Its id. Once it has ended another session may get the same one.
    pub session_id: String,
    /// When it was asked for; with its id, which of all sessions it is.
    pub created_at: f64,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user_id: Option<String>,
    /// `chromium` or `adspower`.
    pub kind: &'static str,
    /// The profile that outlives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub profile: Option<String>,
    /// What it can do.
    pub state: SessionState,
    /// When it ends at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expires_at: Option<f64>,
    /// The caller's words.
    pub labels: BTreeMap<String, String>,
    /// Who is looking.
    pub viewers: Viewers,
    /// How many automations are connected.
    pub automations: usize,
    /// Handoffs that wait for a human.
    pub open_handoffs: usize,
    /// The page to look at it with. It asks for a token, as do the others.
    pub viewer_url: String,
    /// RFB over WebSocket.
    pub vnc_url: String,
    /// CDP over WebSocket. Not there where the session has no browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cdp_url: Option<String>,
}

impl ReportedSession {
    /// A session as it is.
    pub fn of(record: SessionRecord, links: &Links) -> Self {
        let has_browser = record.has_browser();
        Self {
            viewer_url: links.viewer(&record.id, None),
            vnc_url: links.vnc(&record.id),
            cdp_url: has_browser.then(|| links.cdp(&record.id)),
            session_id: record.id.to_string(),
            created_at: unix_seconds(record.created),
            user_id: record.user.map(|user| user.to_string()),
            kind: record.kind.as_str(),
            profile: record.profile.map(|profile| profile.to_string()),
            state: record.state,
            expires_at: record.expires.map(unix_seconds),
            open_handoffs: record.handoffs.iter().filter(|handoff| handoff.closing.is_none()).count(),
            labels: record.labels,
            viewers: record.viewers,
            automations: record.automations,
        }
    }
}

/// Events that have not been taken, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Backlog {
    /// Those that wait on the host's disk.
    pub waiting: u64,
    /// How long the oldest has waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub oldest_age_seconds: Option<f64>,
    /// Those that will never come, since too many waited; counted for as long as there has been the host's state.
    pub dropped: u64,
    /// Those that the receiver would not take (400, 413, 422), counted likewise. The host keeps them to be looked at.
    pub set_aside: u64,
}

impl Backlog {
    /// The outbox as it is at `now_ms`.
    pub fn of(outbox: &Outbox, now_ms: i64) -> Self {
        let age = |oldest: i64| ms_as_seconds(now_ms.saturating_sub(oldest));
        Self {
            waiting: outbox.waiting,
            oldest_age_seconds: outbox.oldest_ms.map(age),
            dropped: outbox.dropped,
            set_aside: outbox.set_aside,
        }
    }
}

/// What has happened, the oldest first. At least once: what was not acknowledged comes again, with the same ids.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Events {
    /// Of this form of the reports: 1.
    pub protocol: u32,
    /// Who speaks.
    pub origin: Origin,
    /// When this was sent, by the host's clock: what `at` is to be compared with.
    pub sent_at: f64,
    /// Events that will never come, since too many waited, as in the heartbeat.
    pub dropped: u64,
    /// They. Of a session, the next comes only after the one before it was acknowledged.
    pub events: Vec<Event>,
}

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// The same each time that this event comes, and no other's: the key to take it once by.
    #[schema(example = "e-00112233445566778899aabbccddeeff")]
    pub id: String,
    /// The session.
    pub session_id: String,
    /// When the session was asked for; with its id, which of all sessions it is.
    pub session_created_at: f64,
    /// Counts the session's events from 1. One that is missing was dropped or set aside.
    pub number: i64,
    /// `session.created`, `session.state`, `session.ended`, `service.failed`, `tab.crashed`, `profile.reset`, `human.requested`,
    /// `human.resolved`, `human.approved`, `human.rejected`, `human.expired` or `human.cancelled`; others may come.
    pub kind: String,
    /// When it happened, by the host's clock.
    pub at: f64,
    /// The session's labels at that time.
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Value,
    /// What is particular to it: what `GET /v1/events` tells of it too.
    #[schema(value_type = Object)]
    pub data: Value,
}

impl From<&EventRow> for Event {
    fn from(row: &EventRow) -> Self {
        let object = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| serde_json::json!({}));
        Self {
            id: row.id.clone(),
            session_id: row.session.id.to_string(),
            session_created_at: ms_as_seconds(row.session.created_ms),
            number: row.number,
            kind: row.kind.clone(),
            at: ms_as_seconds(row.at_ms),
            labels: object(&row.labels),
            data: object(&row.payload),
        }
    }
}

/// The answer to events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Receipt {
    /// How many of them, from the first on, are taken for good and need not come again.
    pub accepted: usize,
}

/// The answer to a registration or a heartbeat: an object, in which nothing is looked for yet.
#[derive(Debug, Clone, PartialEq, Eq, ToSchema)]
pub struct Taken {}

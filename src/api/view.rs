//! A session and the host's occupancy as the API shows them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::handoffs::HandoffView;
use super::watching::{ScreenView, ViewerView};
use crate::clock::unix_seconds;
use crate::durations;
use crate::health::Spares;
use crate::session::{Component, End, Occupancy, SessionRecord, SessionState, Viewers};

/// A session. Times are Unix times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionView {
    /// Its id.
    session_id: String,
    /// Whose it is; a token for it must name this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<String>,
    /// `chromium` or `adspower`.
    #[schema(value_type = super::create::KindWord)]
    kind: &'static str,
    /// The profile that outlives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    profile: Option<String>,
    /// What it can do.
    state: SessionState,
    /// When it was asked for.
    created_at: f64,
    /// When everything of it answered for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ready_at: Option<f64>,
    /// When it ends at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<f64>,
    /// Ends it when nobody has used it for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "15m")]
    idle_timeout: Option<String>,
    /// When it was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ended_at: Option<f64>,
    /// Why it ended, or is ending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    end: Option<EndView>,
    /// What of it was ready before it was asked for: `cold`, `display` or `browser`.
    warmth: &'static str,
    /// The caller's words.
    labels: BTreeMap<String, String>,
    /// Requests for a human and what came of them, the oldest first.
    handoffs: Vec<HandoffView>,
    /// Its parts, in the order in which they start.
    components: Vec<Component>,
    /// Who is looking.
    viewers: Viewers,
    /// The same one by one, those who came first first.
    watching: Vec<ViewerView>,
    /// What looking at its display comes to, where that is served natively.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    screen: Option<ScreenView>,
    /// How many automations are connected.
    automations: usize,
    /// Tabs that crashed and were left as they were.
    tab_crashes: u64,
    /// The X display, while one is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = ":7")]
    display: Option<String>,
    /// How large it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    display_size: Option<ScreenSize>,
    /// The DevTools port on the host's loopback, while a browser is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    devtools_port: Option<u16>,
    /// Whether `wait` ran out before the session was what was waited for. Not there otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    wait_timed_out: bool,
}

impl SessionView {
    /// The session as it is after somebody waited, perhaps in vain.
    pub(super) fn waited(record: SessionRecord, timed_out: bool) -> Self {
        Self { wait_timed_out: timed_out, ..record.into() }
    }
}

/// Width and height of a display, in pixels. Viewers may change them where the configuration lets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ScreenSize {
    width: u16,
    height: u16,
}

impl From<(u16, u16)> for ScreenSize {
    fn from((width, height): (u16, u16)) -> Self {
        Self { width, height }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = End)]
pub(super) struct EndView {
    /// `requested`, `expired`, `idle`, `start_failed`, `host_draining` or `host_died`.
    cause: &'static str,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
}

impl From<End> for EndView {
    fn from(end: End) -> Self {
        Self { cause: end.cause.as_str(), reason: end.reason }
    }
}

impl From<SessionRecord> for SessionView {
    fn from(record: SessionRecord) -> Self {
        Self {
            session_id: record.id.to_string(),
            user_id: record.user.map(|user| user.to_string()),
            kind: record.kind.as_str(),
            profile: record.profile.map(|profile| profile.to_string()),
            state: record.state,
            created_at: unix_seconds(record.created),
            ready_at: record.ready.map(unix_seconds),
            expires_at: record.expires.map(unix_seconds),
            idle_timeout: record
                .idle_timeout_seconds
                .map(|seconds| durations::write(std::time::Duration::from_secs(seconds))),
            ended_at: record.ended.map(unix_seconds),
            end: record.end.map(EndView::from),
            warmth: record.warmth.as_str(),
            labels: record.labels,
            handoffs: record.handoffs.iter().map(|handoff| HandoffView::from(&**handoff)).collect(),
            components: record.components,
            viewers: record.viewers,
            watching: record.watching.into_iter().map(ViewerView::from).collect(),
            screen: record.screen.map(ScreenView::from),
            automations: record.automations,
            tab_crashes: record.tab_crashes,
            display: record.display,
            display_size: record.display_size.map(ScreenSize::from),
            devtools_port: record.devtools_port,
            wait_timed_out: false,
        }
    }
}

/// Sessions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionList)]
pub(super) struct SessionList {
    /// Those that were asked for.
    pub(super) sessions: Vec<SessionView>,
    /// Whether there are more than were asked for.
    pub(super) more: bool,
}

/// How full the host is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct Capacity {
    /// Sessions that it takes at a time.
    capacity: usize,
    /// Those that are there: starting, running and ending ones.
    occupied: usize,
    /// Sessions that could be created now.
    free: usize,
    /// Requests that wait for a place.
    queued: usize,
    /// What is ready for sessions to come.
    spares: Spares,
    /// Whether the host takes no new sessions, because it is about to end or its machine is.
    draining: bool,
    /// Whether it takes none because the control plane does not know it.
    refused: bool,
}

impl Capacity {
    pub(super) fn of(occupancy: &Occupancy, draining: bool) -> Self {
        let free = if draining || occupancy.refusing {
            0
        } else {
            occupancy.capacity.saturating_sub(occupancy.occupied)
        };
        Self {
            capacity: occupancy.capacity,
            occupied: occupancy.occupied,
            free,
            queued: occupancy.queued,
            spares: Spares::of(occupancy),
            draining,
            refused: occupancy.refusing,
        }
    }
}

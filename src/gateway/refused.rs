//! Every way in which the gateway says no before an upgrade: one table.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Response, StatusCode};

use super::screenshot::NoScreenshot;
use crate::auth::Refusal;
use crate::http::{Problem, RequestId};

/// When a viewer that found the session full may come again.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// How long a drained daemon is likely to be away.
const DRAIN_RETRY: Duration = Duration::from_secs(5);

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The credential.
    Credential(Refusal),
    /// A page of somebody else's, or one that does not say whose it is with a credential that any page may send.
    Origin,
    /// No such path.
    NoRoute,
    /// A good credential for a session that is not here.
    NoSession,
    /// A WebSocket route without a WebSocket.
    UpgradeRequired,
    /// A broken WebSocket request.
    BadUpgrade,
    /// The session has its viewers.
    TooManyViewers,
    /// The session cannot be shown yet.
    NotReady(Duration),
    /// The session has its automations.
    TooManyAutomations,
    /// The session's browser is not up.
    BrowserNotReady(Duration),
    /// The browser has no such target, or none that the role may act on.
    NoTarget,
    /// A URL that the role may not open.
    BadUrl,
    /// A request that does not say to whom it came.
    NoHost,
    /// A query that is not understood.
    BadQuery,
    /// A screenshot that is not made.
    Screenshot(NoScreenshot),
    /// A body that is not understood.
    BadBody,
    /// The session has no such handoff.
    NoHandoff,
    /// The handoff is over, and otherwise.
    HandoffOver,
    /// The answer is taken, and not on disk yet.
    NotKept,
    /// The session is over, or about to be.
    SessionEnding,
    /// We are going.
    Draining,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Credential(refusal)
    }
}

impl Refused {
    /// Status, problem, sentence, metric label.
    fn outside(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        const AWAY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::Credential(refusal) => {
                let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
                let title = match status {
                    StatusCode::FORBIDDEN => "The credential does not allow this.",
                    StatusCode::TOO_MANY_REQUESTS => "Too many credentials are in use.",
                    _ => "A valid credential is needed.",
                };
                (status, refusal.problem(), title, refusal.label())
            }
            Self::Origin => {
                (StatusCode::FORBIDDEN, "origin-not-allowed", "This origin may not connect.", "origin")
            }
            Self::NoRoute => (StatusCode::NOT_FOUND, "not-found", "There is nothing here.", "no_route"),
            Self::NoSession => {
                (StatusCode::NOT_FOUND, "unknown-session", "The session is not on this host.", "no_session")
            }
            Self::UpgradeRequired => (
                StatusCode::UPGRADE_REQUIRED,
                "upgrade-required",
                "This is a WebSocket, version 13.",
                "no_upgrade",
            ),
            Self::BadUpgrade => (
                StatusCode::BAD_REQUEST,
                "bad-upgrade",
                "The request does not open a WebSocket.",
                "bad_upgrade",
            ),
            Self::TooManyViewers => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-viewers",
                "The session has as many viewers as it may.",
                "viewers",
            ),
            Self::NotReady(_) => (AWAY, "not-ready", "The session cannot be shown yet.", "not_ready"),
            Self::TooManyAutomations => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-automations",
                "The session has as many CDP connections as it may.",
                "automations",
            ),
            Self::BrowserNotReady(_) => {
                (AWAY, "not-ready", "The session's browser is not up yet.", "browser_not_ready")
            }
            Self::NoTarget => {
                (StatusCode::NOT_FOUND, "unknown-target", "The browser has no such target.", "no_target")
            }
            Self::BadUrl => (StatusCode::FORBIDDEN, "url-not-allowed", "This URL may not be opened.", "url"),
            Self::NoHost => {
                (StatusCode::BAD_REQUEST, "bad-host", "The request has no usable Host.", "no_host")
            }
            Self::BadQuery => {
                (StatusCode::BAD_REQUEST, "invalid-request", "The query is not understood.", "query")
            }
            Self::Screenshot(why) => why.outside(),
            Self::BadBody => {
                (StatusCode::BAD_REQUEST, "invalid-request", "The body is not understood.", "body")
            }
            Self::NoHandoff => {
                (StatusCode::NOT_FOUND, "unknown-handoff", "The session has no such handoff.", "no_handoff")
            }
            Self::HandoffOver => {
                (StatusCode::CONFLICT, "handoff-over", "The handoff is over, and otherwise.", "handoff_over")
            }
            Self::NotKept => {
                (AWAY, "not-kept", "It is so, and not on disk yet: ask again until it is.", "not_kept")
            }
            Self::SessionEnding => {
                (StatusCode::CONFLICT, "session-over", "The session is over, or about to be.", "session_over")
            }
            Self::Draining => {
                (StatusCode::SERVICE_UNAVAILABLE, "draining", "The host is going away.", "draining")
            }
        }
    }

    /// Label of the refusal counter.
    pub(super) fn label(self) -> &'static str {
        self.outside().3
    }

    /// What the client gets.
    pub(super) fn response(self, request_id: &RequestId) -> Response<Full<Bytes>> {
        let (status, name, title, _) = self.outside();
        let problem = Problem::new(status, name, title);
        let problem = match self {
            Self::TooManyViewers | Self::TooManyAutomations | Self::Credential(Refusal::Exhausted) => {
                problem.retry_after(FULL_RETRY)
            }
            Self::NotReady(after)
            | Self::BrowserNotReady(after)
            | Self::Screenshot(NoScreenshot::Busy(after)) => problem.retry_after(after),
            Self::Draining | Self::NotKept => problem.retry_after(DRAIN_RETRY),
            _ => problem,
        };
        let mut response = problem.response(request_id);
        if self == Self::UpgradeRequired {
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

//! Requests for a human, for whoever is at the screen: what is wanted, and the answer.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::refused::Refused;
use crate::clock::unix_seconds;
use crate::http::body::{self, uncached};
use crate::ids::{HandoffId, UserId};
use crate::session::{
    Answer, Decision, HandoffDenial, HandoffError, Handoffs, MAX_NOTE_BYTES, Session, check_words,
};

/// How long a viewer may be kept waiting for news: below the silence that proxies allow.
const WAIT: Duration = Duration::from_secs(20);
/// Before the listener would cut the connection.
const MARGIN: Duration = Duration::from_secs(10);
/// An answer with the longest note, every byte of it escaped.
const MAX_BODY_BYTES: usize = 16 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What is wanted of a human now.
#[derive(Serialize)]
struct Wanted {
    /// To be sent along as `after`, to wait for news.
    version: u64,
    /// The host's clock as a Unix time in seconds, since a viewer's may be set otherwise.
    now: f64,
    handoffs: Vec<Open>,
}

#[derive(Serialize)]
struct Open {
    handoff_id: String,
    kind: &'static str,
    reason: String,
    created_at: f64,
    expires_at: f64,
}

/// What a page sends to answer one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    outcome: String,
    note: Option<String>,
}

/// The session's open handoffs; with `?after=`, as soon as there is news after that version, or none for a while.
pub(super) async fn wanted(
    session: &Session,
    query: Option<&str>,
    connection_closes: Instant,
) -> Result<Response<Full<Bytes>>, Refused> {
    let after = match query.and_then(|query| query.strip_prefix("after=")) {
        Some(number) => Some(number.parse::<u64>().map_err(|_| Refused::BadQuery)?),
        None if query.is_some() => return Err(Refused::BadQuery),
        None => None,
    };
    let mut handoffs = session.handoffs();
    if let Some(after) = after {
        // A number of an earlier session of this id is news as well.
        let news = handoffs.wait_for(|handoffs| handoffs.version() != after);
        // Its time is over, or so is the session: what there is is told all the same.
        let until = connection_closes.checked_sub(MARGIN).unwrap_or(connection_closes);
        let _told = timeout_at(until.min(Instant::now() + WAIT), news).await;
    }
    let wanted = open(&handoffs.borrow());
    Ok(json(&wanted))
}

fn open(handoffs: &Handoffs) -> Wanted {
    let open = handoffs.all().filter(|handoff| handoff.closing.is_none());
    Wanted {
        version: handoffs.version(),
        now: unix_seconds(SystemTime::now()),
        handoffs: open
            .map(|handoff| Open {
                handoff_id: handoff.id.to_string(),
                kind: handoff.kind.as_str(),
                reason: handoff.reason.clone(),
                created_at: unix_seconds(handoff.created),
                expires_at: unix_seconds(handoff.expires),
            })
            .collect(),
    }
}

/// Takes an answer.
pub(super) async fn resolve(
    session: &Session,
    handoff: &HandoffId,
    by: &UserId,
    body: Incoming,
) -> Result<Response<Full<Bytes>>, Refused> {
    let bytes = body::read(body, MAX_BODY_BYTES, BODY_DEADLINE).await.map_err(|_| Refused::BadBody)?;
    let Answered { outcome, note } = serde_json::from_slice(&bytes).map_err(|_| Refused::BadBody)?;
    let decision = Decision::of(&outcome).map_err(|_| Refused::BadBody)?;
    if let Some(note) = &note {
        check_words(note, MAX_NOTE_BYTES).map_err(|_| Refused::BadBody)?;
    }
    let answer = Answer { decision, note, by: format!("user {by}") };
    let (handoff, is_news) = session.answer(handoff, answer).await.map_err(|error| match error {
        HandoffError::Denied(HandoffDenial::Unknown) => Refused::NoHandoff,
        HandoffError::Denied(_) => Refused::HandoffOver,
        HandoffError::Unknown | HandoffError::Ending => Refused::SessionEnding,
        HandoffError::NotKept => Refused::NotKept,
        HandoffError::Unresponsive(_) => Refused::NotReady(Duration::from_secs(1)),
    })?;
    tracing::info!(session = %session.id(), handoff = %handoff.id, user = %by, outcome, is_news, "handoff answered");
    Ok(json(&serde_json::json!({ "handoff_id": handoff.id, "state": decision.as_str() })))
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    // Plain data with text keys cannot fail.
    uncached(StatusCode::OK, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

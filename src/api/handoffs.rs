//! Requests for a human: ask, look, wait, answer.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::access::Operator;
use super::answer::{Context, json};
use super::create::wait_in;
use super::read::{self, Fields, Mistakes, Query, parsed};
use super::refused::{Refused, Trouble};
use crate::clock::unix_seconds;
use crate::durations::parse_within;
use crate::hex;
use crate::http::Reply;
use crate::ids::{HandoffId, SessionId};
use crate::session::{
    Answer, Decision, Handoff, HandoffKind, MAX_NOTE_BYTES, MAX_REASON_BYTES, NewHandoff, Session,
    check_words,
};

/// How long a human has, when nobody says, and at most.
const DEFAULT_EXPIRY: Duration = Duration::from_secs(15 * 60);
const MAX_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);
/// Longest scope of events, in bytes.
const MAX_SCOPE_BYTES: usize = 256;

/// What a human is wanted for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `asked` reads field by field")]
pub(super) struct AskForHuman {
    /// Its name within the session; made up when left out. With one, the request is safe to send again.
    #[schema(nullable = false, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    handoff_id: Option<String>,
    kind: HandoffKindWord,
    /// For the human, in words.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// From now until nobody needs to come any more; `15m` when left out.
    #[schema(nullable = false, pattern = "^[0-9]+(ms|s|m|h)$", example = "15m")]
    expires_in: Option<String>,
    /// Comes back in events as `scope`: what a workflow that waits looks for.
    #[schema(nullable = false, min_length = 1, max_length = 256, example = "task-7")]
    event_scope: Option<String>,
}

/// What a human can be wanted for.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes words")]
pub(super) enum HandoffKindWord {
    Captcha,
    Review,
    EngineExhausted,
    AmbiguousField,
}

/// A human's answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `answered` reads field by field")]
pub(super) struct AnswerHandoff {
    outcome: DecisionWord,
    /// In words.
    #[schema(nullable = false, min_length = 1, max_length = 2000)]
    note: Option<String>,
}

/// What a human can say.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes words")]
pub(super) enum DecisionWord {
    Resolved,
    Approved,
    Rejected,
}

/// A request for a human. Times are Unix times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Handoff)]
pub(super) struct HandoffView {
    /// Its name within the session.
    handoff_id: String,
    /// What for.
    #[schema(value_type = HandoffKindWord)]
    kind: &'static str,
    /// In words.
    reason: String,
    /// What its events bear as `scope`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    event_scope: Option<String>,
    /// `open`, or how it ended: `resolved`, `approved`, `rejected`, `expired` or `cancelled`.
    state: &'static str,
    /// When it was asked for.
    created_at: f64,
    /// When it is over at the latest.
    expires_at: f64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    closed_at: Option<f64>,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    by: Option<String>,
    /// What they had to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    note: Option<String>,
    /// Whether `wait` ran out before it was over. Not there otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    wait_timed_out: bool,
}

impl From<&Handoff> for HandoffView {
    fn from(handoff: &Handoff) -> Self {
        let closing = handoff.closing.as_ref();
        Self {
            handoff_id: handoff.id.to_string(),
            kind: handoff.kind.as_str(),
            reason: handoff.reason.clone(),
            event_scope: handoff.event_scope.clone(),
            state: closing.map_or("open", |closing| closing.outcome.as_str()),
            created_at: unix_seconds(handoff.created),
            expires_at: unix_seconds(handoff.expires),
            closed_at: closing.map(|closing| unix_seconds(closing.at)),
            by: closing.and_then(|closing| closing.by.clone()),
            note: closing.and_then(|closing| closing.note.clone()),
            wait_timed_out: false,
        }
    }
}

/// Requests for a human, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HandoffList {
    handoffs: Vec<HandoffView>,
}

impl Context {
    /// `POST /v1/sessions/{id}/handoffs`.
    pub(super) async fn ask_for_human(
        &self,
        operator: Operator,
        id: &SessionId,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let (_bytes, value) = read::body(headers, body).await?;
        let mut mistakes = Mistakes::default();
        let asked = asked(value, &mut mistakes);
        mistakes.check()?;
        let new = asked.ok_or(Trouble::Internal)?;
        let outcome = self.state.manager.ask_for_human(id, new).await;
        let (handoff, fresh) = self.concluded(&operator, "ask for a human", id, outcome, "asked")?;
        let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
        Ok(json(status, &HandoffView::from(&*handoff)).into())
    }

    /// `GET /v1/sessions/{id}/handoffs`.
    pub(super) fn handoffs(&self, id: &SessionId) -> Result<Reply, Box<Refused>> {
        let record = self.record(id)?;
        let handoffs = record.handoffs.iter().map(|handoff| HandoffView::from(&**handoff)).collect();
        Ok(json(StatusCode::OK, &HandoffList { handoffs }).into())
    }

    /// `GET /v1/sessions/{id}/handoffs/{handoff}`.
    pub(super) async fn handoff(
        &self,
        id: &SessionId,
        handoff: &HandoffId,
        query: Option<&str>,
    ) -> Result<Reply, Box<Refused>> {
        let mut mistakes = Mistakes::default();
        let mut query = Query::of(query, &mut mistakes);
        let wait = wait_in(&mut query, "closed");
        query.finish();
        mistakes.check()?;
        // The same session before and after the wait, whoever bears its id by then.
        let session = self.state.sessions.get(id);
        if let (Some(limit), Some(session)) = (wait, &session) {
            // What it is by then is told, whether it came to an end or not.
            let _in_time = timeout(limit, until_closed(session, handoff)).await;
        }
        let record = session.map_or_else(|| self.record(id), |session| Ok(session.record()))?;
        let found = record.handoffs.iter().find(|known| known.id == *handoff);
        let found = found.ok_or(Trouble::UnknownHandoff)?;
        let wait_timed_out = wait.is_some() && found.closing.is_none();
        if found.closing.is_some() {
            self.state.manager.settle().await;
        }
        Ok(json(StatusCode::OK, &HandoffView { wait_timed_out, ..HandoffView::from(&**found) }).into())
    }

    /// `POST /v1/sessions/{id}/handoffs/{handoff}/resolve`.
    pub(super) async fn resolve(
        &self,
        operator: Operator,
        id: &SessionId,
        handoff: &HandoffId,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let (_bytes, value) = read::body(headers, body).await?;
        let mut mistakes = Mistakes::default();
        let answered = answered(value, &operator, &mut mistakes);
        mistakes.check()?;
        let answer = answered.ok_or(Trouble::Internal)?;
        let outcome = self.live(id)?.answer(handoff, answer).await;
        let (handoff, _fresh) = self.concluded(&operator, "answer a handoff", id, outcome, "answered")?;
        Ok(json(StatusCode::OK, &HandoffView::from(&*handoff)).into())
    }
}

/// Waits until there is no such handoff that is open.
async fn until_closed(session: &Session, id: &HandoffId) {
    let mut handoffs = session.handoffs();
    let is_open = |known: &Handoff| known.id == *id && known.closing.is_none();
    // The end of the session ends its handoffs first, so that an error means that it is over as well.
    let _gone = handoffs.wait_for(|handoffs| !handoffs.all().any(|known| is_open(known))).await;
}

fn asked(value: Value, mistakes: &mut Mistakes) -> Option<NewHandoff> {
    let mut fields = Fields::of(value, "", mistakes);
    let id = fields.text("handoff_id", parsed);
    let kind = fields.required("kind", kind_of);
    let reason = fields.required("reason", |text| words(text, MAX_REASON_BYTES));
    let expires_in = fields.text("expires_in", |text| parse_within(text, &(SECOND..=MAX_EXPIRY)));
    let event_scope = fields.text("event_scope", scope_of);
    fields.finish();
    let id = match id {
        Some(id) => id,
        None => new_id()?,
    };
    let expires_in = expires_in.unwrap_or(DEFAULT_EXPIRY);
    Some(NewHandoff { id, kind: kind?, reason: reason?, event_scope, expires_in })
}

fn answered(value: Value, operator: &Operator, mistakes: &mut Mistakes) -> Option<Answer> {
    let mut fields = Fields::of(value, "", mistakes);
    let decision = fields.required("outcome", Decision::of);
    let note = fields.text("note", |text| words(text, MAX_NOTE_BYTES));
    fields.finish();
    Some(Answer { decision: decision?, note, by: operator.to_string() })
}

fn words(text: &str, most: usize) -> Result<String, String> {
    check_words(text, most).map(|()| text.to_owned())
}

fn kind_of(text: &str) -> Result<HandoffKind, String> {
    let known = HandoffKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    known.ok_or_else(|| {
        "must be \"captcha\", \"review\", \"engine_exhausted\" or \"ambiguous_field\"".to_owned()
    })
}

fn scope_of(text: &str) -> Result<String, String> {
    if (1..=MAX_SCOPE_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("must be 1 to {MAX_SCOPE_BYTES} bytes without control characters"))
}

/// An id that no other handoff has: 80 random bits. `None` without randomness.
fn new_id() -> Option<HandoffId> {
    let mut random = [0; 10];
    aws_lc_rs::rand::fill(&mut random).ok()?;
    format!("h-{}", hex::encode(&random)).parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_and_answered_is_read_strictly() {
        let mut mistakes = Mistakes::default();
        let body = json!({ "kind": "captcha", "reason": "two\nlines", "event_scope": "task-1" });
        let new = asked(body, &mut mistakes).unwrap();
        assert_eq!((new.kind, new.expires_in), (HandoffKind::Captcha, DEFAULT_EXPIRY));
        assert!(new.id.as_str().starts_with("h-") && mistakes.check().is_ok());
        for (body, wrong) in [
            (json!({ "reason": "r" }), "/kind"),
            (json!({ "kind": "other", "reason": "r" }), "/kind"),
            (json!({ "kind": "review", "reason": " " }), "/reason"),
            (json!({ "kind": "review", "reason": "x".repeat(501) }), "/reason"),
            (json!({ "kind": "review", "reason": "a\u{7}" }), "/reason"),
            (json!({ "kind": "review", "reason": "r", "expires_in": "25h" }), "/expires_in"),
            (json!({ "kind": "review", "reason": "r", "event_scope": "" }), "/event_scope"),
            (json!({ "kind": "review", "reason": "r", "handoff_id": "../x" }), "/handoff_id"),
            (json!({ "kind": "review", "reason": "r", "url": "x" }), "/url"),
        ] {
            let mut mistakes = Mistakes::default();
            let _partial = asked(body.clone(), &mut mistakes);
            let refused = mistakes.check().unwrap_err();
            assert!(format!("{refused:?}").contains(wrong), "{body}: {refused:?}");
        }
        let operator = Operator::Peer { uid: 0 };
        let mut mistakes = Mistakes::default();
        let answer = answered(json!({ "outcome": "approved" }), &operator, &mut mistakes).unwrap();
        assert_eq!((answer.decision, answer.by.as_str()), (Decision::Approved, "uid 0"));
        let _none = answered(json!({ "outcome": "expired" }), &operator, &mut mistakes);
        assert!(mistakes.check().is_err(), "nobody can say that");
    }
}

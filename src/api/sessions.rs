//! Sessions that are there, or were lately: list, show, change, end, health.

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::access::Operator;
use super::answer::{Context, json};
use super::create::{duration, label, wait_in};
use super::host::status_of;
use super::read::{self, Fields, Mistakes, Query, parsed};
use super::refused::{Refused, Trouble};
use super::view::{SessionList, SessionView};
use crate::health::{self, HealthStatus};
use crate::http::Reply;
use crate::ids::{SessionId, UserId};
use crate::session::{
    Amendment, Component, Kind, MOST_LABELS, Session, SessionRecord, SessionState, Stopped,
};

/// Sessions in one answer, when nobody says and at most.
pub(super) const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
/// Longest reason for an end, in bytes; it goes into the log and into events.
const MAX_REASON_BYTES: usize = 256;

/// What may be changed of a session that runs. What is left out stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `amendment` reads field by field")]
pub(super) struct AmendSession {
    /// From now until its end: a whole number with a unit, from `1s` to `720h`.
    #[schema(nullable = false, pattern = "^[0-9]+(ms|s|m|h)$", example = "30m")]
    expires_in: Option<String>,
    /// Ends it when nobody has used it for so long; `null`: never.
    #[schema(pattern = "^[0-9]+(ms|s|m|h)$", example = "15m")]
    idle_timeout: Option<String>,
    /// Set or replaced; the others stay.
    #[schema(nullable = false)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

/// Why a session is to end.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `end` reads")]
pub(super) struct EndSession {
    /// In words, 256 bytes at most.
    #[schema(nullable = false, max_length = 256)]
    reason: Option<String>,
}

/// How a session is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionHealth {
    status: HealthStatus,
    state: SessionState,
    components: Vec<Component>,
}

/// What a list is to hold.
#[derive(Debug, Default)]
struct Filter {
    states: Vec<SessionState>,
    user: Option<UserId>,
    kind: Option<Kind>,
    labels: Vec<(String, String)>,
}

impl Filter {
    fn fits(&self, record: &SessionRecord) -> bool {
        let state = match self.states.is_empty() {
            // Those that are over are told to whoever asks for them.
            true => record.state != SessionState::Stopped,
            false => self.states.contains(&record.state),
        };
        state
            && self.user.as_ref().is_none_or(|user| record.user.as_ref() == Some(user))
            && self.kind.is_none_or(|kind| record.kind == kind)
            && self.labels.iter().all(|(name, value)| record.labels.get(name) == Some(value))
    }
}

impl Context {
    /// `GET /v1/sessions`.
    pub(super) fn list(&self, query: Option<&str>) -> Result<Reply, Box<Refused>> {
        let mut mistakes = Mistakes::default();
        let mut query = Query::of(query, &mut mistakes);
        let filter = Filter {
            states: query.all("state", state_of).into_iter().flatten().collect(),
            user: query.one("user_id", parsed),
            kind: query.one("kind", kind_of),
            labels: query.all("label", label_of),
        };
        let limit = query.one("limit", limit_of).unwrap_or(DEFAULT_LIMIT);
        query.finish();
        mistakes.check()?;
        let mut fitting = self.state.sessions.records().into_iter().filter(|record| filter.fits(record));
        let sessions: Vec<SessionView> = fitting.by_ref().take(limit).map(SessionView::from).collect();
        let list = SessionList { sessions, more: fitting.next().is_some() };
        Ok(json(StatusCode::OK, &list).into())
    }

    /// `GET /v1/sessions/{id}`.
    pub(super) fn show(&self, id: &SessionId) -> Result<Reply, Box<Refused>> {
        Ok(json(StatusCode::OK, &SessionView::from(self.record(id)?)).into())
    }

    /// The session as it is, or was.
    pub(super) fn record(&self, id: &SessionId) -> Result<SessionRecord, Box<Refused>> {
        self.state.sessions.record(id).ok_or_else(|| Trouble::UnknownSession.into())
    }

    /// The session, where it is not over.
    pub(super) fn live(&self, id: &SessionId) -> Result<Session, Box<Refused>> {
        self.state.sessions.get(id).ok_or_else(|| self.or_over(id, Trouble::UnknownSession.into()))
    }

    /// One that has ended is known still.
    fn or_over(&self, id: &SessionId, refused: Box<Refused>) -> Box<Refused> {
        match refused.trouble {
            Trouble::UnknownSession if self.state.sessions.record(id).is_some() => {
                Trouble::SessionOver.into()
            }
            _ => refused,
        }
    }

    /// What came of something that an operator had done to a session, said in the log: in a word where it went well, and as
    /// the name of the problem where it did not.
    pub(super) fn concluded<T>(
        &self,
        operator: &Operator,
        action: &'static str,
        id: &SessionId,
        outcome: Result<T, impl Into<Box<Refused>>>,
        done: &'static str,
    ) -> Result<T, Box<Refused>> {
        let outcome = outcome.map_err(|error| self.or_over(id, error.into()));
        let word = outcome.as_ref().map_or_else(|refused| refused.trouble.outside().1, |_| done);
        self.audit(operator, action, Some(id), word);
        outcome
    }

    /// `PATCH /v1/sessions/{id}`.
    pub(super) async fn amend(
        &self,
        operator: Operator,
        id: &SessionId,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let (_bytes, value) = read::body(headers, body).await?;
        let mut mistakes = Mistakes::default();
        let amendment = amendment(value, &mut mistakes);
        mistakes.check()?;
        let outcome = self.state.manager.amend(id, amendment).await;
        let record = self.concluded(&operator, "amend", id, outcome, "amended")?;
        Ok(json(StatusCode::OK, &SessionView::from(record)).into())
    }

    /// `DELETE /v1/sessions/{id}`.
    pub(super) async fn end(
        &self,
        operator: Operator,
        id: &SessionId,
        head: &Parts,
        body: Incoming,
    ) -> Result<Reply, Box<Refused>> {
        let value = read::optional_body(&head.headers, body).await?;
        let mut mistakes = Mistakes::default();
        let mut query = Query::of(head.uri.query(), &mut mistakes);
        let wait = wait_in(&mut query, "ended");
        let in_query = query.one("reason", reason_of);
        query.finish();
        let in_body = value.and_then(|value| {
            let mut fields = Fields::of(value, "", &mut mistakes);
            let reason = fields.text("reason", reason_of);
            fields.finish();
            reason
        });
        mistakes.check()?;
        let stopped = self.state.manager.stop(id, in_body.or(in_query)).await;
        let stopped = stopped.map_err(|_unresponsive| Trouble::Unresponsive)?;
        let Some(Stopped { mut record, is_news }) = stopped else {
            return Err(Trouble::UnknownSession.into());
        };
        let is_over = |record: &SessionRecord| record.state == SessionState::Stopped;
        let word = match (is_news, is_over(&record)) {
            (true, true) => "ended",
            (true, false) => "ending",
            (false, true) => "ended before",
            (false, false) => "ending before",
        };
        self.audit(&operator, "end", Some(id), word);
        let mut timed_out = false;
        if let (Some(limit), false) = (wait, is_over(&record)) {
            match timeout(limit, self.state.sessions.wait_ended(&record.id, record.created)).await {
                Ok(ended) => {
                    record = ended;
                    self.state.manager.settle().await;
                }
                Err(_) => timed_out = true,
            }
        }
        let over = is_over(&record);
        let status = if over { StatusCode::OK } else { StatusCode::ACCEPTED };
        let view = SessionView::waited(record, timed_out);
        Ok(json(status, &view).into())
    }

    /// `GET /v1/sessions/{id}/health`.
    pub(super) fn session_health(&self, id: &SessionId) -> Result<Reply, Box<Refused>> {
        let session = self.live(id)?;
        let status = session.status();
        let word = health::of_session(&status);
        let health = SessionHealth {
            status: word,
            state: status.state,
            components: status.components.iter().map(health::without_details).collect(),
        };
        Ok(json(status_of(word), &health).into())
    }
}

fn amendment(body: Value, mistakes: &mut Mistakes) -> Amendment {
    let mut fields = Fields::of(body, "", mistakes);
    let amendment = Amendment {
        expires_in: fields.text("expires_in", duration),
        idle_timeout: fields.take("idle_timeout", |value| match value {
            Value::Null => Ok(None),
            Value::String(text) => duration(&text).map(Some),
            _ => Err("must be a string, or null".to_owned()),
        }),
        labels: fields.texts("labels", MOST_LABELS, label),
    };
    fields.finish();
    amendment
}

const STATES: [SessionState; 5] = [
    SessionState::Starting,
    SessionState::Ready,
    SessionState::Degraded,
    SessionState::Draining,
    SessionState::Stopped,
];

/// The states that a word means: its own, or all of them.
fn state_of(word: &str) -> Result<Vec<SessionState>, String> {
    if word == "all" {
        return Ok(STATES.to_vec());
    }
    let found = STATES.into_iter().find(|state| state.as_str() == word);
    found
        .map(|state| vec![state])
        .ok_or_else(|| format!("must be all or one of {}", STATES.map(SessionState::as_str).join(", ")))
}

fn kind_of(word: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    found.ok_or_else(|| format!("must be one of {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

fn label_of(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be NAME:VALUE")?;
    label(name, value).map(|()| (name.to_owned(), value.to_owned()))
}

pub(super) fn limit_of(text: &str) -> Result<usize, String> {
    let refusal = || format!("must be a whole number from 1 to {MAX_LIMIT}");
    text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(refusal)
}

pub(super) fn reason_of(text: &str) -> Result<String, String> {
    if (1..=MAX_REASON_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(format!("must be 1 to {MAX_REASON_BYTES} bytes without control characters"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn null_is_never_and_left_out_is_as_it_is() {
        let read = |body| {
            let mut mistakes = Mistakes::default();
            let amendment = amendment(body, &mut mistakes);
            (amendment, mistakes.check().is_err())
        };
        assert_eq!(read(json!({})), (Amendment::default(), false));
        assert_eq!(read(json!({ "idle_timeout": null })).0.idle_timeout, Some(None));
        let five = Some(Some(Duration::from_secs(5)));
        assert_eq!(read(json!({ "idle_timeout": "5s" })).0.idle_timeout, five);
        for bad in [json!({ "expires_in": null }), json!({ "expires_in": "0s" }), json!({ "state": "ready" })]
        {
            assert!(read(bad.clone()).1, "{bad}");
        }
    }

    #[test]
    fn words_of_a_filter_are_of_a_closed_set() {
        assert_eq!(state_of("all").map(|states| states.len()), Ok(5));
        assert_eq!(state_of("ready"), Ok(vec![SessionState::Ready]));
        assert!(state_of("RUNNING").is_err() && kind_of("firefox").is_err());
        assert_eq!(label_of("task_id:a:b"), Ok(("task_id".to_owned(), "a:b".to_owned())));
        assert!(label_of("task_id").is_err());
        assert!(limit_of("0").is_err() && limit_of("1001").is_err() && limit_of("7") == Ok(7));
        assert!(reason_of("").is_err() && reason_of("a\nb").is_err() && reason_of("done").is_ok());
    }
}

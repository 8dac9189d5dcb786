//! `GET /v1/events`: what happens to sessions, as server-sent events (HTML Living Standard, 9.2).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::Context;
use super::read::{Mistakes, Query, parsed};
use super::refused::{Refused, Trouble};
use crate::clock::unix_seconds;
use crate::http::{Reply, body};
use crate::ids::SessionId;
use crate::session::{Event, Events, ManagerHandle};

/// Listeners at a time; each holds a connection.
pub(super) const MOST_LISTENERS: usize = 32;
/// Below the 30 to 60 s after which proxies drop a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Before the listener would cut the connection; a stream that ends is told apart from one that breaks.
const MARGIN: Duration = Duration::from_secs(10);
/// When a listener whose stream has ended should come again.
const RETRY_MS: u64 = 1000;

/// Where a listener begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    /// After this event.
    after: u64,
    /// Whether it may have missed some.
    gap: bool,
}

/// One listener.
struct Listening {
    events: Events,
    manager: ManagerHandle,
    run: String,
    after: u64,
    only: Option<SessionId>,
    /// What to say first.
    greeting: Option<String>,
    until: Instant,
    over: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Context {
    /// Streams events until the connection is old, the host is gone, or the listener is.
    pub(super) fn listen(&self, headers: &HeaderMap, query: Option<&str>) -> Result<Reply, Box<Refused>> {
        let mut mistakes = Mistakes::default();
        let mut query = Query::of(query, &mut mistakes);
        let only = query.one("session_id", parsed);
        query.finish();
        mistakes.check()?;
        let state = &self.state;
        let place = Arc::clone(&state.listeners).try_acquire_owned();
        let place = place.map_err(|_full| Trouble::TooManyListeners)?;
        let events = state.sessions.events();
        let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default());
        let Start { after, gap } = start(last, &state.run, &events);
        let mut greeting = format!("retry: {RETRY_MS}\n\n");
        if gap {
            greeting.push_str(&gap_notice());
        }
        let listening = Listening {
            events,
            manager: state.manager.clone(),
            run: state.run.clone(),
            after,
            only,
            greeting: Some(greeting),
            until: self.peer.closes_at.checked_sub(MARGIN).unwrap_or(self.peer.closes_at),
            over: state.over.clone(),
            _place: place,
        };
        let chunks = stream::unfold(Some(listening), |listening| async {
            let mut listening = listening?;
            let (text, more) = listening.next().await?;
            Some((Bytes::from(text), more.then_some(listening)))
        });
        let mut response = Response::new(body::streamed(chunks));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // The next stream gets a whole connection's time.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(response.into())
    }
}

impl Listening {
    /// The next text to send, and whether more may follow; `None` at the end.
    async fn next(&mut self) -> Option<(String, bool)> {
        if let Some(greeting) = self.greeting.take() {
            return Some((greeting, true));
        }
        let (over, until) = (self.over.clone(), self.until);
        let wait = timeout(KEEP_ALIVE, self.events.wait_past(self.after));
        let ends = tokio::select! {
            // Whoever listens at the end still hears how sessions ended.
            biased;
            waited = wait => {
                let text = self.news().await;
                // An id alone moves the listener's place past what its filter left out, and makes no event.
                let quiet = || format!("id: {}-{}\n: nothing new\n\n", self.run, self.after);
                return match (waited, text.is_empty()) {
                    (_, false) => Some((text, true)),
                    (_, true) => Some((quiet(), true)),
                };
            }
            () = over.cancelled() => true,
            () = tokio::time::sleep_until(until) => true,
        };
        let last = self.news().await;
        (ends && !last.is_empty()).then_some((last, false))
    }

    /// What has happened since the last time, when it is on disk: nobody is told of what a killed daemon takes back. A disk
    /// that fails keeps it from nobody for long.
    async fn news(&mut self) -> String {
        let batch = self.events.since(self.after);
        if !batch.events.is_empty() {
            self.manager.settle().await;
        }
        let mut text = String::new();
        if batch.missed {
            text.push_str(&gap_notice());
        }
        for event in batch.events {
            self.after = event.number;
            if self.only.as_ref().is_none_or(|only| *only == event.session) {
                text.push_str(&written(&event, &self.run));
            }
        }
        text
    }
}

/// Where a listener that has seen `last` begins: after it, where it is of this run of the daemon; from the oldest that is
/// kept, where it is of another. Without one, with what happens from now on.
fn start(last: Option<&str>, run: &str, events: &Events) -> Start {
    let newest = events.newest();
    let Some(last) = last else { return Start { after: newest, gap: false } };
    let number =
        last.rsplit_once('-').filter(|(of, _)| *of == run).and_then(|(_, number)| number.parse().ok());
    match number {
        Some(after) if after <= newest => Start { after, gap: false },
        _other_run => Start { after: 0, gap: true },
    }
}

fn gap_notice() -> String {
    "event: gap\ndata: {\"missed\":true}\n\n".to_owned()
}

fn written(event: &Event, run: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail. JSON text has no line breaks.
    let _infallible =
        write!(text, "id: {run}-{}\nevent: {}\ndata: {}\n\n", event.number, event.what.as_str(), data(event));
    text
}

/// What the event says.
fn data(event: &Event) -> Value {
    let mut data = event.what.details();
    data["at"] = unix_seconds(event.at).into();
    data["session_id"] = event.session.as_str().into();
    data["labels"] = json!(event.labels);
    data
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::session::stand_in;
    use crate::session::{Cause, End, Happening};

    #[test]
    fn an_event_is_three_fields_and_a_blank_line() {
        let event = Event {
            number: 7,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            session: "s1".parse().unwrap(),
            labels: BTreeMap::from([("task_id".to_owned(), "a\nid: x".to_owned())]),
            what: Happening::Ended(End { cause: Cause::Expired, reason: Some("why".to_owned()) }),
        };
        assert_eq!(
            written(&event, "ab12"),
            "id: ab12-7\nevent: session.ended\ndata: {\"at\":1.5,\"cause\":\"expired\",\"labels\":{\"task_id\":\"a\\nid: x\"},\
             \"reason\":\"why\",\"session_id\":\"s1\"}\n\n"
        );
    }

    #[test]
    fn whoever_comes_back_goes_on_where_it_was_or_learns_of_a_gap() {
        let events = stand_in::sessions([]).events();
        let begin = |last| start(last, "ab", &events);
        assert_eq!(begin(None), Start { after: 0, gap: false });
        assert_eq!(begin(Some("ab-0")), Start { after: 0, gap: false });
        for other in ["cd-0", "ab-1", "ab-x", "ab", "", "0"] {
            assert_eq!(begin(Some(other)), Start { after: 0, gap: true }, "{other}");
        }
    }
}

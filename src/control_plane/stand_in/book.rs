//! What was reported, and how a report is met.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// Events that are kept, the newest of them.
const MOST_EVENTS: usize = 20_000;
/// Ids of events that came, to tell those that come again.
const MOST_IDS: usize = 100_000;

/// How a report is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conduct {
    /// It is taken.
    Well,
    /// It is answered with this status, and a problem of this type.
    Status(u16, &'static str),
    /// It is answered with this status, and `Retry-After` in seconds.
    Later(u16, u64),
    /// It is read and never answered.
    Hang,
    /// It is taken, and the connection breaks before the answer is whole.
    TakeAndBreak,
    /// The connection breaks, and nothing is taken.
    Break,
    /// It is answered 200 with something else than belongs there, and not taken.
    Nonsense,
}

/// A report, as whoever decides about it sees it.
#[derive(Debug, Clone)]
pub struct Taken {
    /// `register`, `heartbeat` or `events`.
    pub report: &'static str,
    /// Its body.
    pub body: Value,
    /// Whether it came compressed.
    pub compressed: bool,
    /// When.
    pub at: SystemTime,
}

/// All that was reported.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// The last registration.
    pub registration: Option<Value>,
    /// How many came.
    pub registrations: u64,
    /// The last heartbeat.
    pub heartbeat: Option<Value>,
    /// When it came.
    pub heard: Option<SystemTime>,
    /// How many came.
    pub heartbeats: u64,
    /// Events in the order in which they came first.
    pub events: VecDeque<Value>,
    /// How many came again.
    pub repeated: u64,
    /// Those that came again and were not the same.
    pub contradictions: Vec<Value>,
    /// Reports that came compressed.
    pub compressed: u64,
    /// Requests whose credential was not the one that is wanted.
    pub strangers: u64,
    seen: HashSet<String>,
}

impl Book {
    /// Takes a report. How many events it had.
    pub(super) fn take(&mut self, taken: Taken) -> usize {
        self.compressed += u64::from(taken.compressed);
        match taken.report {
            "register" => {
                self.registrations += 1;
                self.registration = Some(taken.body);
                0
            }
            "heartbeat" => {
                self.heartbeats += 1;
                self.heard = Some(taken.at);
                self.heartbeat = Some(taken.body);
                0
            }
            _ => self.take_events(taken.body),
        }
    }

    fn take_events(&mut self, mut body: Value) -> usize {
        let Some(events) = body["events"].as_array_mut().map(std::mem::take) else { return 0 };
        let count = events.len();
        for event in events {
            let id = event["id"].as_str().unwrap_or_default().to_owned();
            if self.seen.len() >= MOST_IDS {
                self.seen.clear();
            }
            if self.seen.insert(id) {
                self.events.push_back(event);
                if self.events.len() > MOST_EVENTS {
                    self.events.pop_front();
                }
                continue;
            }
            self.repeated += 1;
            let known = self.events.iter().find(|known| known["id"] == event["id"]);
            if known.is_some_and(|known| *known != event) {
                self.contradictions.push(event);
            }
        }
        count
    }

    /// How long ago the last heartbeat came.
    pub fn silent_for(&self, now: SystemTime) -> Option<Duration> {
        self.heard.map(|heard| now.duration_since(heard).unwrap_or_default())
    }

    /// All of it, for programs.
    pub fn json(&self) -> Value {
        serde_json::json!({
            "registration": self.registration,
            "registrations": self.registrations,
            "heartbeat": self.heartbeat,
            "heartbeats": self.heartbeats,
            "events": self.events,
            "repeated": self.repeated,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(events: Value) -> Taken {
        let body = json!({ "events": events });
        Taken { report: "events", body, compressed: false, at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn an_event_is_kept_once_and_another_of_its_id_is_noticed() {
        let mut book = Book::default();
        assert_eq!(book.take(events(json!([{ "id": "a", "n": 1 }, { "id": "b" }]))), 2);
        assert_eq!(book.take(events(json!([{ "id": "b" }, { "id": "a", "n": 2 }, { "id": "c" }]))), 3);
        let ids: Vec<_> = book.events.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!((ids, book.repeated), (vec!["a", "b", "c"], 2));
        assert_eq!(book.contradictions, [json!({ "id": "a", "n": 2 })]);
        assert_eq!(book.take(events(json!(null))), 0);
    }
}

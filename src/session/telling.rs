//! Telling what happens: to those who listen now, and to the control plane by way of the store. In one order for both, and
//! with the session as it is then, so that neither is ahead of the other after a crash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::events::{EventLog, Happening};
use super::handoff::{Closing, Handoff};
use super::ledger::Entry;
use super::record::SessionRecord;
use crate::clock::{unix_ms, unix_seconds};
use crate::hex;
use crate::store::{EventRow, SessionKey};

/// Writes down and tells. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Teller {
    log: EventLog,
    /// Of sessions that are there: the number of their last event. A mutex, since each session's own tasks and the manager
    /// tell; held while a row is put together, so that a later row is never an older one.
    numbers: Arc<Mutex<HashMap<SessionKey, i64>>>,
}

impl Teller {
    pub(super) fn new(log: EventLog) -> Self {
        Self { log, numbers: Arc::default() }
    }

    /// Writes the session down as it is.
    pub(super) fn enter(&self, entry: &Entry, record: impl FnOnce() -> SessionRecord) {
        self.tell(entry, record, Vec::new());
    }

    /// Writes the session down as it is and, in one with it, what has happened to it; then tells.
    pub(super) fn tell(
        &self,
        entry: &Entry,
        record: impl FnOnce() -> SessionRecord,
        happenings: Vec<Happening>,
    ) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let (record, at) = (record(), SystemTime::now());
        let mut number = numbers.get(entry.key()).copied().unwrap_or_default();
        let mut events = Vec::new();
        if entry.ledger.reports() {
            let labels = serde_json::to_string(&record.labels).unwrap_or_default();
            for what in &happenings {
                number += 1;
                events.push(event(entry.key(), number, at, labels.clone(), what));
            }
        }
        if happenings.iter().any(|what| matches!(what, Happening::Ended(_))) {
            numbers.remove(entry.key());
        } else if !events.is_empty() {
            numbers.insert(entry.key().clone(), number);
        }
        entry.put(&record, number, events);
        for what in happenings {
            self.log.push(&record.id, record.labels.clone(), at, what);
        }
    }
}

/// What happened, as it is written down for the control plane.
pub(super) fn event(
    session: &SessionKey,
    number: i64,
    at: SystemTime,
    labels: String,
    what: &Happening,
) -> EventRow {
    EventRow {
        id: event_id(session, number),
        session: session.clone(),
        number,
        kind: what.as_str().to_owned(),
        at_ms: unix_ms(at),
        labels,
        payload: what.details().to_string(),
        is_kept: what.is_transition(),
    }
}

/// An id that no other event has, on no other host either.
fn event_id(session: &SessionKey, number: i64) -> String {
    let mut random = [0; 16];
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => format!("e-{}", hex::encode(&random)),
        // Without randomness, one that this host has once.
        Err(_) => format!("e-{}.{}.{number}", session.id, session.created_ms),
    }
}

impl Happening {
    /// Whether whoever misses it has a wrong idea of the session for good.
    pub(super) fn is_transition(&self) -> bool {
        match self {
            Self::Created(_) | Self::Human(..) | Self::Ended(_) => true,
            Self::State(_) | Self::ServiceFailed { .. } | Self::TabCrashed(_) | Self::ProfileReset => false,
        }
    }

    /// What is particular to it, as a JSON object.
    pub fn details(&self) -> Value {
        match self {
            Self::Created(warmth) => json!({ "warmth": warmth.as_str() }),
            Self::State(state) => json!({ "state": state.as_str() }),
            Self::ServiceFailed { service, reason } => json!({ "service": service, "reason": reason }),
            Self::Ended(end) => {
                let mut details = json!({ "cause": end.cause.as_str() });
                if let Some(reason) = &end.reason {
                    details["reason"] = reason.as_str().into();
                }
                details
            }
            Self::Human(session, handoff) => self.of_human(session, handoff),
            Self::TabCrashed(reason) => json!({ "reason": reason.as_str() }),
            Self::ProfileReset => json!({}),
        }
    }

    fn of_human(&self, session: &SessionKey, handoff: &Handoff) -> Value {
        let Handoff { id, kind, reason, event_scope, created, expires, closing } = handoff;
        // The same each time that this very event is told, and no other's.
        let (word, begun, asked) = (self.as_str(), session.created_ms, unix_ms(*created));
        let mut details = json!({
            "handoff_id": id,
            "kind": kind.as_str(),
            "reason": reason,
            "expires_at": unix_seconds(*expires),
            "idempotency_id": format!("{}.{begun}.{id}.{asked}.{word}", session.id),
        });
        if let Some(scope) = event_scope {
            details["scope"] = scope.as_str().into();
        }
        if let Some(Closing { by, note, .. }) = closing {
            details["by"] = by.as_deref().into();
            details["note"] = note.as_deref().into();
        }
        details
    }
}

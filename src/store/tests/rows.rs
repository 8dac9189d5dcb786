//! Rows for tests.

use super::super::{EventRow, IdempotencyRow, ProcessRow, SessionKey, SessionRow};

pub(in crate::store) fn key(id: &str, created_ms: i64) -> SessionKey {
    SessionKey { id: id.parse().unwrap(), created_ms }
}

/// A live session with a value in every column, each its own.
pub(in crate::store) fn session(id: &str, created_ms: i64) -> SessionRow {
    SessionRow {
        key: key(id, created_ms),
        user: Some("jörg@example.org".parse().unwrap()),
        kind: "chromium".to_owned(),
        profile: Some("profile-7".to_owned()),
        slot: 3,
        uid: 61_003,
        state: "starting".to_owned(),
        ready_ms: Some(created_ms + 1),
        ended_ms: None,
        expires_ms: Some(created_ms + 2),
        outcome: None,
        detail: Some("it's \"quoted\"; and\nbroken".to_owned()),
        labels: r#"{"task_id":"t-1"}"#.to_owned(),
        request: r#"{"kind":"chromium"}"#.to_owned(),
        boot_id: "boot".to_owned(),
        run: "0123456789ab".to_owned(),
        handoffs: "[]".to_owned(),
        events: 4,
    }
}

/// Something that happened to session `a`.
pub(in crate::store) fn event(id: &str, number: i64, is_kept: bool) -> EventRow {
    EventRow {
        id: id.to_owned(),
        session: key("a", 1),
        number,
        kind: if is_kept { "human.requested" } else { "tab.crashed" }.to_owned(),
        at_ms: 1_700_000_000_000 + number,
        labels: r#"{"task_id":"t-1"}"#.to_owned(),
        payload: r#"{"reason":"it's \"so\""}"#.to_owned(),
        is_kept,
    }
}

pub(in crate::store) fn ended(id: &str, created_ms: i64, ended_ms: i64) -> SessionRow {
    SessionRow { ended_ms: Some(ended_ms), outcome: Some("stopped".to_owned()), ..session(id, created_ms) }
}

pub(in crate::store) fn process(id: &str, created_ms: i64, service: &str) -> ProcessRow {
    ProcessRow {
        session: key(id, created_ms),
        service: service.to_owned(),
        pid: 4242,
        start_time: 123_456_789,
        cgroup: Some("/sys/fs/cgroup/valetd-1/run/a/xvfb".into()),
        boot_id: "boot".to_owned(),
    }
}

pub(in crate::store) fn idempotency(key: &str, created_ms: i64) -> IdempotencyRow {
    let (key, fingerprint) = (key.to_owned(), "fingerprint".to_owned());
    IdempotencyRow { key, fingerprint, session: session("a", 1).key, created_ms }
}

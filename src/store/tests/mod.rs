//! The store against real files, real full disks and its own death. Here is what the tests share.

mod crash;
mod damage;
mod disk;
mod history;
mod profiles;

use std::path::Path;
use std::time::Duration;

use super::{Flushed, IdempotencyRow, Metrics, Opened, ProcessRow, SessionKey, SessionRow, Store};

/// Longer than anything here takes on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn key(id: &str, created_ms: i64) -> SessionKey {
    SessionKey { id: id.parse().unwrap(), created_ms }
}

/// A live session with a value in every column, each its own.
pub(super) fn session(id: &str, created_ms: i64) -> SessionRow {
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
    }
}

pub(super) fn ended(id: &str, created_ms: i64, ended_ms: i64) -> SessionRow {
    SessionRow { ended_ms: Some(ended_ms), outcome: Some("stopped".to_owned()), ..session(id, created_ms) }
}

pub(super) fn process(id: &str, created_ms: i64, service: &str) -> ProcessRow {
    ProcessRow {
        session: key(id, created_ms),
        service: service.to_owned(),
        pid: 4242,
        start_time: 123_456_789,
        cgroup: Some("/sys/fs/cgroup/valetd-1/run/a/xvfb".into()),
        boot_id: "boot".to_owned(),
    }
}

pub(super) fn idempotency(key: &str, created_ms: i64) -> IdempotencyRow {
    let (key, fingerprint) = (key.to_owned(), "fingerprint".to_owned());
    IdempotencyRow { key, fingerprint, session: session("a", 1).key, created_ms }
}

pub(super) fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new()).unwrap()
}

pub(super) fn open(path: &Path) -> Opened {
    Store::open(path, metrics()).unwrap()
}

pub(super) async fn flush(store: &Store) {
    assert_eq!(store.flush(PATIENCE).await, Flushed::Done);
}

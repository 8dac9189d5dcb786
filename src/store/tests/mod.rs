//! The store against real files, real full disks and its own death. Here is what the tests share.

mod crash;
mod damage;
mod disk;
mod history;
mod outbox;
mod profiles;
mod rows;

use std::path::Path;
use std::time::Duration;

pub(super) use rows::{ended, event, idempotency, key, process, session};

use super::{Flushed, Metrics, Opened, ProcessRow, SessionRow, Store};

/// Longer than anything here takes on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new()).unwrap()
}

pub(super) fn open(path: &Path) -> Opened {
    Store::open(path, metrics()).unwrap()
}

pub(super) async fn flush(store: &Store) {
    assert_eq!(store.flush(PATIENCE).await, Flushed::Done);
}

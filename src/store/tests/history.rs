//! What comes back, and what is kept.

use rusqlite::Connection;

use super::super::pending::Row;
use super::super::schema::{self, MAX_ENDED, MAX_ENDED_AGE_MS, MAX_IDEMPOTENCY, MAX_IDEMPOTENCY_AGE_MS};
use super::*;
use crate::clock;

#[tokio::test]
async fn every_row_comes_back_as_it_was_after_the_store_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let now = clock::unix_now_ms();
    let bare = SessionRow {
        user: None,
        profile: None,
        ready_ms: None,
        expires_ms: None,
        detail: None,
        ..session("bare", 2)
    };
    let hidden = ProcessRow { cgroup: None, ..process("bare", 2, "browser") };
    {
        let store = open(&path).store;
        store.put_session(session("a", 1));
        store.put_session(bare.clone());
        store.put_session(ended("over", 3, now));
        store.put_process(process("a", 1, "xvfb"));
        store.put_process(hidden.clone());
        store.put_idempotency(idempotency("k", now));
        // Before anything is known to be on disk.
        assert_eq!(store.session(&"over".parse().unwrap()).await.unwrap(), Some(ended("over", 3, now)));
        // Dropped without a flush.
    }
    let opened = open(&path);
    assert_eq!(opened.set_aside, None);
    let store = opened.store;
    assert_eq!(store.live_sessions().await.unwrap(), [session("a", 1), bare]);
    assert_eq!(store.recent(10).await.unwrap(), [ended("over", 3, now)]);
    assert_eq!(store.processes().await.unwrap(), [process("a", 1, "xvfb"), hidden]);
    assert_eq!(store.idempotency("k").await.unwrap(), Some(idempotency("k", now)));
    assert_eq!(store.idempotency("other").await.unwrap(), None);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_id_that_is_used_again_has_a_history_and_the_last_to_come_counts_whatever_the_clock_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    let now = clock::unix_now_ms();
    store.put_session(ended("a", 2000, now));
    flush(&store).await;
    // The clock was set back between the two.
    store.put_session(session("a", 1000));
    store.put_process(process("a", 1000, "xvfb"));
    flush(&store).await;
    drop(store);
    let store = open(&path).store;
    assert_eq!(store.session(&"a".parse().unwrap()).await.unwrap(), Some(session("a", 1000)));
    store.put_session(ended("a", 1000, now + 1));
    let ends: Vec<_> = store.recent(10).await.unwrap().iter().map(|row| row.key.created_ms).collect();
    assert_eq!(ends, [1000, 2000]);
    assert_eq!(store.processes().await.unwrap(), []);
    assert_eq!(store.live_sessions().await.unwrap(), []);
}

#[tokio::test]
async fn two_handles_see_the_same_and_the_last_one_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    let other = store.clone();
    other.put_session(session("a", 1));
    other.put_process(process("a", 1, "xvfb"));
    other.put_process(process("a", 1, "browser"));
    other.forget_process(&key("a", 1), "xvfb");
    drop(other);
    assert_eq!(store.live_sessions().await.unwrap(), [session("a", 1)]);
    assert_eq!(store.processes().await.unwrap(), [process("a", 1, "browser")]);
    let health = store.health();
    assert!(health.has_changed().is_ok());
    drop(store);
    // The thread had the other end.
    assert!(health.has_changed().is_err());
    // Nobody holds the file any more, and its log has gone into it.
    let connection = Connection::open(&path).unwrap();
    assert_eq!(schema::processes(&connection).unwrap(), [process("a", 1, "browser")]);
}

#[tokio::test]
async fn a_row_that_the_file_refuses_does_not_hold_up_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = metrics();
    let store = Store::open(&dir.path().join("state.db"), metrics.clone()).unwrap().store;
    store.put_process(process("nobody", 1, "xvfb"));
    store.put_session(session("a", 1));
    flush(&store).await;
    assert_eq!(store.processes().await.unwrap(), [process("nobody", 1, "xvfb")], "as long as it lives here");
    drop(store);
    let store = open(&dir.path().join("state.db")).store;
    assert_eq!(store.live_sessions().await.unwrap(), [session("a", 1)]);
    assert_eq!(store.processes().await.unwrap(), []);
}

/// An open file with the tables, without a thread.
fn tables(path: &Path) -> Connection {
    drop(open(path));
    Connection::open(path).unwrap()
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn put_all(connection: &mut Connection, rows: impl Iterator<Item = Row>) {
    let transaction = connection.transaction().unwrap();
    for row in rows {
        schema::put(&transaction, &row).unwrap();
    }
    transaction.commit().unwrap();
}

/// Until a step finds nothing more; how many steps that took.
fn prune(connection: &Connection, now: i64) -> usize {
    (1..).find(|_| !schema::prune(connection, now).unwrap()).unwrap()
}

#[test]
fn history_is_bounded_by_number_and_by_age_and_what_lives_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut connection = tables(&dir.path().join("state.db"));
    let now = 10 * MAX_ENDED_AGE_MS;
    put_all(&mut connection, (0..MAX_ENDED + 250).map(|at| Row::Session(ended("a", at, now + at))));
    put_all(&mut connection, [Row::Session(session("live", 1))].into_iter());
    assert_eq!(prune(&connection, now), 3, "in small steps");
    assert_eq!(count(&connection, "sessions"), MAX_ENDED + 1);
    let recent = schema::recent(&connection, usize::MAX).unwrap();
    assert_eq!((recent[0].ended_ms, recent.last().unwrap().ended_ms), (Some(now + 1249), Some(now + 250)));
    prune(&connection, now + 1000 + MAX_ENDED_AGE_MS);
    assert_eq!(count(&connection, "sessions"), 250 + 1);
    assert_eq!(schema::live_sessions(&connection).unwrap(), [session("live", 1)]);
}

#[test]
fn requests_are_forgotten_after_a_day_or_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let mut connection = tables(&dir.path().join("state.db"));
    let rows =
        |range: std::ops::Range<i64>| range.map(|at| Row::Idempotency(idempotency(&at.to_string(), at)));
    put_all(&mut connection, rows(1..MAX_IDEMPOTENCY + 31));
    prune(&connection, 0);
    assert_eq!(count(&connection, "idempotency"), MAX_IDEMPOTENCY);
    assert_eq!(schema::idempotency(&connection, "30", 0).unwrap(), None);
    assert_eq!(schema::idempotency(&connection, "31", 0).unwrap(), Some(idempotency("31", 31)));
    // Too old to count, before it is deleted.
    assert_eq!(schema::idempotency(&connection, "31", 31 + MAX_IDEMPOTENCY_AGE_MS).unwrap(), None);
    assert!(!schema::is_repeatable(&idempotency("31", 31), 31 + MAX_IDEMPOTENCY_AGE_MS));
    prune(&connection, 5000 + MAX_IDEMPOTENCY_AGE_MS);
    assert_eq!(count(&connection, "idempotency"), MAX_IDEMPOTENCY + 31 - 5000);
}

#[tokio::test]
async fn old_history_goes_by_itself_when_something_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut connection = tables(&path);
    put_all(&mut connection, (0..350).map(|at| Row::Session(ended("old", at, at))));
    drop(connection);
    let store = open(&path).store;
    store.put_session(session("a", 1));
    flush(&store).await;
    // Each question is answered after a step of it.
    let mut left = usize::MAX;
    for _ in 0..10 {
        left = store.recent(usize::MAX).await.unwrap().len();
    }
    assert_eq!(left, 0);
}

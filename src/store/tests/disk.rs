//! A disk that is full, and a file that somebody else has.

use std::fs;
use std::time::Instant;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rusqlite::Connection;
use tokio::time::timeout;

use super::super::{StoreError, StoreHealth};
use super::*;

/// F27: a row is on disk so long after there is space again.
const RECOVERY: Duration = Duration::from_secs(5);

fn is_failing(health: &StoreHealth) -> bool {
    matches!(health, StoreHealth::Failing { .. })
}

async fn until(store: &Store, wanted: impl Fn(&StoreHealth) -> bool, patience: Duration) -> StoreHealth {
    let mut health = store.health();
    timeout(patience, health.wait_for(wanted)).await.unwrap().unwrap().clone()
}

/// Runs the test with a disk of `bytes` that only its own threads see, and that goes with them.
fn on_a_small_disk<F: Future<Output = ()>>(bytes: usize, test: impl FnOnce(std::path::PathBuf) -> F + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can mount a small disk");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let options = format!("size={bytes}");
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test(path.to_owned()));
        };
        scope.spawn(run).join().unwrap();
    });
}

/// Takes all the space that is left.
fn fill(dir: &Path) {
    let mut file = fs::File::create(dir.join("ballast")).unwrap();
    let error = loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &[1; 512]) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

fn free(dir: &Path) {
    fs::remove_file(dir.join("ballast")).unwrap();
}

/// More than the pages that the log has already.
fn many(from: i64) -> impl Iterator<Item = SessionRow> {
    (from..from + 300).map(|at| SessionRow { request: "x".repeat(400), ..session(&format!("s{at}"), at) })
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost_when_there_is_space_again() {
    on_a_small_disk(4 * 1024 * 1024, |dir| async move {
        let path = dir.join("state.db");
        let store = open(&path).store;
        store.put_session(session("a", 1));
        flush(&store).await;
        fill(&dir);
        let number = |row: &SessionRow| row.key.created_ms;
        many(10).for_each(|row| {
            let what = event(&row.key.id.to_string(), number(&row), true);
            store.put_events(row, vec![what]);
        });
        let StoreHealth::Failing { reason, .. } = until(&store, is_failing, PATIENCE).await else { panic!() };
        assert!(reason.contains("full"), "{reason}");
        assert_eq!(store.flush(Duration::from_millis(50)).await, Flushed::TimedOut);
        // What waits is part of the answer.
        assert_eq!(store.live_sessions().await.unwrap().len(), 301);
        store.put_session(SessionRow { state: "ready".to_owned(), ..session("s10", 10) });
        free(&dir);
        let freed = Instant::now();
        until(&store, |health| *health == StoreHealth::Ok, RECOVERY).await;
        flush(&store).await;
        assert!(freed.elapsed() < RECOVERY, "{:?}", freed.elapsed());
        drop(store);
        let store = open(&path).store;
        let rows = store.live_sessions().await.unwrap();
        assert_eq!((rows.len(), rows[1].state.as_str()), (301, "ready"));
        let events = store.page(usize::MAX, usize::MAX).await.unwrap();
        assert!(events.iter().map(|waiting| waiting.event.number).eq(10..310), "{}", events.len());
    });
}

#[test]
fn a_disk_that_is_full_at_the_start_is_no_reason_not_to_start() {
    on_a_small_disk(1024 * 1024, |dir| async move {
        let path = dir.join("state.db");
        fill(&dir);
        let opened = open(&path);
        assert_eq!(opened.set_aside, None);
        let store = opened.store;
        assert!(is_failing(&store.health().borrow()));
        // There is nothing on disk, which is an answer.
        assert_eq!(store.live_sessions().await.unwrap(), []);
        store.put_session(session("a", 1));
        store.put_idempotency(idempotency("k", crate::clock::unix_now_ms()));
        assert_eq!(store.live_sessions().await.unwrap(), [session("a", 1)]);
        assert!(store.idempotency("k").await.unwrap().is_some());
        free(&dir);
        until(&store, |health| *health == StoreHealth::Ok, RECOVERY).await;
        drop(store);
        assert_eq!(open(&path).store.live_sessions().await.unwrap(), [session("a", 1)]);
    });
}

#[test]
fn a_file_that_is_there_is_read_and_not_set_aside_when_the_disk_is_full_at_the_start() {
    on_a_small_disk(1024 * 1024, |dir| async move {
        let path = dir.join("state.db");
        let store = open(&path).store;
        store.put_session(session("a", 1));
        drop(store);
        fill(&dir);
        let opened = open(&path);
        assert_eq!(opened.set_aside, None);
        assert_eq!(opened.store.live_sessions().await.unwrap(), [session("a", 1)]);
        many(10).for_each(|row| opened.store.put_session(row));
        until(&opened.store, is_failing, PATIENCE).await;
        free(&dir);
        until(&opened.store, |health| *health == StoreHealth::Ok, RECOVERY).await;
        assert_eq!(opened.store.live_sessions().await.unwrap().len(), 301);
    });
}

#[tokio::test]
async fn a_file_that_somebody_else_has_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_session(session("old", 1));
    drop(store);
    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let opened = open(&path);
    assert_eq!(opened.set_aside, None);
    let store = opened.store;
    assert!(is_failing(&store.health().borrow()));
    store.put_session(session("new", 2));
    // There are rows that cannot be read: not the same as none.
    assert!(matches!(store.live_sessions().await, Err(StoreError::NotOpen { .. })));
    assert_eq!(store.session(&"new".parse().unwrap()).await.unwrap(), Some(session("new", 2)));
    drop(holder);
    until(&store, |health| *health == StoreHealth::Ok, RECOVERY).await;
    assert_eq!(store.live_sessions().await.unwrap(), [session("old", 1), session("new", 2)]);
}

#[tokio::test]
async fn a_file_that_spoils_while_it_is_open_is_set_aside_and_what_lives_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    let now_ms = crate::clock::unix_now_ms();
    for at in 0..300 {
        store.put_session(SessionRow { request: "x".repeat(4000), ..ended(&format!("s{at}"), at, now_ms) });
    }
    flush(&store).await;
    drop(store);
    let store = open(&path).store;
    store.put_session(session("lives", 1));
    flush(&store).await;
    assert_eq!(store.recent(300).await.unwrap().len(), 300);
    let mut spoilt = fs::read(&path).unwrap();
    spoilt[16 * 4096..].fill(0xff);
    fs::write(&path, spoilt).unwrap();
    let said = store.health();
    assert!(*said.borrow() == StoreHealth::Ok && !said.has_changed().unwrap());
    let error = store.recent(300).await.unwrap_err();
    assert!(matches!(error, StoreError::Read(_)), "{error}");
    assert!(said.has_changed().unwrap(), "health said so, and may be well again by now");
    until(&store, |health| *health == StoreHealth::Ok, PATIENCE).await;
    assert_eq!(store.live_sessions().await.unwrap(), [session("lives", 1)]);
    flush(&store).await;
    assert!(store.recent(300).await.unwrap().is_empty(), "the history is in the file set aside");
    let aside = fs::read_dir(dir.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("state.db.set-aside-")
    });
    assert!(aside.count() > 0);
}

#[test]
fn what_is_flushed_is_on_the_disk_and_not_in_its_cache() {
    let dir = tempfile::tempdir().unwrap();
    let file = super::super::file::open(&dir.path().join("state.db")).file.unwrap();
    // SQLite, PRAGMA synchronous: 2 is FULL, which syncs the log at each commit.
    let level: i64 = file.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    let journal: String = file.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!((level, journal.as_str()), (2, "wal"));
}

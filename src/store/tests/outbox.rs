//! Events that wait for the control plane.

use rusqlite::Connection;

use super::super::outbox;
use super::*;

async fn ids(store: &Store) -> Vec<String> {
    store.page(100, usize::MAX).await.unwrap().into_iter().map(|waiting| waiting.event.id).collect()
}

#[tokio::test]
async fn events_wait_in_order_until_they_are_heard_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    let mut told = store.told();
    store.put_events(session("a", 1), vec![event("e1", 1, true), event("e2", 2, false)]);
    store.put_events(ended("a", 1, 9), vec![event("e3", 3, true)]);
    flush(&store).await;
    assert!(told.has_changed().unwrap());
    told.mark_unchanged();
    let page = store.page(2, usize::MAX).await.unwrap();
    assert_eq!(
        page.iter().map(|waiting| &waiting.event).collect::<Vec<_>>(),
        [&event("e1", 1, true), &event("e2", 2, false)]
    );
    // One more than fills the size, never none.
    assert_eq!(store.page(100, 1).await.unwrap().len(), 1);
    let outbox = store.outbox().await.unwrap();
    assert_eq!((outbox.waiting, outbox.oldest_ms), (3, Some(1_700_000_000_001)));
    drop(store);

    let store = open(&path).store;
    assert!(store.set_aside(page[1].seq, "e2", "no".to_owned()).await.unwrap());
    assert!(store.forget(page[0].seq, "e1").await.unwrap());
    assert_eq!(ids(&store).await, ["e3"]);
    assert!(store.forget(page[1].seq + 1, "e3").await.unwrap());
    let outbox = store.outbox().await.unwrap();
    assert_eq!((outbox.waiting, outbox.oldest_ms, outbox.set_aside, outbox.dropped), (0, None, 1, 0));
    assert!(!told.has_changed().unwrap_or(false));
    drop(store);
    let file = Connection::open(&path).unwrap();
    let kept = "SELECT event_id || ': ' || refusal FROM outbox WHERE refused_ms > 0";
    assert_eq!(file.query_row(kept, [], |row| row.get::<_, String>(0)).unwrap(), "e2: no");
}

#[tokio::test]
async fn what_was_heard_of_a_file_that_is_lost_takes_nothing_from_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_events(session("a", 1), vec![event("e1", 1, true), event("e2", 2, true)]);
    flush(&store).await;
    let page = store.page(100, usize::MAX).await.unwrap();
    drop(store);
    std::fs::remove_file(&path).unwrap();

    let store = open(&path).store;
    store.put_events(session("b", 2), vec![event("f1", 1, true), event("f2", 2, true)]);
    flush(&store).await;
    let other = store.page(100, usize::MAX).await.unwrap();
    assert_eq!((page[0].seq, page[1].seq), (other[0].seq, other[1].seq), "numbers start anew");
    assert!(!store.forget(page[1].seq, &page[1].event.id).await.unwrap());
    assert!(!store.set_aside(page[0].seq, &page[0].event.id, "no".to_owned()).await.unwrap());
    assert_eq!(ids(&store).await, ["f1", "f2"]);
    assert_eq!(store.outbox().await.unwrap().set_aside, 0);
    assert!(store.forget(other[1].seq, "f2").await.unwrap());
    assert!(ids(&store).await.is_empty());
}

#[test]
fn of_too_many_the_oldest_that_can_be_done_without_go_first_and_each_loss_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(open(&path));
    let file = Connection::open(&path).unwrap();
    for (number, is_kept) in [(1, true), (2, false), (3, true), (4, false), (5, true)] {
        outbox::put(&file, &event(&format!("e{number}"), number, is_kept)).unwrap();
    }
    let left = || -> Vec<i64> {
        let page = outbox::page(&file, 10, usize::MAX).unwrap();
        page.into_iter().map(|waiting| waiting.event.number).collect()
    };
    assert_eq!(outbox::trim(&file, 0, 5).unwrap(), 0);
    assert_eq!((outbox::trim(&file, 0, 4).unwrap(), left()), (1, vec![1, 3, 4, 5]));
    assert_eq!((outbox::trim(&file, 7, 2).unwrap(), left()), (2, vec![3, 5]));
    assert_eq!(outbox::counts(&file).unwrap().dropped, 10);
}

#[tokio::test]
async fn a_file_of_the_version_before_gets_an_outbox_and_keeps_its_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_session(session("a", 1));
    drop(store);
    let file = Connection::open(&path).unwrap();
    let back = "DROP TABLE profiles; DROP TABLE profile_fence; DROP TABLE outbox; DROP TABLE outbox_totals; \
         ALTER TABLE sessions DROP COLUMN events; PRAGMA user_version = 1";
    file.execute_batch(back).unwrap();
    drop(file);
    let opened = open(&path);
    assert_eq!(opened.set_aside, None);
    let before = SessionRow { events: 0, ..session("a", 1) };
    assert_eq!(opened.store.live_sessions().await.unwrap(), [before]);
    opened.store.put_events(session("a", 1), vec![event("e1", 1, true)]);
    flush(&opened.store).await;
    assert_eq!(ids(&opened.store).await, ["e1"]);
}

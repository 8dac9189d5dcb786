//! The pool's rows.

use rusqlite::Connection;

use super::super::{ProfileRow, ProfileRows};
use super::*;

fn profile(name: &str) -> ProfileRow {
    ProfileRow {
        name: name.parse().unwrap(),
        user: "jörg@example.org".parse().unwrap(),
        kind: "adspower".to_owned(),
        external: Some("k1".to_owned()),
        proxy: Some("http://h:1".to_owned()),
        fingerprint: Some("{}".to_owned()),
        state: "active".to_owned(),
        reason: Some("why".to_owned()),
        holder: Some(key("a", 7)),
        fence: 1 << 52,
        failures: 1,
        uses: 2,
        last_used_ms: Some(3),
        created_ms: 4,
        since_ms: Some(5),
        since_boottime_ms: Some(6),
        boot_id: Some("boot".to_owned()),
        length_ms: Some(8),
    }
}

fn bare(name: &str) -> ProfileRow {
    ProfileRow {
        external: None,
        proxy: None,
        fingerprint: None,
        reason: None,
        holder: None,
        last_used_ms: None,
        since_ms: None,
        since_boottime_ms: None,
        boot_id: None,
        length_ms: None,
        ..profile(name)
    }
}

#[tokio::test]
async fn profiles_come_back_as_they_were_put_last_and_those_that_are_gone_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_profile(profile("a"));
    store.put_profile(profile("b"));
    store.put_profile(profile("gone"));
    flush(&store).await;
    store.put_profile(bare("b"));
    store.forget_profile(&"gone".parse().unwrap());
    store.put_profile_fence(99);
    let expected = ProfileRows { profiles: vec![profile("a"), bare("b")], fence: 99 };
    let sorted = |mut rows: ProfileRows| {
        rows.profiles.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    };
    // Whether it is on disk yet or not.
    assert_eq!(sorted(store.profiles().await.unwrap()), expected);
    drop(store);
    assert_eq!(open(&path).store.profiles().await.unwrap(), expected);
}

#[tokio::test]
async fn a_file_of_the_version_before_gets_the_table_and_keeps_its_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_session(session("a", 1));
    flush(&store).await;
    drop(store);
    let undo = "DROP TABLE profiles; DROP TABLE profile_fence; PRAGMA user_version = 2";
    Connection::open(&path).unwrap().execute_batch(undo).unwrap();
    let opened = open(&path);
    assert_eq!(opened.set_aside, None);
    assert_eq!(opened.store.live_sessions().await.unwrap(), [session("a", 1)]);
    opened.store.put_profile(profile("a"));
    flush(&opened.store).await;
    assert_eq!(opened.store.profiles().await.unwrap().profiles, [profile("a")]);
}

#[tokio::test]
async fn a_profile_s_row_that_is_none_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_profile(profile("a"));
    store.put_profile(profile("b"));
    flush(&store).await;
    drop(store);
    let spoil = "UPDATE profiles SET name = '../b' WHERE name = 'b'";
    Connection::open(&path).unwrap().execute_batch(spoil).unwrap();
    assert_eq!(open(&path).store.profiles().await.unwrap().profiles, [profile("a")]);
}

#[tokio::test]
async fn profiles_are_written_again_when_the_file_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_profile(profile("a"));
    flush(&store).await;
    std::fs::remove_file(&path).unwrap();
    store.put_session(session("a", 1));
    flush(&store).await;
    drop(store);
    assert_eq!(open(&path).store.profiles().await.unwrap().profiles, [profile("a")]);
}

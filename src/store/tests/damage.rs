//! Files that an unlucky or a hostile hand has left.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use proptest::prelude::*;
use rusqlite::Connection;

use super::super::{Damage, SetAside, StoreHealth};
use super::*;
use crate::clock;

/// The three names of a file that a daemon, killed, has left: most of it is in the log.
#[derive(Debug, Clone)]
struct Left {
    main: Vec<u8>,
    log: Vec<u8>,
}

fn left() -> &'static Left {
    static LEFT: OnceLock<Left> = OnceLock::new();
    LEFT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = open(&path).store;
            for at in 0..40 {
                store.put_session(session(&format!("s{at}"), at));
                store.put_process(process(&format!("s{at}"), at, "xvfb"));
            }
            flush(&store).await;
            drop(store);
            let store = open(&path).store;
            for at in 0..40 {
                store.put_session(ended(&format!("s{at}"), at, clock::unix_now_ms()));
                flush(&store).await;
            }
            // Copied while it is open, as a kill would leave it.
            let log = fs::read(dir.path().join("state.db-wal")).unwrap();
            let main = fs::read(&path).unwrap();
            assert!(main.len() > 8192 && log.len() > 8192);
            Left { main, log }
        })
    })
}

fn leave(dir: &Path, left: &Left) -> PathBuf {
    let path = dir.join("state.db");
    fs::write(&path, &left.main).unwrap();
    fs::write(dir.join("state.db-wal"), &left.log).unwrap();
    path
}

/// The store works: it takes a row, and has it after being opened again.
async fn works(path: &Path) -> Option<SetAside> {
    let opened = open(path);
    let store = opened.store;
    store.put_session(session("new", 7));
    flush(&store).await;
    assert_eq!(*store.health().borrow(), StoreHealth::Ok);
    drop(store);
    let again = open(path);
    assert_eq!(again.set_aside, None);
    let found = again.store.session(&"new".parse().unwrap()).await.unwrap();
    assert_eq!(found, Some(session("new", 7)));
    assert!(fs::symlink_metadata(path).unwrap().is_file());
    opened.set_aside
}

#[tokio::test]
async fn a_file_that_was_left_open_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = leave(dir.path(), left());
    let opened = open(&path);
    assert_eq!(opened.set_aside, None);
    assert_eq!(opened.store.recent(100).await.unwrap().len(), 40);
    assert_eq!(opened.store.processes().await.unwrap(), []);
}

type Spoil = fn(&Path);

#[tokio::test]
async fn garbage_other_people_s_databases_and_newer_ones_are_set_aside_whole() {
    let newer = |path: &Path| {
        drop(open(path));
        Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    };
    let foreign = |path: &Path| {
        Connection::open(path)
            .unwrap()
            .execute_batch("CREATE TABLE sessions (x); INSERT INTO sessions VALUES (1)")
            .unwrap();
    };
    let lying = |path: &Path| {
        Connection::open(path).unwrap().execute_batch("CREATE TABLE x (x); PRAGMA user_version = 1").unwrap();
    };
    let garbage = |path: &Path| fs::write(path, [0xa5; 10_000]).unwrap();
    let other_columns = |path: &Path| {
        drop(open(path));
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("ALTER TABLE sessions RENAME COLUMN run TO walk").unwrap();
    };
    let short = |path: &Path| fs::write(path, "x").unwrap();
    let page_lost = |path: &Path| {
        drop(open(path));
        let mut bytes = fs::read(path).unwrap();
        bytes[4096..8192].fill(0xff);
        fs::write(path, bytes).unwrap();
    };
    let ways: [(&str, Spoil); 7] = [
        ("newer", newer),
        ("foreign", foreign),
        ("lying", lying),
        ("other columns", other_columns),
        ("garbage", garbage),
        ("short", short),
        ("page lost", page_lost),
    ];
    for (name, spoil) in ways {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        spoil(&path);
        let before = fs::read(&path).unwrap();
        let aside = works(&path).await.unwrap_or_else(|| panic!("{name} was not set aside"));
        assert!(fs::read(&aside.path).unwrap() == before, "{name}");
        let expected = if name == "newer" { Damage::UnknownVersion(99) } else { aside.damage.clone() };
        assert_eq!(aside.damage, expected);
        assert!(name == "newer" || matches!(aside.damage, Damage::Contents(_)), "{name}: {:?}", aside.damage);
    }
}

#[tokio::test]
async fn what_is_not_a_file_of_ours_is_set_aside_and_what_it_points_to_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let target = dir.path().join("target");
    fs::write(&target, "mine").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert_eq!(works(&path).await.unwrap().damage, Damage::NotAFile);
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    // A link in the place of the log would be written through as well.
    let log = dir.path().join("state.db-wal");
    std::os::unix::fs::symlink(&target, &log).unwrap();
    assert_eq!(works(&path).await.unwrap().damage, Damage::NotAFile);
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "x").unwrap();
    assert_eq!(works(&path).await.unwrap().damage, Damage::NotAFile);
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(works(&path).await.unwrap().damage, Damage::NotAFile);
}

#[tokio::test]
async fn a_file_of_another_user_is_set_aside() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can give a file away");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    drop(open(&path));
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    assert_eq!(works(&path).await.unwrap().damage, Damage::NotOurs(12_345));
}

#[tokio::test]
async fn of_the_files_set_aside_the_last_three_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    for number in 0..5 {
        std::os::unix::fs::symlink(format!("number {number}"), &path).unwrap();
        fs::write(dir.path().join("state.db-wal"), number.to_string()).unwrap();
        assert!(open(&path).set_aside.is_some());
        fs::remove_file(&path).unwrap();
    }
    let mut kept: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("state.db.set-aside-"))
        .collect();
    kept.sort();
    assert_eq!(kept.len(), 6);
    for (number, pair) in (2..5).zip(kept.chunks(2)) {
        assert_eq!(fs::read_link(&pair[0]).unwrap().to_str().unwrap(), format!("number {number}"));
        assert_eq!(fs::read_to_string(&pair[1]).unwrap(), number.to_string());
    }
}

#[tokio::test]
async fn a_file_that_is_removed_or_replaced_under_the_store_gets_what_lives_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(&path).store;
    store.put_session(session("a", 1));
    store.put_process(process("a", 1, "xvfb"));
    flush(&store).await;
    for replace in [false, true] {
        fs::remove_file(&path).unwrap();
        fs::remove_file(dir.path().join("state.db-wal")).unwrap();
        if replace {
            fs::write(&path, "garbage").unwrap();
        }
        store.put_session(session("b", 2));
        flush(&store).await;
        let copy = tempfile::tempdir().unwrap();
        for name in ["state.db", "state.db-wal"] {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let there = open(&copy.path().join("state.db")).store;
        assert_eq!(there.live_sessions().await.unwrap(), [session("a", 1), session("b", 2)]);
        assert_eq!(there.processes().await.unwrap(), [process("a", 1, "xvfb")]);
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_file_cut_anywhere_opens(main in any::<prop::sample::Index>(), log in any::<prop::sample::Index>()) {
        let whole = left();
        let cut = Left {
            main: whole.main[..main.index(whole.main.len() + 1)].to_vec(),
            log: whole.log[..log.index(whole.log.len() + 1)].to_vec(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = leave(dir.path(), &cut);
        block_on(async { drop(works(&path).await) });
    }

    #[test]
    fn a_file_with_random_bytes_in_it_opens(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        in_log in any::<bool>(),
    ) {
        let mut spoiled = left().clone();
        let target = if in_log { &mut spoiled.log } else { &mut spoiled.main };
        let start = at.index(target.len());
        for (place, byte) in target[start..].iter_mut().zip(bytes) {
            *place = byte;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = leave(dir.path(), &spoiled);
        block_on(async { drop(works(&path).await) });
    }

    #[test]
    fn a_file_of_random_bytes_opens(bytes in prop::collection::vec(any::<u8>(), 0..9000), header in any::<bool>()) {
        let start: &[u8] = if header { b"SQLite format 3\0" } else { b"" };
        let main = [start, &bytes].concat();
        let dir = tempfile::tempdir().unwrap();
        let path = leave(dir.path(), &Left { main, log: bytes });
        block_on(async { drop(works(&path).await) });
    }
}

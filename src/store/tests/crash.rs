//! The daemon killed in the middle of writing: this test binary, running the writer alone.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use super::*;

/// The variable that makes [`a_writer_that_is_killed`] one, holding its file's path.
const WRITER: &str = "VALETD_TEST_STORE_WRITER";
/// Precedes the number of a row that is in the file.
const FLUSHED: &str = "flushed ";

#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn a_writer_that_is_killed() {
    let Some(path) = std::env::var_os(WRITER) else { return };
    let store = open(Path::new(&path)).store;
    for at in 0.. {
        let id = format!("s{at}");
        let row = SessionRow { request: "x".repeat(1000), events: at, ..session(&id, at) };
        store.put_events(row, vec![event(&format!("e{at}"), at, true)]);
        store.put_process(process(&id, at, "xvfb"));
        flush(&store).await;
        println!("\n{FLUSHED}{at}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a process of its own, which the test kills")]
fn start_writer(path: &Path) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::a_writer_that_is_killed", "--ignored", "--nocapture"])
        .env(WRITER, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn everything_that_was_flushed_is_there_after_a_kill_in_the_middle_of_a_write() {
    // Enough rows that the log has gone into the file and begun anew in the later ones.
    for rows_before_kill in [1, 30, 700] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut child = start_writer(&path);
        let mut flushed = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix(FLUSHED)?.parse::<usize>().ok());
        let reached = flushed.by_ref().find(|row| *row >= rows_before_kill);
        child.kill().unwrap();
        child.wait().unwrap();
        let last = flushed.last().or(reached).unwrap();
        let opened = open(&path);
        assert_eq!(opened.set_aside, None);
        let rows = opened.store.live_sessions().await.unwrap();
        assert!(rows.len() > last, "{} rows, and row {last} was flushed", rows.len());
        for (at, row) in rows.iter().enumerate() {
            assert_eq!(row.key, key(&format!("s{at}"), i64::try_from(at).unwrap()));
        }
        // Each with its event, never one without the other.
        let events = opened.store.page(usize::MAX, usize::MAX).await.unwrap();
        let numbers: Vec<i64> = events.iter().map(|waiting| waiting.event.number).collect();
        assert_eq!(numbers, rows.iter().map(|row| row.events).collect::<Vec<_>>());
        // The last of them may have been cut off from its session.
        let processes = opened.store.processes().await.unwrap().len();
        assert!((last + 1..=rows.len()).contains(&processes), "{processes} of {}", rows.len());
    }
}

//! What is written down of sessions, so that the next life of the daemon knows what this one left. Level-triggered: each
//! entry is the latest state of a thing, and the store has it on disk as soon as the disk takes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use super::events::Happening;
use super::handoff::Handoff;
use super::record::{Cause, End, SessionRecord, Warmth};
use super::request::{Idempotency, Kind};
use super::status::{Component, SessionState};
use super::telling::event;
use super::viewer::Viewers;
use crate::clock::{boottime_ms, unix_ms, unix_now_ms};
use crate::errors::chain;
use crate::hex;
use crate::ids::ProfileName;
use crate::profile::{Change, Moment};
use crate::store::{
    EventRow, Flushed, IdempotencyRow, ProcessRow, ProfileRows, SessionKey, SessionRow, Store, StoreError,
};
use crate::sys::leftover::{self, Outcome as Fate, Recorded};
use crate::sys::procfs::Stat;
use crate::tasks::blocking;

/// For a process that an earlier run left to end: TERM at once, KILL after half of it.
const LEFTOVER_BUDGET: Duration = Duration::from_secs(4);
/// For what was told to be on disk, before it is answered.
const SETTLE_DEADLINE: Duration = Duration::from_secs(2);
/// Between tries to read what could not be read at the start.
const LATE_RETRY: Duration = Duration::from_secs(2);
/// For all of them.
const LEFTOVERS_DEADLINE: Duration = Duration::from_secs(20);

/// The store, and what marks this life of the daemon in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Store,
    boot_id: String,
    run: String,
    /// Whether a control plane is to hear of what happens.
    reports: bool,
}

/// What was found of earlier runs.
pub(super) struct Recovered {
    pub(super) history: Vec<SessionRecord>,
    /// Whether that was all; otherwise [`Ledger::recover_late`] does the rest.
    pub(super) is_whole: bool,
}

/// A session, as its entries name it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) ledger: Ledger,
    pub(super) slot: u32,
    pub(super) uid: u32,
    key: SessionKey,
}

impl Ledger {
    /// Writes to `store` as the run called `run` of the daemon, in the boot called `boot_id`.
    pub fn new(store: Store, boot_id: String, run: String) -> Self {
        Self { store, boot_id, run, reports: false }
    }

    /// The same for a host whose control plane is to hear of what happens.
    #[must_use]
    pub fn reporting(self) -> Self {
        Self { reports: true, ..self }
    }

    pub(super) fn reports(&self) -> bool {
        self.reports
    }

    /// Waits until everything that was told is on disk, so that whoever is answered then may rely on it; `false` where that
    /// takes too long. It waits in memory then, and the host's health says so.
    pub(super) async fn settle(&self) -> bool {
        let is_kept = self.store.flush(SETTLE_DEADLINE).await == Flushed::Done;
        if !is_kept {
            tracing::warn!("what has happened is not on disk yet");
        }
        is_kept
    }

    pub(super) fn entry(&self, key: SessionKey, slot: u32, uid: u32) -> Entry {
        Entry { ledger: self.clone(), slot, uid, key }
    }

    /// The session that a request made in an earlier run of the daemon, and the digest of what was asked for.
    pub(super) async fn recall(&self, key: &[u8; 32]) -> Option<([u8; 32], SessionKey)> {
        match self.store.idempotency(&hex::encode(key)).await {
            Ok(row) => row.and_then(|row| Some((hex::decode(&row.fingerprint)?, row.session))),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot look up an idempotency key: it counts as new");
                None
            }
        }
    }

    pub(super) fn remember(&self, idempotency: Idempotency, session: &SessionKey) {
        self.store.put_idempotency(IdempotencyRow {
            key: hex::encode(&idempotency.key),
            fingerprint: hex::encode(&idempotency.fingerprint),
            session: session.clone(),
            created_ms: unix_now_ms(),
        });
    }

    /// What an earlier run knew of the pool of profiles.
    pub(super) async fn profiles(&self) -> ProfileRows {
        self.store.profiles().await.unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "cannot tell which profiles there are: the pool begins empty");
            ProfileRows::default()
        })
    }

    /// Processes that were written down and whose end was not: of this run and, before [`Self::recover`], of the one before.
    pub(super) async fn processes(&self) -> Vec<ProcessRow> {
        // Whoever recovers says what is wrong.
        self.store.processes().await.unwrap_or_default()
    }

    /// Whether a process that was written down is still there.
    pub(super) fn is_there(&self, process: &ProcessRow) -> bool {
        let is_it = |stat: &Stat| stat.start_time == process.start_time && !stat.is_zombie();
        process.boot_id == self.boot_id && Stat::of(process.pid).is_ok_and(|stat| is_it(&stat))
    }

    /// A profile of the pool as it is now.
    pub(super) fn profile(&self, change: Change) {
        match change {
            Change::Put(row) => self.store.put_profile(*row),
            Change::Gone(name) => self.store.forget_profile(&name),
            Change::Fence(fence) => self.store.put_profile_fence(fence),
        }
    }

    /// The clocks now.
    pub(super) fn now(&self) -> Moment {
        Moment { boot_id: self.boot_id.as_str().into(), boottime_ms: boottime_ms(), wall_ms: unix_now_ms() }
    }

    /// Puts in order what an earlier run left: its processes are ended, unless the pid is somebody else's by now, and its
    /// sessions are told to have ended. Gives the sessions that ended lately, newest first, at most `limit`.
    pub(super) async fn recover(&self, limit: usize) -> Recovered {
        let is_whole = match self.close_left().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot tell yet what an earlier run left");
                false
            }
        };
        let history = match self.store.recent(limit).await {
            Ok(rows) => rows.into_iter().filter_map(record).collect(),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "no history of sessions");
                Vec::new()
            }
        };
        Recovered { history, is_whole }
    }

    /// Does that as soon as the state file can be read.
    pub(super) async fn recover_late(self) {
        loop {
            sleep(LATE_RETRY).await;
            match self.close_left().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "cannot tell yet what an earlier run left");
                }
            }
        }
    }

    /// Ends the processes and closes the sessions of other runs than this.
    async fn close_left(&self) -> Result<(), StoreError> {
        let processes = self.store.processes().await?;
        let (own, left): (Vec<_>, Vec<_>) =
            self.store.live_sessions().await?.into_iter().partition(|row| row.run == self.run);
        let is_own = |process: &ProcessRow| own.iter().any(|row| row.key == process.session);
        self.end_leftovers(processes.into_iter().filter(|process| !is_own(process)).collect()).await;
        left.into_iter().for_each(|row| self.close(row));
        Ok(())
    }

    async fn end_leftovers(&self, rows: Vec<ProcessRow>) {
        let own_boot = self.boot_id.clone();
        let ended = blocking(LEFTOVERS_DEADLINE, move || {
            rows.into_iter().for_each(|row| end_leftover(row, &own_boot));
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "processes of an earlier run may be left");
        }
    }

    /// Ends a session that an earlier run left, and with it what waited for a human.
    fn close(&self, row: SessionRow) {
        tracing::warn!(session = %row.key.id, "a session ended with the daemon that had it");
        let at = SystemTime::now();
        let mut happenings = Vec::new();
        let mut handoffs: Vec<Handoff> = serde_json::from_str(&row.handoffs).unwrap_or_default();
        for handoff in &mut handoffs {
            if handoff.closing.is_none() {
                *handoff = handoff.clone().cancelled(at);
                happenings.push(Happening::Human(row.key.clone(), Arc::new(handoff.clone())));
            }
        }
        happenings.push(Happening::Ended(End { cause: Cause::HostDied, reason: None }));
        let mut number = row.events;
        let mut events = Vec::new();
        for what in happenings.iter().filter(|_| self.reports) {
            number += 1;
            events.push(event(&row.key, number, at, row.labels.clone(), what));
        }
        let row = SessionRow {
            state: SessionState::Stopped.as_str().to_owned(),
            ended_ms: Some(unix_ms(at)),
            outcome: Some(Cause::HostDied.as_str().to_owned()),
            handoffs: serde_json::to_string(&handoffs).unwrap_or_default(),
            events: number,
            boot_id: self.boot_id.clone(),
            run: self.run.clone(),
            ..row
        };
        self.store.put_events(row, events);
    }
}

impl Entry {
    /// Which session it is.
    pub(super) fn key(&self) -> &SessionKey {
        &self.key
    }

    /// The session as it is now, and what has happened to it: `number` is that of the last of all its events.
    pub(super) fn put(&self, record: &SessionRecord, number: i64, events: Vec<EventRow>) {
        let labels = serde_json::to_string(&record.labels).unwrap_or_default();
        let handoffs: Vec<&Handoff> = record.handoffs.iter().map(|handoff| &**handoff).collect();
        let handoffs = serde_json::to_string(&handoffs).unwrap_or_default();
        let request = serde_json::json!({
            "idle_timeout_seconds": record.idle_timeout_seconds,
            "warmth": record.warmth.as_str(),
        });
        let row = SessionRow {
            key: self.key.clone(),
            user: record.user.clone(),
            kind: record.kind.as_str().to_owned(),
            profile: record.profile.as_ref().map(|profile| profile.as_str().to_owned()),
            slot: self.slot,
            uid: self.uid,
            state: record.state.as_str().to_owned(),
            ready_ms: record.ready.map(unix_ms),
            ended_ms: record.ended.map(unix_ms),
            expires_ms: record.expires.map(unix_ms),
            outcome: record.end.as_ref().map(|end| end.cause.as_str().to_owned()),
            detail: record.end.as_ref().and_then(|end| end.reason.clone()),
            labels,
            handoffs,
            request: request.to_string(),
            events: number,
            boot_id: self.ledger.boot_id.clone(),
            run: self.ledger.run.clone(),
        };
        self.ledger.store.put_events(row, events);
    }

    /// The main process of a part, where it has another than before.
    pub(super) fn process(&self, before: Option<&Component>, now: &Component) {
        if before.is_some_and(|before| before.pid == now.pid) {
            return;
        }
        match now.pid.and_then(|pid| Stat::of(pid).ok()) {
            Some(stat) => self.ledger.store.put_process(ProcessRow {
                session: self.key.clone(),
                service: now.name.to_owned(),
                pid: stat.pid,
                start_time: stat.start_time,
                cgroup: None,
                boot_id: self.ledger.boot_id.clone(),
            }),
            None => self.ledger.store.forget_process(&self.key, now.name),
        }
    }
}

fn end_leftover(row: ProcessRow, own_boot: &str) {
    let ProcessRow { session, service, pid, start_time, cgroup, boot_id } = row;
    let recorded = Recorded { pid, start_time, boot_id, cgroup };
    match leftover::end(&recorded, own_boot, LEFTOVER_BUDGET) {
        Ok(Fate::Gone | Fate::NotTheSame) => {}
        Ok(Fate::Ended) => {
            tracing::warn!(session = %session.id, service, pid, "ended a process that an earlier run left");
        }
        Ok(Fate::Survives) => {
            tracing::error!(session = %session.id, service, pid, "a process that an earlier run left cannot be ended");
        }
        Err(error) => {
            tracing::error!(session = %session.id, service, pid, error = %chain(&error), "cannot end what an earlier run left");
        }
    }
}

/// A session of the past, as far as it was written down. What was written by another version may not be understood.
fn record(row: SessionRow) -> Option<SessionRecord> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == row.kind)?;
    let request: serde_json::Value = serde_json::from_str(&row.request).unwrap_or_default();
    let warmth = [Warmth::Cold, Warmth::Display, Warmth::Browser];
    let warmth = warmth.into_iter().find(|warmth| request["warmth"] == warmth.as_str());
    let cause = Cause::ALL.into_iter().find(|cause| Some(cause.as_str()) == row.outcome.as_deref());
    let labels: BTreeMap<String, String> = serde_json::from_str(&row.labels).unwrap_or_default();
    let handoffs: Vec<Handoff> = serde_json::from_str(&row.handoffs).unwrap_or_default();
    let ended = row.ended_ms.map(time);
    // A daemon that was killed had no time to say so.
    let over = |handoff: Handoff| Arc::new(handoff.cancelled(ended.unwrap_or_else(SystemTime::now)));
    Some(SessionRecord {
        id: row.key.id,
        user: row.user,
        kind,
        profile: row.profile.and_then(|profile| ProfileName::try_from(profile).ok()),
        state: SessionState::Stopped,
        created: time(row.key.created_ms),
        ready: row.ready_ms.map(time),
        expires: row.expires_ms.map(time),
        idle_timeout_seconds: request["idle_timeout_seconds"].as_u64(),
        ended,
        end: cause.map(|cause| End { cause, reason: row.detail }),
        warmth: warmth.unwrap_or(Warmth::Cold),
        labels,
        handoffs: handoffs.into_iter().map(over).collect(),
        components: Vec::new(),
        viewers: Viewers { spectators: 0, controllers: 0 },
        watching: Vec::new(),
        screen: None,
        automations: 0,
        tab_crashes: 0,
        display: None,
        display_size: None,
        devtools_port: None,
    })
}

fn time(unix_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::browser::CrashReason;
    use crate::session::handoff::{Closing, HandoffKind, Outcome};
    use crate::session::telling::Teller;
    use crate::store::Metrics;

    fn ledger(dir: &std::path::Path, boot: &str, run: &str) -> Ledger {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let opened = Store::open(&dir.join("state.db"), metrics).unwrap();
        Ledger::new(opened.store, boot.to_owned(), run.to_owned())
    }

    /// A moment so many seconds from a minute ago, in whole milliseconds. What is older than a month is not kept.
    fn at(seconds: i64) -> SystemTime {
        time((unix_now_ms() / 60_000 - 1) * 60_000 + seconds * 1000)
    }

    fn session(id: &str) -> SessionRecord {
        SessionRecord {
            id: id.parse().unwrap(),
            user: Some("u1".parse().unwrap()),
            kind: Kind::Chromium,
            profile: Some("p".parse().unwrap()),
            state: SessionState::Ready,
            created: at(1),
            ready: Some(at(2)),
            expires: None,
            idle_timeout_seconds: Some(60),
            ended: None,
            end: None,
            warmth: Warmth::Browser,
            labels: BTreeMap::from([("task_id".into(), "t".into())]),
            handoffs: vec![],
            components: vec![],
            viewers: Viewers { spectators: 0, controllers: 0 },
            watching: Vec::new(),
            screen: None,
            automations: 0,
            tab_crashes: 0,
            display: None,
            display_size: None,
            devtools_port: None,
        }
    }

    fn key(record: &SessionRecord) -> SessionKey {
        SessionKey { id: record.id.clone(), created_ms: unix_ms(record.created) }
    }

    #[tokio::test]
    async fn a_session_that_ended_is_remembered_as_it_was_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let first = ledger(dir.path(), "boot", "one");
        let end = End { cause: Cause::Idle, reason: Some("because".into()) };
        let ended = SessionRecord {
            state: SessionState::Stopped,
            ended: Some(at(3)),
            end: Some(end),
            ..session("s1")
        };
        first.entry(key(&ended), 3, 20_003).put(&ended, 0, vec![]);
        drop(first);
        assert_eq!(ledger(dir.path(), "boot", "two").recover(10).await.history, [ended]);
    }

    #[tokio::test]
    async fn f43_a_session_that_its_daemon_left_has_ended_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = ledger(dir.path(), "boot", "one");
        let live = session("s1");
        first.entry(key(&live), 0, 20_000).put(&live, 0, vec![]);
        drop(first);
        let recovered = ledger(dir.path(), "boot", "two").recover(10).await.history;
        let [record] = recovered.as_slice() else { panic!("{recovered:?}") };
        assert_eq!((record.state, &record.id), (SessionState::Stopped, &live.id));
        assert_eq!(record.end.as_ref().map(|end| end.cause), Some(Cause::HostDied));
        assert!(record.ended.is_some());
    }

    #[tokio::test]
    async fn f43_what_ended_with_the_daemon_is_told_to_the_control_plane_in_the_order_of_the_session() {
        let dir = tempfile::tempdir().unwrap();
        let (asked, over) = (at(2), at(20));
        let handoff = |id: &str, closing| Handoff {
            id: id.parse().unwrap(),
            kind: HandoffKind::Review,
            reason: "r".into(),
            event_scope: None,
            created: asked,
            expires: over,
            closing,
        };
        let closing = Closing { outcome: Outcome::Approved, at: at(3), by: None, note: None };
        let handoffs = vec![Arc::new(handoff("open", None)), Arc::new(handoff("done", Some(closing)))];
        let live = SessionRecord { handoffs, ..session("s1") };
        let first = ledger(dir.path(), "boot", "one").reporting();
        let teller = Teller::default();
        let entry = first.entry(key(&live), 0, 20_000);
        teller.tell(
            &entry,
            || live.clone(),
            vec![Happening::Created(Warmth::Cold), Happening::TabCrashed(CrashReason::Crashed)],
        );
        drop((entry, first));
        let second = ledger(dir.path(), "boot", "two").reporting();
        let recovered = second.recover(10).await.history;
        let outcomes = recovered[0].handoffs.iter().map(|known| known.closing.as_ref().unwrap().outcome);
        assert_eq!(outcomes.collect::<Vec<_>>(), [Outcome::Cancelled, Outcome::Approved]);
        second.settle().await;
        let told = second.store.page(10, usize::MAX).await.unwrap();
        let told: Vec<_> = told.iter().map(|waiting| (waiting.event.number, &*waiting.event.kind)).collect();
        let expected =
            [(1, "session.created"), (2, "tab.crashed"), (3, "human.cancelled"), (4, "session.ended")];
        assert_eq!(told, expected);
        drop(second);
        // Only once, however often a daemon starts.
        let third = ledger(dir.path(), "boot", "three").reporting();
        third.recover(10).await;
        third.settle().await;
        assert_eq!(third.store.outbox().await.unwrap().waiting, 4);
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_is_told_of_when_its_file_can_be_read_and_nothing_of_this_run() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (session("old"), session("new"));
        let first = ledger(dir.path(), "boot", "one").reporting();
        Teller::default().tell(&first.entry(key(&old), 0, 20_000), || old.clone(), vec![]);
        drop(first);
        let holder = rusqlite::Connection::open(dir.path().join("state.db")).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let second = ledger(dir.path(), "boot", "two").reporting();
        let Recovered { history, is_whole } = second.recover(10).await;
        assert!(!is_whole && history.is_empty());
        Teller::default().tell(&second.entry(key(&new), 0, 20_000), || new.clone(), vec![]);
        drop(holder);
        second.clone().recover_late().await;
        assert!(second.settle().await);
        let told = second.store.page(10, usize::MAX).await.unwrap();
        let told: Vec<_> =
            told.iter().map(|waiting| (&waiting.event.session, &*waiting.event.kind)).collect();
        assert_eq!(told, [(&key(&old), "session.ended")]);
        let live = second.store.live_sessions().await.unwrap();
        assert_eq!(live.iter().map(|row| &row.key).collect::<Vec<_>>(), [&key(&new)]);
    }

    #[tokio::test]
    async fn without_a_control_plane_nothing_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path(), "boot", "one");
        let live = session("s1");
        let entry = ledger.entry(key(&live), 0, 20_000);
        Teller::default().tell(&entry, || live.clone(), vec![Happening::Created(Warmth::Cold)]);
        ledger.recover(10).await;
        ledger.settle().await;
        assert_eq!(ledger.store.outbox().await.unwrap(), crate::store::Outbox::default());
    }

    #[tokio::test]
    async fn f45_a_pid_that_is_somebody_elses_by_now_is_not_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let first = ledger(dir.path(), "boot", "one");
        let live = session("s1");
        let entry = first.entry(key(&live), 0, 20_000);
        entry.put(&live, 0, vec![]);
        // This test's own parent, said to have started at another time: a signal would be noticed.
        let parent = nix::unistd::getppid().as_raw().cast_unsigned();
        first.store.put_process(ProcessRow {
            session: entry.key.clone(),
            service: "browser".into(),
            pid: parent,
            start_time: Stat::of(parent).unwrap().start_time + 1,
            cgroup: None,
            boot_id: "boot".into(),
        });
        drop((entry, first));
        assert_eq!(ledger(dir.path(), "boot", "two").recover(10).await.history.len(), 1);
        assert!(Stat::of(parent).is_ok());
    }

    #[tokio::test]
    async fn a_request_is_recognised_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = ledger(dir.path(), "boot", "one");
        let idempotency = Idempotency { key: [7; 32], fingerprint: [9; 32] };
        let key = SessionKey { id: "s1".parse().unwrap(), created_ms: 1 };
        first.remember(idempotency, &key);
        drop(first);
        let second = ledger(dir.path(), "boot", "two");
        assert_eq!(second.recall(&[7; 32]).await, Some(([9; 32], key)));
        assert_eq!(second.recall(&[8; 32]).await, None);
    }
}

//! The thread that has the file: writes what waits, answers questions, deletes what is kept no longer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::watch;

use super::file::{self, FileError, SetAside, StateFile};
use super::handle::{Read, Reply, Shared, StoreError, StoreHealth};
use super::metrics::{Dropped, Metrics};
use super::outbox;
use super::pending::{Batch, Pending, Row};
use super::rows::{IdempotencyRow, Outbox, ProcessRow, ProfileRows, SessionRow};
use super::schema;
use crate::backoff::Backoff;
use crate::ids::SessionId;
use crate::{clock, errors};

/// Between tries to write. What fails most is a full disk, which is written to within seconds of having space again.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };
/// What is old is looked for after each write, and so often without one.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// What is read at a start and never again.
const ASKED_ONCE: [&str; 2] = ["history", "profiles"];

/// The file, or why there is none.
#[derive(Debug)]
enum State {
    Open(StateFile),
    /// Nothing was ever written that could be read; the file, if there is one, was only begun.
    Nothing,
    /// There is one, and it is not open.
    Closed(String),
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    shared: Arc<Shared>,
    state: State,
    health: watch::Sender<StoreHealth>,
    settled: watch::Sender<u64>,
    /// Counts writes to the outbox.
    told: watch::Sender<u64>,
    metrics: Metrics,
    /// What is wrong with writing, and with each kind of question.
    unwritten: Option<String>,
    unread: BTreeMap<&'static str, String>,
    /// Failed tries since the last that did not.
    retries: u32,
    /// The next try, while failing.
    retry_at: Option<Instant>,
    prune_at: Instant,
}

/// What the thread publishes.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) health: watch::Receiver<StoreHealth>,
    pub(super) settled: watch::Receiver<u64>,
    pub(super) told: watch::Receiver<u64>,
}

/// What is to be done now.
struct Work {
    reads: Vec<Read>,
    write: bool,
    closing: bool,
}

impl Writer {
    /// A writer with the file open, where it can be opened.
    pub(super) fn open(path: &Path, shared: Arc<Shared>, metrics: Metrics) -> (Self, Option<SetAside>) {
        let mut writer = Self {
            path: path.to_owned(),
            shared,
            state: State::Closed("not opened yet".to_owned()),
            health: watch::Sender::new(StoreHealth::Ok),
            settled: watch::Sender::new(0),
            told: watch::Sender::new(0),
            metrics,
            unwritten: None,
            unread: BTreeMap::new(),
            retries: 0,
            retry_at: None,
            prune_at: Instant::now(),
        };
        let set_aside = match writer.reopen() {
            Ok(set_aside) => set_aside,
            Err((error, set_aside)) => {
                writer.failed(&error);
                set_aside
            }
        };
        (writer, set_aside)
    }

    /// For the handles.
    pub(super) fn watched(&self) -> Watched {
        Watched {
            health: self.health.subscribe(),
            settled: self.settled.subscribe(),
            told: self.told.subscribe(),
        }
    }

    /// Until the last handle is gone.
    pub(super) fn run(&mut self) {
        loop {
            let work = self.wait();
            if work.write {
                match self.write() {
                    Ok(()) => self.succeeded(),
                    Err(error) => self.failed(&error),
                }
            }
            for read in work.reads {
                self.answer(read);
            }
            if self.prune_at <= Instant::now() {
                self.prune();
            }
            let waiting = self.metrics.pending(&self.shared.lock());
            if work.closing {
                if waiting > 0 {
                    self.metrics.dropped(Dropped::Shutdown, waiting);
                    tracing::warn!(rows = waiting, "the state file could not be written to before the end");
                }
                return;
            }
        }
    }

    fn wait(&self) -> Work {
        let mut inner = self.shared.lock();
        loop {
            let now = Instant::now();
            let write_at = self.retry_at.or_else(|| inner.pending.is_dirty().then_some(now));
            let write = inner.hurry || inner.closing || write_at.is_some_and(|at| at <= now);
            let next = write_at.map_or(self.prune_at, |at| at.min(self.prune_at));
            if write || next <= now || !inner.reads.is_empty() {
                inner.hurry = false;
                let reads = inner.reads.drain(..).collect();
                return Work { reads, write, closing: inner.closing };
            }
            let outcome = self.shared.wake.wait_timeout(inner, next - now);
            inner = outcome.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Opens the file. Where it is another one than before, everything that lives is to be written again.
    fn reopen(&mut self) -> Result<Option<SetAside>, (FileError, Option<SetAside>)> {
        let attempt = file::open(&self.path);
        if attempt.set_aside.is_some() {
            self.metrics.set_aside.inc();
        }
        // Also where the file was put there by somebody else: rows that it has already are written once more.
        self.shared.lock().pending.unsettle();
        match attempt.file {
            Ok(file) => {
                self.unread.clear();
                self.state = State::Open(file);
                Ok(attempt.set_aside)
            }
            Err(error) => {
                if attempt.fresh {
                    self.state = State::Nothing;
                } else if !matches!(self.state, State::Nothing) {
                    self.state = State::Closed(errors::chain(&error));
                }
                Err((error, attempt.set_aside))
            }
        }
    }

    fn close(&mut self, reason: &dyn std::error::Error) {
        self.state = State::Closed(errors::chain(reason));
    }

    fn write(&mut self) -> Result<(), FileError> {
        if let State::Open(file) = &self.state
            && !file.is_in_place()
        {
            tracing::warn!(path = %self.path.display(), "somebody removed or replaced the state file");
            self.state = State::Closed("somebody removed or replaced it".to_owned());
        }
        if !matches!(self.state, State::Open(_)) {
            self.reopen().map_err(|(error, _)| error)?;
        }
        let State::Open(file) = &mut self.state else { return Ok(()) };
        let batch = self.shared.lock().pending.batch();
        if !batch.rows.is_empty() {
            match write_batch(&mut file.connection, &batch) {
                Ok(Written { rejected, dropped }) => {
                    self.metrics.dropped(Dropped::Rejected, rejected);
                    self.report_dropped(dropped);
                }
                Err(error) => {
                    // The others stay open: what was written before can be read meanwhile.
                    if !is_no_space_or_busy(&error) {
                        self.close(&error);
                    }
                    return Err(error.into());
                }
            }
            self.prune_at = Instant::now();
        }
        self.shared.lock().pending.settle(&batch);
        if batch.has_events() {
            self.told.send_modify(|count| *count += 1);
        }
        // Last, so that whoever waited for the disk finds everything told that is on it.
        self.settled.send_replace(batch.up_to);
        Ok(())
    }

    fn report_dropped(&self, events: u64) {
        if events > 0 {
            self.metrics.dropped(Dropped::Outbox, usize::try_from(events).unwrap_or(usize::MAX));
            tracing::warn!(events, "too much waits for the control plane: the oldest was given up");
        }
    }

    fn succeeded(&mut self) {
        (self.retries, self.retry_at) = (0, None);
        let has_failed = self.unwritten.take().is_some();
        self.publish();
        if has_failed {
            tracing::info!("the state file is written to again, nothing is missing in it");
        }
    }

    fn failed(&mut self, error: &FileError) {
        self.metrics.failures.inc();
        self.retry_at = Some(Instant::now() + BACKOFF.delay(self.retries, 1.0));
        self.retries = self.retries.saturating_add(1);
        let reason = errors::chain(error);
        if self.unwritten.replace(reason.clone()).is_none() {
            tracing::warn!(error = reason, "the state file cannot be written to: its rows wait in memory");
        } else {
            tracing::debug!(
                error = reason,
                retries = self.retries,
                "the state file cannot be written to yet"
            );
        }
        self.publish();
    }

    /// Shows what is wrong, if anything is.
    fn publish(&self) {
        let reason = self.unwritten.as_ref().or_else(|| self.unread.values().next());
        self.health.send_if_modified(|health| {
            let since = match health {
                StoreHealth::Failing { since, .. } => *since,
                StoreHealth::Ok => SystemTime::now(),
            };
            let next = reason
                .map_or(StoreHealth::Ok, |reason| StoreHealth::Failing { since, reason: reason.clone() });
            let changed = *health != next;
            *health = next;
            changed
        });
    }

    /// Gives an answer. A file that is open and cannot be read is one that fails.
    fn give<T>(&mut self, what: &'static str, reply: Reply<T>, outcome: Result<T, StoreError>) {
        match &outcome {
            Err(error @ StoreError::Read(source)) => {
                let (reason, is_spoilt) = (errors::chain(error), is_corrupt(source));
                // Until a later answer or another file takes it back: of what is asked once, that might be never.
                let stands = is_spoilt || !ASKED_ONCE.contains(&what);
                let is_known = stands && self.unread.insert(what, reason.clone()).is_some();
                if !is_known {
                    tracing::warn!(what, error = reason, "the state file cannot be read");
                }
                self.publish();
                if is_spoilt {
                    // Opened anew it is whole, or is set aside; what lives is written again then.
                    self.close(source);
                    self.retry_at = Some(Instant::now());
                }
            }
            Ok(_) if self.unread.remove(what).is_some() => self.publish(),
            Ok(_) | Err(_) => {}
        }
        // An asker that has given up is no failure.
        let _late = reply.send(outcome).is_err();
    }

    fn prune(&mut self) {
        self.prune_at = Instant::now() + PRUNE_INTERVAL;
        let State::Open(file) = &self.state else { return };
        match schema::prune(&file.connection, clock::unix_now_ms()) {
            // The rest after whatever waits for the thread meanwhile.
            Ok(true) => self.prune_at = Instant::now(),
            Ok(false) => {}
            // The next write finds out what is wrong, and says so.
            Err(error) => tracing::debug!(error = %errors::chain(&error), "cannot delete old rows"),
        }
    }

    fn answer(&mut self, read: Read) {
        match read {
            Read::LiveSessions(reply) => self.give("live sessions", reply, self.live_sessions()),
            Read::Processes(reply) => self.give("processes", reply, self.processes()),
            Read::Recent(limit, reply) => self.give("history", reply, self.recent(limit)),
            Read::Session(id, reply) => self.give("session", reply, self.session(&id)),
            Read::Idempotency(key, reply) => self.give("idempotency", reply, self.idempotency(&key)),
            Read::Profiles(reply) => self.give("profiles", reply, self.profiles()),
            Read::Page { most, max_bytes, reply } => {
                let page = self.read(|connection| outbox::page(connection, most, max_bytes));
                self.give("events", reply, page);
            }
            Read::Outbox(reply) => self.give("outbox", reply, self.outbox()),
            Read::Forget { up_to, id, reply } => {
                let outcome = self.read(|connection| outbox::forget(connection, up_to, &id));
                self.give("acknowledged events", reply, outcome);
            }
            Read::SetAside { seq, id, why, reply } => {
                let outcome = self.set_aside(seq, &id, &why);
                self.give("events set aside", reply, outcome);
            }
        }
    }

    /// Reads what is in the file; the default where nothing can be.
    fn read<T: Default>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        match &self.state {
            State::Open(file) => query(&file.connection).map_err(StoreError::Read),
            State::Nothing => Ok(T::default()),
            State::Closed(reason) => Err(StoreError::NotOpen { reason: reason.clone() }),
        }
    }

    fn outbox(&self) -> Result<Outbox, StoreError> {
        let found = self.read(outbox::counts)?;
        let lost = self.shared.lock().pending.batch().lost_events;
        Ok(Outbox { dropped: found.dropped.saturating_add(lost), ..found })
    }

    fn set_aside(&mut self, seq: i64, id: &str, why: &str) -> Result<bool, StoreError> {
        match &mut self.state {
            State::Open(file) => outbox::set_aside(&mut file.connection, seq, id, clock::unix_now_ms(), why)
                .map_err(StoreError::Read),
            // There is nothing to set aside.
            State::Nothing => Ok(false),
            State::Closed(reason) => Err(StoreError::NotOpen { reason: reason.clone() }),
        }
    }

    fn live_sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let mut rows = self.read(schema::live_sessions)?;
        overlay(&mut rows, &self.shared.lock().pending);
        rows.retain(|row| !row.has_ended());
        Ok(rows)
    }

    fn recent(&self, limit: usize) -> Result<Vec<SessionRow>, StoreError> {
        let mut rows = self.read(|connection| schema::recent(connection, limit))?;
        overlay(&mut rows, &self.shared.lock().pending);
        rows.retain(SessionRow::has_ended);
        // Stable: of those that ended together, the file's order stays.
        rows.sort_by_key(|row| std::cmp::Reverse(row.ended_ms));
        rows.truncate(limit);
        Ok(rows)
    }

    fn processes(&self) -> Result<Vec<ProcessRow>, StoreError> {
        let mut rows = self.read(schema::processes)?;
        for (session, service, process) in self.shared.lock().pending.processes() {
            rows.retain(|row| (&row.session, row.service.as_str()) != (session, service));
            rows.extend(process.cloned());
        }
        Ok(rows)
    }

    fn profiles(&self) -> Result<ProfileRows, StoreError> {
        let mut rows = self.read(schema::profiles)?;
        let pending = &self.shared.lock().pending;
        for (name, profile) in pending.profiles() {
            rows.profiles.retain(|row| row.name != *name);
            rows.profiles.extend(profile.cloned());
        }
        rows.fence = rows.fence.max(pending.profile_fence().unwrap_or_default());
        Ok(rows)
    }

    fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let waiting = self.shared.lock().pending.session(id).cloned();
        match waiting {
            Some(row) => Ok(Some(row)),
            None => self.read(|connection| schema::latest_session(connection, id)),
        }
    }

    fn idempotency(&self, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        let waiting = self.shared.lock().pending.idempotency(key).cloned();
        let now_ms = clock::unix_now_ms();
        match waiting {
            Some(row) => Ok(schema::is_repeatable(&row, now_ms).then_some(row)),
            None => self.read(|connection| schema::idempotency(connection, key, now_ms)),
        }
    }
}

/// What waits is newer than what is in the file.
fn overlay(rows: &mut Vec<SessionRow>, pending: &Pending) {
    for newer in pending.sessions() {
        match rows.iter_mut().find(|row| row.key == newer.key) {
            Some(row) => *row = newer.clone(),
            None => rows.push(newer.clone()),
        }
    }
}

/// What came of writing a batch.
struct Written {
    /// Rows that the file will never take, which are left out.
    rejected: usize,
    /// Events that gave way.
    dropped: u64,
}

/// Writes all of it or nothing.
fn write_batch(connection: &mut Connection, batch: &Batch) -> rusqlite::Result<Written> {
    let transaction = connection.transaction()?;
    let mut rejected = 0;
    for row in &batch.rows {
        match schema::put(&transaction, row) {
            Ok(()) => {}
            Err(error) if schema::is_the_row_s_fault(&error) => {
                rejected += 1;
                report_rejected(row, &error);
            }
            Err(error) => return Err(error),
        }
    }
    let dropped = match batch.has_events() {
        true => outbox::trim(&transaction, batch.lost_events, outbox::MAX_WAITING)?,
        false => 0,
    };
    transaction.commit()?;
    Ok(Written { rejected, dropped })
}

fn report_rejected(row: &Row, error: &rusqlite::Error) {
    tracing::error!(key = ?row.key(), error = %errors::chain(error), "the state file takes no such row");
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn is_no_space_or_busy(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | DiskFull))
}

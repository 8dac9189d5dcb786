//! What others hold of the store.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::file::SetAside;
use super::metrics::{Dropped, Metrics};
use super::pending::{Pending, Row};
use super::rows::{
    EventRow, IdempotencyRow, Outbox, ProcessRow, ProfileRow, ProfileRows, SessionKey, SessionRow, Waiting,
};
use super::writer::{Watched, Writer};
use crate::ids::{ProfileName, SessionId};

/// Reads that may wait for the thread; the next is told so at once.
const MAX_READS: usize = 64;
/// For an answer: a disk that takes longer is not one to wait for.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// Whether what is put gets to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    Ok,
    /// It waits in memory, and is tried again and again.
    Failing {
        /// Since when.
        since: SystemTime,
        /// What the last try said.
        reason: String,
    },
}

/// What came of waiting for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything put before is in the file.
    Done,
    /// The deadline was over first; the rest still waits.
    TimedOut,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store's thread could not be started.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
    /// Too many wait for an answer.
    #[error("{MAX_READS} others wait for the state file")]
    Busy,
    /// The disk did not answer in time.
    #[error("the state file was not read within {} s", READ_DEADLINE.as_secs())]
    TimedOut,
    /// The store's thread has ended.
    #[error("the store has ended")]
    Ended,
    /// There is a file, and it cannot be opened now.
    #[error("the state file is not open: {reason}")]
    NotOpen {
        /// What the last try said.
        reason: String,
    },
    /// The file cannot be read.
    #[error("cannot read the state file")]
    Read(#[source] rusqlite::Error),
}

/// The store, opened.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub store: Store,
    /// The file that was found, if it was of no use.
    pub set_aside: Option<SetAside>,
}

/// The handle. Cheap to clone; the last one dropped makes the thread write what it can and waits for its end.
#[derive(Debug, Clone)]
pub struct Store(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    watched: Watched,
    metrics: Metrics,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the handles share. A lock, since a put neither waits nor is lost, and a queue that is full would
/// have to do one of the two; held for a few operations on maps.
#[derive(Debug, Default)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    pub(super) wake: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) pending: Pending,
    pub(super) reads: VecDeque<Read>,
    /// Somebody waits for the disk: no back-off now.
    pub(super) hurry: bool,
    /// The last handle is gone.
    pub(super) closing: bool,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A question to the thread.
#[derive(Debug)]
pub(super) enum Read {
    LiveSessions(Reply<Vec<SessionRow>>),
    Processes(Reply<Vec<ProcessRow>>),
    Recent(usize, Reply<Vec<SessionRow>>),
    Session(SessionId, Reply<Option<SessionRow>>),
    Idempotency(String, Reply<Option<IdempotencyRow>>),
    Profiles(Reply<ProfileRows>),
    Page { most: usize, max_bytes: usize, reply: Reply<Vec<Waiting>> },
    Outbox(Reply<Outbox>),
    Forget { up_to: i64, id: String, reply: Reply<bool> },
    SetAside { seq: i64, id: String, why: String, reply: Reply<bool> },
}

impl Store {
    /// Opens the file at `path`, whose directory must exist. A file that is of no use is set aside; where none can be made,
    /// rows wait in memory until one can. Blocks for as long as it takes to read a small file.
    ///
    /// # Errors
    /// [`StoreError::Thread`] alone.
    pub fn open(path: &Path, metrics: Metrics) -> Result<Opened, StoreError> {
        let shared = Arc::new(Shared::default());
        let (mut writer, set_aside) = Writer::open(path, Arc::clone(&shared), metrics.clone());
        let watched = writer.watched();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(StoreError::Thread)?;
        let owner = Owner { shared, watched, metrics, thread: Some(thread) };
        Ok(Opened { store: Self(Arc::new(owner)), set_aside })
    }

    /// Takes the newest row of a session. One with an end removes the rows of its processes. Never blocks.
    pub fn put_session(&self, row: SessionRow) {
        self.put([Row::Session(row)]);
    }

    /// The same with what has happened to it: the file gets all of it, or nothing. Never blocks.
    pub fn put_events(&self, row: SessionRow, events: Vec<EventRow>) {
        self.put(std::iter::once(Row::Session(row)).chain(events.into_iter().map(Row::Event)));
    }

    /// Takes the newest row of a session's service. Never blocks.
    pub fn put_process(&self, row: ProcessRow) {
        self.put([Row::Process(row)]);
    }

    /// The service has no process any more. Never blocks.
    pub fn forget_process(&self, session: &SessionKey, service: &str) {
        self.put([Row::NoProcess(session.clone(), service.to_owned())]);
    }

    /// Takes a request that may come again. Never blocks.
    pub fn put_idempotency(&self, row: IdempotencyRow) {
        self.put([Row::Idempotency(row)]);
    }

    /// Takes the newest row of a profile. Never blocks.
    pub fn put_profile(&self, row: ProfileRow) {
        self.put([Row::Profile(row)]);
    }

    /// There is no such profile any more. Never blocks.
    pub fn forget_profile(&self, name: &ProfileName) {
        self.put([Row::NoProfile(name.clone())]);
    }

    /// Leases of profiles are numbered up to `fence`, whoever had it. Never blocks.
    pub fn put_profile_fence(&self, fence: i64) {
        self.put([Row::ProfileFence(fence)]);
    }

    /// Under one lock, so that all of them are written in one transaction.
    fn put(&self, rows: impl IntoIterator<Item = Row>) {
        let mut inner = self.0.shared.lock();
        let forgotten = rows.into_iter().map(|row| usize::from(inner.pending.put(row))).sum::<usize>();
        self.0.metrics.pending(&inner);
        drop(inner);
        self.0.shared.wake.notify_one();
        if forgotten > 0 {
            self.0.metrics.dropped(Dropped::Full, forgotten);
            tracing::warn!("too many rows wait for the state file: the oldest that is over was given up");
        }
    }

    /// Sessions without an end, in the order in which they came: at start, what an earlier run left behind.
    ///
    /// # Errors
    /// [`StoreError`]; not when there is no file yet.
    pub async fn live_sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        self.ask(Read::LiveSessions).await
    }

    /// The processes of all sessions: at start, what an earlier run left behind.
    ///
    /// # Errors
    /// As [`Store::live_sessions`].
    pub async fn processes(&self) -> Result<Vec<ProcessRow>, StoreError> {
        self.ask(Read::Processes).await
    }

    /// The sessions that ended last, the latest first.
    ///
    /// # Errors
    /// As [`Store::live_sessions`].
    pub async fn recent(&self, limit: usize) -> Result<Vec<SessionRow>, StoreError> {
        self.ask(|reply| Read::Recent(limit, reply)).await
    }

    /// The latest session of that id, live or ended.
    ///
    /// # Errors
    /// As [`Store::live_sessions`].
    pub async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        self.ask(|reply| Read::Session(id.clone(), reply)).await
    }

    /// The request that came under this key within a day.
    ///
    /// # Errors
    /// As [`Store::live_sessions`].
    pub async fn idempotency(&self, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        self.ask(|reply| Read::Idempotency(key.to_owned(), reply)).await
    }

    /// All profiles: at start, what an earlier run knew of them.
    ///
    /// # Errors
    /// As [`Store::live_sessions`].
    pub async fn profiles(&self) -> Result<ProfileRows, StoreError> {
        self.ask(Read::Profiles).await
    }

    /// The oldest events that the control plane has not heard, in order: `most` at most, and no more when they have
    /// `max_bytes`. Those that are not on disk yet are not among them.
    ///
    /// # Errors
    /// As [`Store::live_sessions`].
    pub async fn page(&self, most: usize, max_bytes: usize) -> Result<Vec<Waiting>, StoreError> {
        self.ask(|reply| Read::Page { most, max_bytes, reply }).await
    }

    /// The control plane has heard all that wait, up to this one, whose place and id these are. `false`, and all of them wait
    /// still, where it is not there: the file may be another than the one that it was read from.
    ///
    /// # Errors
    /// As [`Store::live_sessions`]; they wait still, then.
    pub async fn forget(&self, up_to: i64, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.ask(|reply| Read::Forget { up_to, id, reply }).await
    }

    /// The control plane will never take this one, which is kept to be looked at. `false` as with [`Store::forget`].
    ///
    /// # Errors
    /// As [`Store::live_sessions`]; it waits still, then.
    pub async fn set_aside(&self, seq: i64, id: &str, why: String) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.ask(|reply| Read::SetAside { seq, id, why, reply }).await
    }

    /// What the control plane has not heard, in numbers.
    ///
    /// # Errors
    /// As [`Store::live_sessions`].
    pub async fn outbox(&self) -> Result<Outbox, StoreError> {
        self.ask(Read::Outbox).await
    }

    /// Changes whenever there are more events on disk.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.0.watched.told.clone()
    }

    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Read) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut inner = self.0.shared.lock();
            if inner.reads.len() >= MAX_READS {
                return Err(StoreError::Busy);
            }
            inner.reads.push_back(question(reply));
        }
        self.0.shared.wake.notify_one();
        match timeout(READ_DEADLINE, answer).await {
            Ok(answer) => answer.map_err(|_| StoreError::Ended)?,
            Err(_) => Err(StoreError::TimedOut),
        }
    }

    /// Waits until everything that was put so far is in the file; a store that is failing tries at once.
    pub async fn flush(&self, deadline: Duration) -> Flushed {
        let wanted = {
            let mut inner = self.0.shared.lock();
            inner.hurry = true;
            inner.pending.version()
        };
        self.0.shared.wake.notify_one();
        let mut settled = self.0.watched.settled.clone();
        match timeout(deadline, settled.wait_for(|version| *version >= wanted)).await {
            Ok(Ok(_)) => Flushed::Done,
            // The thread has ended without it, which takes a panic.
            Ok(Err(_)) | Err(_) => Flushed::TimedOut,
        }
    }

    /// Whether what is put gets to the disk.
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.0.watched.health.clone()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store panicked");
        }
    }
}

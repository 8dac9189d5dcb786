//! The rows, as others see them. Times are Unix milliseconds, as SQLite's integers are signed.

use std::path::PathBuf;

use crate::ids::{ProfileName, SessionId, UserId};

/// One session among all that ever had its id: an id may be used again once its session has ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// Its id.
    pub id: SessionId,
    /// When it was asked for.
    pub created_ms: i64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Which.
    pub key: SessionKey,
    /// Whose, where it is one user's.
    pub user: Option<UserId>,
    /// `chromium` or `adspower`.
    pub kind: String,
    /// The browser profile lent to it.
    pub profile: Option<String>,
    /// Its place on the host, from 0: what it has besides by number, like its uid, follows from it.
    pub slot: u32,
    /// What its processes run as.
    pub uid: u32,
    /// The last state it was seen in, as the session's status calls it.
    pub state: String,
    /// When it was ready for the first time.
    pub ready_ms: Option<i64>,
    /// When it ended. A row without is of a live session, or of one that the daemon left behind by its own death.
    pub ended_ms: Option<i64>,
    /// When it is to be ended.
    pub expires_ms: Option<i64>,
    /// How it ended, as one word.
    pub outcome: Option<String>,
    /// How it ended, for people.
    pub detail: Option<String>,
    /// The caller's labels, as a JSON object.
    pub labels: String,
    /// Requests for a human and what came of them, as a JSON array.
    pub handoffs: String,
    /// What was asked for, as a JSON object, without what is secret in it.
    pub request: String,
    /// The number of its last event that the control plane is to hear of; 0 without one.
    pub events: i64,
    /// The boot in which it was last written.
    pub boot_id: String,
    /// The daemon's run in which it was last written, as [`crate::sys::RunScope::run`] gives it.
    pub run: String,
}

impl SessionRow {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.ended_ms.is_some()
    }
}

/// The main process of a session's service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRow {
    /// Whose it is. A row of that session must have been put before.
    pub session: SessionKey,
    /// `xvfb`, `x11vnc`, `browser`.
    pub service: String,
    /// Its pid.
    pub pid: u32,
    /// Clock ticks from boot to its start, as [`crate::sys::procfs::Stat`] gives it.
    pub start_time: u64,
    /// The cgroup's directory, where it has one.
    pub cgroup: Option<PathBuf>,
    /// The boot in which it was started.
    pub boot_id: String,
}

/// A request that made a session and may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRow {
    /// A digest of the key that the request came with; the key itself is the caller's and is not kept.
    pub key: String,
    /// A digest of what was asked for, to tell a repetition from another request under the same key.
    pub fingerprint: String,
    /// The session that was made.
    pub session: SessionKey,
    /// When this was entered.
    pub created_ms: i64,
}

/// What is known of the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileRows {
    /// Its profiles.
    pub profiles: Vec<ProfileRow>,
    /// The highest number that a lease may have had, where that is known apart from them.
    pub fence: i64,
}

/// A profile of the pool. What its words mean is the pool's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRow {
    /// Its name.
    pub name: ProfileName,
    /// Whose.
    pub user: UserId,
    /// `chromium` or `adspower`.
    pub kind: String,
    /// What AdsPower calls it.
    pub external: Option<String>,
    /// What its pages are fetched through.
    pub proxy: Option<String>,
    /// How it looks to pages, as a JSON object.
    pub fingerprint: Option<String>,
    /// `idle`, `active`, `cooldown` or `quarantined`.
    pub state: String,
    /// Why it is or will be quarantined.
    pub reason: Option<String>,
    /// Who has it.
    pub holder: Option<SessionKey>,
    /// Number of its newest lease.
    pub fence: i64,
    /// Sessions that failed with it in a row.
    pub failures: u32,
    /// Sessions that had it.
    pub uses: i64,
    /// When it was lent last.
    pub last_used_ms: Option<i64>,
    /// When it was made.
    pub created_ms: i64,
    /// When its state began, where that matters.
    pub since_ms: Option<i64>,
    /// The same in milliseconds of a boot.
    pub since_boottime_ms: Option<i64>,
    /// Of which boot.
    pub boot_id: Option<String>,
    /// How long its state lasts.
    pub length_ms: Option<i64>,
}

/// Something that happened to a session, for the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// No other event anywhere has it.
    pub id: String,
    /// To which session.
    pub session: SessionKey,
    /// Counts the session's events from 1, without a gap.
    pub number: i64,
    /// What happened, as a word.
    pub kind: String,
    /// When.
    pub at_ms: i64,
    /// The session's labels at that time, as a JSON object.
    pub labels: String,
    /// What is particular to it, as a JSON object.
    pub payload: String,
    /// Whether those that are not go first when there are too many.
    pub is_kept: bool,
}

/// An event that waits to be heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place among all.
    pub seq: i64,
    /// It.
    pub event: EventRow,
}

/// What the control plane has not heard, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outbox {
    /// Events that wait.
    pub waiting: u64,
    /// When the oldest of them happened.
    pub oldest_ms: Option<i64>,
    /// Events that went unheard, since there were too many, as long as there has been this file.
    pub dropped: u64,
    /// Events that the control plane would not take, likewise.
    pub set_aside: u64,
}

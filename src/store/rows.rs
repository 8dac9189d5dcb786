//! The rows, as others see them. Times are Unix milliseconds, as SQLite's integers are signed.

use std::path::PathBuf;

use crate::ids::{SessionId, UserId};

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

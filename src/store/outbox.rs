//! What happened to sessions and the control plane has not heard yet: the table, and what is done to it.
//!
//! Bounded: beyond [`MAX_WAITING`] the oldest that can be done without goes first, and then the oldest.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::{EventRow, Outbox, SessionKey, Waiting};
use crate::ids::SessionId;

/// Events that wait. A session makes about ten in its life, so that this is a day's worth of a busy host.
pub(super) const MAX_WAITING: i64 = 10_000;
/// Events that the control plane would not take and that are kept to be looked at.
const MAX_SET_ASIDE: i64 = 1000;

pub(super) const MIGRATION: &str = "
    ALTER TABLE sessions ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE, session TEXT NOT NULL, session_created_ms INTEGER NOT NULL, number INTEGER NOT NULL,
        kind TEXT NOT NULL, at_ms INTEGER NOT NULL, labels TEXT NOT NULL, payload TEXT NOT NULL, is_kept INTEGER NOT NULL,
        refused_ms INTEGER, refusal TEXT
    ) STRICT;
    CREATE INDEX outbox_waiting ON outbox (is_kept, seq) WHERE refused_ms IS NULL;
    CREATE INDEX outbox_refused ON outbox (seq) WHERE refused_ms IS NOT NULL;
    CREATE TABLE outbox_totals (name TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

const PUT: &str = "INSERT INTO outbox (event_id, session, session_created_ms, number, kind, at_ms, labels, payload, is_kept) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (event_id) DO NOTHING";
const COUNT_UP: &str = "INSERT INTO outbox_totals (name, count) VALUES (?1, ?2) \
     ON CONFLICT (name) DO UPDATE SET count = count + ?2";
const DROPPED: &str = "dropped";
const SET_ASIDE: &str = "set_aside";

/// Writes one event.
pub(super) fn put(connection: &Connection, event: &EventRow) -> rusqlite::Result<()> {
    let EventRow { id, session, number, kind, at_ms, labels, payload, is_kept } = event;
    let (of, begun) = (session.id.as_str(), session.created_ms);
    connection
        .prepare(PUT)?
        .execute(params![id, of, begun, number, kind, at_ms, labels, payload, is_kept])?;
    Ok(())
}

/// Makes room where there is too much, and notes what is lost, `lost` that never came to be here among it. How many went.
pub(super) fn trim(connection: &Connection, lost: u64, most: i64) -> rusqlite::Result<u64> {
    let waiting: i64 = connection
        .prepare("SELECT count(*) FROM outbox WHERE refused_ms IS NULL")?
        .query_row([], |row| row.get(0))?;
    let surplus = waiting.saturating_sub(most);
    let mut dropped = 0_u64;
    if surplus > 0 {
        // What can be done without has the lower `is_kept`.
        let sql = "DELETE FROM outbox WHERE seq IN \
             (SELECT seq FROM outbox WHERE refused_ms IS NULL ORDER BY is_kept, seq LIMIT ?1)";
        dropped = u64::try_from(connection.prepare(sql)?.execute([surplus])?).unwrap_or_default();
    }
    let total = dropped.saturating_add(lost);
    if total > 0 {
        connection.execute(COUNT_UP, params![DROPPED, i64::try_from(total).unwrap_or(i64::MAX)])?;
    }
    Ok(dropped)
}

/// The oldest that wait, in order: `most` at most, and no more when they have `max_bytes`.
pub(super) fn page(connection: &Connection, most: usize, max_bytes: usize) -> rusqlite::Result<Vec<Waiting>> {
    let sql = "SELECT seq, event_id, session, session_created_ms, number, kind, at_ms, labels, payload, is_kept \
         FROM outbox WHERE refused_ms IS NULL ORDER BY seq LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let mut columns = statement.query([i64::try_from(most).unwrap_or(i64::MAX)])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = columns.next()? {
        let id: String = row.get(2)?;
        let Ok(id) = SessionId::try_from(id) else {
            // Only a hand other than ours can have written it, and nothing behind it may wait for it.
            tracing::warn!("an event in the state file is none of ours");
            continue;
        };
        let event = EventRow {
            id: row.get(1)?,
            session: SessionKey { id, created_ms: row.get(3)? },
            number: row.get(4)?,
            kind: row.get(5)?,
            at_ms: row.get(6)?,
            labels: row.get(7)?,
            payload: row.get(8)?,
            is_kept: row.get(9)?,
        };
        bytes += event.labels.len() + event.payload.len();
        found.push(Waiting { seq: row.get(0)?, event });
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(found)
}

/// Whether this is that event still: in a file that took the place of another, numbers start anew.
fn is_there(connection: &Connection, seq: i64, id: &str) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM outbox WHERE seq = ?1 AND event_id = ?2")?.exists(params![seq, id])
}

/// The control plane has all that wait up to this one. `false`, and nothing is forgotten, where another has its place.
pub(super) fn forget(connection: &Connection, up_to: i64, id: &str) -> rusqlite::Result<bool> {
    if !is_there(connection, up_to, id)? {
        return Ok(false);
    }
    let sql = "DELETE FROM outbox WHERE refused_ms IS NULL AND seq <= ?1";
    connection.prepare(sql)?.execute([up_to])?;
    Ok(true)
}

/// The control plane will never take this one: it waits no longer, and is kept to be looked at. `false` where another has its
/// place.
pub(super) fn set_aside(
    connection: &mut Connection,
    seq: i64,
    id: &str,
    now_ms: i64,
    why: &str,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    if !is_there(&transaction, seq, id)? {
        return Ok(false);
    }
    let sql = "UPDATE outbox SET refused_ms = ?2, refusal = ?3 WHERE seq = ?1 AND refused_ms IS NULL";
    if transaction.execute(sql, params![seq, now_ms, why])? > 0 {
        transaction.execute(COUNT_UP, params![SET_ASIDE, 1])?;
        let sql = "DELETE FROM outbox WHERE seq IN \
             (SELECT seq FROM outbox WHERE refused_ms IS NOT NULL ORDER BY seq DESC LIMIT -1 OFFSET ?1)";
        transaction.execute(sql, [MAX_SET_ASIDE])?;
    }
    transaction.commit()?;
    Ok(true)
}

/// The outbox in numbers.
pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Outbox> {
    let total = |name: &str| -> rusqlite::Result<u64> {
        let sql = "SELECT count FROM outbox_totals WHERE name = ?1";
        let count: Option<i64> = connection.prepare(sql)?.query_row([name], |row| row.get(0)).optional()?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    };
    let waiting: i64 =
        connection.query_row("SELECT count(*) FROM outbox WHERE refused_ms IS NULL", [], |row| row.get(0))?;
    let oldest = "SELECT at_ms FROM outbox WHERE refused_ms IS NULL ORDER BY seq LIMIT 1";
    Ok(Outbox {
        waiting: u64::try_from(waiting).unwrap_or_default(),
        oldest_ms: connection.query_row(oldest, [], |row| row.get(0)).optional()?,
        dropped: total(DROPPED)?,
        set_aside: total(SET_ASIDE)?,
    })
}

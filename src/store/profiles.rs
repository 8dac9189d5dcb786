//! The table of profiles, and rows to and from it.

use rusqlite::{Connection, Row as Columns, params};

use super::rows::{ProfileRow, SessionKey};
use super::schema::{parsed, run};
use crate::ids::{ProfileName, SessionId};

pub(super) const TABLE: &str = "
    CREATE TABLE profiles (
        name TEXT PRIMARY KEY, user_id TEXT NOT NULL, kind TEXT NOT NULL, external TEXT, proxy TEXT, fingerprint TEXT,
        state TEXT NOT NULL, reason TEXT, holder TEXT, holder_created_ms INTEGER, fence INTEGER NOT NULL,
        failures INTEGER NOT NULL, uses INTEGER NOT NULL, last_used_ms INTEGER, created_ms INTEGER NOT NULL,
        since_ms INTEGER, since_boottime_ms INTEGER, boot_id TEXT, length_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE profile_fence (only INTEGER PRIMARY KEY CHECK (only = 0), fence INTEGER NOT NULL) STRICT;
";

pub(super) const PUT: &str = "INSERT OR REPLACE INTO profiles (name, user_id, kind, external, proxy, fingerprint, state, reason, \
     holder, holder_created_ms, fence, failures, uses, last_used_ms, created_ms, since_ms, since_boottime_ms, boot_id, length_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";

pub(super) const ALL: &str = "SELECT name, user_id, kind, external, proxy, fingerprint, state, reason, holder, holder_created_ms, \
     fence, failures, uses, last_used_ms, created_ms, since_ms, since_boottime_ms, boot_id, length_ms FROM profiles ORDER BY name";

pub(super) fn put(connection: &Connection, row: &ProfileRow) -> rusqlite::Result<()> {
    let holder = row.holder.as_ref().map(|holder| holder.id.as_str());
    let holder_created_ms = row.holder.as_ref().map(|holder| holder.created_ms);
    #[rustfmt::skip]
    let values = params![
        row.name.as_str(), row.user.as_str(), row.kind, row.external, row.proxy, row.fingerprint, row.state, row.reason,
        holder, holder_created_ms, row.fence, row.failures, row.uses, row.last_used_ms, row.created_ms,
        row.since_ms, row.since_boottime_ms, row.boot_id, row.length_ms,
    ];
    run(connection, PUT, values)
}

pub(super) fn forget(connection: &Connection, name: &ProfileName) -> rusqlite::Result<()> {
    run(connection, "DELETE FROM profiles WHERE name = ?1", [name.as_str()])
}

pub(super) fn put_fence(connection: &Connection, fence: i64) -> rusqlite::Result<()> {
    run(connection, "INSERT OR REPLACE INTO profile_fence (only, fence) VALUES (0, ?1)", [fence])
}

/// 0 where none was written yet.
pub(super) fn fence(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(fence), 0) FROM profile_fence", [], |row| row.get(0))
}

pub(super) fn read(row: &Columns<'_>) -> rusqlite::Result<ProfileRow> {
    let holder: Option<String> = row.get(8)?;
    let id: Option<SessionId> = if holder.is_some() { Some(parsed(row, 8)?) } else { None };
    let created_ms: Option<i64> = row.get(9)?;
    Ok(ProfileRow {
        name: parsed(row, 0)?,
        user: parsed(row, 1)?,
        kind: row.get(2)?,
        external: row.get(3)?,
        proxy: row.get(4)?,
        fingerprint: row.get(5)?,
        state: row.get(6)?,
        reason: row.get(7)?,
        holder: id.zip(created_ms).map(|(id, created_ms)| SessionKey { id, created_ms }),
        fence: row.get(10)?,
        failures: row.get(11)?,
        uses: row.get(12)?,
        last_used_ms: row.get(13)?,
        created_ms: row.get(14)?,
        since_ms: row.get(15)?,
        since_boottime_ms: row.get(16)?,
        boot_id: row.get(17)?,
        length_ms: row.get(18)?,
    })
}

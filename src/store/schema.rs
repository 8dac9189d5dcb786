//! The tables, and rows to and from them.

use std::path::PathBuf;

use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, Row as Columns, params};

use super::outbox;
use super::pending::Row;
use super::profiles;
use super::rows::{IdempotencyRow, ProcessRow, ProfileRows, SessionKey, SessionRow};
use crate::ids::SessionId;

/// Each brings the file one version further; what was released is never changed. A row's `seq` tells in which order the
/// sessions came, whatever the clock said.
const MIGRATIONS: [&str; 3] = [FIRST, outbox::MIGRATION, profiles::TABLE];
const FIRST: &str = "
    CREATE TABLE sessions (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL, created_ms INTEGER NOT NULL,
        user_id TEXT, kind TEXT NOT NULL, profile TEXT, slot INTEGER NOT NULL, uid INTEGER NOT NULL, state TEXT NOT NULL,
        ready_ms INTEGER, ended_ms INTEGER, expires_ms INTEGER, outcome TEXT, detail TEXT,
        labels TEXT NOT NULL, handoffs TEXT NOT NULL, request TEXT NOT NULL, boot_id TEXT NOT NULL, run TEXT NOT NULL,
        UNIQUE (id, created_ms)
    ) STRICT;
    CREATE INDEX sessions_by_end ON sessions (ended_ms);
    CREATE TABLE processes (
        id TEXT NOT NULL, created_ms INTEGER NOT NULL, service TEXT NOT NULL,
        pid INTEGER NOT NULL, start_time INTEGER NOT NULL, cgroup TEXT, boot_id TEXT NOT NULL,
        PRIMARY KEY (id, created_ms, service),
        FOREIGN KEY (id, created_ms) REFERENCES sessions (id, created_ms) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE idempotency (
        key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, session TEXT NOT NULL, session_created_ms INTEGER NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_by_age ON idempotency (created_ms);
";

/// Ended sessions kept, and for how long at most.
pub(super) const MAX_ENDED: i64 = 1000;
pub(super) const MAX_ENDED_AGE_MS: i64 = 30 * DAY_MS;
/// A request may be repeated for so long, as far as there is room.
pub(super) const MAX_IDEMPOTENCY_AGE_MS: i64 = DAY_MS;
pub(super) const MAX_IDEMPOTENCY: i64 = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Rows deleted at once of a table, so that nothing waits long behind it.
pub(super) const PRUNE_STEP: usize = 100;

/// What can be asked of a file of any version.
const OF_THE_FIRST: [&str; 3] = [
    "SELECT seq, id, created_ms, user_id, kind, profile, slot, uid, state, ready_ms, ended_ms, expires_ms, outcome, detail, \
     labels, handoffs, request, boot_id, run FROM sessions",
    "SELECT id, created_ms, service, pid, start_time, cgroup, boot_id FROM processes",
    "SELECT key, fingerprint, session, session_created_ms, created_ms FROM idempotency",
];

const SESSION: &str = "id, created_ms, user_id, kind, profile, slot, uid, state, ready_ms, ended_ms, expires_ms, outcome, detail, \
     labels, request, boot_id, run, handoffs, events";

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recognised {
    /// Ours, or empty, with so many of the migrations done.
    Version(usize),
    /// Of a version that this program does not know.
    Unknown(i64),
    /// Somebody else's tables.
    Foreign,
}

/// Tells what a file is without changing it. Fails when it says that it is ours and its tables are others.
pub(super) fn recognise(connection: &Connection) -> rusqlite::Result<Recognised> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match usize::try_from(found) {
        Ok(0) => {
            let sql = "SELECT count(*) FROM sqlite_schema";
            let objects: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok(if objects == 0 { Recognised::Version(0) } else { Recognised::Foreign })
        }
        Ok(version) if version < MIGRATIONS.len() => {
            for statement in OF_THE_FIRST {
                connection.prepare(statement)?;
            }
            Ok(Recognised::Version(version))
        }
        Ok(version) if version == MIGRATIONS.len() => {
            verify(connection)?;
            Ok(Recognised::Version(version))
        }
        _ => Ok(Recognised::Unknown(found)),
    }
}

/// Brings a file of an older version, or an empty one, to the version that this program writes. Fails without a change when
/// its tables are not those of the version that it says it has.
pub(super) fn migrate(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(version) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version)?;
    }
    verify(&transaction)?;
    transaction.commit()
}

fn verify(connection: &Connection) -> rusqlite::Result<()> {
    live_sessions(connection)?;
    processes(connection)?;
    profiles(connection)?;
    outbox::page(connection, 1, 1)?;
    outbox::counts(connection)?;
    for statement in [PUT_SESSION, PUT_PROCESS, PUT_IDEMPOTENCY, profiles::PUT] {
        connection.prepare(statement)?;
    }
    Ok(())
}

const PUT_SESSION: &str = "INSERT INTO sessions (id, created_ms, user_id, kind, profile, slot, uid, state, ready_ms, ended_ms, \
     expires_ms, outcome, detail, labels, request, boot_id, run, handoffs, events) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
     ON CONFLICT (id, created_ms) DO UPDATE SET user_id = ?3, kind = ?4, profile = ?5, slot = ?6, uid = ?7, state = ?8, \
     ready_ms = ?9, ended_ms = ?10, expires_ms = ?11, outcome = ?12, detail = ?13, labels = ?14, request = ?15, boot_id = ?16, \
     run = ?17, handoffs = ?18, events = ?19";
const PUT_PROCESS: &str = "INSERT INTO processes (id, created_ms, service, pid, start_time, cgroup, boot_id) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
     ON CONFLICT (id, created_ms, service) DO UPDATE SET pid = ?4, start_time = ?5, cgroup = ?6, boot_id = ?7";
const PUT_IDEMPOTENCY: &str = "INSERT OR REPLACE INTO idempotency (key, fingerprint, session, session_created_ms, created_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5)";

/// Writes one row.
pub(super) fn put(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    match row {
        Row::Session(row) => put_session(connection, row),
        Row::Process(row) => put_process(connection, row),
        Row::NoProcess(session, service) => {
            let sql = "DELETE FROM processes WHERE id = ?1 AND created_ms = ?2 AND service = ?3";
            run(connection, sql, params![session.id.as_str(), session.created_ms, service])
        }
        Row::Profile(row) => profiles::put(connection, row),
        Row::NoProfile(name) => profiles::forget(connection, name),
        Row::ProfileFence(fence) => profiles::put_fence(connection, *fence),
        Row::Event(row) => outbox::put(connection, row),
        Row::Idempotency(row) => run(
            connection,
            PUT_IDEMPOTENCY,
            params![
                row.key,
                row.fingerprint,
                row.session.id.as_str(),
                row.session.created_ms,
                row.created_ms
            ],
        ),
    }
}

fn put_session(connection: &Connection, row: &SessionRow) -> rusqlite::Result<()> {
    let SessionKey { id, created_ms } = &row.key;
    let user = row.user.as_ref().map(crate::ids::UserId::as_str);
    #[rustfmt::skip]
    let values = params![
        id.as_str(), created_ms, user, row.kind, row.profile, row.slot, row.uid, row.state, row.ready_ms, row.ended_ms,
        row.expires_ms, row.outcome, row.detail, row.labels, row.request, row.boot_id, row.run, row.handoffs, row.events,
    ];
    run(connection, PUT_SESSION, values)?;
    if row.has_ended() {
        let sql = "DELETE FROM processes WHERE id = ?1 AND created_ms = ?2";
        run(connection, sql, params![id.as_str(), created_ms])?;
    }
    Ok(())
}

fn put_process(connection: &Connection, row: &ProcessRow) -> rusqlite::Result<()> {
    let SessionKey { id, created_ms } = &row.session;
    // A start time that does not fit cannot be one; the process is then not known again, and left alone.
    let start_time = i64::try_from(row.start_time).unwrap_or(i64::MAX);
    let cgroup = row.cgroup.as_ref().map(|path| path.to_string_lossy());
    #[rustfmt::skip]
    let values = params![id.as_str(), created_ms, row.service, row.pid, start_time, cgroup, row.boot_id];
    run(connection, PUT_PROCESS, values)
}

pub(super) fn run(connection: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    connection.prepare(sql)?.execute(values).map(|_| ())
}

/// Whether the row is to blame, so that no other try will do better.
pub(super) fn is_the_row_s_fault(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    matches!(error.sqlite_error_code(), Some(ConstraintViolation | TooBig | TypeMismatch))
}

/// Sessions without an end, in the order in which they came.
pub(super) fn live_sessions(connection: &Connection) -> rusqlite::Result<Vec<SessionRow>> {
    let sql = format!("SELECT {SESSION} FROM sessions WHERE ended_ms IS NULL ORDER BY seq");
    rows(connection.prepare(&sql)?, [], session)
}

/// Ended sessions, the latest first.
pub(super) fn recent(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<SessionRow>> {
    let sql = format!(
        "SELECT {SESSION} FROM sessions WHERE ended_ms IS NOT NULL ORDER BY ended_ms DESC, seq DESC LIMIT ?1"
    );
    rows(connection.prepare(&sql)?, [i64::try_from(limit).unwrap_or(i64::MAX)], session)
}

/// The latest session of that id.
pub(super) fn latest_session(
    connection: &Connection,
    id: &SessionId,
) -> rusqlite::Result<Option<SessionRow>> {
    let sql = format!("SELECT {SESSION} FROM sessions WHERE id = ?1 ORDER BY seq DESC LIMIT 1");
    Ok(rows(connection.prepare(&sql)?, [id.as_str()], session)?.pop())
}

pub(super) fn processes(connection: &Connection) -> rusqlite::Result<Vec<ProcessRow>> {
    let sql = "SELECT id, created_ms, service, pid, start_time, cgroup, boot_id FROM processes";
    rows(connection.prepare(sql)?, [], process)
}

pub(super) fn profiles(connection: &Connection) -> rusqlite::Result<ProfileRows> {
    let profiles = rows(connection.prepare(profiles::ALL)?, [], profiles::read)?;
    Ok(ProfileRows { profiles, fence: profiles::fence(connection)? })
}

/// What was asked for under the key, unless that is too long ago.
pub(super) fn idempotency(
    connection: &Connection,
    key: &str,
    now_ms: i64,
) -> rusqlite::Result<Option<IdempotencyRow>> {
    let sql = "SELECT key, fingerprint, session, session_created_ms, created_ms FROM idempotency \
         WHERE key = ?1 AND created_ms > ?2";
    let oldest = now_ms.saturating_sub(MAX_IDEMPOTENCY_AGE_MS);
    let found = rows(connection.prepare(sql)?, params![key, oldest], |row| {
        Ok(IdempotencyRow {
            key: row.get(0)?,
            fingerprint: row.get(1)?,
            session: SessionKey { id: parsed(row, 2)?, created_ms: row.get(3)? },
            created_ms: row.get(4)?,
        })
    });
    Ok(found?.pop())
}

/// Whether the request is recent enough to be answered with what it made.
pub(super) fn is_repeatable(row: &IdempotencyRow, now_ms: i64) -> bool {
    row.created_ms > now_ms.saturating_sub(MAX_IDEMPOTENCY_AGE_MS)
}

/// Deletes some of what is kept no longer. Whether there may be more.
pub(super) fn prune(connection: &Connection, now_ms: i64) -> rusqlite::Result<bool> {
    let sessions =
        "DELETE FROM sessions WHERE seq IN (SELECT seq FROM sessions WHERE ended_ms < ?1 LIMIT ?2)";
    let surplus = "DELETE FROM sessions WHERE seq IN (SELECT seq FROM sessions WHERE ended_ms IS NOT NULL \
         ORDER BY ended_ms DESC, seq DESC LIMIT ?2 OFFSET ?1)";
    let requests =
        "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE created_ms < ?1 LIMIT ?2)";
    let surplus_requests = "DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency \
         ORDER BY created_ms DESC, key LIMIT ?2 OFFSET ?1)";
    let mut more = false;
    for (sql, bound) in [
        (sessions, now_ms.saturating_sub(MAX_ENDED_AGE_MS)),
        (surplus, MAX_ENDED),
        (requests, now_ms.saturating_sub(MAX_IDEMPOTENCY_AGE_MS)),
        (surplus_requests, MAX_IDEMPOTENCY),
    ] {
        let step = i64::try_from(PRUNE_STEP).unwrap_or(i64::MAX);
        more |= connection.prepare(sql)?.execute(params![bound, step])? == PRUNE_STEP;
    }
    Ok(more)
}

/// Rows that are ones; others, which only a hand other than ours can have written, are left out.
fn rows<T>(
    mut statement: rusqlite::Statement<'_>,
    values: impl rusqlite::Params,
    read: fn(&Columns<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut found = Vec::new();
    let mut columns = statement.query(values)?;
    while let Some(row) = columns.next()? {
        match read(row) {
            Ok(row) => found.push(row),
            Err(error) if error.sqlite_error_code().is_none() => {
                tracing::warn!(error = %crate::errors::chain(&error), "a row of the state file is none of ours");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn session(row: &Columns<'_>) -> rusqlite::Result<SessionRow> {
    let user: Option<String> = row.get(2)?;
    Ok(SessionRow {
        key: key(row)?,
        user: user.map(|text| parse(text, 2)).transpose()?,
        kind: row.get(3)?,
        profile: row.get(4)?,
        slot: row.get(5)?,
        uid: row.get(6)?,
        state: row.get(7)?,
        ready_ms: row.get(8)?,
        ended_ms: row.get(9)?,
        expires_ms: row.get(10)?,
        outcome: row.get(11)?,
        detail: row.get(12)?,
        labels: row.get(13)?,
        request: row.get(14)?,
        boot_id: row.get(15)?,
        run: row.get(16)?,
        handoffs: row.get(17)?,
        events: row.get(18)?,
    })
}

fn process(row: &Columns<'_>) -> rusqlite::Result<ProcessRow> {
    let start_time: i64 = row.get(4)?;
    Ok(ProcessRow {
        session: key(row)?,
        service: row.get(2)?,
        pid: row.get(3)?,
        start_time: u64::try_from(start_time)
            .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(4, start_time))?,
        cgroup: row.get::<_, Option<String>>(5)?.map(PathBuf::from),
        boot_id: row.get(6)?,
    })
}

fn key(row: &Columns<'_>) -> rusqlite::Result<SessionKey> {
    Ok(SessionKey { id: parsed(row, 0)?, created_ms: row.get(1)? })
}

pub(super) fn parsed<T>(row: &Columns<'_>, column: usize) -> rusqlite::Result<T>
where
    T: TryFrom<String, Error: std::error::Error + Send + Sync + 'static>,
{
    parse(row.get(column)?, column)
}

fn parse<T>(text: String, column: usize) -> rusqlite::Result<T>
where
    T: TryFrom<String, Error: std::error::Error + Send + Sync + 'static>,
{
    T::try_from(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

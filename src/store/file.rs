//! Opening the file, and setting one aside that is of no use.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{self, Recognised};
use crate::clock;
use crate::sys::remove_all;

/// For another process to let go of the file: somebody who looks at it by hand.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// What the write-ahead log shrinks to once its pages are in the file, in bytes.
const WAL_BYTES: u64 = 1024 * 1024;
/// Pages that are kept in memory, in KiB.
const CACHE_KIB: i64 = 256;
/// The smallest page. What is shorter SQLite would take for an empty file.
const MIN_BYTES: u64 = 512;
/// Files set aside that are kept to be looked at.
const MAX_SET_ASIDE: usize = 3;

/// Why a file was of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A link, a directory, a pipe.
    #[error("it is not a regular file")]
    NotAFile,
    /// Somebody else could change it under us.
    #[error("it belongs to uid {0}")]
    NotOurs(u32),
    /// Its contents are not those of a whole SQLite file with our tables.
    #[error("{0}")]
    Contents(String),
    /// Written by a newer valetd, most likely.
    #[error("its version is {0}, which this valetd does not know")]
    UnknownVersion(i64),
}

/// A file that was of no use, and was renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was wrong with it.
    pub damage: Damage,
}

/// Why there is no file to write to now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot {doing} the state file")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the state file")]
    Sqlite(#[from] rusqlite::Error),
}

/// The open file. Closes it when dropped.
#[derive(Debug)]
pub(super) struct StateFile {
    pub(super) connection: Connection,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

/// What came of trying to open.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) file: Result<StateFile, FileError>,
    pub(super) set_aside: Option<SetAside>,
    /// Nothing that was written before can be read: there was no file, or it was set aside.
    pub(super) fresh: bool,
}

/// Opens the file, or a fresh one in the place of one that is of no use.
pub(super) fn open(path: &Path) -> Attempt {
    let found = match find(path) {
        Ok(found) => found,
        Err(error) => return Attempt { file: Err(error), set_aside: None, fresh: false },
    };
    let damage = match found {
        Found::Nothing => return Attempt { file: create(path), set_aside: None, fresh: true },
        Found::File => match open_existing(path) {
            Ok(file) => return Attempt { file: Ok(file), set_aside: None, fresh: false },
            Err(Failure::NotNow(error)) => {
                return Attempt { file: Err(error), set_aside: None, fresh: false };
            }
            Err(Failure::Damaged(damage)) => damage,
        },
        Found::Unusable(damage) => damage,
    };
    match set_aside(path) {
        Ok(aside) => {
            tracing::warn!(
                reason = %damage,
                set_aside = %aside.display(),
                "the state file cannot be used: starting with a fresh one"
            );
            let set_aside = Some(SetAside { path: aside, damage });
            Attempt { file: create(path), set_aside, fresh: true }
        }
        Err(source) => {
            let error = FileError::Io { doing: "set aside", source };
            Attempt { file: Err(error), set_aside: None, fresh: false }
        }
    }
}

impl StateFile {
    /// Whether its name is still its own: what is written after somebody removed or replaced it would be lost.
    pub(super) fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.identity)
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

enum Found {
    Nothing,
    File,
    Unusable(Damage),
}

fn find(path: &Path) -> Result<Found, FileError> {
    let mut found = Found::Nothing;
    for name in all_names(path) {
        let metadata = match fs::symlink_metadata(&name) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(FileError::Io { doing: "look at", source }),
        };
        if !metadata.is_file() {
            return Ok(Found::Unusable(Damage::NotAFile));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Ok(Found::Unusable(Damage::NotOurs(metadata.uid())));
        }
        // A log without its file is of a file that somebody removed; SQLite deletes it.
        if name == path {
            found = match metadata.len() {
                0 => Found::Nothing,
                1..MIN_BYTES => return Ok(Found::Unusable(Damage::Contents("it is cut off".to_owned()))),
                _ => Found::File,
            };
        }
    }
    Ok(found)
}

/// The file, and those that SQLite keeps beside it.
fn all_names(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| with_suffix(path, suffix))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

enum Failure {
    /// It would fail again with this file.
    Damaged(Damage),
    /// It may not fail later: no space, no right, somebody else has it.
    NotNow(FileError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) {
            Self::Damaged(Damage::Contents(error.to_string()))
        } else {
            Self::NotNow(error.into())
        }
    }
}

/// Whether the error says that the file's contents are not what they have to be.
fn is_damage(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ApiMisuse, DatabaseCorrupt, NotADatabase, SchemaChanged, TypeMismatch, Unknown};
    match error.sqlite_error_code() {
        // Unknown is the code of statements that do not fit the tables.
        Some(code) => matches!(
            code,
            DatabaseCorrupt | NotADatabase | Unknown | SchemaChanged | TypeMismatch | ApiMisuse
        ),
        // A pragma that answers with something else than it must.
        None => true,
    }
}

/// A file without anything in it, or none, becomes one of ours.
fn create(path: &Path) -> Result<StateFile, FileError> {
    let io = |source| FileError::Io { doing: "create", source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        // Left by a try that got no further.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io(error)),
    }
    match open_existing(path) {
        Ok(file) => Ok(file),
        Err(Failure::NotNow(error)) => Err(error),
        Err(Failure::Damaged(damage)) => Err(io(io::Error::other(damage))),
    }
}

fn open_existing(path: &Path) -> Result<StateFile, Failure> {
    let io = |source| Failure::NotNow(FileError::Io { doing: "open", source });
    let metadata = fs::symlink_metadata(path).map_err(io)?;
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(io)?;
    }
    // Links in the directories before it are the operator's; the file itself must not be one.
    let directory = path.parent().ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
    let resolved = fs::canonicalize(directory).map_err(io)?.join(path.file_name().unwrap_or_default());
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(resolved, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Before the first look at the file: the index of the log is then kept in memory, not in a mapped file.
    set(&connection, "locking_mode", "EXCLUSIVE")?;
    // Whatever is in the file, nothing in its schema runs code of its own choice.
    set(&connection, "trusted_schema", false)?;
    check(&connection)?;
    let version = match schema::recognise(&connection)? {
        Recognised::Version(version) => version,
        Recognised::Unknown(version) => return Err(Failure::Damaged(Damage::UnknownVersion(version))),
        Recognised::Foreign => {
            return Err(Failure::Damaged(Damage::Contents("its tables are not ours".to_owned())));
        }
    };
    // Before anything else is changed: it may turn out that the file is not what it says.
    schema::migrate(&mut connection, version)?;
    set(&connection, "journal_mode", "WAL")?;
    set(&connection, "journal_size_limit", i64::try_from(WAL_BYTES).unwrap_or(i64::MAX))?;
    // An fsync per commit: what was answered, or told to the control plane, must be known after a power cut as well. The
    // store's thread alone waits for it, and takes what comes meanwhile into the next commit.
    set(&connection, "synchronous", "FULL")?;
    set(&connection, "foreign_keys", true)?;
    // As KiB, negative. What waits for the control plane may fill the file, and must not fill the memory.
    set(&connection, "cache_size", -CACHE_KIB)?;
    Ok(StateFile { connection, path: path.to_owned(), identity: identity(&metadata) })
}

/// Some pragmas answer with the new value, others not at all.
fn set(connection: &Connection, pragma: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    connection.pragma_update(None, pragma, value)
}

/// Reads the whole file once, which is small: see the bounds of [`schema`].
fn check(connection: &Connection) -> Result<(), Failure> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(Failure::Damaged(Damage::Contents(verdict))) }
}

/// Renames the file and what stands beside it. The new name.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let earlier = set_aside_seconds(path)?;
    // Later than all others, whatever the clock says now, so that the order stays that of the names.
    let second = clock::unix_now().max(earlier.last().map_or(0, |last| last.saturating_add(1)));
    let aside = aside_name(path, second);
    for (from, to) in all_names(path).iter().zip(all_names(&aside)).rev() {
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let surplus = (earlier.len() + 1).saturating_sub(MAX_SET_ASIDE);
    for name in earlier.iter().take(surplus).flat_map(|second| all_names(&aside_name(path, *second))) {
        if let Err(error) = remove_all(&name) {
            tracing::warn!(path = %name.display(), %error, "cannot remove a state file set aside long ago");
        }
    }
    Ok(aside)
}

fn aside_name(path: &Path, second: u64) -> PathBuf {
    with_suffix(path, &format!(".set-aside-{second}"))
}

/// When others were set aside, in that order.
fn set_aside_seconds(path: &Path) -> io::Result<Vec<u64>> {
    let start = with_suffix(Path::new(path.file_name().unwrap_or_default()), ".set-aside-");
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut seconds = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let rest = name.as_bytes().strip_prefix(start.as_os_str().as_bytes());
        // `-wal` and its like go with the file that they belong to.
        let digits = rest.and_then(|rest| std::str::from_utf8(rest).ok()?.split('-').next());
        seconds.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    Ok(seconds.into_iter().collect())
}

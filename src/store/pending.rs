//! Rows that wait for the disk: one per thing, the newest of it, in the order in which the things first came.
//!
//! What is live stays here after it was written, so that it can be written again should the file be lost meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::rows::{EventRow, IdempotencyRow, ProcessRow, ProfileRow, SessionKey, SessionRow};
use crate::ids::{ProfileName, SessionId};

/// Things held. Beyond it the oldest that is not live is forgotten, written or not: only a disk that has failed for long
/// gets there, and what ended long ago is worth less than the daemon's memory.
pub(super) const MAX_THINGS: usize = 4096;

/// What a row is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Session(SessionKey),
    Process(SessionKey, String),
    Idempotency(String),
    Profile(ProfileName),
    ProfileFence,
    Event(String),
}

/// What is to be on disk of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    Session(SessionRow),
    Process(ProcessRow),
    /// The service has no process any more.
    NoProcess(SessionKey, String),
    Idempotency(IdempotencyRow),
    Profile(ProfileRow),
    /// It is no more.
    NoProfile(ProfileName),
    /// Leases so far are numbered up to this.
    ProfileFence(i64),
    Event(EventRow),
}

impl Row {
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Session(row) => Key::Session(row.key.clone()),
            Self::Process(row) => Key::Process(row.session.clone(), row.service.clone()),
            Self::NoProcess(session, service) => Key::Process(session.clone(), service.clone()),
            Self::Idempotency(row) => Key::Idempotency(row.key.clone()),
            Self::Profile(row) => Key::Profile(row.name.clone()),
            Self::NoProfile(name) => Key::Profile(name.clone()),
            Self::ProfileFence(_) => Key::ProfileFence,
            Self::Event(row) => Key::Event(row.id.clone()),
        }
    }

    fn is_live(&self) -> bool {
        match self {
            Self::Session(row) => !row.has_ended(),
            Self::Process(_) | Self::Profile(_) | Self::ProfileFence(_) => true,
            Self::NoProcess(..) | Self::Idempotency(_) | Self::NoProfile(_) | Self::Event(_) => false,
        }
    }

    /// Whether nobody misses it much.
    fn is_expendable(&self) -> bool {
        matches!(self, Self::Event(event) if !event.is_kept)
    }
}

#[derive(Debug)]
struct Entry {
    row: Arc<Row>,
    /// When the thing first came, among all; rows refer to what came before them.
    place: u64,
    /// Of the put that brought `row`.
    version: u64,
    dirty: bool,
}

/// What is to be written in one go.
#[derive(Debug)]
pub(super) struct Batch {
    /// In the order in which the things came.
    pub(super) rows: Vec<Arc<Row>>,
    /// The last put that it covers.
    pub(super) up_to: u64,
    /// Events that were forgotten before they could be written.
    pub(super) lost_events: u64,
}

impl Batch {
    /// Whether there is something for the outbox in it.
    pub(super) fn has_events(&self) -> bool {
        self.lost_events > 0 || self.rows.iter().any(|row| matches!(**row, Row::Event(_)))
    }
}

/// The rows. Forgets nothing live.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: HashMap<Key, Entry>,
    places: BTreeMap<u64, Key>,
    /// Counts puts.
    version: u64,
    /// Events that were forgotten, and of which the outbox has not been told.
    lost_events: u64,
}

impl Pending {
    /// Takes the newest row of a thing. Whether another thing's was forgotten for it.
    pub(super) fn put(&mut self, row: Row) -> bool {
        self.version += 1;
        let version = self.version;
        if let Row::Session(session) = &row
            && session.has_ended()
        {
            // Writing the session's end removes its processes' rows.
            self.remove_where(|key| matches!(key, Key::Process(of, _) if *of == session.key));
        }
        let key = row.key();
        let row = Arc::new(row);
        if let Some(entry) = self.entries.get_mut(&key) {
            *entry = Entry { row, place: entry.place, version, dirty: true };
            return false;
        }
        let forgotten = self.entries.len() >= MAX_THINGS && self.forget_oldest();
        self.places.insert(version, key.clone());
        self.entries.insert(key, Entry { row, place: version, version, dirty: true });
        forgotten
    }

    fn forget_oldest(&mut self) -> bool {
        let chosen = |wanted: fn(&Row) -> bool| {
            let is_it = |key: &&Key| self.entries.get(key).is_some_and(|entry| wanted(&entry.row));
            self.places.values().find(is_it).cloned()
        };
        let Some(key) = chosen(Row::is_expendable).or_else(|| chosen(|row| !row.is_live())) else {
            return false;
        };
        self.lost_events += u64::from(matches!(key, Key::Event(_)));
        self.remove(&key)
    }

    fn remove(&mut self, key: &Key) -> bool {
        let entry = self.entries.remove(key);
        entry.is_some_and(|entry| self.places.remove(&entry.place).is_some())
    }

    fn remove_where(&mut self, chosen: impl Fn(&Key) -> bool) {
        let keys: Vec<Key> = self.entries.keys().filter(|key| chosen(key)).cloned().collect();
        for key in keys {
            self.remove(&key);
        }
    }

    /// Everything that is not on disk yet.
    pub(super) fn batch(&self) -> Batch {
        let rows = self.ordered().filter(|entry| entry.dirty).map(|entry| Arc::clone(&entry.row)).collect();
        Batch { rows, up_to: self.version, lost_events: self.lost_events }
    }

    /// The batch is on disk; what was put since is not.
    pub(super) fn settle(&mut self, batch: &Batch) {
        self.lost_events -= batch.lost_events.min(self.lost_events);
        for row in &batch.rows {
            let key = row.key();
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.version > batch.up_to {
                continue;
            }
            entry.dirty = false;
            if !row.is_live() {
                self.remove(&key);
            }
        }
    }

    /// The file is another one than before: everything has to be written to it.
    pub(super) fn unsettle(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.dirty = true);
    }

    /// How many rows are not on disk yet.
    pub(super) fn waiting(&self) -> usize {
        self.entries.values().filter(|entry| entry.dirty).count()
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.entries.values().any(|entry| entry.dirty)
    }

    /// Of the latest put.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    fn ordered(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.places.values().filter_map(|key| self.entries.get(key))
    }

    /// The sessions known here, in the order in which they came.
    pub(super) fn sessions(&self) -> impl DoubleEndedIterator<Item = &SessionRow> {
        self.ordered().filter_map(|entry| match &*entry.row {
            Row::Session(row) => Some(row),
            _ => None,
        })
    }

    /// The latest session of that id, if one is known here.
    pub(super) fn session(&self, id: &SessionId) -> Option<&SessionRow> {
        self.sessions().rev().find(|row| row.key.id == *id)
    }

    /// The processes known here; `None` for those that are no more.
    pub(super) fn processes(&self) -> impl Iterator<Item = (&SessionKey, &str, Option<&ProcessRow>)> {
        self.ordered().filter_map(|entry| match &*entry.row {
            Row::Process(row) => Some((&row.session, row.service.as_str(), Some(row))),
            Row::NoProcess(session, service) => Some((session, service.as_str(), None)),
            _ => None,
        })
    }

    /// The profiles known here; `None` for those that are no more.
    pub(super) fn profiles(&self) -> impl Iterator<Item = (&ProfileName, Option<&ProfileRow>)> {
        self.ordered().filter_map(|entry| match &*entry.row {
            Row::Profile(row) => Some((&row.name, Some(row))),
            Row::NoProfile(name) => Some((name, None)),
            _ => None,
        })
    }

    pub(super) fn profile_fence(&self) -> Option<i64> {
        match &*self.entries.get(&Key::ProfileFence)?.row {
            Row::ProfileFence(fence) => Some(*fence),
            _ => None,
        }
    }

    pub(super) fn idempotency(&self, key: &str) -> Option<&IdempotencyRow> {
        match &*self.entries.get(&Key::Idempotency(key.to_owned()))?.row {
            Row::Idempotency(row) => Some(row),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ended, event, idempotency, process, session};
    use super::*;

    #[test]
    fn a_newer_row_takes_the_place_of_the_older_one_and_stays_where_that_was() {
        let mut pending = Pending::default();
        pending.put(Row::Session(session("a", 1)));
        pending.put(Row::Process(process("a", 1, "xvfb")));
        let ready = SessionRow { state: "ready".to_owned(), ..session("a", 1) };
        pending.put(Row::Session(ready.clone()));
        let batch = pending.batch();
        assert_eq!(batch.up_to, 3);
        let rows: Vec<Row> = batch.rows.iter().map(|row| Row::clone(row)).collect();
        assert_eq!(rows, [Row::Session(ready), Row::Process(process("a", 1, "xvfb"))]);
    }

    #[test]
    fn what_was_put_while_a_batch_was_being_written_is_in_the_next() {
        let mut pending = Pending::default();
        pending.put(Row::Session(session("a", 1)));
        pending.put(Row::Session(session("b", 2)));
        let batch = pending.batch();
        pending.put(Row::Session(ended("a", 1, 9)));
        pending.settle(&batch);
        assert_eq!((pending.waiting(), pending.batch().rows.len()), (1, 1));
        let batch = pending.batch();
        pending.settle(&batch);
        assert!(!pending.is_dirty());
        // The live one is still there, in case that the file is lost.
        pending.unsettle();
        assert_eq!(*pending.batch().rows[0], Row::Session(session("b", 2)));
        assert_eq!(pending.waiting(), 1);
    }

    #[test]
    fn a_session_that_ends_takes_its_processes_along_and_no_other_s() {
        let mut pending = Pending::default();
        for created in [1, 2] {
            pending.put(Row::Session(session("a", created)));
            pending.put(Row::Process(process("a", created, "xvfb")));
        }
        pending.put(Row::Session(ended("a", 1, 9)));
        let left: Vec<i64> = pending.processes().map(|(session, ..)| session.created_ms).collect();
        assert_eq!(left, [2]);
    }

    #[test]
    fn events_are_written_once_and_of_too_many_those_go_first_that_can_be_done_without() {
        let mut pending = Pending::default();
        pending.put(Row::Session(session("live", 0)));
        pending.put(Row::Event(event("kept", 1, true)));
        pending.put(Row::Event(event("expendable", 2, false)));
        let batch = pending.batch();
        assert_eq!((batch.rows.len(), batch.lost_events), (3, 0));
        pending.settle(&batch);
        // The file has them: nothing of them is left in memory.
        assert_eq!(pending.entries.len(), 1);
        pending.put(Row::Event(event("kept", 1, true)));
        pending.put(Row::Event(event("expendable", 2, false)));
        for number in 3..MAX_THINGS {
            assert!(!pending.put(Row::Idempotency(idempotency(&number.to_string(), 0))));
        }
        assert!(pending.put(Row::Event(event("third", 3, true))));
        assert!(pending.entries.contains_key(&Key::Event("kept".to_owned())));
        assert!(!pending.entries.contains_key(&Key::Event("expendable".to_owned())));
        assert!(pending.put(Row::Event(event("fourth", 4, true))), "now the oldest that is over");
        let batch = pending.batch();
        assert_eq!((batch.lost_events, batch.has_events()), (2, true));
        pending.settle(&batch);
        assert_eq!(pending.batch().lost_events, 0);
    }

    #[test]
    fn a_flood_costs_the_oldest_that_is_over_and_nothing_that_lives() {
        let mut pending = Pending::default();
        assert!(!pending.put(Row::Session(session("live", 0))));
        assert!(!pending.put(Row::Session(ended("first", 1, 2))));
        for number in 2..MAX_THINGS {
            assert!(!pending.put(Row::Idempotency(idempotency(&number.to_string(), 0))));
        }
        assert!(pending.put(Row::Session(ended("second", 3, 4))));
        assert_eq!(pending.session(&"first".parse().unwrap()), None);
        for id in ["live", "second"] {
            assert!(pending.session(&id.parse().unwrap()).is_some(), "{id}");
        }
        assert!(pending.put(Row::Session(session("another", 5))));
        assert_eq!(pending.idempotency("2"), None);
        assert_eq!((pending.entries.len(), pending.places.len()), (MAX_THINGS, MAX_THINGS));
    }
}

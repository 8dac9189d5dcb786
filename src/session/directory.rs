//! The sessions of this host, as everybody else sees them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::events::Events;
use super::record::SessionRecord;
use super::viewer::Session;
use crate::ids::SessionId;
use crate::profile;

/// What the manager publishes.
#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) live: HashMap<SessionId, Session>,
    /// Newest first.
    pub(super) ended: VecDeque<Arc<SessionRecord>>,
    pub(super) occupancy: Occupancy,
    /// How many profiles of the pool are in each state.
    pub(super) profiles: profile::Counts,
}

impl Directory {
    /// The session of that name as it was when it ended last.
    pub(super) fn ended(&self, id: &SessionId) -> Option<SessionRecord> {
        self.ended.iter().find(|record| record.id == *id).map(|record| (**record).clone())
    }
}

/// How full the host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Sessions that it takes at a time.
    pub capacity: usize,
    /// Those that are there: starting, running and ending ones.
    pub occupied: usize,
    /// Requests that wait for a place.
    pub queued: usize,
    /// Displays that are up and wait for a session.
    pub spare_displays: usize,
    /// The same with a blank browser.
    pub spare_browsers: usize,
    /// Whether no new ones are taken, since the control plane does not know this host.
    pub refusing: bool,
}

/// The sessions of this host. Cheap to clone; always current.
#[derive(Clone)]
pub struct Sessions {
    pub(super) directory: watch::Receiver<Directory>,
    pub(super) events: Events,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.directory.borrow().live.keys()).finish()
    }
}

impl Sessions {
    /// The session of that name that is there now.
    pub fn get(&self, id: &SessionId) -> Option<Session> {
        self.directory.borrow().live.get(id).cloned()
    }

    /// Waits until there is one of that name. Pending for ever once the manager is gone.
    pub async fn wait_for(&self, id: &SessionId) -> Session {
        let mut directory = self.directory.clone();
        loop {
            let found = directory.borrow_and_update().live.get(id).cloned();
            match found {
                Some(session) => return session,
                None if directory.changed().await.is_err() => std::future::pending::<()>().await,
                None => {}
            }
        }
    }

    /// Waits until nothing of the session that was asked for then is left, whether it was there yet or still to come, and tells
    /// how it was at its end. Pending for ever once the manager is gone.
    pub async fn wait_ended(&self, id: &SessionId, created: SystemTime) -> SessionRecord {
        let mut directory = self.directory.clone();
        loop {
            {
                let now = directory.borrow_and_update();
                let is_it = |record: &&Arc<SessionRecord>| record.id == *id && record.created == created;
                if let Some(record) = now.ended.iter().find(is_it) {
                    return (**record).clone();
                }
            }
            if directory.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// All that are there now, in no order.
    pub fn all(&self) -> Vec<Session> {
        self.directory.borrow().live.values().cloned().collect()
    }

    /// The session of that name as it is, or as it was when it ended last.
    pub fn record(&self, id: &SessionId) -> Option<SessionRecord> {
        let directory = self.directory.borrow();
        directory.live.get(id).map(Session::record).or_else(|| directory.ended(id))
    }

    /// All that are there, and those that ended lately; the newest first.
    pub fn records(&self) -> Vec<SessionRecord> {
        let directory = self.directory.borrow();
        let live = directory.live.values().map(Session::record);
        let mut records: Vec<_> =
            live.chain(directory.ended.iter().map(|record| (**record).clone())).collect();
        records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        records
    }

    /// How full the host is.
    pub fn occupancy(&self) -> Occupancy {
        self.directory.borrow().occupancy
    }

    /// How many profiles of the pool are in each state.
    pub fn profile_counts(&self) -> profile::Counts {
        self.directory.borrow().profiles
    }

    /// Waits until one has come or gone, or the host is fuller or emptier than before. Pending for ever once the manager is
    /// gone. Cancel safe.
    pub async fn changed(&mut self) {
        if self.directory.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What happens to sessions from now on, and what happened lately.
    pub fn events(&self) -> Events {
        self.events.clone()
    }
}

//! What happens to sessions, in order, for those who listen. Bounded: who listens too slowly is told that it missed some.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use super::handoff::{Handoff, Outcome};
use super::record::{End, Warmth};
use super::status::SessionState;
use crate::browser::CrashReason;
use crate::ids::SessionId;
use crate::store::SessionKey;

/// Events kept for those who come back. A session makes about ten in its life.
const KEPT: usize = 1024;

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Counts up from 1 within one run of the daemon.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// To which session.
    pub session: SessionId,
    /// The session's labels at that time.
    pub labels: BTreeMap<String, String>,
    /// What.
    pub what: Happening,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// It was created.
    Created(Warmth),
    /// It is in another state.
    State(SessionState),
    /// A part of it failed, and is being restarted.
    ServiceFailed {
        /// Which.
        service: &'static str,
        /// Why.
        reason: String,
    },
    /// A tab of its browser crashed, for this reason, and was left as it is.
    TabCrashed(CrashReason),
    /// Its profile could not be used and was replaced by an empty one.
    ProfileReset,
    /// A human was asked for, or what came of that.
    Human(SessionKey, Arc<Handoff>),
    /// It is over.
    Ended(End),
}

impl Happening {
    /// The kind of event, as a stable word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Created(_) => "session.created",
            Self::State(_) => "session.state",
            Self::ServiceFailed { .. } => "service.failed",
            Self::TabCrashed(_) => "tab.crashed",
            Self::ProfileReset => "profile.reset",
            Self::Human(_, handoff) => match handoff.closing.as_ref().map(|closing| closing.outcome) {
                None => "human.requested",
                Some(Outcome::Resolved) => "human.resolved",
                Some(Outcome::Approved) => "human.approved",
                Some(Outcome::Rejected) => "human.rejected",
                Some(Outcome::Expired) => "human.expired",
                Some(Outcome::Cancelled) => "human.cancelled",
            },
            Self::Ended(_) => "session.ended",
        }
    }
}

/// The writer's side. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct EventLog {
    kept: Arc<Mutex<VecDeque<Arc<Event>>>>,
    newest: Arc<watch::Sender<u64>>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { kept: Arc::default(), newest: Arc::new(watch::Sender::new(0)) }
    }
}

impl EventLog {
    pub(super) fn push(
        &self,
        session: &SessionId,
        labels: BTreeMap<String, String>,
        at: SystemTime,
        what: Happening,
    ) {
        // A mutex, since sessions write and listeners read from any task; held for one operation on the queue.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *self.newest.borrow() + 1;
        let event = Event { number, at, session: session.clone(), labels, what };
        kept.push_back(Arc::new(event));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        // Under the lock, so that numbers and queue agree.
        self.newest.send_replace(number);
    }

    pub(super) fn listen(&self) -> Events {
        Events { kept: Arc::clone(&self.kept), newest: self.newest.subscribe() }
    }
}

/// The listeners' side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    kept: Arc<Mutex<VecDeque<Arc<Event>>>>,
    newest: watch::Receiver<u64>,
}

/// Events after a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// In order.
    pub events: Vec<Arc<Event>>,
    /// Whether some between are not kept any more.
    pub missed: bool,
}

impl Events {
    /// The number of the newest event; 0 before the first.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Those after `number`, as far as they are kept.
    pub fn since(&self, number: u64) -> Batch {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let events: Vec<_> = kept.iter().filter(|event| event.number > number).cloned().collect();
        let missed = events.first().is_some_and(|first| first.number > number + 1);
        Batch { events, missed }
    }

    /// Waits until there is one after `number`. Pending for ever once nobody writes any more. Cancel safe.
    pub async fn wait_past(&mut self, number: u64) {
        if self.newest.wait_for(|newest| *newest > number).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(log: &EventLog, count: usize) {
        for _ in 0..count {
            log.push(
                &"s".parse().unwrap(),
                BTreeMap::new(),
                SystemTime::now(),
                Happening::TabCrashed(CrashReason::Crashed),
            );
        }
    }

    #[tokio::test]
    async fn whoever_comes_back_in_time_misses_nothing() {
        let log = EventLog::default();
        let mut events = log.listen();
        push(&log, 3);
        events.wait_past(2).await;
        let batch = events.since(1);
        assert_eq!(batch.events.iter().map(|event| event.number).collect::<Vec<_>>(), [2, 3]);
        assert!(!batch.missed);
        assert_eq!(events.since(3), Batch { events: vec![], missed: false });
    }

    #[test]
    fn whoever_is_too_slow_is_told_so() {
        let log = EventLog::default();
        push(&log, KEPT + 5);
        let batch = log.listen().since(2);
        assert_eq!((batch.events.len(), batch.events[0].number, batch.missed), (KEPT, 6, true));
        assert!(!log.listen().since(5).missed);
    }
}

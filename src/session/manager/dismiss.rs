//! Changing the terms of sessions, and letting go of them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::super::admission::Denial;
use super::super::ends::Ending;
use super::super::events::Happening;
use super::super::handle::{AmendError, CreateError, Stopped};
use super::super::life::{self, STOP_BUDGET};
use super::super::record::{Cause, End, SessionRecord};
use super::super::request::{Amendment, MOST_LABELS};
use super::super::spec::at_most;
use super::super::status::SessionState;
use super::super::viewer::Expiry;
use super::actor::{Actor, Stopping};
use super::place::{Applicant, Phase, Place, Waiting, refuse};
use crate::errors::chain;
use crate::ids::SessionId;

/// Ended sessions that can still be asked about.
pub(super) const REMEMBERED: usize = 256;

impl Actor {
    /// Has a session end: one that runs, is being put together, or waits for a place.
    pub(super) fn stop(&mut self, id: &SessionId, reason: Option<String>) -> Option<Stopped> {
        let end = End { cause: Cause::Requested, reason };
        let Some(place) = self.place_of(id).and_then(|slot| self.places.get(&slot)) else {
            let news = self.cancel(id, &end).map(|record| Stopped { record, is_news: true });
            return news.or_else(|| Some(Stopped { record: self.ended(id)?, is_news: false }));
        };
        let known = match &place.phase {
            Phase::Live { session, .. } => session.status().end,
            Phase::Spare | Phase::Reserved { .. } => None,
        };
        // The first cause is the one that is told.
        let is_news = place.ending.send_if_modified(|current| {
            let first = current.is_none() && known.is_none();
            if first {
                *current = Some(Ending { end: end.clone(), deadline: Instant::now() + STOP_BUDGET });
            }
            first
        });
        let told = || place.ending.borrow().as_ref().map(|ending| ending.end.clone());
        let end = known.or_else(told).unwrap_or(end);
        let record = match &place.phase {
            Phase::Spare => return None,
            Phase::Reserved { spec, .. } => spec.record(SessionState::Draining, end),
            Phase::Live { session, .. } => {
                SessionRecord { state: SessionState::Draining, end: Some(end), ..session.record() }
            }
        };
        Some(Stopped { record, is_news })
    }

    /// Takes a session out of the queue for good: the request that asked for it does not bring it back either.
    fn cancel(&mut self, id: &SessionId, end: &End) -> Option<SessionRecord> {
        let mut cancelled = None;
        for Applicant { spec, idempotency, reply } in
            self.leave_queue(|queued| queued.applicant.spec.id == *id)
        {
            tracing::info!(session = %id, "a session ended before it had a place");
            let waiting = Waiting::Requests { replies: vec![reply], idempotency };
            self.not_born(&spec, Some(end.clone()), waiting, CreateError::Cancelled(id.clone()));
            cancelled = self.ended(id);
        }
        cancelled
    }

    pub(super) fn amend(
        &mut self,
        id: &SessionId,
        amendment: Amendment,
    ) -> Result<SessionRecord, AmendError> {
        let slot = self.place_of(id).ok_or(AmendError::Unknown)?;
        let Some(Place { phase: Phase::Live { session, controls }, ending, .. }) = self.places.get(&slot)
        else {
            return Err(AmendError::Unknown);
        };
        if ending.borrow().is_some() || session.status().end.is_some() {
            return Err(AmendError::Ending);
        }
        at_most(amendment.expires_in, self.rules.max_duration, "expires_in")?;
        let mut labels = controls.terms.borrow().labels.clone();
        labels.extend(amendment.labels.clone());
        if labels.len() > MOST_LABELS {
            return Err(Denial::OverLimit { what: "labels" }.into());
        }
        controls.terms.send_modify(|terms| {
            let Amendment { expires_in, idle_timeout, labels } = amendment;
            terms.expires = expires_in.map(Expiry::after).or(terms.expires);
            terms.idle_timeout = idle_timeout.unwrap_or(terms.idle_timeout);
            terms.labels.extend(labels);
        });
        // A restart tells of the session by what was written down, and labels are what its asker knows it by.
        let entry = self.ledger.entry(session.key(), slot, self.uid_of(slot));
        self.teller.enter(&entry, || session.record());
        Ok(session.record())
    }

    /// No more sessions, and no spares for them.
    pub(super) fn close(&mut self) {
        self.draining = true;
        for queued in self.queue.drain(..) {
            refuse(queued.applicant.reply, Denial::Draining);
        }
        self.shelf.close();
    }

    /// Takes sessions, or does not for the time being.
    pub(super) fn set_intake(&mut self, open: bool) {
        self.refusing = !open;
        if self.refusing {
            for queued in self.queue.drain(..) {
                refuse(queued.applicant.reply, Denial::HostRefused);
            }
        }
    }

    pub(super) fn stop_all(&mut self, budget: Duration, stopping: Stopping) {
        self.close();
        let end = End { cause: Cause::HostDraining, reason: None };
        let ending = Ending { end, deadline: Instant::now() + budget };
        for place in self.places.values() {
            place.ending.send_modify(|current| {
                // An end that is under way keeps its cause, and gets no more time than the daemon has.
                let end = current.take().map_or_else(|| ending.end.clone(), |current| current.end);
                *current = Some(Ending { end, deadline: ending.deadline });
            });
        }
        self.stopping = Some(stopping);
    }

    pub(super) fn over(&mut self, slot: u32, outcome: Result<Option<Box<SessionRecord>>, life::Error>) {
        self.shelf.gone(slot, Instant::now());
        let Some(place) = self.places.remove(&slot) else { return };
        self.slots.give_back(slot);
        self.give_back_profile(&place, &outcome);
        let end = place.ending.borrow().as_ref().map(|ending| ending.end.clone());
        match (place.phase, outcome) {
            (Phase::Live { session, .. }, Ok(Some(record))) => self.bury(Some(session.id()), *record),
            // Only a fault of ours ends it so.
            (Phase::Live { session, .. }, Err(error)) => {
                let reason = chain(&error);
                tracing::error!(session = %session.id(), error = reason, "the session was lost");
                let end = End { cause: Cause::HostDied, reason: Some(reason) };
                let record = SessionRecord {
                    state: SessionState::Stopped,
                    ended: Some(SystemTime::now()),
                    end: Some(end.clone()),
                    ..session.record()
                };
                let entry = self.ledger.entry(session.key(), slot, self.uid_of(slot));
                self.teller.tell(&entry, || record.clone(), vec![Happening::Ended(end)]);
                self.bury(Some(session.id()), record);
            }
            (Phase::Reserved { spec, waiting, .. }, Err(error)) => {
                tracing::error!(session = %spec.id, error = chain(&error), "the session could not be started");
                self.not_born(&spec, end, waiting, CreateError::Failed(error));
            }
            (Phase::Spare, Err(error)) => {
                tracing::error!(slot, error = chain(&error), "a spare could not be started");
            }
            (Phase::Spare, Ok(None)) => {}
            (phase, _) => {
                tracing::error!(slot, session = ?phase.id(), "a session ended out of turn");
                self.directory.send_modify(|directory| {
                    directory.live.retain(|id, _| Some(id) != phase.id());
                });
            }
        }
    }

    /// Whoever waits for a session hears that it is late; its place stays taken until what was begun is done.
    pub(super) fn late(&mut self, slot: u32, error: life::Error) {
        let Some(Place { phase: Phase::Reserved { spec, waiting, .. }, ending, .. }) =
            self.places.get_mut(&slot)
        else {
            tracing::error!(
                slot,
                error = chain(&error),
                "a spare is late: its place is taken until it is done"
            );
            return;
        };
        tracing::error!(session = %spec.id, error = chain(&error), "the session is late: its place is taken until it is done");
        if ending.borrow().is_some() {
            // Whoever waits hears of its end, which is near.
            return;
        }
        let nobody = Waiting::Requests { replies: Vec::new(), idempotency: None };
        let (spec, waiting) = (Arc::clone(spec), std::mem::replace(waiting, nobody));
        self.not_born(&spec, None, waiting, CreateError::Failed(error));
    }

    /// A session has ended. `live`: that there was, and is no more.
    pub(super) fn bury(&self, live: Option<&SessionId>, record: SessionRecord) {
        self.directory.send_modify(|directory| {
            if let Some(id) = live {
                directory.live.remove(id);
            }
            directory.ended.push_front(Arc::new(record));
            directory.ended.truncate(REMEMBERED);
        });
    }

    pub(super) fn ended(&self, id: &SessionId) -> Option<SessionRecord> {
        self.directory.borrow().ended(id)
    }
}

//! Changing the terms of sessions, and letting go of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::admission::Denial;
use super::super::handle::{AmendError, CreateError};
use super::super::life::{self, Ending, STOP_BUDGET};
use super::super::record::{Cause, End, SessionRecord};
use super::super::request::{Amendment, MOST_LABELS};
use super::super::spec::at_most;
use super::super::status::SessionState;
use super::super::viewer::Expiry;
use super::actor::Actor;
use super::place::{Phase, Place, fail, refuse};
use crate::ids::SessionId;

/// Ended sessions that can still be asked about.
pub(super) const REMEMBERED: usize = 256;

impl Actor {
    pub(super) fn stop(&mut self, id: &SessionId, reason: Option<String>) -> Option<SessionRecord> {
        let place = self.place_of(id).and_then(|slot| self.places.get(&slot));
        // One that is still being put together is not known to anybody yet.
        let Some(Place { phase: Phase::Live { session, .. }, ending: told }) = place else {
            return self.ended(id);
        };
        let end = End { cause: Cause::Requested, reason };
        let ending = Ending { end, deadline: Instant::now() + STOP_BUDGET };
        let record = session.record();
        // The first cause is the one that is told.
        let end = record.end.clone();
        told.send_if_modified(|current| {
            let first = current.is_none() && end.is_none();
            if first {
                *current = Some(ending);
            }
            first
        });
        let end = end.or_else(|| told.borrow().as_ref().map(|ending| ending.end.clone()));
        Some(SessionRecord { state: SessionState::Draining, end, ..record })
    }

    pub(super) fn amend(
        &mut self,
        id: &SessionId,
        amendment: Amendment,
    ) -> Result<SessionRecord, AmendError> {
        let place = self.place_of(id).and_then(|slot| self.places.get(&slot));
        let Some(Place { phase: Phase::Live { session, terms, .. }, ending }) = place else {
            return Err(AmendError::Unknown);
        };
        if ending.borrow().is_some() || session.status().end.is_some() {
            return Err(AmendError::Ending);
        }
        at_most(amendment.expires_in, self.rules.max_duration, "expires_in")?;
        let mut labels = terms.borrow().labels.clone();
        labels.extend(amendment.labels.clone());
        if labels.len() > MOST_LABELS {
            return Err(Denial::OverLimit { what: "labels" }.into());
        }
        terms.send_modify(|terms| {
            let Amendment { expires_in, idle_timeout, labels } = amendment;
            terms.expires = expires_in.map(Expiry::after).or(terms.expires);
            terms.idle_timeout = idle_timeout.unwrap_or(terms.idle_timeout);
            terms.labels.extend(labels);
        });
        Ok(session.record())
    }

    pub(super) fn stop_all(&mut self, budget: Duration, done: oneshot::Sender<()>) {
        for queued in self.queue.drain(..) {
            refuse(queued.applicant.reply, Denial::Draining);
        }
        self.shelf.close();
        let end = End { cause: Cause::HostDraining, reason: None };
        let ending = Ending { end, deadline: Instant::now() + budget };
        for place in self.places.values() {
            place.ending.send_modify(|current| {
                // An end that is under way keeps its cause, and gets no more time than the daemon has.
                let end = current.take().map_or_else(|| ending.end.clone(), |current| current.end);
                *current = Some(Ending { end, deadline: ending.deadline });
            });
        }
        self.stopping = Some(done);
    }

    pub(super) fn over(&mut self, slot: u32, outcome: Result<Option<Box<SessionRecord>>, life::Error>) {
        self.shelf.gone(slot, Instant::now());
        let Some(place) = self.places.remove(&slot) else { return };
        self.slots.give_back(slot);
        match (place.phase, outcome) {
            (Phase::Live { session, .. }, Ok(Some(record))) => {
                self.directory.send_modify(|directory| {
                    directory.live.remove(session.id());
                    directory.ended.push_front(Arc::new(*record));
                    directory.ended.truncate(REMEMBERED);
                });
            }
            (Phase::Reserved { id, waiting, .. }, Err(error)) => {
                tracing::error!(session = %id, error = %crate::errors::chain(&error), "the session could not be started");
                fail(waiting, CreateError::Failed(error));
            }
            (Phase::Spare, Err(error)) => {
                tracing::error!(slot, error = %crate::errors::chain(&error), "a spare could not be started");
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

    pub(super) fn ended(&self, id: &SessionId) -> Option<SessionRecord> {
        self.directory.borrow().ended(id)
    }
}

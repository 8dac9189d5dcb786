//! Requests for a human: the books of all sessions.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::{oneshot, watch};

use super::super::ends::Ending;
use super::super::events::Happening;
use super::super::handle::HandoffError;
use super::super::handoff::{Answer, Handoff, HandoffDenial, Handoffs, NewHandoff};
use super::super::viewer::Session;
use super::actor::Actor;
use super::place::{Phase, Place};
use crate::ids::{HandoffId, SessionId};
use crate::store::SessionKey;

/// A handoff, and whether it is news.
type Outcome = Result<(Arc<Handoff>, bool), HandoffDenial>;

impl Actor {
    pub(super) fn ask_for_human(
        &self,
        id: &SessionId,
        new: NewHandoff,
    ) -> Result<(Arc<Handoff>, bool), HandoffError> {
        let slot = self.place_of(id).ok_or(HandoffError::Unknown)?;
        self.change(slot, |handoffs| handoffs.ask(new, (SystemTime::now(), Instant::now())))
    }

    /// Takes an answer that came by way of this very session: its id may be another's by now.
    pub(super) fn answer_handoff(
        &self,
        key: &SessionKey,
        id: &HandoffId,
        answer: Answer,
    ) -> Result<(Arc<Handoff>, bool), HandoffError> {
        let there = self.places.iter().find(|(_, place)| place.phase.key().as_ref() == Some(key));
        let (slot, _) = there.ok_or(HandoffError::Unknown)?;
        self.change(*slot, |handoffs| handoffs.answer(id, answer, SystemTime::now()))
    }

    pub(super) fn next_handoff_expiry(&self) -> Option<Instant> {
        let books = self.places.values().filter_map(|place| match &place.phase {
            Phase::Live { controls, .. } => Some(&controls.handoffs),
            Phase::Spare | Phase::Reserved { .. } => None,
        });
        books.filter_map(|handoffs| handoffs.borrow().next_expiry()).min()
    }

    pub(super) fn expire_handoffs(&self) {
        let now = (SystemTime::now(), Instant::now());
        for (slot, place) in &self.places {
            if let Phase::Live { session, controls } = &place.phase {
                let expired = close(&controls.handoffs, |handoffs| handoffs.expire(now));
                self.tell_handoffs(*slot, session, &expired);
            }
        }
    }

    /// The session in this slot is about to be taken down. Once this is heard nothing more is entered for it here.
    pub(super) fn ending(&self, slot: u32, ending: Ending, heard: oneshot::Sender<()>) {
        if let Some(Place { phase: Phase::Live { session, controls }, ending: told, .. }) =
            self.places.get(&slot)
        {
            told.send_if_modified(|current| {
                let is_news = current.is_none();
                current.get_or_insert(ending);
                is_news
            });
            let cancelled = close(&controls.handoffs, |handoffs| handoffs.cancel(SystemTime::now()));
            self.tell_handoffs(slot, session, &cancelled);
        }
        let _gone = heard.send(());
    }

    /// Changes the book of a session that runs.
    fn change(
        &self,
        slot: u32,
        change: impl FnOnce(&mut Handoffs) -> Outcome,
    ) -> Result<(Arc<Handoff>, bool), HandoffError> {
        let Some(Place { phase: Phase::Live { session, controls }, ending, .. }) = self.places.get(&slot)
        else {
            return Err(HandoffError::Unknown);
        };
        if ending.borrow().is_some() {
            return Err(HandoffError::Ending);
        }
        let mut outcome = Err(HandoffDenial::Unknown);
        controls.handoffs.send_if_modified(|handoffs| {
            outcome = change(handoffs);
            matches!(outcome, Ok((_, true)))
        });
        let (handoff, is_news) = outcome?;
        if is_news {
            self.tell_handoffs(slot, session, &[Arc::clone(&handoff)]);
        }
        Ok((handoff, is_news))
    }

    /// Tells of handoffs that have begun or ended, and writes the session down with them.
    fn tell_handoffs(&self, slot: u32, session: &Session, handoffs: &[Arc<Handoff>]) {
        if handoffs.is_empty() {
            return;
        }
        let mut news = Vec::new();
        for handoff in handoffs {
            let what = Happening::Human(session.key(), Arc::clone(handoff));
            // Without reason and note: they are the user's business.
            tracing::info!(session = %session.id(), handoff = %handoff.id, kind = handoff.kind.as_str(), "{}", what.as_str());
            news.push(what);
        }
        let entry = self.ledger.entry(session.key(), slot, self.uid_of(slot));
        self.teller.tell(&entry, || session.record(), news);
    }
}

fn close(
    book: &watch::Sender<Handoffs>,
    change: impl FnOnce(&mut Handoffs) -> Vec<Arc<Handoff>>,
) -> Vec<Arc<Handoff>> {
    let mut closed = Vec::new();
    book.send_if_modified(|handoffs| {
        closed = change(handoffs);
        !closed.is_empty()
    });
    closed
}

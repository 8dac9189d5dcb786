//! Requests for a human: what an automation cannot do, and what came of it. Pure; the manager keeps one book for each session.
//!
//! A handoff is asked for once and answered once. Whoever asks again under its id gets the same one, and whoever answers again
//! gets the first answer, so that a lost reply costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::ids::HandoffId;

/// Handoffs of a session that nobody has answered yet. One person answers one at a time.
const MOST_OPEN: usize = 8;
/// Those that are over and still told.
const MOST_CLOSED: usize = 24;

/// Longest reason, in bytes: a human reads it at a glance.
pub const MAX_REASON_BYTES: usize = 500;
/// Longest note, in bytes.
pub const MAX_NOTE_BYTES: usize = 2000;

/// Whether a reason or a note is one: some text that can be shown as it is, with line breaks.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_words(text: &str, most: usize) -> Result<(), String> {
    let shown = text.chars().all(|char| char == '\n' || !char.is_control());
    if shown && text.len() <= most && !text.trim().is_empty() {
        return Ok(());
    }
    Err(format!("must be 1 to {most} bytes of text, without control characters but line breaks"))
}

/// What a human is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoffKind {
    /// To tell a site that there is a human.
    Captcha,
    /// To look at what was done before it is sent.
    Review,
    /// The automation has tried all that it knows.
    EngineExhausted,
    /// A field can be filled in more than one way.
    AmbiguousField,
}

impl HandoffKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Captcha, Self::Review, Self::EngineExhausted, Self::AmbiguousField];

    /// The kind as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captcha => "captcha",
            Self::Review => "review",
            Self::EngineExhausted => "engine_exhausted",
            Self::AmbiguousField => "ambiguous_field",
        }
    }
}

/// What a human says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is done.
    Resolved,
    /// It is good as it is.
    Approved,
    /// It is not.
    Rejected,
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Resolved, Self::Approved, Self::Rejected];

    /// The decision as a word.
    pub fn as_str(self) -> &'static str {
        Outcome::from(self).as_str()
    }

    /// The decision that is called so.
    ///
    /// # Errors
    /// Which ones there are, in words.
    pub fn of(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|decision| decision.as_str() == word);
        known.ok_or_else(|| "must be \"resolved\", \"approved\" or \"rejected\"".to_owned())
    }
}

/// How a handoff ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A human did it.
    Resolved,
    /// A human found it good.
    Approved,
    /// A human did not.
    Rejected,
    /// Nobody answered in time.
    Expired,
    /// Its session ended.
    Cancelled,
}

impl Outcome {
    /// The outcome as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<Decision> for Outcome {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Resolved => Self::Resolved,
            Decision::Approved => Self::Approved,
            Decision::Rejected => Self::Rejected,
        }
    }
}

/// The end of a handoff.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    /// How.
    pub outcome: Outcome,
    /// When.
    pub at: SystemTime,
    /// Who said so, where somebody did: a user, or who was at the host's own socket.
    pub by: Option<String>,
    /// What they had to say.
    pub note: Option<String>,
}

/// A request for a human.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handoff {
    /// Its name within the session.
    pub id: HandoffId,
    /// What for.
    pub kind: HandoffKind,
    /// In words, for the human.
    pub reason: String,
    /// The caller's word, which comes back in events: what a durable workflow's wait looks for.
    pub event_scope: Option<String>,
    /// When it was asked for.
    pub created: SystemTime,
    /// When it is over at the latest.
    pub expires: SystemTime,
    /// Its end, once it has one.
    pub closing: Option<Closing>,
}

impl Handoff {
    /// The same, over because its session is, where it was not over before.
    pub(super) fn cancelled(self, at: SystemTime) -> Self {
        let cancelled = || Closing { outcome: Outcome::Cancelled, at, by: None, note: None };
        Self { closing: Some(self.closing.unwrap_or_else(cancelled)), ..self }
    }
}

/// A handoff as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHandoff {
    /// Its name within the session.
    pub id: HandoffId,
    /// What for.
    pub kind: HandoffKind,
    /// In words.
    pub reason: String,
    /// The caller's word.
    pub event_scope: Option<String>,
    /// From now until it is over unanswered.
    pub expires_in: Duration,
}

/// A human's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What they decided.
    pub decision: Decision,
    /// What they had to say.
    pub note: Option<String>,
    /// Who they are.
    pub by: String,
}

/// Why a handoff was not taken or not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoffDenial {
    /// There is none of that id.
    #[error("the session has no such handoff")]
    Unknown,
    /// The id stands for another one.
    #[error("another handoff has this id")]
    IdInUse,
    /// A human has enough to do.
    #[error("{MOST_OPEN} handoffs of this session wait for a human already")]
    TooMany,
    /// It is over, and otherwise than was asked for.
    #[error("the handoff is over: {}", .0.as_str())]
    Over(Outcome),
}

/// The handoffs of a session.
#[derive(Debug, Clone, Default)]
pub struct Handoffs {
    /// In the order in which they came, and when each is over at the latest.
    all: VecDeque<(Arc<Handoff>, Instant)>,
    /// Counts changes.
    version: u64,
}

impl Handoffs {
    /// All that are told, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Handoff>> {
        self.all.iter().map(|(handoff, _)| handoff)
    }

    /// Whether a human is wanted.
    pub fn wants_human(&self) -> bool {
        self.open().next().is_some()
    }

    /// Counts changes: who has seen this number has seen them all.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When the next one is over unanswered.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.open().map(|(_, deadline)| *deadline).min()
    }

    /// Takes a new one; the same again is given as it is by now. The flag: whether it is new.
    pub(super) fn ask(
        &mut self,
        new: NewHandoff,
        now: (SystemTime, Instant),
    ) -> Result<(Arc<Handoff>, bool), HandoffDenial> {
        let NewHandoff { id, kind, reason, event_scope, expires_in } = new;
        if let Some(known) = self.find(&id) {
            let is_same = (known.kind, &known.reason, &known.event_scope) == (kind, &reason, &event_scope);
            return if is_same { Ok((Arc::clone(known), false)) } else { Err(HandoffDenial::IdInUse) };
        }
        if self.open().count() >= MOST_OPEN {
            return Err(HandoffDenial::TooMany);
        }
        let (created, since) = now;
        let expires = created + expires_in;
        let handoff = Arc::new(Handoff { id, kind, reason, event_scope, created, expires, closing: None });
        self.all.push_back((Arc::clone(&handoff), since + expires_in));
        self.version += 1;
        let is_over = |(known, _): &(Arc<Handoff>, Instant)| known.closing.is_some();
        while self.all.len() > MOST_OPEN + MOST_CLOSED
            && let Some(oldest) = self.all.iter().position(is_over)
        {
            self.all.remove(oldest);
        }
        Ok((handoff, true))
    }

    /// Answers one. The flag: whether this answer ended it; an earlier one that said the same is given again.
    pub(super) fn answer(
        &mut self,
        id: &HandoffId,
        answer: Answer,
        at: SystemTime,
    ) -> Result<(Arc<Handoff>, bool), HandoffDenial> {
        let Answer { decision, note, by } = answer;
        let known = self.find(id).ok_or(HandoffDenial::Unknown)?;
        let outcome = Outcome::from(decision);
        match &known.closing {
            Some(closing) if closing.outcome == outcome => return Ok((Arc::clone(known), false)),
            Some(closing) => return Err(HandoffDenial::Over(closing.outcome)),
            None => {}
        }
        let closing = Closing { outcome, at, by: Some(by), note };
        let mut closed = self.close(closing, |handoff, _| handoff.id == *id);
        closed.pop().map(|handoff| (handoff, true)).ok_or(HandoffDenial::Unknown)
    }

    /// Ends those whose time is over, and gives them.
    pub(super) fn expire(&mut self, now: (SystemTime, Instant)) -> Vec<Arc<Handoff>> {
        let closing = Closing { outcome: Outcome::Expired, at: now.0, by: None, note: None };
        self.close(closing, |_, deadline| deadline <= now.1)
    }

    /// Ends all of them with their session, and gives those that were open.
    pub(super) fn cancel(&mut self, at: SystemTime) -> Vec<Arc<Handoff>> {
        let closing = Closing { outcome: Outcome::Cancelled, at, by: None, note: None };
        self.close(closing, |_, _| true)
    }

    fn find(&self, id: &HandoffId) -> Option<&Arc<Handoff>> {
        self.all().find(|known| known.id == *id)
    }

    fn open(&self) -> impl Iterator<Item = &(Arc<Handoff>, Instant)> {
        self.all.iter().filter(|(handoff, _)| handoff.closing.is_none())
    }

    /// Ends those that are open and chosen.
    fn close(&mut self, closing: Closing, chosen: impl Fn(&Handoff, Instant) -> bool) -> Vec<Arc<Handoff>> {
        let mut closed = Vec::new();
        for (handoff, deadline) in &mut self.all {
            if handoff.closing.is_none() && chosen(handoff, *deadline) {
                *handoff = Arc::new(Handoff { closing: Some(closing.clone()), ..(**handoff).clone() });
                closed.push(Arc::clone(handoff));
            }
        }
        self.version += u64::from(!closed.is_empty());
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(id: &str) -> NewHandoff {
        NewHandoff {
            id: id.parse().unwrap(),
            kind: HandoffKind::Captcha,
            reason: "a picture puzzle".into(),
            event_scope: Some("task-1".into()),
            expires_in: Duration::from_secs(60),
        }
    }

    fn now() -> (SystemTime, Instant) {
        (SystemTime::now(), Instant::now())
    }

    fn answer(decision: Decision) -> Answer {
        Answer { decision, note: None, by: "u1".into() }
    }

    fn outcome(handoffs: &Handoffs, id: &str) -> Option<Outcome> {
        let handoff = handoffs.all().find(|handoff| handoff.id.as_str() == id).unwrap();
        handoff.closing.as_ref().map(|closing| closing.outcome)
    }

    #[test]
    fn it_is_asked_for_once_and_answered_once() {
        let mut handoffs = Handoffs::default();
        let (first, fresh) = handoffs.ask(new("a"), now()).unwrap();
        assert!(fresh && handoffs.wants_human());
        assert_eq!(handoffs.ask(new("a"), now()).unwrap(), (first, false), "the same again");
        let other = NewHandoff { kind: HandoffKind::Review, ..new("a") };
        assert_eq!(handoffs.ask(other, now()).unwrap_err(), HandoffDenial::IdInUse);
        let id = "a".parse().unwrap();
        let version = handoffs.version();
        let (answered, fresh) = handoffs.answer(&id, answer(Decision::Resolved), now().0).unwrap();
        assert!(fresh && !handoffs.wants_human());
        assert_eq!(answered.closing.as_ref().unwrap().by.as_deref(), Some("u1"));
        assert_eq!(handoffs.version(), version + 1);
        let again = handoffs.answer(&id, answer(Decision::Resolved), now().0).unwrap();
        assert_eq!(again, (Arc::clone(&answered), false), "the first answer");
        let denial = handoffs.answer(&id, answer(Decision::Rejected), now().0).unwrap_err();
        assert_eq!(denial.to_string(), "the handoff is over: resolved");
        assert_eq!(handoffs.ask(new("a"), now()).unwrap(), (answered, false), "as it is by now");
        assert_eq!(handoffs.version(), version + 1, "nothing has changed");
        let nobody = "z".parse().unwrap();
        let denial = handoffs.answer(&nobody, answer(Decision::Resolved), now().0).unwrap_err();
        assert_eq!(denial, HandoffDenial::Unknown);
    }

    #[test]
    fn what_nobody_answers_ends_by_itself_or_with_its_session() {
        let mut handoffs = Handoffs::default();
        let start = now();
        handoffs.ask(new("a"), start).unwrap();
        let later = NewHandoff { expires_in: Duration::from_secs(90), ..new("b") };
        handoffs.ask(later, start).unwrap();
        assert_eq!(handoffs.next_expiry(), Some(start.1 + Duration::from_secs(60)));
        assert_eq!(handoffs.expire((start.0, start.1 + Duration::from_secs(59))), []);
        let at = (start.0, start.1 + Duration::from_secs(60));
        let expired: Vec<_> = handoffs.expire(at).iter().map(|handoff| handoff.id.to_string()).collect();
        assert_eq!(expired, ["a"]);
        assert_eq!(handoffs.next_expiry(), Some(start.1 + Duration::from_secs(90)));
        assert_eq!(handoffs.cancel(start.0).len(), 1);
        assert_eq!(outcome(&handoffs, "a"), Some(Outcome::Expired));
        assert_eq!(outcome(&handoffs, "b"), Some(Outcome::Cancelled));
        assert_eq!(handoffs.next_expiry(), None);
    }

    #[test]
    fn it_does_not_grow_without_end_and_forgets_nothing_open() {
        let mut handoffs = Handoffs::default();
        handoffs.ask(new("open"), now()).unwrap();
        for number in 0..200 {
            let id = format!("h{number}");
            handoffs.ask(new(&id), now()).unwrap();
            handoffs.answer(&id.parse().unwrap(), answer(Decision::Approved), now().0).unwrap();
        }
        assert_eq!(handoffs.all().count(), MOST_OPEN + MOST_CLOSED);
        assert_eq!(outcome(&handoffs, "open"), None);
        for number in 1..MOST_OPEN {
            handoffs.ask(new(&format!("o{number}")), now()).unwrap();
        }
        assert_eq!(handoffs.ask(new("more"), now()).unwrap_err(), HandoffDenial::TooMany);
    }
}

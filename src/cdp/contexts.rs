//! Which browser contexts one connection reaches: the default one, whose page a person sees, and those that it made itself.
//!
//! **Invariant:** the client hears of no target that this has not found to be in one of them, and names none.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use super::discovery::Kind;
use super::json::Member;
use super::policy::{Envelope, MAX_ID, Refusal, Splice, invalid, name, not_allowed, param, read};
use super::reply::{Denial, INVALID_REQUEST, Reason, SERVER_ERROR};
use super::rules;
use super::survey::Survey;

/// Ids of commands whose answers are for us first. A client counts up from zero or one.
pub(super) const OUR_IDS: RangeInclusive<i32> = i32::MIN..=i32::MIN + 0xF_FFFF;

/// The id of commands to targets that the client does not know of; their answers are for nobody.
pub(super) const FOR_NOBODY: i32 = i32::MIN;

/// Commands under way that are answered through us.
const MAX_ASKED: usize = 1024;

/// Contexts, targets, sessions and windows that are remembered, of each. Targets that are forgotten are looked up again; of
/// the others, more are out of reach.
const MAX_KNOWN: usize = 16 * 1024;

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It is sent on as it is.
    Pass,
    /// This is sent in its place.
    Replace(Vec<u8>),
    /// It names a target that is not known: it is to be judged again after a survey.
    Survey,
    /// It is answered and not sent on.
    Deny(Denial),
}

/// A command that is answered through us.
#[derive(Debug)]
pub(super) struct Asked {
    /// The client's id.
    pub(super) id: i32,
    /// The session that it was sent to.
    session: Option<String>,
    pub(super) about: rules::Answer,
}

/// What one connection reaches.
#[derive(Debug)]
pub struct Contexts {
    root: Kind,
    default: String,
    /// Those that it made.
    pub(super) own: HashSet<String>,
    pub(super) targets: HashSet<String>,
    /// Those that it was shown, and what is behind each.
    pub(super) sessions: HashMap<String, Kind>,
    pub(super) windows: HashSet<i64>,
    pub(super) asked: HashMap<i32, Asked>,
    last_id: i32,
    surveyed: bool,
}

impl Contexts {
    /// For a connection to a target of this kind, to a browser that looked like this.
    pub fn new(root: Kind, survey: &Survey) -> Self {
        Self {
            root,
            default: survey.default_context().to_owned(),
            own: HashSet::new(),
            targets: HashSet::new(),
            sessions: HashMap::new(),
            windows: HashSet::new(),
            asked: HashMap::new(),
            last_id: FOR_NOBODY,
            surveyed: false,
        }
    }

    /// Takes in what there is now; `None` when nobody could say. Then the message that wanted it is to be judged again.
    pub fn learn(&mut self, survey: Option<&Survey>) {
        self.surveyed = true;
        for (target, context) in survey.into_iter().flat_map(Survey::targets) {
            if self.reaches(context) {
                self.know(target);
            }
        }
    }

    /// Judges the text of one client message that the policy lets pass.
    pub fn judge(&mut self, message: &[u8]) -> Reach {
        let surveyed = std::mem::take(&mut self.surveyed);
        let mut envelope = Envelope::default();
        match read(message, &mut envelope).and_then(|method| self.weigh(&method, &envelope, surveyed)) {
            Ok(Weighed::Pass) => Reach::Pass,
            Ok(Weighed::Survey) => Reach::Survey,
            Ok(Weighed::Through(id)) => {
                let splice = Splice(envelope.id_at, id.to_string().into_bytes());
                Reach::Replace(splice.apply(message))
            }
            Err(refusal) => Reach::Deny(envelope.deny(refusal)),
        }
    }

    /// Whether targets of this context are within reach.
    pub(super) fn reaches(&self, context: &str) -> bool {
        context == self.default || self.own.contains(context)
    }

    pub(super) fn know(&mut self, target: &str) {
        if self.targets.len() >= MAX_KNOWN {
            self.targets.clear();
        }
        self.targets.insert(target.to_owned());
    }

    /// Remembers a session; `false` when there are too many.
    pub(super) fn attach(&mut self, session: &str, kind: Kind) -> bool {
        let room = self.sessions.len() < MAX_KNOWN;
        if room {
            self.sessions.insert(session.to_owned(), kind);
        }
        room
    }

    /// Forgets a session and what it was asked, which is not answered any more; `false` when it was not known.
    pub(super) fn detach(&mut self, session: &str) -> bool {
        self.asked.retain(|_, asked| asked.session.as_deref() != Some(session));
        self.sessions.remove(session).is_some()
    }

    pub(super) fn owns(&mut self, context: &str) {
        if self.own.len() < MAX_KNOWN {
            self.own.insert(context.to_owned());
        }
    }

    pub(super) fn sees_window(&mut self, window: i64) {
        if self.windows.len() < MAX_KNOWN {
            self.windows.insert(window);
        }
    }

    fn weigh(&mut self, method: &str, envelope: &Envelope<'_>, surveyed: bool) -> Result<Weighed, Refusal> {
        let Some(id) = envelope.to.id.filter(|id| !OUR_IDS.contains(id)) else {
            return Err((
                INVALID_REQUEST,
                "Message has an 'id' that is reserved".to_owned(),
                Reason::Unclear,
            ));
        };
        let kind = match envelope.to.session.as_deref() {
            None => self.root,
            Some(session) => *self.sessions.get(session).ok_or_else(out_of_reach)?,
        };
        if rules::crosses_contexts(method) || (kind == Kind::Browser && !rules::keeps_to_contexts(method)) {
            return Err((SERVER_ERROR, format!("'{method}' is not allowed"), Reason::Method));
        }
        if let Some(params) = envelope.params.filter(|_| rules::names_targets(method))
            && !self.params(&params, surveyed)?
        {
            return Ok(Weighed::Survey);
        }
        let Some(about) = rules::answer(method) else { return Ok(Weighed::Pass) };
        if self.asked.len() >= MAX_ASKED {
            return Err(not_allowed("Too many commands are under way", Reason::Target));
        }
        // There are more ids than commands may be under way.
        let ours = loop {
            let next = self.last_id.checked_add(1).filter(|next| OUR_IDS.contains(next));
            self.last_id = next.unwrap_or(FOR_NOBODY + 1);
            if !self.asked.contains_key(&self.last_id) {
                break self.last_id;
            }
        };
        self.asked.insert(ours, Asked { id, session: envelope.to.session.clone(), about });
        Ok(Weighed::Through(ours))
    }

    /// Whether everything that is named is within reach; `false` when that is to be found out.
    fn params(&self, params: &Member<'_>, surveyed: bool) -> Result<bool, Refusal> {
        let id = |key: &'static str| match param(params, key)? {
            None => Ok(None),
            Some(value) => name(&value, MAX_ID).map(Some).ok_or_else(|| invalid(key)),
        };
        if id("browserContextId")?.is_some_and(|context| !self.reaches(&context))
            || id("sessionId")?.is_some_and(|session| !self.sessions.contains_key(&session))
        {
            return Err(out_of_reach());
        }
        if let Some(window) = param(params, "windowId")? {
            let window = std::str::from_utf8(window.value).ok().and_then(|digits| digits.parse().ok());
            if !self.windows.contains(&window.ok_or_else(|| invalid("windowId"))?) {
                return Err(out_of_reach());
            }
        }
        match id("targetId")? {
            Some(target) if self.targets.contains(&target) => Ok(true),
            Some(_) if surveyed => Err(out_of_reach()),
            Some(_) => Ok(false),
            None => Ok(true),
        }
    }
}

enum Weighed {
    Pass,
    Survey,
    /// Under this id.
    Through(i32),
}

/// The same for what is another connection's and for what does not exist.
fn out_of_reach() -> Refusal {
    not_allowed("No such target, session or browser context for this connection", Reason::Target)
}

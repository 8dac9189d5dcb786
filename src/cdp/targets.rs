//! Targets that a role may not act on: the browser says which it attached the client to, and we listen.

use std::collections::HashMap;

use serde::Deserialize;

use super::policy::Policy;

/// Sessions of one connection that are remembered; more belong to nobody who means well.
const MAX_BARRED: usize = 1024;

/// How Chromium begins the messages that we listen for; its serializer writes `method` first.
const ATTACHED: &[u8] = br#"{"method":"Target.attachedToTarget","#;
const DETACHED: &[u8] = br#"{"method":"Target.detachedFromTarget","#;

/// Longest such message, in bytes: a title and a URL of 2 MiB each (`url::kMaxURLChars`), escaped.
const MAX_EVENT: usize = 8 * 1024 * 1024;

/// Protocol sessions, and their targets, that the client may not act on, while it is attached. Each window of Chromium's own
/// has some.
#[derive(Debug, Default)]
pub struct Barred {
    sessions: HashMap<String, String>,
    /// More than can be remembered: then every id is barred.
    overflown: bool,
}

impl Barred {
    /// Whether the id of a session is one of them.
    pub fn has(&self, session: &str) -> bool {
        self.overflown || self.sessions.contains_key(session)
    }

    /// Whether a session of theirs is with this target.
    pub fn has_target(&self, target: &str) -> bool {
        self.overflown || self.sessions.values().any(|barred| barred == target)
    }

    fn insert(&mut self, session: String, target: String) {
        if self.sessions.len() >= MAX_BARRED {
            self.overflown = true;
        } else {
            self.sessions.insert(session, target);
        }
    }
}

/// Listens to the browser's messages for attachments and their ends.
#[derive(Debug, Default)]
pub struct Watch {
    /// The beginning of a message while it may be one; all of it once it is.
    message: Vec<u8>,
    listening: bool,
}

#[derive(Deserialize)]
struct Event<P> {
    params: P,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detached {
    session_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    session_id: String,
    target_info: Target,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    target_id: String,
    url: String,
}

impl Watch {
    /// The next bytes of the browser's messages, `first` when a message begins with them and `last` when it ends. To be
    /// called before they are sent on, so that the client cannot know an id before `barred` does.
    pub fn hear(&mut self, bytes: &[u8], first: bool, last: bool, policy: &Policy, barred: &mut Barred) {
        if first {
            self.message.clear();
            self.listening = true;
        }
        if !self.listening {
            return;
        }
        if !agree(ATTACHED, &self.message, bytes) && !agree(DETACHED, &self.message, bytes) {
            self.stop();
            return;
        }
        if self.message.len() + bytes.len() > MAX_EVENT {
            // Nobody can say whom it is about.
            barred.overflown = true;
            self.stop();
            return;
        }
        self.message.extend_from_slice(bytes);
        if !last {
            return;
        }
        if self.message.starts_with(ATTACHED) {
            match serde_json::from_slice::<Event<Attached>>(&self.message) {
                Ok(Event { params }) if policy.may_attach(&params.target_info.url) => {}
                Ok(Event { params }) => barred.insert(params.session_id, params.target_info.target_id),
                Err(_) => barred.overflown = true,
            }
        } else if self.message.starts_with(DETACHED)
            && let Ok(Event { params }) = serde_json::from_slice::<Event<Detached>>(&self.message)
        {
            barred.sessions.remove(&params.session_id);
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.listening = false;
        self.message = Vec::new();
    }
}

/// Whether a message that goes on with `more` behind `known` may begin with `start`.
fn agree(start: &[u8], known: &[u8], more: &[u8]) -> bool {
    let (before, behind) = start.split_at(start.len().min(known.len()));
    known.starts_with(before) && more.iter().zip(behind).all(|(byte, wanted)| byte == wanted)
}

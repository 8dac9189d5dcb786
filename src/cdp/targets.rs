//! Targets that a role may not act on: the browser says which it attached the client to, and we listen.

use std::collections::HashSet;

use serde::Deserialize;

use super::policy::Policy;

/// Sessions of one connection that are remembered; more belong to nobody who means well.
const MAX_BARRED: usize = 1024;

/// How Chromium begins the message that we listen for; its serializer writes `method` first.
const ATTACHED: &[u8] = br#"{"method":"Target.attachedToTarget","#;

/// Longest such message, in bytes: a title and a URL of 2 MiB each (`url::kMaxURLChars`), escaped.
const MAX_EVENT: usize = 8 * 1024 * 1024;

/// Ids of protocol sessions and targets that the client may not act on.
#[derive(Debug, Default)]
pub struct Barred {
    ids: HashSet<String>,
    /// More than can be remembered: then every id is barred.
    overflown: bool,
}

impl Barred {
    /// Whether the id is one of them.
    pub fn has(&self, id: &str) -> bool {
        self.overflown || self.ids.contains(id)
    }

    fn insert(&mut self, id: String) {
        if self.ids.len() >= MAX_BARRED {
            self.overflown = true;
        } else {
            self.ids.insert(id);
        }
    }
}

/// Listens to the browser's messages for attachments.
#[derive(Debug, Default)]
pub struct Watch {
    /// The beginning of a message while it may be one; all of it once it is.
    message: Vec<u8>,
    listening: bool,
}

#[derive(Deserialize)]
struct Event {
    params: Attached,
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
        let known = self.message.len().min(ATTACHED.len());
        let seen = bytes.len().min(ATTACHED.len() - known);
        if bytes.get(..seen) != ATTACHED.get(known..known + seen) {
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
        if last && self.message.len() < ATTACHED.len() {
            self.stop();
        } else if last {
            match serde_json::from_slice::<Event>(&self.message) {
                Ok(Event { params }) if policy.may_attach(&params.target_info.url) => {}
                Ok(Event { params }) => {
                    barred.insert(params.session_id);
                    barred.insert(params.target_info.target_id);
                }
                Err(_) => barred.overflown = true,
            }
            self.stop();
        }
    }

    fn stop(&mut self) {
        self.listening = false;
        self.message = Vec::new();
    }
}

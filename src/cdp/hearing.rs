//! What a connection that reaches some contexts only hears of the browser: which messages are looked at, and what of them
//! is told.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::contexts::{Asked, Contexts, FOR_NOBODY, OUR_IDS};
use super::discovery::Kind;
use super::frames::Heard;
use super::rules::Answer;
use super::survey::Target;

/// How Chromium begins its messages; its serializer writes these first, in this order.
const EVENT: &[u8] = br#"{"method":""#;
const TARGET_EVENT: &[u8] = br#"{"method":"Target."#;
const ANSWER: &[u8] = br#"{"id":"#;

/// Digits of an id and its sign, at most.
const MAX_ID_DIGITS: usize = 11;

/// Bytes that tell of any message what becomes of it.
const DECISIVE: usize = TARGET_EVENT.len();

/// Longest message that is looked at, in bytes: a list of some thousand tabs. A longer one is not told.
const MAX_LOOKED_AT: usize = 16 * 1024 * 1024;

/// Tells the browser's messages that are looked at from those that go through as they are.
#[derive(Debug, Default)]
pub struct Screen {
    state: State,
    /// What has come of the message's text, unless it goes through.
    text: Vec<u8>,
    /// Its bytes with those of frames, while nobody knows whether it goes through.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Undecided,
    Through,
    Looked {
        whole: bool,
    },
    Dropped,
}

/// What becomes of bytes of the browser's stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Passing {
    /// They go through, behind these that were held.
    Through(Vec<u8>),
    /// They do not go through.
    Withheld,
    /// They do not go through; this is the text of the message that ends with them.
    Whole(Vec<u8>),
}

impl Screen {
    /// A message ends here and another begins.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing of the message that is under way has gone through.
    pub fn withholds(&self) -> bool {
        self.state != State::Through
    }

    /// The next bytes of the message's text.
    pub fn hear(&mut self, heard: &Heard<'_>) {
        if self.state == State::Undecided {
            let known = self.text.len();
            // A message that goes through is not copied: its beginning is enough to know it.
            let more = heard.bytes.len().min(DECISIVE.saturating_sub(known));
            self.text.extend_from_slice(heard.bytes.get(..more).unwrap_or_default());
            self.state = decide(&self.text, heard.last && more == heard.bytes.len());
            self.text.truncate(known);
        }
        let fits = self.text.len() + heard.bytes.len() <= MAX_LOOKED_AT;
        match self.state {
            State::Undecided => self.text.extend_from_slice(heard.bytes),
            State::Looked { .. } if fits => {
                self.text.extend_from_slice(heard.bytes);
                self.state = State::Looked { whole: heard.last };
            }
            State::Through => self.text = Vec::new(),
            State::Looked { .. } | State::Dropped => (self.state, self.text) = (State::Dropped, Vec::new()),
        }
    }

    /// The same bytes, with those of frames, after all of their text was heard.
    pub fn pass(&mut self, bytes: &[u8]) -> Passing {
        match self.state {
            State::Undecided => {
                self.held.extend_from_slice(bytes);
                Passing::Withheld
            }
            State::Through => Passing::Through(std::mem::take(&mut self.held)),
            State::Looked { whole: true } => Passing::Whole(std::mem::take(&mut self.text)),
            State::Looked { whole: false } | State::Dropped => Passing::Withheld,
        }
    }
}

/// What the beginning of a message says of it.
fn decide(beginning: &[u8], whole: bool) -> State {
    let undecided = if whole { State::Dropped } else { State::Undecided };
    if beginning.starts_with(TARGET_EVENT) {
        return State::Looked { whole: false };
    }
    if [TARGET_EVENT, ANSWER].iter().any(|start| start.starts_with(beginning)) {
        return undecided;
    }
    if beginning.starts_with(EVENT) {
        return State::Through;
    }
    let Some(id) = beginning.strip_prefix(ANSWER) else { return State::Dropped };
    let digits = id.iter().position(|byte| !matches!(byte, b'-' | b'0'..=b'9'));
    let Some(digits) = digits else {
        return if id.len() > MAX_ID_DIGITS { State::Dropped } else { undecided };
    };
    let id = id.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<i32>().ok());
    match id {
        Some(id) if OUR_IDS.contains(&id) => State::Looked { whole: false },
        Some(_) => State::Through,
        None => State::Dropped,
    }
}

/// What is told of a message that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// This.
    Say(Vec<u8>),
    /// Nothing.
    Nothing,
    /// Nothing; these go to the browser, which holds a target of another connection's until we let it go.
    LetGo(Vec<Vec<u8>>),
}

impl Contexts {
    /// Judges the text of a message that was looked at.
    pub fn hear(&mut self, text: Vec<u8>) -> Told {
        let Ok(mut message) = serde_json::from_slice::<Value>(&text) else { return Told::Nothing };
        if message.get("sessionId").is_some_and(|session| !self.is_session(session)) {
            return Told::Nothing;
        }
        if let Some(id) = message.get("id") {
            let asked = id.as_i64().and_then(|id| self.asked.remove(&i32::try_from(id).ok()?));
            return match asked {
                Some(asked) => self.answer(message, &asked),
                None => Told::Nothing,
            };
        }
        let outer = message.get_mut("sessionId").map(Value::take);
        let params = message.get("params").unwrap_or(&Value::Null);
        match message.get("method").and_then(Value::as_str) {
            Some("Target.targetCreated" | "Target.targetInfoChanged")
                if self.shows(&params["targetInfo"]) =>
            {
                Told::Say(text)
            }
            Some("Target.attachedToTarget") => {
                let Some(session) = params["sessionId"].as_str() else { return Told::Nothing };
                if self.attached(session, &params["targetInfo"]) {
                    Told::Say(text)
                } else {
                    let_go(session, outer)
                }
            }
            Some("Target.detachedFromTarget")
                if params["sessionId"].as_str().is_some_and(|id| self.detach(id)) =>
            {
                Told::Say(text)
            }
            Some("Target.targetCrashed") if self.is_target(&params["targetId"]) => Told::Say(text),
            Some("Target.targetDestroyed") if self.is_target(&params["targetId"]) => {
                self.targets.remove(params["targetId"].as_str().unwrap_or_default());
                Told::Say(text)
            }
            _ => Told::Nothing,
        }
    }

    fn is_session(&self, id: &Value) -> bool {
        id.as_str().is_some_and(|id| self.sessions.contains_key(id))
    }

    fn is_target(&self, id: &Value) -> bool {
        id.as_str().is_some_and(|id| self.targets.contains(id))
    }

    /// Whether a target may be shown.
    fn shows(&mut self, info: &Value) -> bool {
        let Ok(target) = Target::deserialize(info) else { return false };
        match &target.browser_context_id {
            Some(context) if self.reaches(context) => {
                self.know(&target.target_id);
                true
            }
            Some(_) => false,
            None => target.kind == Kind::Browser.as_str(),
        }
    }

    fn attached(&mut self, session: &str, info: &Value) -> bool {
        let placed = info.get("browserContextId").is_some();
        self.shows(info) && self.attach(session, if placed { Kind::Page } else { Kind::Browser })
    }

    fn answer(&mut self, mut message: Value, asked: &Asked) -> Told {
        message["id"] = asked.id.into();
        if let Some(result) = message.get_mut("result")
            && !self.take_in(result, asked.about)
        {
            *result = json!({});
        }
        serde_json::to_vec(&message).map_or(Told::Nothing, Told::Say)
    }

    /// Learns from a result and takes out of it what is not for the client; `false` when it is not what it should be.
    fn take_in(&mut self, result: &mut Value, about: Answer) -> bool {
        match about {
            Answer::Targets => {
                let targets = result.get_mut("targetInfos").and_then(Value::as_array_mut);
                targets.map(|targets| targets.retain(|target| self.shows(target))).is_some()
            }
            Answer::Contexts => {
                let contexts = result.get_mut("browserContextIds").and_then(Value::as_array_mut);
                let ours = |id: &Value| id.as_str().is_some_and(|id| self.own.contains(id));
                contexts.map(|contexts| contexts.retain(ours)).is_some()
            }
            Answer::NewContext => {
                let context = result.get("browserContextId").and_then(Value::as_str);
                context.map(|context| self.owns(context)).is_some()
            }
            Answer::NewTarget => {
                let target = result.get("targetId").and_then(Value::as_str);
                target.map(|target| self.know(target)).is_some()
            }
            Answer::Window => {
                let window = result.get("windowId").and_then(Value::as_i64);
                window.map(|window| self.sees_window(window)).is_some()
            }
        }
    }
}

/// `outer` is the session that it was attached in.
fn let_go(session: &str, outer: Option<Value>) -> Told {
    let run = json!({ "id": FOR_NOBODY, "method": "Runtime.runIfWaitingForDebugger", "sessionId": session });
    let mut detach =
        json!({ "id": FOR_NOBODY, "method": "Target.detachFromTarget", "params": { "sessionId": session } });
    if let Some(outer) = outer {
        detach["sessionId"] = outer;
    }
    Told::LetGo(vec![run.to_string().into_bytes(), detach.to_string().into_bytes()])
}

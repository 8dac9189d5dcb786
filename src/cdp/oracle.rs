//! What must hold for any bytes in any chunking. The fuzz targets and `cargo test` call the same functions; each panics
//! when its property does not hold.

use serde_json::{Value, json};

use super::contexts::{Contexts, Reach};
use super::discovery::Kind;
use super::frames::{FrameError, Frames, Header, Opcode, Step};
use super::inbound::{Inbound, Item};
use super::json::object;
use super::policy::{Paths, Policy, Settings, Verdict};
use super::survey::Survey;
use super::targets::Barred;
use crate::chunking::{pieces, split_input};

/// Messages of the oracle are this long at most, so that the limit is met.
const MAX_MESSAGE: usize = 4096;

/// [`frames`] and [`inbound`] on a fuzz input.
pub fn fuzz_frames(data: &[u8]) {
    let (cuts, bytes) = split_input(data);
    frames(bytes, &cuts);
    inbound(bytes, &cuts);
}

/// [`policy`] and [`contexts`] on a fuzz input.
pub fn fuzz_policy(data: &[u8]) {
    policy(data);
    contexts(data);
}

type Followed = (Vec<u8>, Vec<(Opcode, Vec<u8>)>, Vec<Vec<u8>>, Option<FrameError>);

/// The browser's bytes, cut at `cuts` and whole, give the same bytes for the client, control frames and messages; those
/// bytes are the frames that a plain reader finds.
pub fn frames(bytes: &[u8], cuts: &[usize]) {
    let whole = follow(bytes, &[], false);
    let (cut, bounded) = (follow(bytes, cuts, false), follow(bytes, cuts, true));
    assert_eq!((&cut.1, &cut.2, cut.3), (&whole.1, &whole.2, whole.3), "the chunking changed the outcome");
    assert_eq!(
        (&bounded.1, &bounded.2, bounded.3),
        (&whole.1, &whole.2, whole.3),
        "boundaries changed the outcome"
    );
    let (passed, controls) = reference(bytes);
    assert_eq!(controls, whole.1);
    for (outcome, what) in [(whole, "whole"), (cut, "cut"), (bounded, "bounded")] {
        // Of a frame that turns out to be none, what came before may be on its way.
        assert!(outcome.0.starts_with(&passed) && bytes.len() >= outcome.0.len(), "{what}");
    }
}

fn follow(bytes: &[u8], cuts: &[usize], to_boundary: bool) -> Followed {
    let (mut frames, mut passed, mut controls) = (Frames::default(), Vec::new(), Vec::new());
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for mut piece in pieces(bytes, cuts) {
        loop {
            let mut hear = |heard: super::frames::Heard<'_>| {
                if heard.first {
                    messages.push(Vec::new());
                }
                if let Some(message) = messages.last_mut() {
                    message.extend_from_slice(heard.bytes);
                }
            };
            let used = match frames.step(piece, to_boundary, &mut hear) {
                Ok(Step::Pass(count)) => {
                    passed.extend_from_slice(piece.get(..count).unwrap_or_default());
                    count
                }
                Ok(Step::Skip(count)) => count,
                Ok(Step::Control(count, opcode, payload)) => {
                    controls.push((opcode, payload));
                    count
                }
                Ok(Step::Done) => break,
                Err(error) => return (passed, controls, messages, Some(error)),
            };
            assert!(used > 0, "no progress");
            piece = piece.get(used..).unwrap_or_default();
        }
        assert!(piece.is_empty() || frames.between_messages(), "bytes were left");
    }
    (passed, controls, messages, None)
}

/// Whole frames only, one by one.
fn reference(mut bytes: &[u8]) -> (Vec<u8>, Vec<(Opcode, Vec<u8>)>) {
    let (mut passed, mut controls, mut in_message) = (Vec::new(), Vec::new(), false);
    while let Ok(Some((header, length))) = Header::parse(bytes) {
        let end = usize::try_from(header.length).unwrap_or(usize::MAX).saturating_add(length);
        let (Some(frame), false) = (bytes.get(..end), header.mask.is_some()) else { break };
        if header.opcode.is_control() {
            controls.push((header.opcode, frame.get(length..).unwrap_or_default().to_vec()));
        } else if in_message == (header.opcode == Opcode::Continuation) {
            passed.extend_from_slice(frame);
            in_message = !header.fin;
        } else {
            break;
        }
        bytes = bytes.get(end..).unwrap_or_default();
    }
    (passed, controls)
}

/// A client's bytes, cut at `cuts` and whole, are the same messages.
pub fn inbound(bytes: &[u8], cuts: &[usize]) {
    let whole = receive(bytes, &[]);
    assert_eq!(receive(bytes, cuts), whole, "the chunking changed the outcome");
    for item in &whole.0 {
        if let Item::Message(message) = item {
            assert!(message.len() <= MAX_MESSAGE);
        }
    }
}

fn receive(bytes: &[u8], cuts: &[usize]) -> (Vec<Item>, Option<FrameError>) {
    let (mut inbound, mut items) = (Inbound::new(MAX_MESSAGE, &[]), Vec::new());
    for piece in pieces(bytes, cuts) {
        inbound.buffer().extend_from_slice(piece);
        loop {
            match inbound.item() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Some(error)),
            }
        }
    }
    (items, None)
}

/// What passes is one JSON object that another parser reads too, and in it nothing that is denied; what is denied is
/// answered with an error that carries its id; what is replaced passes.
pub fn policy(message: &[u8]) {
    let paths = Paths { downloads: Some("/s/downloads".into()), readable: vec!["/s/home".into()] };
    let policy = Policy::new(Settings::default(), paths);
    let barred = Barred::default();
    match policy.judge(message, &barred) {
        Verdict::Pass | Verdict::Close(_) => {
            // Two parsers differ in what they take inside values that nobody looks at; Chromium's is as strict.
            if let Ok(value) = serde_json::from_slice::<Value>(message) {
                harmless(&value, 0);
            }
        }
        Verdict::Replace(with) => {
            assert_eq!(policy.judge(&with, &barred), Verdict::Pass, "a replacement is not good either");
        }
        Verdict::Deny(denial) => {
            let reply: Value = serde_json::from_slice(&denial.reply).unwrap_or_default();
            assert!(reply["error"]["code"].is_i64() && reply["error"]["message"].is_string(), "{reply}");
            if let Some(id) = reply.get("id") {
                assert!(ids(message).contains(id), "nothing was sent under the id of {reply}");
            }
        }
    }
}

/// The ids of a message. One that has two is denied, and which of them the answer has depends on where it is broken.
fn ids(message: &[u8]) -> Vec<Value> {
    let members = object(message).into_iter().flatten().map_while(Result::ok);
    let digits = members.filter(|member| member.is("id")).filter_map(|id| std::str::from_utf8(id.value).ok());
    digits.filter_map(|id| id.parse::<i32>().ok()).map(Value::from).collect()
}

/// What passes names nothing but what is in the default context, and what is answered through us differs in its id only.
pub fn contexts(message: &[u8]) {
    let context = json!({ "defaultBrowserContextId": "D" });
    let target =
        |id: &str, context: &str| json!({ "targetId": id, "type": "page", "browserContextId": context });
    let targets = json!({ "targetInfos": [target("A1", "D"), target("B1", "B")] });
    let Ok(survey) = Survey::read(&context, &targets) else { return };
    let mut contexts = Contexts::new(Kind::Browser, &survey);
    let mut reach = contexts.judge(message);
    if reach == Reach::Survey {
        contexts.learn(Some(&survey));
        reach = contexts.judge(message);
    }
    let sent = match &reach {
        Reach::Pass => message,
        Reach::Replace(with) => with,
        Reach::Deny(_) => return,
        Reach::Survey => unreachable!("nothing more is to be found out"),
    };
    let Ok(sent) = serde_json::from_slice::<Value>(sent) else { return };
    assert!(sent.get("sessionId").is_none_or(|session| session == ""), "{sent}");
    let within = |key: &str, only: &str| sent["params"].get(key).is_none_or(|named| named == only);
    assert!(within("targetId", "A1") && within("browserContextId", "D"), "{sent}");
    assert!(sent["params"].get("windowId").is_none() && sent["params"].get("sessionId").is_none(), "{sent}");
    if let (Reach::Replace(_), Ok(mut before)) = (&reach, serde_json::from_slice::<Value>(message)) {
        assert!(sent["id"].as_i64().is_some_and(|id| id < i64::from(i32::MIN) + 0x10_0000), "{sent}");
        before["id"] = sent["id"].clone();
        assert_eq!(before, sent);
    }
}

fn harmless(message: &Value, depth: usize) {
    assert!(message.is_object(), "{message}");
    assert!(message["id"].is_i64() && message["method"].is_string(), "{message}");
    let method = message["method"].as_str().unwrap_or_default();
    let params = &message["params"];
    let banned = ["SystemInfo.", "Tethering.", "Extensions.", "PWA.", "DeviceAccess.", "Browser.crash"];
    assert!(method != "Browser.close" && !banned.iter().any(|start| method.starts_with(start)), "{method}");
    if ["Page.navigate", "Target.createTarget"].contains(&method)
        && let Some(url) = params.get("url")
    {
        let url = url.as_str().unwrap_or("file:").to_ascii_lowercase();
        let plain: String = url.chars().filter(|c| *c > ' ').collect();
        let inner = plain.trim_start_matches("view-source:");
        assert!(!["file:", "chrome:", "devtools:"].iter().any(|scheme| inner.starts_with(scheme)), "{url}");
    }
    if method == "Target.sendMessageToTarget"
        && depth < 8
        && let Some(inner) = params.get("message").and_then(Value::as_str)
        && let Ok(inner) = serde_json::from_str(inner)
    {
        harmless(&inner, depth + 1);
    }
}

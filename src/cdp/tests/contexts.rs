//! What a connection that reaches some contexts only may say and hear. Messages are in the form that Chromium 156 gives them.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cdp::discovery::{Kind, rewrite};
use crate::cdp::frames::{Frames, Opcode, Step, to_client};
use crate::cdp::oracle;
use crate::cdp::{Contexts, Passing, Reach, Reason, Screen, Survey, Told};

fn info(id: &str, kind: &str, context: &str) -> Value {
    json!({ "targetId": id, "type": kind, "url": "http://x/", "browserContextId": context })
}

/// A default context with a page, and contexts A and B with one each.
fn survey() -> Survey {
    let contexts = json!({ "browserContextIds": ["A", "B"], "defaultBrowserContextId": "D" });
    let browser = json!({ "targetId": "browser", "type": "browser", "url": "" });
    let targets = [browser, info("d1", "page", "D"), info("a1", "page", "A"), info("b1", "page", "B")];
    Survey::read(&contexts, &json!({ "targetInfos": targets })).unwrap()
}

fn command(id: i64, session: Option<&str>, method: &str, params: &Value) -> Vec<u8> {
    let mut message = json!({ "id": id, "method": method, "params": params });
    if let Some(session) = session {
        message["sessionId"] = session.into();
    }
    message.to_string().into_bytes()
}

/// Judges as the driver does.
fn say(contexts: &mut Contexts, session: Option<&str>, method: &str, params: Value) -> Reach {
    let message = command(7, session, method, &params);
    match contexts.judge(&message) {
        Reach::Survey => {
            contexts.learn(Some(&survey()));
            contexts.judge(&message)
        }
        known => known,
    }
}

fn denied(reach: Reach) -> Reason {
    let Reach::Deny(denial) = reach else { panic!("{reach:?}") };
    let reply: Value = serde_json::from_slice(&denial.reply).unwrap();
    assert!(reply["id"] == 7 && reply["error"]["message"].is_string(), "{reply}");
    denial.reason
}

fn hear(contexts: &mut Contexts, message: &str) -> Option<Value> {
    match contexts.hear(message.to_owned().into_bytes()) {
        Told::Say(text) => Some(serde_json::from_slice(&text).unwrap()),
        Told::Nothing | Told::LetGo(_) => None,
    }
}

/// Sends a command that is answered through us, and gives what is told of the answer.
fn ask(contexts: &mut Contexts, method: &str, result: &Value) -> Option<Value> {
    let Reach::Replace(sent) = say(contexts, None, method, json!({})) else { panic!("{method}") };
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["method"], method);
    hear(contexts, &format!("{{\"id\":{},\"result\":{result}}}", sent["id"]))
}

fn connection() -> Contexts {
    Contexts::new(Kind::Browser, &survey())
}

/// One that made the context A.
fn owner_of_a() -> Contexts {
    let mut contexts = connection();
    let told = ask(&mut contexts, "Target.createBrowserContext", &json!({ "browserContextId": "A" }));
    assert_eq!(told, Some(json!({ "id": 7, "result": { "browserContextId": "A" } })));
    contexts
}

const NAMING_TARGETS: [&str; 7] = [
    "Target.attachToTarget",
    "Target.activateTarget",
    "Target.closeTarget",
    "Target.getTargetInfo",
    "Target.autoAttachRelated",
    "Target.openDevTools",
    "Browser.setContentsSize",
];

const NAMING_CONTEXTS: [&str; 9] = [
    "Target.disposeBrowserContext",
    "Target.anythingNew",
    "Browser.setDownloadBehavior",
    "Browser.grantPermissions",
    "Browser.cancelDownload",
    "Storage.getCookies",
    "Storage.setCookies",
    "Storage.clearCookies",
    "Browser.resetPermissions",
];

#[test]
fn only_what_is_in_the_default_context_and_in_its_own_is_named() {
    let mut contexts = owner_of_a();
    for method in NAMING_TARGETS {
        for target in ["d1", "a1"] {
            assert_eq!(
                say(&mut contexts, None, method, json!({ "targetId": target })),
                Reach::Pass,
                "{method}"
            );
        }
        for target in ["b1", "none", "browser", ""] {
            let reach = say(&mut contexts, None, method, json!({ "targetId": target }));
            assert_eq!(denied(reach), Reason::Target, "{method} {target}");
        }
    }
    for method in NAMING_CONTEXTS {
        for context in ["D", "A"] {
            let reach = say(&mut contexts, None, method, json!({ "browserContextId": context }));
            assert_eq!(reach, Reach::Pass, "{method}");
        }
        for context in ["B", "none", ""] {
            let reach = say(&mut contexts, None, method, json!({ "browserContextId": context }));
            assert_eq!(denied(reach), Reason::Target, "{method} {context}");
        }
    }
    let create = json!({ "url": "about:blank", "browserContextId": "B" });
    assert_eq!(denied(say(&mut contexts, None, "Target.createTarget", create)), Reason::Target);
    let both = b"{\"id\":7,\"method\":\"Target.closeTarget\",\"params\":{\"targetId\":\"d1\",\"target\\u0049d\":\"b1\"}}";
    assert_eq!(denied(contexts.judge(both)), Reason::Unclear);
    assert_eq!(
        denied(say(&mut contexts, None, "Target.closeTarget", json!({ "targetId": 5 }))),
        Reason::Unclear
    );
}

#[test]
fn a_survey_that_fails_shows_nothing() {
    let mut contexts = connection();
    let message = command(7, None, "Target.attachToTarget", &json!({ "targetId": "d1" }));
    assert_eq!(contexts.judge(&message), Reach::Survey);
    contexts.learn(None);
    assert_eq!(denied(contexts.judge(&message)), Reason::Target);
    assert_eq!(contexts.judge(&message), Reach::Survey, "it is asked again the next time");
    assert!(Survey::read(&json!({ "browserContextIds": [] }), &json!({ "targetInfos": [] })).is_err());
}

#[test]
fn lists_are_told_without_what_is_another_connections() {
    let mut contexts = owner_of_a();
    let all = json!({ "browserContextIds": ["A", "B"], "defaultBrowserContextId": "D" });
    let told = ask(&mut contexts, "Target.getBrowserContexts", &all).unwrap();
    assert_eq!(told["result"], json!({ "browserContextIds": ["A"], "defaultBrowserContextId": "D" }));
    let browser = json!({ "targetId": "browser", "type": "browser", "url": "" });
    let stray = json!({ "targetId": "stray", "type": "page", "url": "" });
    let a = info("a2", "page", "A");
    let all = json!({ "targetInfos": [info("b1", "page", "B"), a, stray, browser, { "odd": 1 }] });
    let told = ask(&mut contexts, "Target.getTargets", &all).unwrap();
    assert_eq!(told["result"]["targetInfos"], json!([a, browser]));
    let reach = say(&mut contexts, None, "Target.closeTarget", json!({ "targetId": "a2" }));
    assert_eq!(reach, Reach::Pass, "what was shown is known");
    let told =
        ask(&mut contexts, "Target.getTargets", &json!({ "somethingElse": [info("b1", "page", "B")] }));
    assert_eq!(told.unwrap()["result"], json!({}));
}

#[test]
fn errors_come_back_under_the_clients_own_id() {
    let mut contexts = connection();
    let message = command(41, None, "Target.getTargets", &json!({}));
    let Reach::Replace(sent) = contexts.judge(&message) else { panic!() };
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    let answer = format!("{{\"id\":{},\"error\":{{\"code\":-32602,\"message\":\"no\"}}}}", sent["id"]);
    assert_eq!(
        hear(&mut contexts, &answer),
        Some(json!({ "id": 41, "error": { "code": -32602, "message": "no" } }))
    );
    assert_eq!(hear(&mut contexts, &answer), None, "an answer that nobody waits for");
    for reserved in [i64::from(i32::MIN), i64::from(i32::MIN) + 1] {
        let Reach::Deny(denial) = contexts.judge(&command(reserved, None, "Page.enable", &json!({}))) else {
            panic!()
        };
        assert_eq!(denial.reason, Reason::Unclear);
    }
}

#[test]
fn events_are_told_of_targets_within_reach_only() {
    let mut contexts = owner_of_a();
    let event = |method: &str, params: &Value| format!("{{\"method\":\"{method}\",\"params\":{params}}}");
    for (context, told) in [("D", true), ("A", true), ("B", false)] {
        let id = format!("new-{context}");
        let created = event("Target.targetCreated", &json!({ "targetInfo": info(&id, "page", context) }));
        assert_eq!(hear(&mut contexts, &created).is_some(), told, "{context}");
        let changed = event("Target.targetInfoChanged", &json!({ "targetInfo": info(&id, "page", context) }));
        assert_eq!(hear(&mut contexts, &changed).is_some(), told, "{context}");
        let session = format!("session-{context}");
        let attached = json!({ "sessionId": session, "targetInfo": info(&id, "page", context), "waitingForDebugger": true });
        let attached = event("Target.attachedToTarget", &attached);
        assert_eq!(hear(&mut contexts, &attached).is_some(), told, "{context}");
        let inner = format!(
            "{{\"method\":\"Target.targetCreated\",\"params\":{{\"targetInfo\":{}}},\"sessionId\":\"{session}\"}}",
            info("inner", "worker", "D")
        );
        assert_eq!(hear(&mut contexts, &inner).is_some(), told, "{context}");
        let command = say(&mut contexts, Some(&session), "Runtime.evaluate", json!({ "expression": "1" }));
        assert_eq!(command == Reach::Pass, told, "{context}");
        let detach = say(&mut contexts, None, "Target.detachFromTarget", json!({ "sessionId": session }));
        assert_eq!(detach == Reach::Pass, told, "{context}");
        let detached = event("Target.detachedFromTarget", &json!({ "sessionId": session, "targetId": id }));
        assert_eq!(hear(&mut contexts, &detached).is_some(), told, "{context}");
        assert_eq!(hear(&mut contexts, &detached), None, "twice");
        for last in ["Target.targetCrashed", "Target.targetDestroyed"] {
            let event = event(last, &json!({ "targetId": id }));
            assert_eq!(hear(&mut contexts, &event).is_some(), told, "{last} {context}");
        }
    }
    for unknown in ["Target.receivedMessageFromTarget", "Target.somethingNew"] {
        let params = json!({ "targetId": "d1", "sessionId": "s", "message": "{}", "targetInfo": info("d1", "page", "D") });
        assert_eq!(hear(&mut contexts, &event(unknown, &params)), None, "{unknown}");
    }
}

#[test]
fn a_target_that_waits_for_a_connection_that_may_not_see_it_is_let_go() {
    let mut contexts = connection();
    let attached =
        json!({ "sessionId": "S", "targetInfo": info("b2", "page", "B"), "waitingForDebugger": true });
    let event = json!({ "method": "Target.attachedToTarget", "params": attached });
    let Told::LetGo(messages) = contexts.hear(event.to_string().into_bytes()) else { panic!() };
    let [run, detach] = &messages[..] else { panic!("{messages:?}") };
    let (run, detach): (Value, Value) =
        (serde_json::from_slice(run).unwrap(), serde_json::from_slice(detach).unwrap());
    assert_eq!(run["method"], "Runtime.runIfWaitingForDebugger");
    assert_eq!(run["sessionId"], "S");
    assert_eq!(detach["method"], "Target.detachFromTarget");
    assert_eq!(detach["params"], json!({ "sessionId": "S" }));
    assert_eq!((detach.get("sessionId"), &run["id"]), (None, &detach["id"]));
    assert_eq!(hear(&mut contexts, &format!("{{\"id\":{},\"result\":{{}}}}", run["id"])), None);
}

#[test]
fn the_browsers_own_target_does_only_what_keeps_to_contexts() {
    let mut contexts = connection();
    let attached = json!({ "sessionId": "own", "targetInfo": { "targetId": "x", "type": "browser" }, "waitingForDebugger": false });
    let event = json!({ "method": "Target.attachedToTarget", "params": attached }).to_string();
    assert!(hear(&mut contexts, &event).is_some());
    for session in [None, Some("own")] {
        for method in ["Fetch.enable", "Tracing.start", "Memory.prepareForLeakDetection", "New.thing"] {
            assert_eq!(denied(say(&mut contexts, session, method, json!({}))), Reason::Method, "{method}");
        }
        assert_eq!(say(&mut contexts, session, "Storage.getCookies", json!({})), Reach::Pass);
    }
    let mut page = Contexts::new(Kind::Page, &survey());
    assert_eq!(say(&mut page, None, "Fetch.enable", json!({})), Reach::Pass);
    for method in ["Tracing.start", "Target.sendMessageToTarget"] {
        assert_eq!(denied(say(&mut page, None, method, json!({}))), Reason::Method, "{method}");
    }
    assert_eq!(
        denied(say(&mut page, None, "Browser.setWindowBounds", json!({ "windowId": 3 }))),
        Reason::Target
    );
    assert!(ask(&mut page, "Browser.getWindowForTarget", &json!({ "windowId": 3, "bounds": {} })).is_some());
    assert_eq!(say(&mut page, None, "Browser.setWindowBounds", json!({ "windowId": 3 })), Reach::Pass);
}

#[test]
fn discovery_lists_the_default_context_only() {
    let list =
        json!([{ "id": "d1", "url": "about:blank" }, { "id": "b1", "url": "about:blank" }]).to_string();
    let listed = rewrite(list.as_bytes(), "ws://x", None, Some(&survey())).unwrap();
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed, json!([{ "id": "d1", "url": "about:blank" }]));
    assert!(survey().is_shared("d1") && !survey().is_shared("b1") && !survey().is_shared("none"));
}

#[test]
fn the_last_page_is_the_only_one_of_the_default_context() {
    let last = |target| survey().is_last_page(target);
    assert_eq!((last(Some("d1")), last(Some("a1")), last(None)), (true, false, true));
    let contexts = json!({ "defaultBrowserContextId": "D" });
    let two = json!({ "targetInfos": [info("d1", "page", "D"), info("d2", "page", "D"), info("w", "worker", "D")] });
    let two = Survey::read(&contexts, &two).unwrap();
    assert!(!two.is_last_page(Some("d1")) && !two.is_last_page(None));
}

/// What the driver would send on: whole messages looked at under `Err`, the others as they come under `Ok`.
fn screened(stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut frames, mut screen) = (Frames::default(), Screen::default());
    let (mut through, mut looked_at) = (Vec::new(), Vec::new());
    let mut rest = stream;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (mut piece, behind) = rest.split_at(cut.min(rest.len()));
        rest = behind;
        loop {
            if frames.between_messages() {
                screen.begin();
            }
            let used = match frames.step(piece, true, &mut |heard| screen.hear(&heard)).unwrap() {
                Step::Pass(count) => {
                    match screen.pass(&piece[..count]) {
                        Passing::Through(held) => {
                            through.extend(held);
                            through.extend_from_slice(&piece[..count]);
                        }
                        Passing::Withheld => {}
                        Passing::Whole(text) => looked_at.push(text),
                    }
                    count
                }
                Step::Skip(count) | Step::Control(count, ..) => count,
                Step::Done => break,
            };
            piece = &piece[used..];
        }
    }
    (through, looked_at)
}

fn message() -> impl Strategy<Value = (String, Option<bool>)> {
    let some = |text: String, looked_at| (text, looked_at);
    prop_oneof![
        "[a-z ]{0,300}".prop_map(move |title| some(
            format!("{{\"method\":\"Target.targetCreated\",\"params\":\"{title}\"}}"),
            Some(true)
        )),
        "[a-z ]{0,300}".prop_map(move |text| some(
            format!("{{\"method\":\"Page.x\",\"params\":\"{text}\"}}"),
            Some(false)
        )),
        Just(some("{\"method\":\"Targe\"}".to_owned(), Some(false))),
        any::<i32>().prop_map(move |id| {
            let ours = id < i32::MIN + 0x10_0000;
            some(format!("{{\"id\":{id},\"result\":{{}}}}"), Some(ours))
        }),
        (0..0x10_0000)
            .prop_map(move |id| some(format!("{{\"id\":{},\"result\":{{}}}}", i32::MIN + id), Some(true))),
        prop_oneof![
            Just(""),
            Just("{"),
            Just("{\"id\":"),
            Just("{\"id\":x}"),
            Just("{\"id\":99999999999}"),
            Just("{\"id\":-2147483648000,"),
            Just("{\"error\":{}}"),
            Just("{\"method\":\"Target"),
            Just(" {\"method\":\"Page.x\"}"),
            Just("[]")
        ]
        .prop_map(move |odd| some(odd.to_owned(), None)),
    ]
}

fn naming() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec![
        "Target.closeTarget",
        "Target.getTargets",
        "Target.createTarget",
        "Storage.getCookies",
        "Page.enable",
    ]);
    let target = prop::sample::select(vec!["A1", "B1"]);
    let context = prop::sample::select(vec!["D", "B"]);
    let key = prop::sample::select(vec!["targetId", "browserContextId", "targetid", "x"]);
    (any::<i32>(), method, target, context, key).prop_map(|(id, method, target, context, key)| {
        let params = format!("{{\"targetId\":\"{target}\",\"{key}\":\"{context}\"}}");
        format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}")
    })
}

proptest! {
    #[test]
    fn a_changed_message_never_names_what_is_out_of_reach(
        message in naming(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = message.into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        oracle::contexts(&bytes);
    }

    #[test]
    fn each_message_goes_through_or_is_looked_at_or_is_dropped_however_it_is_cut(
        messages in prop::collection::vec(message(), 0..12),
        cuts in prop::collection::vec(0_usize..40, 0..40),
    ) {
        let frame = |text: &str| to_client(Opcode::Text, text.as_bytes());
        let stream: Vec<u8> = messages.iter().flat_map(|(text, _)| frame(text)).collect();
        let of = |wanted| messages.iter().filter(move |(_, fate)| *fate == Some(wanted)).map(|(text, _)| text);
        let (through, looked_at) = screened(&stream, &cuts);
        prop_assert_eq!(through, of(false).flat_map(|text| frame(text)).collect::<Vec<u8>>());
        let expected: Vec<Vec<u8>> = of(true).map(|text| text.clone().into_bytes()).collect();
        prop_assert_eq!(looked_at, expected);
    }

    #[test]
    fn nothing_that_is_told_names_what_is_another_connections(
        events in prop::collection::vec((0..6_usize, 0..3_usize, 0..4_usize, any::<bool>()), 0..40),
    ) {
        let mut contexts = owner_of_a();
        for (method, context, number, nested) in events {
            let context = ["D", "A", "HIDDEN"][context];
            let (target, session) = (format!("{context}-t{number}"), format!("{context}-s{number}"));
            let method = [
                "Target.targetCreated", "Target.targetInfoChanged", "Target.attachedToTarget",
                "Target.detachedFromTarget", "Target.targetDestroyed", "Target.targetCrashed",
            ][method];
            let mut event = json!({ "method": method, "params": {
                "targetInfo": info(&target, "page", context), "targetId": target, "sessionId": session,
            } });
            if nested {
                event["sessionId"] = session.clone().into();
            }
            let told = hear(&mut contexts, &event.to_string());
            prop_assert!(!told.is_some_and(|told| told.to_string().contains("HIDDEN")), "{}", event);
            if context == "HIDDEN" {
                let reach = say(&mut contexts, Some(&session), "Page.enable", json!({}));
                prop_assert!(matches!(reach, Reach::Deny(_)));
                let reach = say(&mut contexts, None, "Target.attachToTarget", json!({ "targetId": target }));
                prop_assert!(matches!(reach, Reach::Deny(_)));
            }
        }
    }
}

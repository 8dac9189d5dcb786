//! What passes, what is replaced, and what is answered how.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cdp::oracle;
use crate::cdp::{Barred, Fence, Input, Paths, Policy, Reason, Settings, Verdict, Watch};

fn policy() -> Policy {
    let paths = Paths {
        downloads: Some("/s/home/Downloads".into()),
        readable: vec!["/s/home".into(), "/s/tmp".into()],
    };
    Policy::new(Settings::default(), paths)
}

fn judge(message: &str) -> Verdict {
    policy().judge(message.as_bytes(), &Barred::default())
}

fn command(method: &str, params: Value) -> String {
    json!({ "id": 7, "method": method, "params": params, "sessionId": "AB12" }).to_string()
}

#[test]
fn input_is_told_from_what_only_looks_also_inside_other_messages() {
    let nested =
        |inner: &str| command("Target.sendMessageToTarget", json!({ "message": inner, "sessionId": "AB" }));
    let key = command("Input.dispatchKeyEvent", json!({ "type": "keyDown" }));
    for input in
        [&key, &command("Input.setIgnoreInputEvents", json!({})), &nested(&key), &nested(&nested(&key))]
    {
        let Input { denial, is_release } = policy().input(input.as_bytes()).unwrap();
        assert!(!is_release, "{input}");
        let reply: Value = serde_json::from_slice(&denial.reply).unwrap();
        assert_eq!(
            (denial.reason, &reply["id"], &reply["sessionId"]),
            (Reason::Human, &json!(7), &json!("AB12"))
        );
    }
    for (method, kind) in [("dispatchKeyEvent", "keyUp"), ("dispatchMouseEvent", "mouseReleased")] {
        let release = command(&format!("Input.{method}"), json!({ "type": kind }));
        for input in [&release, &nested(&release)] {
            assert!(policy().input(input.as_bytes()).unwrap().is_release, "{input}");
        }
    }
    let look = command("Page.captureScreenshot", json!({}));
    for other in [&look, &nested(&look), &command("Inputs.x", json!({})), &"{".to_owned()] {
        assert_eq!(policy().input(other.as_bytes()), None, "{other}");
    }
}

/// Reason and reply of a message that must be denied.
fn denied(message: &str) -> (Reason, Value) {
    match judge(message) {
        Verdict::Deny(denial) => (denial.reason, serde_json::from_slice(&denial.reply).unwrap()),
        other => panic!("{message}: {other:?}"),
    }
}

#[test]
fn what_automations_send_passes_as_it_is() {
    for message in [
        r#"{"id":1,"method":"Browser.getVersion"}"#,
        r#" {"method" : "Target.setAutoAttach","params":{"autoAttach":true,"flatten":true}, "id":2}"#,
        r#"{"id":3,"method":"Runtime.evaluate","params":{"expression":"location='file:///x'"},"sessionId":"A-1"}"#,
        r#"{"id":-4,"method":"Page.navigate","params":{"url":"https://example.org/","url2":"file:///x"}}"#,
        r#"{"id":5,"method":"\u0042rowser.getVersion"}"#,
        r#"{"id":6,"method":"Target.createTarget","params":{"url":""}}"#,
        r#"{"id":7,"method":"Page.navigate"}"#,
        r#"{"id":8,"method":"Browser.setDownloadBehavior","params":{"behavior":"deny"}}"#,
        r#"{"id":9,"method":"Browser.cancelDownload","params":{"guid":"x"},"sessionId":""}"#,
        r#"{"id":10,"method":"Page.captureScreenshot","params":{"format":"png"}}"#,
    ] {
        assert_eq!(judge(message), Verdict::Pass, "{message}");
    }
}

#[test]
fn a_command_that_closes_a_page_says_which() {
    let close = |method: &str, params: Value| judge(&command(method, params));
    assert_eq!(close("Target.closeTarget", json!({ "targetId": "A1" })), Verdict::Close(Some("A1".into())));
    assert_eq!(close("Target.closeTarget", json!({ "targetId": 5 })), Verdict::Close(None));
    assert_eq!(close("Page.close", json!({})), Verdict::Close(None));
}

#[test]
fn a_context_may_have_a_proxy_and_no_way_around_the_same_origin_policy() {
    let create = |params: Value| command("Target.createBrowserContext", params);
    assert_eq!(judge(&create(json!({ "proxyServer": "http://proxy:8080" }))), Verdict::Pass);
    for origins in [json!(["http://a.example"]), json!([]), json!(null)] {
        let params = json!({ "disposeOnDetach": true, "originsWithUniversalNetworkAccess": origins });
        assert_eq!(denied(&create(params)).0, Reason::Method);
    }
    let escaped = r#"{"id":7,"method":"Target.createBrowserContext","params":{"originsWith\u0055niversalNetworkAccess":["http://a"]}}"#;
    assert_eq!(denied(escaped).0, Reason::Method);
}

#[test]
fn a_method_on_the_list_is_answered_with_an_error_for_its_sender() {
    for method in [
        "Browser.close",
        "Browser.crash",
        "Browser.crashGpuProcess",
        "Browser.executeBrowserCommand",
        "SystemInfo.getInfo",
        "SystemInfo.getProcessInfo",
        "Tethering.bind",
        "Target.exposeDevToolsProtocol",
        "Target.setRemoteLocations",
        "Extensions.loadUnpacked",
        "PWA.launch",
        "DeviceAccess.enable",
    ] {
        let (reason, reply) = denied(&command(method, json!({})));
        assert_eq!(reason, Reason::Method);
        let error = json!({ "code": -32000, "message": format!("'{method}' is not allowed") });
        assert_eq!(reply, json!({ "id": 7, "error": error, "sessionId": "AB12" }));
    }
    assert_eq!(denied(r#"{"id":1,"method":"\u0042rowser.\u0063lose"}"#).0, Reason::Method);
    assert_eq!(denied(r#"{"id":1,"\u006dethod":"Browser.close"}"#).0, Reason::Method);
}

#[test]
fn what_has_no_certain_meaning_is_answered_as_chromium_would_and_not_sent_on() {
    // Codes as Chromium 156 gives them.
    let deep = format!(r#"{{"id":1,"method":"A.b","params":{}{}}}"#, "[".repeat(400), "]".repeat(400));
    let cases: [(&str, i64, Option<i64>); 29] = [
        ("", -32600, None),
        ("[]", -32600, None),
        ("5", -32600, None),
        ("nope", -32600, None),
        ("\u{feff}{\"id\":1,\"method\":\"Browser.getVersion\"}", -32600, None),
        ("{}", -32600, None),
        (r#"{"id":1}"#, -32600, Some(1)),
        (r#"{"method":"Browser.getVersion"}"#, -32600, None),
        (r#"{"id":"a","method":"Browser.getVersion"}"#, -32600, None),
        (r#"{"id":1.5,"method":"Browser.getVersion"}"#, -32600, None),
        (r#"{"id":1e1,"method":"Browser.getVersion"}"#, -32600, None),
        (r#"{"id":99999999999,"method":"Browser.getVersion"}"#, -32600, None),
        (r#"{"id":+7,"method":"Browser.getVersion"}"#, -32600, None),
        (r#"{"id":007,"method":"Browser.getVersion"}"#, -32600, None),
        (r#"{"id":3,"method":5}"#, -32600, Some(3)),
        (r#"{"id":3,"method":["Browser.close"]}"#, -32600, Some(3)),
        (r#"{"id":4,"id":5,"method":"Browser.getVersion"}"#, -32700, Some(4)),
        (r#"{"id":6,"method":"Browser.getVersion","method":"Browser.close"}"#, -32700, Some(6)),
        (r#"{"id":6,"method":"Browser.getVersion","\u006dethod":"Browser.close"}"#, -32700, Some(6)),
        (r#"{"id":7,"method":"Browser.getVersion"}x"#, -32700, Some(7)),
        (r#"{"id":7,"method":"Browser.getVersion"}{"id":8,"method":"Browser.close"}"#, -32700, Some(7)),
        ("{\"id\":7,\"method\":\"Browser.getVersion\"}\0", -32700, Some(7)),
        (r#"{"id":9,"method":"Browser.getVersion",}"#, -32700, Some(9)),
        (r#"{"id":14,/*c*/"method":"Browser.getVersion"}"#, -32700, Some(14)),
        (r#"{"id":11,"method":"Browser.close\u0000"}"#, -32601, Some(11)),
        (r#"{"id":11,"method":"\ud800"}"#, -32600, Some(11)),
        (r#"{"id":13,"method":"Browser.getVersion","sessionId":5}"#, -32600, Some(13)),
        (r#"{"id":16,"method":"Browser.getVersion","foo":"x"}"#, -32600, Some(16)),
        (&deep, -32700, Some(1)),
    ];
    for (message, code, id) in cases {
        let (reason, reply) = denied(message);
        let answered = (reason, reply["error"]["code"].as_i64());
        assert_eq!(answered, (Reason::Unclear, Some(code)), "{message}: {reply}");
        assert_eq!(reply.get("id").and_then(Value::as_i64), id, "{message}");
        assert_eq!(reply.get("sessionId"), None);
    }
    // What Chromium reads as CBOR.
    let cbor = b"\xd8\x5a\x00\x00\x00\x02\xbf\xff";
    assert!(matches!(policy().judge(cbor, &Barred::default()), Verdict::Deny(_)));
}

#[test]
fn urls_that_lead_into_the_host_or_the_browser_are_denied_wherever_one_is_loaded() {
    for (method, key) in [
        ("Page.navigate", "url"),
        ("Target.createTarget", "url"),
        ("Network.loadNetworkResource", "url"),
        ("Fetch.continueRequest", "url"),
    ] {
        for url in ["file:///etc/passwd", "chrome://settings", " View-Source:\tfi\nle:/x", "blob:file:///x"] {
            let (reason, reply) = denied(&command(method, json!({ key: url })));
            let answered = (reason, reply["error"]["code"].as_i64());
            assert_eq!(answered, (Reason::Url, Some(-32000)), "{method} {url}");
        }
        assert_eq!(judge(&command(method, json!({ key: "https://example.org/" }))), Verdict::Pass);
        assert_eq!(denied(&command(method, json!({ key: 5 }))).0, Reason::Unclear);
    }
    for unclear in [
        r#"{"id":1,"method":"Page.navigate","params":{"url":"about:blank","url":"file:///x"}}"#,
        r#"{"id":1,"method":"Page.navigate","params":{"url":"about:blank","\u0075rl":"file:///x"}}"#,
        r#"{"id":1,"method":"Page.navigate","params":[{"url":"file:///x"}]}"#,
        r#"{"id":1,"method":"Page.navigate","params":{"url":"\ud800file:///x"}}"#,
        r#"{"id":1,"method":"Page.navigate","params":{"url":"x:"}]}"#,
        r#"{"id":1,"method":"Page.navigate","params":{"\ud800":1,"url":"x:"}}"#,
    ] {
        assert_eq!(denied(unclear).0, Reason::Unclear, "{unclear}");
    }
    let escaped = r#"{"id":1,"method":"Page.navigate","params":{"\u0075rl":"\u0066ile:\/\/\/etc\/passwd"}}"#;
    assert_eq!(denied(escaped).0, Reason::Url);
}

#[test]
fn files_are_read_from_the_sessions_own_directories_only() {
    let good = ["/s/home/a.txt", "/s/tmp/x/y"];
    assert_eq!(
        judge(&command("DOM.setFileInputFiles", json!({ "files": good, "nodeId": 1 }))),
        Verdict::Pass
    );
    let dragged = json!({ "type": "drop", "x": 1, "y": 1, "data": { "items": [], "files": good } });
    assert_eq!(judge(&command("Input.dispatchDragEvent", dragged)), Verdict::Pass);
    for path in [
        "/etc/passwd",
        "/s/home/../../etc/passwd",
        "/s/homework",
        "a.txt",
        "",
        "/s/home/\0",
        "/s/tmp/../x",
        "~",
    ] {
        for (method, params) in [
            ("DOM.setFileInputFiles", json!({ "files": ["/s/home/a.txt", path] })),
            ("Page.handleFileChooser", json!({ "action": "accept", "files": [path] })),
            ("Input.dispatchDragEvent", json!({ "data": { "files": [path] } })),
        ] {
            assert_eq!(denied(&command(method, params)).0, Reason::Path, "{method} {path:?}");
        }
    }
    assert_eq!(denied(&command("DOM.setFileInputFiles", json!({ "files": [[]] }))).0, Reason::Unclear);
    let none = Policy::new(
        Settings { deny: vec![], deny_url_schemes: vec![], own_contexts_only: false, fence: Fence::Open },
        Paths::default(),
    );
    let load = command("Extensions.loadUnpacked", json!({ "path": "/x" }));
    assert!(matches!(none.judge(load.as_bytes(), &Barred::default()), Verdict::Deny(_)));
}

#[test]
fn downloads_land_in_the_sessions_directory_wherever_the_client_wants_them() {
    for method in ["Browser.setDownloadBehavior", "Page.setDownloadBehavior"] {
        for (path, lands) in [
            ("/tmp/playwright-artifacts-x", Some("/s/home/Downloads")),
            ("/s/home/Downloads/../../../etc", Some("/s/home/Downloads")),
            ("C:\\Temp", Some("/s/home/Downloads")),
            ("/s/home/Downloads", None),
            ("/s/home/Downloads/a", None),
        ] {
            let params = json!({ "behavior": "allowAndName", "downloadPath": path, "eventsEnabled": true });
            let sent = command(method, params);
            match (judge(&sent), lands) {
                (Verdict::Pass, None) => {}
                (Verdict::Replace(with), Some(lands)) => {
                    let mut expected: Value = serde_json::from_str(&sent).unwrap();
                    expected["params"]["downloadPath"] = lands.into();
                    assert_eq!(serde_json::from_slice::<Value>(&with).unwrap(), expected);
                }
                (verdict, _) => panic!("{path}: {verdict:?}"),
            }
        }
    }
    let nowhere = Policy::new(Settings::default(), Paths::default());
    let sent = command("Browser.setDownloadBehavior", json!({ "downloadPath": "/tmp/x" }));
    assert!(matches!(nowhere.judge(sent.as_bytes(), &Barred::default()), Verdict::Deny(_)));
}

#[test]
fn a_message_inside_a_message_is_judged_too() {
    let nest =
        |inner: &str| command("Target.sendMessageToTarget", json!({ "sessionId": "CD", "message": inner }));
    assert_eq!(judge(&nest(r#"{"id":1,"method":"Page.enable"}"#)), Verdict::Pass);
    assert_eq!(denied(&nest(r#"{"id":1,"method":"Browser.close"}"#)).0, Reason::Method);
    assert_eq!(denied(&nest("nope")).0, Reason::Unclear);
    let navigate = r#"{"id":1,"method":"Page.navigate","params":{"url":"file:///x"}}"#;
    let (reason, reply) = denied(&nest(&nest(navigate)));
    assert_eq!((reason, reply["id"].as_i64()), (Reason::Url, Some(7)), "{reply}");
    assert_eq!(denied(&nest(r#"{"id":1,"method":"Target.attachToTarget"}"#)).0, Reason::Method);
    let mut deep = r#"{"id":1,"method":"Page.enable"}"#.to_owned();
    for _ in 0..4 {
        deep = nest(&deep);
    }
    assert_eq!(judge(&deep), Verdict::Pass);
    assert_eq!(denied(&nest(&deep)).0, Reason::Unclear);
    let download = r#"{"id":1,"method":"Page.setDownloadBehavior","params":{"downloadPath":"/x"}}"#;
    let Verdict::Replace(with) = judge(&nest(download)) else { panic!("not replaced") };
    let with: Value = serde_json::from_slice(&with).unwrap();
    let inner: Value = serde_json::from_str(with["params"]["message"].as_str().unwrap()).unwrap();
    assert_eq!(inner["params"]["downloadPath"], "/s/home/Downloads");
}

#[test]
fn a_configuration_can_allow_and_deny_other_things() {
    let deny = ["Network.*", "Page.reload"].map(str::to_owned).into();
    let policy = Policy::new(
        Settings { deny, deny_url_schemes: vec!["ftp".into()], own_contexts_only: false, fence: Fence::Open },
        Paths::default(),
    );
    let passes = |method: &str, params| {
        policy.judge(command(method, params).as_bytes(), &Barred::default()) == Verdict::Pass
    };
    assert!(passes("Browser.close", json!({})) && passes("Page.navigate", json!({ "url": "file:///x" })));
    assert!(!passes("Network.enable", json!({})) && !passes("Page.reload", json!({})));
    assert!(passes("NetworkX.enable", json!({})) && passes("Page.reloadAll", json!({})));
    assert!(!passes("Page.navigate", json!({ "url": "ftp://x" })));
}

fn attached(session: &str, url: &str) -> String {
    let info = json!({ "targetId": format!("T{session}"), "type": "page", "title": "é", "url": url });
    let params = json!({ "sessionId": session, "targetInfo": info, "waitingForDebugger": false });
    // Chromium's order of keys.
    format!(r#"{{"method":"Target.attachedToTarget","params":{params},"sessionId":"X"}}"#)
}

#[test]
fn targets_that_show_inner_pages_or_files_may_not_be_acted_on() {
    let (policy, mut watch, mut barred) = (policy(), Watch::default(), Barred::default());
    let events = [
        attached("WEBUI", "chrome://settings/"),
        attached("FILE", "file:///etc/passwd"),
        attached("NEWTAB", "chrome://newtab/"),
        attached("WEB", "https://example.org/"),
        r#"{"id":1,"result":{"method":"Target.attachedToTarget"}}"#.to_owned(),
        // The beginning of one, and all that there is.
        "{".to_owned(),
    ];
    for (number, event) in events.iter().enumerate() {
        // In pieces of a few bytes.
        let pieces: Vec<&[u8]> = event.as_bytes().chunks(number + 1).collect();
        for (at, piece) in pieces.iter().enumerate() {
            watch.hear(piece, at == 0, at + 1 == pieces.len(), &policy, &mut barred);
        }
    }
    let verdict = |session: &str, method: &str| {
        let message = json!({ "id": 1, "method": method, "sessionId": session }).to_string();
        policy.judge(message.as_bytes(), &barred)
    };
    for session in ["WEBUI", "FILE"] {
        let Verdict::Deny(denial) = verdict(session, "Runtime.evaluate") else { panic!("{session} passed") };
        assert_eq!(denial.reason, Reason::Target);
        assert_eq!(verdict(session, "Runtime.runIfWaitingForDebugger"), Verdict::Pass);
        let nested = json!({ "sessionId": session, "message": r#"{"id":1,"method":"Page.enable"}"# });
        let nested = command("Target.sendMessageToTarget", nested);
        assert!(matches!(policy.judge(nested.as_bytes(), &barred), Verdict::Deny(_)));
    }
    assert_eq!(verdict("NEWTAB", "Runtime.evaluate"), Verdict::Pass);
    assert_eq!(verdict("WEB", "Runtime.evaluate"), Verdict::Pass);
}

#[test]
fn more_forbidden_targets_than_can_be_remembered_bar_everything() {
    let (policy, mut watch, mut barred) = (policy(), Watch::default(), Barred::default());
    // Those that it was detached from again are forgotten.
    for number in 0..2048 {
        let id = number.to_string();
        watch.hear(attached(&id, "file:///x").as_bytes(), true, true, &policy, &mut barred);
        assert!(barred.has(&id) && barred.has_target(&format!("T{id}")));
        let detached = json!({ "sessionId": id, "targetId": format!("T{id}") });
        let detached = format!("{{\"method\":\"Target.detachedFromTarget\",\"params\":{detached}}}");
        watch.hear(detached.as_bytes(), true, true, &policy, &mut barred);
        assert!(!barred.has(&id) && !barred.has_target(&format!("T{id}")));
    }
    for number in 0..1025 {
        assert!(!barred.has("WEB"));
        let event = attached(&number.to_string(), "file:///x");
        watch.hear(event.as_bytes(), true, true, &policy, &mut barred);
    }
    assert!(barred.has("WEB"));
}

fn message() -> impl Strategy<Value = String> {
    let method = prop_oneof![
        Just("Page.navigate"),
        Just("Browser.close"),
        Just("Target.sendMessageToTarget"),
        Just("DOM.setFileInputFiles"),
        Just("Browser.setDownloadBehavior"),
        Just("Runtime.evaluate"),
    ];
    let url =
        prop_oneof![Just("file:///x"), Just("https://x/"), Just("/s/home/x"), Just("view-source:file:x")];
    (any::<i32>(), method, url, "[a-z]{1,8}").prop_map(|(id, method, url, key)| {
        let inner = json!({ "id": 1, "method": "Page.navigate", "params": { "url": url } }).to_string();
        let params = json!({ "url": url, "files": [url], "downloadPath": url, "message": inner, key: {} });
        json!({ "id": id, "method": method, "params": params }).to_string()
    })
}

proptest! {
    #[test]
    fn a_changed_message_is_never_let_through_with_what_is_denied(
        message in message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut bytes = message.into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        oracle::policy(&bytes);
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/cdp_policy");
    let seeds = std::fs::read_dir(seeds).unwrap();
    let count = seeds.map(|seed| oracle::fuzz_policy(&std::fs::read(seed.unwrap().path()).unwrap())).count();
    assert_eq!(count, 15);
}

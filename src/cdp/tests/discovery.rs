//! Discovery answers as Chromium 156 gives them.

use serde_json::{Value, json};

use crate::cdp::discovery::{Kind, browser_path, is_target, new_url, rewrite, target_of, url_of};
use crate::cdp::{Paths, Policy, Settings};

const VERSION: &str = r#"{
   "Browser": "Chrome/156.0.8078.108",
   "Protocol-Version": "1.3",
   "webSocketDebuggerUrl": "ws://127.0.0.1:39222/devtools/browser/9b41696a-815b-4707-972c-af21f1404b8c"
}"#;

const LIST: &str = r#"[ {
   "description": "",
   "devtoolsFrontendUrl": "https://chrome-devtools-frontend.appspot.com/serve_rev/@7304/inspector.html?ws=127.0.0.1:39222/devtools/page/B85808377F4EF940CC519352363E0FC5",
   "id": "B85808377F4EF940CC519352363E0FC5",
   "title": "about:blank",
   "type": "page",
   "url": "about:blank",
   "webSocketDebuggerUrl": "ws://127.0.0.1:39222/devtools/page/B85808377F4EF940CC519352363E0FC5"
}, {
   "id": "008D8E2252244AE8363EFCFD9B7CAF21",
   "type": "browser_ui",
   "url": "chrome://omnibox-popup.top-chrome/",
   "webSocketDebuggerUrl": "ws://127.0.0.1:39222/devtools/page/008D8E2252244AE8363EFCFD9B7CAF21"
} ]"#;

const BASE: &str = "wss://h.example/edge/sessions/s1/cdp";

fn rewritten(answer: &str, policy: Option<&Policy>) -> Value {
    serde_json::from_slice(&rewrite(answer.as_bytes(), BASE, policy, None).unwrap()).unwrap()
}

#[test]
fn addresses_lead_to_the_gateway_and_nothing_names_the_port() {
    let version = rewritten(VERSION, None);
    let ours = format!("{BASE}/devtools/browser/9b41696a-815b-4707-972c-af21f1404b8c");
    assert_eq!(
        (&version["webSocketDebuggerUrl"], &version["Protocol-Version"]),
        (&json!(ours), &json!("1.3"))
    );
    let list = rewritten(LIST, None);
    assert_eq!(list.as_array().unwrap().len(), 2);
    let ours = format!("{BASE}/devtools/page/B85808377F4EF940CC519352363E0FC5");
    assert_eq!(list[0]["webSocketDebuggerUrl"], ours);
    assert!(!list.to_string().contains("39222"), "{list}");
    assert!(rewrite(b"Not Found", BASE, None, None).is_err());
    let strange = rewritten(r#"{"webSocketDebuggerUrl":"ws://127.0.0.1:1/devtools/x/../y"}"#, None);
    assert_eq!(strange, json!({}));
}

#[test]
fn a_filtered_role_does_not_see_what_it_may_not_act_on() {
    let policy = Policy::new(Settings::default(), Paths::default());
    let list = rewritten(LIST, Some(&policy));
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["url"], "about:blank");
}

#[test]
fn targets_are_found_in_addresses_and_lists() {
    let guid = "9b41696a-815b-4707-972c-af21f1404b8c";
    assert_eq!(browser_path(VERSION.as_bytes()), Some(format!("/devtools/browser/{guid}")));
    assert_eq!(browser_path(b"{}"), None);
    assert_eq!(target_of("ws://x/devtools/page/A1"), Some((Kind::Page, "A1")));
    for bad in ["", "ws://x", "ws://x/devtools/page/", "ws://x/devtools/tab/A", "ws://x/devtools/page/a/b"] {
        assert_eq!(target_of(bad), None, "{bad}");
    }
    assert_eq!(url_of(LIST.as_bytes(), "B85808377F4EF940CC519352363E0FC5").as_deref(), Some("about:blank"));
    assert_eq!(url_of(LIST.as_bytes(), "B858"), None);
    for bad in ["", "..", "a%2f", "a b", "é", &"a".repeat(65)] {
        assert!(!is_target(bad), "{bad}");
    }
}

#[test]
fn the_url_of_a_new_target_is_unescaped_as_chromium_does_it() {
    for (query, url) in [
        ("https://x/?a=b%26c", "https://x/?a=b&c"),
        ("fi%6ce:///x", "file:///x"),
        ("file%3a///x", "file:///x"),
        ("a%zz%4", "a%zz%4"),
        ("a+b", "a+b"),
        ("%e2%82%ac", "€"),
        ("", ""),
    ] {
        assert_eq!(new_url(query).as_deref(), Some(url), "{query}");
    }
    assert_eq!(new_url("%ff"), None);
}

//! What must hold for any answer of AdsPower's. The fuzz target and `cargo test` call the same function, which panics when
//! its property does not hold.

use serde_json::Value;

use super::answer::{Answer, read};
use super::data;

/// The key that must not come back.
const KEY: &str = "canary";

/// A fuzz input: two bytes of a status, and a body. No panic, no key in what is said, and what is said or taken is bounded.
pub fn fuzz_answer(input: &[u8]) {
    let (status, body) = match input {
        [high, low, body @ ..] => (u16::from_be_bytes([*high, *low]), body),
        body => (200, body),
    };
    let Ok(body) = std::str::from_utf8(body) else { return };
    // Most statuses are dull.
    answer(200, body);
    answer(status, body);
}

/// The property, of one answer.
pub fn answer(status: u16, body: &str) {
    match read(status, body, Some(KEY)) {
        Ok(Answer::Data(value)) => {
            assert_eq!(status, 200, "a failure of HTTP's is a success");
            everything(&value);
        }
        Ok(Answer::Refused(refusal)) => {
            assert_ne!(refusal.code, 0);
            let text = refusal.to_string();
            assert!(!refusal.message.chars().any(char::is_control), "{text:?}");
            assert!(refusal.message.chars().count() <= 256 && !refusal.message.contains(KEY), "{text:?}");
        }
        Ok(Answer::TooOften | Answer::Unknown | Answer::ApiKey) | Err(_) => {}
    }
}

/// Every reader, of one value: each takes it or says why not.
fn everything(value: &Value) {
    let devtools = |opened: &data::Opened| {
        assert_ne!(opened.debug_port, 0);
        let id = opened.browser_path.strip_prefix("/devtools/browser/");
        let plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        assert!(id.is_some_and(|id| (1..=64).contains(&id.len()) && plain(id)), "{opened:?}");
    };
    if let Ok(opened) = data::opened(value) {
        devtools(&opened);
        let address = value["ws"]["puppeteer"].as_str().unwrap_or_default();
        let port = opened.debug_port;
        let expected = ["127.0.0.1", "localhost"].map(|host| format!("ws://{host}:"));
        assert!(expected.iter().any(|start| address.starts_with(start.as_str())), "{address}");
        assert!(address.contains(&port.to_string()) && address.ends_with(&opened.browser_path), "{address}");
    }
    if let Ok(Some(opened)) = data::active(value) {
        devtools(&opened);
    }
    if let Ok((open, _)) = data::local_active(value) {
        open.iter().for_each(|(_, opened)| devtools(opened));
    }
    if let Ok(page) = data::page(value) {
        for profile in page.profiles {
            let name = profile.name;
            assert!(name.chars().count() <= 128 && !name.chars().any(char::is_control), "{name:?}");
        }
    }
    if let Ok(created) = data::created(value) {
        assert!(created.as_str().len() <= 64);
    }
    if let Ok(kernels) = data::kernels(value) {
        assert!(kernels.iter().all(|kernel| kernel.version.chars().count() <= 128));
    }
}

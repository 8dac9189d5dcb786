//! Answers in AdsPower's envelope.

use serde_json::{Map, Value, json};

/// An answer before it is text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// `code` 0.
    Success(Value),
    /// `code` -1 with a message.
    Failure(String),
    /// A path that this version does not know.
    NotFound,
}

impl Answer {
    pub(super) fn done() -> Self {
        Self::Success(json!({}))
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::Failure(message.into())
    }

    /// HTTP status and body. AdsPower says what went wrong with status 200.
    pub(super) fn write(self) -> (u16, String) {
        let envelope = |code: i32, message: &str, data: Value| {
            json!({ "code": code, "msg": message, "data": data, "stand_in": "valetd" }).to_string()
        };
        match self {
            Self::Success(data) => (200, envelope(0, "success", data)),
            Self::Failure(message) => (200, envelope(-1, &message, json!({}))),
            Self::NotFound => (404, "Not found".to_owned()),
        }
    }
}

/// An open browser, as `start` and `active` show it. The first version's `active` has no port of its own.
pub(super) fn opened(port: u16, path: &str, with_port: bool) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert(
        "ws".to_owned(),
        json!({ "selenium": format!("127.0.0.1:{port}"), "puppeteer": format!("ws://127.0.0.1:{port}{path}") }),
    );
    if with_port {
        data.insert("debug_port".to_owned(), json!(port.to_string()));
        data.insert("webdriver".to_owned(), json!("/nonexistent/chromedriver"));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_says_that_it_is_a_stand_ins_and_numbers_are_strings() {
        let data = opened(41_234, "/devtools/browser/u", true);
        assert_eq!(data["debug_port"], "41234");
        let (status, text) = Answer::Success(data.into()).write();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &json["code"], &json["stand_in"]), (200, &json!(0), &json!("valetd")));
        assert_eq!(json["data"]["ws"]["puppeteer"], "ws://127.0.0.1:41234/devtools/browser/u");
        let (status, text) = Answer::failed("require api-key").write();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &json["code"], &json["stand_in"]), (200, &json!(-1), &json!("valetd")));
    }
}

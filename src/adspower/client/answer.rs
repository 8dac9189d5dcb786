//! What an answer of the API says, before what it is about: everything but `code == 0` is one of a few kinds of refusal, and
//! what is none of the API's answers is garbage.

use std::time::Duration;

use serde_json::Value;

/// Longest message of AdsPower's that is repeated, in characters.
const MAX_MESSAGE_CHARS: usize = 256;

/// A text that is no JSON is looked at this far, in bytes: what the API says without its envelope is short.
const MAX_PLAIN_BYTES: usize = 1024;

/// AdsPower understood, and does not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("AdsPower says \u{201c}{message}\u{201d} (code {code})")]
pub struct Refusal {
    /// Its number for that; -1 for nearly everything.
    pub code: i64,
    /// What it said: bounded, without control characters and without the API key.
    pub message: String,
}

/// Why an answer is none of the API's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// HTML, something cut short, `NaN`.
    #[error("AdsPower's answer is no JSON")]
    NotJson,
    /// JSON of another kind.
    #[error("AdsPower's answer has no code")]
    NoCode,
    /// Neither success nor an answer in the API's form.
    #[error("AdsPower's API answers with status {0}")]
    Status(u16),
}

/// What AdsPower said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// Done; with what it is about, `Null` where that is left out.
    Data(Value),
    /// It is asked too often, and did nothing.
    TooOften,
    /// It does not know the call, and did nothing.
    Unknown,
    /// It does not take the API key, and did nothing.
    ApiKey,
    /// Anything else that it does not do.
    Refused(Refusal),
}

/// Reads an answer with this status and body. `key` is taken out of what AdsPower says.
///
/// # Errors
/// See [`Garbage`].
pub(super) fn read(status: u16, body: &str, key: Option<&str>) -> Result<Answer, Garbage> {
    if let Some(answer) = by_status(status) {
        return Ok(answer);
    }
    let ok = status == 200;
    match envelope(body, key) {
        // A failure of HTTP's is none of ours to call a success.
        Ok(Answer::Data(_)) if !ok => Err(Garbage::Status(status)),
        Err(_) if !ok => Err(Garbage::Status(status)),
        outcome => outcome,
    }
}

/// Whether the body of an answer with this status matters.
pub(super) fn has_body(status: u16) -> bool {
    by_status(status).is_none()
}

fn by_status(status: u16) -> Option<Answer> {
    match status {
        429 => Some(Answer::TooOften),
        404 => Some(Answer::Unknown),
        401 => Some(Answer::ApiKey),
        _ => None,
    }
}

/// The header of that name, in seconds. Its other form is a date, which nothing but the wall clock could read.
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Text of AdsPower's, for a log or an error: one line, at most `chars` long, without the API key.
pub(super) fn said(text: &str, key: Option<&str>, chars: usize) -> String {
    let text = match key {
        Some(key) if !key.is_empty() => text.replace(key, "<redacted>"),
        _ => text.to_owned(),
    };
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(chars).map(shown).collect()
}

fn envelope(body: &str, key: Option<&str>) -> Result<Answer, Garbage> {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return plain(body).ok_or(Garbage::NotJson);
    };
    let Value::Object(mut fields) = value else { return Err(Garbage::NoCode) };
    let code = fields.get("code").and_then(integer).ok_or(Garbage::NoCode)?;
    if code == 0 {
        return Ok(Answer::Data(fields.remove("data").unwrap_or_default()));
    }
    let message = fields.get("msg").and_then(Value::as_str).unwrap_or_default();
    Ok(kind(message).unwrap_or_else(|| {
        let message = said(message, key, MAX_MESSAGE_CHARS);
        Answer::Refused(Refusal { code, message })
    }))
}

/// What is said without an envelope.
fn plain(body: &str) -> Option<Answer> {
    let short = body.trim();
    // HTML is somebody else's answer, and may hold any words.
    if short.len() > MAX_PLAIN_BYTES || short.starts_with('<') { None } else { kind(short) }
}

/// The refusals that AdsPower has no code for.
fn kind(message: &str) -> Option<Answer> {
    let message = message.trim().to_ascii_lowercase();
    if message.contains("too many request") {
        return Some(Answer::TooOften);
    }
    if message.contains("require api-key") {
        return Some(Answer::ApiKey);
    }
    // The whole of it: a profile may also be not found.
    (message.trim_end_matches(['.', '!']) == "not found").then_some(Answer::Unknown)
}

/// A whole number, or one in a string.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: i64, message: &str) -> Result<Answer, Garbage> {
        Ok(Answer::Refused(Refusal { code, message: message.to_owned() }))
    }

    #[test]
    fn code_0_alone_is_success_whatever_the_message_says() {
        for body in [
            r#"{"code":0,"msg":"success","data":{"a":1}}"#,
            r#"{"code":"0","msg":"Success","data":{"a":1},"request_id":[null]}"#,
            r#"{"code":0,"msg":"Not found","data":{"a":1}}"#,
        ] {
            assert_eq!(read(200, body, None), Ok(Answer::Data(json!({"a": 1}))), "{body}");
        }
        assert_eq!(read(200, r#"{"code":0}"#, None), Ok(Answer::Data(Value::Null)));
        assert_eq!(
            read(200, r#"{"code":-1,"msg":"success","data":{"ok":true}}"#, None),
            refused(-1, "success")
        );
        assert_eq!(read(200, r#"{"code":"9110","msg":"no plan"}"#, None), refused(9110, "no plan"));
    }

    #[test]
    fn what_has_no_code_of_its_own_is_known_by_its_words() {
        for (status, body, expected) in [
            (200, r#"{"code":-1,"msg":"Too many request per second, please check"}"#, Answer::TooOften),
            (200, "Too many request per second", Answer::TooOften),
            (429, "<html>slow down</html>", Answer::TooOften),
            (200, r#"{"code":-1,"msg":"require api-key"}"#, Answer::ApiKey),
            (403, r#"{"code":-1,"msg":"Error: Require API-Key!"}"#, Answer::ApiKey),
            (401, "", Answer::ApiKey),
            (404, "<html>", Answer::Unknown),
            (200, "Not found", Answer::Unknown),
            (200, r#"{"code":-1,"msg":"Not Found."}"#, Answer::Unknown),
        ] {
            assert_eq!(read(status, body, None), Ok(expected), "{status} {body}");
        }
        // Another thing that is not there.
        assert_eq!(
            read(200, r#"{"code":-1,"msg":"profile not found"}"#, None),
            refused(-1, "profile not found")
        );
    }

    #[test]
    fn f23_what_is_none_of_the_apis_answers_is_garbage() {
        for body in [
            "",
            "<html><body>Not found</body></html>",
            r#"{"code":0,"msg":"success","data":{"list":["#,
            r#"{"code":NaN}"#,
            r#"{"code":1e999}"#,
            "\u{feff}{\"code\":0}",
            &"[".repeat(100_000),
            &format!("Too many request per second{}", "!".repeat(1024)),
        ] {
            assert_eq!(read(200, body, None), Err(Garbage::NotJson), "{body:.60}");
        }
        for body in [
            "[]",
            "null",
            "0",
            r#""success""#,
            "{}",
            r#"{"code":null}"#,
            r#"{"code":true}"#,
            r#"{"code":"zero"}"#,
            r#"{"code":0.5}"#,
            r#"{"code":[0]}"#,
            r#"{"code":99999999999999999999}"#,
            r#"{"msg":"success","data":{}}"#,
        ] {
            assert_eq!(read(200, body, None), Err(Garbage::NoCode), "{body}");
        }
        for (status, body) in [(500, "<html>"), (302, ""), (204, ""), (500, r#"{"code":0,"data":{}}"#)] {
            assert_eq!(read(status, body, None), Err(Garbage::Status(status)), "{body}");
        }
        assert_eq!(read(500, r#"{"code":-1,"msg":"no disk"}"#, None), refused(-1, "no disk"));
    }

    #[test]
    fn a_message_is_bounded_and_has_neither_control_characters_nor_the_key() {
        let body = json!({"code": -1, "msg": format!("bad\u{1b}[31m\nkey canary-1 {}", "é".repeat(1000))});
        let Ok(Answer::Refused(Refusal { message, .. })) = read(200, &body.to_string(), Some("canary-1"))
        else {
            panic!("a refusal")
        };
        assert!(message.starts_with("bad [31m key <redacted> éé"), "{message}");
        assert_eq!(message.chars().count(), 256);
        assert_eq!(read(200, r#"{"code":1,"msg":{"no":"text"}}"#, Some("")), refused(1, ""));
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        for other in ["", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(other), None, "{other}");
        }
    }
}

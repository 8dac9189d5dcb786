//! What an answer means. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::payload::Receipt;

/// The problem type of a host that the control plane does not know.
const UNKNOWN_HOST: &str = "unknown-host";
/// Of what a receiver says, so much is shown.
const MAX_SHOWN_CHARS: usize = 120;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It was taken; of events, so many.
    Taken(usize),
    /// This host is not wanted, and why.
    Refused(String),
    /// What was sent is not understood, and will not be.
    Rejected(String),
    /// Another time.
    Failed { why: String, retry_after: Option<Duration> },
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// In seconds.
    pub(crate) retry_after: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    r#type: String,
    title: String,
}

/// Judges the answer to a request; `events`: whether events were sent.
pub(crate) fn judge(answer: &Answer, events: bool) -> Reply {
    let failed =
        |why: String| Reply::Failed { why, retry_after: answer.retry_after.map(Duration::from_secs) };
    match answer.status {
        200..=299 => {
            // Whatever stands in between may answer 200 with a page of its own: only the receiver's word counts.
            let object = serde_json::from_str::<Value>(&answer.body).ok().filter(Value::is_object);
            let taken = object.and_then(|object| match events {
                true => serde_json::from_value::<Receipt>(object).ok().map(|receipt| receipt.accepted),
                false => Some(0),
            });
            taken.map_or_else(
                || failed("its answer is not the JSON that belongs there".to_owned()),
                Reply::Taken,
            )
        }
        status @ (401 | 403) => Reply::Refused(said(status, &answer.body)),
        404 if is_unknown_host(&answer.body) => Reply::Refused("it does not know this host".to_owned()),
        status @ (400 | 413 | 422) => Reply::Rejected(said(status, &answer.body)),
        status => failed(said(status, &answer.body)),
    }
}

fn problem(body: &str) -> Problem {
    serde_json::from_str(body).unwrap_or_default()
}

fn is_unknown_host(body: &str) -> bool {
    problem(body).r#type.rsplit([':', '/', '#']).next() == Some(UNKNOWN_HOST)
}

/// The status, and the title of a problem where there is one: short, and without what could garble a log.
fn said(status: u16, body: &str) -> String {
    let title = problem(body).title;
    let title: String = title.chars().filter(|char| !char.is_control()).take(MAX_SHOWN_CHARS).collect();
    // No colon: what stands behind one is cut where anybody may read it.
    if title.is_empty() { format!("it answers {status}") } else { format!("it answers {status} ({title})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str, events: bool) -> Reply {
        judge(&Answer { status, body: body.to_owned(), retry_after: None }, events)
    }

    #[test]
    fn only_the_receivers_own_word_acknowledges() {
        assert_eq!(judged(200, r#"{"accepted":3,"more":[]}"#, true), Reply::Taken(3));
        assert_eq!(judged(202, "{}", false), Reply::Taken(0));
        for (body, events) in [
            ("<html>Welcome to our network</html>", false),
            ("", true),
            ("{}", true),
            (r#"{"accepted":-1}"#, true),
            (r#"{"accepted":"all"}"#, true),
            ("3", false),
            ("[]", false),
            ("null", false),
            ("[3]", true),
        ] {
            assert!(matches!(judged(200, body, events), Reply::Failed { .. }), "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn f41_whatever_is_answered_acknowledges_refuses_or_fails_and_nothing_else(
            status in 100_u16..600,
            key in "[a-z_]{1,12}",
            value in "\\PC{0,40}",
            events: bool,
        ) {
            let mut body = serde_json::json!({ "accepted": 1, "argv": ["rm"], "uid": 0, "path": "/" });
            body[key] = value.into();
            match judged(status, &body.to_string(), events) {
                Reply::Taken(count) => assert!(status / 100 == 2 && count == usize::from(events)),
                Reply::Refused(why) | Reply::Rejected(why) | Reply::Failed { why, .. } => {
                    assert!(!why.contains("argv") && !why.contains("rm"), "{why}");
                }
            }
        }
    }

    #[test]
    fn a_host_is_refused_by_name_and_a_wrong_path_is_not_that() {
        let unknown = r#"{"type":"urn:example:problem:unknown-host","title":"x"}"#;
        for (status, body) in [(401, ""), (403, "no"), (404, unknown)] {
            assert!(matches!(judged(status, body, false), Reply::Refused(_)), "{status} {body}");
        }
        for (status, body) in [
            (404, ""),
            (404, r#"{"type":"urn:example:problem:unknown-hostess"}"#),
            (302, ""),
            (500, unknown),
            (429, ""),
            (415, ""),
        ] {
            assert!(matches!(judged(status, body, true), Reply::Failed { .. }), "{status} {body}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(judged(status, "{}", true), Reply::Rejected(_)), "{status}");
        }
    }

    #[test]
    fn what_is_shown_of_an_answer_is_short_and_plain() {
        let body =
            serde_json::json!({ "title": format!("no\u{1b}[31m\nway{}", "x".repeat(500)) }).to_string();
        let Reply::Failed { why, .. } = judged(503, &body, true) else { panic!() };
        assert!(why.starts_with("it answers 503 (no[31mway") && why.len() < 150, "{why}");
        assert!(!why.contains(char::is_control));
        let answer = Answer { status: 429, body: String::new(), retry_after: Some(7) };
        let later =
            Reply::Failed { why: "it answers 429".to_owned(), retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(judge(&answer, true), later);
    }
}

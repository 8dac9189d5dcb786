//! What an answer means. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::payload::Receipt;

/// The problem type of a host that the control plane does not know.
const UNKNOWN_HOST: &str = "unknown-host";
/// Of what a receiver says, so much is shown.
const MAX_SHOWN_CHARS: usize = 120;
/// In place of a credential that a receiver repeats.
const REDACTED: &str = "<redacted>";

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

/// Judges the answer to a request; `events`: whether events were sent; `shown`: the credential that went with it.
pub(crate) fn judge(answer: &Answer, events: bool, shown: Option<&str>) -> Reply {
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
        404 if is_unknown_host(&answer.body) => Reply::Refused("it does not know this host".to_owned()),
        status => {
            let problem = problem(&answer.body);
            let why = said(status, problem.as_ref(), shown);
            match status {
                401 => Reply::Refused(why),
                // Without a problem it may be the word of whatever stands in between.
                403 if problem.is_some() => Reply::Refused(why),
                400 | 413 | 422 if problem.is_some() => Reply::Rejected(why),
                _ => failed(why),
            }
        }
    }
}

/// A problem says what it is: `{}` or a proxy's own JSON is none.
fn problem(body: &str) -> Option<Problem> {
    let problem: Problem = serde_json::from_str(body).ok()?;
    (!problem.r#type.is_empty() || !problem.title.is_empty()).then_some(problem)
}

fn is_unknown_host(body: &str) -> bool {
    problem(body).is_some_and(|problem| problem.r#type.rsplit([':', '/', '#']).next() == Some(UNKNOWN_HOST))
}

/// The status, and the title of a problem where there is one: short, and without what could garble a log.
fn said(status: u16, problem: Option<&Problem>, shown: Option<&str>) -> String {
    let title = problem.map(|problem| problem.title.as_str()).unwrap_or_default();
    // Before it is cut: half a credential would not be found.
    let title = match shown.filter(|shown| !shown.is_empty()) {
        Some(shown) => title.replace(shown, REDACTED),
        None => title.to_owned(),
    };
    let title: String = title.chars().filter(|char| !char.is_control()).take(MAX_SHOWN_CHARS).collect();
    // What stands behind a colon is cut where anybody may read it.
    if title.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {title}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str, events: bool) -> Reply {
        judge(&Answer { status, body: body.to_owned(), retry_after: None }, events, None)
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
        let problem = r#"{"title":"No."}"#;
        for (status, body) in [(401, ""), (403, problem), (404, unknown)] {
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
            assert!(matches!(judged(status, problem, true), Reply::Rejected(_)), "{status}");
        }
    }

    #[test]
    fn what_a_proxy_says_neither_refuses_nor_rejects() {
        for status in [400, 403, 413, 422] {
            for body in ["", "no", "<html>Forbidden</html>", "{}", r#"{"message":"Forbidden"}"#, "[]"] {
                let failed = Reply::Failed { why: format!("it answers {status}"), retry_after: None };
                assert_eq!(judged(status, body, true), failed, "{body}");
            }
        }
    }

    #[test]
    fn a_credential_that_is_repeated_is_shown_nowhere_not_even_in_part() {
        let body = serde_json::json!({ "title": format!("{}canary-canary is wrong", "x".repeat(115)) });
        let answer = Answer { status: 401, body: body.to_string(), retry_after: None };
        let Reply::Refused(why) = judge(&answer, false, Some("canary-canary")) else { panic!() };
        assert!(why.ends_with("x<reda") && !why.contains("can"), "{why}");
        // What does not name anybody is for everybody.
        assert_eq!(why.split(": ").next(), Some("it answers 401"));
        let Reply::Refused(why) = judge(&answer, false, Some("")) else { panic!() };
        assert!(why.starts_with("it answers 401: xxx"), "{why}");
    }

    #[test]
    fn what_is_shown_of_an_answer_is_short_and_plain() {
        let body =
            serde_json::json!({ "title": format!("no\u{1b}[31m\nway{}", "x".repeat(500)) }).to_string();
        let Reply::Failed { why, .. } = judged(503, &body, true) else { panic!() };
        assert!(why.starts_with("it answers 503: no[31mway") && why.len() < 150, "{why}");
        assert!(!why.contains(char::is_control));
        let answer = Answer { status: 429, body: String::new(), retry_after: Some(7) };
        let later =
            Reply::Failed { why: "it answers 429".to_owned(), retry_after: Some(Duration::from_secs(7)) };
        assert_eq!(judge(&answer, true, None), later);
    }
}

//! `/json/*`: asked of the browser, answered with the gateway's own addresses.

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::connect::ask;
use super::survey::{keep_a_page, survey};
use crate::cdp::{Policy, discovery};
use crate::gateway::forwarded::Public;
use crate::gateway::refused::Refused;
use crate::gateway::routes::Question;
use crate::http::Reply;
use crate::http::body::uncached;
use crate::session::Session;

/// Answers one question about the session's browser. `query` is that of the request.
pub(in crate::gateway) async fn discover(
    session: &Session,
    question: &Question,
    query: Option<&str>,
    policy: Option<&Policy>,
    public: &Public,
) -> Result<Reply, Refused> {
    let (method, path) = match question {
        Question::Version => (Method::GET, "/json/version".to_owned()),
        Question::List => (Method::GET, "/json/list".to_owned()),
        Question::Protocol => (Method::GET, "/json/protocol".to_owned()),
        Question::New => (Method::PUT, new_path(query.unwrap_or_default(), policy)?),
        Question::Activate(id) => (Method::GET, format!("/json/activate/{id}")),
        Question::Close(id) => (Method::GET, format!("/json/close/{id}")),
    };
    let about_targets = matches!(question, Question::List | Question::Activate(_) | Question::Close(_));
    let survey = match policy {
        Some(policy) if about_targets && policy.own_contexts_only() => Some(survey(session).await?),
        _ => None,
    };
    if let Question::Activate(id) | Question::Close(id) = question
        && survey.as_ref().is_some_and(|survey| !survey.is_shared(id))
    {
        return Err(Refused::NoTarget);
    }
    if let (Question::Close(id), Some(_)) = (question, policy) {
        keep_a_page(session, Some(id)).await?;
    }
    let answer = ask(session, method, &path).await?;
    if answer.status() != StatusCode::OK {
        return Err(Refused::NoTarget);
    }
    let base = public.websocket(&format!("/sessions/{}/cdp", session.id()));
    let (kind, bytes) = match question {
        Question::Version | Question::List | Question::New => {
            let rewritten = discovery::rewrite(answer.body(), &base, policy, survey.as_ref()).map_err(|error| {
                tracing::warn!(session = %session.id(), error = %crate::errors::chain(&error), "DevTools answered strangely");
                Refused::NoTarget
            })?;
            ("application/json; charset=UTF-8", Bytes::from(rewritten))
        }
        Question::Protocol => ("application/json; charset=UTF-8", answer.into_body()),
        Question::Activate(_) | Question::Close(_) => ("text/html; charset=UTF-8", answer.into_body()),
    };
    Ok(uncached(StatusCode::OK, kind, bytes).into())
}

/// Where a new target is made. What was judged is what is sent: every byte that could be read otherwise is escaped anew.
fn new_path(query: &str, policy: Option<&Policy>) -> Result<String, Refused> {
    let url = discovery::new_url(query).ok_or(Refused::BadUrl)?;
    if policy.is_some_and(|policy| !policy.may_open(&url)) {
        return Err(Refused::BadUrl);
    }
    let escaped: String =
        url.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
    Ok(format!("/json/new?{escaped}"))
}

//! To the browser: one question over HTTP, or a WebSocket to one of its targets.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::survey::survey;
use crate::browser::Endpoint;
use crate::cdp::discovery::{self, Kind};
use crate::cdp::{Contexts, Policy};
use crate::errors::chain;
use crate::gateway::refused::Refused;
use crate::gateway::routes::Target;
use crate::http::{self, OpenError};
use crate::session::Session;

/// For the browser to answer over HTTP and to open a WebSocket; its main thread does both, and pages can keep it busy.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// When a browser that is being started is likely to be there.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longest answer, in bytes: the protocol's description is 1.6 MB, and a list of a thousand tabs less.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A WebSocket to the browser, whose next bytes are frames.
pub(in crate::gateway) struct Upstream {
    pub(super) stream: TcpStream,
    pub(super) leftover: Bytes,
    pub(super) endpoint: Endpoint,
    pub(super) target: Target,
    /// For a connection that reaches some browser contexts only.
    pub(super) contexts: Option<Contexts>,
}

/// Asks the session's browser for `path`.
pub(super) async fn ask(session: &Session, method: Method, path: &str) -> Result<Response<Bytes>, Refused> {
    let endpoint = endpoint(session)?;
    let request = Request::builder().method(method).uri(path).header("Host", endpoint.address().to_string());
    let request = request.body(Full::default()).map_err(|_| Refused::NoTarget)?;
    let exchange = async {
        let stream = endpoint.connect().await.map_err(|error| chain(&error))?;
        http::send(stream, request, MAX_ANSWER).await.map_err(|error| chain(&error))
    };
    match timeout(ANSWER_DEADLINE, exchange).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            tracing::debug!(session = %session.id(), error, "no answer from DevTools");
            Err(Refused::BrowserNotReady(RETRY_AFTER))
        }
        Err(_) => Err(Refused::BrowserNotReady(RETRY_AFTER)),
    }
}

/// Opens a WebSocket to a target of the session's browser. A policy's targets are those that it lets anybody act on; the
/// browser's own is the one that runs now, whatever id is asked for.
pub(in crate::gateway) async fn connect(
    session: &Session,
    target: Target,
    policy: Option<&Policy>,
) -> Result<Upstream, Refused> {
    let survey = match policy {
        Some(policy) if policy.own_contexts_only() => Some(survey(session).await?),
        _ => None,
    };
    let path = match &target {
        Target::Browser => {
            let version = ask(session, Method::GET, "/json/version").await?;
            discovery::browser_path(version.body()).ok_or(Refused::BrowserNotReady(RETRY_AFTER))?
        }
        Target::Page(id) => {
            if let Some(policy) = policy {
                let list = ask(session, Method::GET, "/json/list").await?;
                // Workers and frames are not on the list, but reached through the pages that they belong to.
                let url = discovery::url_of(list.body(), id).ok_or(Refused::NoTarget)?;
                let shared = survey.as_ref().is_none_or(|survey| survey.is_shared(id));
                if !shared || !policy.may_attach(&url) {
                    return Err(Refused::NoTarget);
                }
            }
            format!("/devtools/page/{id}")
        }
    };
    let kind = if target == Target::Browser { Kind::Browser } else { Kind::Page };
    let contexts = survey.as_ref().map(|survey| Contexts::new(kind, survey));
    let endpoint = endpoint(session)?;
    let open = async {
        let stream = endpoint.connect().await.map_err(|error| chain(&error))?;
        stream.set_nodelay(true).map_err(|error| chain(&error))?;
        match http::open_websocket(stream, &endpoint.address().to_string(), &path).await {
            Err(OpenError::Refused(_)) => Ok(None),
            opened => opened.map(Some).map_err(|error| chain(&error)),
        }
    };
    match timeout(ANSWER_DEADLINE, open).await {
        Ok(Ok(Some((stream, leftover)))) => Ok(Upstream { stream, leftover, endpoint, target, contexts }),
        // "No such target id" is a 500.
        Ok(Ok(None)) => Err(Refused::NoTarget),
        Ok(Err(error)) => {
            tracing::debug!(session = %session.id(), error, "no WebSocket to DevTools");
            Err(Refused::BrowserNotReady(RETRY_AFTER))
        }
        Err(_) => Err(Refused::BrowserNotReady(RETRY_AFTER)),
    }
}

pub(super) fn endpoint(session: &Session) -> Result<Endpoint, Refused> {
    if !session.has_browser() {
        return Err(Refused::NoTarget);
    }
    session.devtools().ok_or(Refused::BrowserNotReady(RETRY_AFTER))
}

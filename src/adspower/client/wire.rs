//! One request to AdsPower over HTTP: to its own socket alone, by no proxy, with no redirect, and its answer of a bounded size.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Full, LengthLimitError};
use hyper::StatusCode;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use reqwest::Url;
use tokio::time::timeout;

use super::answer;
use super::call::Call;
use super::error::{Error, SetupError, Unreached, Unread};
use super::place::Place;
use super::request::{Content, Request};
use crate::http::{self, GetError};
use crate::secret::Secret;

/// Over loopback.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Largest answer taken; a hundred profiles have about 200 KiB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// An answer as it came.
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: String,
}

/// What is shown with every request.
#[derive(Debug)]
pub(super) struct Wire {
    key: Option<Secret<String>>,
    authorization: Option<HeaderValue>,
}

impl Wire {
    /// # Errors
    /// When the key cannot stand in a header.
    pub(super) fn new(key: Option<Secret<String>>) -> Result<Self, SetupError> {
        let authorization = key.as_ref().map(authorization).transpose()?;
        Ok(Self { key, authorization })
    }

    /// The key, to take it out of what AdsPower says.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.expose().as_str())
    }

    /// Asks the app at `place`, over a connection of its own: one that is kept may lead to an app that is gone. The caller sets
    /// the deadline; dropping the future drops the connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Unreadable`].
    pub(super) async fn exchange(&self, place: Place, call: Call, request: &Request) -> Result<Heard, Error> {
        let failed = |source| Error::Unreachable { call, source };
        let prepared = self.prepare(place, request).map_err(|error| failed(Unreached::Exchange(error)))?;
        let connected = timeout(CONNECT_DEADLINE, place.connect()).await;
        let stream = connected
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| failed(Unreached::Connect(error)))?;
        let has_body = |status: StatusCode| answer::has_body(status.as_u16());
        let response = match http::send_for(stream, prepared, MAX_ANSWER_BYTES, has_body).await {
            Ok(response) => response,
            Err(GetError::Body(error)) => return Err(Error::Unreadable { call, source: unread(error) }),
            Err(error) => return Err(failed(Unreached::Exchange(error))),
        };
        let status = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(answer::retry_after);
        let body = String::from_utf8(response.into_body().into())
            .map_err(|_| Error::Unreadable { call, source: Unread::NotText })?;
        Ok(Heard { status, retry_after, body })
    }

    fn prepare(&self, place: Place, request: &Request) -> Result<hyper::Request<Full<Bytes>>, GetError> {
        let host = place.address().to_string();
        let builder = hyper::Request::builder().header(HOST, &host).header(ACCEPT, "*/*");
        let prepared = match &request.content {
            Content::Query(query) => builder.uri(target(&host, request.path, query)).body(Full::default()),
            Content::Body(body) => builder
                .method("POST")
                .uri(target(&host, request.path, &[]))
                .header(CONTENT_TYPE, "application/json")
                .body(Full::from(body.to_string())),
        };
        let mut prepared = prepared.map_err(GetError::Request)?;
        if let Some(authorization) = &self.authorization {
            prepared.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(prepared)
    }
}

/// A path with its query, as they stand in a request's first line.
fn target(host: &str, path: &str, query: &[(&str, String)]) -> String {
    // The path is ours, so that this is a URL; one that was none would be no request either.
    let Ok(mut url) = Url::parse(&format!("http://{host}{path}")) else { return path.to_owned() };
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

fn unread(error: Box<dyn std::error::Error + Send + Sync>) -> Unread {
    if error.is::<LengthLimitError>() { Unread::TooLarge(MAX_ANSWER_BYTES) } else { Unread::Broken(error) }
}

fn authorization(key: &Secret<String>) -> Result<HeaderValue, SetupError> {
    let key = key.expose();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SetupError::ApiKey);
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| SetupError::ApiKey)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_word_and_is_never_shown() {
        let wire = Wire::new(Some(Secret::new("canary-1".to_owned()))).unwrap();
        assert!(!format!("{wire:?}").contains("canary"), "{wire:?}");
        for bad in ["", "two words", "a\nb", "größe"] {
            let error = Wire::new(Some(Secret::new(bad.to_owned()))).unwrap_err();
            assert!(matches!(error, SetupError::ApiKey), "{bad:?}");
        }
    }
}

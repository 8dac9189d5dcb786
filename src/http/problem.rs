//! Errors as RFC 9457 problem details.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::RequestId;
use super::body::uncached;

/// What went wrong, for the client. Its type and title hold nothing of the request; detail and mistakes may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    detail: Option<String>,
    mistakes: Vec<Mistake>,
    retry_after: Option<Duration>,
}

/// One thing that is wrong with a request, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What, to complete "the value …".
    pub detail: String,
}

/// A place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In its JSON body: a pointer (RFC 6901).
    Body(String),
    /// A parameter of its query.
    Query(String),
    /// A header.
    Header(&'static str),
}

impl Mistake {
    fn json(&self) -> Value {
        let (key, at) = match &self.place {
            Place::Body(pointer) => ("pointer", pointer.as_str()),
            Place::Query(name) => ("parameter", name.as_str()),
            Place::Header(name) => ("header", *name),
        };
        json!({ key: at, "detail": self.detail })
    }
}

impl Problem {
    /// A problem of type `urn:valetd:problem:<name>`. `title` is a sentence that is the same each time.
    pub fn new(status: StatusCode, name: &'static str, title: &'static str) -> Self {
        Self { status, name, title, detail: None, mistakes: Vec::new(), retry_after: None }
    }

    /// Says what is particular to this time.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Says what is wrong with the request, all of it.
    #[must_use]
    pub fn mistakes(self, mistakes: Vec<Mistake>) -> Self {
        Self { mistakes, ..self }
    }

    /// Says when to try again, in whole seconds and at least one.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self { retry_after: Some(after), ..self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response; 401 carries its challenge (RFC 6750 section 3).
    pub fn response(&self, request_id: &RequestId) -> Response<Full<Bytes>> {
        let mut body = json!({
            "type": format!("urn:valetd:problem:{}", self.name),
            "title": self.title,
            "status": self.status.as_u16(),
            "request_id": request_id.as_str(),
        });
        if let Some(detail) = &self.detail {
            body["detail"] = detail.as_str().into();
        }
        if !self.mistakes.is_empty() {
            body["errors"] = self.mistakes.iter().map(Mistake::json).collect();
        }
        let mut response = uncached(self.status, "application/problem+json", body.to_string());
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready.");
        for (wait_ms, header) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let response = problem
                .clone()
                .retry_after(Duration::from_millis(wait_ms))
                .response(&RequestId::from_random([0; 16]));
            assert_eq!(response.headers()[RETRY_AFTER], header);
            assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        }
    }
}

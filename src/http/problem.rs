//! Errors as RFC 9457 problem details.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::RequestId;

/// What went wrong, for the client. Holds nothing of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    retry_after: Option<Duration>,
}

impl Problem {
    /// A problem of type `urn:valetd:problem:<name>`. `title` is a sentence that is the same each time.
    pub fn new(status: StatusCode, name: &'static str, title: &'static str) -> Self {
        Self { status, name, title, retry_after: None }
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
        let body = serde_json::json!({
            "type": format!("urn:valetd:problem:{}", self.name),
            "title": self.title,
            "status": self.status.as_u16(),
            "request_id": request_id.as_str(),
        });
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
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
                .retry_after(Duration::from_millis(wait_ms))
                .response(&RequestId::from_random([0; 16]));
            assert_eq!(response.headers()[RETRY_AFTER], header);
            assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        }
    }
}

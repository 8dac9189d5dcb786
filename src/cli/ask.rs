//! Asking the daemon on this host, over its Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::args::DEFAULT_CONFIG;
use crate::config::{ConfigErrors, control_socket};
use crate::http;

/// An answer with a thousand sessions in it is far smaller.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("cannot reach the daemon on {path}")]
    Connect {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the daemon did not answer within {0:?}")]
    Deadline(Duration),
    #[error("the daemon gave no answer")]
    Http(#[from] http::GetError),
    #[error("cannot make the request")]
    Request(#[from] hyper::http::Error),
    #[error("the daemon's answer makes no sense")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(Refusal),
}

/// A problem that the daemon answered with.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    problem: Value,
}

impl std::fmt::Display for Refusal {
    /// What people read: the title, what is particular, and every mistake on a line of its own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.problem["title"].as_str() {
            Some(title) => f.write_str(title)?,
            None => write!(f, "the daemon answered with status {}", self.status)?,
        }
        let errors = self.problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let detail = self.problem["detail"].as_str();
        if let Some(detail) = detail.filter(|detail| errors.iter().all(|error| error["detail"] != *detail)) {
            write!(f, " {detail}")?;
        }
        for error in errors {
            let place = ["pointer", "parameter", "header"].into_iter().find_map(|key| error[key].as_str());
            let place = place.unwrap_or_default().trim_start_matches('/').replace('/', ".");
            let colon = if place.is_empty() { "" } else { ": " };
            write!(f, "\n  {place}{colon}{}", error["detail"].as_str().unwrap_or_default())?;
        }
        Ok(())
    }
}

/// One question.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: &'a str,
    pub(super) body: Option<&'a Value>,
    /// For the whole of it.
    pub(super) deadline: Duration,
}

impl<'a> Question<'a> {
    /// `GET path`.
    pub(super) fn get(path: &'a str, deadline: Duration) -> Self {
        Self { method: Method::GET, path, body: None, deadline }
    }
}

/// Where the daemon listens, by a configuration file, or the usual one where there is one.
pub(super) fn socket(config: Option<&Path>) -> Result<PathBuf, ConfigErrors> {
    let default = Path::new(DEFAULT_CONFIG);
    let path = config.or_else(|| default.exists().then_some(default));
    control_socket(path, std::env::vars_os())
}

/// Asks, and gives back the answer if it is a success.
pub(super) async fn ask(socket: &Path, question: Question<'_>) -> Result<Value, AskError> {
    let deadline = question.deadline;
    timeout(deadline, exchange(socket, question)).await.map_err(|_elapsed| AskError::Deadline(deadline))?
}

async fn exchange(socket: &Path, question: Question<'_>) -> Result<Value, AskError> {
    let connect = |source| AskError::Connect { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(connect)?;
    let mut request = Request::builder().method(question.method).uri(question.path).header(HOST, "localhost");
    let body = match question.body {
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Bytes::from(serde_json::to_vec(body)?)
        }
        None => Bytes::new(),
    };
    let response = http::send(stream, request.body(Full::new(body))?, MAX_ANSWER_BYTES).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(serde_json::from_slice(response.body())?);
    }
    let problem = serde_json::from_slice(response.body()).unwrap_or_default();
    Err(AskError::Refused(Refusal { status, problem }))
}

/// A path with parameters.
pub(super) fn with_query(path: &str, parameters: &[(&str, &str)]) -> String {
    if parameters.is_empty() {
        return path.to_owned();
    }
    // The encoder belongs to URLs. What is before the query does not matter.
    let Ok(mut url) = reqwest::Url::parse("http://host/") else { return path.to_owned() };
    url.query_pairs_mut().extend_pairs(parameters);
    format!("{path}?{}", url.query().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_reads_like_a_message() {
        let text = |problem| Refusal { status: StatusCode::IM_A_TEAPOT, problem }.to_string();
        let problem = json!({
            "title": "The request is not valid.",
            "errors": [
                { "pointer": "/display/width", "detail": "must be given" },
                { "header": "Idempotency-Key", "detail": "must be short" },
            ],
        });
        assert_eq!(
            text(problem),
            "The request is not valid.\n  display.width: must be given\n  Idempotency-Key: must be short"
        );
        let problem = json!({ "title": "Every place is taken.", "detail": "all 3 are taken" });
        assert_eq!(text(problem), "Every place is taken. all 3 are taken");
        assert_eq!(text(Value::Null), "the daemon answered with status 418 I'm a teapot");
    }

    #[test]
    fn parameters_are_encoded() {
        assert_eq!(with_query("/a", &[("reason", "a b&c"), ("x", "ü")]), "/a?reason=a+b%26c&x=%C3%BC");
        assert_eq!(with_query("/a", &[]), "/a");
    }
}

//! `GET /openapi.json`, and `GET /docs`: a page of our own that shows it, with nothing from elsewhere.

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS};
use hyper::{Response, StatusCode};

use super::describe;
use super::refused::{Refused, Trouble};
use crate::http::body::uncached;

const PAGE: &str = include_str!("docs/page.html");
const SCRIPT: &str = include_str!("docs/page.js");
const STYLE: &str = include_str!("docs/page.css");

/// Its own script and style, and the description; no frame around it, no form, no markup made from text.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// The same for as long as the program runs.
static DESCRIPTION: LazyLock<Bytes> =
    LazyLock::new(|| describe::document().to_json().unwrap_or_default().into());

/// The description.
pub(super) fn description() -> Response<Full<Bytes>> {
    uncached(StatusCode::OK, "application/json", DESCRIPTION.clone())
}

/// The page, or one of its files.
pub(super) fn file(path: &str) -> Result<Response<Full<Bytes>>, Box<Refused>> {
    let (text, content_type) = match path {
        "/docs" => (PAGE, "text/html; charset=utf-8"),
        "/docs/page.js" => (SCRIPT, "text/javascript; charset=utf-8"),
        "/docs/page.css" => (STYLE, "text/css; charset=utf-8"),
        _ => return Err(Trouble::NotFound.into()),
    };
    let mut response = uncached(StatusCode::OK, content_type, Bytes::from_static(text.as_bytes()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for text in [PAGE, SCRIPT, STYLE] {
            assert!(text.len() > 100 && !text.contains("http://") && !text.contains("https://"));
        }
        assert!(!SCRIPT.contains("innerHTML"), "markup is never made from text");
        assert!(file("/docs/other").is_err());
    }

    #[test]
    fn the_description_is_there() {
        assert!(DESCRIPTION.len() > 10_000, "{}", DESCRIPTION.len());
    }
}

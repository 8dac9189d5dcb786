//! From a path to a response.

use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::tree::Found;
use super::{embedded, tree};

/// For what is embedded. noVNC sets styles by property, which needs no permission; its pictures and cursors are `data:`.
/// `'self'` covers `ws:` and `wss:` of the same host (CSP Level 3 section 6.7.2.8).
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'none'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// For a tree on disk: stock noVNC pages carry inline scripts and styles, fonts and sounds.
const TREE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
     connect-src 'self'; font-src 'self'; media-src 'self' data:; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'",
);

/// On each response, an error or not.
const ALWAYS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// Answers a request for the page or one of its files. `path` is that of the URL, its percent signs untouched;
/// `static_dir` stands in for the embedded noVNC under `/novnc/`.
///
/// Names carry no version, so browsers may keep what they got but must ask whether it is current (`ETag`, 304).
pub(in crate::gateway) async fn serve(
    method: &Method,
    path: &str,
    if_none_match: Option<&HeaderValue>,
    static_dir: Option<&Path>,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = match (path.strip_prefix("/novnc"), static_dir) {
        (Some(""), Some(_)) => moved("/novnc/"),
        (Some(below), Some(root)) if below.starts_with('/') => {
            from_tree(root, below.trim_start_matches('/'), below, if_none_match).await
        }
        _ => from_binary(path, if_none_match),
    };
    if method == Method::HEAD {
        let length = hyper::body::Body::size_hint(response.body()).exact();
        *response.body_mut() = Full::default();
        if let (Some(length), true) = (length, response.status() != StatusCode::NOT_MODIFIED) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    response
}

fn from_binary(path: &str, if_none_match: Option<&HeaderValue>) -> Response<Full<Bytes>> {
    let path = if path == "/" { "index.html" } else { path.trim_start_matches('/') };
    match embedded::find(path) {
        Some(file) => found(path, file.tag, Bytes::from_static(file.bytes), if_none_match, PAGE_POLICY),
        None => problem(StatusCode::NOT_FOUND),
    }
}

async fn from_tree(
    root: &Path,
    path: &str,
    below: &str,
    if_none_match: Option<&HeaderValue>,
) -> Response<Full<Bytes>> {
    match tree::find(root, path).await {
        Ok(Found::File { name, tag, bytes }) => found(&name, &tag, bytes, if_none_match, TREE_POLICY),
        Ok(Found::FolderWithoutSlash) => moved(&format!("/novnc{below}/")),
        Ok(Found::Nothing) => problem(StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::warn!(error = %crate::errors::chain(&error), "cannot read from gateway.static_dir");
            problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn found(
    name: &str,
    tag: &str,
    bytes: Bytes,
    if_none_match: Option<&HeaderValue>,
    policy: HeaderValue,
) -> Response<Full<Bytes>> {
    let current = if_none_match.is_some_and(|wanted| names_tag(wanted, tag));
    let mut response = Response::new(if current { Full::default() } else { Full::new(bytes) });
    if current {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let content_type = content_type(name);
    let headers = response.headers_mut();
    headers.extend(ALWAYS);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    // An SVG is a document too, when it is opened by itself.
    if content_type.starts_with("text/html") || content_type.starts_with("image/svg") {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// RFC 9110 section 13.1.2, by weak comparison.
fn names_tag(if_none_match: &HeaderValue, tag: &str) -> bool {
    let Ok(list) = if_none_match.to_str() else { return false };
    list.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("ico") => "image/x-icon",
        Some("woff") => "font/woff",
        Some("woff2") => "font/woff2",
        Some("ttf") => "font/ttf",
        Some("mp3") => "audio/mpeg",
        Some("oga" | "ogg") => "audio/ogg",
        Some("wasm") => "application/wasm",
        // Licences and notices have all sorts of endings, and none. Never a type that a browser would run.
        _ => "text/plain; charset=utf-8",
    }
}

fn moved(location: &str) -> Response<Full<Bytes>> {
    let mut response = problem(StatusCode::PERMANENT_REDIRECT);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Problem details (RFC 9457) that say no more than the status does.
fn problem(status: StatusCode) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{}}}", status.as_u16());
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.extend(ALWAYS);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

use std::fs;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode};

use super::{embedded, serve};

async fn get(path: &str) -> Response<Full<Bytes>> {
    serve(&Method::GET, path, None, None).await
}

async fn get_from(root: &Path, path: &str) -> Response<Full<Bytes>> {
    serve(&Method::GET, path, None, Some(root)).await
}

fn header<'a>(response: &'a Response<Full<Bytes>>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn body(response: Response<Full<Bytes>>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn the_page_comes_with_its_policy() {
    let response = get("/").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-type"), Some("text/html; charset=utf-8"));
    let policy = header(&response, "content-security-policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header(&response, "referrer-policy"), Some("no-referrer"));
    assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&response, "x-frame-options"), Some("DENY"));
    assert_eq!(header(&response, "cross-origin-opener-policy"), Some("same-origin"));
    assert_eq!(header(&response, "cache-control"), Some("no-cache"));
    assert!(body(response).await.starts_with(b"<!doctype html>"));
}

#[tokio::test]
async fn every_embedded_file_is_served_whole_and_with_its_type() {
    let mut seen = 0;
    for path in embedded::paths() {
        let response = get(&format!("/{path}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let expected = match path.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "html" => "text/html; charset=utf-8",
            "svg" => "image/svg+xml",
            "json" => "application/json",
            _ => "text/plain; charset=utf-8",
        };
        assert_eq!(header(&response, "content-type"), Some(expected), "{path}");
        assert_eq!(body(response).await, embedded::find(path).unwrap().bytes, "{path}");
        seen += 1;
    }
    assert!(seen > 50, "{seen} files");
}

#[tokio::test]
async fn what_is_not_embedded_is_not_found() {
    for path in [
        "/nothing.js",
        "/index.html/",
        "/novnc",
        "/novnc/",
        "/novnc/core",
        "/novnc/core/",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/novnc/../index.html",
        "/novnc/..%2f..%2fpackage.json",
        "/package.json",
        "/etc/passwd",
        "",
    ] {
        let response = get(path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_slice(&body(response).await).unwrap();
        assert_eq!(problem["status"], 404);
    }
}

#[tokio::test]
async fn a_current_copy_is_not_sent_again() {
    let tag = get("/app.js").await.headers()["etag"].clone();
    for (if_none_match, status) in [
        (tag.clone(), 304),
        (HeaderValue::from_str(&format!("\"other\", W/{}", tag.to_str().unwrap())).unwrap(), 304),
        (HeaderValue::from_static("*"), 304),
        (HeaderValue::from_static("\"other\""), 200),
    ] {
        let response = serve(&Method::GET, "/app.js", Some(&if_none_match), None).await;
        assert_eq!(response.status().as_u16(), status, "{if_none_match:?}");
        assert_eq!(response.headers()["etag"], tag);
        assert_eq!(body(response).await.is_empty(), status == 304);
    }
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let response = serve(&Method::HEAD, "/style.css", None, None).await;
    assert_eq!(response.status(), StatusCode::OK);
    let length = embedded::find("style.css").unwrap().bytes.len().to_string();
    assert_eq!(header(&response, "content-length"), Some(length.as_str()));
    assert!(body(response).await.is_empty());
}

#[tokio::test]
async fn other_methods_are_refused() {
    let response = serve(&Method::POST, "/", None, None).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(&response, "allow"), Some("GET, HEAD"));
}

#[tokio::test]
async fn a_tree_takes_the_place_of_novnc_and_of_nothing_else() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("app")).unwrap();
    fs::write(tree.path().join("vnc.html"), "<script>1</script>").unwrap();
    fs::write(tree.path().join("index.css"), "p{}").unwrap();

    let page = get_from(tree.path(), "/novnc/vnc.html").await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = header(&page, "content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self' 'unsafe-inline';"), "{policy}");
    assert!(policy.contains("connect-src 'self';"), "{policy}");
    assert_eq!(body(page).await, "<script>1</script>");

    assert_eq!(body(get_from(tree.path(), "/novnc/").await).await, "<script>1</script>");
    assert_eq!(get_from(tree.path(), "/novnc/core/rfb.js").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get_from(tree.path(), "/index.css").await.status(), StatusCode::NOT_FOUND);
    assert!(body(get_from(tree.path(), "/").await).await.starts_with(b"<!doctype html>"));

    let folder = get_from(tree.path(), "/novnc/app").await;
    assert_eq!(folder.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(header(&folder, "location"), Some("/novnc/app/"));
    assert_eq!(header(&get_from(tree.path(), "/novnc").await, "location"), Some("/novnc/"));
}

#[tokio::test]
async fn a_tree_gives_away_nothing_outside_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("tree")).unwrap();
    fs::write(outside.path().join("secret.txt"), "secret").unwrap();
    for path in
        ["/novnc/../secret.txt", "/novnc/..%2fsecret.txt", "/novnc/%2e%2e/secret.txt", "/novnc//etc/passwd"]
    {
        let response = get_from(&outside.path().join("tree"), path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let missing = get_from(&outside.path().join("no-such-tree"), "/novnc/vnc.html").await;
    assert_eq!(missing.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

//! Who gets in, and what the others are told.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::*;
use crate::auth::{Claims, Role};
use crate::gateway::routes::{Proof, ROUTES};

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn without_a_credential_only_the_public_routes_answer() {
    let world = World::new().await;
    let mut private = 0;
    for route in ROUTES {
        if route.proof == Proof::Nothing {
            continue;
        }
        private += 1;
        for id in ["s1", "cdp", "nowhere"] {
            let path = route
                .pattern
                .replace("{id}", id)
                .replace("{kind}", "page")
                .replace("{handoff}", "h1")
                .replace("{target}", "A1");
            for headers in ["", "Authorization: Bearer x\r\n", "Origin: https://evil.example\r\n"] {
                let (plain, head) = world.request(route.method, &path, headers).await;
                assert!([401, 403].contains(&plain), "{} {path}: {plain}", route.method);
                assert_eq!(plain == 401, head.contains("\r\nwww-authenticate: bearer\r\n"));
                assert!(head.contains("\r\nx-request-id: "), "{head}");
                assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");
            }
            for other in ["DELETE", "PUT", "OPTIONS"].into_iter().filter(|other| *other != route.method) {
                assert_eq!(world.request(other, &path, "").await.0, 404, "{other} {path}");
            }
            if route.method == "GET" {
                assert_eq!(world.upgrade(&path, "").await.0, 401, "{path}");
            }
        }
    }
    assert_eq!(private, 17);
    assert_eq!(world.request("GET", "/", "").await.0, 200);
    assert_eq!(world.upstream_connections.load(Ordering::SeqCst), 0);
    assert_eq!(world.browser.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_screen_of_another_server_has_no_screenshots_and_says_so() {
    let world = World::new().await;
    let path = "/sessions/s1/screenshot.png";
    let (status, head) = world.request("GET", path, &bearer(&token(Role::Spectator))).await;
    assert_eq!(status, 404, "{head}");
    world.metric("valetd_gateway_refusals_total", "no_screenshots", 1.0).await;
    // Who it is comes first.
    let path = "/sessions/s1/screenshot.jpg?quality=1000";
    assert_eq!(world.request("GET", path, &bearer(&token(Role::Automation))).await.0, 403);
    assert_eq!(world.request("GET", path, &bearer(&token(Role::Controller))).await.0, 400);
    let own = format!("{}Origin: https://evil.example\r\n", bearer(&token(Role::Controller)));
    assert_eq!(world.request("GET", path, &own).await.0, 403);
}

#[tokio::test]
async fn every_refusal_before_the_upgrade_has_its_status() {
    let world = World::new().await;
    let good = token(Role::Controller);
    let of = |session: &str| signed(&claims(session, None, 600));
    let expired = signed(&Claims { exp: 1_000_000_000, ..claims("s1", None, 600) });
    let cases = [
        ("/sessions/s1/vnc", expired.clone(), 401),
        ("/sessions/s1/vnc", format!("{good}x"), 401),
        ("/sessions/s2/vnc", good.clone(), 403),
        ("/sessions/gone/vnc", of("gone"), 404),
        ("/sessions/foreign/vnc", of("foreign"), 403),
        ("/sessions/starting/vnc", of("starting"), 503),
        ("/sessions/s1/vnc", token(Role::Automation), 403),
        ("/sessions/s1/vnc", token(Role::Operator), 403),
        ("/websockify", of("gone"), 404),
        ("/websockify", expired, 401),
    ];
    for (path, token, expected) in cases {
        let (got, head) = world.upgrade(path, &bearer(&token)).await;
        assert_eq!(got, expected, "{path}: {head}");
        assert_eq!(expected == 503, head.contains("\r\nretry-after: 1\r\n"), "{head}");
    }
    let (status, head) = world.request("GET", "/sessions/s1/vnc", &bearer(&good)).await;
    assert_eq!(status, 426);
    assert!(head.contains("\r\nsec-websocket-version: 13\r\n"));
    let bad = world.upgrade_head("/sessions/s1/vnc").replace("nonce", "x").replace("Q==", "");
    assert_eq!(super::support::status(&world.raw(&format!("{bad}{}\r\n", bearer(&good))).await), 400);
    assert_eq!(world.upstream_connections.load(Ordering::SeqCst), 0);
    world.metric("valetd_gateway_refusals_total", "expired", 2.0).await;
}

#[tokio::test]
async fn each_way_to_carry_a_credential_works_and_the_subprotocol_is_answered() {
    let world = World::new().await;
    let good = token(Role::Spectator);
    let binary = "\r\nsec-websocket-protocol: binary\r\n";
    let (status, head) = world.upgrade("/sessions/s1/vnc", &bearer(&good)).await;
    assert_eq!((status, head.contains("sec-websocket-protocol")), (101, false));
    assert!(head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    let subprotocol = format!("Sec-WebSocket-Protocol: binary, jwt.{good}\r\n");
    let (status, head) = world.upgrade("/sessions/s1/vnc", &subprotocol).await;
    assert_eq!((status, head.contains(binary)), (101, true), "{head}");
    for path in ["/websockify", "/novnc/websockify"] {
        let ticket = world.ticket(&good).await;
        let headers = "Sec-WebSocket-Protocol: binary\r\n";
        let (status, head) = world.upgrade(&format!("{path}?ticket={ticket}"), headers).await;
        assert_eq!((status, head.contains(binary)), (101, true), "{head}");
        world.metric("valetd_gateway_viewers", "spectator", 0.0).await;
    }
    assert_eq!(world.upgrade(&format!("/sessions/s1/vnc?token={good}"), "").await.0, 401);
}

#[tokio::test]
async fn a_token_in_the_query_needs_the_switch_and_an_origin() {
    let mut auth = auth_config();
    auth.allow_query_token = true;
    let world = World::with(config(), auth).await;
    let path = format!("/sessions/s1/vnc?token={}", token(Role::Spectator));
    let own = format!("Origin: http://{}\r\n", world.address);
    assert_eq!(world.upgrade(&path, &own).await.0, 101);
    assert_eq!(world.upgrade(&path, "").await.0, 403);
}

#[tokio::test]
async fn a_foreign_origin_is_refused_whatever_the_credential() {
    let world = World::new().await;
    let good = bearer(&token(Role::Controller));
    let own = format!("{good}Origin: http://{}\r\n", world.address);
    assert_eq!(world.upgrade("/sessions/s1/vnc", &own).await.0, 101);
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        let headers = format!("{good}Origin: {origin}\r\n");
        assert_eq!(world.upgrade("/sessions/s1/vnc", &headers).await.0, 403, "{origin}");
        assert_eq!(world.request("POST", "/sessions/s1/ticket", &headers).await.0, 403, "{origin}");
    }
}

#[tokio::test]
async fn a_ticket_is_good_once_and_is_not_a_token() {
    let world = World::new().await;
    let good = token(Role::Spectator);
    let ticket = world.ticket(&good).await;
    let path = format!("/sessions/s1/vnc?ticket={ticket}");
    assert_eq!(world.upgrade("/sessions/s1/vnc", &bearer(&ticket)).await.0, 401);
    let again = format!("/sessions/s1/ticket?ticket={ticket}");
    assert_eq!(world.request("POST", &again, "").await.0, 401, "a ticket begets no ticket");
    assert_eq!(world.upgrade(&path, "").await.0, 101);
    assert_eq!(world.upgrade(&path, "").await.0, 401);
    assert_eq!(world.upgrade(&format!("/sessions/s1/vnc?ticket={good}"), "").await.0, 401);
    let other = world.ticket(&good).await;
    assert_eq!(world.upgrade(&format!("/sessions/foreign/vnc?ticket={other}"), "").await.0, 403);
}

#[tokio::test]
async fn a_single_use_token_is_good_once_and_a_refusal_does_not_cost_it() {
    let mut auth = auth_config();
    auth.single_use = true;
    let mut config = config();
    config.limits.max_viewers_per_session = 1;
    let world = World::with(config, auth).await;
    let once = |id: &str| signed(&Claims { jti: Some(id.into()), ..claims("s1", None, 600) });
    let first = world.viewer(&once("a")).await;
    let (status, head) = world.upgrade("/sessions/s1/vnc", &bearer(&once("b"))).await;
    assert_eq!((status, head.contains("\r\nretry-after: 5\r\n")), (429, true));
    drop(first);
    world.metric("valetd_gateway_viewers", "controller", 0.0).await;
    assert_eq!(world.request("GET", "/sessions/s1/vnc", &bearer(&once("b"))).await.0, 426);
    assert_eq!(world.upgrade("/sessions/s1/vnc", &bearer(&once("a"))).await.0, 401);
    let second = world.viewer(&once("b")).await;
    drop(second);
    assert_eq!(world.upgrade("/sessions/s1/vnc", &bearer(&token(Role::Controller))).await.0, 401, "no jti");
}

#[tokio::test]
async fn what_follows_the_request_reaches_the_display_only_after_the_101() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = World::new().await;
    // Masked with zeros: opcode binary, 4 bytes.
    let frame = *b"\x82\x84\0\0\0\0ping";
    let head_with = |token: &str| format!("{}{}\r\n", world.upgrade_head("/sessions/s1/vnc"), bearer(token));
    let send = async |token: &str| {
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&[head_with(token).as_bytes(), &frame].concat()).await.unwrap();
        let answer = head(&mut stream).await;
        (stream, answer)
    };
    let (_stream, answer) = send("bad").await;
    assert_eq!(status(&answer), 401);
    assert_eq!(world.upstream_connections.load(Ordering::SeqCst), 0);
    let (mut stream, answer) = send(&token(Role::Controller)).await;
    assert_eq!(status(&answer), 101);
    let mut payload = Vec::new();
    // The display's greeting and its echo may share a frame.
    while payload.len() < 9 {
        let mut header = [0; 2];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut header)).await.unwrap().unwrap();
        assert_eq!(header[0], 0x82);
        let mut part = vec![0; usize::from(header[1])];
        stream.read_exact(&mut part).await.unwrap();
        payload.extend(part);
    }
    assert_eq!(payload, b"helloping");
    assert_eq!(world.upstream_bytes.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn draining_refuses_and_takes_no_new_connection() {
    let world = World::new().await;
    let _viewer = world.viewer(&token(Role::Controller)).await;
    world.drain.cancel();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(world.address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_credential_reaches_the_log_at_any_level() {
    let log = Captured::default();
    let writer = log.clone();
    // With a single subscriber, tracing lets threads without one decide for all that a line is of no interest.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut auth = auth_config();
    auth.allow_query_token = true;
    let world = World::with(config(), auth).await;
    let good = token(Role::Spectator);
    let bad = format!("{good}x");
    let ticket = world.ticket(&good).await;
    let own = format!("Origin: http://{}\r\n", world.address);
    for token in [&good, &bad] {
        world.upgrade("/sessions/s1/vnc", &bearer(token)).await;
        world.upgrade("/websockify", &format!("Sec-WebSocket-Protocol: jwt.{token}\r\n")).await;
        world.upgrade(&format!("/websockify?token={token}"), &own).await;
        world.upgrade(&format!("/sessions/s1/vnc?ticket={ticket}"), "").await;
    }
    world.metric("valetd_gateway_viewers", "spectator", 0.0).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("viewer connected") && log.contains("refused"), "{log}");
    let signature = good.rsplit('.').next().unwrap();
    for secret in [signature, good.split('.').nth(1).unwrap(), &ticket] {
        assert!(!log.contains(secret), "{log}");
    }
}

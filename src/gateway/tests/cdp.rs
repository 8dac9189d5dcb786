//! Automations: who gets in, what discovery says, what goes through, and how it ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::browser::{GUID, endpoint};
use super::support::*;
use crate::auth::{Claims, Role};
use crate::browser::Endpoint;

const ROUTE: &str = "/sessions/cdp/cdp";

fn token_for(role: Role) -> String {
    signed(&claims("cdp", Some(role), 600))
}

fn bearer(role: Role) -> String {
    format!("Authorization: Bearer {}\r\n", token_for(role))
}

async fn open(world: &World, path: &str, role: Role) -> Client {
    world.connect(&format!("{ROUTE}{path}"), &token_for(role)).await.unwrap()
}

async fn ask(client: &mut Client, command: Value) -> Value {
    client.send(Message::text(command.to_string())).await.unwrap();
    answer(client).await
}

/// The next text; pings in between are passed over.
async fn answer(client: &mut Client) -> Value {
    loop {
        match next(client).await {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Status and body of a request with the given header lines.
async fn fetch(world: &World, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!(
        "{method} {ROUTE}{path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
        world.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (status(head), body.to_owned())
}

#[tokio::test]
async fn discovery_leads_to_the_gateway_and_hides_what_may_not_be_acted_on() {
    let world = World::new().await;
    let automation = bearer(Role::Automation);
    let ours = format!("ws://{}{ROUTE}/devtools", world.address);
    for path in ["/json/version", "/json/version/"] {
        let (status, body) = fetch(&world, "GET", path, &automation).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["webSocketDebuggerUrl"]), (200, &json!(format!("{ours}/browser/{GUID}"))));
    }
    for (role, count) in [(Role::Automation, 1), (Role::Operator, 2)] {
        for path in ["/json", "/json/list/"] {
            let body = fetch(&world, "GET", path, &bearer(role)).await.1;
            assert!(!body.contains(&world.browser.address.port().to_string()), "{body}");
            let list: Vec<Value> = serde_json::from_str(&body).unwrap();
            assert_eq!(list.len(), count);
            assert_eq!(list[0]["webSocketDebuggerUrl"], format!("{ours}/page/A1"));
        }
    }
    assert_eq!(fetch(&world, "GET", "/json/protocol", &automation).await, (200, r#"{"domains":[]}"#.into()));
    assert_eq!(fetch(&world, "GET", "/json/close/A1", &automation).await.1, "Target is closing");
    assert_eq!(fetch(&world, "GET", "/json/activate/Z9", &automation).await.0, 404);
    let hosts = world.browser.requests.lock().unwrap().clone();
    let expected = format!("host: {}\r\n", world.browser.address);
    assert!(hosts.iter().all(|head| head.to_ascii_lowercase().contains(&expected)), "{hosts:?}");
}

#[tokio::test]
async fn a_new_target_is_made_for_a_url_that_may_be_opened_exactly_as_it_was_judged() {
    let world = World::new().await;
    let new = |url: &str| format!("/json/new?{url}");
    let (status, body) = fetch(&world, "PUT", &new("https://x/?a=%26b"), &bearer(Role::Automation)).await;
    assert_eq!(status, 200);
    assert!(body.contains(&format!("{ROUTE}/devtools/page/N1")), "{body}");
    for bad in ["file:///x", "fi%6ce:///x", "file%3a///x", "%20file:///x", "view-source:file:///x", "%ff"] {
        assert_eq!(fetch(&world, "PUT", &new(bad), &bearer(Role::Automation)).await.0, 403, "{bad}");
    }
    assert_eq!(fetch(&world, "PUT", &new("file:///x"), &bearer(Role::Operator)).await.0, 200);
    let seen = world.browser.requests.lock().unwrap().clone();
    let lines: Vec<&str> = seen.iter().filter_map(|head| head.lines().next()).collect();
    let expected =
        ["PUT /json/new?https%3A%2F%2Fx%2F%3Fa%3D%26b HTTP/1.1", "PUT /json/new?file%3A%2F%2F%2Fx HTTP/1.1"];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn how_the_gateway_is_called_is_taken_from_known_proxies_only() {
    let forwarded = "Forwarded: for=1.2.3.4;proto=https;host=h.example\r\nX-Forwarded-Prefix: /edge\r\n";
    let headers = format!("{}{forwarded}", bearer(Role::Automation));
    for (proxies, expected) in [(vec![], None), (vec!["127.0.0.0/8"], Some("wss://h.example/edge"))] {
        let mut config = config();
        config.trusted_proxies = proxies.iter().map(|text| text.parse().unwrap()).collect();
        let world = World::with(config, auth_config()).await;
        let body: Value =
            serde_json::from_str(&fetch(&world, "GET", "/json/version", &headers).await.1).unwrap();
        let base = expected.map_or_else(|| format!("ws://{}", world.address), str::to_owned);
        assert_eq!(body["webSocketDebuggerUrl"], format!("{base}{ROUTE}/devtools/browser/{GUID}"));
    }
}

#[tokio::test]
async fn only_automations_and_operators_get_in_and_by_each_way_to_carry_a_credential() {
    let world = World::new().await;
    for role in [Role::Spectator, Role::Controller] {
        assert_eq!(world.upgrade(ROUTE, &bearer(role)).await.0, 403, "{role}");
        assert_eq!(fetch(&world, "GET", "/json/version", &bearer(role)).await.0, 403, "{role}");
    }
    for (offer, answered) in [("cdp, ", "cdp"), ("binary, ", "binary"), ("", "")] {
        let headers = format!("Sec-WebSocket-Protocol: {offer}jwt.{}\r\n", token_for(Role::Automation));
        let (status, head) = world.upgrade(ROUTE, &headers).await;
        assert_eq!(status, 101, "{head}");
        let line = format!("\r\nsec-websocket-protocol: {answered}\r\n");
        assert_eq!(head.contains(&line), !answered.is_empty(), "{head}");
        world.metric("valetd_gateway_cdp_connections", "", 0.0).await;
    }
    let ticket = world.ticket_for("cdp", &token_for(Role::Automation)).await;
    let with_ticket = format!("{ROUTE}?ticket={ticket}");
    assert_eq!(fetch(&world, "GET", &format!("/json/version?ticket={ticket}"), "").await.0, 401);
    assert_eq!(world.upgrade(&with_ticket, "").await.0, 101);
    assert_eq!(world.upgrade(&with_ticket, "").await.0, 401);
    let foreign = format!("{}Origin: https://evil.example\r\n", bearer(Role::Automation));
    assert_eq!(world.upgrade(ROUTE, &foreign).await.0, 403);
    assert_eq!(fetch(&world, "GET", "/json/version", &foreign).await.0, 403);
    assert_eq!(world.request("GET", ROUTE, &bearer(Role::Automation)).await.0, 426);
    let origins = world.browser.requests.lock().unwrap().clone();
    assert!(origins.iter().all(|head| !head.to_ascii_lowercase().contains("\r\norigin:")));
}

#[tokio::test]
async fn what_is_not_there_is_refused_before_the_upgrade() {
    let mut auth = auth_config();
    auth.single_use = true;
    let world = World::with(config(), auth).await;
    let once = |id: &str| {
        let claims = Claims { jti: Some(id.into()), ..claims("cdp", Some(Role::Automation), 600) };
        format!("Authorization: Bearer {}\r\n", signed(&claims))
    };
    let page = |id: &str| format!("{ROUTE}/devtools/page/{id}");
    assert_eq!(world.upgrade(&page("Z9"), &once("a")).await.0, 404);
    assert_eq!(world.upgrade(&page("F1"), &once("a")).await.0, 404, "a file is nothing to act on");
    world.browser.devtools.send_replace(None);
    let (status, head) = world.upgrade(ROUTE, &once("a")).await;
    assert_eq!((status, head.contains("\r\nretry-after: 1\r\n")), (503, true), "{head}");
    // Gone, and its supervisor does not know yet.
    world.browser.devtools.send_replace(Some(endpoint(1)));
    assert_eq!(world.upgrade(ROUTE, &once("a")).await.0, 503);
    assert_eq!(fetch(&world, "GET", "/json/version", &once("b")).await.0, 503);
    // And somebody else listens in its place.
    let connections = world.browser.connections.load(Ordering::SeqCst);
    let browsers = Endpoint::new(world.browser.address.port(), nix::unistd::geteuid().as_raw() + 1);
    world.browser.devtools.send_replace(Some(browsers));
    assert_eq!(world.upgrade(ROUTE, &once("a")).await.0, 503);
    assert_eq!(fetch(&world, "GET", "/json/version", &once("e")).await.0, 503);
    assert_eq!(world.browser.connections.load(Ordering::SeqCst), connections, "it hears nothing");
    world.browser.devtools.send_replace(Some(endpoint(world.browser.address.port())));
    // A browser of another run.
    let old = format!("{ROUTE}/devtools/browser/00000000-0000-0000-0000-000000000000");
    assert_eq!(world.upgrade(&old, &once("a")).await.0, 101, "a refusal costs no token");
    assert_eq!(world.upgrade(ROUTE, &once("a")).await.0, 401);
    assert_eq!(fetch(&world, "GET", "/json/version", &once("c")).await.0, 200);
    assert_eq!(fetch(&world, "GET", "/json/version", &once("c")).await.0, 401);
    let without = format!(
        "Authorization: Bearer {}\r\n",
        signed(&Claims { jti: Some("d".into()), ..claims("s1", Some(Role::Automation), 600) })
    );
    assert_eq!(world.upgrade("/sessions/s1/cdp", &without).await.0, 404, "a session without a browser");
}

#[tokio::test]
async fn commands_and_answers_go_through_and_a_denied_one_is_answered_on_a_live_socket() {
    let world = World::new().await;
    let mut client = open(&world, "", Role::Automation).await;
    world.metric("valetd_gateway_cdp_connections", "", 1.0).await;
    let command = json!({ "id": 1, "method": "Runtime.evaluate", "params": { "expression": "é" } });
    assert_eq!(ask(&mut client, command).await, json!({ "id": 1, "result": { "expression": "é" } }));
    let denied = ask(&mut client, json!({ "id": 2, "method": "Browser.close", "sessionId": "S" })).await;
    let error = json!({ "code": -32000, "message": "'Browser.close' is not allowed" });
    assert_eq!(denied, json!({ "id": 2, "error": error, "sessionId": "S" }));
    let params = json!({ "behavior": "allow", "downloadPath": "/tmp/x" });
    let replaced =
        ask(&mut client, json!({ "id": 3, "method": "Browser.setDownloadBehavior", "params": params })).await;
    assert_eq!(replaced["result"]["downloadPath"], "/s/home/Downloads");
    client.send(Message::Binary(br#"{"id":4,"method":"Browser.crash"}"#.to_vec().into())).await.unwrap();
    assert_eq!(answer(&mut client).await["error"]["code"], -32000, "binary is judged as well");
    for part in [Frame::message("nonsense", OpCode::Data(Data::Text), true)] {
        client.send(Message::Frame(part)).await.unwrap();
    }
    assert_eq!(answer(&mut client).await["error"]["code"], -32600);
    world.metric("valetd_gateway_cdp_denied_total", "method", 2.0).await;
    world.metric("valetd_gateway_cdp_denied_total", "unclear", 1.0).await;
    assert!(!world.browser.seen("Browser.close") && world.browser.seen("Browser.setDownloadBehavior"));
    let mut operator = open(&world, "", Role::Operator).await;
    assert_eq!(
        ask(&mut operator, json!({ "id": 1, "method": "Browser.close", "params": {} })).await["id"],
        1
    );
    assert!(world.browser.seen("Browser.close"));
    client.close(None).await.unwrap();
    world.metric("valetd_gateway_cdp_closes_total", "left", 1.0).await;
}

#[tokio::test]
async fn a_target_that_shows_a_file_cannot_be_acted_on_once_attached() {
    let world = World::new().await;
    let mut client = open(&world, "/devtools/page/A1", Role::Automation).await;
    for (session, url, allowed) in [("S1", "file:///etc/passwd", false), ("S2", "https://example.org/", true)]
    {
        let params = json!({ "sessionId": session, "url": url });
        let event = ask(&mut client, json!({ "id": 1, "method": "Test.attach", "params": params })).await;
        assert_eq!(event["params"]["sessionId"], session);
        let command = json!({ "id": 2, "method": "Runtime.evaluate", "sessionId": session });
        assert_eq!(ask(&mut client, command).await.get("error").is_none(), allowed, "{url}");
    }
    world.metric("valetd_gateway_cdp_denied_total", "target", 1.0).await;
}

#[tokio::test]
async fn an_answer_of_ours_waits_for_the_end_of_the_browsers_message() {
    let world = World::new().await;
    let mut client = open(&world, "", Role::Automation).await;
    for message in [
        r#"{"id":1,"method":"Test.half"}"#,
        r#"{"id":2,"method":"Browser.close"}"#,
        r#"{"id":3,"method":"Test.rest"}"#,
    ] {
        client.send(Message::text(message)).await.unwrap();
        while !world.browser.seen("Test.half") {
            tokio::task::yield_now().await;
        }
    }
    // The client's library would refuse a message inside another.
    assert_eq!(answer(&mut client).await, json!("half"));
    assert_eq!(answer(&mut client).await["id"], 2);
}

#[tokio::test]
async fn an_answer_of_ours_does_not_wait_for_a_busy_browser_to_fall_silent() {
    let world = World::new().await;
    let mut client = open(&world, "", Role::Automation).await;
    client.send(Message::text(r#"{"id":1,"method":"Test.flood"}"#)).await.unwrap();
    next(&mut client).await;
    client.send(Message::text(r#"{"id":2,"method":"Browser.close"}"#)).await.unwrap();
    for _ in 0..200 {
        if let Message::Text(text) = next(&mut client).await
            && text.starts_with(r#"{"id":2,"error""#)
        {
            return;
        }
    }
    panic!("no answer among 200 messages");
}

#[tokio::test]
async fn large_messages_go_both_ways_in_one_frame_or_in_many() {
    let world = World::new().await;
    let request = {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
        let mut request = format!("ws://{}{ROUTE}", world.address).into_client_request().unwrap();
        let bearer = format!("Bearer {}", token_for(Role::Automation));
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        request
    };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut client, _) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.unwrap();
    let length = 20_000_000;
    let down =
        ask(&mut client, json!({ "id": 1, "method": "Test.big", "params": { "length": length } })).await;
    assert_eq!(down["result"].as_str().unwrap().len(), length);
    let command = json!({ "id": 2, "method": "Test.length", "params": "x".repeat(length) }).to_string();
    client.send(Message::text(command.clone())).await.unwrap();
    assert_eq!(answer(&mut client).await["result"], command.len());
    let pieces: Vec<&[u8]> = command.as_bytes().chunks(1_000_000).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let opcode = if at == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(piece.to_vec(), OpCode::Data(opcode), at + 1 == pieces.len());
        client.send(Message::Frame(frame)).await.unwrap();
    }
    assert_eq!(answer(&mut client).await["result"], command.len());
    let long = Message::text("x".repeat(100 * 1024 * 1024 + 1));
    // The far end may close before it has taken all of it.
    let _closed_early = client.send(long).await;
    assert_eq!(close_code(&mut client).await, 1008);
}

/// What a client is closed with when `end` comes to pass.
async fn closed_by(world: &World, path: &str, end: impl AsyncFnOnce(&World, &mut Client)) -> u16 {
    let mut client = open(world, path, Role::Automation).await;
    end(world, &mut client).await;
    let code = close_code(&mut client).await;
    drop(client);
    world.metric("valetd_gateway_cdp_connections", "", 0.0).await;
    code
}

#[tokio::test]
async fn each_end_has_its_code() {
    let leave = async |_: &World, client: &mut Client| {
        client.send(Message::text(r#"{"id":1,"method":"Test.leave"}"#)).await.unwrap();
    };
    let world = World::new().await;
    let port = world.browser.address.port();
    assert_eq!(closed_by(&world, "", leave).await, 1012);
    assert_eq!(closed_by(&world, "/devtools/page/A1", leave).await, 1000);
    for path in ["", "/devtools/page/A1"] {
        let restart = async |world: &World, _: &mut Client| {
            world.browser.devtools.send_replace(None);
        };
        assert_eq!(closed_by(&world, path, restart).await, 1012);
        world.browser.devtools.send_replace(Some(endpoint(port)));
    }
    let expiring = signed(&claims("cdp", Some(Role::Automation), 2));
    let mut expiring = world.connect(ROUTE, &expiring).await.unwrap();
    assert_eq!(close_code(&mut expiring).await, 4401);
    let end = async |world: &World, _: &mut Client| world.browser.end_session();
    assert_eq!(closed_by(&world, "", end).await, 4410);
    let world = World::new().await;
    let drain = async |world: &World, _: &mut Client| world.drain.cancel();
    assert_eq!(closed_by(&world, "", drain).await, 1001);
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_message_comes_behind_its_frame() {
    let world = World::new().await;
    let half = async |world: &World, client: &mut Client| {
        client.send(Message::text(r#"{"id":1,"method":"Test.half"}"#)).await.unwrap();
        while !world.browser.seen("Test.half") {
            tokio::task::yield_now().await;
        }
        world.browser.devtools.send_replace(None);
    };
    assert_eq!(closed_by(&world, "", half).await, 1012);
}

#[tokio::test]
async fn what_a_client_may_not_send_closes_it() {
    let world = World::new().await;
    for bytes in [&b"\x81\x01x"[..], b"\x83\x80\0\0\0\0", b"\xc1\x80\0\0\0\0", b"\x80\x80\0\0\0\0"] {
        let mut client = open(&world, "", Role::Operator).await;
        client.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(close_code(&mut client).await, 1008, "{bytes:x?}");
    }
}

#[tokio::test]
async fn there_are_as_many_connections_as_there_may_be_and_places_come_back() {
    let world = World::new().await;
    let first = open(&world, "", Role::Automation).await;
    let _second = open(&world, "/devtools/page/A1", Role::Operator).await;
    let (status, head) = world.upgrade(ROUTE, &bearer(Role::Automation)).await;
    assert_eq!((status, head.contains("\r\nretry-after: 5\r\n")), (429, true));
    drop(first.into_inner());
    world.metric("valetd_gateway_cdp_connections", "", 1.0).await;
    assert_eq!(world.upgrade(ROUTE, &bearer(Role::Automation)).await.0, 101);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_put_out_and_the_others_go_on() {
    let mut config = config();
    config.limits.send_deadline = Duration::from_millis(300);
    let world = World::with(config, auth_config()).await;
    let mut slow = open(&world, "", Role::Automation).await;
    let mut other = open(&world, "", Role::Automation).await;
    slow.send(Message::text(r#"{"id":1,"method":"Test.flood"}"#)).await.unwrap();
    world.metric("valetd_gateway_cdp_closes_total", "too_slow", 1.0).await;
    assert_eq!(ask(&mut other, json!({ "id": 1, "method": "A.b", "params": {} })).await["id"], 1);
}

#[tokio::test]
async fn pings_are_sent_and_answered_and_silence_ends_the_connection() {
    let mut config = config();
    config.limits.ping_interval = Duration::from_millis(100);
    config.limits.pong_deadline = Duration::from_millis(400);
    let world = World::with(config, auth_config()).await;
    let mut polite = open(&world, "", Role::Automation).await;
    for _ in 0..3 {
        assert!(matches!(next(&mut polite).await, Message::Ping(_)));
    }
    polite.send(Message::Ping("x".into())).await.unwrap();
    while next(&mut polite).await != Message::Pong("x".into()) {}
    // A client that is not read answers no ping.
    let mut silent = open(&world, "", Role::Automation).await;
    let metric = world.metric("valetd_gateway_cdp_closes_total", "no_pong", 1.0);
    let polite_goes_on = async { while polite.next().await.is_some() {} };
    tokio::select! {
        () = metric => {}
        () = polite_goes_on => panic!("the polite client was closed"),
    }
    assert_eq!(close_code(&mut silent).await, 1008);
    assert_eq!(world.browser.connections.load(Ordering::SeqCst), 4, "two questions and two sockets");
}

//! A stand-in for a browser's DevTools port: discovery as Chromium answers it, and targets that answer every command.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::browser::Endpoint;
use crate::session::{SessionState, SessionStatus};
use crate::tasks::Scope;

pub(super) const GUID: &str = "9b41696a-815b-4707-972c-af21f1404b8c";

/// A browser and its session's view of it.
pub(super) struct Browser {
    pub(super) devtools: watch::Sender<Option<Endpoint>>,
    pub(super) status: watch::Sender<SessionStatus>,
    pub(super) address: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    /// Request lines, and lower-cased heads of upgrades.
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    /// Methods of the commands that came.
    pub(super) methods: Arc<Mutex<Vec<String>>>,
}

/// DevTools of this very process.
pub(super) fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(port, nix::unistd::geteuid().as_raw())
}

impl Browser {
    pub(super) async fn start(scope: &mut Scope) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = SessionStatus { state: SessionState::Ready, ready: None, end: None, components: vec![] };
        let browser = Self {
            devtools: watch::Sender::new(Some(endpoint(address.port()))),
            status: watch::Sender::new(status),
            address,
            connections: Arc::default(),
            requests: Arc::default(),
            methods: Arc::default(),
        };
        let (connections, requests, methods) =
            (Arc::clone(&browser.connections), Arc::clone(&browser.requests), Arc::clone(&browser.methods));
        scope.spawn("browser", async move {
            let mut scope = Scope::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (requests, methods) = (Arc::clone(&requests), Arc::clone(&methods));
                scope.spawn("browser connection", connection(stream, address, requests, methods));
            }
        });
        browser
    }

    pub(super) fn seen(&self, method: &str) -> bool {
        self.methods.lock().unwrap().iter().any(|seen| seen == method)
    }

    pub(super) fn end_session(&self) {
        self.status.send_modify(|status| status.state = SessionState::Draining);
    }
}

async fn connection(
    mut stream: TcpStream,
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    methods: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap().push(head.clone());
    let key = head.lines().find_map(|line| {
        line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
    });
    let known = [format!("/devtools/browser/{GUID}"), "/devtools/page/A1".into(), "/devtools/page/F1".into()];
    let (status, body) = match key {
        Some((_, key)) if known.contains(&path) => {
            let accept = derive_accept_key(key.as_bytes());
            let text = format!(
                "HTTP/1.1 101 X\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            return target(stream, &methods).await;
        }
        Some(_) => (500, "No such target id".to_owned()),
        None => answer(&path, address),
    };
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    let _gone = stream.read_u8().await;
}

/// Answers commands with what they ask for in `params`; some methods do something else.
async fn target(stream: TcpStream, methods: &Mutex<Vec<String>>) {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let command: Value = serde_json::from_str(&text).unwrap();
        let method = command["method"].as_str().unwrap_or_default().to_owned();
        methods.lock().unwrap().push(method.clone());
        let result =
            |value: Value| Message::text(json!({ "id": command["id"], "result": value }).to_string());
        let sent = match method.as_str() {
            "Test.leave" => return,
            "Test.length" => socket.send(result(json!(text.len()))).await,
            "Test.big" => {
                let length = usize::try_from(command["params"]["length"].as_u64().unwrap()).unwrap();
                socket.send(result(json!("x".repeat(length)))).await
            }
            "Test.flood" => {
                let noise = "x".repeat(256 * 1024);
                while socket.send(Message::text(noise.clone())).await.is_ok() {}
                return;
            }
            "Test.attach" => {
                let info = json!({ "targetId": "T", "type": "page", "url": command["params"]["url"] });
                let params = json!({ "sessionId": command["params"]["sessionId"], "targetInfo": info });
                let event = format!(r#"{{"method":"Target.attachedToTarget","params":{params}}}"#);
                socket.send(Message::text(event)).await
            }
            // The first half of a message; the next command brings the other.
            "Test.half" => {
                socket.send(Message::Frame(Frame::message("\"ha", OpCode::Data(Data::Text), false))).await
            }
            "Test.rest" => {
                socket.send(Message::Frame(Frame::message("lf\"", OpCode::Data(Data::Continue), true))).await
            }
            _ => socket.send(result(command["params"].clone())).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(path: &str, address: SocketAddr) -> (u16, String) {
    let target = |id: &str, url: &str| {
        json!({
            "id": id, "type": "page", "url": url, "devtoolsFrontendUrl": format!("https://x/?ws={address}"),
            "webSocketDebuggerUrl": format!("ws://{address}/devtools/page/{id}"),
        })
    };
    let body = match path {
        "/json/version" => json!({
            "Browser": "Stand-in/1",
            "webSocketDebuggerUrl": format!("ws://{address}/devtools/browser/{GUID}"),
        }),
        "/json/list" => json!([target("A1", "https://example.org/"), target("F1", "file:///etc/passwd")]),
        "/json/protocol" => json!({ "domains": [] }),
        path if path.starts_with("/json/new?") => target("N1", "https://example.org/new"),
        "/json/close/A1" => return (200, "Target is closing".into()),
        _ => return (404, "No such target id".into()),
    };
    (200, body.to_string())
}

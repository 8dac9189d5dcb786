//! The host API over the control socket, and a DevTools connection through the gateway: what a control plane and an
//! automation use.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket, client};

/// For any answer; a session that is waited for may take its time on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// A client of the host API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HostApi {
    socket: PathBuf,
}

impl HostApi {
    /// On the control socket at `path`.
    pub(crate) fn on(path: impl AsRef<Path>) -> Self {
        Self { socket: path.as_ref().to_owned() }
    }

    /// Any request: status and JSON, `null` for an empty answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    /// A session of that id that is ready, of user `u1`.
    pub(crate) fn create(&self, id: &str) -> Value {
        self.create_with(&json!({ "session_id": id, "user_id": "u1" }))
    }

    /// A session as `request` asks for it, ready.
    pub(crate) fn create_with(&self, request: &Value) -> Value {
        let (status, session) = self.ask("POST", "/v1/sessions?wait=ready&timeout=60s", request);
        assert_eq!((status, &session["state"]), (201, &json!("ready")), "{session}");
        session
    }

    /// The session as it is now.
    pub(crate) fn session(&self, id: &str) -> Value {
        self.ask("GET", &format!("/v1/sessions/{id}"), &Value::Null).1
    }

    /// Ends a session and waits until nothing of it is left.
    pub(crate) fn end(&self, id: &str) -> Value {
        let (status, session) = self.ask("DELETE", &format!("/v1/sessions/{id}?wait=ended"), &Value::Null);
        assert_eq!((status, &session["state"]), (200, &json!("stopped")), "{session}");
        session
    }

    /// The main process of a part of a session.
    pub(crate) fn pid(&self, id: &str, part: &str) -> Option<i32> {
        let session = self.session(id);
        let part = session["components"].as_array()?.iter().find(|component| component["name"] == part)?;
        part["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }
}

/// A connection to a session's browser target.
pub(crate) struct Automation {
    socket: WebSocket<TcpStream>,
    last_id: u64,
}

impl Automation {
    /// Upgrades; `Err` is the status of a refusal.
    pub(crate) fn connect(gateway: SocketAddr, session: &str, token: &str) -> Result<Self, u16> {
        let mut request = format!("ws://{gateway}/sessions/{session}/cdp").into_client_request().unwrap();
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
        let stream = TcpStream::connect(gateway).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        match client(request, stream) {
            Ok((socket, _response)) => Ok(Self { socket, last_id: 0 }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    /// Sends a command and gives its whole answer; `Err` is the code with which the connection was closed.
    pub(crate) fn command(&mut self, method: &str, params: &Value) -> Result<Value, u16> {
        self.last_id += 1;
        let message = json!({ "id": self.last_id, "method": method, "params": params });
        if self.socket.send(Message::text(message.to_string())).is_err() {
            return self.close_code();
        }
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let answer: Value = serde_json::from_str(&text).unwrap();
                    if answer["id"] == self.last_id {
                        return Ok(answer);
                    }
                }
                Ok(Message::Close(frame)) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Ok(_control) => {}
                Err(_gone) => return Err(1006),
            }
        }
    }

    fn close_code(&mut self) -> Result<Value, u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Ok(_) => {}
                Err(_gone) => return Err(1006),
            }
        }
    }
}

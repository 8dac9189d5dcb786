//! A small automation: CDP over a WebSocket, with nothing of the daemon's own code in it.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::client::client_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::viewer::DEADLINE;
use super::wait_for;

/// A connection to a target.
pub(crate) struct Automation {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// Events that came while an answer was waited for.
    pub(crate) events: Vec<Value>,
}

impl Automation {
    /// Opens a WebSocket with header lines; `Err` is the HTTP status of a refusal.
    pub(crate) fn connect(
        gateway: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let mut request = format!("ws://{gateway}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(gateway).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => Ok(Self { socket, last_id: 0, events: Vec::new() }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    /// Sends a command and waits for its answer, `result` or `error` in it.
    pub(crate) fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.socket.send(Message::text(command.to_string())).unwrap();
        loop {
            let message = self.message().unwrap_or_else(|code| panic!("{method}: closed with {code}"));
            if message["id"] == self.last_id {
                return message;
            }
            self.events.push(message);
        }
    }

    /// The same where no error is expected.
    pub(crate) fn result(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        let mut answer = self.call(session, method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Waits for an event, those that have come already included.
    pub(crate) fn event(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.events.iter().position(&matches) {
                return self.events.remove(at);
            }
            assert!(Instant::now() < end, "no {what} in {:#?}", self.events);
            let message = self.message().unwrap_or_else(|code| panic!("{what}: closed with {code}"));
            self.events.push(message);
        }
    }

    /// Opens a page, attaches to it and waits until it is there: what a script does in the empty one before it is lost.
    /// The id of the protocol session.
    pub(crate) fn page(&mut self, url: &str) -> String {
        let target = self.result(None, "Target.createTarget", json!({ "url": url }));
        let params = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.result(None, "Target.attachToTarget", params);
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        let is_there = format!("location.href === '{url}' && document.readyState === 'complete'");
        let look = json!({ "expression": is_there });
        wait_for("the page", DEADLINE, || {
            // An error where the navigation came in between.
            let answer = self.call(Some(&session), "Runtime.evaluate", look.clone());
            (answer["result"]["result"]["value"] == true).then_some(())
        });
        session
    }

    /// The value of an expression in a page.
    pub(crate) fn evaluate(&mut self, session: &str, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.result(Some(session), "Runtime.evaluate", params)["result"]["value"].take()
    }

    /// Sends text as it is, which need not be a command.
    pub(crate) fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text.to_owned())).unwrap();
    }

    /// The next message, or the close code of the end.
    pub(crate) fn message(&mut self) -> Result<Value, u16> {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                // Pings come for as long as the connection is up, and are no news.
                Ok(_control) => assert!(Instant::now() < end, "nothing but pings for {DEADLINE:?}"),
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing for {DEADLINE:?}")
                }
                Err(_gone) => return Err(1006),
            }
        }
    }

    /// Reads on to the end and gives its close code.
    pub(crate) fn close_code(&mut self, deadline: Duration) -> u16 {
        self.socket.get_ref().set_read_timeout(Some(deadline)).unwrap();
        loop {
            if let Err(code) = self.message() {
                return code;
            }
        }
    }
}

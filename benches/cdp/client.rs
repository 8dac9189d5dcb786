//! A CDP client that does as little as it can with what it gets.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::{IntoClientRequest as _, client_with_config};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::Outcome;

/// For any single answer.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    last_id: u64,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, path: &str, token: Option<&str>) -> Outcome<Self> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        if let Some(token) = token {
            request.headers_mut().insert("Authorization", format!("Bearer {token}").parse()?);
        }
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _response) =
            client_with_config(request, stream, Some(config)).map_err(|error| error.to_string())?;
        Ok(Self { socket, last_id: 0 })
    }

    /// Sends a command and waits for its result.
    pub(crate) fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Outcome<Value> {
        let mut answer: Value = serde_json::from_str(&self.exchange(session, method, params)?)?;
        if let Some(error) = answer.get("error") {
            return Err(format!("{method}: {error}").into());
        }
        Ok(answer["result"].take())
    }

    /// The same, for the length of its answer: reading a screenshot would cost more than getting it.
    pub(crate) fn length_of(&mut self, session: Option<&str>, method: &str, params: Value) -> Outcome<f64> {
        let answer = self.exchange(session, method, params)?;
        Ok(answer.len() as f64)
    }

    fn exchange(&mut self, session: Option<&str>, method: &str, params: Value) -> Outcome<String> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.socket.send(Message::text(command.to_string()))?;
        let start = format!("{{\"id\":{},", self.last_id);
        loop {
            if let Message::Text(text) = self.socket.read()?
                && text.starts_with(&start)
            {
                return Ok(text.as_str().to_owned());
            }
        }
    }
}

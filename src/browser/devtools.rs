//! A DevTools client that can ask a browser how it is, have it open a page or close, and hear of its tabs.

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use super::endpoint::Endpoint;
use crate::cdp::discovery;
use crate::http;

/// `/json/version` is a few hundred bytes.
const MAX_VERSION_BYTES: usize = 64 * 1024;
/// Answers to `Browser.getVersion` are a few hundred bytes, and without a domain enabled no events come.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// News of a tab holds its address, and Chromium takes addresses of 2 MiB.
const MAX_NEWS_BYTES: usize = 8 << 20;

/// Why the browser did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The browser cannot be reached, or the connection broke.
    #[error("cannot talk to the DevTools port")]
    Io(#[from] std::io::Error),
    /// The HTTP side failed.
    #[error("no answer to GET /json/version")]
    Http(#[from] http::GetError),
    /// `/json/version` was not what it should be.
    #[error("/json/version: {0}")]
    Version(String),
    /// The WebSocket side failed.
    #[error("the DevTools WebSocket failed")]
    WebSocket(#[from] Box<tungstenite::Error>),
    /// The browser hung up.
    #[error("the browser closed the DevTools connection")]
    Closed,
    /// The command was answered with an error.
    #[error("the browser answered {method} with {message:?}")]
    Command {
        /// What was asked.
        method: &'static str,
        /// What it said.
        message: String,
    },
}

impl Error {
    /// Whether somebody else listens where the browser should.
    pub fn is_displaced(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
    }
}

#[derive(Deserialize)]
struct Answer {
    id: Option<u64>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    message: String,
}

/// A connection to the browser target.
pub struct Client {
    endpoint: Endpoint,
    socket: WebSocketStream<TcpStream>,
    last_id: u64,
}

impl Client {
    /// Connects to a browser. No `Origin` is sent: Chromium refuses those it does not know.
    ///
    /// # Errors
    /// When it does not listen there, or is no browser.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, Error> {
        Self::connect_with(endpoint, MAX_MESSAGE_BYTES).await
    }

    /// The same with room for news of tabs, and for lists of them.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_for_news(endpoint: Endpoint) -> Result<Self, Error> {
        Self::connect_with(endpoint, MAX_NEWS_BYTES).await
    }

    async fn connect_with(endpoint: Endpoint, max_message: usize) -> Result<Self, Error> {
        let path = browser_path(endpoint).await?;
        let stream = endpoint.connect().await?;
        stream.set_nodelay(true)?;
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = 4096;
        config.write_buffer_size = 0;
        config.max_write_buffer_size = MAX_MESSAGE_BYTES;
        config.max_message_size = Some(max_message);
        config.max_frame_size = Some(max_message);
        let url = format!("ws://{}{path}", endpoint.address());
        let (socket, _response) =
            tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await.map_err(Box::new)?;
        Ok(Self { endpoint, socket, last_id: 0 })
    }

    /// What it is connected to.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// One round trip through the browser's main thread. Not cancel safe: after a timeout, connect anew.
    ///
    /// # Errors
    /// When the connection broke or the command was refused.
    pub async fn get_version(&mut self) -> Result<(), Error> {
        self.command("Browser.getVersion", &json!({})).await.map(drop)
    }

    /// Asks the browser to save everything and end.
    ///
    /// # Errors
    /// When the connection broke before the answer.
    pub async fn close_browser(&mut self) -> Result<(), Error> {
        match self.command("Browser.close", &json!({})).await {
            // It may be gone before the answer is out.
            Err(Error::Closed | Error::WebSocket(_)) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Has the first tab go to `url`; returns when it has set out, which is before it has arrived.
    ///
    /// # Errors
    /// When there is no tab, the connection broke or the browser refused.
    pub async fn open(&mut self, url: &str) -> Result<(), Error> {
        let pages = self.command("Target.getTargets", &json!({ "filter": [{ "type": "page" }] })).await?;
        let method = "Target.attachToTarget";
        let nothing = |what: &str| Error::Command { method, message: format!("no {what}") };
        let page = pages["targetInfos"][0]["targetId"].as_str().ok_or_else(|| nothing("page"))?;
        let attached = self.command(method, &json!({ "targetId": page, "flatten": true })).await?;
        let session = attached["sessionId"].as_str().ok_or_else(|| nothing("session"))?.to_owned();
        self.send("Page.navigate", &json!({ "url": url }), Some(&session)).await?;
        let navigation = self.last_id;
        // Its answer comes with the site's. The browser takes commands in order: with an answer to the next one, it has begun.
        self.send("Browser.getVersion", &json!({}), None).await?;
        loop {
            match self.next().await? {
                Answer { id: Some(id), error: Some(AnswerError { message }), .. } if id == navigation => {
                    return Err(Error::Command { method: "Page.navigate", message });
                }
                Answer { id: Some(id), .. } if id == self.last_id => return Ok(()),
                _ => {}
            }
        }
    }

    /// Which contexts and targets there are: the results of `Target.getBrowserContexts` and `Target.getTargets`.
    ///
    /// # Errors
    /// As [`Client::get_version`].
    pub async fn survey(&mut self) -> Result<(Value, Value), Error> {
        let contexts = self.command("Target.getBrowserContexts", &json!({})).await?;
        let targets = self.command("Target.getTargets", &json!({ "filter": [{}] })).await?;
        Ok((contexts, targets))
    }

    /// Opens an empty page beside those that there are.
    ///
    /// # Errors
    /// As [`Client::get_version`].
    pub async fn open_empty(&mut self) -> Result<(), Error> {
        self.command("Target.createTarget", &json!({ "url": "about:blank" })).await.map(drop)
    }

    /// Has the browser tell of its tabs, those that are there and those that come.
    ///
    /// # Errors
    /// As [`Client::get_version`].
    pub(super) async fn discover_tabs(&mut self) -> Result<(), Error> {
        let tabs = json!({ "discover": true, "filter": [{ "type": "page" }] });
        self.command("Target.setDiscoverTargets", &tabs).await.map(drop)
    }

    /// The next event: its method and parameters.
    ///
    /// # Errors
    /// When the connection is over.
    pub(super) async fn next_event(&mut self) -> Result<(String, Value), Error> {
        loop {
            if let Answer { method: Some(method), params, .. } = self.next().await? {
                return Ok((method, params));
            }
        }
    }

    async fn command(&mut self, method: &'static str, params: &Value) -> Result<Value, Error> {
        self.send(method, params, None).await?;
        self.answer(method).await
    }

    async fn send(&mut self, method: &str, params: &Value, session: Option<&str>) -> Result<(), Error> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.socket.send(Message::text(message.to_string())).await.map_err(Box::new)?;
        Ok(())
    }

    /// The answer to the last command.
    async fn answer(&mut self, method: &'static str) -> Result<Value, Error> {
        loop {
            let answer = self.next().await?;
            if answer.id == Some(self.last_id) {
                return match answer.error {
                    None => Ok(answer.result),
                    Some(AnswerError { message }) => Err(Error::Command { method, message }),
                };
            }
        }
    }

    async fn next(&mut self) -> Result<Answer, Error> {
        while let Some(message) = self.socket.next().await {
            if let Message::Text(text) = message.map_err(Box::new)? {
                return serde_json::from_str(&text).map_err(|error| Error::Version(error.to_string()));
            }
        }
        Err(Error::Closed)
    }
}

/// The path of a browser's own target, `/devtools/browser/…`, which no other browser has. The caller sets the deadline.
///
/// # Errors
/// When it does not listen there, or is no browser.
pub async fn browser_path(endpoint: Endpoint) -> Result<String, Error> {
    let stream = endpoint.connect().await?;
    let version =
        http::get(stream, &endpoint.address().to_string(), "/json/version", MAX_VERSION_BYTES).await?;
    discovery::browser_path(&version)
        .ok_or_else(|| Error::Version("no webSocketDebuggerUrl of a browser".to_owned()))
}

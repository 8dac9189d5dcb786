//! The host API over the control socket, as a control plane uses it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

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

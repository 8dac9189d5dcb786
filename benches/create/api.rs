//! The host API over the control socket, as far as the bench needs it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::{Outcome, rest};

/// For any answer, and for a spare to be ready.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Api {
    socket: PathBuf,
}

impl Api {
    pub(crate) fn of(daemon: &mut Daemon) -> Outcome<Self> {
        Ok(Self { socket: daemon.listening("api")?["socket"].as_str().unwrap_or_default().into() })
    }

    /// Creates a session that begins with `page`, where one is given, and waits until it is ready; the session, and how long
    /// that took.
    pub(crate) fn create(&self, page: Option<&str>) -> Outcome<(Value, Duration)> {
        let mut body = json!({ "user_id": "bench", "kind": "chromium" });
        if let Some(page) = page {
            body["start_url"] = page.into();
        }
        let body = body.to_string();
        let asked = Instant::now();
        let (status, session) = self.ask("POST", "/v1/sessions?wait=ready", &body)?;
        let took = asked.elapsed();
        if status != 201 || session["state"] != "ready" {
            return Err(format!("no session: {status} {session}").into());
        }
        Ok((session, took))
    }

    /// Ends a session and waits until it is gone.
    pub(crate) fn delete(&self, id: &str) -> Outcome<()> {
        match self.ask("DELETE", &format!("/v1/sessions/{id}?wait=ended"), "")? {
            (200, _) => Ok(()),
            (status, answer) => Err(format!("not ended: {status} {answer}").into()),
        }
    }

    pub(crate) fn wait_for_spare(&self) -> Outcome<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (_, capacity) = self.ask("GET", "/v1/capacity", "")?;
            if capacity["spares"]["browsers"].as_u64() > Some(0) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("no spare: {capacity}").into());
            }
            rest(Duration::from_millis(20));
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Outcome<(u16, Value)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without an end of its head")?;
        let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }
}

//! The host API, asked over both of its listeners with nothing of the daemon's own code.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::Daemon;

/// For any single answer; the longest wait that the API allows, and some.
const DEADLINE: Duration = Duration::from_secs(140);

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// `null` where it is no JSON.
    pub(crate) json: Value,
}

impl Answer {
    /// The name in a problem's type.
    pub(crate) fn problem(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        self.json["type"].as_str().unwrap().strip_prefix("urn:valetd:problem:").unwrap()
    }

    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status, headers, json: serde_json::from_str(body).unwrap_or_default() }
    }
}

fn request_text(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            text.push_str("Content-Type: application/json\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    format!("{text}\r\n{}", body.unwrap_or_default())
}

fn exchange(mut stream: impl Read + Write, text: &str) -> Answer {
    // A server that refuses early may not read all of it.
    let _sent = stream.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let _end = stream.read_to_end(&mut answer);
    Answer::parse(&String::from_utf8_lossy(&answer))
}

fn ask_at(address: SocketAddr, text: &str) -> Answer {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    exchange(stream, text)
}

impl Daemon {
    /// Asks on the Unix socket.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_with(method, path, &[], body)
    }

    /// The same with headers.
    pub(crate) fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let stream = std::os::unix::net::UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let body = body.map(Value::to_string);
        exchange(stream, &request_text(method, path, headers, body.as_deref()))
    }

    /// Asks on TCP.
    pub(crate) fn ask_tcp(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        ask_at(self.api(), &request_text(method, path, headers, body))
    }

    /// Asks the gateway.
    pub(crate) fn ask_gateway(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        ask_at(self.gateway(), &request_text(method, path, headers, body))
    }

    /// Listens to events on the Unix socket.
    pub(crate) fn listen(&self, path: &str, last: Option<&str>) -> Listener {
        let mut stream = std::os::unix::net::UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let headers: Vec<_> = last.map(|last| ("Last-Event-ID", last)).into_iter().collect();
        stream.write_all(request_text("GET", path, &headers, None).as_bytes()).unwrap();
        Listener { lines: BufReader::new(stream), line: Vec::new() }
    }
}

/// A server-sent event.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SentEvent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// Reads a stream of events line by line. What a chunk's head looks like is no field's name, and falls through.
pub(crate) struct Listener {
    lines: BufReader<std::os::unix::net::UnixStream>,
    line: Vec<u8>,
}

impl Listener {
    /// The next event for which `matches` holds, or `None` when the stream ends before.
    pub(crate) fn next(
        &mut self,
        deadline: Duration,
        matches: impl Fn(&SentEvent) -> bool,
    ) -> Option<SentEvent> {
        let end = Instant::now() + deadline;
        let mut event = SentEvent::default();
        loop {
            match self.lines.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.ends_with(b"\n") => {}
                Ok(_) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "no such event within {deadline:?}");
                    continue;
                }
                Err(error) => panic!("the stream broke: {error}"),
            }
            let line = String::from_utf8(std::mem::take(&mut self.line)).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", name)) => event.event = name.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if line == "\n" => {
                    let done = std::mem::take(&mut event);
                    if !done.event.is_empty() && matches(&done) {
                        return Some(done);
                    }
                }
                _ => {}
            }
        }
    }
}

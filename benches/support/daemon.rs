//! A `valetd run` with a configuration and directories of its own.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::Process;
use super::{home, rest};
use crate::Outcome;

/// For a cold Chromium on a loaded machine.
pub(crate) const READY: Duration = Duration::from_secs(60);
/// Lines of the log that are kept for when something fails.
const LAST_LINES: usize = 20;

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    log: Arc<Mutex<Log>>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct Log {
    last: VecDeque<String>,
    listening: Vec<Value>,
}

impl Daemon {
    /// Starts it with `configuration` on top of what all have, and waits until it says that it is ready.
    pub(crate) fn start(configuration: &str) -> Outcome<Self> {
        let dir = home::directory()?;
        let config = home::configure(dir.path(), &[configuration])?;
        let args = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
        let mut process = Process::start(env!("CARGO_BIN_EXE_valetd"), &args)?;
        let log = Arc::new(Mutex::new(Log::default()));
        if let Some(stderr) = process.take_stderr() {
            let log = Arc::clone(&log);
            // Nobody joins it: it ends when the daemon does.
            thread::Builder::new().name("daemon log".into()).spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    log.lock().unwrap_or_else(PoisonError::into_inner).take(line);
                }
            })?;
        }
        let mut daemon = Self { process, log, _dir: dir };
        let api = address(&daemon.listening("api")?)?;
        let deadline = Instant::now() + READY;
        while !get(api, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
            daemon.check_alive(deadline, "ready")?;
        }
        Ok(daemon)
    }

    /// What its log says of a listener.
    pub(crate) fn listening(&mut self, listener: &str) -> Outcome<Value> {
        let deadline = Instant::now() + READY;
        loop {
            let found = {
                let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                log.listening.iter().find(|record| record["listener"] == listener).cloned()
            };
            if let Some(record) = found {
                return Ok(record);
            }
            self.check_alive(deadline, listener)?;
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.last.iter().fold(String::new(), |mut text, line| {
            let _infallible = writeln!(text, "  {line}");
            text
        })
    }

    fn check_alive(&mut self, deadline: Instant, what: &str) -> Outcome<()> {
        if self.process.ended() || Instant::now() > deadline {
            return Err(format!("valetd ended, or is late, before: {what}\n{}", self.last_words()).into());
        }
        rest(Duration::from_millis(20));
        Ok(())
    }
}

impl Log {
    fn take(&mut self, line: String) {
        // Parsing every line would cost the bench more than writing it costs the daemon.
        if line.contains("\"listening\"") {
            self.listening.extend(serde_json::from_str::<Value>(&line));
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

/// The TCP address in what its log says of a listener.
pub(crate) fn address(listening: &Value) -> Outcome<SocketAddr> {
    Ok(listening["address"].as_str().unwrap_or_default().parse()?)
}

/// The head and body that a `GET` is answered with.
pub(crate) fn get(address: SocketAddr, path: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    // DevTools keeps the connection open whatever it is asked.
    loop {
        let read = stream.read(&mut chunk)?;
        answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        let length = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let lines = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().to_owned())
            });
            lines.and_then(|length| length.parse::<usize>().ok()).map(|length| body.len() >= length)
        });
        if read == 0 || length == Some(true) {
            return Ok(text.into_owned());
        }
    }
}

//! A `valetd run` with a configuration and directories of its own.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::client::Door;
use crate::process::Process;
use crate::procstat::Tree;
use crate::{Outcome, rest};

/// For Xvfb and x11vnc on a loaded machine.
const READY: Duration = Duration::from_secs(60);
const SECRET: &str = "a-shared-secret-for-the-bench-0123456789";
const SESSION: &str = "s1";
/// Longer than any run.
const TOKEN_SECONDS: u64 = 3600;
/// Lines of the log that are kept for when something fails.
const LAST_LINES: usize = 20;

/// Where the picture comes from.
pub(crate) enum Picture {
    /// The bench's own server.
    External(SocketAddr),
    /// A display of the daemon's own, without a browser.
    X11vnc,
}

/// A running daemon, with one session.
pub(crate) struct Daemon {
    process: Process,
    log: Arc<Mutex<Log>>,
    _dir: tempfile::TempDir,
}

#[derive(Default)]
struct Log {
    last: VecDeque<String>,
    listening: Vec<Value>,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(picture: &Picture) -> Outcome<Self> {
        // Short, since sockets lie beneath it; other uids must pass through.
        let dir = tempfile::Builder::new().prefix("vb").tempdir_in("/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let config = dir.path().join("valetd.toml");
        fs::write(&config, configuration(dir.path(), picture))?;
        let secret = dir.path().join("jwt_secret");
        fs::write(&secret, SECRET)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
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
        let api = daemon.address("api")?;
        let deadline = Instant::now() + READY;
        while !ready(api) {
            daemon.check_alive(deadline, "ready")?;
        }
        Ok(daemon)
    }

    /// How a viewer with a good token gets in.
    pub(crate) fn door(&mut self) -> Outcome<Door> {
        let protocols = format!("binary, jwt.{}", token()?);
        Ok(Door::WebSocket {
            address: self.address("gateway")?,
            path: format!("/sessions/{SESSION}/vnc"),
            protocols,
        })
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree { root: self.process.pid() }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.last.iter().fold(String::new(), |mut text, line| {
            let _infallible = writeln!(text, "  {line}");
            text
        })
    }

    fn address(&mut self, listener: &str) -> Outcome<SocketAddr> {
        let deadline = Instant::now() + READY;
        loop {
            let found = {
                let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                log.listening.iter().find(|record| record["listener"] == listener).cloned()
            };
            if let Some(record) = found {
                return Ok(record["address"].as_str().unwrap_or_default().parse()?);
            }
            self.check_alive(deadline, listener)?;
        }
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

/// The limits are out of the way: 50 viewers from one address would be refused otherwise.
fn configuration(dir: &Path, picture: &Picture) -> String {
    let rfb = match picture {
        Picture::External(address) => format!(r#"{{ address = "tcp:{address}" }}"#),
        Picture::X11vnc => "\"x11vnc\"".to_owned(),
    };
    format!(
        r#"
        [host]
        state_dir = "{dir}/state"
        runtime_dir = "{dir}/run"
        [session]
        id = "{SESSION}"
        [display]
        rfb = {rfb}
        [browser]
        enabled = false
        [gateway]
        listen = "127.0.0.1:0"
        [gateway.limits]
        max_connections = 8192
        max_connections_per_address = 8192
        max_unauthenticated = 8192
        max_viewers_per_session = 1000
        [auth]
        keys = [{{ algorithm = "HS256", secret = "{dir}/jwt_secret" }}]
        [api]
        listen = "127.0.0.1:0"
        socket = "{dir}/control.sock"
        [log]
        level = "info"
        format = "json"
        "#,
        dir = dir.display()
    )
}

fn token() -> Outcome<String> {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + TOKEN_SECONDS;
    let claims = json!({ "session_id": SESSION, "user_id": "bench", "role": "controller", "exp": expires });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

fn ready(api: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(api)?;
        stream.set_read_timeout(Some(READY))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_length| answer)
    };
    ask().is_ok_and(|answer: String| answer.starts_with("HTTP/1.1 200 "))
}

//! A `valetd run` with a browser of its own, reached through its gateway and past it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::client::Client;
use crate::{Outcome, rest};

/// For a cold Chromium on a loaded machine.
const READY: Duration = Duration::from_secs(60);
const SECRET: &str = "a-shared-secret-for-the-bench-0123456789";
/// Longer than any run.
const TOKEN_SECONDS: u64 = 3600;
/// Lines that may wait to be looked at.
const LOG_QUEUE: usize = 1024;

/// A running daemon, with one session.
pub(crate) struct Daemon {
    child: Child,
    gateway: SocketAddr,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Daemon {
    /// Starts it and waits until its browser is up.
    pub(crate) fn start() -> Outcome<Self> {
        // Short, since sockets lie beneath it; other uids must pass through.
        let dir = tempfile::Builder::new().prefix("vb").tempdir_in("/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let config = dir.path().join("valetd.toml");
        fs::write(&config, configuration(dir.path()))?;
        let secret = dir.path().join("jwt_secret");
        fs::write(&secret, SECRET)?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the bench is the daemon's parent, as systemd would be"
        )]
        let mut child = Command::new(env!("CARGO_BIN_EXE_valetd"))
            .args(["run".as_ref(), "--config".as_ref(), config.as_os_str()])
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or("no log")?;
        let (lines, log) = mpsc::sync_channel(LOG_QUEUE);
        // Nobody joins it: it ends when the daemon does.
        thread::Builder::new().name("daemon log".into()).spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // What nobody reads any more may be lost.
                let _unread = lines.try_send(line);
            }
        })?;
        let mut daemon = Self { child, gateway: ([0, 0, 0, 0], 0).into(), port: 0, _dir: dir };
        let deadline = Instant::now() + READY;
        let mut api = None;
        while daemon.gateway.port() == 0 || api.is_none() {
            let line = log.recv_timeout(READY).map_err(|_| "valetd did not say where it listens")?;
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["message"] == "listening" {
                let address = record["address"].as_str().unwrap_or_default().parse()?;
                if record["listener"] == "gateway" { daemon.gateway = address } else { api = Some(address) }
            }
        }
        let api = api.ok_or("no API")?;
        while !get(api, "/readyz")?.starts_with("HTTP/1.1 200 ") {
            if Instant::now() > deadline {
                return Err("valetd is not ready in time".into());
            }
            rest(Duration::from_millis(20));
        }
        daemon.port = port(&get(api, "/health")?)?;
        Ok(daemon)
    }

    /// Straight to the browser.
    pub(crate) fn direct(&self) -> Outcome<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let answer = get(address, "/json/version")?;
        let body = answer.split_once("\r\n\r\n").ok_or("no answer from DevTools")?.1;
        let version: Value = serde_json::from_str(body)?;
        let url = version["webSocketDebuggerUrl"].as_str().ok_or("no address")?;
        let path = url.find("/devtools").and_then(|at| url.get(at..)).ok_or("no path")?;
        Client::connect(address, path, None)
    }

    /// Through the gateway.
    pub(crate) fn proxied(&self, role: &str) -> Outcome<Client> {
        Client::connect(self.gateway, "/sessions/s1/cdp", Some(&token(role)?))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        #[expect(
            clippy::disallowed_methods,
            reason = "the bench is the daemon's parent: the pid is its own child's"
        )]
        let asked = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        if asked.is_ok() {
            // It takes its children along, within its drain budget.
            let _status = self.child.wait();
        }
    }
}

/// The port on the command line, which Chromium writes anew with blanks, of the browser that `/health` names.
fn port(health: &str) -> Outcome<u16> {
    let body = health.split_once("\r\n\r\n").ok_or("no health")?.1;
    let health: Value = serde_json::from_str(body)?;
    let components = health["components"].as_array().ok_or("no components")?;
    let browser = components.iter().find(|part| part["name"] == "browser").ok_or("no browser")?;
    let line = fs::read_to_string(format!("/proc/{}/cmdline", browser["pid"]))?;
    let port = line.split(['\0', ' ']).find_map(|arg| arg.strip_prefix("--remote-debugging-port="));
    Ok(port.ok_or("the browser has no port")?.parse()?)
}

fn get(address: SocketAddr, path: &str) -> Outcome<String> {
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

fn token(role: &str) -> Outcome<String> {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + TOKEN_SECONDS;
    let claims = json!({ "session_id": "s1", "user_id": "bench", "role": role, "exp": expires });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// No pings: nobody reads a way while it is not its turn.
fn configuration(dir: &Path) -> String {
    format!(
        r#"
        [host]
        state_dir = "{dir}/state"
        runtime_dir = "{dir}/run"
        [session]
        id = "s1"
        [gateway]
        listen = "127.0.0.1:0"
        [gateway.limits]
        ping_interval = "5m"
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

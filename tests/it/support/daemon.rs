//! A `valetd run` with a configuration and directories of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::{home, wait_for};

/// Long enough for a cold Chromium on a loaded machine.
pub(crate) const READY: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"
    [isolation]
    network = "open"
    [session]
    id = "s1"
    [display]
    size = "800x600"
    [log]
    level = "info,valetd=debug"
"#;

/// A running daemon. Dropped, it is killed; the keeper then sees to its children.
pub(crate) struct Daemon {
    child: Child,
    /// Where its configuration, state and sockets are.
    pub(crate) dir: PathBuf,
    _keep: Option<tempfile::TempDir>,
    log: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

/// Directories of a daemon that may be started more than once.
pub(crate) struct Home(pub(crate) tempfile::TempDir);

impl Home {
    /// Without a configuration yet.
    pub(crate) fn new() -> Self {
        Self(home::directory().unwrap())
    }

    /// Writes the configuration: that of [`home::configure`] with session `s1` on a small display and no packet rules, and
    /// `extra` on top.
    pub(crate) fn configure(&self, extra: &str) -> PathBuf {
        home::configure(self.0.path(), &[CONFIGURATION, extra]).unwrap()
    }

    /// Starts a daemon on what [`Self::configure`] wrote.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// The same by a command that becomes `valetd run`.
    pub(crate) fn start_by(&self, command: &mut Command) -> Daemon {
        Daemon::spawn_by(command, self.0.path().to_owned(), None)
    }

    /// The same with variables in its environment.
    pub(crate) fn start_with(&self, env: &[(&str, &str)]) -> Daemon {
        Daemon::spawn(self.0.path().to_owned(), None, env)
    }
}

impl Daemon {
    /// A daemon in fresh directories with `extra` configuration.
    pub(crate) fn start(extra: &str) -> Self {
        let home = Home::new();
        home.configure(extra);
        Self::spawn(home.0.path().to_owned(), Some(home.0), &[])
    }

    fn spawn(dir: PathBuf, keep: Option<tempfile::TempDir>, env: &[(&str, &str)]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test is the daemon's parent, as systemd would be")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_valetd"));
        command.arg("run").arg("--config").arg(dir.join("valetd.toml"));
        command.env_remove("NOTIFY_SOCKET").envs(env.iter().copied());
        Self::spawn_by(command.stdin(Stdio::null()).stdout(Stdio::null()), dir, keep)
    }

    fn spawn_by(command: &mut Command, dir: PathBuf, keep: Option<tempfile::TempDir>) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let stderr = child.stderr.take().unwrap();
        let reader = std::thread::Builder::new()
            .name("daemon log".into())
            .spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let record = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    lines.lock().unwrap().push(record);
                }
            })
            .unwrap();
        Self { child, dir, _keep: keep, log, reader: Some(reader) }
    }

    /// The daemon's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All log records so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// The log as text, for messages and for searching it.
    pub(crate) fn log_text(&self) -> String {
        self.log().iter().map(|record| format!("{record}\n")).collect()
    }

    /// The first record for which `matches` holds.
    pub(crate) fn wait_log(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let log = Arc::clone(&self.log);
        let found = || log.lock().unwrap().iter().find(|record| matches(record)).cloned();
        wait_for(what, READY, || {
            found().or_else(|| {
                let status = self.child.try_wait().unwrap();
                assert!(
                    status.is_none(),
                    "the daemon ended with {status:?} before: {what}\n{}",
                    self.log_text()
                );
                None
            })
        })
    }

    fn address(&mut self, listener: &str) -> SocketAddr {
        let record = self
            .wait_log(listener, |record| record["message"] == "listening" && record["listener"] == listener);
        record["address"].as_str().unwrap().parse().unwrap()
    }

    /// Where the gateway listens.
    pub(crate) fn gateway(&mut self) -> SocketAddr {
        self.address("gateway")
    }

    /// Where health and metrics are served.
    pub(crate) fn api(&mut self) -> SocketAddr {
        self.address("api")
    }

    /// `GET path` on the API: status and body.
    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        super::viewer::get(self.api(), path)
    }

    /// `/health` as JSON.
    pub(crate) fn health(&mut self) -> Value {
        serde_json::from_str(&self.get("/health").1).unwrap()
    }

    /// `GET path` on the control socket, as JSON.
    pub(crate) fn control(&self, path: &str) -> Value {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(self.path("control.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// One component of `/health`.
    pub(crate) fn component(&mut self, name: &str) -> Value {
        let health = self.health();
        health["components"]
            .as_array()
            .unwrap()
            .iter()
            .find(|part| part["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until `/readyz` says so, and returns the pid of each service.
    pub(crate) fn wait_ready(&mut self) {
        let api = self.api();
        let deadline = READY;
        let end = std::time::Instant::now() + deadline;
        while super::viewer::get(api, "/readyz").0 != 200 {
            assert!(std::time::Instant::now() < end, "not ready within {deadline:?}:\n{}", self.log_text());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The main process of a service that is up.
    pub(crate) fn service_pid(&mut self, name: &str) -> i32 {
        let pid = self.component(name)["pid"].as_i64().unwrap_or_else(|| panic!("{name} has no pid"));
        i32::try_from(pid).unwrap()
    }

    /// Sends a signal to the daemon itself.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        send(i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// Waits for the daemon's end, and for its last log line.
    pub(crate) fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = wait_for("the daemon's end", deadline, || child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// TERM, and a clean end within `deadline`.
    pub(crate) fn stop(&mut self, deadline: Duration) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.wait_exit(deadline);
        assert!(status.success(), "{status:?}\n{}", self.log_text());
    }

    /// The path of something in its directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }
}

/// Signals a process that the test knows to be there.
#[expect(clippy::disallowed_methods, reason = "the tests are the ones who break things")]
pub(crate) fn send(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Signals a process that may have gone by itself; whether it was there.
#[expect(clippy::disallowed_methods, reason = "the tests are the ones who break things")]
pub(crate) fn try_send(pid: i32, signal: nix::sys::signal::Signal) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).is_ok()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // TERM first: the daemon takes its children along, and the test's directories are about to go.
            self.signal(nix::sys::signal::Signal::SIGTERM);
            let end = std::time::Instant::now() + Duration::from_secs(30);
            while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < end {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        // An error here means that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

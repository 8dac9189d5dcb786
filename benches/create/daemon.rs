//! A `valetd run` without a session of its own, in directories of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Outcome, rest};

const DEADLINE: Duration = Duration::from_secs(60);

/// Ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// One that keeps so many browsers ready.
    pub(crate) fn start(spare_browsers: usize) -> Outcome<Self> {
        // Short, since sockets lie beneath it; other uids must pass through.
        let dir = tempfile::Builder::new().prefix("vc").tempdir_in("/tmp")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let secret = dir.path().join("jwt_secret");
        fs::write(&secret, "a-shared-secret-for-the-bench-0123456789")?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        let config = dir.path().join("valetd.toml");
        fs::write(&config, configuration(dir.path(), spare_browsers))?;
        let log = fs::File::create(dir.path().join("log"))?;
        #[expect(clippy::disallowed_methods, reason = "the bench is its parent, as systemd would be")]
        let child = Command::new(env!("CARGO_BIN_EXE_valetd"))
            .args(["run".as_ref(), "--config".as_ref(), config.as_os_str()])
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut daemon = Self { child, socket: dir.path().join("control.sock"), dir };
        let deadline = Instant::now() + DEADLINE;
        while std::os::unix::net::UnixStream::connect(daemon.socket()).is_err() {
            if !matches!(daemon.child.try_wait(), Ok(None)) || Instant::now() > deadline {
                let log = fs::read_to_string(daemon.dir.path().join("log")).unwrap_or_default();
                return Err(format!("valetd did not start:\n{log}").into());
            }
            rest(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // An error means that it has ended already; it is our child, so the pid is its own until it is reaped.
            let _ended = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            rest(Duration::from_millis(20));
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn configuration(dir: &Path, spare_browsers: usize) -> String {
    format!(
        r#"
        [host]
        state_dir = "{dir}/state"
        runtime_dir = "{dir}/run"
        [session]
        autostart = false
        [sessions]
        max = 4
        spare_browsers = {spare_browsers}
        [isolation]
        network = "open"
        [gateway]
        listen = "127.0.0.1:0"
        [auth]
        keys = [{{ algorithm = "HS256", secret = "{dir}/jwt_secret" }}]
        [api]
        listen = "127.0.0.1:0"
        socket = "{dir}/control.sock"
        [log]
        format = "json"
        "#,
        dir = dir.display()
    )
}

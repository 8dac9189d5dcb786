//! Xvfb and Chromium as a person with a shell would start them: one after the other, each as soon as it can be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, rest};

/// A plain uid: Chromium's sandbox is on.
const UID: u32 = 65_534;
const DEADLINE: Duration = Duration::from_secs(60);

/// How long it takes until DevTools answers.
pub(crate) fn start_once() -> Outcome<Duration> {
    let home = tempfile::Builder::new().prefix("vh").tempdir_in("/tmp")?;
    chown(home.path(), Some(UID), Some(UID))?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let begun = Instant::now();
    let mut xvfb = Running(
        as_plain_user("/usr/bin/Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1920x1080x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut number = String::new();
    let stdout = xvfb.0.stdout.take().ok_or("no pipe")?;
    BufReader::new(stdout).read_line(&mut number)?;
    let profile = home.path().join("profile");
    let _browser = Running(
        as_plain_user("/usr/bin/chromium")
            .args(["--no-first-run", "--no-default-browser-check", "--password-store=basic"])
            .args(["--disable-background-networking", "--disable-component-update", "--ozone-platform=x11"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--remote-debugging-port={port}"))
            .arg("about:blank")
            .env("HOME", home.path())
            .env("DISPLAY", format!(":{}", number.trim()))
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .stdout(Stdio::null())
            .spawn()?,
    );
    while !answers(port) {
        if begun.elapsed() > DEADLINE {
            return Err("Chromium started by hand does not answer".into());
        }
        rest(Duration::from_millis(5));
    }
    Ok(begun.elapsed())
}

#[expect(clippy::disallowed_methods, reason = "this is what the daemon is compared with")]
fn as_plain_user(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &UID.to_string(), "--regid", &UID.to_string(), "--clear-groups", "--"])
        .arg(program)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET /json/version HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    ask().is_ok_and(|answer: [u8; 12]| answer.starts_with(b"HTTP/1.1 200"))
}

/// Killed when dropped. `setpriv` has become the program by then.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

//! Opening and closing real Chromiums.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::state::Open;
use crate::http;
use crate::sys::leftover::{self, Outcome, Recorded};
use crate::sys::procfs::{Stat, boot_id};
use crate::tasks::blocking;

/// For a browser to answer.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// `/json/version` is a few hundred bytes.
const MAX_VERSION_BYTES: usize = 64 << 10;
/// From TERM to the end of a browser.
const CLOSE_BUDGET: Duration = Duration::from_secs(8);

/// What AdsPower's own browser is started with, as far as it matters here.
const ARGS: [&str; 9] = [
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--disable-component-update",
    "--disable-background-networking",
    "--hide-crash-restore-bubble",
    "--noerrdialogs",
    "--ozone-platform=x11",
    "--disable-features=Translate,MediaRouter",
];

/// Starts a browser and waits until it answers. The child's end is nobody's to wait for: `tokio` reaps it.
#[expect(
    clippy::disallowed_methods,
    reason = "this program is no daemon: it opens browsers as AdsPower does"
)]
pub(super) async fn open(program: &Path, profile: PathBuf, further: &[String]) -> io::Result<Open> {
    let port = free_port()?;
    let mut user_data = std::ffi::OsString::from("--user-data-dir=");
    user_data.push(&profile);
    let child = tokio::process::Command::new(program)
        .args(ARGS)
        .arg(user_data)
        .arg(format!("--remote-debugging-port={port}"))
        .args(further)
        .arg("about:blank")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(false)
        .spawn()?;
    let pid = child.id().ok_or_else(|| io::Error::other("the browser has ended at once"))?;
    let end = Instant::now() + OPEN_DEADLINE;
    loop {
        let asked = timeout(OPEN_DEADLINE, path_of(port)).await;
        if let Ok(Ok(path)) = asked {
            let start_time = Stat::of(pid)?.start_time;
            return Ok(Open { pid, start_time, port, path });
        }
        if !lives(pid, None) || Instant::now() > end {
            return Err(io::Error::other("the browser did not come up"));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// A port that was free a moment ago; not 0, which pages could see.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn path_of(port: u16) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect(address).await?;
    let body = http::get(stream, &address.to_string(), "/json/version", MAX_VERSION_BYTES).await;
    let version: Value = serde_json::from_slice(&body.map_err(io::Error::other)?)?;
    let url = version["webSocketDebuggerUrl"].as_str().unwrap_or_default();
    let at = url.find("/devtools/").ok_or_else(|| io::Error::other("no address of DevTools"))?;
    Ok(url[at..].to_owned())
}

/// Whether a process runs, and is the one that was started then.
pub(super) fn lives(pid: u32, start_time: Option<u64>) -> bool {
    Stat::of(pid).is_ok_and(|stat| !stat.is_zombie() && start_time.is_none_or(|time| time == stat.start_time))
}

/// Closes it: TERM, which has Chromium save its profile, then kill.
pub(super) async fn close(open: &Open) -> io::Result<()> {
    let own = boot_id()?;
    let recorded =
        Recorded { pid: open.pid, start_time: open.start_time, boot_id: own.clone(), cgroup: None };
    match blocking(2 * CLOSE_BUDGET, move || leftover::end(&recorded, &own, CLOSE_BUDGET)).await?? {
        Outcome::Survives => Err(io::Error::other("the browser survives")),
        _gone => Ok(()),
    }
}

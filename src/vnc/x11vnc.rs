//! x11vnc as a service: the RFB server of a session, on a Unix socket and nowhere else.
//!
//! **Clipboard:** ASCII both ways, Latin-1 towards the display; other characters that Chromium copies arrive as mojibake,
//! since x11vnc 0.9.16 sends their UTF-8 as Latin-1. At most 256 KiB towards a viewer. Where the extended clipboard is
//! offered on both sides, plain text still crosses. Text that a viewer sends just after a start may be lost.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::clipboard::Waking;
use super::config::RfbAddress;
use super::relay;
use crate::display::Display;
use crate::errors::chain;
use crate::supervise::{Command, Confinement, Program, ProgramError, Running};

/// libvncserver walks its whole descriptor table at each connection; large limits made that take a minute at a peer's.
const MAX_OPEN_FILES: u64 = 1024;

/// `-rfbport 0`, `-no6` and `-rfbportv6 0` all have to be there: without the last, x11vnc 0.9.16 listens on `[::]:5900`
/// without a password. `-listen` is for the case that one of them changes its meaning; `-localhost` would turn clients of
/// the Unix socket away. `-safer` takes away its remote control and its connecting to viewers by itself, both through X
/// properties that the browser could set (`-noremote` leaves the latter); `-nocmds` keeps it from running commands; `-sb 0`
/// keeps it from slowing down to one poll in seconds when nobody has typed for a minute.
const ARGS: &[&str] = &[
    "-listen",
    "127.0.0.1",
    "-rfbport",
    "0",
    "-no6",
    "-rfbportv6",
    "0",
    "-nopw",
    "-forever",
    "-shared",
    "-norc",
    "-safer",
    "-nocmds",
    "-nolookup",
    "-noxrecord",
    "-xdamage",
    "-noscr",
    "-nowait_bog",
    "-sb",
    "0",
    "-defer",
    "10",
    "-wait",
    "10",
    "-cursor",
    "most",
    "-noncache",
    "-quiet",
];

/// For the handshake of the connection that wakes the clipboard, within the probe's own deadline.
const CLIPBOARD_DEADLINE: Duration = Duration::from_millis(500);

/// The way from the display's clipboard to viewers, and the pid of the run that it is of.
enum Clipboard {
    Asleep,
    Waking(u32, Waking),
    Awake(u32),
}

/// The RFB server of one session.
pub struct X11vnc {
    program: PathBuf,
    confinement: Confinement,
    home: PathBuf,
    socket: PathBuf,
    display: Display,
    // One probe runs at a time; the lock only makes that visible to the compiler.
    clipboard: Mutex<Clipboard>,
}

impl X11vnc {
    /// A server that will show `display` on the Unix socket at `socket`, whose directory only the session can enter.
    pub fn new(
        program: PathBuf,
        confinement: Confinement,
        home: PathBuf,
        socket: PathBuf,
        display: Display,
    ) -> Self {
        Self { program, confinement, home, socket, display, clipboard: Mutex::new(Clipboard::Asleep) }
    }

    /// Where it listens.
    pub fn address(&self) -> RfbAddress {
        match self.confinement.uid() {
            Some(uid) => RfbAddress::Owned { socket: self.socket.clone(), uid },
            None => RfbAddress::Unix(self.socket.clone()),
        }
    }

    /// Goes on with waking the clipboard of the run with this pid, without waiting for it.
    async fn wake_clipboard(&self, pid: u32) {
        let mut clipboard = self.clipboard.lock().await;
        // Taken out while in use: a probe that is dropped half-way must not leave a connection out of step.
        let next = match std::mem::replace(&mut *clipboard, Clipboard::Asleep) {
            Clipboard::Awake(of) if of == pid => Ok(Clipboard::Awake(pid)),
            Clipboard::Waking(of, mut waking) if of == pid => match waking.proceed().await {
                Ok(true) => Ok(Clipboard::Awake(pid)),
                Ok(false) => Ok(Clipboard::Waking(pid, waking)),
                Err(error) => Err(error),
            },
            _asleep_or_of_an_earlier_run => {
                let address = self.address();
                match timeout(CLIPBOARD_DEADLINE, Waking::begin(&address, &self.display)).await {
                    Ok(begun) => begun.map(|waking| Clipboard::Waking(pid, waking)),
                    Err(_) => Err(ProgramError::new("x11vnc took too long")),
                }
            }
        };
        match next {
            Ok(next) => *clipboard = next,
            // The next probe tries again. A clipboard that does not work is no reason to end a picture that does.
            Err(error) => {
                tracing::debug!(pid, error = %chain(&error), "the display's clipboard does not reach viewers yet");
            }
        }
    }

    fn remove_socket(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Program for X11vnc {
    fn command(&self) -> Result<Command, ProgramError> {
        let display = self.display.address()?;
        self.remove_socket()
            .map_err(|error| ProgramError::caused_by("cannot remove a stale RFB socket", error))?;
        let mut args: Vec<OsString> = vec![
            "-display".into(),
            format!(":{}", display.number).into(),
            "-auth".into(),
            self.display.authority.as_os_str().to_owned(),
            "-unixsock".into(),
            self.socket.clone().into_os_string(),
        ];
        args.extend(ARGS.iter().map(OsString::from));
        let env = BTreeMap::from([
            ("HOME".into(), self.home.clone().into_os_string()),
            ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
            // Without a window manager x11vnc waits 45 s from the last connection before it makes its selection window,
            // and health probes connect every second. The wait is for login managers that kill their clients.
            ("X11VNC_AVOID_WINDOWS".into(), "never".into()),
        ]);
        Ok(Command {
            program: self.program.clone(),
            args,
            env,
            cwd: self.home.clone(),
            confinement: self.confinement.clone(),
            max_open_files: MAX_OPEN_FILES,
            ready_fd: false,
        })
    }

    fn probe<'a>(&'a self, running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
        Box::pin(async move {
            relay::probe(&self.address())
                .await
                .map_err(|error| ProgramError::caused_by("no RFB handshake with x11vnc", error))?;
            self.wake_clipboard(running.pid).await;
            Ok(())
        })
    }

    fn clean_up(&self, _ended: &Running) {
        if let Ok(mut clipboard) = self.clipboard.try_lock() {
            *clipboard = Clipboard::Asleep;
        }
        if let Err(error) = self.remove_socket() {
            tracing::warn!(path = %self.socket.display(), %error, "cannot remove the RFB socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_not_to_listen_on_tcp_nor_to_be_steered_nor_to_run_commands() {
        let line = ARGS.join(" ");
        for needed in ["-rfbport 0", "-no6", "-rfbportv6 0", "-safer", "-nocmds", "-norc"] {
            assert!(format!("{line} ").contains(&format!("{needed} ")), "{needed}: {line}");
        }
        assert!(!ARGS.contains(&"-nosel") && !ARGS.contains(&"-gui"), "{line}");
    }
}

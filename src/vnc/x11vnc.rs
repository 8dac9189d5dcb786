//! x11vnc as a service: the RFB server of a session, on a Unix socket and nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::config::RfbAddress;
use super::relay;
use crate::display::Display;
use crate::supervise::{Command, Identity, Program, ProgramError, Running};

/// libvncserver walks its whole descriptor table at each connection; large limits made that take a minute at a peer's.
const MAX_OPEN_FILES: u64 = 1024;

/// `-rfbport 0`, `-no6` and `-rfbportv6 0` all have to be there: without the last, x11vnc 0.9.16 listens on `[::]:5900`
/// without a password. `-listen` is for the case that one of them changes its meaning; `-localhost` would turn clients of
/// the Unix socket away. `-noremote` takes away its remote control through X properties; `-sb 0`
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
    "-noremote",
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

/// The RFB server of one session.
pub struct X11vnc {
    program: PathBuf,
    identity: Option<Identity>,
    home: PathBuf,
    socket: PathBuf,
    display: Display,
}

impl X11vnc {
    /// A server that will show `display` on the Unix socket at `socket`, whose directory only the session can enter.
    pub fn new(
        program: PathBuf,
        identity: Option<Identity>,
        home: PathBuf,
        socket: PathBuf,
        display: Display,
    ) -> Self {
        Self { program, identity, home, socket, display }
    }

    /// Where it listens.
    pub fn address(&self) -> RfbAddress {
        RfbAddress::Unix(self.socket.clone())
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
        ]);
        Ok(Command {
            program: self.program.clone(),
            args,
            env,
            cwd: self.home.clone(),
            identity: self.identity,
            max_open_files: MAX_OPEN_FILES,
            ready_fd: false,
        })
    }

    fn probe<'a>(&'a self, _running: &'a Running) -> BoxFuture<'a, Result<(), ProgramError>> {
        Box::pin(async move {
            relay::probe(&self.address())
                .await
                .map_err(|error| ProgramError::caused_by("no RFB handshake with x11vnc", error))
        })
    }

    fn clean_up(&self, _ended: &Running) {
        if let Err(error) = self.remove_socket() {
            tracing::warn!(path = %self.socket.display(), %error, "cannot remove the RFB socket");
        }
    }
}

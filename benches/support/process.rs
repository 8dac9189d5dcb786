//! A process that goes when the measurement does.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::rest;

/// For a clean end after TERM.
const GRACE: Duration = Duration::from_secs(30);

/// Ended when dropped: TERM, then KILL.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` with standard error in a pipe.
    pub(crate) fn start<A: AsRef<OsStr>>(program: &str, args: &[A]) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the bench is its parent, as systemd would be")]
        let child = Command::new(program)
            .args(args)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Whether it has ended, unasked.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn terminate(&self) -> Option<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        pidfd_send_signal(pidfd, Signal::TERM).ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let deadline = Instant::now() + GRACE;
        if !self.ended() && self.terminate().is_some() {
            while !self.ended() && Instant::now() < deadline {
                rest(Duration::from_millis(10));
            }
        }
        // Errors here mean that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

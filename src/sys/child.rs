//! A child process, owned: signalled and waited for through its pidfd only.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::spawn::Poke;

/// The kernel is asked at least so often whether a child has ended, should its word of that be lost.
const BACKSTOP: Duration = Duration::from_secs(2);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// By the out-of-memory killer.
    OutOfMemory {
        /// The most memory that its group ever had, in bytes, where the kernel says.
        peak: Option<u64>,
        /// The limit on its group, in bytes; without one, the whole host ran short.
        limit: Option<u64>,
    },
    /// Nobody saw how: something else in this process waited for it.
    Unseen,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::OutOfMemory { peak, limit } => {
                let size =
                    |bytes: &Option<u64>, none: &str| bytes.map_or_else(|| none.to_owned(), binary_size);
                write!(
                    f,
                    "killed by the out-of-memory killer (peak {} of {})",
                    size(peak, "unknown"),
                    size(limit, "no limit but the host's")
                )
            }
            Self::Unseen => f.write_str("ended, nobody saw how"),
        }
    }
}

/// `1.3 GiB`: for people, to a tenth.
fn binary_size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

/// Pids that have an owner. Children are the process's, so this list is. A lock, since owners drop on any thread; held for
/// one operation on the set.
static OWNED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// The children that somebody waits for; all others are orphans.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owned;

impl Owned {
    pub(super) fn add(pid: u32) {
        OWNED.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }

    pub(super) fn remove(pid: u32) {
        OWNED.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }

    pub(super) fn contains(pid: u32) -> bool {
        OWNED.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
    }
}

/// A child of this process. Dropped before its end was seen, it is killed, and reaped as an orphan.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    poke: Poke,
    waited: AtomicBool,
    killed_on_drop: bool,
}

impl Child {
    /// Must be called within a tokio runtime.
    pub(super) fn new(pid: u32, pidfd: OwnedFd, poke: Poke) -> io::Result<Self> {
        Ok(Self { pid, pidfd: watched(pidfd)?, poke, waited: AtomicBool::new(false), killed_on_drop: true })
    }

    /// Lets it live when this is dropped.
    pub(super) fn may_outlive_its_owner(mut self) -> Self {
        self.killed_on_drop = false;
        self
    }

    /// Its pid, for looking things up.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end and reaps it; to be called until it has said so once. Cancel safe.
    ///
    /// # Errors
    /// `ECHILD` when called again after that.
    pub async fn wait(&self) -> io::Result<Exit> {
        loop {
            let ready = match timeout(BACKSTOP, self.pidfd.readable()).await {
                Ok(ready) => Some(ready?),
                Err(_) => None,
            };
            if let Some(exit) = reap(WaitId::PidFd(self.pidfd.get_ref().as_fd()))? {
                self.waited.store(true, Ordering::Release);
                Owned::remove(self.pid);
                return Ok(exit);
            }
            if let Some(mut ready) = ready {
                ready.clear_ready();
            }
        }
    }

    /// SIGTERM. One that has ended is not an error.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGKILL, for this process alone. One that has ended is not an error.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.waited.load(Ordering::Acquire) {
            return;
        }
        if self.killed_on_drop
            && let Err(error) = self.kill()
        {
            tracing::error!(pid = self.pid, %error, "cannot kill");
        }
        Owned::remove(self.pid);
        self.poke.reap();
    }
}

#[expect(unsafe_code, reason = "AsyncFd has no safe constructor that is not deprecated as unsound")]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, always gives the same descriptor, and closes it when it is dropped, which only the
    // AsyncFd that takes it here can do.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// The end of exactly that child, if it has ended.
pub(super) fn reap(which: WaitId<'_>) -> io::Result<Option<Exit>> {
    let Some(status) = waitid(which, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)? else { return Ok(None) };
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Status(code)),
        (None, signal) => Some(Exit::Signal(signal.unwrap_or(0))),
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::super::spawn::Poke;
    use super::*;

    #[tokio::test]
    async fn f33_an_end_of_which_the_kernels_word_was_lost_is_seen_within_five_seconds() {
        #[expect(clippy::disallowed_methods, reason = "a child that is waited for by its pidfd alone")]
        let mut process = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = process.id();
        let pidfd = pidfd_open(Pid::from_raw(pid.cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
        let child = Child::new(pid, pidfd, Poke::nowhere()).unwrap();
        let deadline = Duration::from_secs(60);
        timeout(deadline, child.pidfd.readable()).await.unwrap().unwrap().clear_ready();
        let lost = timeout(Duration::from_millis(20), child.pidfd.readable()).await;
        assert!(lost.is_err(), "it is told once");
        let began = std::time::Instant::now();
        assert_eq!(timeout(deadline, child.wait()).await.unwrap().unwrap(), Exit::Status(7));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(process.wait().is_err(), "it is reaped");
    }

    #[test]
    fn an_end_by_want_of_memory_says_how_much_there_was() {
        let exit = Exit::OutOfMemory { peak: Some(1_395_864_371), limit: Some(1_395_864_371) };
        assert_eq!(exit.to_string(), "killed by the out-of-memory killer (peak 1.3 GiB of 1.3 GiB)");
        let exit = Exit::OutOfMemory { peak: None, limit: Some(512 << 20) };
        assert_eq!(exit.to_string(), "killed by the out-of-memory killer (peak unknown of 512.0 MiB)");
        assert_eq!(Exit::Signal(9).to_string(), "killed by signal 9");
    }
}

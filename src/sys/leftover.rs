//! Ending a process that an earlier life of the daemon wrote down, and no other that has its pid by now.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cgroup;
use super::marker::wait_for_exits;
use super::procfs::Stat;

/// What was written down of a process, enough to know it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its pid.
    pub pid: u32,
    /// Clock ticks from boot to its start, as [`Stat::start_time`] gives it.
    pub start_time: u64,
    /// The boot that both belong to, as [`super::procfs::boot_id`] gives it.
    pub boot_id: String,
    /// The cgroup that it was started in, where there was one: it must still be in there or beneath.
    pub cgroup: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is no such process, or it has ended and waits to be reaped.
    Gone,
    /// The pid is another process's, or is of another boot. Nothing was signalled.
    NotTheSame,
    /// It was signalled, and ended within the budget.
    Ended,
    /// It was signalled, and is still there.
    Survives,
}

/// Ends the recorded process: SIGTERM, and SIGKILL after half of `budget`. The signals go through a pidfd that was opened
/// before the process was compared with the record, so that they cannot reach another one. Blocks.
///
/// # Errors
/// When it may not be signalled, or cannot be looked at. Nothing is said then about whether it is still there.
pub fn end(recorded: &Recorded, own_boot_id: &str, budget: Duration) -> io::Result<Outcome> {
    // A record of this very process can only be a forged one.
    if own_boot_id.is_empty() || recorded.boot_id != own_boot_id || recorded.pid == std::process::id() {
        return Ok(Outcome::NotTheSame);
    }
    let Some(pid) = i32::try_from(recorded.pid).ok().and_then(Pid::from_raw) else {
        return Ok(Outcome::Gone);
    };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(Outcome::Gone),
        Err(errno) => return Err(errno.into()),
    };
    // Looked at while the pidfd is held: whatever has the pid from here on, the pidfd is of the one seen here or of one
    // that has ended, which no signal reaches.
    let stat = match Stat::of(recorded.pid) {
        Ok(stat) => stat,
        Err(error) if is_gone(&error) => return Ok(Outcome::Gone),
        Err(error) => return Err(error),
    };
    if stat.start_time != recorded.start_time {
        return Ok(Outcome::NotTheSame);
    }
    if stat.is_zombie() {
        return Ok(Outcome::Gone);
    }
    if !is_in_cgroup(recorded)? {
        return Ok(Outcome::NotTheSame);
    }
    signal_until_ended(&pidfd, budget)
}

fn signal_until_ended(pidfd: &OwnedFd, budget: Duration) -> io::Result<Outcome> {
    let deadline = Instant::now() + budget;
    for (signal, until) in [(Signal::TERM, deadline - budget / 2), (Signal::KILL, deadline)] {
        match pidfd_send_signal(pidfd, signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(Outcome::Ended),
            Err(errno) => return Err(errno.into()),
        }
        if has_ended_by(pidfd, until)? {
            return Ok(Outcome::Ended);
        }
    }
    Ok(Outcome::Survives)
}

fn has_ended_by(pidfd: &OwnedFd, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    wait_for_exits(std::slice::from_ref(pidfd), left)
}

fn is_in_cgroup(recorded: &Recorded) -> io::Result<bool> {
    match &recorded.cgroup {
        // A cgroup that is gone holds nothing: not found is `false`, by way of an empty list.
        Some(dir) => Ok(cgroup::processes(dir)?.iter().any(|stat| stat.pid == recorded.pid)),
        None => Ok(true),
    }
}

/// A process that ends while it is being looked at is `ESRCH`.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::super::procfs::boot_id;
    use super::*;

    const BUDGET: Duration = Duration::from_secs(10);

    /// A process that waits for ever. Killed and reaped when dropped.
    struct Victim(Child);

    impl Victim {
        #[expect(
            clippy::disallowed_methods,
            reason = "a process that is not the daemon's, which the test ends"
        )]
        fn start(script: &str) -> Self {
            let mut child = std::process::Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // It says so once its traps are set.
            let mut word = [0; 6];
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
            Self(child)
        }

        fn record(&self) -> Recorded {
            let stat = Stat::of(self.0.id()).unwrap();
            Recorded { pid: stat.pid, start_time: stat.start_time, boot_id: boot_id().unwrap(), cgroup: None }
        }

        fn lives(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }
    }

    impl Drop for Victim {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn patient() -> Victim {
        Victim::start("echo ready; read forever")
    }

    #[test]
    fn the_recorded_process_is_ended_and_then_gone() {
        let mut victim = patient();
        let record = victim.record();
        let own = boot_id().unwrap();
        assert_eq!(end(&record, &own, BUDGET).unwrap(), Outcome::Ended);
        // Not reaped yet.
        assert_eq!(end(&record, &own, BUDGET).unwrap(), Outcome::Gone);
        assert!(!victim.0.wait().unwrap().success());
        assert_eq!(end(&record, &own, BUDGET).unwrap(), Outcome::Gone);
    }

    #[test]
    fn one_that_ignores_sigterm_is_killed_within_the_budget() {
        let mut victim = Victim::start("trap '' TERM; echo ready; read forever");
        let outcome = end(&victim.record(), &boot_id().unwrap(), Duration::from_millis(400)).unwrap();
        assert_eq!(outcome, Outcome::Ended);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&victim.0.wait().unwrap()), Some(9));
    }

    #[test]
    fn a_foreign_process_that_has_the_pid_by_now_is_not_signalled() {
        let mut victim = patient();
        let own = boot_id().unwrap();
        let real = victim.record();
        let elsewhere = tempfile::tempdir().unwrap();
        let forged = [
            Recorded { start_time: real.start_time + 1, ..real.clone() },
            Recorded { start_time: 0, ..real.clone() },
            Recorded { boot_id: "11111111-2222-3333-4444-555555555555".to_owned(), ..real.clone() },
            Recorded { boot_id: String::new(), ..real.clone() },
            Recorded { cgroup: Some(elsewhere.path().to_owned()), ..real.clone() },
            Recorded { cgroup: Some(elsewhere.path().join("gone")), ..real.clone() },
        ];
        for record in forged {
            assert_eq!(end(&record, &own, BUDGET).unwrap(), Outcome::NotTheSame, "{record:?}");
        }
        // Neither is anything when the boot is not known.
        assert_eq!(
            end(&Recorded { boot_id: String::new(), ..real }, "", BUDGET).unwrap(),
            Outcome::NotTheSame
        );
        assert!(victim.lives());
    }

    #[test]
    fn neither_this_process_nor_a_pid_that_is_none_can_be_meant() {
        let own = boot_id().unwrap();
        let stat = Stat::of(std::process::id()).unwrap();
        let mut record =
            Recorded { pid: stat.pid, start_time: stat.start_time, boot_id: own.clone(), cgroup: None };
        assert_eq!(end(&record, &own, BUDGET).unwrap(), Outcome::NotTheSame);
        for pid in [0, u32::MAX] {
            record.pid = pid;
            assert_eq!(end(&record, &own, BUDGET).unwrap(), Outcome::Gone, "{pid}");
        }
    }
}

//! Finding a run's processes by a variable in their environment: for hosts without a cgroup2 that we may write, and as a
//! second net where there is one.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::procfs::{self, Stat};

/// The variable: `<state hash>/<run>/<group>/<service>`. Set in every child.
pub const VARIABLE: &str = "VALETD_RUN";

/// How long one round waits for the processes that it killed before it looks again.
const ROUND: Duration = Duration::from_millis(50);

/// The live processes that carry a matching marker, and with them all that descend from one or share a session with one:
/// a process may have overwritten its environment (Chromium's do, with their title).
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn find(matches: impl Fn(&str) -> bool) -> io::Result<Vec<Stat>> {
    let all = procfs::all()?;
    let own = std::process::id();
    let own_session = Stat::of(own)?.session;
    let marked = |stat: &Stat| procfs::environment(stat.pid, VARIABLE).is_some_and(|value| matches(&value));
    let mut pids: HashSet<u32> = HashSet::new();
    let mut sessions: HashSet<u32> = HashSet::new();
    for stat in all.iter().filter(|stat| stat.pid != own && marked(stat)) {
        pids.insert(stat.pid);
        if stat.session != own_session {
            sessions.insert(stat.session);
        }
    }
    loop {
        let before = pids.len();
        for stat in all.iter().filter(|stat| stat.pid != own) {
            if pids.contains(&stat.ppid) || sessions.contains(&stat.session) {
                pids.insert(stat.pid);
            }
        }
        if pids.len() == before {
            break;
        }
    }
    Ok(all.into_iter().filter(|stat| pids.contains(&stat.pid) && !stat.is_zombie()).collect())
}

/// SIGKILL to each, through a pidfd that was checked to be the process meant. The pidfds of those that got it.
pub fn kill(processes: &[Stat]) -> Vec<OwnedFd> {
    processes.iter().filter_map(|process| signal_one(process, Signal::KILL)).collect()
}

/// SIGTERM to each, in the same way.
pub(super) fn terminate(processes: &[Stat]) {
    for process in processes {
        drop(signal_one(process, Signal::TERM));
    }
}

fn signal_one(process: &Stat, signal: Signal) -> Option<OwnedFd> {
    let pidfd = open(process)?;
    pidfd_send_signal(&pidfd, signal).ok().map(|()| pidfd)
}

/// A pidfd that was checked to be the process meant.
fn open(process: &Stat) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
    // Failing means that it has ended meanwhile, which is what was wanted; the next round finds it if not.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let now = Stat::of(process.pid).ok()?;
    if now.start_time != process.start_time {
        return None;
    }
    Some(pidfd)
}

/// Kills the matching processes, round by round, until none is left or `budget` is over. How many were killed, and whether
/// none is left.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn kill_until_none(matches: impl Fn(&str) -> bool, budget: Duration) -> io::Result<(usize, bool)> {
    let deadline = Instant::now() + budget;
    let mut seen = HashSet::new();
    loop {
        let found = find(&matches)?;
        if found.is_empty() {
            return Ok((seen.len(), true));
        }
        seen.extend(found.iter().map(|stat| (stat.pid, stat.start_time)));
        let pidfds = kill(&found);
        if Instant::now() >= deadline {
            return Ok((seen.len(), false));
        }
        wait_for_exits(&pidfds, ROUND)?;
    }
}

/// Waits up to `budget` for the matching processes to end by themselves. Whether none is left.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn wait_for_none(matches: impl Fn(&str) -> bool, budget: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + budget;
    loop {
        let found = find(&matches)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if found.is_empty() || left.is_zero() {
            return Ok(found.is_empty());
        }
        // Failing means that it has ended meanwhile.
        let pidfds: Vec<_> = found.iter().filter_map(open).collect();
        wait_for_exits(&pidfds, left)?;
    }
}

/// Whether all of them have ended within `limit`; without any, it waits all the same.
pub(super) fn wait_for_exits(pidfds: &[OwnedFd], limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    let mut left: Vec<&OwnedFd> = pidfds.iter().collect();
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() || (left.is_empty() && !pidfds.is_empty()) {
            return Ok(left.is_empty());
        }
        let mut polls: Vec<_> = left.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        match poll(&mut polls, Some(&timespec(rest))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let waiting: Vec<bool> = polls.iter().map(|entry| entry.revents().is_empty()).collect();
        let mut waiting = waiting.into_iter();
        left.retain(|_| waiting.next().unwrap_or(false));
    }
}

/// For `poll`.
pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

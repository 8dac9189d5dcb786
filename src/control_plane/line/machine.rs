//! What is to be sent next, and what follows from an answer. Pure: instants, randomness and answers come in.
//!
//! One thing is under way at a time. Registering comes first, then a heartbeat that is due, then events, in their order.

use std::time::{Duration, Instant};

use super::super::reply::Reply;
use crate::backoff::Backoff;

/// After failures: soon enough for a receiver that restarts, and no more than once in a minute for one that is away.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(60) };
/// Heartbeats for what has changed; what changes meanwhile is in the next.
pub(super) const COALESCE: Duration = Duration::from_secs(1);
/// Without an answer for so long, the host is no longer well.
pub(crate) const UNREACHED: Duration = Duration::from_secs(60);
/// The longest that a receiver may ask for patience: a wrong header must not silence a host.
const MOST_PATIENCE: Duration = Duration::from_secs(600);
/// Events in one request.
pub(crate) const BATCH: usize = 100;
/// Events in a row that the receiver would not take, after which it is taken to be at fault itself, and is given time.
const MOST_REJECTED: u32 = 5;
/// Between tries at the end, when there is little time.
const LAST_RETRY: Duration = Duration::from_millis(200);
/// Between tries of a disk that fails.
pub(super) const DISK_RETRY: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// `anew`: with the credential read again.
    Register {
        anew: bool,
    },
    Heartbeat,
    /// The oldest events are to be taken from the disk.
    Load,
    /// So many of those that were loaded.
    Send(usize),
    /// Those that were acknowledged are to be taken off the disk.
    Forget,
    /// The first of those that were loaded will never be taken.
    SetAside,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Do(Task),
    /// Nothing before then, unless something happens.
    Wait(Instant),
    /// Nothing any more.
    Done,
}

/// How this host stands with the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not been heard in this run.
    New,
    Known,
    /// It is not wanted, and why.
    Refused(String),
}

/// What an answer has changed, for whoever has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    Nothing,
    /// The host is not wanted from now on.
    Refused,
    /// It is wanted; the flag: again.
    Known {
        again: bool,
    },
    /// The first failure after a success.
    Lost(String),
    /// The first success after failures.
    Restored,
    /// The receiver does not take what we say of ourselves.
    Misunderstood(String),
}

/// The line.
#[derive(Debug)]
pub(crate) struct Line {
    heartbeat: Duration,
    standing: Standing,
    /// Failures since the last success, and when to try again.
    failures: u32,
    retry_at: Option<Instant>,
    /// Whether whoever takes sessions knows the host to be wanted; refusals in a row, and the last.
    wanted: bool,
    refusals: u32,
    refused_at: Option<Instant>,
    /// What the last failure was.
    trouble: Option<String>,
    /// The last answer that was one, or the start.
    heard: Instant,
    /// Whether something is different from what was told last.
    changed: bool,
    told_at: Option<Instant>,
    next_heartbeat: Instant,
    /// Whether there may be events on disk that were not loaded.
    more: bool,
    loaded: usize,
    /// How many events are sent at once.
    size: usize,
    forget: bool,
    set_aside: bool,
    rejected: u32,
    /// When events may be sent again, where the receiver takes none of them and hears us otherwise.
    events_at: Option<Instant>,
    disk_at: Option<Instant>,
    /// When the end is, once it is known.
    ends: Option<Instant>,
}

impl Line {
    pub(crate) fn new(heartbeat: Duration, now: Instant) -> Self {
        Self {
            heartbeat,
            standing: Standing::New,
            failures: 0,
            retry_at: None,
            wanted: true,
            refusals: 0,
            refused_at: None,
            trouble: None,
            heard: now,
            changed: true,
            told_at: None,
            next_heartbeat: now,
            more: true,
            loaded: 0,
            size: BATCH,
            forget: false,
            set_aside: false,
            rejected: 0,
            events_at: None,
            disk_at: None,
            ends: None,
        }
    }

    /// Something is different.
    pub(crate) fn changed(&mut self) {
        self.changed = true;
    }

    /// There are more events on disk.
    pub(crate) fn more(&mut self) {
        self.more = true;
    }

    /// The clock was set, or the machine slept: what was known of the receiver is old.
    pub(crate) fn woke(&mut self, now: Instant) {
        (self.failures, self.retry_at) = (0, None);
        (self.changed, self.told_at, self.next_heartbeat) = (true, None, now);
    }

    /// The end is at `ends` at the latest: whatever waits is to go before it.
    pub(crate) fn finish(&mut self, ends: Instant) {
        self.ends = Some(ends);
        (self.changed, self.told_at, self.more) = (true, None, true);
        (self.failures, self.retry_at, self.disk_at, self.events_at) = (0, None, None, None);
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Why nothing was heard for long, or not at all from the start.
    pub(crate) fn unreached(&self, now: Instant) -> Option<&str> {
        let long = now.saturating_duration_since(self.heard) >= UNREACHED;
        long.then(|| self.trouble.as_deref().unwrap_or("no answer"))
    }

    pub(crate) fn next(&self, now: Instant) -> Next {
        if self.ends.is_some_and(|ends| ends <= now) {
            return Next::Done;
        }
        let blocked = self.retry_at.filter(|at| *at > now);
        match (&self.standing, blocked) {
            // There is no time for a quarrel.
            (Standing::Refused(_), _) if self.ends.is_some() => Next::Done,
            (Standing::New, None) => Next::Do(Task::Register { anew: false }),
            (Standing::Refused(_), None) => Next::Do(Task::Register { anew: true }),
            (Standing::New | Standing::Refused(_), Some(at)) => Next::Wait(self.by_the_end(at)),
            (Standing::Known, blocked) => self.next_when_known(now, blocked),
        }
    }

    fn next_when_known(&self, now: Instant, blocked: Option<Instant>) -> Next {
        let disk_waits = self.disk_at.filter(|at| *at > now);
        if disk_waits.is_none() {
            if self.forget {
                return Next::Do(Task::Forget);
            }
            if self.set_aside {
                return Next::Do(Task::SetAside);
            }
        }
        if let Some(at) = blocked {
            return Next::Wait(self.by_the_end(at));
        }
        let heartbeat_at = self.heartbeat_at(now);
        if heartbeat_at <= now {
            return Next::Do(Task::Heartbeat);
        }
        // What is still on disk, though acknowledged, must not be loaded again.
        let disk_is_clear = !self.forget && !self.set_aside;
        let events_wait = self.events_at.filter(|at| *at > now);
        if disk_is_clear && events_wait.is_none() {
            if self.loaded > 0 {
                return Next::Do(Task::Send(self.loaded.min(self.size)));
            }
            if self.more && disk_waits.is_none() {
                return Next::Do(Task::Load);
            }
            if self.ends.is_some() && !self.more {
                return Next::Done;
            }
        }
        let at = [disk_waits, events_wait].into_iter().flatten().min();
        Next::Wait(self.by_the_end(at.map_or(heartbeat_at, |at| at.min(heartbeat_at))))
    }

    fn heartbeat_at(&self, now: Instant) -> Instant {
        if !self.changed {
            return self.next_heartbeat;
        }
        let soonest = self.told_at.map_or(now, |at| at + COALESCE);
        soonest.min(self.next_heartbeat)
    }

    fn by_the_end(&self, at: Instant) -> Instant {
        self.ends.map_or(at, |ends| ends.min(at))
    }

    /// A heartbeat is put together now: what changes from here on is not in it.
    pub(crate) fn telling(&mut self, now: Instant, random: f64) {
        self.changed = false;
        self.told_at = Some(now);
        // A tenth more or less, so that hosts that were started together do not stay together.
        self.next_heartbeat = now + self.heartbeat.mul_f64(0.9 + random / 5.0);
    }

    /// The disk gave so many events.
    pub(crate) fn loaded(&mut self, count: usize) {
        (self.loaded, self.disk_at) = (count, None);
        self.more = count > 0;
    }

    /// What was acknowledged or set aside is off the disk.
    pub(crate) fn cleared(&mut self, task: Task) {
        self.disk_at = None;
        match task {
            Task::Forget => self.forget = false,
            Task::SetAside => {
                self.set_aside = false;
                self.loaded = self.loaded.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// The disk did nothing.
    pub(crate) fn disk_failed(&mut self, now: Instant) {
        self.disk_at = Some(now + DISK_RETRY);
    }

    /// Takes the answer to a request.
    pub(crate) fn answered(&mut self, task: Task, reply: Reply, now: Instant, random: f64) -> Turn {
        match (task, reply) {
            (Task::Register { .. }, Reply::Taken(_)) => {
                self.standing = Standing::Known;
                (self.changed, self.told_at) = (true, None);
                self.succeeded(now);
                // A host that was refused is wanted again when it is also heard.
                if self.wanted { Turn::Known { again: false } } else { Turn::Nothing }
            }
            (Task::Heartbeat, Reply::Taken(_)) => {
                let turn = self.succeeded(now);
                // One that is refused again and again must not come and go with each try.
                if self.refused_at.is_none_or(|at| now.saturating_duration_since(at) >= RETRY.max) {
                    self.refusals = 0;
                }
                if std::mem::replace(&mut self.wanted, true) { turn } else { Turn::Known { again: true } }
            }
            (Task::Send(sent), Reply::Taken(accepted)) => {
                let accepted = accepted.min(sent);
                self.loaded = self.loaded.saturating_sub(accepted);
                self.forget |= accepted > 0;
                if accepted == 0 {
                    return self.failed("it acknowledges no event".to_owned(), None, now, random);
                }
                (self.rejected, self.events_at) = (0, None);
                self.size = self.size.saturating_mul(2).min(BATCH);
                self.succeeded(now)
            }
            (_, Reply::Taken(_)) => self.succeeded(now),
            (_, Reply::Refused(why)) => {
                self.standing = Standing::Refused(why.clone());
                self.trouble = Some(why);
                // It answers, which counts.
                (self.heard, self.refused_at) = (now, Some(now));
                self.retry_at = Some(now + RETRY.delay(self.refusals, random));
                self.refusals = self.refusals.saturating_add(1);
                if std::mem::replace(&mut self.wanted, false) { Turn::Refused } else { Turn::Nothing }
            }
            (Task::Send(1), Reply::Rejected(why)) => {
                self.set_aside = true;
                self.rejected = self.rejected.saturating_add(1);
                self.heard = now;
                if let Some(beyond) = self.rejected.checked_sub(MOST_REJECTED) {
                    self.events_at = Some(now + RETRY.delay(beyond, random));
                    self.trouble = Some(why);
                }
                Turn::Nothing
            }
            (Task::Send(sent), Reply::Rejected(_)) => {
                self.size = (sent / 2).max(1);
                self.heard = now;
                Turn::Nothing
            }
            (_, Reply::Rejected(why)) => {
                let first = self.failures == 0;
                self.failed(why.clone(), None, now, random);
                if first { Turn::Misunderstood(why) } else { Turn::Nothing }
            }
            (task, Reply::Failed { why, retry_after }) => {
                if task == Task::Heartbeat {
                    // It has not been told.
                    self.changed = true;
                }
                self.failed(why, retry_after, now, random)
            }
        }
    }

    fn succeeded(&mut self, now: Instant) -> Turn {
        let lost = self.failures > 0;
        (self.failures, self.retry_at, self.trouble, self.heard) = (0, None, None, now);
        if lost { Turn::Restored } else { Turn::Nothing }
    }

    fn failed(&mut self, why: String, patience: Option<Duration>, now: Instant, random: f64) -> Turn {
        let first = self.failures == 0;
        let wait = RETRY.delay(self.failures, random).max(patience.unwrap_or_default().min(MOST_PATIENCE));
        let wait = if self.ends.is_some() { wait.min(LAST_RETRY) } else { wait };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait);
        self.trouble = Some(why.clone());
        if first { Turn::Lost(why) } else { Turn::Nothing }
    }
}

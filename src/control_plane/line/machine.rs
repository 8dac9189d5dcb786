//! What is to be sent next, and what follows from an answer. Pure: instants, randomness and answers come in.
//!
//! One thing is under way at a time. Registering comes first, then a heartbeat that is due, then events, in their order.

use std::time::{Duration, Instant};

use super::super::reply::Reply;
use crate::backoff::Backoff;

/// After failures: soon enough for a receiver that restarts, and no more than once in a minute. With heartbeats as often as
/// one that is well would hear them.
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(60) };
/// Heartbeats for what has changed; what changes meanwhile is in the next.
pub(super) const COALESCE: Duration = Duration::from_secs(1);
/// Without an answer for so long, the host is no longer well.
pub(crate) const UNREACHED: Duration = Duration::from_secs(60);
/// The longest that a receiver may ask for patience with events: a wrong header must not silence a host.
const MOST_PATIENCE: Duration = Duration::from_secs(600);
/// The same with heartbeats, whose absence looks like the host's.
const MOST_HEARTBEAT_PATIENCE: Duration = Duration::from_secs(60);
/// Events in one request.
pub(crate) const BATCH: usize = 100;
/// From so many events in a row on that the receiver would not take, it is taken to be at fault itself: it is given time, and
/// none more is set aside for it.
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

/// Whether the receiver means the host when it refuses events: what it says to the host itself decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    /// The host is to register, with its credential read again.
    Register,
    /// That came to nothing: a heartbeat is to be sent.
    Heartbeat,
    /// The host is wanted: if the events are refused again, it is for what they are.
    Settled,
}

/// How one kind of report fares, so that trouble with one does not hold up the other.
#[derive(Debug, Default)]
struct Track {
    /// Failures since the last success, and when to try again.
    failures: u32,
    retry_at: Option<Instant>,
    /// What the last failure was.
    trouble: Option<String>,
}

impl Track {
    fn blocked(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|at| *at > now)
    }

    /// After a failure: for no longer than `most` but for a receiver that asks for `patience`; `last`: there is little time.
    fn put_off(&mut self, most: Duration, patience: Duration, last: bool, now: Instant, random: f64) {
        let wait = Backoff { max: most.min(RETRY.max), ..RETRY }.delay(self.failures, random).max(patience);
        let wait = if last { wait.min(LAST_RETRY) } else { wait };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + wait);
    }

    /// What was known of the receiver is old.
    fn at_once(&mut self) {
        (self.failures, self.retry_at) = (0, None);
    }
}

/// What a receiver asked for, within `most`. A tenth more or less, so that hosts that were told the same do not come together.
fn patience(asked: Option<Duration>, most: Duration, random: f64) -> Duration {
    let asked = asked.unwrap_or_default().min(most);
    asked.mul_f64(1.0 + random / 10.0).min(most.mul_f64(0.9 + random / 10.0))
}

/// The line.
#[derive(Debug)]
pub(crate) struct Line {
    heartbeat: Duration,
    standing: Standing,
    /// Registrations and heartbeats.
    own: Track,
    events: Track,
    doubt: Doubt,
    /// Whether somebody was told that reports are not taken.
    lost: bool,
    /// Whether whoever takes sessions knows the host to be wanted; refusals in a row, and the last.
    wanted: bool,
    refusals: u32,
    refused_at: Option<Instant>,
    /// The last answer to a registration or a heartbeat that was one, or the start.
    heard: Instant,
    /// Since when events wait without any being taken.
    untaken: Option<Instant>,
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
    disk_at: Option<Instant>,
    /// When the end is, once it is known.
    ends: Option<Instant>,
}

impl Line {
    /// `wanted`: as far as is known from before.
    pub(crate) fn new(heartbeat: Duration, wanted: bool, now: Instant) -> Self {
        Self {
            heartbeat,
            standing: Standing::New,
            own: Track::default(),
            events: Track::default(),
            doubt: Doubt::None,
            lost: false,
            wanted,
            refusals: 0,
            refused_at: None,
            heard: now,
            untaken: None,
            changed: true,
            told_at: None,
            next_heartbeat: now,
            more: true,
            loaded: 0,
            size: BATCH,
            forget: false,
            set_aside: false,
            rejected: 0,
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
        self.own.at_once();
        self.events.at_once();
        (self.changed, self.told_at, self.next_heartbeat) = (true, None, now);
    }

    /// The end is at `ends` at the latest: whatever waits is to go before it.
    pub(crate) fn finish(&mut self, ends: Instant) {
        self.ends = Some(ends);
        (self.changed, self.told_at, self.more) = (true, None, true);
        self.own.at_once();
        self.events.at_once();
        self.disk_at = None;
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Why nothing was heard for long, or not at all from the start, or why no events are taken that wait.
    pub(crate) fn unreached(&self, now: Instant) -> Option<String> {
        if now >= self.unheard_at() {
            return Some(self.own.trouble.clone().unwrap_or_else(|| "no answer".to_owned()));
        }
        let why = || self.events.trouble.as_deref().unwrap_or("no answer");
        self.untaken_at().filter(|at| now >= *at).map(|_| format!("events are not taken, {}", why()))
    }

    /// From when on the host is no longer well without an answer. One heartbeat may be lost.
    fn unheard_at(&self) -> Instant {
        self.heard + UNREACHED.max(self.heartbeat * 2)
    }

    fn untaken_at(&self) -> Option<Instant> {
        self.untaken.map(|since| since + UNREACHED)
    }

    pub(crate) fn next(&self, now: Instant) -> Next {
        if self.ends.is_some_and(|ends| ends <= now) {
            return Next::Done;
        }
        match (&self.standing, self.own.blocked(now)) {
            // There is no time for a quarrel.
            (Standing::Refused(_), _) if self.ends.is_some() => Next::Done,
            (Standing::New, None) => Next::Do(Task::Register { anew: false }),
            (Standing::Refused(_), None) => Next::Do(Task::Register { anew: true }),
            (Standing::New | Standing::Refused(_), Some(at)) => self.wait(at, now),
            (Standing::Known, _) => self.next_when_known(now),
        }
    }

    fn next_when_known(&self, now: Instant) -> Next {
        let disk_waits = self.disk_at.filter(|at| *at > now);
        if disk_waits.is_none() {
            if self.forget {
                return Next::Do(Task::Forget);
            }
            if self.set_aside {
                return Next::Do(Task::SetAside);
            }
        }
        if self.doubt == Doubt::Register && self.ends.is_none() {
            let register = Next::Do(Task::Register { anew: true });
            return self.own.blocked(now).map_or(register, |at| self.wait(at, now));
        }
        let heartbeat_at = self.heartbeat_at(now);
        if heartbeat_at <= now {
            return Next::Do(Task::Heartbeat);
        }
        let is_told = self.own.failures == 0 || !self.changed;
        let is_doubtful = matches!(self.doubt, Doubt::Register | Doubt::Heartbeat);
        if is_doubtful && is_told && self.ends.is_some() {
            return Next::Done;
        }
        // What is still on disk, though acknowledged, must not be loaded again.
        let disk_is_clear = !self.forget && !self.set_aside;
        let events_wait = self.events.blocked(now);
        if disk_is_clear && events_wait.is_none() && !is_doubtful {
            if self.loaded > 0 {
                return Next::Do(Task::Send(self.loaded.min(self.size)));
            }
            if self.more && disk_waits.is_none() {
                return Next::Do(Task::Load);
            }
            if self.ends.is_some() && !self.more && is_told {
                return Next::Done;
            }
        }
        let at = [disk_waits, events_wait].into_iter().flatten().min();
        self.wait(at.map_or(heartbeat_at, |at| at.min(heartbeat_at)), now)
    }

    fn heartbeat_at(&self, now: Instant) -> Instant {
        let due = if self.changed {
            let soonest = self.told_at.map_or(now, |at| at + COALESCE);
            soonest.min(self.next_heartbeat)
        } else {
            self.next_heartbeat
        };
        self.own.blocked(now).map_or(due, |at| at.max(due))
    }

    /// No longer than until something is to be shown of the wait itself.
    fn wait(&self, at: Instant, now: Instant) -> Next {
        let shown = [Some(self.unheard_at()), self.untaken_at()].into_iter().flatten().filter(|at| *at > now);
        Next::Wait(shown.chain(self.ends).fold(at, Instant::min))
    }

    /// A heartbeat is put together now: what changes from here on is not in it.
    pub(crate) fn telling(&mut self, now: Instant, random: f64) {
        self.changed = false;
        self.told_at = Some(now);
        // A tenth more or less, so that hosts that were started together do not stay together.
        self.next_heartbeat = now + self.heartbeat.mul_f64(0.9 + random / 5.0);
    }

    /// The disk gave so many events.
    pub(crate) fn loaded(&mut self, count: usize, now: Instant) {
        (self.loaded, self.disk_at) = (count, None);
        self.more = count > 0;
        self.untaken = self.more.then(|| self.untaken.unwrap_or(now));
    }

    /// The disk has other events than those that were loaded.
    pub(crate) fn reload(&mut self) {
        (self.loaded, self.more, self.disk_at) = (0, true, None);
        (self.forget, self.set_aside) = (false, false);
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
            (Task::Send(sent), reply) => self.events_answered(sent, reply, now, random),
            (Task::Register { .. }, Reply::Taken(_)) => {
                self.standing = Standing::Known;
                (self.changed, self.told_at) = (true, None);
                self.heard(now);
                // A host that was refused is wanted again when it is also heard.
                if self.wanted { Turn::Known { again: false } } else { Turn::Nothing }
            }
            (Task::Heartbeat, Reply::Taken(_)) => {
                let turn = self.heard(now);
                // One that is refused again and again must not come and go with each try.
                if self.refused_at.is_none_or(|at| now.saturating_duration_since(at) >= RETRY.max) {
                    self.refusals = 0;
                }
                if std::mem::replace(&mut self.wanted, true) { turn } else { Turn::Known { again: true } }
            }
            (_, Reply::Taken(_)) => self.heard(now),
            (_, Reply::Refused(why)) => {
                self.standing = Standing::Refused(why.clone());
                self.own.trouble = Some(why);
                // It answers, which counts.
                (self.heard, self.refused_at) = (now, Some(now));
                self.own.retry_at = Some(now + RETRY.delay(self.refusals, random));
                self.refusals = self.refusals.saturating_add(1);
                if std::mem::replace(&mut self.wanted, false) { Turn::Refused } else { Turn::Nothing }
            }
            (_, Reply::Rejected(why)) => {
                let first = self.own.failures == 0;
                self.failed(task, why.clone(), None, now, random);
                if first { Turn::Misunderstood(why) } else { Turn::Nothing }
            }
            (task, Reply::Failed { why, retry_after }) => {
                // One that was not heard has told nothing.
                self.changed |= task == Task::Heartbeat;
                self.failed(task, why, retry_after, now, random)
            }
        }
    }

    fn events_answered(&mut self, sent: usize, reply: Reply, now: Instant, random: f64) -> Turn {
        let is_settled = self.doubt == Doubt::Settled;
        if !matches!(reply, Reply::Refused(_)) {
            self.doubt = Doubt::None;
        }
        match reply {
            Reply::Taken(accepted) if accepted.min(sent) > 0 => {
                self.loaded = self.loaded.saturating_sub(accepted.min(sent));
                (self.forget, self.rejected) = (true, 0);
                self.size = self.size.saturating_mul(2).min(BATCH);
                self.untaken = (self.loaded > 0).then_some(now);
                self.events = Track::default();
                self.found()
            }
            Reply::Taken(_) => {
                self.events_failed(sent, "it acknowledges no event".to_owned(), None, now, random)
            }
            Reply::Refused(why) if !is_settled => {
                self.doubt = Doubt::Register;
                self.events.put_off(RETRY.max, Duration::ZERO, self.ends.is_some(), now, random);
                self.events.trouble = Some(why);
                Turn::Nothing
            }
            Reply::Refused(why) | Reply::Rejected(why) => {
                if sent > 1 {
                    self.size = (sent / 2).max(1);
                    self.events.trouble = Some(why);
                    return Turn::Nothing;
                }
                self.rejected = self.rejected.saturating_add(1);
                if self.rejected >= MOST_REJECTED {
                    return self.events_failed(sent, why, None, now, random);
                }
                self.set_aside = true;
                self.events.trouble = Some(why);
                Turn::Nothing
            }
            Reply::Failed { why, retry_after } => self.events_failed(sent, why, retry_after, now, random),
        }
    }

    /// Fewer are sent next: a receiver that is too slow for so many gets past them.
    fn events_failed(
        &mut self,
        sent: usize,
        why: String,
        asked: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Turn {
        self.size = (sent / 2).max(1);
        self.failed(Task::Send(sent), why, asked, now, random)
    }

    /// A registration or a heartbeat was taken.
    fn heard(&mut self, now: Instant) -> Turn {
        if self.own.failures > 0 {
            // It is back: what waits need not.
            self.events.retry_at = None;
        }
        self.own = Track::default();
        self.heard = now;
        if matches!(self.doubt, Doubt::Register | Doubt::Heartbeat) {
            self.doubt = Doubt::Settled;
        }
        self.found()
    }

    fn found(&mut self) -> Turn {
        let is_well = self.own.failures == 0 && self.events.failures == 0;
        if is_well && std::mem::take(&mut self.lost) { Turn::Restored } else { Turn::Nothing }
    }

    fn failed(
        &mut self,
        task: Task,
        why: String,
        asked: Option<Duration>,
        now: Instant,
        random: f64,
    ) -> Turn {
        // A receiver is not tried more often than it would be told, and one that is back hears of that no later.
        let (track, most_wait, most) = match task {
            Task::Send(_) => (&mut self.events, RETRY.max, MOST_PATIENCE),
            _ => (&mut self.own, self.heartbeat, MOST_HEARTBEAT_PATIENCE),
        };
        track.put_off(most_wait, patience(asked, most, random), self.ends.is_some(), now, random);
        track.trouble = Some(why.clone());
        // Where one way to ask does not work, the other may.
        match (self.doubt, task) {
            (Doubt::Register, Task::Register { .. }) => {
                self.doubt = Doubt::Heartbeat;
                (self.changed, self.told_at) = (true, None);
            }
            (Doubt::Heartbeat, Task::Heartbeat) => self.doubt = Doubt::Register,
            _ => {}
        }
        if std::mem::replace(&mut self.lost, true) { Turn::Nothing } else { Turn::Lost(why) }
    }
}

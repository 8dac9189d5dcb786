//! The line in virtual time.

use std::time::{Duration, Instant};

use super::super::reply::Reply;
use super::machine::{BATCH, COALESCE, DISK_RETRY, Line, Next, Standing, Task, Turn, UNREACHED};

/// The middle of all randomness: heartbeats come exactly when they are due.
const MIDDLE: f64 = 0.5;
const HEARTBEAT: Duration = Duration::from_secs(10);
const TAKEN: Reply = Reply::Taken(0);

/// A line, its clock, and events on a disk.
struct World {
    line: Line,
    start: Instant,
    now: Instant,
    disk: usize,
    did: Vec<(u64, Task)>,
    turns: Vec<Turn>,
    random: f64,
}

impl World {
    fn new(disk: usize) -> Self {
        let now = Instant::now();
        let line = Line::new(HEARTBEAT, true, now);
        Self { line, start: now, now, disk, did: vec![], turns: vec![], random: MIDDLE }
    }

    /// One that is known and has nothing to say.
    fn known() -> Self {
        let mut world = World::new(0);
        world.run(Duration::ZERO, |_| TAKEN);
        world.did.clear();
        world.turns.clear();
        world
    }

    /// Lets `time` go by, with a receiver that answers so. What was done is noted with its millisecond.
    fn run(&mut self, time: Duration, answer: impl Fn(Task) -> Reply) {
        let until = self.now + time;
        for _ in 0..100_000 {
            match self.line.next(self.now) {
                Next::Done => return,
                Next::Wait(at) if at > until => {
                    self.now = until;
                    return;
                }
                Next::Wait(at) => self.now = at,
                Next::Do(task) => self.carry_out(task, &answer),
            }
        }
        panic!("it never rests: {:?}", &self.did[..20]);
    }

    fn carry_out(&mut self, task: Task, answer: &impl Fn(Task) -> Reply) {
        let at = u64::try_from((self.now - self.start).as_millis()).unwrap();
        self.did.push((at, task));
        match task {
            Task::Load => self.line.loaded(self.disk.min(BATCH), self.now),
            Task::Forget => self.line.cleared(task),
            Task::SetAside => {
                self.disk -= 1;
                self.line.cleared(task);
            }
            Task::Register { .. } | Task::Heartbeat | Task::Send(_) => {
                if task == Task::Heartbeat {
                    self.line.telling(self.now, self.random);
                }
                let reply = answer(task);
                if let (Task::Send(sent), Reply::Taken(count)) = (task, &reply) {
                    self.disk -= sent.min(*count);
                }
                let turn = self.line.answered(task, reply, self.now, self.random);
                if turn != Turn::Nothing {
                    self.turns.push(turn);
                }
            }
        }
    }

    fn times(&self, wanted: Task) -> Vec<u64> {
        self.did.iter().filter(|(_, task)| *task == wanted).map(|(at, _)| *at).collect()
    }
}

fn failed(why: &str) -> Reply {
    Reply::Failed { why: why.to_owned(), retry_after: None }
}

fn busy(seconds: u64) -> Reply {
    Reply::Failed { why: "it answers 429".to_owned(), retry_after: Some(Duration::from_secs(seconds)) }
}

fn takes_all(task: Task) -> Reply {
    match task {
        Task::Send(count) => Reply::Taken(count),
        _ => TAKEN,
    }
}

#[test]
fn it_registers_tells_how_it_is_and_then_what_has_happened_page_by_page() {
    let mut world = World::new(150);
    world.run(Duration::from_secs(5), takes_all);
    let did: Vec<Task> = world.did.iter().map(|(_, task)| *task).collect();
    let expected = [
        Task::Register { anew: false },
        Task::Heartbeat,
        Task::Load,
        Task::Send(100),
        Task::Forget,
        Task::Load,
        Task::Send(50),
        Task::Forget,
        Task::Load,
    ];
    assert_eq!(did, expected);
    assert_eq!(world.turns, [Turn::Known { again: false }]);
    world.disk = 1;
    world.line.more();
    world.run(Duration::from_secs(1), takes_all);
    assert_eq!((world.disk, world.did.last().unwrap().1), (0, Task::Load));
}

#[test]
fn heartbeats_come_in_their_time_and_for_changes_once_in_a_second() {
    let mut world = World::known();
    world.run(Duration::from_secs(25), takes_all);
    assert_eq!(world.times(Task::Heartbeat), [10_000, 20_000]);
    world.did.clear();
    // Thirty changes in three seconds.
    for _ in 0..30 {
        world.line.changed();
        world.run(Duration::from_millis(100), takes_all);
    }
    world.run(Duration::from_secs(10), takes_all);
    assert_eq!(world.times(Task::Heartbeat), [25_000, 26_000, 27_000, 28_000, 38_000]);
}

#[test]
fn f36_an_outage_is_met_with_patience_and_nothing_is_sent_but_tries() {
    let mut world = World::known();
    world.disk = 1000;
    world.line.more();
    world.run(Duration::from_secs(3600), |_| failed("connection refused"));
    let is_event = |task: &Task| matches!(task, Task::Send(_));
    let tries = world.did.iter().filter(|(_, task)| is_event(task)).count();
    assert!((60..100).contains(&tries), "{tries}");
    let tries = world.times(Task::Heartbeat).len();
    assert!((360..500).contains(&tries), "as often as it would be told: {tries}");
    assert_eq!(world.turns, [Turn::Lost("connection refused".to_owned())]);
    assert_eq!(world.line.unreached(world.now).as_deref(), Some("connection refused"));
    assert_eq!(*world.line.standing(), Standing::Known, "that is no refusal");
    let back = world.now;
    world.run(Duration::from_secs(61), takes_all);
    assert_eq!((world.disk, world.line.unreached(world.now)), (0, None));
    assert_eq!(world.turns.last(), Some(&Turn::Restored));
    // From the first try on, everything follows at once.
    let sent = world.did.iter().rev().find(|(_, task)| matches!(task, Task::Send(_))).unwrap().0;
    let caught_up = u64::try_from((back - world.start + HEARTBEAT).as_millis()).unwrap();
    assert!(sent <= caught_up, "{sent} {caught_up}");
}

#[test]
fn a_receiver_that_asks_for_patience_gets_it_within_reason() {
    for (asked, silent) in [(20, 20), (100_000, 57)] {
        let mut world = World::known();
        world.run(Duration::from_secs(10), |_| busy(asked));
        world.did.clear();
        world.run(Duration::from_secs(silent - 1), takes_all);
        assert_eq!(world.did, []);
        world.run(Duration::from_secs(3), takes_all);
        assert!(!world.did.is_empty());
    }
}

#[test]
fn patience_with_events_silences_no_heartbeat_and_hosts_do_not_come_back_together() {
    let mut ends = vec![];
    for random in [0.0, 0.9] {
        let mut world = World::known();
        world.disk = 1;
        world.line.more();
        world.random = random;
        world.run(Duration::ZERO, |task| if task == Task::Send(1) { busy(100_000) } else { takes_all(task) });
        world.did.clear();
        world.run(Duration::from_secs(100), takes_all);
        assert!((9..12).contains(&world.times(Task::Heartbeat).len()), "{:?}", world.did);
        let why = world.line.unreached(world.now);
        assert_eq!(why.as_deref(), Some("events are not taken, it answers 429"));
        world.run(Duration::from_secs(500), takes_all);
        ends.push(world.times(Task::Send(1))[0]);
        assert_eq!((world.disk, world.line.unreached(world.now)), (0, None));
    }
    assert!(ends[1] > ends[0] + 10_000, "{ends:?}");
}

#[test]
fn whoever_shows_how_the_host_is_is_woken_for_it() {
    let mut world = World::known();
    let heard = world.now;
    world.run(Duration::from_secs(10), |_| busy(60));
    world.run(Duration::from_secs(49), |_| busy(60));
    assert_eq!(world.line.next(world.now), Next::Wait(heard + UNREACHED));
    assert_eq!(world.line.unreached(heard + UNREACHED).as_deref(), Some("it answers 429"));
}

#[test]
fn heartbeats_that_are_far_apart_are_no_outage() {
    let now = Instant::now();
    let mut line = Line::new(Duration::from_secs(300), true, now);
    line.answered(Task::Register { anew: false }, TAKEN, now, MIDDLE);
    assert_eq!(line.unreached(now + Duration::from_secs(599)), None);
    assert_eq!(line.unreached(now + Duration::from_secs(600)).as_deref(), Some("no answer"));
}

#[test]
fn heartbeats_that_fail_hold_up_no_events_and_those_that_are_taken_do_not_hurry_them() {
    let mut world = World::known();
    world.disk = 300;
    world.line.more();
    world.line.changed();
    let fails_itself = |task| if task == Task::Heartbeat { failed("timeout") } else { takes_all(task) };
    world.run(Duration::from_secs(70), fails_itself);
    assert_eq!(world.disk, 0);
    assert_eq!(world.line.unreached(world.now).as_deref(), Some("timeout"));

    let mut world = World::known();
    world.disk = 1;
    world.line.more();
    let fails_events = |task| if task == Task::Send(1) { failed("it answers 500") } else { takes_all(task) };
    world.run(Duration::from_secs(59), fails_events);
    assert_eq!(world.line.unreached(world.now), None);
    world.run(Duration::from_secs(541), fails_events);
    let tries = world.times(Task::Send(1)).len();
    assert!((10..25).contains(&tries), "{tries}");
    let why = world.line.unreached(world.now);
    assert_eq!(why.as_deref(), Some("events are not taken, it answers 500"));
    world.run(Duration::from_secs(61), takes_all);
    assert_eq!(world.line.unreached(world.now), None);
    assert_eq!(world.turns, [Turn::Lost("it answers 500".to_owned()), Turn::Restored]);
}

#[test]
fn a_receiver_that_is_slow_gets_fewer_events_at_a_time() {
    let mut world = World::new(1000);
    world.run(Duration::from_secs(600), |task| match task {
        Task::Send(count) if count > 10 => failed("timeout"),
        task => takes_all(task),
    });
    assert_eq!(world.disk, 0);
}

#[test]
fn events_of_another_file_are_loaded_anew() {
    let mut world = World::known();
    world.line.loaded(10, world.now);
    world.line.answered(Task::Send(10), Reply::Taken(4), world.now, MIDDLE);
    assert_eq!(world.line.next(world.now), Next::Do(Task::Forget));
    world.line.reload();
    assert_eq!(world.line.next(world.now), Next::Do(Task::Load));
}

#[test]
fn what_was_not_acknowledged_is_sent_again_before_anything_after_it() {
    let mut world = World::new(10);
    let refusals = std::cell::Cell::new(0);
    world.run(Duration::from_secs(5), |task| match task {
        Task::Send(_) if refusals.get() < 2 => {
            refusals.set(refusals.get() + 1);
            failed("reset")
        }
        // Not all of it.
        Task::Send(4) if refusals.replace(3) == 2 => Reply::Taken(2),
        task => takes_all(task),
    });
    let sent: Vec<Task> =
        world.did.iter().map(|(_, task)| *task).filter(|task| matches!(task, Task::Send(_))).collect();
    assert_eq!(sent, [Task::Send(10), Task::Send(5), Task::Send(2), Task::Send(4), Task::Send(6)]);
    assert_eq!(world.disk, 0);
}

#[test]
fn one_event_that_is_never_taken_is_found_by_halves_and_the_others_go_on() {
    let mut world = World::new(100);
    // The event that stands at 30 from the first.
    let poison = std::cell::Cell::new(30_usize);
    world.run(Duration::from_secs(5), |task| match task {
        Task::Send(count) if poison.get() < count => {
            if count == 1 {
                poison.set(usize::MAX);
            }
            Reply::Rejected("it answers 422".to_owned())
        }
        Task::Send(count) => {
            poison.set(poison.get().saturating_sub(if poison.get() == usize::MAX { 0 } else { count }));
            Reply::Taken(count)
        }
        task => takes_all(task),
    });
    assert_eq!(world.disk, 0);
    assert_eq!(world.times(Task::SetAside).len(), 1);
    assert!(world.did.len() < 40, "{:?}", world.did);
    assert_eq!(world.turns, [Turn::Known { again: false }], "nobody was lost");
}

#[test]
fn a_receiver_that_takes_nothing_is_not_fed_everything() {
    let mut world = World::new(100);
    world.run(Duration::from_secs(600), |task| match task {
        Task::Send(_) => Reply::Rejected("it answers 400".to_owned()),
        task => takes_all(task),
    });
    assert_eq!(world.times(Task::SetAside).len(), 4);
    assert_eq!(world.disk, 96);
    let tries = world.times(Task::Send(1)).len();
    assert!((14..30).contains(&tries), "{tries}");
    let why = world.line.unreached(world.now);
    assert_eq!(why.as_deref(), Some("events are not taken, it answers 400"));
    world.run(Duration::from_secs(61), takes_all);
    assert_eq!((world.disk, world.line.unreached(world.now)), (0, None));
    // One was taken since.
    world.disk = 1;
    world.line.more();
    world.run(Duration::from_secs(1), |task| match task {
        Task::Send(_) => Reply::Rejected("it answers 400".to_owned()),
        task => takes_all(task),
    });
    assert_eq!(world.times(Task::SetAside).len(), 5);
}

#[test]
fn f37_a_host_that_is_not_known_says_so_once_and_asks_again_with_a_fresh_credential() {
    for refused_at in [Task::Heartbeat, Task::Send(1)] {
        let mut world = World::new(0);
        world.run(Duration::from_secs(1), takes_all);
        world.disk = 1;
        world.line.more();
        let refuse = |_| Reply::Refused("it answers 401".to_owned());
        world.run(
            Duration::from_secs(15),
            |task| if task == refused_at { refuse(task) } else { takes_all(task) },
        );
        world.disk = 1;
        world.line.more();
        world.run(Duration::from_secs(600), refuse);
        world.turns.retain(|turn| *turn != Turn::Known { again: false });
        assert_eq!(world.turns[0], Turn::Refused, "{refused_at:?}");
        // Only one whose heartbeats are taken meanwhile is wanted in between.
        assert!(world.turns.len() == 1 || refused_at != Task::Heartbeat, "{:?}", world.turns);
        assert_eq!(*world.line.standing(), Standing::Refused("it answers 401".to_owned()));
        let tries = world.times(Task::Register { anew: true });
        assert!((12..30).contains(&tries.len()), "{tries:?}");
        world.run(Duration::from_secs(61), takes_all);
        assert_eq!(world.turns.last(), Some(&Turn::Known { again: true }));
        assert_eq!(world.disk, 0, "what has happened meanwhile is told");
    }
}

#[test]
fn events_that_are_refused_have_the_credential_renewed_and_the_host_stays_in_service() {
    let mut world = World::known();
    world.disk = 10;
    world.line.more();
    let is_fresh = std::cell::Cell::new(false);
    world.run(Duration::from_secs(2), |task| match task {
        Task::Send(_) if !is_fresh.get() => Reply::Refused("it answers 401".to_owned()),
        task => {
            is_fresh.set(is_fresh.get() || task == Task::Register { anew: true });
            takes_all(task)
        }
    });
    let did: Vec<Task> = world.did.iter().map(|(_, task)| *task).collect();
    let anew = Task::Register { anew: true };
    let sent = Task::Send(10);
    assert_eq!(did, [Task::Load, sent, anew, Task::Heartbeat, sent, Task::Forget, Task::Load]);
    assert_eq!(world.turns, [Turn::Known { again: false }]);
}

#[test]
fn events_that_are_refused_from_a_host_that_is_wanted_are_rejected() {
    let mut world = World::known();
    world.disk = 100;
    world.line.more();
    world.run(Duration::from_secs(600), |task| match task {
        Task::Send(_) => Reply::Refused("it answers 403".to_owned()),
        task => takes_all(task),
    });
    assert!(!world.turns.contains(&Turn::Refused), "{:?}", world.turns);
    assert_eq!(*world.line.standing(), Standing::Known);
    assert_eq!(world.times(Task::Register { anew: true }).len(), 1);
    assert_eq!((world.times(Task::SetAside).len(), world.disk), (4, 96));
    assert!(world.did.len() < 120, "{:?}", world.did);
    assert!(world.times(Task::Heartbeat).len() > 50);
}

#[test]
fn whether_events_are_refused_for_the_host_is_found_out_one_way_or_the_other() {
    for deaf in [Task::Register { anew: true }, Task::Heartbeat] {
        let mut world = World::known();
        world.disk = 1;
        world.line.more();
        let was_asked = std::cell::Cell::new(false);
        world.run(Duration::from_secs(30), |task| match task {
            Task::Send(_) if !was_asked.get() => Reply::Refused("it answers 401".to_owned()),
            task if task == deaf => failed("it answers 500"),
            task => {
                was_asked.set(true);
                takes_all(task)
            }
        });
        assert_eq!(world.disk, 0, "{deaf:?}");
        assert!(world.did.len() < 30, "{:?}", world.did);
    }
}

#[test]
fn at_the_end_there_is_no_quarrel_about_events_that_are_refused() {
    let mut world = World::known();
    world.disk = 1;
    world.line.finish(world.now + Duration::from_secs(2));
    world.run(Duration::from_secs(2), |task| match task {
        Task::Send(_) => Reply::Refused("it answers 401".to_owned()),
        task => takes_all(task),
    });
    let did: Vec<Task> = world.did.iter().map(|(_, task)| *task).collect();
    assert_eq!(did, [Task::Heartbeat, Task::Load, Task::Send(1)]);
    assert_eq!((world.line.next(world.now), world.now), (Next::Done, world.start), "at once");
}

#[test]
fn a_host_that_may_register_and_not_speak_does_not_flap() {
    let mut world = World::new(0);
    world.run(Duration::from_secs(600), |task| match task {
        Task::Register { .. } => TAKEN,
        _ => Reply::Refused("it answers 403".to_owned()),
    });
    assert_eq!(world.turns, [Turn::Known { again: false }, Turn::Refused]);
    let tries = world.times(Task::Register { anew: true }).len();
    assert!(tries < 30, "{tries}");
}

#[test]
fn f54_after_a_gap_the_host_is_told_of_at_once() {
    let mut world = World::known();
    world.run(Duration::from_secs(1000), |_| failed("timeout"));
    world.did.clear();
    let woke = u64::try_from((world.now - world.start).as_millis()).unwrap();
    world.line.woke(world.now);
    world.run(Duration::from_secs(1), takes_all);
    assert_eq!(world.times(Task::Heartbeat), [woke]);
}

#[test]
fn a_host_that_was_refused_before_takes_sessions_when_it_is_heard_and_not_when_it_registers() {
    let mut world = World::new(0);
    world.line = Line::new(HEARTBEAT, false, world.now);
    world.run(Duration::from_secs(60), |_| failed("cannot connect"));
    world.turns.clear();
    world.run(Duration::from_secs(10), |task| match task {
        Task::Register { .. } => TAKEN,
        _ => failed("cannot connect"),
    });
    let is_known = |world: &World| world.turns.iter().any(|turn| matches!(turn, Turn::Known { .. }));
    assert!(*world.line.standing() == Standing::Known && !is_known(&world), "{:?}", world.turns);
    world.run(Duration::from_secs(20), takes_all);
    assert_eq!(world.turns.last(), Some(&Turn::Known { again: true }));
}

#[test]
fn at_the_end_everything_goes_out_or_time_is_up() {
    let mut world = World::known();
    world.run(Duration::from_secs(100), |_| failed("timeout"));
    world.disk = 250;
    world.did.clear();
    let ends = world.now + Duration::from_secs(2);
    world.line.finish(ends);
    world.run(Duration::from_millis(500), |_| failed("timeout"));
    world.run(Duration::from_secs(10), takes_all);
    assert_eq!((world.disk, world.line.next(world.now)), (0, Next::Done));
    assert!(world.now < ends, "done before its time");

    let mut world = World::known();
    world.disk = 1;
    let ends = world.now + Duration::from_secs(2);
    world.line.finish(ends);
    world.run(Duration::from_secs(10), |_| failed("timeout"));
    assert_eq!((world.disk, world.now), (1, ends));
    assert!(world.did.len() < 20, "{:?}", world.did);
}

#[test]
fn a_disk_that_fails_holds_up_events_and_no_heartbeat() {
    let mut world = World::new(3);
    world.run(Duration::ZERO, |task| match task {
        Task::Send(_) => Reply::Taken(3),
        task => takes_all(task),
    });
    world.disk = 2;
    world.line.more();
    let now = world.now;
    assert_eq!(world.line.next(now), Next::Do(Task::Load));
    world.line.disk_failed(now);
    assert_eq!(world.line.next(now), Next::Wait(now + DISK_RETRY));
    world.line.changed();
    let later = now + COALESCE / 2;
    assert_eq!(world.line.next(later), Next::Wait(now + COALESCE));
    world.run(Duration::from_secs(20), takes_all);
    assert_eq!(world.disk, 0);
}

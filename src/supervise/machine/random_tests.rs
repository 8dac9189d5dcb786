//! Random sequences: whatever the order of events, the promises hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::status::ServiceState;
use super::tests::node;
use super::{Event, Machine, Report, RunEvent, RunId, Todo};
use crate::sys::Exit;

const REQUIRES: [&[usize]; 4] = [&[], &[0], &[1], &[0, 1]];

#[derive(Debug, Clone)]
enum Op {
    Start,
    Stop,
    StopNow,
    Restart(usize),
    Pass(u64),
    /// Carries out the n-th open action, well or badly.
    Answer(usize, bool),
    /// The n-th live main process ends by itself; whether others of its run are seen.
    Die(usize, bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Start),
        1 => Just(Op::Stop),
        1 => Just(Op::StopNow),
        1 => (0_usize..4).prop_map(Op::Restart),
        4 => (0_u64..6000).prop_map(Op::Pass),
        20 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, well)| Op::Answer(which, well)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, left)| Op::Die(which, left)),
    ]
}

#[derive(Default)]
struct Life {
    alive: bool,
    /// Processes other than the main one may be there until it was killed.
    populated: bool,
    cleaned: u32,
    was_up: bool,
}

/// The world that a machine believes in.
struct World {
    machine: Machine,
    now: Instant,
    open: Vec<(usize, RunId, Todo)>,
    runs: BTreeMap<(usize, RunId), Life>,
    wanted: bool,
}

impl World {
    fn new() -> Self {
        let nodes = vec![node("a", &[]), node("b", &["a"]), node("c", &["b"]), node("d", &["a", "b"])];
        let mut nodes = nodes;
        for node in &mut nodes[1..3] {
            node.restart.readopt_within = Some(Duration::from_secs(5));
        }
        let machine = Machine::new(nodes).unwrap();
        Self { machine, now: Instant::now(), open: Vec::new(), runs: BTreeMap::new(), wanted: false }
    }

    fn send(&mut self, event: Event) {
        let before = self.machine.views();
        let may_be_refused = matches!(event, Event::Restart(_)) && !self.wanted;
        let outcome = self.machine.handle(self.now, 0.5, event.clone());
        assert!(outcome.is_ok() || may_be_refused, "{outcome:?}");
        for action in self.machine.take_actions() {
            let key = (action.service, action.run);
            match &action.todo {
                Todo::Launch { .. } => {
                    for &required in REQUIRES[action.service] {
                        // Up in the very step that launches its dependant, or before it.
                        let state = self.machine.views()[required].state;
                        assert_eq!(state, ServiceState::Up, "{required} for {}", action.service);
                    }
                    let others = self.runs.iter().filter(|((service, _), life)| {
                        *service == action.service && (life.alive || life.populated)
                    });
                    assert_eq!(others.count(), 0, "two runs of {}", action.service);
                    assert!(self.runs.insert(key, Life::default()).is_none(), "a run number twice");
                }
                Todo::Report(Report::Failed { retry_in, .. }) => {
                    let bounds = Duration::from_millis(500)..=Duration::from_secs(30);
                    assert!(bounds.contains(retry_in), "{retry_in:?}");
                }
                // Questions are dropped by a kill.
                Todo::KillAll => self.open.retain(|(service, run, todo)| {
                    (*service, *run) != key || !matches!(todo, Todo::Probe | Todo::AskToStop)
                }),
                Todo::CleanUp => {
                    let life = &self.runs[&key];
                    assert!(!life.alive && !life.populated, "cleaned up under the feet of a process");
                }
                Todo::Probe => {
                    let twice = self.open.iter().any(|(s, r, todo)| (*s, *r) == key && *todo == Todo::Probe);
                    assert!(!twice, "two probes at a time");
                }
                Todo::AskToStop | Todo::Terminate | Todo::Report(_) => {}
            }
            if !matches!(action.todo, Todo::Terminate | Todo::Report(_)) {
                self.open.push((action.service, action.run, action.todo));
            }
        }
        self.verify_invariants(&before.iter().map(|view| view.starts).collect::<Vec<_>>());
    }

    fn verify_invariants(&mut self, starts_before: &[u32]) {
        for (service, view) in self.machine.views().iter().enumerate() {
            let live: Vec<_> =
                self.runs.iter().filter(|((s, _), life)| *s == service && life.alive).collect();
            assert!(live.len() <= 1);
            assert!(view.starts >= starts_before[service]);
            if matches!(view.state, ServiceState::Stopped | ServiceState::Waiting | ServiceState::BackingOff)
            {
                assert_eq!(live.len(), 0, "{view:?} with a live process");
                assert_eq!(view.pid, None);
            }
            assert!(view.pid.is_none() || !live.is_empty(), "{view:?} with a process that has ended");
        }
        assert!(self.runs.values().all(|life| life.cleaned <= 1));
    }

    fn answer(&mut self, which: usize, well: bool) {
        if self.open.is_empty() {
            return;
        }
        let (service, run, todo) = self.open.swap_remove(which % self.open.len());
        let life = self.runs.get_mut(&(service, run)).unwrap();
        let what = match todo {
            Todo::Launch { .. } if well => {
                *life = Life { alive: true, populated: true, was_up: true, cleaned: 0 };
                RunEvent::Spawned { pid: 1, says_when_ready: false }
            }
            Todo::Launch { .. } => RunEvent::SpawnFailed("no".into()),
            Todo::Probe if well => RunEvent::Probed(Ok(())),
            Todo::Probe => RunEvent::Probed(Err("no".into())),
            Todo::AskToStop => RunEvent::Asked(well),
            Todo::KillAll if well => {
                life.populated = false;
                if std::mem::take(&mut life.alive) {
                    let exit =
                        RunEvent::Exited { exit: Exit::Signal(9), last_line: None, others_left: false };
                    self.send(Event::Run { service, run, what: exit });
                }
                RunEvent::Emptied
            }
            Todo::KillAll => RunEvent::NotEmptied,
            Todo::CleanUp => {
                life.cleaned += 1;
                RunEvent::CleanedUp
            }
            Todo::Terminate | Todo::Report(_) => unreachable!(),
        };
        self.send(Event::Run { service, run, what });
    }

    fn die(&mut self, which: usize, others_left: bool) {
        let alive: Vec<_> = self.runs.iter().filter(|(_, life)| life.alive).map(|(key, _)| *key).collect();
        if alive.is_empty() {
            return;
        }
        let (service, run) = alive[which % alive.len()];
        self.runs.get_mut(&(service, run)).unwrap().alive = false;
        let exit = RunEvent::Exited { exit: Exit::Status(1), last_line: None, others_left };
        self.send(Event::Run { service, run, what: exit });
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Start => {
                self.wanted = true;
                self.send(Event::Start);
            }
            Op::Stop => {
                self.wanted = false;
                self.send(Event::Stop);
            }
            Op::StopNow => {
                self.wanted = false;
                self.send(Event::StopNow);
            }
            Op::Restart(service) => self.send(Event::Restart(service)),
            Op::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                self.send(Event::Tick);
            }
            Op::Answer(which, well) => self.answer(which, well),
            Op::Die(which, others_left) => self.die(which, others_left),
        }
    }

    /// Carries everything out well, and lets time pass, until `done`.
    fn carry_on(&mut self, done: impl Fn(&Machine) -> bool) {
        for _ in 0..1000 {
            if done(&self.machine) {
                return;
            }
            if self.open.is_empty() {
                let deadline = self.machine.deadline().expect("neither an action nor a deadline: stuck");
                self.now = self.now.max(deadline);
                self.send(Event::Tick);
            } else {
                self.answer(0, true);
            }
        }
        panic!("not there after 1000 steps: {:#?}", self.machine);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_the_promises_hold(ops in prop::collection::vec(op(), 1..200)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        world.apply(Op::Start);
        let up = |machine: &Machine| machine.views().iter().all(|view| view.state == ServiceState::Up);
        world.carry_on(up);
        world.apply(Op::Stop);
        world.carry_on(Machine::is_stopped);
        let unclean: BTreeSet<_> =
            world.runs.iter().filter(|(_, life)| life.was_up && life.cleaned != 1).map(|(key, _)| *key).collect();
        prop_assert!(unclean.is_empty(), "{unclean:?}");
        prop_assert!(world.open.is_empty());
        prop_assert_eq!(world.machine.deadline(), None);
    }
}

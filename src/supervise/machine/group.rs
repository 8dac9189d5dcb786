//! The group: events in, actions out, and how runs are ended.

use std::time::{Duration, Instant};

use super::service::{Actual, Cause, Phase, ProbeClock, Service, Step};
use super::vocabulary::{Action, Event, GraphError, Illegal, Node, Report, RunId, Todo, View};

/// A dependant that fails so shortly before its requirement does failed because of it: the news of a dead display comes to
/// the browser first.
const CONSEQUENCE: Duration = Duration::from_secs(1);

/// The state of a group. After each event, take the actions; at [`Machine::deadline`], send a tick.
#[derive(Debug)]
pub struct Machine {
    pub(super) services: Vec<Service>,
    actions: Vec<Action>,
    pub(super) next_run: u64,
    /// Whether the group is meant to run.
    wanted: bool,
    /// Whether runs are ended without asking.
    in_haste: bool,
}

impl Machine {
    /// A group, stopped.
    ///
    /// # Errors
    /// When the requirements make no order.
    pub fn new(nodes: Vec<Node>) -> Result<Self, GraphError> {
        let mut services: Vec<_> = nodes.into_iter().map(Service::new).collect();
        for index in 0..services.len() {
            let name = services[index].node.name;
            if services[..index].iter().any(|other| other.node.name == name) {
                return Err(GraphError::Duplicate(name));
            }
            for requires in services[index].node.requires.clone() {
                let found = services.iter().position(|other| other.node.name == requires);
                let found = found.ok_or(GraphError::Unknown { service: name, requires })?;
                services[index].requires.push(found);
                services[found].required_by.push(index);
            }
        }
        no_cycles(&services)?;
        Ok(Self { services, actions: Vec::new(), next_run: 0, wanted: false, in_haste: false })
    }

    /// What to do, in this order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When to send the next [`Event::Tick`].
    pub fn deadline(&self) -> Option<Instant> {
        self.services.iter().filter_map(Service::deadline).min()
    }

    /// Each service, in the order of the nodes.
    pub fn views(&self) -> Vec<View> {
        self.services.iter().map(Service::view).collect()
    }

    /// Whether nothing is wanted and nothing is left.
    pub fn is_stopped(&self) -> bool {
        self.services.iter().all(|service| !service.wanted && service.actual == Actual::Stopped)
    }

    /// Takes one event. `random` is uniform in `0.0..1.0`.
    ///
    /// # Errors
    /// [`Illegal`]; nothing has changed then.
    pub fn handle(&mut self, now: Instant, random: f64, event: Event) -> Result<(), Illegal> {
        match event {
            Event::Start => self.want(true),
            Event::Stop => self.want(false),
            Event::StopNow => {
                self.want(false);
                self.in_haste = true;
                for index in 0..self.services.len() {
                    self.hurry(index);
                }
            }
            Event::Restart(index) => match self.services.get_mut(index) {
                Some(service) if service.wanted => service.restart_asked = true,
                Some(service) => return Err(illegal(service, "Restart")),
                None => return Err(nobody(index)),
            },
            Event::Release(index) => {
                let wanted = self.wanted;
                let service = self.services.get_mut(index).ok_or_else(|| nobody(index))?;
                service.node.held = false;
                service.wanted = wanted;
            }
            Event::Tick => {
                for index in 0..self.services.len() {
                    self.tick(index, now, random);
                }
            }
            Event::Run { service, run, what } => self.run_event(service, run, what, now, random)?,
        }
        self.settle(now);
        Ok(())
    }

    pub(super) fn want(&mut self, wanted: bool) {
        self.in_haste = false;
        self.wanted = wanted;
        for service in &mut self.services {
            service.wanted = wanted && !service.node.held;
            if !wanted {
                service.restart_asked = false;
            }
        }
    }

    pub(super) fn act(&mut self, index: usize, run: RunId, todo: Todo) {
        self.actions.push(Action { service: index, run, todo });
    }

    fn tick(&mut self, index: usize, now: Instant, random: f64) {
        let service = &mut self.services[index];
        let healthy_after = service.node.restart.healthy_after;
        match &mut service.actual {
            Actual::Starting { deadline, .. } if *deadline <= now => {
                let limit = service.node.timing.start_deadline;
                let why = service.reason.take().map(|why| format!(": {why}")).unwrap_or_default();
                self.fail(index, format!("not ready within {}{why}", seconds(limit)), now, random);
            }
            Actual::Starting { live, phase: Phase::Probing(clock), .. } => {
                let run = live.run;
                let clock = *clock;
                self.probe_if_due(index, run, clock, now);
            }
            Actual::Up { live, since, probe, .. } => {
                let (run, clock) = (live.run, *probe);
                if *since + healthy_after <= now {
                    service.healthy();
                }
                self.probe_if_due(index, run, clock, now);
            }
            Actual::Ending { step: Step::Asking { until }, .. } if *until <= now => {
                self.terminate(index, now)
            }
            Actual::Ending { step: Step::Terminating { until }, cause, .. } if *until <= now => {
                let cause = *cause;
                self.kill(index, cause);
            }
            Actual::Ending { live, step: Step::Killing { again, .. }, .. }
                if again.is_some_and(|at| at <= now) =>
            {
                *again = None;
                let run = live.run;
                self.act(index, run, Todo::KillAll);
            }
            Actual::BackingOff { until } if *until <= now => service.actual = Actual::Waiting,
            _ => {}
        }
    }

    fn probe_if_due(&mut self, index: usize, run: RunId, clock: ProbeClock, now: Instant) {
        let ProbeClock::At(at) = clock else { return };
        if at > now {
            return;
        }
        if let Actual::Starting { phase: Phase::Probing(clock), .. } | Actual::Up { probe: clock, .. } =
            &mut self.services[index].actual
        {
            *clock = ProbeClock::InFlight;
            self.act(index, run, Todo::Probe);
        }
    }

    /// Ends a run that failed, at once and whole.
    pub(super) fn fail(&mut self, index: usize, reason: String, now: Instant, random: f64) {
        let Some(run) = self.services[index].run() else { return };
        let retry_in = self.count_failure(index, run, reason, now, random);
        self.kill(index, Cause::Failure { retry_in });
    }

    pub(super) fn count_failure(
        &mut self,
        index: usize,
        run: RunId,
        reason: String,
        now: Instant,
        random: f64,
    ) -> Duration {
        let service = &mut self.services[index];
        let policy = service.node.restart;
        if let Actual::Up { since, .. } = service.actual
            && since + policy.healthy_after <= now
        {
            service.healthy();
        }
        let retry_in = policy.backoff.delay(service.failures, random);
        service.failures = service.failures.saturating_add(1);
        service.failed_at = Some(now);
        service.reason = Some(reason.clone());
        let failures = service.failures;
        let newly = failures >= policy.crash_loop_after && !service.crash_loop;
        service.crash_loop |= newly;
        self.act(index, run, Todo::Report(Report::Failed { reason, retry_in }));
        if newly {
            self.act(index, run, Todo::Report(Report::CrashLoop { failures }));
        }
        self.forgive_dependants(index, now);
        retry_in
    }

    fn forgive_dependants(&mut self, index: usize, now: Instant) {
        for dependant in self.services[index].required_by.clone() {
            let service = &mut self.services[dependant];
            if service.failed_at.is_none_or(|at| now.duration_since(at) > CONSEQUENCE) {
                continue;
            }
            match &mut service.actual {
                Actual::Ending { cause: cause @ Cause::Failure { .. }, .. } => {
                    *cause = Cause::RequirementLost
                }
                Actual::BackingOff { .. } => service.actual = Actual::Waiting,
                _ => continue,
            }
            service.forgive();
        }
    }

    pub(super) fn begin_stop(&mut self, index: usize, cause: Cause, ask: bool, now: Instant) {
        let service = &mut self.services[index];
        if matches!(cause, Cause::Restart) {
            service.restart_asked = false;
        }
        let ask = ask && service.answers();
        let (Actual::Starting { live, .. } | Actual::Up { live, .. }) = service.actual else { return };
        if self.in_haste {
            self.kill(index, cause);
            return;
        }
        let until = now + service.node.timing.ask_grace;
        service.actual = Actual::Ending { live, step: Step::Asking { until }, cause };
        if ask {
            self.act(index, live.run, Todo::AskToStop);
        } else {
            self.terminate(index, now);
        }
    }

    pub(super) fn terminate(&mut self, index: usize, now: Instant) {
        let service = &mut self.services[index];
        let until = now + service.node.timing.term_grace;
        if let Actual::Ending { live, step, .. } = &mut service.actual {
            *step = Step::Terminating { until };
            let run = live.run;
            self.act(index, run, Todo::Terminate);
        }
    }

    pub(super) fn kill(&mut self, index: usize, cause: Cause) {
        let (Actual::Starting { live, .. } | Actual::Up { live, .. } | Actual::Ending { live, .. }) =
            self.services[index].actual
        else {
            return;
        };
        let step = Step::Killing { exited: live.orphaned, emptied: false, again: None };
        self.services[index].actual = Actual::Ending { live, step, cause };
        self.act(index, live.run, Todo::KillAll);
    }

    pub(super) fn hurry(&mut self, index: usize) {
        match self.services[index].actual {
            Actual::Starting { .. } | Actual::Up { .. } => self.kill(index, Cause::Unwanted),
            Actual::Ending { step: Step::Asking { .. } | Step::Terminating { .. }, cause, .. } => {
                self.kill(index, cause);
            }
            _ => {}
        }
    }
}

fn no_cycles(services: &[Service]) -> Result<(), GraphError> {
    let mut sorted = vec![false; services.len()];
    for _ in services {
        for (index, service) in services.iter().enumerate() {
            sorted[index] |= service.requires.iter().all(|&other| sorted[other]);
        }
    }
    match sorted.iter().position(|sorted| !sorted) {
        Some(index) => Err(GraphError::Cycle(services[index].node.name)),
        None => Ok(()),
    }
}

pub(super) fn illegal(service: &Service, event: impl std::fmt::Debug) -> Illegal {
    Illegal {
        service: service.node.name.to_owned(),
        state: format!("{:?}", service.actual),
        event: format!("{event:?}"),
    }
}

pub(super) fn nobody(index: usize) -> Illegal {
    Illegal { service: format!("number {index}"), state: "not there".to_owned(), event: "it".to_owned() }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

//! The task that owns a group: it feeds the [machine](super::machine) and carries out what it says.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handle::{GroupHandle, Label, Request, RestartError, StopReport};
use super::machine::{Action, Event, GraphError, Machine, Node, Report, RunEvent, RunId, Todo, View};
use super::run::{Inbox, KILL_BUDGET, News, PROGRAM_DEADLINE, Run};
use super::spec::{Running, ServiceSpec};
use super::status::{GroupStatus, ServiceState, ServiceStatus};
use crate::clock;
use crate::errors::{chain, is_out_of_files};
use crate::sys::{Cell, Child, Host, Limits};
use crate::tasks::{Outcome, Scope, blocking};

/// Requests that may wait; more wait with their senders.
const REQUESTS: usize = 16;
/// News that may wait; a run's task waits with what is more, and its output in the pipe.
const NEWS: usize = 64;
/// For the kill after a stop whose budget is spent.
const LAST_BUDGET: Duration = Duration::from_secs(3);

/// One run, as the actor holds it.
struct Active {
    token: CancellationToken,
    /// Open questions; dropped when the run is killed.
    questions: CancellationToken,
    attempt: u32,
    held: Option<(Arc<Child>, Cell)>,
    last_lines: Vec<String>,
}

struct Stopping {
    deadline: Instant,
    report: StopReport,
    in_haste: bool,
    reply: oneshot::Sender<StopReport>,
}

/// The task's state.
pub struct Group {
    /// Of its cgroup, for good.
    name: Arc<str>,
    /// In the log.
    label: Label,
    specs: Vec<ServiceSpec>,
    host: Host,
    /// On all services together.
    limits: Limits,
    machine: Machine,
    active: HashMap<(usize, RunId), Active>,
    stopping: Vec<Stopping>,
    news: Inbox,
    /// The tasks of runs, probes and kills.
    scope: Scope,
    views: Vec<View>,
    status: watch::Sender<GroupStatus>,
}

impl Group {
    /// Starts the actor of a group called `name` (one path segment; also the `session` field of the log until
    /// [`GroupHandle::rename`]), all stopped. `limits` are for all its services together.
    ///
    /// # Errors
    /// [`GraphError`] when the requirements make no order.
    pub fn spawn(
        scope: &mut Scope,
        name: &str,
        specs: Vec<ServiceSpec>,
        host: &Host,
        limits: Limits,
    ) -> Result<GroupHandle, GraphError> {
        let machine = Machine::new(specs.iter().map(node).collect())?;
        let views = machine.views();
        let services = specs.iter().zip(&views).map(|(spec, view)| status_of(spec.name, view)).collect();
        let (status, published) = watch::channel(GroupStatus { generation: 0, services });
        let (wanted, wants) = watch::channel(false);
        let (requests, inbox) = mpsc::channel(REQUESTS);
        let (news, events) = mpsc::channel(NEWS);
        let label = Label::new(name);
        let group = Self {
            name: name.into(),
            label: label.clone(),
            specs,
            host: host.clone(),
            limits,
            machine,
            active: HashMap::new(),
            stopping: Vec::new(),
            news,
            // Not a child of the caller's token: a stop needs its tasks.
            scope: Scope::new(),
            views,
            status,
        };
        let token = scope.token();
        scope.spawn("group", group.serve(wants, inbox, events, token));
        Ok(GroupHandle { wanted: Arc::new(wanted), requests, status: published, label })
    }

    async fn serve(
        mut self,
        mut wants: watch::Receiver<bool>,
        mut requests: mpsc::Receiver<Request>,
        mut news: mpsc::Receiver<(usize, RunId, News)>,
        token: CancellationToken,
    ) {
        let (mut cancelled, mut handles) = (false, true);
        loop {
            let due = self.due();
            tokio::select! {
                changed = wants.changed(), if handles && !cancelled => {
                    // Without a handle it goes on as it is; the scope decides when it ends.
                    handles = changed.is_ok();
                    let wanted = *wants.borrow_and_update();
                    if handles {
                        self.want(wanted);
                    }
                }
                Some(request) = requests.recv() => {
                    if let Request::Stop { .. } = request {
                        wants.mark_unchanged();
                    }
                    self.request(request);
                }
                Some((service, run, what)) = news.recv() => self.hear(service, run, what),
                () = clock::until(due) => self.handle(Event::Tick),
                () = token.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.want(false);
                }
                Some(finished) = self.scope.join_next() => {
                    if let Outcome::Panicked(error) = finished.outcome {
                        tracing::error!(session = %self.label, task = finished.name, error, "a task panicked");
                    }
                }
            }
            self.settle_stops();
            if cancelled && self.machine.is_stopped() {
                break;
            }
        }
        let (host, name) = (self.host.clone(), Arc::clone(&self.name));
        let removed = blocking(PROGRAM_DEADLINE, move || host.containment().remove_group(&name)).await;
        if let Err(error) = removed.and_then(|outcome| outcome) {
            tracing::warn!(session = %self.label, error = %chain(&error), "cannot remove the group's cgroup");
        }
    }

    fn due(&self) -> Option<Instant> {
        let stops = self.stopping.iter().map(|stop| stop.deadline);
        self.machine.deadline().into_iter().chain(stops).min()
    }

    fn want(&mut self, wanted: bool) {
        if wanted {
            // Whoever waits for a stop has been overruled.
            for stop in self.stopping.drain(..) {
                let _gave_up = stop.reply.send(stop.report);
            }
        }
        self.handle(if wanted { Event::Start } else { Event::Stop });
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Stop { budget, reply } => {
                let deadline = Instant::now() + budget;
                self.handle(Event::Stop);
                self.stopping.push(Stopping {
                    deadline,
                    report: StopReport::default(),
                    in_haste: false,
                    reply,
                });
            }
            Request::Restart { service, reply } => {
                let index = self.specs.iter().position(|spec| spec.name == service);
                let outcome = match index {
                    None => Err(RestartError::Unknown(service)),
                    Some(index) => match self.step(Event::Restart(index)) {
                        Ok(()) => Ok(()),
                        Err(_) => Err(RestartError::NotWanted),
                    },
                };
                let _gave_up = reply.send(outcome);
            }
            Request::Release { service } => match self.specs.iter().position(|spec| spec.name == service) {
                Some(index) => self.handle(Event::Release(index)),
                None => tracing::error!(session = %self.label, service, "no such service to release"),
            },
            Request::Ping(reply) => {
                let _gave_up = reply.send(());
            }
        }
    }

    fn hear(&mut self, service: usize, run: RunId, news: News) {
        let what = match news {
            News::Launched { child, cell, says_when_ready } => {
                let pid = child.pid();
                if let Some(active) = self.active.get_mut(&(service, run)) {
                    active.held = Some((child, cell));
                }
                RunEvent::Spawned { pid, says_when_ready }
            }
            News::Event(what, last_lines) => {
                if let Some(active) = self.active.get_mut(&(service, run)) {
                    active.last_lines = last_lines;
                }
                what
            }
        };
        let over = matches!(what, RunEvent::SpawnFailed(_) | RunEvent::CleanedUp);
        self.handle(Event::Run { service, run, what });
        if over && let Some(active) = self.active.remove(&(service, run)) {
            active.token.cancel();
        }
    }

    fn handle(&mut self, event: Event) {
        if let Err(illegal) = self.step(event) {
            tracing::error!(session = %self.label, error = %illegal, "a mistake in supervision");
        }
    }

    fn step(&mut self, event: Event) -> Result<(), super::machine::Illegal> {
        self.machine.handle(Instant::now(), random(), event)?;
        for action in self.machine.take_actions() {
            self.carry_out(action);
        }
        self.publish();
        Ok(())
    }

    fn carry_out(&mut self, action: Action) {
        let Action { service, run, todo } = action;
        match todo {
            Todo::Launch { attempt } => self.launch(service, run, attempt),
            Todo::Probe => self.probe(service, run),
            Todo::AskToStop => self.ask_to_stop(service, run),
            Todo::Terminate => self.terminate(service, run),
            Todo::KillAll => self.kill_all(service, run),
            Todo::CleanUp => self.clean_up(service, run),
            Todo::Report(report) => self.report(service, run, report),
        }
    }

    fn launch(&mut self, index: usize, run: RunId, attempt: u32) {
        let token = self.scope.token().child_token();
        let questions = token.child_token();
        let active = Active { token: token.clone(), questions, attempt, held: None, last_lines: Vec::new() };
        self.active.insert((index, run), active);
        let task = Run {
            host: self.host.clone(),
            group: Arc::clone(&self.name),
            label: self.label.clone(),
            limits: self.limits,
            may_be_orphaned: self.specs[index].restart.readopt_within.is_some(),
            service: self.specs[index].name,
            program: Arc::clone(&self.specs[index].program),
            index,
            run,
            inbox: self.news.clone(),
            token,
        };
        self.scope.spawn("run", task.drive());
    }

    fn running(&self, index: usize, run: RunId) -> Option<(&Active, Running, &Arc<Child>, &Cell)> {
        let active = self.active.get(&(index, run))?;
        let (child, cell) = active.held.as_ref()?;
        Some((active, Running { pid: child.pid(), attempt: active.attempt }, child, cell))
    }

    fn probe(&mut self, index: usize, run: RunId) {
        let Some((active, running, ..)) = self.running(index, run) else { return };
        let (questions, news) = (active.questions.clone(), self.news.clone());
        let program = Arc::clone(&self.specs[index].program);
        let limit = self.specs[index].timing.probe_deadline;
        self.scope.spawn("probe", async move {
            // A panic must be an answer, or the next probe would never come.
            let probe = timeout(limit, AssertUnwindSafe(program.probe(&running)).catch_unwind());
            let Some(answer) = questions.run_until_cancelled(probe).await else { return };
            let what = match answer {
                Ok(Ok(Err(error))) if is_out_of_files(&error) => RunEvent::NotProbed(chain(&error)),
                Ok(Ok(outcome)) => RunEvent::Probed(outcome.map_err(|error| chain(&error))),
                Ok(Err(_)) => RunEvent::Probed(Err("the probe panicked".to_owned())),
                Err(_) => RunEvent::Probed(Err(format!("did not answer within {} s", limit.as_secs_f64()))),
            };
            tell(&news, index, run, what).await;
        });
    }

    fn ask_to_stop(&mut self, index: usize, run: RunId) {
        let Some((active, running, ..)) = self.running(index, run) else { return };
        let (questions, news) = (active.questions.clone(), self.news.clone());
        let program = Arc::clone(&self.specs[index].program);
        let (label, service) = (self.label.clone(), self.specs[index].name);
        // The machine keeps the deadline, and has the question dropped by a kill.
        self.scope.spawn("ask to stop", async move {
            let Some(answer) = questions.run_until_cancelled(program.ask_to_stop(&running)).await else {
                return;
            };
            let did = answer.unwrap_or_else(|error| {
                tracing::debug!(session = %label, service, error = %chain(&error), "cannot be asked to stop");
                false
            });
            tell(&news, index, run, RunEvent::Asked(did)).await;
        });
    }

    fn terminate(&self, index: usize, run: RunId) {
        // One that others carry on: its first process has ended, so that all of it is meant.
        let of_all = self.views.get(index).is_some_and(|view| view.pid.is_none());
        if let Some((_, running, child, cell)) = self.running(index, run)
            && let Err(error) = if of_all { cell.terminate_all() } else { child.terminate() }
        {
            let service = self.specs[index].name;
            tracing::warn!(session = %self.label, service, pid = running.pid, %error, "cannot send SIGTERM");
        }
    }

    fn kill_all(&mut self, index: usize, run: RunId) {
        let Some((active, _, child, cell)) = self.running(index, run) else { return };
        active.questions.cancel();
        let (child, cell, news) = (Arc::clone(child), cell.clone(), self.news.clone());
        let (label, service) = (self.label.clone(), self.specs[index].name);
        self.scope.spawn("kill", async move {
            let killed = blocking(2 * KILL_BUDGET, move || {
                // In the cell as well; by itself too, should the cell be out of reach.
                child.kill().and_then(|()| cell.kill_until_empty(KILL_BUDGET))
            });
            let empty = killed.await.and_then(|outcome| outcome).unwrap_or_else(|error| {
                tracing::error!(session = %label, service, error = %chain(&error), "cannot kill");
                false
            });
            tell(&news, index, run, if empty { RunEvent::Emptied } else { RunEvent::NotEmptied }).await;
        });
    }

    fn clean_up(&mut self, index: usize, run: RunId) {
        let Some((_, running, _, cell)) = self.running(index, run) else { return };
        let (cell, news) = (cell.clone(), self.news.clone());
        let program = Arc::clone(&self.specs[index].program);
        let (label, service) = (self.label.clone(), self.specs[index].name);
        self.scope.spawn("clean up", async move {
            let cleaned = blocking(PROGRAM_DEADLINE, move || {
                program.clean_up(&running);
                cell.remove()
            });
            if let Err(error) = cleaned.await.and_then(|outcome| outcome) {
                tracing::warn!(session = %label, service, error = %chain(&error), "cannot clean up");
            }
            tell(&news, index, run, RunEvent::CleanedUp).await;
        });
    }

    fn report(&self, index: usize, run: RunId, report: Report) {
        let (session, service) = (&self.label, self.specs[index].name);
        match report {
            Report::Up { took } => {
                tracing::info!(%session, service, took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "up");
            }
            Report::Orphaned { reason } => {
                tracing::warn!(%session, service, %reason, "others of it are left, and may carry it on");
            }
            Report::Readopted => tracing::info!(%session, service, "goes on without its first process"),
            Report::Failed { reason, retry_in } => {
                let in_crash_loop = self.views.get(index).is_some_and(|view| view.crash_loop);
                if in_crash_loop {
                    tracing::debug!(%session, service, error = %reason, ?retry_in, "failed again");
                    return;
                }
                tracing::warn!(%session, service, error = %reason, ?retry_in, "failed");
                let lines = self.active.get(&(index, run)).map(|active| active.last_lines.as_slice());
                for line in lines.unwrap_or_default() {
                    tracing::warn!(%session, service, "before it failed: {line}");
                }
            }
            Report::CrashLoop { failures } => {
                tracing::error!(%session, service, failures, "fails again and again; tries go on without a word");
            }
            Report::Stuck => tracing::error!(%session, service, "processes survive SIGKILL"),
        }
    }

    fn publish(&mut self) {
        let views = self.machine.views();
        if views == self.views {
            return;
        }
        self.status.send_modify(|status| {
            status.generation += 1;
            let old = self.views.iter().zip(&views);
            for ((service, spec), (before, now)) in status.services.iter_mut().zip(&self.specs).zip(old) {
                let since = service.since;
                *service = status_of(spec.name, now);
                if before.state == now.state {
                    service.since = since;
                }
            }
        });
        self.views = views;
    }

    fn settle_stops(&mut self) {
        let now = Instant::now();
        let left: Vec<_> = self.specs.iter().zip(&self.views).filter(|(_, view)| !is_down(view)).collect();
        let left: Vec<_> = left.into_iter().map(|(spec, _)| spec.name).collect();
        let mut hurry = false;
        for mut stop in std::mem::take(&mut self.stopping) {
            if left.is_empty() || (stop.in_haste && stop.deadline <= now) {
                stop.report.left.clone_from(&left);
                let _gave_up = stop.reply.send(stop.report);
                continue;
            }
            if stop.deadline <= now {
                hurry = true;
                stop.in_haste = true;
                stop.report.forced.clone_from(&left);
                stop.deadline = now + LAST_BUDGET;
            }
            self.stopping.push(stop);
        }
        if hurry {
            tracing::warn!(session = %self.label, services = ?left, "not down in time, killing");
            self.handle(Event::StopNow);
        }
    }
}

impl Drop for Group {
    /// Reached with runs only when the task was aborted: their main processes die with their owners, the rest here.
    fn drop(&mut self) {
        for (_, cell) in self.active.values().filter_map(|active| active.held.as_ref()) {
            if let Err(error) = cell.kill_all() {
                tracing::error!(session = %self.label, error = %chain(&error), "cannot kill");
            }
        }
    }
}

async fn tell(news: &Inbox, index: usize, run: RunId, what: RunEvent) {
    if news.send((index, run, News::Event(what, Vec::new()))).await.is_err() {
        tracing::trace!("the actor has ended");
    }
}

fn node(spec: &ServiceSpec) -> Node {
    Node {
        name: spec.name,
        requires: spec.requires.clone(),
        timing: spec.timing,
        restart: spec.restart,
        held: spec.held,
    }
}

fn is_down(view: &View) -> bool {
    view.state == ServiceState::Stopped
}

fn status_of(name: &'static str, view: &View) -> ServiceStatus {
    ServiceStatus {
        name,
        state: view.state,
        since: SystemTime::now(),
        pid: view.pid,
        starts: view.starts,
        crash_loop: view.crash_loop,
        reason: view.reason.clone(),
    }
}

/// For jitter; without randomness there is none.
fn random() -> f64 {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

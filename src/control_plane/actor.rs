//! The task: what [`super::line`] decides is done here, and what comes of it is told to it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use prometheus::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Exchange};
use super::config::{Auth, Config};
use super::intake::Intake;
use super::line::{BATCH, Line, Next, Standing, Task, Turn};
use super::mark::Mark;
use super::metrics::Metrics;
use super::reply::Reply;
use super::report::Subject;
use crate::backoff::random_fraction;
use crate::clock;
use crate::errors::chain;
use crate::health::{Part, Survey};
use crate::session::{Component, ComponentStatus, ManagerHandle};
use crate::store::{Outbox, Store, Waiting};
use crate::tasks::Scope;

/// For the machine to know who it is, before it registers without.
const IDENTITY_PATIENCE: Duration = Duration::from_secs(3);
/// Labels and details of the events that are held in memory, in bytes; one more may be beyond it.
const PAGE_BYTES: usize = 256 * 1024;
/// For the credential to be read anew.
const RENEWAL_DEADLINE: Duration = Duration::from_secs(5);
/// For one exchange when the daemon ends.
const LAST_EXCHANGE: Duration = Duration::from_secs(1);
/// For what has happened last to be on disk, when the daemon ends.
const LAST_FLUSH: Duration = Duration::from_millis(500);
/// Beyond its budget, for the line to have ended.
const END_GRACE: Duration = Duration::from_millis(250);
/// Clocks that differ by more are worth a warning: tokens and events bear times.
const MOST_SKEW_SECONDS: f64 = 30.0;

const REGISTER: &str = "/v1/hosts/register";
const HEARTBEAT: &str = "/v1/hosts/heartbeat";
const EVENTS: &str = "/v1/hosts/events";

/// Somebody wants the credential read again; whoever can, answers with it.
pub type Renewal = oneshot::Sender<Auth>;

/// The line before it runs.
pub struct ControlPlane {
    client: Client,
    heartbeat: Duration,
    metrics: Metrics,
    status: watch::Sender<Component>,
    renewals: mpsc::Sender<Renewal>,
    mark: Mark,
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates cannot be used.
    #[error("cannot talk to the control plane: {0}")]
    Client(String),
    /// A metric was registered twice, which would be a bug.
    #[error("cannot set up metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Ends the line in order.
pub struct LineHandle {
    finish: watch::Sender<Option<Instant>>,
    shown: watch::Sender<Option<Auth>>,
    done: oneshot::Receiver<()>,
}

impl LineHandle {
    /// Has the host show something else from now on.
    pub fn show(&self, auth: Auth) {
        self.shown.send_replace(Some(auth));
    }

    /// Has everything told that can be told within `budget`, and waits for that.
    pub async fn finish(self, budget: Duration) {
        self.finish.send_replace(Some(Instant::now() + budget));
        if timeout(budget + END_GRACE, self.done).await.is_err() {
            tracing::warn!("the line to the control plane did not end in time");
        }
    }
}

impl ControlPlane {
    /// A line that says nothing yet, and where it asks for its credential. Whether the host is refused is written down in
    /// `state_dir`, for the next run.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(
        config: &Config,
        state_dir: &Path,
        registry: &Registry,
    ) -> Result<(Self, mpsc::Receiver<Renewal>), Error> {
        let client = Client::new(config).map_err(|error| Error::Client(chain(&error)))?;
        let (renewals, asked) = mpsc::channel(1);
        let status = watch::Sender::new(component(ComponentStatus::Starting, None, SystemTime::now()));
        let metrics = Metrics::register(registry)?;
        let mark = Mark::new(state_dir, config.url.clone());
        Ok((Self { client, heartbeat: config.heartbeat, metrics, status, renewals, mark }, asked))
    }

    /// How the line is.
    pub fn part(&self) -> Part {
        self.status.subscribe()
    }

    /// Starts the line's task in `scope`; the handle ends it. A host that an earlier run saw refused takes no sessions from
    /// here on, until it is known again.
    pub async fn start(
        self,
        scope: &mut Scope,
        subject: Subject,
        survey: Survey,
        manager: ManagerHandle,
    ) -> LineHandle {
        let (finish, shown) = (watch::Sender::new(None), watch::Sender::new(None));
        let (ended, done) = oneshot::channel();
        let steps = watch::Sender::new(0);
        let Self { client, heartbeat, metrics, status, renewals, mark } = self;
        let mut reporter = Reporter {
            client,
            heartbeat,
            metrics,
            status,
            renewals,
            mark,
            store: subject.store.clone(),
            subject,
            survey,
            manager,
            loaded: VecDeque::new(),
            acknowledged: None,
            rejection: String::new(),
            outbox: Outbox::default(),
            sequence: 0,
            skew: None,
            intake: Intake::open(),
            finish: finish.subscribe(),
            steps: steps.subscribe(),
            shown: shown.subscribe(),
        };
        if reporter.mark.is_set().await {
            tracing::error!(
                "the control plane did not know this host before: no sessions are taken until it does"
            );
            reporter.want_intake(false);
            reporter.keep_intake().await;
        }
        let reporting = Box::pin(reporter.run());
        scope.spawn("control plane", async move {
            tokio::select! {
                // The gateway tells people, and ends before this does.
                () = clock::notice_steps(steps, CancellationToken::new(), || {}) => {}
                () = reporting => {}
            }
            // Whoever ends the daemon may have gone on without it.
            let _unheard = ended.send(());
        });
        LineHandle { finish, shown, done }
    }
}

fn component(status: ComponentStatus, reason: Option<String>, since: SystemTime) -> Component {
    Component { name: "control_plane", status, since, reason, pid: None, starts: 1 }
}

struct Reporter {
    client: Client,
    heartbeat: Duration,
    metrics: Metrics,
    status: watch::Sender<Component>,
    renewals: mpsc::Sender<Renewal>,
    mark: Mark,
    subject: Subject,
    survey: Survey,
    store: Store,
    manager: ManagerHandle,
    /// Events that are on disk still, the oldest first.
    loaded: VecDeque<Waiting>,
    /// The last event that was acknowledged.
    acknowledged: Option<Waiting>,
    /// What the receiver said of the last that it did not take.
    rejection: String,
    /// As it was when it was last looked at.
    outbox: Outbox,
    sequence: u64,
    skew: Option<f64>,
    intake: Intake,
    finish: watch::Receiver<Option<Instant>>,
    steps: watch::Receiver<u64>,
    /// What the configuration has to show since it was read again.
    shown: watch::Receiver<Option<Auth>>,
}

impl Reporter {
    async fn run(mut self) {
        let mut changes = self.survey.changes();
        let mut told = self.store.told();
        let mut finish = self.finish.clone();
        tokio::select! {
            () = self.survey.known(IDENTITY_PATIENCE) => {}
            _ = finish.wait_for(Option::is_some) => {}
        }
        let mut line = Line::new(self.heartbeat, self.intake.is_wanted(), Instant::now());
        let mut ends = None;
        loop {
            let end = *self.finish.borrow_and_update();
            if let (Some(end), None) = (end, ends) {
                ends = Some(end);
                let left = end.saturating_duration_since(Instant::now());
                // What is not on disk by then is told by the next run.
                let _flushed = self.store.flush(LAST_FLUSH.min(left / 2)).await;
                line.finish(end);
            }
            self.keep_intake().await;
            self.publish(&line);
            let now = Instant::now();
            match line.next(now) {
                Next::Done => return,
                Next::Do(task) => self.carry_out(task, &mut line).await,
                Next::Wait(at) => tokio::select! {
                    () = sleep_until(self.intake.due(now).map_or(at, |due| due.min(at)).into()) => {}
                    () = changes.next() => line.changed(),
                    Ok(()) = told.changed() => line.more(),
                    Ok(()) = self.steps.changed() => self.woke(&mut line),
                    Ok(()) = self.shown.changed() => {
                        let auth = self.shown.borrow_and_update().clone();
                        if let Some(auth) = auth {
                            self.show(auth);
                        }
                        line.woke(Instant::now());
                    }
                    changed = finish.changed() => if changed.is_err() { return },
                },
            }
        }
    }

    fn woke(&mut self, line: &mut Line) {
        self.client.hang_up();
        line.woke(Instant::now());
    }

    async fn carry_out(&mut self, task: Task, line: &mut Line) {
        match task {
            Task::Load => match self.store.page(BATCH, PAGE_BYTES).await {
                Ok(page) => {
                    self.loaded = page.into();
                    line.loaded(self.loaded.len(), Instant::now());
                    self.look().await;
                }
                Err(error) => self.disk_failed(line, &error),
            },
            Task::Forget => self.forget(line).await,
            Task::SetAside => self.set_aside(line).await,
            Task::Register { anew } => {
                if anew {
                    self.renew().await;
                }
                let report = self.subject.registration(&self.survey).await;
                self.report(task, line, REGISTER, &report).await;
            }
            Task::Heartbeat => {
                self.look().await;
                line.telling(Instant::now(), random_fraction());
                self.sequence += 1;
                let backlog = Subject::backlog(&self.outbox);
                let report = self.subject.heartbeat(&self.survey, self.sequence, self.skew, backlog).await;
                self.report(task, line, HEARTBEAT, &report).await;
            }
            Task::Send(count) => {
                let report = self.subject.events(&self.survey, self.loaded.iter().take(count), &self.outbox);
                self.report(task, line, EVENTS, &report).await;
            }
        }
    }

    /// Looks at the outbox' numbers.
    async fn look(&mut self) {
        if let Some(outbox) = self.subject.outbox().await {
            self.outbox = outbox;
        }
        self.metrics.backlog(&Subject::backlog(&self.outbox));
    }

    fn disk_failed(&self, line: &mut Line, error: &crate::store::StoreError) {
        // The store says itself that it fails.
        tracing::debug!(error = %chain(error), "the outbox does not answer");
        line.disk_failed(Instant::now());
    }

    async fn forget(&mut self, line: &mut Line) {
        let Some(last) = &self.acknowledged else { return line.cleared(Task::Forget) };
        match self.store.forget(last.seq, &last.event.id).await {
            Ok(true) => line.cleared(Task::Forget),
            Ok(false) => self.reload(line),
            Err(error) => self.disk_failed(line, &error),
        }
    }

    /// The state file has other events than those that were loaded. Those that it still has are sent again.
    fn reload(&mut self, line: &mut Line) {
        tracing::warn!("events in the state file are not those that were read: they are read again");
        self.loaded.clear();
        line.reload();
    }

    async fn set_aside(&mut self, line: &mut Line) {
        let Some(first) = self.loaded.front() else { return line.cleared(Task::SetAside) };
        match self.store.set_aside(first.seq, &first.event.id, self.rejection.clone()).await {
            Ok(true) => {}
            Ok(false) => return self.reload(line),
            Err(error) => return self.disk_failed(line, &error),
        }
        let event = &first.event;
        // Without what is in it: that is the users' business.
        tracing::error!(
            event = event.id,
            session = %event.session.id,
            number = event.number,
            kind = event.kind,
            reason = self.rejection,
            "the control plane does not take this event: it is set aside"
        );
        self.metrics.set_aside();
        self.loaded.pop_front();
        line.cleared(Task::SetAside);
    }

    /// Has the credential read again; whether something else is shown from now on.
    async fn renew(&mut self) -> bool {
        let (reply, answer) = oneshot::channel();
        if self.renewals.try_send(reply).is_err() {
            return false;
        }
        // Whoever reads the configuration may have none to read again.
        match timeout(RENEWAL_DEADLINE, answer).await {
            Ok(Ok(auth)) => self.show(auth),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn show(&mut self, auth: Auth) -> bool {
        self.client.show(auth).unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "the new credential cannot be used, the old one stays");
            false
        })
    }

    async fn report(&mut self, task: Task, line: &mut Line, path: &str, report: &impl serde::Serialize) {
        let body = match serde_json::to_vec(report) {
            Ok(body) => body,
            // Plain data with text keys.
            Err(error) => {
                tracing::error!(%error, "a report cannot be written");
                return line.disk_failed(Instant::now());
            }
        };
        let events = matches!(task, Task::Send(_));
        let (mut exchange, mut woke) = self.exchange(path, &body, events).await;
        // A credential that was renewed on both sides refuses nobody. At the end there is no time for it.
        let is_old = matches!(exchange.reply, Reply::Refused(_)) && task != (Task::Register { anew: true });
        if is_old && !woke && self.finish.borrow().is_none() && self.renew().await {
            (exchange, woke) = self.exchange(path, &body, events).await;
        }
        self.compare_clocks(exchange.skew);
        self.metrics.exchanged(task, &exchange.reply);
        match (task, &exchange.reply) {
            (Task::Send(sent), Reply::Taken(accepted)) => {
                for _ in 0..(*accepted).min(sent) {
                    if let Some(taken) = self.loaded.pop_front() {
                        self.acknowledged = Some(taken);
                    }
                }
            }
            (Task::Send(_), Reply::Rejected(why) | Reply::Refused(why)) => self.rejection.clone_from(why),
            _ => {}
        }
        let turn = line.answered(task, exchange.reply, Instant::now(), random_fraction());
        if woke {
            self.woke(line);
        }
        self.tell(turn).await;
    }

    /// Sends one report; whether the clock was set or the machine slept meanwhile, which ends it: nobody knows what is left of
    /// the connection.
    async fn exchange(&mut self, path: &str, body: &[u8], events: bool) -> (Exchange, bool) {
        let cut_short = |why: &str| Exchange {
            reply: Reply::Failed { why: why.to_owned(), retry_after: None },
            skew: None,
        };
        let mut finish = self.finish.clone();
        let ended = async {
            let ends = finish.wait_for(Option::is_some).await.map(|ends| *ends);
            let Ok(Some(ends)) = ends else { return };
            sleep_until(ends.min(Instant::now() + LAST_EXCHANGE).into()).await;
        };
        tokio::select! {
            exchange = self.client.post(path, body, events) => (exchange, false),
            Ok(()) = self.steps.changed() => (cut_short("the clock was set meanwhile"), true),
            () = ended => (cut_short("the daemon ends"), false),
        }
    }

    fn compare_clocks(&mut self, skew: Option<f64>) {
        let Some(skew) = skew else { return };
        self.metrics.skew(skew);
        let is_wide = |skew: f64| skew.abs() > MOST_SKEW_SECONDS;
        let was_wide = self.skew.is_some_and(is_wide);
        if is_wide(skew) && !was_wide {
            let seconds = skew.round();
            tracing::warn!(seconds, "the control plane's clock is ahead of this host's by so much");
        }
        self.skew = Some(skew);
    }

    async fn tell(&mut self, turn: Turn) {
        match turn {
            Turn::Nothing => {}
            Turn::Refused => {
                tracing::error!("the control plane does not know this host: no new sessions are taken");
                self.want_intake(false);
                self.mark.set().await;
            }
            Turn::Known { again: false } => tracing::info!("the control plane knows this host"),
            Turn::Known { again: true } => {
                tracing::info!("the control plane knows this host again: sessions are taken");
                self.want_intake(true);
                self.mark.clear().await;
            }
            Turn::Lost(error) => tracing::warn!(error, "the control plane does not hear this host"),
            Turn::Restored => tracing::info!("the control plane hears this host again"),
            Turn::Misunderstood(error) => {
                tracing::error!(error, "the control plane does not take what this host says of itself");
            }
        }
    }

    fn want_intake(&mut self, open: bool) {
        self.intake.want(open);
        self.metrics.refused(!open);
    }

    /// Has the manager take sessions, or none, where it does not know yet.
    async fn keep_intake(&mut self) {
        let now = Instant::now();
        if self.intake.due(now).is_none_or(|due| due > now) {
            return;
        }
        let open = self.intake.is_wanted();
        let told = self.manager.set_intake(open).await;
        self.intake.told(told.is_ok(), Instant::now());
        if let Err(error) = told {
            tracing::error!(%error, open, "the intake of sessions is not set, and is tried again");
        }
    }

    /// Shows how the line is.
    fn publish(&self, line: &Line) {
        let (status, reason) = match line.standing() {
            Standing::Refused(why) => {
                (ComponentStatus::Failing, Some(format!("this host is refused, {why}")))
            }
            standing => match (line.unreached(Instant::now()), standing) {
                (Some(why), _) => (ComponentStatus::Failing, Some(why)),
                (None, _) if !self.intake.is_wanted() => {
                    (ComponentStatus::Failing, Some("this host was refused".to_owned()))
                }
                (None, Standing::New) => (ComponentStatus::Starting, None),
                (None, _) => (ComponentStatus::Ok, None),
            },
        };
        self.status.send_if_modified(|known| {
            let is_news = (known.status, &known.reason) != (status, &reason);
            if is_news {
                let since = if known.status == status { known.since } else { SystemTime::now() };
                *known = component(status, reason, since);
            }
            is_news
        });
    }
}

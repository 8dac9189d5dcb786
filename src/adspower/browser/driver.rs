//! The task of a session's browser: it feeds the [machine](super::machine) and carries out what it says.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::client::{NewProfile, StartOptions, proxy};
use super::super::holds::Hold;
use super::super::ids::ProfileId;
use super::super::service::AdsPower;
use super::super::site::{Accepted, Guest};
use super::close::close;
use super::machine::{Action, Event, Machine, Miss, NotOpened, State, View};
use super::open::{invite, make_files, open, open_page};
use crate::backoff::random_fraction;
use crate::browser::{Client, DevtoolsError, Endpoint};
use crate::clock;
use crate::display::Display;
use crate::errors::chain;
use crate::proxy::Proxy;
use crate::supervise::{GroupStatus, ServiceState};
use crate::tasks::{Scope, blocking};

/// The session's display in its group.
const DISPLAY: &str = "xvfb";
/// For a probe; as for services of our own.
const PROBE_DEADLINE: Duration = Duration::from_millis(900);
/// For directories to be made, or removed with what was downloaded.
pub(super) const FILES_DEADLINE: Duration = Duration::from_secs(5);
/// For a browser that hangs or has lost its display.
pub(super) const CLOSE_BUDGET: Duration = Duration::from_secs(15);
/// For the browser of a session whose task is cancelled.
const LAST_BUDGET: Duration = Duration::from_secs(1);
/// Of the time that an end has, for the browser to be closed once it is open.
const CLOSE_SHARE: Duration = Duration::from_secs(6);
/// From the end of a session to a browser that AdsPower was opening for it, at most: as long as an opening is waited for.
const MOST_LATE: Duration = Duration::from_secs(60);
/// Before a profile that another session has is asked for again.
const HOLD_RETRY: Duration = Duration::from_millis(500);

/// What a session wants opened.
pub struct Order {
    /// Whose profile.
    pub profile: ProfileId,
    /// What it draws on.
    pub display: Display,
    /// The group that the display is in.
    pub services: watch::Receiver<GroupStatus>,
    /// Width and height of the display.
    pub size: (u16, u16),
    /// The page to open.
    pub start_url: String,
    /// What the profile's pages are to be fetched through; none: as AdsPower has it.
    pub proxy: Option<Proxy>,
    /// How it is to look to pages, as AdsPower's `fingerprint_config`; none: as AdsPower has it.
    pub fingerprint: Option<Map<String, Value>>,
    /// The session, for the log.
    pub session: String,
}

/// How a browser is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// In words.
    pub view: View,
    /// Its main process, while one is known.
    pub pid: Option<u32>,
}

/// What a session holds of its browser. The browser lives with the scope that it was spawned in.
pub struct Browser {
    status: watch::Receiver<Status>,
    endpoint: watch::Receiver<Option<Endpoint>>,
    close_by: watch::Sender<Option<Instant>>,
}

impl Browser {
    /// Opens a browser, and keeps it open.
    pub fn spawn(scope: &mut Scope, adspower: &AdsPower, order: Order) -> Self {
        let view = View { state: State::Starting, reason: None, starts: 0, failed: false };
        let status = watch::Sender::new(Status { view, pid: None });
        let (endpoint, close_by) = (watch::Sender::new(None), watch::Sender::new(None));
        let browser =
            Self { status: status.subscribe(), endpoint: endpoint.subscribe(), close_by: close_by.clone() };
        let driver = Driver {
            adspower: adspower.clone(),
            order,
            machine: Machine::default(),
            open: None,
            closing: None,
            client: None,
            work: None,
            status,
            endpoint,
        };
        let token = scope.token();
        scope.spawn("adspower browser", driver.run(close_by.subscribe(), token));
        browser
    }

    /// How it is, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Its DevTools, while it runs.
    pub fn devtools(&self) -> watch::Receiver<Option<Endpoint>> {
        self.endpoint.clone()
    }

    /// Closes it for good by `deadline`, or a little later. May be called again with an earlier one.
    pub async fn close(&self, deadline: Instant) {
        self.close_by.send_modify(|by| *by = Some(by.map_or(deadline, |by| by.min(deadline))));
        let mut status = self.status.clone();
        // A sender that is gone has closed it.
        let _closed = status.wait_for(|status| status.view.state == State::Stopped).await;
    }
}

/// A browser that is open, and the display that it draws on.
struct Open {
    accepted: Accepted,
    _guest: Guest,
}

enum Done {
    Opened(Result<Open, NotOpened>),
    Probed(Result<Box<Client>, Miss>),
    Closed,
}

type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

struct Driver {
    adspower: AdsPower,
    order: Order,
    machine: Machine,
    open: Option<Open>,
    /// What the last close is about, should it be broken off.
    closing: Option<Accepted>,
    client: Option<Box<Client>>,
    work: Option<Work>,
    status: watch::Sender<Status>,
    endpoint: watch::Sender<Option<Endpoint>>,
}

impl Driver {
    async fn run(mut self, mut close_by: watch::Receiver<Option<Instant>>, token: CancellationToken) {
        let hold = tokio::select! {
            biased;
            hold = hold(self.adspower.clone(), self.order.profile.clone(), self.status.clone()) => Some(hold),
            // The sender may be gone with its session, which is as good.
            _closed = close_by.wait_for(Option::is_some) => None,
            () = token.cancelled() => None,
        };
        if let Some(hold) = &hold {
            self.keep_open(hold, &mut close_by, &token).await;
        }
        let may_come = self.end(hold.is_some(), close_by).await;
        if hold.is_some() {
            self.remove_files().await;
        }
        match hold {
            Some(hold) if may_come => hold.abandon(Instant::now() + MOST_LATE),
            hold => drop(hold),
        }
        self.status.send_modify(|status| {
            status.view = View { state: State::Stopped, reason: None, ..status.view.clone() };
            status.pid = None;
        });
    }

    async fn keep_open(
        &mut self,
        hold: &Hold,
        close_by: &mut watch::Receiver<Option<Instant>>,
        token: &CancellationToken,
    ) {
        let (mut services, mut port) = (self.order.services.clone(), self.adspower.port());
        let is_up = port.borrow_and_update().is_some();
        self.handle(Event::App(is_up), hold);
        let display = display_of(&services.borrow_and_update());
        self.handle(Event::Display(display), hold);
        loop {
            let due = self.machine.deadline();
            let event = tokio::select! {
                biased;
                _closed = close_by.wait_for(Option::is_some) => return,
                () = token.cancelled() => return,
                done = finished(&mut self.work) => self.took(done),
                Ok(()) = services.changed() => Event::Display(display_of(&services.borrow_and_update())),
                Ok(()) = port.changed() => Event::App(port.borrow_and_update().is_some()),
                () = hold.lost() => Event::Lost,
                () = clock::until(due) => Event::Tick,
            };
            self.handle(event, hold);
        }
    }

    /// What a piece of work came to.
    fn took(&mut self, done: Done) -> Event {
        self.work = None;
        match done {
            Done::Opened(outcome) => {
                self.adspower.inner.metrics.opened(outcome.is_ok());
                if let Err(error) = &outcome {
                    let Order { session, profile, .. } = &self.order;
                    tracing::warn!(session, %profile, error = error.reason, "AdsPower did not open the session's browser");
                }
                Event::Opened(outcome.map(|open| self.open = Some(open)))
            }
            Done::Probed(outcome) => Event::Probed(outcome.map(|client| self.client = Some(client))),
            Done::Closed => {
                self.closing = None;
                Event::Closed
            }
        }
    }

    fn handle(&mut self, event: Event, hold: &Hold) {
        let action = self.machine.handle(Instant::now(), random_fraction(), event);
        match action {
            Some(Action::Open) => self.work = Some(Box::pin(self.opening())),
            Some(Action::Probe) => {
                if let Some(open) = &self.open {
                    self.work = Some(Box::pin(probing(open.accepted.endpoint, self.client.take())));
                }
            }
            Some(Action::Close) => {
                let (adspower, profile) = (self.adspower.clone(), self.order.profile.clone());
                let open = self.open.take();
                let accepted = open.as_ref().map(|open| open.accepted);
                self.closing = accepted;
                self.work = Some(Box::pin(async move {
                    let _open = open;
                    close(&adspower, &profile, accepted, Instant::now() + CLOSE_BUDGET).await;
                    Done::Closed
                }));
            }
            None => {}
        }
        if !self.machine.is_open() {
            (self.open, self.client) = (None, None);
        }
        hold.set_open(self.open.is_some());
        self.publish();
    }

    fn publish(&self) {
        let endpoint = self.open.as_ref().map(|open| open.accepted.endpoint);
        self.endpoint.send_if_modified(|known| std::mem::replace(known, endpoint) != endpoint);
        let pid = self.open.as_ref().and_then(|open| open.accepted.main).map(|main| main.pid);
        let next = Status { view: self.machine.view(), pid };
        self.status.send_if_modified(|status| {
            let changed = *status != next;
            *status = next;
            changed
        });
    }

    fn opening(&self) -> impl Future<Output = Done> + Send + 'static {
        let (adspower, profile) = (self.adspower.clone(), self.order.profile.clone());
        let (display, url) = (self.order.display.clone(), self.order.start_url.clone());
        let ((width, height), session) = (self.order.size, self.order.session.clone());
        let settings = NewProfile {
            proxy: self.order.proxy.as_ref().and_then(proxy),
            fingerprint: self.order.fingerprint.clone(),
            ..NewProfile::default()
        };
        async move {
            if let Err(error) = make_files(&adspower, &profile).await {
                return Done::Opened(Err(error.into()));
            }
            let invited = invite(&adspower, display).await;
            let guest = match invited {
                Ok(guest) => guest,
                Err(error) => return Done::Opened(Err(error.into())),
            };
            let launch_args = vec![
                format!("--display=:{}", guest.number),
                // It and the X server see each other's shared memory only by accident: each has a number space of its own.
                "--no-xshm".to_owned(),
                "--window-position=0,0".to_owned(),
                format!("--window-size={width},{height}"),
            ];
            let options = StartOptions { launch_args, ..StartOptions::default() };
            let opened = open(&adspower, &profile, &settings, &options).await;
            if let Ok(accepted) = &opened
                && let Err(error) = open_page(accepted.endpoint, &url).await
            {
                // Without the address: pages are the user's business.
                tracing::warn!(session, error, "a browser did not open its page");
            }
            Done::Opened(opened.map(|accepted| Open { accepted, _guest: guest }))
        }
    }

    /// Nobody else has the profile until this is done.
    async fn remove_files(&mut self) {
        let files = self.adspower.files(&self.order.profile);
        let removed = blocking(FILES_DEADLINE, move || files.remove()).await.and_then(|outcome| outcome);
        if let Err(error) = removed {
            let session = &self.order.session;
            tracing::warn!(session, error = %chain(&error), "files of a session's browser stay behind");
        }
    }

    /// Waits for an opening that is under way, while there is time left to close what it brings; whether it is done. AdsPower
    /// goes on with one that nobody waits for, and the next session would have a second browser on the same profile.
    async fn finish_opening(&mut self, close_by: &mut watch::Receiver<Option<Instant>>) -> bool {
        let last = Instant::now() + LAST_BUDGET;
        loop {
            let deadline = (*close_by.borrow_and_update()).unwrap_or(last);
            let left = deadline.saturating_duration_since(Instant::now());
            let until = deadline.checked_sub(CLOSE_SHARE.min(left / 2));
            tokio::select! {
                biased;
                done = finished(&mut self.work) => {
                    self.took(done);
                    return true;
                }
                Ok(()) = close_by.changed() => {}
                () = clock::until(until) => {
                    let Order { session, profile, .. } = &self.order;
                    tracing::warn!(session, %profile, "AdsPower still opens a browser that nobody wants any more: it is closed when it comes");
                    return false;
                }
            }
        }
    }

    /// Ends whatever is open, or may be; whether there may be one all the same, later.
    async fn end(&mut self, was_held: bool, mut close_by: watch::Receiver<Option<Instant>>) -> bool {
        self.client = None;
        self.endpoint.send_replace(None);
        let may_come = self.machine.is_opening() && !self.finish_opening(&mut close_by).await;
        self.work = None;
        let open = self.open.take();
        if !was_held || !self.machine.was_asked() {
            return false;
        }
        let accepted = open.as_ref().map(|open| open.accepted).or(self.closing);
        loop {
            let deadline = (*close_by.borrow_and_update()).unwrap_or_else(|| Instant::now() + LAST_BUDGET);
            tokio::select! {
                () = close(&self.adspower, &self.order.profile, accepted, deadline) => return may_come,
                // Sooner than it was: what is left is done faster.
                Ok(()) = close_by.changed() => {}
            }
        }
    }
}

/// Waits until no other session has the profile.
async fn hold(adspower: AdsPower, profile: ProfileId, status: watch::Sender<Status>) -> Hold {
    loop {
        if let Some(hold) = adspower.inner.holds.hold(&profile) {
            return hold;
        }
        let reason = "the profile is in use by another session";
        status.send_modify(|status| status.view.reason = Some(reason.to_owned()));
        sleep(HOLD_RETRY).await;
    }
}

/// Never where there is no work. Cancel safe: the work stays.
async fn finished(work: &mut Option<Work>) -> Done {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Which life of it the display is in; none while it is not up.
fn display_of(group: &GroupStatus) -> Option<u32> {
    let display = group.services.iter().find(|service| service.name == DISPLAY)?;
    matches!(display.state, ServiceState::Up | ServiceState::Unresponsive).then_some(display.starts)
}

/// One round trip through the browser, with the connection of the last one where that is still good.
async fn probing(endpoint: Endpoint, kept: Option<Box<Client>>) -> Done {
    let ask = async {
        if let Some(mut client) = kept
            && client.get_version().await.is_ok()
        {
            return Ok(client);
        }
        let mut client = Client::connect(endpoint).await?;
        client.get_version().await.map(|()| Box::new(client))
    };
    Done::Probed(match timeout(PROBE_DEADLINE, ask).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) if is_gone(&error) => Err(Miss::Gone(format!("it has ended: {}", chain(&error)))),
        Ok(Err(error)) => Err(Miss::Silent(format!("no answer to Browser.getVersion: {}", chain(&error)))),
        Err(_elapsed) => {
            Err(Miss::Silent(format!("no answer to Browser.getVersion within {PROBE_DEADLINE:?}")))
        }
    })
}

/// Whether nobody listens there any more, or somebody else does.
fn is_gone(error: &DevtoolsError) -> bool {
    let refused =
        matches!(error, DevtoolsError::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused);
    refused || error.is_displaced()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prometheus::Registry;
    use tokio::sync::oneshot;

    use super::*;
    use crate::adspower::{Config, Params};
    use crate::display;
    use crate::secret::Secret;
    use crate::sys::Limits;

    const SOON: Duration = Duration::from_secs(20);

    fn adspower(dir: &Path) -> AdsPower {
        let config = Config {
            program: "/nonexistent".into(),
            args: Vec::new(),
            port: 1,
            api_key: Secret::new("key".to_owned()),
            uid: 1,
            pace: None,
            limits: Limits::default(),
            minimum_version: None,
        };
        AdsPower::new(Params {
            config,
            display: display::Config {
                xvfb: "/nonexistent".into(),
                width: 1,
                height: 1,
                max_size: None,
                depth: 24,
            },
            state_dir: dir.join("state"),
            runtime_dir: dir.join("run"),
            shm_bytes: 0,
            hide_processes: false,
            registry: &Registry::new(),
        })
        .unwrap()
    }

    fn driver(dir: &Path) -> Driver {
        let view = View { state: State::Starting, reason: None, starts: 0, failed: false };
        Driver {
            adspower: adspower(dir),
            order: Order {
                profile: "k1".parse().unwrap(),
                display: Display::nowhere(),
                services: watch::Sender::new(GroupStatus { generation: 0, services: Vec::new() }).subscribe(),
                size: (1, 1),
                start_url: String::new(),
                proxy: None,
                fingerprint: None,
                session: "s".to_owned(),
            },
            machine: Machine::default(),
            open: None,
            closing: None,
            client: None,
            work: None,
            status: watch::Sender::new(Status { view, pid: None }),
            endpoint: watch::Sender::new(None),
        }
    }

    /// One whose opening waits for what this sends.
    fn opening(dir: &Path) -> (Driver, oneshot::Sender<()>) {
        let mut driver = driver(dir);
        driver.machine.handle(Instant::now(), 0.0, Event::App(true));
        let action = driver.machine.handle(Instant::now(), 0.0, Event::Display(Some(1)));
        assert_eq!(action, Some(Action::Open));
        let (answer, answered) = oneshot::channel();
        driver.work = Some(Box::pin(async move {
            // Whoever does not answer is dropped at the end of the test.
            let _answered: Result<(), _> = answered.await;
            Done::Opened(Err("refused".into()))
        }));
        (driver, answer)
    }

    #[tokio::test]
    async fn an_end_waits_for_an_opening_that_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let (mut driver, answer) = opening(dir.path());
        let close_by = watch::Sender::new(Some(Instant::now() + SOON));
        let mut end = Box::pin(driver.end(true, close_by.subscribe()));
        assert!(futures_util::poll!(&mut end).is_pending(), "it waits");
        answer.send(()).expect("the opening was not given up");
        assert!(!timeout(SOON, end).await.expect("an end"), "nothing can come any more");
        assert!(driver.work.is_none());
    }

    #[tokio::test]
    async fn an_end_does_not_wait_for_an_opening_longer_than_it_has_time() {
        let dir = tempfile::tempdir().unwrap();
        let (mut driver, answer) = opening(dir.path());
        let close_by = watch::Sender::new(Some(Instant::now() + SOON));
        let mut end = Box::pin(driver.end(true, close_by.subscribe()));
        assert!(futures_util::poll!(&mut end).is_pending(), "it waits");
        close_by.send_replace(Some(Instant::now()));
        assert!(timeout(SOON / 4, end).await.expect("an end, in time"), "it may still come");
        assert!(answer.is_closed());
    }

    #[tokio::test]
    async fn the_profile_of_an_opening_that_outlasts_its_session_is_nobodys_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let (driver, _answer) = opening(dir.path());
        let (adspower, profile) = (driver.adspower.clone(), driver.order.profile.clone());
        // Both were there before, as the opening shows.
        driver.adspower.inner.holds.hold(&profile).unwrap();
        let (close_by, over) = (watch::Sender::new(None), CancellationToken::new());
        over.cancel();
        timeout(SOON, driver.run(close_by.subscribe(), over)).await.expect("an end");
        assert!(adspower.inner.holds.hold(&profile).is_none());
        assert!(adspower.inner.holds.has_abandoned());
    }
}

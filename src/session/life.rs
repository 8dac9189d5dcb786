//! One session from its birth to its end. Its task alone starts and stops the session's processes, and holds what the
//! session has on the host.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::adspower;
use super::ends::{Ending, expired, hurried, idle, not_started, told};
use super::events::Happening;
use super::external;
use super::handle::Desk;
use super::handoff::Handoffs;
use super::launch::{self, Assembly, Ground, Picture, Site};
use super::ledger::Ledger;
use super::publish::{Chronicle, Sources, TabCrashes, publish_status};
use super::record::{Cause, End, SessionRecord, Warmth};
use super::spec::{Parts, Spec};
use super::status::{BROWSER, SessionState};
use super::telling::Teller;
use super::viewer::{About, Backend, Counts, Facts, Inner, Session, Terms};
use crate::browser::{Chromium, Client, Endpoint, watch_tabs};
use crate::errors::chain;
use crate::ids::ProfileName;
use crate::supervise::{Group, GroupHandle, GroupStatus, ServiceState, StopReport};
use crate::sys::{Host, Limits, give_back_free};
use crate::tasks::{Blocking, Scope, caught};
use crate::vnc::native::{Camera, Studio};
use crate::vnc::{Activity, RfbSource};

/// For directories, cookie and profile; after it, whoever waits is told. A large profile changes hands file by file.
const ASSEMBLY_DEADLINE: Duration = Duration::from_secs(20);
/// For all that a session has on the host to be given back; after it, that is said.
const RETURN_DEADLINE: Duration = Duration::from_secs(20);
/// From a session's end to the kill of what is left of it.
pub(super) const STOP_BUDGET: Duration = Duration::from_secs(20);
/// For the status to say that a session ends.
const END_SEEN: Duration = Duration::from_millis(500);
/// For the tasks of a session that has no processes any more.
const TASKS_BUDGET: Duration = Duration::from_secs(1);
/// For a spare to be up.
const SPARE_DEADLINE: Duration = Duration::from_secs(30);
/// For a spare's end: nobody has used it.
const SPARE_STOP_BUDGET: Duration = Duration::from_secs(5);
/// For a warm browser to begin with the page that was asked for.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// Before what survives SIGKILL is looked at again.
const STUCK_RETRY: Duration = Duration::from_secs(10);

/// Why a session could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of it could not be made.
    #[error("cannot put the session together")]
    Assemble(#[from] launch::Error),
    /// It took too long.
    #[error("cannot put the session together within {} s", ASSEMBLY_DEADLINE.as_secs())]
    Slow,
    /// The thread that did it panicked, which would be a bug.
    #[error("cannot put the session together")]
    Thread(#[source] io::Error),
    /// No randomness for its id.
    #[error("the system gives no random bytes")]
    Random(#[source] aws_lc_rs::error::Unspecified),
    /// The id that was made up is none, which would be a bug.
    #[error("cannot make up an id")]
    Id(#[source] crate::ids::BadId),
    /// Its services do not fit together, or cannot be contained.
    #[error("cannot supervise the session")]
    Supervise(#[from] crate::supervise::GraphError),
    /// A fault of ours, which would be a bug.
    #[error("the session's task panicked: {0}")]
    Panicked(String),
}

/// A session that was admitted.
pub(super) struct Order {
    pub(super) spec: Arc<Spec>,
    pub(super) terms: watch::Receiver<Terms>,
    pub(super) handoffs: watch::Receiver<Handoffs>,
}

/// How a session begins.
pub(super) enum Birth {
    /// Somebody asked for it.
    Ordered(Order),
    /// Nobody has yet. It gets as far as it can, and waits.
    Spare(Warmth, oneshot::Receiver<Order>),
}

/// To the manager, of the session in a slot.
pub(super) enum Note {
    /// The spare is up and can be ordered.
    SpareReady,
    /// It has been put together, and its processes start.
    Born(Session),
    /// It takes too long to be put together. It will be over all the same, when what was begun is done.
    Late(Error),
    /// It is about to be taken down. Heard, before anything is.
    Ending(Ending, oneshot::Sender<()>),
    /// Processes of it survive SIGKILL.
    Stuck,
    /// Nothing of it is left.
    Over(Result<Option<Box<SessionRecord>>, Error>),
}

pub(super) type Notes = mpsc::Sender<(u32, Note)>;

/// What the task of a session needs.
pub(super) struct Life {
    pub(super) site: Site,
    pub(super) system: Host,
    /// What spares are made of, and their limits.
    pub(super) template: Parts,
    pub(super) limits: Limits,
    pub(super) teller: Teller,
    pub(super) ledger: Ledger,
    pub(super) notes: Notes,
    pub(super) desk: Desk,
    pub(super) ending: watch::Receiver<Option<Ending>>,
}

/// A session that has been put together.
struct Standing {
    /// Everything that runs for it in this process.
    scope: Scope,
    group: GroupHandle,
    backend: Backend,
    facts: Facts,
    browser: Option<Arc<Chromium>>,
    /// One that AdsPower opens.
    opened: Option<crate::adspower::browser::Browser>,
    ground: Ground,
}

/// A session whose end has begun.
struct Lived {
    session: Session,
    ending: Ending,
    /// Where its status learns of the end.
    end: watch::Sender<Option<End>>,
    chronicle: Chronicle,
}

impl Life {
    /// The task.
    pub(super) async fn run(mut self, birth: Birth) {
        let life = async {
            match birth {
                Birth::Ordered(order) => self.ordered(order).await.map(Some),
                Birth::Spare(warmth, assigned) => self.spare(warmth, assigned).await,
            }
        };
        // Whatever is left is killed by those who own it; a place that nobody gives back would hold up every drain.
        let outcome = Box::pin(caught(life)).await.unwrap_or_else(|message| Err(Error::Panicked(message)));
        // Its pictures are gone. Nobody waits for this, and the next session may use what is left.
        drop(Blocking::start(give_back_free));
        self.note(Note::Over(outcome.map(|record| record.map(Box::new)))).await;
    }

    async fn ordered(&mut self, order: Order) -> Result<SessionRecord, Error> {
        let Spec { made_of, profile, limits, id, .. } = &*order.spec;
        let standing = self.stand_up(made_of, profile.clone(), *limits, false, id.as_str()).await?;
        standing.group.start();
        self.reside(standing, order, Warmth::Cold).await
    }

    async fn spare(
        &mut self,
        warmth: Warmth,
        mut assigned: oneshot::Receiver<Order>,
    ) -> Result<Option<SessionRecord>, Error> {
        let hold_browser = warmth != Warmth::Browser;
        let label = format!("spare-{}", self.site.slot);
        let (template, limits) = (self.template.clone(), self.limits);
        let standing = self.stand_up(&template, None, limits, hold_browser, &label).await?;
        standing.group.start();
        let mut services = standing.group.status();
        let up = timeout(SPARE_DEADLINE, services.wait_for(|group| is_up(group, hold_browser)));
        let ready = tokio::select! {
            up = up => matches!(up, Ok(Ok(_))),
            _ending = self.ending.wait_for(Option::is_some) => false,
        };
        if ready {
            self.note(Note::SpareReady).await;
        }
        let order = match ready {
            true => tokio::select! {
                order = &mut assigned => order.ok(),
                // A spare that fails is no spare.
                _failed = services.wait_for(|group| !is_up(group, hold_browser)) => None,
                _ending = self.ending.wait_for(Option::is_some) => None,
            },
            false => None,
        };
        // Nothing can be ordered from here on, and what was in the last moment is done.
        assigned.close();
        if let Some(order) = order.or_else(|| assigned.try_recv().ok()) {
            return self.take_over(standing, order, warmth).await.map(Some);
        }
        let end = End { cause: Cause::Requested, reason: None };
        let ending = Ending { end, deadline: Instant::now() + SPARE_STOP_BUDGET };
        self.take_down(standing, ending).await;
        Ok(None)
    }

    /// Makes a spare somebody's session.
    async fn take_over(
        &mut self,
        standing: Standing,
        order: Order,
        warmth: Warmth,
    ) -> Result<SessionRecord, Error> {
        standing.group.rename(order.spec.id.as_str());
        let config = order.spec.made_of.browser.clone();
        if let (Some(browser), Some(config)) = (&standing.browser, config) {
            let same_page =
                self.template.browser.as_ref().map(|own| &own.start_url) == Some(&config.start_url);
            let page = config.start_url.clone();
            browser.set_config(config);
            if warmth != Warmth::Browser {
                if standing.group.release(BROWSER).await.is_err() {
                    tracing::error!(session = %order.spec.id, "the supervisor of a spare has ended");
                }
            } else if !same_page {
                // Before anybody is let in: an automation's first navigation must not be undone by this one.
                // Without the address: pages are the user's business.
                let session = &order.spec.id;
                match open_page(browser.devtools(), &page).await {
                    Ok(()) => tracing::debug!(%session, "a warm browser set out for its page"),
                    Err(error) => tracing::warn!(%session, error, "a warm browser did not open its page"),
                }
            }
        }
        self.reside(standing, order, warmth).await
    }

    async fn stand_up(
        &self,
        parts: &Parts,
        profile: Option<ProfileName>,
        limits: Limits,
        hold_browser: bool,
        label: &str,
    ) -> Result<Standing, Error> {
        let (site, made_of) = (self.site.clone(), parts.clone());
        let work = Blocking::start(move || Ground::prepare(&site, &made_of, profile.as_ref()));
        let ground = match work.within(ASSEMBLY_DEADLINE).await {
            Ok(prepared) => prepared.map_err(Error::Thread)??,
            Err(unfinished) => {
                self.note(Note::Late(Error::Slow)).await;
                if let Ok(Ok(ground)) = unfinished.done().await {
                    self.give_back(ground).await;
                }
                return Err(Error::Slow);
            }
        };
        for (path, holds) in ground.paths() {
            match holds {
                Some(text) => self.system.remove_on_death_if_holds(&path, text).await,
                None => self.system.remove_on_death(&path).await,
            }
        }
        match self.group_on(&ground, parts, limits, hold_browser).await {
            Ok((mut scope, group, Assembly { picture, mut facts, browser, .. })) => {
                group.rename(label);
                let is_external = matches!(parts.rfb, RfbSource::External(_));
                let backend = match picture {
                    Picture::Of(address) => Backend::Relay { address, external: is_external },
                    Picture::Native { screen, task } => {
                        let over = scope.token();
                        scope.spawn("screen", task.run(over));
                        Backend::Native {
                            screen,
                            studio: Studio::new(&self.site.encoders),
                            camera: Camera::default(),
                            metrics: self.site.native.clone(),
                        }
                    }
                };
                let of_adspower = self.site.adspower.as_ref().zip(parts.adspower.as_ref());
                let opened = of_adspower.and_then(|(adspower, wanted)| {
                    let size = (parts.display.width, parts.display.height);
                    adspower::open(&mut scope, adspower, wanted, &mut facts, (group.status(), size, label))
                });
                Ok(Standing { scope, group, backend, facts, browser, opened, ground })
            }
            Err(error) => {
                self.give_back(ground).await;
                Err(error)
            }
        }
    }

    async fn group_on(
        &self,
        ground: &Ground,
        parts: &Parts,
        limits: Limits,
        hold_browser: bool,
    ) -> Result<(Scope, GroupHandle, Assembly), Error> {
        let confinement = ground.confine(&self.site, &self.system).await?;
        let mut assembly = ground.assemble(&self.site, parts, &confinement, hold_browser);
        let services = std::mem::take(&mut assembly.services);
        let mut scope = Scope::new();
        let name = format!("s{}", self.site.slot);
        let group = Group::spawn(&mut scope, &name, services, &self.system, limits)?;
        Ok((scope, group, assembly))
    }

    /// The session's life from here to its end. What is left of it is taken down even where a fault of ours ends it.
    async fn reside(
        &mut self,
        mut standing: Standing,
        order: Order,
        warmth: Warmth,
    ) -> Result<SessionRecord, Error> {
        let lived = caught(self.live(&mut standing, order, warmth)).await;
        let lived = match lived {
            Ok(lived) => lived,
            Err(message) => {
                let end = End { cause: Cause::HostDied, reason: None };
                let ending = Ending { end, deadline: Instant::now() + STOP_BUDGET };
                self.tell_ending(&ending).await;
                self.take_down(standing, ending).await;
                return Err(Error::Panicked(message));
            }
        };
        let Lived { session, ending, end, chronicle } = lived;
        end.send_replace(Some(ending.end.clone()));
        // Viewers and automations see the end before what they look at goes, which would look like a restart.
        let _seen = timeout(END_SEEN, session.over()).await;
        self.take_down(standing, ending.clone()).await;
        let record = SessionRecord {
            state: SessionState::Stopped,
            ended: Some(SystemTime::now()),
            ..session.record()
        };
        let reason = ending.end.reason.as_deref();
        tracing::info!(session = %session.id(), cause = ending.end.cause.as_str(), reason, "session ended");
        chronicle.teller.tell(&chronicle.entry, || record.clone(), vec![Happening::Ended(ending.end)]);
        Ok(record)
    }

    /// Makes what was put together a session, and waits for its end.
    async fn live(&mut self, standing: &mut Standing, order: Order, warmth: Warmth) -> Lived {
        let Order { spec, terms, handoffs } = order;
        let uid = self.site.identity.map_or_else(|| nix::unistd::geteuid().as_raw(), |identity| identity.uid);
        let entry = self.ledger.entry(spec.key(), self.site.slot, uid);
        let external = match &standing.backend {
            Backend::Relay { address, external: true } => {
                let state = watch::Sender::new(external::unknown());
                let receiver = state.subscribe();
                let over = standing.scope.token();
                standing.scope.spawn("rfb watch", external::watch_server(address.clone(), state, over));
                Some(receiver)
            }
            _ => None,
        };
        let opened = standing.opened.as_ref().map(|browser| adspower::follow(&mut standing.scope, browser));
        let end = watch::Sender::new(None);
        let beside = external.or(opened);
        let sources = Sources { services: standing.group.status(), beside, end: end.subscribe() };
        let status = watch::Sender::new(sources.derive(None));
        let inner = Arc::new(Inner {
            about: About {
                id: spec.id.clone(),
                user: spec.user.clone(),
                kind: spec.kind,
                profile: spec.profile.clone(),
                created: spec.created,
                warmth,
            },
            backend: standing.backend.clone(),
            supervisor: Some(standing.group.clone()),
            status: status.subscribe(),
            terms: terms.clone(),
            handoffs,
            desk: self.desk.clone(),
            facts: standing.facts.clone(),
            counts: Counts::default(),
            activity: Arc::new(Activity::new(Instant::now())),
            culprit: OnceLock::new(),
        });
        let session = Session { inner };
        let chronicle = Chronicle { session: session.clone(), teller: self.teller.clone(), entry };
        // Before its processes, which are entered beneath it.
        chronicle.tell(Happening::Created(warmth));
        standing.scope.spawn("ledger", enter_ready(chronicle.clone()));
        standing.scope.spawn("session status", publish_status(sources, chronicle.clone(), status));
        if let Some(devtools) = standing.facts.devtools.clone() {
            let mut crashes = TabCrashes::new(chronicle.clone());
            let tabs = watch_tabs(devtools, move |reason| crashes.tell(reason));
            standing.scope.spawn("tabs", tabs);
        }
        if let Some(browser) = &standing.browser {
            let (resets, chronicle) = (browser.profile_resets(), chronicle.clone());
            standing.scope.spawn("profile resets", tell_resets(resets, chronicle));
        }
        self.note(Note::Born(session.clone())).await;

        let ending = self.until_end(&session, &spec, terms).await;
        self.tell_ending(&ending).await;
        Lived { session, ending, end, chronicle }
    }

    /// Tells the manager, and waits until it has heard: it enters nothing more for this session then.
    async fn tell_ending(&self, ending: &Ending) {
        let (told, heard) = oneshot::channel();
        self.note(Note::Ending(ending.clone(), told)).await;
        // A manager that is gone has nothing to say.
        let _gone = heard.await;
    }

    /// Waits for whatever ends the session first.
    async fn until_end(&mut self, session: &Session, spec: &Spec, terms: watch::Receiver<Terms>) -> Ending {
        let end =
            |cause, reason| Ending { end: End { cause, reason }, deadline: Instant::now() + STOP_BUDGET };
        tokio::select! {
            biased;
            ending = told(&mut self.ending) => match ending {
                Some(ending) => ending,
                // The manager is gone, and with it everything.
                None => end(Cause::HostDraining, None),
            },
            () = expired(terms.clone()) => end(Cause::Expired, None),
            () = idle(session, terms) => end(Cause::Idle, None),
            culprit = not_started(session.watch(), spec.start_deadline) => {
                // Nobody has set it before: it ends once.
                let _first = culprit.as_ref().map(|(name, _)| session.inner.culprit.set(name));
                end(Cause::StartFailed, culprit.map(|(name, reason)| format!("{name}: {reason}")))
            }
        }
    }

    /// Ends the session's processes, however long that takes, and gives back what it had.
    async fn take_down(&self, standing: Standing, mut ending: Ending) {
        let Standing { mut scope, group, ground, browser, facts, opened, .. } = standing;
        drop((browser, facts));
        if let Some(opened) = opened {
            adspower::close(&opened, &ending, self.ending.clone()).await;
        }
        let mut is_said = false;
        loop {
            let left = ending.deadline.saturating_duration_since(Instant::now());
            let mut told = self.ending.clone();
            tokio::select! {
                report = group.stop(left) => match report {
                    Ok(report) if report.left.is_empty() => {
                        if report != StopReport::default() {
                            tracing::warn!(slot = self.site.slot, killed = ?report.forced, "did not stop in time");
                        }
                        break;
                    }
                    Ok(report) => {
                        if !std::mem::replace(&mut is_said, true) {
                            tracing::error!(slot = self.site.slot, left = ?report.left, "processes survive SIGKILL: the place is lost until they end");
                            self.note(Note::Stuck).await;
                        }
                        let mut services = group.status();
                        let gone = services.wait_for(|group| {
                            group.services.iter().all(|service| service.state == ServiceState::Stopped)
                        });
                        if matches!(timeout(STUCK_RETRY, gone).await, Ok(Ok(_))) {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::error!(slot = self.site.slot, error = %chain(&error), "not stopped");
                        break;
                    }
                },
                sooner = hurried(&mut told, ending.deadline) => ending = sooner,
            }
        }
        let stragglers = scope.shutdown(TASKS_BUDGET).await;
        if !stragglers.is_empty() {
            tracing::warn!(slot = self.site.slot, tasks = ?stragglers, "tasks of a session did not end in time");
        }
        self.give_back(ground).await;
    }

    async fn give_back(&self, ground: Ground) {
        // Before they are gone: whoever gets the number next tells the keeper the same paths.
        for (path, _) in ground.paths() {
            self.system.forget(&path).await;
        }
        let returned = match Blocking::start(move || drop(ground)).within(RETURN_DEADLINE).await {
            Ok(returned) => returned,
            Err(unfinished) => {
                tracing::error!(
                    slot = self.site.slot,
                    "what a session had is not given back in time: its place is taken until it is"
                );
                unfinished.done().await
            }
        };
        if let Err(error) = returned {
            tracing::error!(slot = self.site.slot, error = %chain(&error), "what a session had is not all given back");
        }
    }

    async fn note(&self, note: Note) {
        if self.notes.send((self.site.slot, note)).await.is_err() {
            tracing::trace!("the manager has ended");
        }
    }
}

/// Whether all of a spare that may run is up.
fn is_up(group: &GroupStatus, hold_browser: bool) -> bool {
    let counts = |name: &str| !(hold_browser && name == BROWSER);
    group
        .services
        .iter()
        .filter(|service| counts(service.name))
        .all(|service| service.state == ServiceState::Up)
}

async fn open_page(mut devtools: watch::Receiver<Option<Endpoint>>, page: &str) -> Result<(), String> {
    let open = async {
        let endpoint = devtools.wait_for(Option::is_some).await.map(|endpoint| *endpoint).ok().flatten();
        let endpoint = endpoint.ok_or_else(|| "it has ended".to_owned())?;
        let mut client = Client::connect(endpoint).await.map_err(|error| chain(&error))?;
        client.open(page).await.map_err(|error| chain(&error))
    };
    timeout(OPEN_DEADLINE, open).await.map_err(|_| "it took too long".to_owned())?
}

/// Enters when a session is ready for the first time.
async fn enter_ready(chronicle: Chronicle) {
    let mut status = chronicle.session.watch();
    if status.wait_for(|status| status.ready.is_some()).await.is_ok() {
        chronicle.enter();
    }
}

async fn tell_resets(mut resets: watch::Receiver<u64>, chronicle: Chronicle) {
    while resets.changed().await.is_ok() {
        chronicle.tell(Happening::ProfileReset);
    }
}

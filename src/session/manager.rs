//! The one actor that owns all sessions of the host.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::config::{Config, HostConfig};
use super::external;
use super::launch::{self, Assembly, Kept};
use super::status::{Component, SessionStatus};
use super::viewer::{Backend, Counts, Inner, Session, Sessions};
use crate::display::Reservation;
use crate::ids::SessionId;
use crate::supervise::{Group, GroupHandle, Identity, StopReport};
use crate::sys::Host;
use crate::tasks::{Outcome, Scope};
use crate::vnc::RfbSource;

/// Requests that may wait for the manager. They are few and short; a full queue means that it hangs.
const QUEUE: usize = 16;

enum Request {
    Ping(oneshot::Sender<()>),
    Stop { budget: Duration, done: oneshot::Sender<()> },
}

/// Talks to the manager. Cheap to clone.
#[derive(Clone)]
pub struct ManagerHandle {
    requests: mpsc::Sender<Request>,
}

/// The manager did not answer in time, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session manager does not answer")]
pub struct Unresponsive;

impl ManagerHandle {
    /// One round trip through the manager and every supervisor beneath it: the proof that the daemon is alive.
    ///
    /// # Errors
    /// When it does not answer within `deadline`.
    pub async fn ping(&self, deadline: Duration) -> Result<(), Unresponsive> {
        let (answer, answered) = oneshot::channel();
        let round_trip = async {
            self.requests.send(Request::Ping(answer)).await.map_err(|_closed| Unresponsive)?;
            answered.await.map_err(|_dropped| Unresponsive)
        };
        timeout(deadline, round_trip).await.map_err(|_elapsed| Unresponsive)?
    }

    /// Ends all sessions in order, within `budget`: viewers learn of it first, then browsers, then displays.
    pub async fn stop(&self, budget: Duration) {
        let (done, finished) = oneshot::channel();
        if self.requests.send(Request::Stop { budget, done }).await.is_ok() {
            // A manager that is gone has nothing left to stop.
            let _gone = finished.await;
        }
    }
}

struct Live {
    config: Config,
    group: GroupHandle,
    external: Option<watch::Receiver<Component>>,
    draining: watch::Sender<bool>,
    over: CancellationToken,
    _kept: Kept,
}

/// The manager before it runs.
pub struct Manager {
    scope: Scope,
    host: HostConfig,
    directory: watch::Sender<HashMap<SessionId, Session>>,
    live: Vec<Live>,
}

impl Manager {
    /// A manager without sessions.
    pub fn new(host: HostConfig) -> Self {
        Self { scope: Scope::new(), host, directory: watch::Sender::default(), live: Vec::new() }
    }

    /// The sessions, for those who serve them.
    pub fn sessions(&self) -> Sessions {
        Sessions { directory: self.directory.subscribe() }
    }

    /// Puts a session together and starts its processes through `system`.
    ///
    /// # Errors
    /// When its directories, cookie or profile cannot be had, or its services do not fit together.
    pub async fn launch(&mut self, system: &Host, config: Config) -> Result<(), Error> {
        let slot = u32::try_from(self.live.len()).unwrap_or(u32::MAX);
        let identity = self.identity(slot)?;
        let Assembly { services, rfb, facts, kept } = launch::assemble(&config, &self.host, slot, identity)?;
        system.remove_on_death(&kept.runtime.path).await;
        if let Some(reservation) = &kept.reservation {
            system.remove_on_death(&reservation.socket()).await;
            // A lock that holds something else by then is somebody else's.
            system.remove_on_death_if_holds(&reservation.lock_file(), Reservation::lock_text()).await;
        }
        let group = Group::spawn(&mut self.scope, config.id.as_str(), services, system)?;
        let over = self.scope.token().child_token();

        let external = matches!(config.rfb, RfbSource::External(_)).then(|| {
            let state = watch::Sender::new(external::unknown());
            let receiver = state.subscribe();
            self.scope.spawn("rfb watch", external::watch_server(rfb.clone(), state, over.clone()));
            receiver
        });
        let draining = watch::Sender::new(false);
        let first = SessionStatus::derive(
            &group.status().borrow(),
            external.as_ref().map(|component| component.borrow().clone()).as_ref(),
            false,
        );
        let status = watch::Sender::new(first);
        let session = Session {
            inner: Arc::new(Inner {
                id: config.id.clone(),
                user: config.user.clone(),
                backend: Backend::Relay { address: rfb, external: external.is_some() },
                status: status.subscribe(),
                facts,
                counts: Counts::default(),
            }),
        };
        self.scope.spawn(
            "session status",
            publish_status(config.id.clone(), group.clone(), external.clone(), draining.subscribe(), status),
        );
        group.start();
        self.directory.send_modify(|directory| {
            directory.insert(config.id.clone(), session);
        });
        self.live.push(Live { config, group, external, draining, over, _kept: kept });
        Ok(())
    }

    fn identity(&self, slot: u32) -> Result<Option<Identity>, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        if slot >= self.host.uid_count {
            return Err(Error::NoUidLeft { count: self.host.uid_count });
        }
        let uid = self.host.first_uid + slot;
        Ok(Some(Identity { uid, gid: uid }))
    }

    /// Starts the manager's task in `scope`. Its sessions run already.
    pub fn spawn(self, scope: &mut Scope) -> ManagerHandle {
        let (requests, inbox) = mpsc::channel(QUEUE);
        scope.spawn("session manager", self.run(inbox));
        ManagerHandle { requests }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(Request::Ping(answer)) => self.ping(answer).await,
                    Some(Request::Stop { budget, done }) => {
                        self.stop(budget).await;
                        // Whoever asked may have stopped waiting.
                        let _unheard = done.send(());
                        return;
                    }
                    None => break,
                },
                Some(finished) = self.scope.join_next() => match finished.outcome {
                    Outcome::Panicked(error) => {
                        tracing::error!(task = finished.name, error, "a session's task panicked");
                    }
                    outcome => tracing::debug!(task = finished.name, ?outcome, "a session's task ended"),
                },
            }
        }
    }

    async fn ping(&self, answer: oneshot::Sender<()>) {
        for live in &self.live {
            if !live.group.ping(Duration::from_secs(1)).await {
                tracing::error!(session = %live.config.id, "the supervisor does not answer");
                return;
            }
        }
        // Whoever asked may have stopped waiting.
        let _unheard = answer.send(());
    }

    async fn stop(&mut self, budget: Duration) {
        let deadline = Instant::now() + budget;
        for live in &self.live {
            live.draining.send_replace(true);
        }
        for live in std::mem::take(&mut self.live) {
            let left = deadline.saturating_duration_since(Instant::now());
            match live.group.stop(left).await {
                Ok(report) if report == StopReport::default() => {}
                Ok(report) => {
                    tracing::warn!(session = %live.config.id, killed = ?report.forced, left = ?report.left, "did not stop within the budget");
                }
                Err(error) => {
                    tracing::error!(session = %live.config.id, error = %crate::errors::chain(&error), "not stopped")
                }
            }
            live.over.cancel();
            if let Some(mut external) = live.external {
                // Its task ends at once; a closed channel says the same.
                let _ended = external.changed().await;
            }
            self.directory.send_modify(|directory| {
                directory.remove(&live.config.id);
            });
            tracing::info!(session = %live.config.id, "session ended");
        }
    }
}

/// Why a session could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be put together.
    #[error("cannot put the session together")]
    Assemble(#[from] launch::Error),
    /// Its services do not fit together, or cannot be contained.
    #[error("cannot supervise the session")]
    Supervise(#[from] crate::supervise::GraphError),
    /// The uid range is used up.
    #[error("all {count} reserved uids are in use")]
    NoUidLeft {
        /// Length of the range.
        count: u32,
    },
}

/// Derives a session's status from its parts for as long as it has any.
async fn publish_status(
    id: SessionId,
    group: GroupHandle,
    mut external: Option<watch::Receiver<Component>>,
    mut draining: watch::Receiver<bool>,
    status: watch::Sender<SessionStatus>,
) {
    let mut services = group.status();
    loop {
        let next = {
            let component = external.as_ref().map(|component| component.borrow().clone());
            SessionStatus::derive(&services.borrow(), component.as_ref(), *draining.borrow())
        };
        let before = status.borrow().state;
        if before != next.state {
            tracing::info!(session = %id, state = next.state.as_str(), "session state");
        }
        status.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
        let external_changed = async {
            let changed = match &mut external {
                Some(component) => component.changed().await.is_ok(),
                None => false,
            };
            if !changed {
                // Its watcher ends a little before the services do; what it said last stays.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            result = services.changed() => if result.is_err() { return },
            // Never closed before the services' channel: the manager keeps both.
            result = draining.changed() => if result.is_err() { return },
            () = external_changed => {}
        }
    }
}

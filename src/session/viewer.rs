//! A session as the gateway sees it: somebody to ask for a viewer's place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::{Sink, Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::handle::{Desk, HandoffError};
use super::handoff::{Answer, Handoff, Handoffs};
use super::record::{SessionRecord, Warmth};
use super::request::Kind;
use super::roster::{Roster, ScreenFigures, ViewerRecord};
use super::status::{SessionState, SessionStatus};
use crate::browser::Endpoint;
use crate::clock::unix_ms;
use crate::display::screen::Screen;
use crate::ids::{HandoffId, ProfileName, SessionId, UserId};
use crate::rfb::Access;
use crate::store::SessionKey;
use crate::supervise::GroupHandle;
use crate::vnc::native::{self, Camera, Meter, Metrics, NativeEnd, NativeOptions, Studio};
use crate::vnc::relay::{self, RelayEnd, RelayOptions};
use crate::vnc::{Activity, RfbAddress};

/// When to ask again after "not ready": a display is back in a second or two.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// For the viewer's side of the RFB handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// For asking an external RFB server once more before a viewer is turned away.
const PROBE_DEADLINE: Duration = Duration::from_millis(900);
/// For connecting to the RFB server, its side of the handshake, and for each write to it.
const UPSTREAM_DEADLINE: Duration = Duration::from_secs(5);

/// One session. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) about: About,
    pub(super) backend: Backend,
    /// None in tests, where nothing is supervised.
    pub(super) supervisor: Option<GroupHandle>,
    pub(super) status: watch::Receiver<SessionStatus>,
    pub(super) terms: watch::Receiver<Terms>,
    pub(super) handoffs: watch::Receiver<Handoffs>,
    pub(super) desk: Desk,
    pub(super) facts: Facts,
    pub(super) counts: Counts,
    /// The last use by anybody: input of a viewer, a command of an automation.
    pub(super) activity: Arc<Activity>,
    /// The part that it did not start for, where it ends for that.
    pub(super) culprit: OnceLock<&'static str>,
}

/// What does not change in a session's life.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) id: SessionId,
    pub(super) user: Option<UserId>,
    pub(super) kind: Kind,
    pub(super) profile: Option<ProfileName>,
    pub(super) created: SystemTime,
    pub(super) warmth: Warmth,
}

/// Until when a session runs, and what its owner calls it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) expires: Option<Expiry>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) labels: BTreeMap<String, String>,
}

/// What a viewer is shown.
#[derive(Clone)]
pub(super) enum Backend {
    /// The picture of an RFB server.
    Relay {
        /// Where it listens.
        address: RfbAddress,
        /// Whether somebody else runs it.
        external: bool,
    },
    /// A display of ours.
    Native {
        /// Its picture, and a way to act on it.
        screen: Screen,
        /// Where its pictures are encoded.
        studio: Studio,
        /// Where single ones are.
        camera: Camera,
        /// Where it is counted what that comes to.
        metrics: Metrics,
    },
    /// The bytes of a test's own server.
    #[cfg(test)]
    Splice(super::stand_in::Splice),
}

/// A moment to come, by the clock that nobody sets and by the one that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) at: Instant,
    pub(super) on: SystemTime,
}

impl Expiry {
    pub(super) fn after(duration: Duration) -> Self {
        Self { at: Instant::now() + duration, on: SystemTime::now() + duration }
    }
}

/// Who is being served, counted where they come and go.
#[derive(Default)]
pub(super) struct Counts {
    spectators: AtomicUsize,
    controllers: AtomicUsize,
    pub(super) automations: AtomicUsize,
    pub(super) tab_crashes: AtomicU64,
    roster: Roster,
}

/// How many are looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Viewers {
    /// Those who only look.
    pub spectators: usize,
    /// Those who may act as well.
    pub controllers: usize,
}

impl Counts {
    fn of(&self, access: Access) -> &AtomicUsize {
        match access {
            Access::ViewOnly => &self.spectators,
            Access::Full => &self.controllers,
        }
    }
}

/// One viewer in the count, for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a session's X display and DevTools are, for the host's own users.
#[derive(Clone, Default)]
pub struct Facts {
    /// The X display, where the session has one of ours.
    pub display: Option<crate::display::Display>,
    /// The DevTools on loopback, while a browser is up.
    pub devtools: Option<watch::Receiver<Option<Endpoint>>>,
    /// Where its browser reads and writes, where it has one of ours.
    pub cdp_paths: Option<super::cdp::CdpPaths>,
    /// How often its profile was replaced, where it has a browser of ours.
    pub profile_resets: Option<watch::Receiver<u64>>,
    /// How its browser is, where AdsPower opens it.
    pub adspower: Option<watch::Receiver<crate::adspower::browser::Status>>,
}

/// The session cannot be viewed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotReady {
    /// When to ask again.
    pub retry_after: Duration,
    /// Why, in words for a person.
    pub reason: &'static str,
}

impl Session {
    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.inner.about.id
    }

    /// Which of all sessions it is that ever had its id.
    pub(super) fn key(&self) -> SessionKey {
        SessionKey { id: self.id().clone(), created_ms: unix_ms(self.inner.about.created) }
    }

    /// Whose it is, where that was said.
    pub fn user(&self) -> Option<&UserId> {
        self.inner.about.user.as_ref()
    }

    /// All that can be told of it.
    pub fn record(&self) -> SessionRecord {
        let Inner { about, facts, counts, .. } = &*self.inner;
        let SessionStatus { state, ready, end, components } = self.status();
        let terms = self.inner.terms.borrow().clone();
        let display = facts.display.as_ref().and_then(|display| display.address().ok());
        SessionRecord {
            id: about.id.clone(),
            user: about.user.clone(),
            kind: about.kind,
            profile: about.profile.clone(),
            state,
            created: about.created,
            ready,
            expires: terms.expires.map(|expiry| expiry.on),
            idle_timeout_seconds: terms.idle_timeout.map(|timeout| timeout.as_secs()),
            ended: None,
            end,
            warmth: about.warmth,
            labels: terms.labels,
            handoffs: self.inner.handoffs.borrow().all().cloned().collect(),
            components,
            viewers: self.viewers(),
            watching: self.watching(),
            screen: self.screen_figures(),
            automations: counts.automations.load(Ordering::Relaxed),
            tab_crashes: counts.tab_crashes.load(Ordering::Relaxed),
            display_size: display.as_ref().and(facts.display.as_ref()).map(crate::display::Display::size),
            display: display.map(|address| format!(":{}", address.number)),
            devtools_port: self.devtools().map(Endpoint::port),
        }
    }

    /// Its requests for a human as they come and go.
    pub fn handoffs(&self) -> watch::Receiver<Handoffs> {
        self.inner.handoffs.clone()
    }

    /// A human's answer to one of them. The flag: whether it ended the handoff; an earlier one that said the same may have.
    ///
    /// # Errors
    /// See [`HandoffError`].
    pub async fn answer(
        &self,
        handoff: &HandoffId,
        answer: Answer,
    ) -> Result<(Arc<Handoff>, bool), HandoffError> {
        self.inner.desk.answer(self.key(), handoff.clone(), answer).await
    }

    /// How it is.
    pub fn status(&self) -> SessionStatus {
        self.inner.status.borrow().clone()
    }

    /// Its status as it changes.
    pub fn watch(&self) -> watch::Receiver<SessionStatus> {
        self.inner.status.clone()
    }

    /// Who is looking at the moment.
    pub fn viewers(&self) -> Viewers {
        let counts = &self.inner.counts;
        Viewers {
            spectators: counts.spectators.load(Ordering::Relaxed),
            controllers: counts.controllers.load(Ordering::Relaxed),
        }
    }

    /// The same one by one, those who came first first.
    pub fn watching(&self) -> Vec<ViewerRecord> {
        self.inner.counts.roster.records()
    }

    fn screen_figures(&self) -> Option<ScreenFigures> {
        match &self.inner.backend {
            Backend::Native { screen, .. } => Some(ScreenFigures::of(&screen.figures())),
            _ => None,
        }
    }

    /// Its display and DevTools port.
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// A place for one viewer.
    ///
    /// # Errors
    /// When there is no picture to show at the moment.
    pub async fn viewer(&self, access: Access) -> Result<ViewerTicket, NotReady> {
        let ticket = ViewerTicket { session: self.clone(), access, name: String::new() };
        let (has_picture, state) = {
            let status = self.inner.status.borrow();
            (status.has_picture(), status.state)
        };
        if has_picture || self.answers_again(state).await {
            return Ok(ticket);
        }
        let reason = match state {
            SessionState::Starting => "the session is starting",
            SessionState::Draining | SessionState::Stopped => "the session is ending",
            SessionState::Ready | SessionState::Degraded => "the display is being restarted",
        };
        Err(NotReady { retry_after: RETRY_AFTER, reason })
    }

    /// Waits until the session ends, or has ended.
    pub async fn over(&self) {
        let mut status = self.inner.status.clone();
        // The sender lives as long as the session; its end is the session's.
        let _over_or_gone = status.wait_for(SessionStatus::is_over).await;
    }

    /// Asks an external RFB server that did not answer its last probe once more: it may be back for a part of a second, and
    /// nobody but this viewer waits for it.
    async fn answers_again(&self, state: SessionState) -> bool {
        let Backend::Relay { address, external: true } = &self.inner.backend else { return false };
        !state.is_over() && matches!(timeout(PROBE_DEADLINE, relay::probe(address)).await, Ok(Ok(())))
    }
}

/// The right to serve one viewer once.
pub struct ViewerTicket {
    session: Session,
    access: Access,
    name: String,
}

/// Why a viewer is no longer served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerEnd {
    /// It went away.
    Left,
    /// It broke the protocol; how, in words for the log.
    Misbehaved(String),
    /// It did not take its picture in time.
    TooSlow,
    /// The display went away and is coming back: reconnect.
    DisplayRestarting,
    /// The display cannot be served; reconnecting will not help soon.
    DisplayLost,
    /// The session is over.
    SessionEnded,
}

impl ViewerTicket {
    /// For a viewer that is called that in the log.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Serves RFB to a viewer whose bytes come from `rx` and go to `tx`, until one side ends. Keys and buttons that the
    /// viewer holds are released before this returns. To end it from outside, end `rx`: a dropped future releases nothing.
    pub async fn serve<Tx, Rx, E>(
        self,
        tx: &mut Tx,
        rx: &mut Rx,
        send_deadline: Duration,
        activity: &Activity,
    ) -> ViewerEnd
    where
        Tx: Sink<Bytes, Error = E> + Unpin + Send,
        Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: std::error::Error + Send,
    {
        let inner = &self.session.inner;
        let _counted = Counted::new(inner.counts.of(self.access));
        // Who acts here uses the session as well.
        activity.counts_for(&inner.activity);
        match &inner.backend {
            Backend::Relay { address, .. } => {
                let _entry = inner.counts.roster.enter(self.name.clone(), self.access, None);
                let options = RelayOptions {
                    access: self.access,
                    desktop_name: format!("valetd {}", inner.about.id),
                    handshake_deadline: HANDSHAKE_DEADLINE,
                    send_deadline,
                    upstream_deadline: UPSTREAM_DEADLINE,
                };
                // A relay whose viewer's stream ends releases what the viewer held; one that is dropped does not.
                let mut rx = rx.take_until(Box::pin(self.session.over()));
                let end = relay::run(tx, &mut rx, address, &options, activity).await;
                if rx.take_result().is_some() { ViewerEnd::SessionEnded } else { self.judge(end) }
            }
            Backend::Native { screen, studio, metrics, .. } => {
                let (meter, figures) = Meter::new(metrics.clone());
                let _entry = inner.counts.roster.enter(self.name.clone(), self.access, Some(figures));
                let options = NativeOptions {
                    access: self.access,
                    desktop_name: format!("valetd {}", inner.about.id),
                    handshake_deadline: HANDSHAKE_DEADLINE,
                    send_deadline,
                    picture_deadline: UPSTREAM_DEADLINE,
                    meter,
                };
                let mut rx = rx.take_until(Box::pin(self.session.over()));
                let end = native::run(tx, &mut rx, screen, studio, &options, activity).await;
                if rx.take_result().is_some() { ViewerEnd::SessionEnded } else { self.judge_native(end) }
            }
            #[cfg(test)]
            Backend::Splice(splice) => splice.serve(self.access, tx, rx, send_deadline, activity).await,
        }
    }

    fn judge_native(&self, end: NativeEnd) -> ViewerEnd {
        match end {
            NativeEnd::Left => ViewerEnd::Left,
            NativeEnd::Misbehaved(how) => ViewerEnd::Misbehaved(crate::errors::chain(&how)),
            NativeEnd::TooSlow => ViewerEnd::TooSlow,
            NativeEnd::NoPicture if self.session.is_over() => ViewerEnd::SessionEnded,
            NativeEnd::NoPicture => ViewerEnd::DisplayRestarting,
            NativeEnd::Encoding(error) => {
                let error = crate::errors::chain(&error);
                tracing::error!(session = %self.session.id(), error, "the picture cannot be encoded");
                ViewerEnd::DisplayLost
            }
        }
    }

    fn judge(&self, end: RelayEnd) -> ViewerEnd {
        let lost = |error: &dyn std::error::Error, what| {
            tracing::warn!(session = %self.session.id(), error = %crate::errors::chain(error), "{what}");
        };
        match end {
            RelayEnd::ViewerLeft => ViewerEnd::Left,
            RelayEnd::ViewerMisbehaved(how) => ViewerEnd::Misbehaved(crate::errors::chain(&how)),
            RelayEnd::ViewerTooSlow => ViewerEnd::TooSlow,
            // Its end and that of its RFB server are one and the same news where both have come by now.
            RelayEnd::UpstreamEnded if self.session.is_over() => ViewerEnd::SessionEnded,
            RelayEnd::UpstreamEnded => ViewerEnd::DisplayRestarting,
            RelayEnd::UpstreamUnreachable(error) => {
                lost(&error, "no connection to the RFB server");
                ViewerEnd::DisplayRestarting
            }
            RelayEnd::UpstreamProtocol(error) => {
                lost(&error, "the RFB server cannot be served to viewers");
                ViewerEnd::DisplayLost
            }
        }
    }
}

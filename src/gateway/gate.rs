//! From a request's head to a proof that it may go on. A handler takes the proof, so it cannot run without one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::Limits;
use super::credential::{self, Credential};
use super::origin::{self, Origin};
use super::refused::Refused;
use super::upgrade::{self, Decision};
use crate::auth::{Grant, Refusal, Replay, Role, TICKET_BYTES, Tickets};
use crate::clock::unix_now;
use crate::http::Peer;
use crate::ids::{SessionId, UserId};
use crate::keyring::Keys;
use crate::rfb::Access;
use crate::secret::Secret;
use crate::session::{Session, Sessions, ViewerTicket};

/// Tickets of the last 15 s.
const MAX_TICKETS: usize = 16 * 1024;

/// Single-use tokens that have not expired.
const MAX_REMEMBERED_TOKENS: usize = 64 * 1024;

/// Decides who may enter.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) keys: Arc<Keys>,
    sessions: Sessions,
    /// Replaced by a reload.
    pub(super) allowed_origins: watch::Sender<Vec<String>>,
    max_viewers_per_session: usize,
    max_cdp_connections_per_session: usize,
    /// Mutexes of this type are held for one map operation and never across an await.
    tickets: Mutex<Tickets>,
    replay: Mutex<Replay>,
    pub(super) seats: Arc<Seats>,
    cdp_seats: Arc<Seats>,
}

/// A good token for a session that is here.
pub(super) struct TokenGrant {
    grant: Grant,
    session: Session,
}

impl TokenGrant {
    /// The session, and whose token it is.
    pub(super) fn at(&self) -> (&Session, &UserId) {
        (&self.session, &self.grant.user)
    }

    /// What the page shows of it: the role, and when it ends as a Unix time.
    pub(super) fn about(&self) -> (Role, u64) {
        (self.grant.role, self.grant.expires_at)
    }
}

/// A right to a picture of a session that is here. It is none to a ticket: a ticket is good for it, and must not beget another.
pub(super) struct StillGrant {
    grant: Grant,
    pub(super) session: Session,
}

/// A viewer's right to one session over a WebSocket, a place in it, and its display being ready.
pub(super) struct VncGrant {
    pub(super) grant: Grant,
    pub(super) access: Access,
    pub(super) ticket: ViewerTicket,
    pub(super) seat: Seat,
    /// `Sec-WebSocket-Accept`.
    pub(super) accept: HeaderValue,
}

/// An automation's right to one session's browser.
pub(super) struct CdpGrant {
    grant: Grant,
    pub(super) session: Session,
    /// Whether a policy stands between it and the browser.
    pub(super) filtered: bool,
}

/// The same over a WebSocket, with a place in the session.
pub(super) struct CdpSeat {
    pub(super) seat: Seat,
    /// `Sec-WebSocket-Accept`.
    pub(super) accept: HeaderValue,
}

impl Gate {
    pub(super) fn new(
        keys: Arc<Keys>,
        sessions: Sessions,
        allowed_origins: Vec<String>,
        limits: &Limits,
    ) -> Self {
        Self {
            keys,
            sessions,
            allowed_origins: watch::Sender::new(allowed_origins),
            max_viewers_per_session: limits.max_viewers_per_session,
            max_cdp_connections_per_session: limits.max_cdp_connections_per_session,
            tickets: Mutex::new(Tickets::new(MAX_TICKETS)),
            replay: Mutex::new(Replay::new(MAX_REMEMBERED_TOKENS)),
            seats: Arc::default(),
            cdp_seats: Arc::default(),
        }
    }

    /// Takes a token whose role is one of those that may; never a ticket, which must not beget another.
    pub(super) async fn token(
        &self,
        head: &Parts,
        peer: &Peer,
        session: Option<&SessionId>,
        may: fn(Role) -> bool,
    ) -> Result<TokenGrant, Refused> {
        let (grant, session) = self.enter(head, peer, session, false).await?;
        if !may(grant.role) {
            return Err(Refusal::WrongRole.into());
        }
        self.use_up(&grant)?;
        Ok(TokenGrant { grant, session })
    }

    /// Takes any credential whose role may look. A ticket is one of them: an `<img>` has no header to carry a token in.
    pub(super) async fn still(
        &self,
        head: &Parts,
        peer: &Peer,
        session: Option<&SessionId>,
    ) -> Result<StillGrant, Refused> {
        let (grant, session) = self.enter(head, peer, session, true).await?;
        match grant.role {
            Role::Spectator | Role::Controller => Ok(StillGrant { grant, session }),
            Role::Automation | Role::Operator => Err(Refusal::WrongRole.into()),
        }
    }

    /// Takes any credential whose role may watch, and a seat.
    pub(super) async fn viewer(
        &self,
        head: &Parts,
        peer: &Peer,
        session: Option<&SessionId>,
    ) -> Result<VncGrant, Refused> {
        let (mut grant, session) = self.enter(head, peer, session, true).await?;
        let access = match grant.role {
            Role::Spectator => Access::ViewOnly,
            Role::Controller => Access::Full,
            Role::Automation | Role::Operator => return Err(Refusal::WrongRole.into()),
        };
        let accept = websocket(head)?;
        let seat = Seats::take(&self.seats, session.id(), grant.role, self.max_viewers_per_session)
            .ok_or(Refused::TooManyViewers)?;
        let ticket = session.viewer(access).await.map_err(|why| {
            tracing::debug!(session = %session.id(), reason = why.reason, "not ready for viewers");
            Refused::NotReady(why.retry_after)
        })?;
        self.use_up(&grant)?;
        grant.token_id = None;
        Ok(VncGrant { grant, access, ticket, seat, accept })
    }

    /// Takes a credential whose role may drive the browser. A ticket is for a WebSocket only, since it is good once and a
    /// client asks several questions before it opens one.
    pub(super) async fn automation(
        &self,
        head: &Parts,
        peer: &Peer,
        session: Option<&SessionId>,
        tickets: bool,
    ) -> Result<CdpGrant, Refused> {
        let (grant, session) = self.enter(head, peer, session, tickets).await?;
        let filtered = match grant.role {
            Role::Automation => true,
            Role::Operator => false,
            Role::Spectator | Role::Controller => return Err(Refusal::WrongRole.into()),
        };
        Ok(CdpGrant { grant, session, filtered })
    }

    /// What a WebSocket of an automation needs besides its right.
    pub(super) fn cdp_seat(&self, proof: &CdpGrant, head: &Parts) -> Result<CdpSeat, Refused> {
        let accept = websocket(head)?;
        let (session, role, max) =
            (proof.session.id(), proof.grant.role, self.max_cdp_connections_per_session);
        let seat = Seats::take(&self.cdp_seats, session, role, max).ok_or(Refused::TooManyAutomations)?;
        Ok(CdpSeat { seat, accept })
    }

    /// Uses the right up where its token is for one use: last of all before the answer.
    pub(super) fn spend(&self, proof: CdpGrant) -> Result<(Grant, Session), Refused> {
        self.use_up(&proof.grant)?;
        Ok((Grant { token_id: None, ..proof.grant }, proof.session))
    }

    /// The same for a picture, which is not given to whom this refuses.
    pub(super) fn spend_still(&self, proof: StillGrant) -> Result<(), Refused> {
        Ok(self.use_up(&proof.grant)?)
    }

    /// Makes a one-time ticket.
    pub(super) fn issue(&self, proof: TokenGrant) -> Result<Secret<String>, Refused> {
        let mut random = [0; TICKET_BYTES];
        // A guessable ticket would be worse than none.
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Refusal::Exhausted)?;
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        // The token is used up already where it is for one use; its ticket is good once anyway.
        let grant = Grant { token_id: None, ..proof.grant };
        Ok(tickets.issue(&grant, random, Instant::now().into_std())?)
    }

    async fn enter(
        &self,
        head: &Parts,
        peer: &Peer,
        session: Option<&SessionId>,
        tickets: bool,
    ) -> Result<(Grant, Session), Refused> {
        let origin = origin::judge(&self.allowed_origins.borrow(), &head.headers, peer.tls);
        if origin == Origin::Foreign {
            return Err(Refused::Origin);
        }
        let allow_query_token = self.keys.current().config.allow_query_token;
        let credential = credential::find(&head.headers, head.uri.query(), allow_query_token)?;
        let grant = match credential {
            Credential::Token(token) => self.keys.verify(token.expose(), unix_now()).await?,
            // Any page can put a token it has got hold of into a URL, and some browsers leave Origin out.
            Credential::QueryToken(_) if origin == Origin::Absent => return Err(Refused::Origin),
            Credential::QueryToken(token) => self.keys.verify(token.expose(), unix_now()).await?,
            Credential::Ticket(ticket) if tickets => {
                let mut store = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
                store.redeem(ticket.expose(), session, Instant::now().into_std(), unix_now())?
            }
            Credential::Ticket(_) => return Err(Refusal::Missing.into()),
        };
        peer.authenticated();
        if session.is_some_and(|session| *session != grant.session) {
            return Err(Refusal::WrongSession.into());
        }
        let session = self.sessions.get(&grant.session).ok_or(Refused::NoSession)?;
        if session.user().is_some_and(|user| *user != grant.user) {
            return Err(Refusal::WrongUser.into());
        }
        Ok((grant, session))
    }

    /// Uses a single-use token up, last of all, so that a refusal does not cost it.
    fn use_up(&self, grant: &Grant) -> Result<(), Refusal> {
        match &grant.token_id {
            Some(id) if self.keys.current().config.single_use => {
                let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
                replay.admit(id, grant.expires_at, unix_now())
            }
            _ => Ok(()),
        }
    }
}

/// The answer's `Sec-WebSocket-Accept` to a request that opens a WebSocket.
fn websocket(head: &Parts) -> Result<HeaderValue, Refused> {
    match upgrade::decide(&head.method, head.version, &head.headers) {
        Decision::Open { accept } => HeaderValue::from_str(&accept).map_err(|_| Refused::BadUpgrade),
        Decision::NotAnUpgrade | Decision::WrongVersion => Err(Refused::UpgradeRequired),
        Decision::Bad(_) => Err(Refused::BadUpgrade),
    }
}

/// Who watches, counted.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<HashMap<SessionId, usize>>,
    spectators: AtomicUsize,
    controllers: AtomicUsize,
}

/// Live viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViewerCounts {
    /// Those who look.
    pub spectators: usize,
    /// Those who also act.
    pub controllers: usize,
}

impl Seats {
    pub(super) fn counts(&self) -> ViewerCounts {
        ViewerCounts {
            spectators: self.spectators.load(Ordering::Relaxed),
            controllers: self.controllers.load(Ordering::Relaxed),
        }
    }

    fn of_role(&self, role: Role) -> &AtomicUsize {
        if role == Role::Spectator { &self.spectators } else { &self.controllers }
    }

    fn take(seats: &Arc<Self>, session: &SessionId, role: Role, max: usize) -> Option<Seat> {
        let mut taken = seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(session.clone()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        drop(taken);
        seats.of_role(role).fetch_add(1, Ordering::Relaxed);
        Some(Seat { seats: Arc::clone(seats), session: session.clone(), role })
    }
}

/// A viewer's place in its session; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    session: SessionId,
    role: Role,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.of_role(self.role).fetch_sub(1, Ordering::Relaxed);
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.session);
            }
        }
    }
}

//! From a request to its answer: route, proof, handler.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use prometheus::Registry;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::access::{Admitted, Operator, admit};
use super::metrics::Tally;
use super::refused::{Refused, Trouble};
use super::routes::{self, Found, Named, Target};
use super::{docs, host};
use crate::auth::{Replay, SigningKey};
use crate::health::Survey;
use crate::http::body::uncached;
use crate::http::{Peer, PeerAddress, Reply, RequestId};
use crate::ids::{HandoffId, ProfileName, SessionId};
use crate::keyring::Keys;
use crate::links::Links;
use crate::session::{ManagerHandle, Sessions};

/// What the routes look at.
pub(super) struct State {
    pub(super) sessions: Sessions,
    pub(super) manager: ManagerHandle,
    pub(super) keys: Arc<Keys>,
    pub(super) registry: Registry,
    /// How the host is.
    pub(super) survey: Survey,
    pub(super) links: Links,
    /// What tokens are signed with, where it is not a shared secret.
    pub(super) signing_key: watch::Receiver<Option<SigningKey>>,
    pub(super) tally: Tally,
    /// Tokens for one use that were used.
    pub(super) used_tokens: Mutex<Replay>,
    /// Places for those who listen to events.
    pub(super) listeners: Arc<Semaphore>,
    /// Tells the events of this run of the daemon from those of others.
    pub(super) run: String,
    /// When the listeners stop.
    pub(super) over: CancellationToken,
    pub(super) started: Instant,
}

/// One request's view of it.
pub(super) struct Context {
    pub(super) state: Arc<State>,
    pub(super) peer: Arc<Peer>,
    pub(super) request_id: RequestId,
}

/// Answers one request.
pub(super) async fn answer(state: Arc<State>, request: Request<Incoming>, peer: Arc<Peer>) -> Reply {
    let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::generate);
    let context = Context { state, peer, request_id };
    match context.route(request).await {
        Ok(reply) => reply,
        Err(refused) => {
            let (status, problem, _title) = refused.trouble.outside();
            tracing::debug!(request_id = %context.request_id, status = status.as_u16(), problem, "refused");
            refused.response(&context.request_id).into()
        }
    }
}

impl Context {
    async fn route(&self, request: Request<Incoming>) -> Result<Reply, Box<Refused>> {
        let (head, body) = request.into_parts();
        let local = matches!(self.peer.address, PeerAddress::Unix { .. });
        let (proof, target, named) = match routes::find(&head.method, head.uri.path(), local) {
            Found::Route { proof, target, named } => (proof, target, named),
            Found::OtherMethods(methods) => return Err(Refused::method(methods)),
            Found::Nothing => return Err(Trouble::NotFound.into()),
        };
        let State { keys, used_tokens, .. } = &*self.state;
        let operator = match admit(proof, &head.headers, &self.peer, keys, used_tokens).await? {
            Admitted::Anybody => return self.public(target, head.uri.path()).await,
            Admitted::Operator(operator) => operator,
        };
        let query = head.uri.query();
        let headers = &head.headers;
        let Named { session, handoff, profile } = named;
        let known =
            || -> Result<SessionId, Box<Refused>> { session.ok_or_else(|| Trouble::UnknownSession.into()) };
        let handoff =
            || -> Result<HandoffId, Box<Refused>> { handoff.ok_or_else(|| Trouble::UnknownHandoff.into()) };
        let name =
            || -> Result<ProfileName, Box<Refused>> { profile.ok_or_else(|| Trouble::UnknownProfile.into()) };
        match target {
            Target::Status => Ok(json(StatusCode::OK, &host::status(&self.state).await).into()),
            Target::Capacity => Ok(self.capacity().into()),
            Target::Events => self.listen(headers, query),
            Target::Create => self.create(operator, headers, query, body).await,
            Target::List => self.list(query),
            Target::Show => self.show(&known()?),
            Target::Amend => self.amend(operator, &known()?, headers, body).await,
            Target::End => self.end(operator, &known()?, &head, body).await,
            Target::SessionHealth => self.session_health(&known()?),
            Target::Connection => self.connection(operator, &known()?, query),
            Target::AskForHuman => self.ask_for_human(operator, &known()?, headers, body).await,
            Target::Handoffs => self.handoffs(&known()?),
            Target::Handoff => self.handoff(&known()?, &handoff()?, query).await,
            Target::Resolve => self.resolve(operator, &known()?, &handoff()?, headers, body).await,
            Target::Profiles => self.profiles(query).await,
            Target::AddProfile => self.add_profile(operator, headers, body).await,
            Target::Profile => self.profile(name()?).await,
            Target::RemoveProfile => self.remove_profile(operator, name()?).await,
            Target::ReleaseProfile => self.release_profile(operator, name()?, headers, body).await,
            Target::QuarantineProfile => self.quarantine_profile(operator, name()?, headers, body).await,
            _public => Err(Trouble::NotFound.into()),
        }
    }

    async fn public(&self, target: Target, path: &str) -> Result<Reply, Box<Refused>> {
        let state = &self.state;
        let response = match target {
            Target::Alive => word(state.survey.is_alive().await, "alive", "dead"),
            Target::Ready => word(state.survey.is_ready().await, "ready", "unready"),
            Target::Health => host::health_response(state).await,
            Target::Metrics => host::metrics_response(state)?,
            Target::Description => docs::description(),
            Target::Docs => docs::file(path)?,
            _private => return Err(Trouble::NotFound.into()),
        };
        Ok(response.into())
    }

    /// Says who did what. Never what was sent along: that may hold anything.
    pub(super) fn audit(
        &self,
        operator: &Operator,
        action: &'static str,
        session: Option<&SessionId>,
        outcome: &'static str,
    ) {
        let session = session.map(SessionId::as_str);
        tracing::info!(request_id = %self.request_id, by = %operator, action, session, outcome, "host api");
    }
}

fn word(yes: bool, when: &'static str, otherwise: &'static str) -> Response<Full<Bytes>> {
    let (status, text) =
        if yes { (StatusCode::OK, when) } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise) };
    uncached(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

/// Data as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => uncached(status, "application/json", body),
        // Plain data with text keys; kept as an answer, since a panic would take the connection along.
        Err(_) => uncached(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", Bytes::new()),
    }
}

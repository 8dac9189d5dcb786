//! The gateway as a whole: bound, then served; and the router.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderValue, IF_NONE_MATCH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::Network;
use super::gate::{CdpSeat, Gate, TokenGrant, ViewerCounts, VncGrant};
use super::handoffs;
use super::metrics::Metrics;
use super::refused::Refused;
use super::routes::{self, Match, Proof};
use super::viewer::{self, Settings};
use super::{Config, assets, cdp, credential, forwarded, screenshot};
use crate::auth::{self, KeyError, Role, TICKET_TTL};
use crate::cdp::{Paths, Policy};
use crate::clock;
use crate::http::body::uncached;
use crate::http::{self, Listener, Peer, PeerAddress, Reply, RequestId, Server, Tls, TlsError, Upgraded};
use crate::keyring::{self, Keys};
use crate::session::{CdpPaths, Session, Sessions};
use crate::tasks::Scope;

/// For viewers to take their close frames when the daemon drains.
const DRAIN_BUDGET: Duration = Duration::from_secs(5);

/// For a connection that is only pages and assets.
const HTTP_LIFETIME: Duration = Duration::from_secs(120);

/// For our own helpers at the end.
const HELPER_BUDGET: Duration = Duration::from_secs(1);

/// Why the gateway cannot start or reload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate.
    #[error("cannot use the certificate")]
    Tls(#[source] TlsError),
    /// A key for tokens.
    #[error("cannot use a key of [auth]")]
    Keys(#[source] KeyError),
    /// Metrics registered twice.
    #[error("cannot register metrics")]
    Metrics(#[source] prometheus::Error),
}

/// The public listener, bound; nobody is served before [`Gateway::serve`].
pub struct Gateway {
    listener: TcpListener,
    local_addr: SocketAddr,
    limits: http::Limits,
    tls: Option<Arc<Tls>>,
    http_metrics: http::Metrics,
    context: Arc<Context>,
}

/// Reaches into a gateway that is being served. Cheap to clone.
#[derive(Clone)]
pub struct GatewayHandle {
    tls: Option<Arc<Tls>>,
    context: Arc<Context>,
}

/// What requests need.
struct Context {
    gate: Gate,
    settings: Settings,
    static_dir: Option<PathBuf>,
    metrics: Metrics,
    cdp_settings: crate::cdp::Settings,
    cdp_metrics: cdp::Metrics,
    trusted_proxies: Vec<Network>,
    clock_steps: watch::Sender<u64>,
}

impl Gateway {
    /// Binds the listener, unless it is `open` already, and reads the certificate and the keys.
    ///
    /// # Errors
    /// When one of them is not usable.
    pub async fn bind(
        config: Config,
        open: Option<std::net::TcpListener>,
        auth: auth::Config,
        sessions: Sessions,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let Config {
            listen,
            tls,
            allowed_origins,
            trusted_proxies,
            static_dir,
            limits,
            cdp: cdp_settings,
            public_url: _,
        } = config;
        let tls = match tls {
            Some(files) => {
                Some(Arc::new(Tls::load(&files.certificate, &files.private_key).await.map_err(Error::Tls)?))
            }
            None => None,
        };
        let keys = Arc::new(Keys::new(auth).map_err(Error::Keys)?);
        let metrics = Metrics::register(registry).map_err(Error::Metrics)?;
        let cdp_metrics = cdp::Metrics::register(registry).map_err(Error::Metrics)?;
        let http_metrics = http::Metrics::register(registry, "valetd_gateway").map_err(Error::Metrics)?;
        let failed = |source| Error::Listen { address: listen, source };
        let listener = http::listen(listen, open).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let settings = Settings {
            ping_interval: limits.ping_interval,
            pong_deadline: limits.pong_deadline,
            send_deadline: limits.send_deadline,
            idle_timeout: limits.idle_timeout,
        };
        let gate = Gate::new(keys, sessions, allowed_origins, &limits);
        let limits = http::Limits {
            max_connections: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            max_unauthenticated: limits.max_unauthenticated,
            max_header_bytes: limits.max_header_bytes,
            handshake_deadline: limits.handshake_deadline,
            connection_lifetime: HTTP_LIFETIME,
        };
        let clock_steps = watch::Sender::new(0);
        let context = Arc::new(Context {
            gate,
            settings,
            static_dir,
            metrics,
            cdp_settings,
            cdp_metrics,
            trusted_proxies,
            clock_steps,
        });
        Ok(Self { listener, local_addr, limits, tls, http_metrics, context })
    }

    /// Where it really listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What tokens are judged by, for the other listener.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.context.gate.keys)
    }

    /// A handle that works while the gateway is served.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle { tls: self.tls.clone(), context: Arc::clone(&self.context) }
    }

    /// Serves until `drain` is cancelled; viewers then get 1001. Returns when all are gone or the budget is spent.
    pub async fn serve(self, drain: CancellationToken) {
        let mut helpers = Scope::child_of(&drain);
        let stop = helpers.token();
        if let Some(tls) = self.tls.clone() {
            let stop = stop.clone();
            helpers.spawn("certificate", async move { tls.watch(stop).await });
        }
        let steps = self.context.clock_steps.clone();
        helpers.spawn("clock", clock::watch_steps(steps, stop.clone()));
        let keys = Arc::clone(&self.context.gate.keys);
        let metrics = self.context.metrics.clone();
        helpers.spawn("jwks", keyring::keep_fresh(keys, move |fetched| metrics.jwks(fetched), stop));
        let context = self.context;
        let draining = drain.clone();
        let server = Server {
            listener: Listener::Tcp(self.listener),
            tls: self.tls,
            limits: self.limits,
            metrics: self.http_metrics,
            drain_budget: DRAIN_BUDGET,
            handler: move |request, peer| {
                let (context, draining) = (Arc::clone(&context), draining.clone());
                async move { context.answer(request, peer, draining).await }
            },
        };
        let late = http::serve(server, drain).await;
        if !late.is_empty() {
            tracing::warn!(count = late.len(), "connections did not end in time");
        }
        let late = helpers.shutdown(HELPER_BUDGET).await;
        if !late.is_empty() {
            tracing::warn!(tasks = ?late, "the gateway's helpers did not end in time");
        }
    }
}

impl GatewayHandle {
    /// Takes new keys and rules for tokens and other origins, and reads the certificate again. All of it or nothing.
    ///
    /// # Errors
    /// When one of them is not usable; everything is as before then.
    pub async fn reload(&self, auth: auth::Config, allowed_origins: Vec<String>) -> Result<(), Error> {
        let keys = &self.context.gate.keys;
        let prepared = keys.prepare(auth).map_err(Error::Keys)?;
        if let Some(tls) = &self.tls {
            tls.reload().await.map_err(Error::Tls)?;
        }
        keys.take(prepared);
        self.context.gate.allowed_origins.send_replace(allowed_origins);
        Ok(())
    }

    /// Who watches now.
    pub fn viewers(&self) -> ViewerCounts {
        self.context.gate.seats.counts()
    }
}

impl Context {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Arc<Peer>,
        draining: CancellationToken,
    ) -> Reply {
        let (head, body) = request.into_parts();
        let id = head.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::generate);
        let metrics = self.metrics.clone();
        let refused = match self.route(&head, body, &peer, &id, draining).await {
            Ok(reply) => return reply,
            Err(refused) => refused,
        };
        metrics.refused(refused);
        tracing::debug!(request_id = %id, reason = refused.label(), "refused");
        refused.response(&id).into()
    }

    async fn route(
        self: Arc<Self>,
        head: &Parts,
        body: Incoming,
        peer: &Peer,
        id: &RequestId,
        draining: CancellationToken,
    ) -> Result<Reply, Refused> {
        let found = routes::find(&head.method, head.uri.path()).ok_or(Refused::NoRoute)?;
        if draining.is_cancelled() {
            return Err(Refused::Draining);
        }
        match found.proof {
            Proof::Nothing => {
                let known = head.headers.get(IF_NONE_MATCH);
                let path = head.uri.path();
                Ok(assets::serve(&head.method, path, known, self.static_dir.as_deref()).await.into())
            }
            Proof::Token => {
                let proof = self.gate.token(head, peer, found.session.as_ref(), |_any| true).await?;
                self.issue_ticket(proof)
            }
            Proof::Look => {
                let proof = self.gate.token(head, peer, found.session.as_ref(), may_look).await?;
                let wanted = handoffs::wanted(proof.at().0, head.uri.query(), peer.closes_at);
                match draining.run_until_cancelled(wanted).await {
                    Some(wanted) => Ok(wanted?.into()),
                    None => Err(Refused::Draining),
                }
            }
            // The only one that takes a body.
            Proof::Act => {
                let proof = self.gate.token(head, peer, found.session.as_ref(), may_act).await?;
                let handoff = found.handoff.ok_or(Refused::NoRoute)?;
                let (session, user) = proof.at();
                Ok(handoffs::resolve(session, &handoff, user, body).await?.into())
            }
            Proof::Still => {
                let proof = self.gate.still(head, peer, found.session.as_ref()).await?;
                let format = screenshot::wanted(found.pattern, head.uri.query())?;
                let taken = screenshot::take(&proof.session, format);
                let file = draining.run_until_cancelled(taken).await.ok_or(Refused::Draining)??;
                self.gate.spend_still(proof)?;
                Ok(screenshot::response(format, file).into())
            }
            Proof::Viewer => {
                let proof = self.gate.viewer(head, peer, found.session.as_ref()).await?;
                Ok(self.watch(head, id, proof))
            }
            Proof::Automation => self.discover(head, peer, found).await,
            Proof::AutomationSocket => self.automate(head, peer, id, found).await,
        }
    }

    async fn discover(&self, head: &Parts, peer: &Peer, found: Match) -> Result<Reply, Refused> {
        let proof = self.gate.automation(head, peer, found.session.as_ref(), false).await?;
        let policy = proof.filtered.then(|| self.policy(&proof.session));
        let (_, session) = self.gate.spend(proof)?;
        let question = found.asks().ok_or(Refused::NoRoute)?;
        let trusted = match peer.address {
            PeerAddress::Ip(address) => self.trusted_proxies.iter().any(|network| network.has(address.ip())),
            PeerAddress::Unix { .. } => false,
        };
        let public = forwarded::public(&head.headers, peer.tls, trusted).ok_or(Refused::NoHost)?;
        cdp::discover(&session, &question, head.uri.query(), policy.as_ref(), &public).await
    }

    async fn automate(
        &self,
        head: &Parts,
        peer: &Peer,
        id: &RequestId,
        found: Match,
    ) -> Result<Reply, Refused> {
        let proof = self.gate.automation(head, peer, found.session.as_ref(), true).await?;
        let CdpSeat { seat, accept } = self.gate.cdp_seat(&proof, head)?;
        let policy = proof.filtered.then(|| self.policy(&proof.session));
        let upstream = cdp::connect(&proof.session, found.connects_to(), policy.as_ref()).await?;
        let (grant, session) = self.gate.spend(proof)?;
        let response = switch(head, accept, &[credential::CDP, credential::BINARY]);
        let live = cdp::Live {
            grant,
            session,
            upstream,
            policy,
            seat,
            settings: self.settings.clone(),
            metrics: self.cdp_metrics.clone(),
            clock_steps: self.clock_steps.subscribe(),
            request_id: id.clone(),
        };
        Ok(Reply::upgrade(
            response,
            Box::new(move |upgraded: Upgraded| Box::pin(cdp::run(upgraded, live)) as _),
        ))
    }

    fn policy(&self, session: &Session) -> Policy {
        let paths = session.cdp_paths().map_or_else(Paths::default, |CdpPaths { downloads, home, tmp }| {
            Paths { readable: vec![home, tmp, downloads.clone()], downloads: Some(downloads) }
        });
        Policy::new(self.cdp_settings.clone(), paths)
    }

    fn issue_ticket(&self, proof: TokenGrant) -> Result<Reply, Refused> {
        let (role, token_expires_at) = proof.about();
        let ticket = self.gate.issue(proof)?;
        let body = serde_json::json!({
            "ticket": ticket.expose(),
            "expires_in": TICKET_TTL.as_secs(),
            "role": role.as_str(),
            "token_expires_at": token_expires_at,
        });
        Ok(uncached(StatusCode::OK, "application/json", body.to_string()).into())
    }

    fn watch(self: Arc<Self>, head: &Parts, id: &RequestId, proof: VncGrant) -> Reply {
        let response = switch(head, proof.accept.clone(), &[credential::BINARY]);
        let id = id.clone();
        let live = move |upgraded: Upgraded| {
            let steps = self.clock_steps.subscribe();
            let (settings, metrics) = (self.settings.clone(), self.metrics.clone());
            Box::pin(viewer::run(upgraded, proof, settings, metrics, steps, id)) as _
        };
        Reply::upgrade(response, Box::new(live))
    }
}

/// Whether the role is that of somebody at the screen.
fn may_look(role: Role) -> bool {
    matches!(role, Role::Spectator | Role::Controller)
}

/// Whether it may act there.
fn may_act(role: Role) -> bool {
    role == Role::Controller
}

/// 101, with the first of `protocols` that the client offers.
fn switch(head: &Parts, accept: HeaderValue, protocols: &[&'static str]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocols.iter().find(|protocol| credential::offers(&head.headers, protocol)) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

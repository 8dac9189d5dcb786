//! One connection: TLS, HTTP/1.1 requests, and perhaps an upgrade.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::caps::{Full as CapsFull, Slot};
use super::io::Accepted;
use super::metrics::Dropped;
use super::{
    Body, Io, Limits, Metrics, Peer, PeerAddress, Problem, Reply, RequestId, Tls, Upgrade, Upgraded,
};
use crate::errors::chain;
use crate::tasks::Outcome;

/// When somebody turned away may come again.
const TURNED_AWAY_RETRY: Duration = Duration::from_secs(5);

/// For the last bytes of a connection (TLS `close_notify`).
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Headers per request.
const MAX_HEADERS: usize = 64;

/// The least hyper takes as a buffer, in bytes.
const MIN_BUFFER_BYTES: usize = 8192;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all connections of a listener use.
pub(super) struct Shared<H> {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    pub(super) handler: H,
}

/// How the HTTP part of a connection ended.
enum HttpEnd {
    Upgraded(Upgrade, Io, Bytes),
    Closed(Io),
    Dropped(Dropped),
}

impl<H, F> Shared<H>
where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    /// Looks at how a connection's task ended.
    pub(super) fn reaped(&self, outcome: &Outcome) {
        if let Outcome::Panicked(message) = outcome {
            self.metrics.panics.inc();
            tracing::error!(error = %message, "a connection's task panicked");
        }
    }

    /// One connection, from accept to its end.
    pub(super) async fn connection(
        self: Arc<Self>,
        accepted: Accepted,
        place: Result<Slot, CapsFull>,
        drain: CancellationToken,
    ) {
        let _open = Open::new(&self.metrics);
        let since = Instant::now();
        let refused = place.as_ref().err().copied();
        let metrics = self.metrics.clone();
        // Boxed, so that what a live viewer holds on to is not as large as what a request needs.
        match Box::pin(self.http(accepted, place.ok(), since, drain.clone(), refused)).await {
            (HttpEnd::Upgraded(upgrade, io, leftover), peer) => {
                upgrade(Upgraded { io, leftover, peer, drain }).await;
            }
            (HttpEnd::Closed(mut io), _peer) => {
                if timeout(CLOSE_DEADLINE, io.shutdown()).await.is_err() {
                    tracing::trace!("the peer did not take the end of the connection");
                }
            }
            (HttpEnd::Dropped(why), _peer) => metrics.dropped(why),
        }
    }

    async fn http(
        self: Arc<Self>,
        accepted: Accepted,
        slot: Option<Slot>,
        since: Instant,
        drain: CancellationToken,
        refused: Option<CapsFull>,
    ) -> (HttpEnd, Arc<Peer>) {
        let tls = self.tls.is_some() && matches!(accepted, Accepted::Tcp(..));
        let address = match &accepted {
            Accepted::Tcp(_, address) => PeerAddress::Ip(*address),
            Accepted::Unix(_, address) => *address,
        };
        let peer = Arc::new(Peer { address, tls, closes_at: since + self.limits.connection_lifetime, slot });
        let deadline = since + self.limits.handshake_deadline;
        let end = tokio::select! {
            () = peer.evicted() => HttpEnd::Dropped(Dropped::Evicted),
            end = async {
                match self.secure(accepted, deadline).await {
                    Ok(io) => Arc::clone(&self).requests(io, Arc::clone(&peer), since, drain, refused).await,
                    Err(why) => HttpEnd::Dropped(why),
                }
            } => end,
        };
        (end, peer)
    }

    async fn secure(&self, accepted: Accepted, deadline: Instant) -> Result<Io, Dropped> {
        match (accepted, &self.tls) {
            (Accepted::Tcp(stream, _), Some(tls)) => {
                match timeout_at(deadline, tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => Ok(Io::Tls(Box::new(stream))),
                    Ok(Err(error)) => {
                        tracing::debug!(error = %chain(&error), "TLS handshake failed");
                        Err(Dropped::Tls)
                    }
                    Err(_) => Err(Dropped::Deadline),
                }
            }
            (Accepted::Tcp(stream, _), None) => Ok(Io::Tcp(stream)),
            (Accepted::Unix(stream, _), _) => Ok(Io::Unix(stream)),
        }
    }

    async fn requests(
        self: Arc<Self>,
        io: Io,
        peer: Arc<Peer>,
        since: Instant,
        drain: CancellationToken,
        refused: Option<CapsFull>,
    ) -> HttpEnd {
        let limits = self.limits.clone();
        let service = Requests {
            shared: Arc::clone(&self),
            peer,
            refused,
            since,
            requested: Arc::default(),
            upgrade: Arc::default(),
        };
        let requested = Arc::clone(&service.requested);
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.handshake_deadline)
            .max_buf_size(limits.max_header_bytes.max(MIN_BUFFER_BYTES))
            .max_headers(MAX_HEADERS)
            .keep_alive(refused.is_none())
            .serve_connection(TokioIo::new(io), service);
        let mut deadline = since + limits.handshake_deadline;
        let mut closing = false;
        let result = loop {
            tokio::select! {
                result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break result,
                () = drain.cancelled(), if !closing => {
                    closing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                    deadline = Instant::now() + limits.connection_lifetime;
                }
                () = sleep_until(deadline) => {
                    let now = Instant::now();
                    if closing || !requested.load(Ordering::Relaxed) {
                        return HttpEnd::Dropped(Dropped::Deadline);
                    } else if now < since + limits.connection_lifetime {
                        deadline = since + limits.connection_lifetime;
                    } else {
                        closing = true;
                        Pin::new(&mut connection).graceful_shutdown();
                        deadline = now + limits.handshake_deadline;
                    }
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(error = %chain(&error), "connection ended");
        }
        let parts = connection.into_parts();
        let io = parts.io.into_inner();
        let upgrade = parts.service.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
        match upgrade {
            Some(upgrade) => HttpEnd::Upgraded(upgrade, io, parts.read_buf),
            None => HttpEnd::Closed(io),
        }
    }
}

/// Counts an open connection for as long as it lives.
struct Open(prometheus::IntGauge);

impl Open {
    fn new(metrics: &Metrics) -> Self {
        metrics.connections.inc();
        Self(metrics.connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The requests of one connection.
struct Requests<H> {
    shared: Arc<Shared<H>>,
    peer: Arc<Peer>,
    refused: Option<CapsFull>,
    since: Instant,
    requested: Arc<AtomicBool>,
    /// Set by the request that upgrades, taken when HTTP is over; a mutex only because
    /// the task may move between threads: nobody ever waits for it.
    upgrade: Arc<Mutex<Option<Upgrade>>>,
}

impl<H, F> Service<Request<Incoming>> for Requests<H>
where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if !self.requested.swap(true, Ordering::Relaxed) {
            self.shared.metrics.handshake.observe(self.since.elapsed().as_secs_f64());
        }
        let id = RequestId::generate();
        request.extensions_mut().insert(id.clone());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (shared, peer, refused) = (Arc::clone(&self.shared), Arc::clone(&self.peer), self.refused);
        let upgrade = Arc::clone(&self.upgrade);
        Box::pin(async move {
            let reply = match refused {
                Some(full) => turned_away(full, &id).into(),
                None => (shared.handler)(request, peer).await,
            };
            let mut response = reply.response;
            if reply.upgrade.is_some() {
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = reply.upgrade;
            }
            if let Some(id) = id.header() {
                response.headers_mut().insert(X_REQUEST_ID, id);
            }
            response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            tracing::debug!(request_id = %id, %method, path, status = response.status().as_u16(), "request");
            Ok(response)
        })
    }
}

fn turned_away(full: CapsFull, id: &RequestId) -> Response<Full<Bytes>> {
    let problem = match full {
        CapsFull::Connections => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-connections",
            "Too many connections are open on this host.",
        ),
        CapsFull::Address => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-from-address",
            "Too many connections are open from this address.",
        ),
    };
    problem.retry_after(TURNED_AWAY_RETRY).response(id)
}

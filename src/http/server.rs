//! Accepting connections and speaking HTTP/1.1 on them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::caps::Caps;
use super::connection::Shared;
use super::io::Accepted;
use super::metrics::Dropped;
use super::{Body, Io, Listener, Metrics, Peer, Tls};
use crate::errors::chain;
use crate::tasks::Scope;

/// How long to leave the listener alone when the process is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections over a limit that are answered with a status at the same time; further ones are just closed.
const MAX_TURNED_AWAY: usize = 64;

/// Bounds of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one IPv4 address or IPv6 /64.
    pub max_per_address: usize,
    /// Connections that have not shown a credential; beyond, the oldest is closed.
    pub max_unauthenticated: usize,
    /// Size of a request's head; at least 8 KiB.
    pub max_header_bytes: usize,
    /// From accept to the end of the first request's head, and for each further head.
    pub handshake_deadline: Duration,
    /// For a connection that is not upgraded, all of it.
    pub connection_lifetime: Duration,
}

/// What serves a listener.
pub struct Server<H> {
    /// Bound already.
    pub listener: Listener,
    /// TLS, for TCP.
    pub tls: Option<Arc<Tls>>,
    /// Bounds.
    pub limits: Limits,
    /// Counts.
    pub metrics: Metrics,
    /// For open connections once the drain has begun.
    pub drain_budget: Duration,
    /// Answers requests.
    pub handler: H,
}

/// A connection that has become something else. Boxed once per upgrade, so that the HTTP part's memory can go.
pub type Upgrade = Box<dyn FnOnce(Upgraded) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What an upgrade gets after its 101 has been written.
#[derive(Debug)]
pub struct Upgraded {
    /// The stream.
    pub io: Io,
    /// What the client sent after its request; read this first.
    pub leftover: Bytes,
    /// Holds the connection's place among the limits; keep it as long as the stream.
    pub peer: Arc<Peer>,
    /// Cancelled when the listener drains.
    pub drain: CancellationToken,
}

/// A handler's answer.
pub struct Reply {
    pub(super) response: Response<Body>,
    pub(super) upgrade: Option<Upgrade>,
}

impl From<Response<Full<Bytes>>> for Reply {
    fn from(response: Response<Full<Bytes>>) -> Self {
        response.map(BodyExt::boxed_unsync).into()
    }
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self { response, upgrade: None }
    }
}

impl Reply {
    /// A 101 response, and what the connection becomes after it.
    pub fn upgrade(response: Response<Full<Bytes>>, upgrade: Upgrade) -> Self {
        Self { response: response.map(BodyExt::boxed_unsync), upgrade: Some(upgrade) }
    }
}

/// Serves until `drain` is cancelled and the connections have ended or used up their budget. Gives the names of the tasks
/// that had to be aborted. A panic in one connection is counted and ends that connection only.
pub async fn serve<H, F>(server: Server<H>, drain: CancellationToken) -> Vec<&'static str>
where
    H: Fn(Request<Incoming>, Arc<Peer>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let Server { listener, tls, limits, metrics, drain_budget, handler } = server;
    let caps = Arc::new(Caps::new(&limits));
    let shared = Arc::new(Shared { tls, limits, metrics, handler });
    let mut turned_away = 0;
    let mut accepting = true;
    let mut scope = Scope::child_of(&drain);
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(finished) = scope.join_next() => {
                if finished.name == "turned-away" {
                    turned_away -= 1;
                }
                shared.reaped(&finished.outcome);
            }
            accepted = listener.accept() => match accepted {
                Ok(accepted) => {
                    accepting = true;
                    let place = match &accepted {
                        Accepted::Tcp(_, address) => caps.admit(Some(address.ip())),
                        Accepted::Unix(..) => caps.admit(None),
                    };
                    let name = if place.is_ok() { "connection" } else { "turned-away" };
                    if let Err(full) = &place {
                        shared.metrics.dropped((*full).into());
                        if turned_away == MAX_TURNED_AWAY {
                            continue;
                        }
                        turned_away += 1;
                    }
                    scope.spawn(name, Arc::clone(&shared).connection(accepted, place, drain.clone()));
                }
                Err(error) => {
                    shared.metrics.dropped(Dropped::Accept);
                    if !is_of_one_connection(&error) {
                        if std::mem::replace(&mut accepting, false) {
                            tracing::warn!(error = %chain(&error), "cannot accept connections");
                        }
                        drain.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                    }
                }
            },
        }
    }
    drop(listener);
    scope.shutdown(drain_budget).await
}

/// Errors that `accept` passes on from a connection that has already failed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected, PermissionDenied};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | NotConnected | PermissionDenied | InvalidInput
    )
}

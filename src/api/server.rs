//! The operators' listeners: TCP for health and metrics, a Unix socket for `valetd status` and its kin.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nix::unistd::{Group, chown};
use prometheus::Registry;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::Config;
use super::access::{MAX_REMEMBERED_TOKENS, OPERATORS};
use super::answer::{State, answer};
use super::metrics::{SessionMetrics, Tally};
use super::stream::MOST_LISTENERS;
use crate::adspower::AdsPower;
use crate::auth::{Replay, SigningKey};
use crate::health::Survey;
use crate::hex;
use crate::http::{self, Limits, Listener, Metrics, Server, serve};
use crate::keyring::Keys;
use crate::links::Links;
use crate::session::{ManagerHandle, Sessions};

/// Pollers and scrapers, who do not stay long; somebody who waits for a place in the queue (10 minutes), for the session to be
/// put together and to be ready; and listeners to events, who come back.
const LIMITS: Limits = Limits {
    max_connections: 256,
    max_per_address: 64,
    max_unauthenticated: 256,
    max_header_bytes: 16_384,
    handshake_deadline: Duration::from_secs(5),
    connection_lifetime: Duration::from_secs(900),
};
/// For answers under way when the daemon ends.
const DRAIN_BUDGET: Duration = Duration::from_millis(500);
/// Root and the operators' group.
const SOCKET_MODE: u32 = 0o660;

/// Why the operators' side cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TCP address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The Unix socket cannot be bound.
    #[error("cannot listen on {path}")]
    BindSocket {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A metric was registered twice, which would be a bug.
    #[error("cannot set up metrics")]
    Metrics(#[from] prometheus::Error),
}

/// What the operators' side works with.
pub struct Params {
    /// The sessions that there are.
    pub sessions: Sessions,
    /// What tokens are judged by.
    pub keys: Arc<Keys>,
    /// What is shown under `/metrics`.
    pub registry: Registry,
    /// AdsPower, where the host has it.
    pub adspower: Option<AdsPower>,
    /// Where the gateway is.
    pub links: Links,
    /// What tokens are signed with, where it is not a shared secret.
    pub signing_key: watch::Receiver<Option<SigningKey>>,
}

/// The operators' side, bound and silent.
pub struct Api {
    tcp: TcpListener,
    address: SocketAddr,
    unix: UnixListener,
    socket: PathBuf,
    params: Params,
    tcp_metrics: Metrics,
    unix_metrics: Metrics,
    tally: Tally,
}

impl Api {
    /// Binds both listeners, the one on TCP unless it is `open` already. The caller holds the instance lock: a socket that stands there is stale.
    ///
    /// # Errors
    /// When one of them cannot be bound.
    pub async fn bind(
        config: &Config,
        open: Option<std::net::TcpListener>,
        params: Params,
    ) -> Result<Self, Error> {
        let listen = config.listen;
        let bind = |source| Error::Bind { address: listen, source };
        let tcp = http::listen(listen, open).await.map_err(bind)?;
        let address = tcp.local_addr().map_err(bind)?;
        let unix = bind_socket(&config.socket)
            .map_err(|source| Error::BindSocket { path: config.socket.clone(), source })?;
        let registry = &params.registry;
        registry
            .register(Box::new(SessionMetrics::new(params.sessions.clone(), params.adspower.clone())?))?;
        let tcp_metrics = Metrics::register(registry, "valetd_api")?;
        let unix_metrics = Metrics::register(registry, "valetd_control")?;
        let tally = Tally::register(registry)?;
        let socket = config.socket.clone();
        Ok(Self { tcp, address, unix, socket, params, tcp_metrics, unix_metrics, tally })
    }

    /// The TCP address that was really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `over`, then takes the socket away.
    pub fn serve(
        self,
        manager: ManagerHandle,
        survey: Survey,
        over: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        let Self { tcp, unix, socket, params, tcp_metrics, unix_metrics, tally, .. } = self;
        let Params { sessions, keys, registry, links, signing_key, adspower: _ } = params;
        let state = Arc::new(State {
            sessions: sessions.clone(),
            manager,
            keys,
            registry,
            survey,
            links,
            signing_key,
            tally: tally.clone(),
            used_tokens: Mutex::new(Replay::new(MAX_REMEMBERED_TOKENS)),
            listeners: Arc::new(Semaphore::new(MOST_LISTENERS)),
            run: run_name(),
            over: over.clone(),
            started: Instant::now(),
        });
        let server = |listener, metrics| {
            let state = Arc::clone(&state);
            let handler = move |request, peer| answer(Arc::clone(&state), request, peer);
            Server { listener, tls: None, limits: LIMITS, metrics, drain_budget: DRAIN_BUDGET, handler }
        };
        let tcp = server(Listener::Tcp(tcp), tcp_metrics);
        let unix = server(Listener::Unix(unix), unix_metrics);
        async move {
            // Nobody's work is lost with an answer that was cut off.
            let (_aborted_tcp, _aborted_unix, ()) = tokio::join!(
                serve(tcp, over.clone()),
                serve(unix, over.clone()),
                tally.follow(&sessions, &over)
            );
            if let Err(error) = std::fs::remove_file(&socket) {
                tracing::warn!(path = %socket.display(), %error, "cannot remove the control socket");
            }
        }
    }
}

/// A name that no other run of a daemon on this host is likely to have; no secret hangs on it.
fn run_name() -> String {
    let mut random = [0; 6];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return format!("{:x}", since_epoch.as_micros());
    }
    hex::encode(&random)
}

fn bind_socket(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _gone => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    if nix::unistd::geteuid().is_root()
        && let Ok(Some(group)) = Group::from_name(OPERATORS)
    {
        chown(path, None, Some(group.gid))?;
    }
    Ok(listener)
}

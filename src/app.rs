//! The daemon as a whole: build (bind, nothing served yet), run, drain.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use prometheus::Registry;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::auth::SigningKey;
use crate::config::{Change, Config, differences};
use crate::gateway::{self, Gateway, GatewayHandle};
use crate::identity::{self, Announced, Call, FlyVariables, Identity as HostIdentity, Notice};
use crate::ids::SessionId;
use crate::session::{self, HostConfig, Ledger, Manager, ManagerHandle, Network, Sessions};
use crate::store::{self, SetAside, Store, StoreError};
use crate::sys::{
    Filter, Firewall, FirewallError, Host, HostError, HostParams, Identity, InstanceLock, LockError,
};
use crate::systemd::{notify_state, say, watchdog};
use crate::tasks::{Outcome, Scope, blocking};
use crate::{errors, metrics, sys};

/// Of the drain budget, for telling viewers; browsers and displays have the rest.
const VIEWERS_SHARE: Duration = Duration::from_secs(3);
/// For the operators' listener and the daemon's own tasks, once everything else has stopped.
const LAST_SHARE: Duration = Duration::from_secs(1);
/// Beneath the state directory.
const STATE_FILE: &str = "state.db";
/// For the state file to be opened and looked through.
const STORE_DEADLINE: Duration = Duration::from_secs(20);

/// Why the daemon could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon works on this state directory.
    #[error("cannot start a second daemon")]
    Locked(#[from] LockError),
    /// Processes cannot be supervised here.
    #[error("cannot supervise processes on this host")]
    Host(#[from] HostError),
    /// The gateway cannot be had.
    #[error("cannot set up the gateway")]
    Gateway(#[from] gateway::Error),
    /// The operators' side cannot be had.
    #[error("cannot set up the host API")]
    Api(#[from] api::Error),
    /// The session of the configuration cannot be started.
    #[error("cannot start session {id}")]
    Session {
        /// Which.
        id: SessionId,
        /// Why not.
        #[source]
        source: session::Error,
    },
    /// What an earlier run left cannot be put in order.
    #[error("cannot put in order what earlier sessions left")]
    Places(#[from] session::PlacesError),
    /// The kernel does not tell of itself.
    #[error("cannot learn about this host from /proc")]
    Proc(#[source] std::io::Error),
    /// The file of sessions is not there in time.
    #[error("cannot open the state file in time")]
    Slow(#[source] std::io::Error),
    /// The file of sessions cannot be looked after.
    #[error("cannot open the state file")]
    Store(#[from] StoreError),
    /// Sessions would not be kept from the host.
    #[error("cannot filter what sessions connect to (isolation.network)")]
    Firewall(#[from] FirewallError),
    /// Rules are wanted, and there are no uids to make them for.
    #[error("isolation.network = \"filtered\" needs a daemon that runs as root")]
    NotRoot,
    /// A metric was registered twice, which would be a bug.
    #[error("cannot set up metrics")]
    Metrics(#[from] prometheus::Error),
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The machine was given up, and is wanted again: whoever starts daemons is to start the next one.
    #[error("this machine is wanted again, and a fresh daemon has to serve it")]
    CalledBack,
    /// A task that must not end has ended.
    #[error("{name} ended unexpectedly: {outcome:?}")]
    TaskEnded {
        /// Its name.
        name: &'static str,
        /// How.
        outcome: Outcome,
    },
}

/// Reads the configuration, or says in words for an operator what is wrong with it.
pub type ReadAgain = Box<dyn Fn() -> Result<Config, String> + Send>;
/// Sets the level of the log, or says what is wrong with it.
pub type SetLevel = Box<dyn Fn(&str) -> Result<(), String> + Send>;

/// What SIGHUP works on.
pub struct Reload {
    /// Reads the configuration again, or says why there is none.
    pub read: ReadAgain,
    /// Sets the level of the log.
    pub set_level: SetLevel,
}

/// A daemon that holds its listeners and its lock, and serves nobody yet.
pub struct App {
    config: Config,
    scope: Scope,
    system: Host,
    ledger: Ledger,
    firewall: Option<Firewall>,
    manager: Manager,
    gateway: Gateway,
    api: Api,
    signing_key: watch::Sender<Option<SigningKey>>,
    draining: watch::Sender<bool>,
    identity: HostIdentity,
    _lock: InstanceLock,
}

/// Where a built daemon listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The public listener.
    pub gateway: SocketAddr,
    /// The operators' listener.
    pub api: SocketAddr,
}

impl App {
    /// Takes the lock, binds the listeners, sweeps what an earlier daemon left, and gets ready to spawn.
    ///
    /// # Errors
    /// With the first thing that cannot be had; what was taken before it is given back.
    pub async fn build(config: Config) -> Result<Self, Error> {
        let state_dir = &config.host.state_dir;
        let lock = InstanceLock::acquire(state_dir)?;
        let registry = metrics::registry()?;
        let store = open_store(&state_dir.join(STATE_FILE), &registry).await?;
        let boot_id = sys::procfs::boot_id().map_err(Error::Proc)?;
        let manager = Manager::new(session::Params {
            host: config.host.clone(),
            rules: config.rules.clone(),
            template: config.session.clone(),
            profiles: config.profiles.clone(),
            memory_bytes: sys::procfs::memory_bytes().map_err(Error::Proc)?,
        });
        let draining = watch::Sender::new(false);
        let fly = FlyVariables::from(|name| std::env::var(name).ok());
        let identity = HostIdentity::new(config.identity.clone(), fly, &registry)?;
        let gateway =
            Gateway::bind(config.gateway.clone(), config.auth.clone(), manager.sessions(), &registry).await?;
        let signing_key = watch::Sender::new(config.signing_key.as_ref().map(|signing| signing.key.clone()));
        let params = api::Params {
            sessions: manager.sessions(),
            keys: gateway.keys(),
            registry,
            draining: draining.subscribe(),
            store: store.health(),
            host: identity.facts(),
            announced: identity.announced(),
            fixed: config.session.autostart.then(|| config.session.id.clone()),
            links: api::Links::new(
                config.gateway.public_url.as_deref(),
                gateway.local_addr(),
                config.gateway.tls.is_some(),
            ),
            signing_key: signing_key.subscribe(),
        };
        let api = Api::bind(&config.api, params).await?;
        let mut scope = Scope::new();
        let system = Host::start(&mut scope, HostParams::new(state_dir)).await?;
        system.remove_on_death(&config.api.socket).await;
        let ledger = Ledger::new(store, boot_id, system.containment().run().to_owned());
        let firewall = filter(&system, &config.host).await?;
        Ok(Self {
            config,
            scope,
            system,
            firewall,
            ledger,
            manager,
            gateway,
            api,
            signing_key,
            draining,
            identity,
            _lock: lock,
        })
    }

    /// The addresses that were really bound.
    pub fn addresses(&self) -> Addresses {
        Addresses { gateway: self.gateway.local_addr(), api: self.api.local_addr() }
    }

    /// What processes are started through.
    pub fn system(&self) -> &Host {
        &self.system
    }

    /// The sessions, also before they run.
    pub fn sessions(&self) -> Sessions {
        self.manager.sessions()
    }

    /// Starts the session and every task, serves until TERM or INT, and drains. `reload` is what SIGHUP works on.
    ///
    /// # Errors
    /// When the session cannot be started, or a task ends that must not. The drain has been done then as well.
    pub async fn run(self, reload: Reload) -> Result<(), Error> {
        let signals = Signals::new().map_err(Error::Signals)?;
        let addresses = self.addresses();
        let tls = self.config.gateway.tls.is_some();
        tracing::info!(listener = "gateway", address = %addresses.gateway, tls, "listening");
        let socket = self.config.api.socket.display().to_string();
        tracing::info!(listener = "api", address = %addresses.api, socket, "listening");

        // Everything that runs:
        let Self {
            config,
            mut scope,
            system,
            firewall,
            ledger,
            manager,
            gateway,
            api,
            signing_key,
            draining,
            identity,
            _lock,
        } = self;
        let sessions = manager.sessions();
        let (manager, autostart) = manager.spawn(&mut scope, &system, ledger).await?;
        let serving = gateway.handle();
        let stop_gateway = scope.token().child_token();
        let (gateway_done, gateway_ended) = oneshot::channel();
        let gateway_task = gateway.serve(stop_gateway.clone());
        let (asked, over) = (stop_gateway.clone(), scope.token());
        scope.spawn("gateway", async move {
            gateway_task.await;
            // The drain below may have given up waiting.
            let _unheard = gateway_done.send(());
            // A drained daemon may stay: only an end that nobody asked for is a fault.
            if asked.is_cancelled() {
                over.cancelled().await;
            }
        });
        scope.spawn("host api", api.serve(manager.clone(), scope.token()));
        let awaited = config.session.autostart.then(|| config.session.id.clone());
        let announced = identity.announced();
        scope.spawn("host identity", identity.keep_fresh(scope.token()));
        scope.spawn("notify", notify_state(sessions, awaited, scope.token()));
        if let Some(period) = sd_notify::watchdog_enabled() {
            scope.spawn("watchdog", watchdog(manager.clone(), period, draining.subscribe()));
        }

        let drain_budget = config.drain_budget;
        let id = config.session.id.clone();
        let reloader = Reloader { reload, serving, signing_key, current: config };
        let mut watch = Watch { signals, reloader, announced };
        let mut doors =
            Doors { manager: manager.clone(), draining, stop_gateway, gateway_ended: Some(gateway_ended) };
        let mut ended = match autostart.await {
            Ok(Err(source)) => Err(Error::Session { id, source }),
            // A manager that is gone shows as a task that has ended.
            Ok(Ok(())) | Err(_) => watch.wait(&mut scope).await,
        };
        let mut told_at = Instant::now();
        if let Ok(Told::Leave(notice)) = &ended {
            (ended, told_at) = stand_aside(notice, drain_budget, &mut doors, &mut watch, &mut scope).await;
        }

        say(&[NotifyState::Stopping]);
        let deadline = told_at + drain_budget;
        doors.close().await;
        manager.stop_all(deadline.saturating_duration_since(Instant::now()).saturating_sub(LAST_SHARE)).await;
        match system.finish().await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "killed processes that were left after the drain"),
            Err(error) => tracing::error!(error = %errors::chain(&error), "not everything could be stopped"),
        }
        // Once nothing of a session is left, which must not have an instant without it.
        if let Some(firewall) = firewall
            && let Err(error) = firewall.remove().await
        {
            tracing::error!(error = %errors::chain(&error), "the packet filter's table is left");
        }
        let stragglers = scope.shutdown(LAST_SHARE).await;
        if !stragglers.is_empty() {
            tracing::warn!(tasks = ?stragglers, "tasks did not end in time");
        }
        tracing::info!("stopped");
        ended.and_then(Told::outcome)
    }
}

/// What the outside comes in by.
struct Doors {
    manager: ManagerHandle,
    draining: watch::Sender<bool>,
    stop_gateway: CancellationToken,
    gateway_ended: Option<oneshot::Receiver<()>>,
}

impl Doors {
    /// No new sessions, unready, and viewers told. Once is enough.
    async fn close(&mut self) {
        if let Err(error) = self.manager.close().await {
            tracing::error!(%error, "new sessions are not refused yet");
        }
        self.draining.send_replace(true);
        self.stop_gateway.cancel();
        if let Some(ended) = self.gateway_ended.take()
            && timeout(VIEWERS_SHARE, ended).await.is_err()
        {
            tracing::warn!("viewers did not take their goodbye in time");
        }
    }
}

/// Ends all sessions before this machine goes, and stays until it is told to stop: were the daemon to end, a service manager
/// would start another one, which would take sessions on a machine that is going. What it was told then, and when.
async fn stand_aside(
    notice: &Notice,
    drain_budget: Duration,
    doors: &mut Doors,
    watch: &mut Watch,
    scope: &mut Scope,
) -> (Result<Told, Error>, Instant) {
    let given = |notice: &Notice| Instant::now() + identity::budget(notice, drain_budget, SystemTime::now());
    let mut deadline = given(notice);
    let seconds = deadline.saturating_duration_since(Instant::now()).as_secs();
    tracing::warn!(notice = notice.kind.as_str(), seconds, "draining, since this machine is to go");
    // Not `STOPPING=1`: systemd would wait for an end from then on, and kill.
    say(&[NotifyState::Status("draining: this machine is to go")]);
    doors.close().await;
    let mut told = None;
    loop {
        tokio::select! {
            () = doors.manager.drain(deadline.saturating_duration_since(Instant::now())) => break,
            next = watch.wait(scope), if told.is_none() => match next {
                Ok(Told::Leave(notice)) => deadline = deadline.min(given(&notice)),
                // Whoever stops a daemon waits as long as a stop may take, and no longer.
                next => {
                    let now = Instant::now();
                    deadline = deadline.min(now + drain_budget.saturating_sub(LAST_SHARE));
                    told = Some((next, now));
                }
            }
        }
    }
    if let Some(told) = told {
        return told;
    }
    tracing::warn!("drained: waiting to be stopped");
    // Where the drain came before it was ready, systemd would wait for this, and kill.
    say(&[NotifyState::Ready, NotifyState::Status("drained: this machine is to go")]);
    loop {
        match watch.wait(scope).await {
            // Nothing is left to drain.
            Ok(Told::Leave(_)) => {}
            told => return (told, Instant::now()),
        }
    }
}

/// Opens the file of sessions. One that is of no use is set aside, which people are told.
async fn open_store(path: &Path, registry: &Registry) -> Result<Store, Error> {
    let metrics = store::Metrics::register(registry)?;
    let path = path.to_owned();
    let opened =
        blocking(STORE_DEADLINE, move || Store::open(&path, metrics)).await.map_err(Error::Slow)??;
    if let Some(SetAside { path, damage }) = opened.set_aside {
        tracing::error!(kept = %path.display(), %damage, "the state file is of no use: the history of sessions begins anew");
    }
    Ok(opened.store)
}

/// Puts the rules for sessions in force and proves them, before there is a session. `None` where none are wanted.
///
/// # Errors
/// When they cannot be had, or do not hold; they are out of force again then.
pub async fn filter(system: &Host, host: &HostConfig) -> Result<Option<Firewall>, Error> {
    let root = nix::unistd::geteuid().is_root();
    if !host.isolation.filters() {
        if host.isolation.network == Network::Auto {
            tracing::warn!("not root: sessions can reach this host's services and private networks");
        }
        return Ok(None);
    }
    if !root {
        return Err(Error::NotRoot);
    }
    let resolvers = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_else(|error| {
        tracing::warn!(%error, "no /etc/resolv.conf: sessions reach public name servers only");
        String::new()
    });
    let last = host.first_uid + (host.uid_count - 1);
    let filter = Filter {
        uids: host.first_uid..=last,
        daemon_uid: nix::unistd::geteuid().as_raw(),
        devtools_ports: host.isolation.devtools_ports.clone(),
        resolvers: sys::ruleset::resolvers(&resolvers),
        allow: host.isolation.allow.clone(),
    };
    let firewall = system.filter(&host.isolation.nft, &filter).await?;
    if let Err(error) = sys::firewall::prove(system, Identity { uid: last, gid: last }).await {
        firewall.remove().await?;
        return Err(error.into());
    }
    tracing::info!(table = firewall.table(), "sessions reach the public internet only");
    Ok(Some(firewall))
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// What the daemon was told.
enum Told {
    /// To stop.
    Stop,
    /// That the machine is to go.
    Leave(Notice),
    /// That it is wanted after all.
    Return,
}

impl Told {
    /// What it means for the daemon's end.
    fn outcome(self) -> Result<(), Error> {
        match self {
            Self::Stop | Self::Leave(_) => Ok(()),
            Self::Return => Err(Error::CalledBack),
        }
    }
}

/// What a daemon listens to while it serves.
struct Watch {
    signals: Signals,
    reloader: Reloader,
    announced: watch::Receiver<Announced>,
}

impl Watch {
    /// Serves until it is told something. An error is a task that ended unasked: nothing can be relied on then.
    async fn wait(&mut self, scope: &mut Scope) -> Result<Told, Error> {
        let Self { signals, reloader, announced } = self;
        loop {
            tokio::select! {
                _term = signals.term.recv() => {
                    tracing::info!(signal = "TERM", "draining");
                    return Ok(Told::Stop);
                }
                _int = signals.int.recv() => {
                    tracing::info!(signal = "INT", "draining");
                    return Ok(Told::Stop);
                }
                _hup = signals.hup.recv() => reloader.reload().await,
                // The sender goes with its task, and that ends the daemon.
                Ok(()) = announced.changed() => match &announced.borrow_and_update().call {
                    Call::Serve => {}
                    Call::Drain(notice) => return Ok(Told::Leave(notice.clone())),
                    Call::Return => return Ok(Told::Return),
                },
                Some(finished) = scope.join_next() => {
                    let error = Error::TaskEnded { name: finished.name, outcome: finished.outcome };
                    tracing::error!(error = %errors::chain(&error), "draining");
                    return Err(error);
                }
            }
        }
    }
}

struct Reloader {
    reload: Reload,
    serving: GatewayHandle,
    signing_key: watch::Sender<Option<SigningKey>>,
    current: Config,
}

impl Reloader {
    /// Takes the new configuration whole, or not at all.
    async fn reload(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => say(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "no monotonic clock for RELOADING"),
        }
        let outcome = match (self.reload.read)() {
            Ok(next) => self.apply(next).await,
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(text) => {
                tracing::info!("{text}");
                say(&[NotifyState::Ready, NotifyState::Status(&text)]);
            }
            Err(problem) => {
                tracing::error!(error = %problem, "configuration not reloaded, the old one stays in force");
                let first = problem.lines().next().unwrap_or_default();
                let status = format!("configuration not reloaded: {first}");
                say(&[NotifyState::Ready, NotifyState::Status(&status)]);
            }
        }
    }

    async fn apply(&mut self, next: Config) -> Result<String, String> {
        let (live, restart): (Vec<_>, Vec<_>) =
            differences(&self.current, &next).into_iter().partition(|change| change.live);
        self.serving
            .reload(next.auth.clone(), next.gateway.allowed_origins.clone())
            .await
            .map_err(|error| errors::chain(&error))?;
        (self.reload.set_level)(&next.log.level)?;
        self.signing_key.send_replace(next.signing_key.as_ref().map(|signing| signing.key.clone()));
        let names =
            |changes: &[Change]| changes.iter().map(|change| change.part).collect::<Vec<_>>().join(", ");
        let mut text = "configuration reloaded".to_owned();
        if !live.is_empty() {
            text.push_str(&format!(", in force: {}", names(&live)));
        }
        if !restart.is_empty() {
            text.push_str(&format!(", after a restart: {}", names(&restart)));
        }
        // What needs a restart stays as it was, so that the next reload says so again.
        self.current.gateway.allowed_origins = next.gateway.allowed_origins;
        self.current.auth = next.auth;
        self.current.log.level = next.log.level;
        Ok(text)
    }
}

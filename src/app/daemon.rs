//! The daemon: built, run and drained.

use std::net::SocketAddr;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::drain::{Doors, LAST_SHARE, end_sessions, put_away, report_share, stand_aside};
use super::error::Error;
use super::ground::{filter, manager, open_store};
use super::listeners::Listeners;
use super::reload::{Reload, Reloader};
use super::wait::{OnlySession, Signals, Told, Watch};
use crate::adspower::AdsPower;
use crate::api::{self, Api};
use crate::auth::SigningKey;
use crate::config::Config;
use crate::control_plane::{ControlPlane, Renewal, Subject};
use crate::gateway::Gateway;
use crate::health::{Survey, SurveyParams};
use crate::identity::{FlyVariables, Identity as HostIdentity};
use crate::links::Links;
use crate::session::{self, Ledger, Manager, Sessions};
use crate::sys::{AppFilter, Firewall, Host, HostParams, InstanceLock};
use crate::systemd::{notify_state, say, watchdog};
use crate::tasks::Scope;
use crate::{metrics, sys};

/// Beneath the state directory.
const STATE_FILE: &str = "state.db";

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
    survey: SurveyParams,
    adspower: Option<AdsPower>,
    control_plane: Option<(ControlPlane, mpsc::Receiver<Renewal>, Subject)>,
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
    /// Takes the lock, binds the listeners but for those that are open already, sweeps what an earlier daemon left, and gets ready
    /// to spawn.
    ///
    /// # Errors
    /// With the first thing that cannot be had; what was taken before it is given back.
    pub async fn build(config: Config, listeners: Listeners) -> Result<Self, Error> {
        let state_dir = &config.host.state_dir;
        let lock = InstanceLock::acquire(state_dir)?;
        let registry = metrics::registry()?;
        let store = open_store(&state_dir.join(STATE_FILE), &registry).await?;
        let boot_id = sys::procfs::boot_id().map_err(Error::Proc)?;
        let (manager, adspower) = manager(&config, &registry)?;
        let draining = watch::Sender::new(false);
        let fly = FlyVariables::from(|name| std::env::var(name).ok());
        let identity = HostIdentity::new(config.identity.clone(), fly, &registry)?;
        let (settings, auth, sessions) = (config.gateway.clone(), config.auth.clone(), manager.sessions());
        let gateway = Gateway::bind(settings, listeners.gateway, auth, sessions, &registry).await?;
        let signing_key = watch::Sender::new(config.signing_key.as_ref().map(|signing| signing.key.clone()));
        let links = Links::new(
            config.gateway.public_url.as_deref(),
            gateway.local_addr(),
            config.gateway.tls.is_some(),
        );
        let line = config.control_plane.as_ref();
        let control_plane = line.map(|line| ControlPlane::new(line, state_dir, &registry)).transpose()?;
        let params = api::Params {
            sessions: manager.sessions(),
            keys: gateway.keys(),
            registry,
            adspower: adspower.clone(),
            links: links.clone(),
            signing_key: signing_key.subscribe(),
        };
        let api = Api::bind(&config.api, listeners.api, params).await?;
        let mut scope = Scope::new();
        let system = Host::start(&mut scope, HostParams::new(state_dir)).await?;
        // As it is: a daemon that is started at once after a kill has bound its own before the keeper is done.
        system.remove_on_death_as_is(&config.api.socket).await;
        let run = system.containment().run().to_owned();
        let survey = SurveyParams {
            sessions: manager.sessions(),
            draining: draining.subscribe(),
            store: store.health(),
            host: identity.facts(),
            announced: identity.announced(),
            fixed: config.session.autostart.then(|| config.session.id.clone()),
            run_id: run.clone(),
            links: links.clone(),
            adspower: adspower.clone(),
            parts: control_plane.iter().map(|(line, _)| line.part()).collect(),
        };
        let subject = Subject {
            boot_id: boot_id.clone(),
            run_id: run.clone(),
            store: store.clone(),
            sessions: manager.sessions(),
            announced: identity.announced(),
            links,
            api_port: api.local_addr().port(),
        };
        let ledger = Ledger::new(store, boot_id, run);
        let ledger = if control_plane.is_some() { ledger.reporting() } else { ledger };
        let app = config.adspower.as_ref().map(|adspower| AppFilter {
            uid: adspower.uid,
            // Those that can be reached on loopback.
            closed_ports: [gateway.local_addr(), api.local_addr()].map(|address| address.port()).to_vec(),
        });
        let firewall = filter(&system, &config.host, app).await?;
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
            survey,
            adspower,
            control_plane: control_plane.map(|(line, renewals)| (line, renewals, subject)),
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
            survey,
            adspower,
            control_plane,
            _lock,
        } = self;
        let sessions = manager.sessions();
        let (manager, autostart) = manager.spawn(&mut scope, &system, ledger).await?;
        let adspower = session::start_adspower(adspower, &mut scope, &system).await?;
        let serving = gateway.handle();
        let (stop_gateway, gateway_ended) = serve_gateway(&mut scope, gateway);
        let survey = Survey::new(survey, manager.clone());
        let (line, renewals) = match control_plane {
            Some((line, renewals, subject)) => {
                let line = line.start(&mut scope, subject, survey.clone(), manager.clone()).await;
                (Some(line), Some(renewals))
            }
            None => (None, None),
        };
        scope.spawn("host api", api.serve(manager.clone(), survey, scope.token()));
        let awaited = config.session.autostart.then(|| config.session.id.clone());
        let only = OnlySession::of(&config.session, autostart.created, &sessions, &draining);
        let announced = identity.announced();
        scope.spawn("host identity", identity.keep_fresh(scope.token()));
        scope.spawn("notify", notify_state(sessions, awaited, scope.token()));
        if let Some(period) = sd_notify::watchdog_enabled() {
            scope.spawn("watchdog", watchdog(manager.clone(), period, draining.subscribe(), scope.token()));
        }

        let drain_budget = config.drain_budget;
        let id = config.session.id.clone();
        let reloader = Reloader { reload, serving, signing_key, line, current: config };
        let mut watch = Watch { signals, reloader, announced, renewals, only };
        let mut doors =
            Doors { manager: manager.clone(), draining, stop_gateway, gateway_ended: Some(gateway_ended) };
        let mut ended = match autostart.begun.await {
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
        let line = watch.reloader.line.take();
        let share = report_share(&ended, drain_budget);
        end_sessions(&manager, adspower, line, deadline, share).await;
        put_away(&system, firewall).await;
        let stragglers = scope.shutdown(LAST_SHARE).await;
        if !stragglers.is_empty() {
            tracing::warn!(tasks = ?stragglers, "tasks did not end in time");
        }
        tracing::info!("stopped");
        ended.and_then(Told::outcome)
    }
}

/// Starts the gateway. What stops it, and what tells that its viewers have gone.
fn serve_gateway(scope: &mut Scope, gateway: Gateway) -> (CancellationToken, oneshot::Receiver<()>) {
    let stop = scope.token().child_token();
    let (done, ended) = oneshot::channel();
    let task = gateway.serve(stop.clone());
    let (asked, over) = (stop.clone(), scope.token());
    scope.spawn("gateway", async move {
        task.await;
        // The drain may have given up waiting.
        let _unheard = done.send(());
        // A drained daemon may stay: only an end that nobody asked for is a fault.
        if asked.is_cancelled() {
            over.cancelled().await;
        }
    });
    (stop, ended)
}

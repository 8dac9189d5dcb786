//! AdsPower on this host: a group of its own beside the sessions, and what sessions need of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::{App, Places};
use super::client::{self, Client};
use super::config::Config;
use super::files::Files;
use super::ground::{Ground, GroundError};
use super::holds::Holds;
use super::ids::ProfileId;
use super::metrics::Metrics;
use super::site::Site;
use crate::display::{self, Xvfb};
use crate::errors::chain;
use crate::supervise::{
    Confinement, GraphError, Group, GroupHandle, GroupStatus, Identity, Program, RestartPolicy, ServiceSpec,
    Timing,
};
use crate::sys::{Cell, Host, SpaceError, SpaceSpec, remove_all};
use crate::tasks::{Blocking, Scope, blocking};

/// Its cgroup; no session's group has this name.
const GROUP: &str = "adspower";
/// Its component in health, and in metrics.
pub const SERVICE: &str = "adspower";
const DISPLAY: &str = "xvfb";
/// For its directories, display number and cookies.
const GROUND_DEADLINE: Duration = Duration::from_secs(10);
/// Between looks at which browsers it has open.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(60);
/// The same while one may come that nobody wants any more.
const ABANDONED_INTERVAL: Duration = Duration::from_secs(5);
/// Before such a look is tried again.
const RECONCILE_RETRY: Duration = Duration::from_secs(10);

/// It logs in and fetches what it needs before it serves.
const TIMING: Timing = Timing {
    start_deadline: Duration::from_secs(60),
    // Each probe counts with it, as every call does.
    probe_interval: Duration::from_secs(3),
    probe_deadline: Duration::from_secs(4),
    probe_failures: 3,
    ask_grace: Duration::ZERO,
    // Its browsers save their profiles.
    term_grace: Duration::from_secs(5),
};
/// Its window is hidden, and nobody looks at this display.
const DISPLAY_TIMING: Timing = Timing {
    start_deadline: Duration::from_secs(5),
    probe_interval: Duration::from_secs(1),
    probe_deadline: Duration::from_millis(900),
    probe_failures: 3,
    ask_grace: Duration::ZERO,
    term_grace: Duration::from_secs(5),
};
/// It starts itself anew after an update: its first process ends then, and another one serves shortly after.
const READOPT_WITHIN: Duration = Duration::from_secs(5);

/// What AdsPower works with.
pub struct Params<'a> {
    /// Its settings.
    pub config: Config,
    /// The display of its own window.
    pub display: display::Config,
    /// Its `HOME` lies beneath.
    pub state_dir: PathBuf,
    /// What goes with the daemon lies beneath.
    pub runtime_dir: PathBuf,
    /// Size of its `/dev/shm`, in bytes.
    pub shm_bytes: u64,
    /// Whether it sees its own processes only.
    pub hide_processes: bool,
    /// Where its metrics are registered.
    pub registry: &'a Registry,
}

/// Why there is no AdsPower on this host.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The key cannot be sent.
    #[error("cannot make AdsPower's client")]
    Client(#[from] client::SetupError),
    /// A metric was registered twice, which would be a bug.
    #[error("cannot set up metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Why AdsPower cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It has no place.
    #[error("cannot give AdsPower a place")]
    Ground(#[from] GroundError),
    /// That took too long.
    #[error("cannot give AdsPower a place in time")]
    Slow(#[source] io::Error),
    /// It has no namespaces.
    #[error("cannot isolate AdsPower")]
    Space(#[from] SpaceError),
    /// Its services do not fit together, which would be a bug.
    #[error("cannot supervise AdsPower")]
    Supervise(#[from] GraphError),
}

/// AdsPower, running or not. Cheap to clone.
#[derive(Clone)]
pub struct AdsPower {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    config: Config,
    display: display::Config,
    state_dir: PathBuf,
    runtime_dir: PathBuf,
    shm_bytes: u64,
    hide_processes: bool,
    pub(super) client: Client,
    pub(super) holds: Holds,
    pub(super) metrics: Metrics,
    port: watch::Sender<Option<u16>>,
    status: watch::Sender<Option<GroupStatus>>,
    /// A mutex, since it comes with the start and goes with the stop; held for one look.
    site: Mutex<Option<Arc<Site>>>,
}

/// AdsPower's group while it runs.
pub struct Running {
    adspower: AdsPower,
    group: GroupHandle,
    system: Host,
}

impl AdsPower {
    /// One that does not run yet.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(params: Params<'_>) -> Result<Self, SetupError> {
        let Params { config, display, state_dir, runtime_dir, shm_bytes, hide_processes, registry } = params;
        let client = Client::new(client::Params {
            api_key: Some(config.api_key.clone()),
            pace: config.pace,
            metrics: client::Metrics::register(registry)?,
        })?;
        let inner = Inner {
            config,
            display,
            state_dir,
            runtime_dir,
            shm_bytes,
            hide_processes,
            client,
            holds: Holds::default(),
            metrics: Metrics::register(registry)?,
            port: watch::Sender::new(None),
            status: watch::Sender::new(None),
            site: Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How its group is; nothing before its start.
    pub fn status(&self) -> watch::Receiver<Option<GroupStatus>> {
        self.inner.status.subscribe()
    }

    /// A client of its API. It fails at once while AdsPower is down.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Where its API is, while it is up.
    pub fn port(&self) -> watch::Receiver<Option<u16>> {
        self.inner.port.subscribe()
    }

    /// Starts its display and itself, and what goes with it in this process.
    ///
    /// # Errors
    /// When it cannot be given a place; that it does not come up shows in its status.
    pub async fn start(&self, scope: &mut Scope, system: &Host) -> Result<Running, StartError> {
        let uid = self.inner.config.uid;
        let identity = nix::unistd::geteuid().is_root().then_some(Identity { uid, gid: uid });
        let (state_dir, runtime_dir) = (self.inner.state_dir.clone(), self.inner.runtime_dir.clone());
        let prepare = move || Ground::prepare(&state_dir, &runtime_dir, identity);
        let ground = blocking(GROUND_DEADLINE, prepare).await.map_err(StartError::Slow)??;
        let left = ground.left.clone();
        // It may be gigabytes, and nobody waits for it.
        let _unwatched = Blocking::start(move || left.iter().for_each(|path| remove_left(path)));
        for (path, holds) in ground.paths() {
            match holds {
                Some(text) => system.remove_on_death_if_holds(&path, text).await,
                None => system.remove_on_death(&path).await,
            }
        }
        let confinement = self.confine(&ground, identity, system).await?;
        let cell = system.containment().find(GROUP, SERVICE);
        let specs = self.specs(&ground, &confinement, &cell);
        let group = Group::spawn(scope, GROUP, specs, system, self.inner.config.limits)?;
        let site = Site {
            ground,
            runtime_dir: self.inner.runtime_dir.clone(),
            uid: identity.map_or_else(|| nix::unistd::geteuid().as_raw(), |identity| identity.uid),
            cell,
        };
        *self.inner.site.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(site));
        let token = scope.token();
        let follow = self.clone().follow(group.status());
        let reconcile = self.clone().reconcile();
        let over = token.clone();
        scope.spawn(
            "adspower status",
            async move { over.run_until_cancelled(follow).await.unwrap_or_default() },
        );
        scope.spawn("adspower reconcile", async move {
            token.run_until_cancelled(reconcile).await.unwrap_or_default()
        });
        group.start();
        Ok(Running { adspower: self.clone(), group, system: system.clone() })
    }

    async fn confine(
        &self,
        ground: &Ground,
        identity: Option<Identity>,
        system: &Host,
    ) -> Result<Confinement, SpaceError> {
        if identity.is_none() {
            return Ok(Confinement::default());
        }
        let Inner { state_dir, runtime_dir, config, shm_bytes, hide_processes, .. } = &*self.inner;
        let hide = vec![state_dir.clone(), runtime_dir.clone()];
        // A program in a place that it would not see otherwise.
        let covered = [state_dir, runtime_dir, Path::new("/tmp"), Path::new("/var/tmp")];
        let is_covered =
            |parent: &&Path| covered.iter().any(|place| parent.starts_with(place) && parent != place);
        let program = config.program.parent().filter(is_covered);
        let own = [ground.home.clone(), ground.runtime.clone(), ground.files.clone()];
        let spec = SpaceSpec {
            tmp: ground.tmp(),
            keep: own.into_iter().chain(program.map(Path::to_owned)).collect(),
            hide,
            shm_bytes: *shm_bytes,
            hide_processes: *hide_processes,
        };
        Ok(Confinement { identity, space: Some(system.space(&spec).await?) })
    }

    fn specs(&self, ground: &Ground, confinement: &Confinement, cell: &Cell) -> Vec<ServiceSpec> {
        let xvfb = Xvfb::new(
            self.inner.display.clone(),
            &ground.reservation,
            confinement.clone(),
            ground.tmp(),
            (ground.server_authority(), ground.screen()),
            ground.cookie.clone(),
        );
        let places = Places {
            home: ground.home.clone(),
            tmp: ground.tmp(),
            authority: ground.authority.path().to_owned(),
        };
        let app = App::new(
            self.inner.config.clone(),
            confinement.clone(),
            places,
            (xvfb.display(), cell.clone()),
            (self.inner.client.clone(), self.inner.port.clone()),
        );
        let service = |name, requires, program: Arc<dyn Program>, timing, readopt_within| ServiceSpec {
            name,
            requires,
            program,
            timing,
            restart: RestartPolicy { readopt_within, ..RestartPolicy::default() },
            held: false,
        };
        vec![
            service(DISPLAY, vec![], Arc::new(xvfb), DISPLAY_TIMING, None),
            service(SERVICE, vec![DISPLAY], Arc::new(app), TIMING, Some(READOPT_WITHIN)),
        ]
    }

    /// Passes on what the group is doing.
    async fn follow(self, mut group: watch::Receiver<GroupStatus>) {
        loop {
            let now = group.borrow_and_update().clone();
            self.inner.status.send_replace(Some(now));
            if group.changed().await.is_err() {
                // It has ended before its scope, which is not for this task to say.
                return std::future::pending().await;
            }
        }
    }

    /// Compares what AdsPower has open with what sessions have, when it comes up and every minute.
    async fn reconcile(self) {
        let mut port = self.inner.port.subscribe();
        loop {
            // The sender is ours.
            drop(port.wait_for(Option::is_some).await);
            let pause = match self.reconcile_once().await {
                Ok(()) if self.inner.holds.has_abandoned() => ABANDONED_INTERVAL,
                Ok(()) => RECONCILE_INTERVAL,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot tell which browsers AdsPower has open");
                    RECONCILE_RETRY
                }
            };
            tokio::select! {
                _moved_or_time = timeout(pause, port.changed()) => {}
                () = self.inner.holds.abandoned() => {}
            }
        }
    }

    async fn reconcile_once(&self) -> Result<(), client::Error> {
        let asked = Instant::now();
        let open = self.inner.client.local_active().await?;
        let open: Vec<ProfileId> = open.into_iter().map(|(profile, _)| profile).collect();
        let (strays, lost) = self.inner.holds.compare(&open, asked);
        if lost > 0 {
            self.inner.metrics.lost.inc_by(u64::try_from(lost).unwrap_or(u64::MAX));
            tracing::warn!(lost, "AdsPower does not list browsers that sessions have: they are opened again");
        }
        let mut outcome = Ok(());
        for profile in strays {
            // A session may have come for it meanwhile.
            if self.inner.holds.is_held(&profile) {
                continue;
            }
            tracing::warn!(%profile, "AdsPower has a browser open that no session has: it is closed");
            self.inner.metrics.strays.inc();
            match self.inner.client.stop(&profile).await {
                Ok(()) => self.inner.holds.closed(&profile),
                Err(error) => {
                    tracing::warn!(%profile, error = %chain(&error), "it cannot be closed");
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Where the browser that has this profile finds what an automation gives it, and leaves what it downloads.
    pub fn files(&self, profile: &ProfileId) -> Files {
        Files::of(&self.inner.state_dir, profile)
    }

    pub(super) fn site(&self) -> Option<Arc<Site>> {
        self.inner.site.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn remove_left(path: &Path) {
    if let Err(error) = remove_all(path) {
        tracing::warn!(path = %path.display(), %error, "what an earlier session of AdsPower's left stays");
    }
}

impl Running {
    /// Stops it within `budget`, and gives back what it had. Its browsers go with it.
    pub async fn stop(self, budget: Duration) {
        match self.group.stop(budget).await {
            Ok(report) if report.left.is_empty() => {}
            Ok(report) => tracing::error!(left = ?report.left, "processes of AdsPower survive SIGKILL"),
            Err(error) => tracing::error!(error = %chain(&error), "AdsPower is not stopped"),
        }
        let site = self.adspower.inner.site.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(site) = site {
            for (path, _) in site.ground.paths() {
                self.system.forget(&path).await;
            }
            if let Err(error) = blocking(GROUND_DEADLINE, move || drop(site)).await {
                tracing::warn!(%error, "what AdsPower had is not given back in time");
            }
        }
    }
}

//! What supervision has of this host: a spawner, a containment and a keeper.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fd::OwnedFd;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::child::Child;
use super::command::Command;
use super::containment::{Cell, Containment, Limits, RunScope};
use super::firewall::{Firewall, FirewallError};
use super::keeper::{KeeperHandle, Only};
use super::marker;
use super::ruleset::Filter;
use super::space::{Space, SpaceError, SpaceSpec};
use super::spawn::{Born, Spawner};
use super::wire::{Order, Slot, StageFailure};
use crate::tasks::Scope;

/// From the fork to the exec. The trampoline does a few dozen system calls.
const EXEC_DEADLINE: Duration = Duration::from_secs(10);
/// A stage's report is far shorter.
const MAX_REPORT_BYTES: u64 = 4096;

/// How to set up.
#[derive(Debug, Clone)]
pub struct HostParams {
    /// The program that is started as `valetd exec` and `valetd keeper`: this one.
    pub trampoline: PathBuf,
    /// An existing directory; one daemon at a time ([`super::InstanceLock`]).
    pub state_dir: PathBuf,
    /// Hold services by marker even where cgroup2 is there.
    pub without_cgroups: bool,
}

impl HostParams {
    /// With this very program as the trampoline, also when its file was replaced meanwhile.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { trampoline: "/proc/self/exe".into(), state_dir: state_dir.into(), without_cgroups: false }
    }
}

/// Why the host cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct HostError {
    what: &'static str,
    source: io::Error,
}

fn cannot(what: &'static str) -> impl Fn(io::Error) -> HostError {
    move |source| HostError { what, source }
}

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The trampoline could not be started.
    #[error("cannot start a process")]
    Fork(#[source] io::Error),
    /// It could not do its work.
    #[error("{stage}")]
    Stage {
        /// Which part of it.
        stage: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It did not come to the exec in time.
    #[error("no exec within {} s", EXEC_DEADLINE.as_secs())]
    Deadline,
}

/// A started service.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub child: Child,
    /// What it prints.
    pub stdout: pipe::Receiver,
    /// What it complains about.
    pub stderr: pipe::Receiver,
    /// Its readiness pipe, where the command asked for one.
    pub ready: Option<pipe::Receiver>,
}

/// Shared by all groups. The last handle dropped ends what was started through it.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    spawner: Arc<Spawner>,
    containment: Containment,
    keeper: KeeperHandle,
}

impl Host {
    /// Kills what an earlier daemon on this state directory left, starts the keeper and gets ready to spawn.
    ///
    /// # Errors
    /// When this process cannot be a parent of services.
    pub async fn start(scope: &mut Scope, params: HostParams) -> Result<Self, HostError> {
        let run = RunScope::new(&params.state_dir).map_err(cannot("identify this run"))?;
        let detect = move || {
            if params.without_cgroups { Containment::by_marker(run) } else { Containment::detect(run) }
        };
        let (containment, swept) = blocking(move || {
            let containment = detect();
            let swept = containment.sweep_others();
            (containment, swept)
        })
        .await
        .map_err(cannot("look for leftovers"))?;
        match swept {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "killed processes that an earlier run left"),
            Err(error) => {
                tracing::error!(error = %crate::errors::chain(&error), "cannot sweep what an earlier run left");
            }
        }
        let spawner = Arc::new(Spawner::start(params.trampoline).map_err(cannot("start the spawner"))?);
        let mut ended = signal(SignalKind::child()).map_err(cannot("watch for ended children"))?;
        let (poke, token) = (spawner.poke(), scope.token());
        scope.spawn("orphan reaper", async move {
            while token.run_until_cancelled(ended.recv()).await.flatten().is_some() {
                if !poke.reap_now().await {
                    break;
                }
            }
        });
        let keeper =
            KeeperHandle::start(scope, &spawner, &containment).await.map_err(cannot("start the keeper"))?;
        let inner = Inner { spawner, containment, keeper };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How services are held here.
    pub fn containment(&self) -> &Containment {
        &self.inner.containment
    }

    /// A cell for one run of a service, in a group that may use so much. Blocks briefly.
    ///
    /// # Errors
    /// See [`Containment::create`].
    pub fn cell(&self, group: &str, service: &str, limits: Limits) -> io::Result<Cell> {
        self.inner.containment.create(group, service, limits)
    }

    /// Namespaces for a session, before its first process. For root only.
    ///
    /// # Errors
    /// [`SpaceError`]; nothing is left then.
    pub async fn space(&self, spec: &SpaceSpec) -> Result<Space, SpaceError> {
        Space::make(&self.inner.spawner, spec).await
    }

    /// Puts packet filter rules in force, in one step and in place of those of an earlier daemon on this state directory.
    /// They go with [`Firewall::remove`], or with the keeper should the daemon be killed. For root only.
    ///
    /// # Errors
    /// [`FirewallError`]; what was in force before still is.
    pub async fn filter(&self, nft: &Path, filter: &Filter) -> Result<Firewall, FirewallError> {
        let Inner { spawner, containment, keeper } = &*self.inner;
        let table = format!("valetd_{}", containment.state_hash());
        keeper.unfilter(nft, &table).await;
        Firewall::install(Arc::clone(spawner), nft, table, filter).await
    }

    /// Has `path` (a file, or a directory with all in it) removed by the keeper should the daemon be killed.
    pub async fn remove_on_death(&self, path: &Path) {
        self.inner.keeper.remove(path, Only::Always).await;
    }

    /// The same for a file that may be somebody else's by then: only if it holds exactly `text`.
    pub async fn remove_on_death_if_holds(&self, path: &Path, text: String) {
        self.inner.keeper.remove(path, Only::IfHolds(text)).await;
    }

    /// The same for what is at `path` now: not for what somebody puts there afterwards.
    pub async fn remove_on_death_as_is(&self, path: &Path) {
        match Only::as_is(path) {
            Ok(only) => self.inner.keeper.remove(path, only).await,
            Err(error) => tracing::warn!(path = %path.display(), %error, "gone before it could be noted"),
        }
    }

    /// Takes that back for `path`, which is gone or somebody else's by now.
    pub async fn forget(&self, path: &Path) {
        self.inner.keeper.forget(path).await;
    }

    /// The pid of the keeper, while there is one.
    pub fn keeper_pid(&self) -> Option<u32> {
        self.inner.keeper.pid()
    }

    /// Starts `command` in `cell`. Returns when it has been exec'd.
    ///
    /// # Errors
    /// [`SpawnError`]; no process is left then but what the cell may hold for an instant.
    pub async fn spawn(&self, command: &Command, cell: &Cell) -> Result<Spawned, SpawnError> {
        let pipes = Pipes::open(command, cell).map_err(SpawnError::Fork)?;
        let Pipes { slots, fds, mut status, stdout, stderr, ready } = pipes;
        let order = Order::new(command, (marker::VARIABLE, cell.marker()), slots);
        let spawner = &self.inner.spawner;
        let born = spawner.service(order, fds, cell.marker().to_owned()).await.map_err(SpawnError::Fork)?;
        let child = adopt(born, spawner).map_err(SpawnError::Fork)?;
        let mut report = Vec::new();
        match timeout(EXEC_DEADLINE, (&mut status).take(MAX_REPORT_BYTES).read_to_end(&mut report)).await {
            Err(_) => return Err(SpawnError::Deadline),
            Ok(Err(error)) => return Err(SpawnError::Fork(error)),
            Ok(Ok(0)) => return Ok(Spawned { child, stdout, stderr, ready }),
            Ok(Ok(_)) => {}
        }
        let failure: StageFailure =
            serde_json::from_slice(&report).map_err(|error| SpawnError::Fork(error.into()))?;
        Err(SpawnError::Stage { stage: failure.stage, source: io::Error::from_raw_os_error(failure.errno) })
    }

    /// At a clean stop, when all groups have stopped: lets the keeper go and removes what held the run. How many processes
    /// were still there.
    ///
    /// # Errors
    /// When something is left.
    pub async fn finish(&self) -> Result<usize, HostError> {
        self.inner.keeper.release().await;
        let containment = self.inner.containment.clone();
        blocking(move || containment.end_run())
            .await
            .and_then(|outcome| outcome)
            .map_err(cannot("remove what held the services"))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

pub(super) fn adopt(born: Born, spawner: &Spawner) -> io::Result<Child> {
    Child::new(born.pid, born.pidfd, spawner.poke())
}

/// The ends of the pipes of one service.
struct Pipes {
    slots: Vec<Slot>,
    fds: Vec<OwnedFd>,
    status: pipe::Receiver,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    ready: Option<pipe::Receiver>,
}

impl Pipes {
    fn open(command: &Command, cell: &Cell) -> io::Result<Self> {
        let (mut slots, mut fds) = (Vec::new(), Vec::new());
        let mut open = |slot| -> io::Result<pipe::Receiver> {
            let (reader, writer) = io::pipe()?;
            slots.push(slot);
            fds.push(OwnedFd::from(writer));
            pipe::Receiver::from_owned_fd(OwnedFd::from(reader))
        };
        let (status, stdout, stderr) = (open(Slot::Status)?, open(Slot::Stdout)?, open(Slot::Stderr)?);
        let ready = if command.ready_fd { Some(open(Slot::Ready)?) } else { None };
        if let Some(join) = cell.join_file()? {
            slots.push(Slot::Cgroup);
            fds.push(join.into());
        }
        for (slot, namespace) in command.confinement.space.iter().flat_map(Space::namespaces) {
            slots.push(slot);
            fds.push(namespace.try_clone_to_owned()?);
        }
        Ok(Self { slots, fds, status, stdout, stderr, ready })
    }
}

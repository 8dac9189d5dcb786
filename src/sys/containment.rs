//! Everything that a service starts, held together however it forks.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::{digest, rand};
use serde::{Deserialize, Serialize};

use super::procfs::Stat;
use super::{cgroup, marker};

use crate::hex;

/// How long a sweep waits for what it killed.
const SWEEP_BUDGET: Duration = Duration::from_secs(5);

/// One life of one daemon: which state directory, and which run of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunScope {
    state_hash: String,
    run: String,
}

impl RunScope {
    /// A new run on `state_dir`, which must exist.
    ///
    /// # Errors
    /// When the directory cannot be resolved, or the kernel has no randomness.
    pub fn new(state_dir: &Path) -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let canonical = fs::canonicalize(state_dir)?;
        let hash = digest::digest(&digest::SHA256, canonical.as_os_str().as_bytes());
        let mut run = [0; 6];
        rand::fill(&mut run).map_err(|_| io::Error::other("no random bytes"))?;
        Ok(Self { state_hash: hex::encode(&hash.as_ref()[..4]), run: hex::encode(&run) })
    }

    /// Which run: random, and new for each life of the daemon.
    pub fn run(&self) -> &str {
        &self.run
    }

    fn of_this_run(&self, value: &str) -> bool {
        value.split('/').take(2).eq([self.state_hash.as_str(), self.run.as_str()])
    }

    fn of_another_run(&self, value: &str) -> bool {
        value.split('/').next() == Some(self.state_hash.as_str()) && !self.of_this_run(value)
    }
}

/// Limits on all the services of a group together; applied where the host delegates the controllers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `memory.max`, in bytes.
    pub memory_bytes: Option<u64>,
    /// `pids.max`: processes and threads.
    pub pids: Option<u64>,
    /// `cpu.weight`, 1 to 10000: the share of a busy processor, where others have 100.
    pub cpu_weight: Option<u64>,
}

/// How the processes of a run are held. Serialised for the keeper, which must know it when the daemon is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Containment {
    /// cgroup2: nothing escapes.
    Cgroup {
        /// `<the daemon's cgroup>/valetd-<state hash>`.
        base: PathBuf,
        /// Which run.
        scope: RunScope,
    },
    /// By environment variable, descent and session: holds all that does not hide on purpose.
    Marker {
        /// Which run.
        scope: RunScope,
    },
}

impl Containment {
    /// The best that this host offers; one warning when that is not cgroup2.
    pub fn detect(scope: RunScope) -> Self {
        match Self::in_cgroup(&scope) {
            Ok(base) => Self::Cgroup { base, scope },
            Err(error) => {
                tracing::warn!(
                    error = %crate::errors::chain(&error),
                    "no cgroup2 to write to: services are held by marker and descent, and one that hides could outlive its stop"
                );
                Self::Marker { scope }
            }
        }
    }

    fn in_cgroup(scope: &RunScope) -> io::Result<PathBuf> {
        let base = cgroup::settle()?.join(format!("valetd-{}", scope.state_hash));
        fs::create_dir_all(base.join(&scope.run))?;
        // Fails here, not at the first service, where the directory may be made but not joined.
        cgroup::join_file(&base.join(&scope.run))?;
        Ok(base)
    }

    /// Which life of the daemon this is.
    pub fn run(&self) -> &str {
        self.scope().run()
    }

    /// The fallback, where cgroup2 could be used as well.
    pub fn by_marker(scope: RunScope) -> Self {
        Self::Marker { scope }
    }

    /// What tells this state directory from others, in eight hexadecimal digits.
    pub fn state_hash(&self) -> &str {
        &self.scope().state_hash
    }

    fn scope(&self) -> &RunScope {
        match self {
            Self::Cgroup { scope, .. } | Self::Marker { scope } => scope,
        }
    }

    /// A cell for one run of a service.
    ///
    /// # Errors
    /// `AlreadyExists` while processes of an earlier run are still in it, `InvalidInput` for a name that is not one path
    /// segment, and as the kernel gives them.
    pub fn create(&self, group: &str, service: &str, limits: Limits) -> io::Result<Cell> {
        if [group, service].iter().any(|name| name.is_empty() || name.starts_with('.') || name.contains('/'))
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name that is not one path segment"));
        }
        let cell = self.find(group, service);
        if let (Self::Cgroup { base, scope }, Some(dir)) = (self, &cell.dir) {
            let run = base.join(&scope.run);
            fs::create_dir_all(dir)?;
            limit(&[base, &run], &run.join(group), limits);
        }
        if cell.is_empty()? {
            return Ok(cell);
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "processes of an earlier run are still there"))
    }

    /// The cell that [`Self::create`] made, or would make, for this service.
    pub fn find(&self, group: &str, service: &str) -> Cell {
        let scope = self.scope();
        let marker = format!("{}/{}/{group}/{service}", scope.state_hash, scope.run);
        let dir = match self {
            Self::Marker { .. } => None,
            Self::Cgroup { base, scope } => Some(base.join(&scope.run).join(group).join(service)),
        };
        Cell { marker, dir }
    }

    /// Removes what holds a group, when none of its services is there any more.
    ///
    /// # Errors
    /// `ResourceBusy` while one is.
    pub fn remove_group(&self, group: &str) -> io::Result<()> {
        match self {
            Self::Cgroup { base, scope } => cgroup::remove(&base.join(&scope.run).join(group)).map(|_| ()),
            Self::Marker { .. } => Ok(()),
        }
    }

    /// Kills and removes what other runs on the same state directory left. How many processes. Blocks for up to a few
    /// seconds.
    ///
    /// # Errors
    /// When it cannot be told what is there.
    pub fn sweep_others(&self) -> io::Result<usize> {
        let (mut killed, mut outcome) = (0, Ok(()));
        if let Self::Cgroup { base, scope } = self {
            for run in cgroup::children(base)?.into_iter().filter(|run| !run.ends_with(&scope.run)) {
                killed += cgroup::processes(&run)?.len();
                // One that cannot be ended keeps nobody from ending the others.
                outcome = end(&run).and(outcome);
            }
        }
        // Also with cgroups: the earlier run may have been under another one, or under none.
        let (marked, _) = marker::kill_until_none(|value| self.scope().of_another_run(value), SWEEP_BUDGET)?;
        outcome.map(|()| killed + marked)
    }

    /// Waits up to `budget` for the processes of this run to end by themselves. Whether they have. Blocks.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn wait_empty(&self, budget: Duration) -> io::Result<bool> {
        match self {
            Self::Cgroup { base, scope } => match cgroup::wait_empty(&base.join(&scope.run), budget) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
                outcome => outcome,
            },
            Self::Marker { scope } => marker::wait_for_none(|value| scope.of_this_run(value), budget),
        }
    }

    /// Kills all of this run and removes its directories. How many processes there were. Blocks for up to a few seconds.
    ///
    /// # Errors
    /// When processes or directories are left.
    pub fn end_run(&self) -> io::Result<usize> {
        let mut killed = 0;
        if let Self::Cgroup { base, scope } = self {
            let run = base.join(&scope.run);
            killed += cgroup::processes(&run)?.len();
            end(&run)?;
            // Stays while another run is in it.
            match fs::remove_dir(base) {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, dir = %base.display(), "kept"),
            }
        }
        let (marked, none_left) =
            marker::kill_until_none(|value| self.scope().of_this_run(value), SWEEP_BUDGET)?;
        if none_left {
            return Ok(killed + marked);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "processes survive SIGKILL"))
    }
}

fn end(run: &Path) -> io::Result<()> {
    match cgroup::kill(run) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if cgroup::wait_empty(run, SWEEP_BUDGET)? {
        return cgroup::remove(run).map(|_| ());
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "processes survive SIGKILL"))
}

/// Best effort: a host that does not delegate the controllers has no limits, and says so at debug level. The group's own
/// children get the memory controller too, so that each service's kills are counted apart.
fn limit(ancestors: &[&Path], group: &Path, limits: Limits) {
    // Without swap, `memory.max` is what it says. `memory.oom.group` stays off: a browser survives the loss of a tab.
    let no_swap = limits.memory_bytes.map(|_| 0);
    let files = [
        ("memory", "memory.max", limits.memory_bytes),
        ("memory", "memory.swap.max", no_swap),
        ("pids", "pids.max", limits.pids),
        ("cpu", "cpu.weight", limits.cpu_weight),
    ];
    for (controller, file, limit) in files {
        let Some(limit) = limit else { continue };
        let own = ancestors.first().and_then(|base| base.parent());
        let enabled = own
            .into_iter()
            .chain(ancestors.iter().copied())
            .chain((controller == "memory").then_some(group))
            .try_for_each(|dir| fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")));
        let outcome = enabled.and_then(|()| set(&group.join(file), limit));
        if let Err(error) = outcome {
            tracing::debug!(%error, controller, file, "limit not applied");
        }
    }
}

/// Writes to a file that is there: a kernel without swap accounting has no `memory.swap.max`.
fn set(file: &Path, value: u64) -> io::Result<()> {
    io::Write::write_all(&mut fs::OpenOptions::new().write(true).open(file)?, value.to_string().as_bytes())
}

/// Holds one run of a service.
#[derive(Debug, Clone)]
pub struct Cell {
    marker: String,
    dir: Option<PathBuf>,
}

impl Cell {
    /// The value of [`marker::VARIABLE`] for processes in here.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// The cgroup, where there is one.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The file to join through, where there is a cgroup.
    pub(super) fn join_file(&self) -> io::Result<Option<File>> {
        self.dir.as_deref().map(cgroup::join_file).transpose()
    }

    /// SIGKILL to all in here. Does not wait. By marker it reads all of `/proc`.
    ///
    /// # Errors
    /// When it cannot be told what is there.
    pub fn kill_all(&self) -> io::Result<()> {
        match &self.dir {
            Some(dir) => match cgroup::kill(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
            None => marker::find(|value| value == self.marker).map(|found| {
                let killed = marker::kill(&found);
                tracing::debug!(count = killed.len(), "killed by marker");
            }),
        }
    }

    /// SIGTERM to all in here. Does not wait.
    ///
    /// # Errors
    /// When it cannot be told what is there.
    pub fn terminate_all(&self) -> io::Result<()> {
        marker::terminate(&self.processes()?);
        Ok(())
    }

    /// The live processes in here. By marker it reads all of `/proc`.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn processes(&self) -> io::Result<Vec<Stat>> {
        match &self.dir {
            Some(dir) => cgroup::processes(dir),
            None => marker::find(|value| value == self.marker),
        }
    }

    /// Whether no live process is in here.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn is_empty(&self) -> io::Result<bool> {
        match &self.dir {
            Some(dir) => cgroup::is_empty(dir),
            None => marker::find(|value| value == self.marker).map(|found| found.is_empty()),
        }
    }

    /// Kills all in here and waits until none is left; `false` when `budget` did not do. Blocks.
    ///
    /// # Errors
    /// When it cannot be told what is there.
    pub fn kill_until_empty(&self, budget: Duration) -> io::Result<bool> {
        match &self.dir {
            Some(dir) => {
                self.kill_all()?;
                cgroup::wait_empty(dir, budget)
            }
            None => marker::kill_until_none(|value| value == self.marker, budget).map(|(_, none)| none),
        }
    }

    /// Removes the cell.
    ///
    /// # Errors
    /// `ResourceBusy` while it is not empty.
    pub fn remove(&self) -> io::Result<()> {
        self.dir.as_deref().map_or(Ok(()), |dir| cgroup::remove(dir).map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_state_directory_tell_themselves_apart_and_leave_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (RunScope::new(dir.path()).unwrap(), RunScope::new(dir.path()).unwrap());
        let marker = format!("{}/{}/g/s", one.state_hash, one.run);
        assert!(one.of_this_run(&marker) && !one.of_another_run(&marker));
        assert!(!two.of_this_run(&marker) && two.of_another_run(&marker));
        let elsewhere = tempfile::tempdir().unwrap();
        let other = RunScope::new(elsewhere.path()).unwrap();
        assert!(!other.of_this_run(&marker) && !other.of_another_run(&marker));
    }

    #[test]
    fn limits_are_written_where_their_files_are_and_only_there() {
        let dir = tempfile::tempdir().unwrap();
        let (base, run, group) = (dir.path().join("b"), dir.path().join("b/r"), dir.path().join("b/r/g"));
        fs::create_dir_all(&group).unwrap();
        for file in ["memory.max", "pids.max", "cpu.weight"] {
            fs::write(group.join(file), "").unwrap();
        }
        let limits = Limits { memory_bytes: Some(1 << 30), pids: Some(512), cpu_weight: Some(50) };
        limit(&[&base, &run], &group, limits);
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        assert_eq!(read(group.join("memory.max")), "1073741824");
        assert_eq!(read(group.join("pids.max")), "512");
        assert_eq!(read(group.join("cpu.weight")), "50");
        assert!(!group.join("memory.swap.max").exists(), "this kernel has none");
        assert_eq!(read(run.join("cgroup.subtree_control")), "+cpu", "the last one written");
        assert_eq!(read(group.join("cgroup.subtree_control")), "+memory", "for the services' own counters");
        limit(&[&base, &run], &group, Limits::default());
        assert_eq!(read(group.join("pids.max")), "512", "what is not limited is left alone");
    }

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let containment = Containment::by_marker(RunScope::new(dir.path()).unwrap());
        for bad in ["", "..", "a/b", ".x"] {
            let error = containment.create("g", bad, Limits::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}

//! What to execute.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::space::Space;

/// Stands in [`Command::args`] for the number of the readiness pipe, which is known in the child only.
pub const READY_FD: &str = "{ready-fd}";

/// What to execute. Everything is spelled out: nothing is inherited from the daemon.
#[derive(Debug, Clone)]
pub struct Command {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Arguments without the program's name. Visible to every process of the host: no secret belongs here.
    pub args: Vec<OsString>,
    /// The whole environment, but for the one variable that containment adds.
    pub env: BTreeMap<OsString, OsString>,
    /// Working directory.
    pub cwd: PathBuf,
    /// As whom, and in which space.
    pub confinement: Confinement,
    /// Limit on open files (soft and hard). An ordinary user's daemon cannot raise its own, and uses what it has.
    pub max_open_files: u64,
    /// The child gets the write end of a pipe, and the first line on it is its readiness. Each argument equal to
    /// [`READY_FD`] becomes the pipe's number (`Xvfb -displayfd 5`). Probes begin after that line.
    pub ready_fd: bool,
}

/// What a service is kept in. Capabilities are dropped in any case.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// User and group to run as; `None` stays the daemon's own (the `valetd dev` case of an ordinary user).
    pub identity: Option<Identity>,
    /// The namespaces of its session; `None` shares the host's, which is all that an ordinary user's daemon has.
    pub space: Option<Space>,
}

impl Confinement {
    /// The uid that its processes have, where it differs from the daemon's.
    pub fn uid(&self) -> Option<u32> {
        self.identity.map(|identity| identity.uid)
    }
}

/// Whom a service runs as. No supplementary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User id; need not stand in passwd.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

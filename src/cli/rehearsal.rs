//! What `valetd doctor` tries for real: the namespaces and the packet filter of a session, in a state directory of its own,
//! beside a daemon that may be running.

use std::path::{Path, PathBuf};

use super::run::runtime;
use crate::app::filter;
use crate::errors::chain;
use crate::session::HostConfig;
use crate::sys::{Host, HostParams, SpaceSpec};
use crate::tasks::Scope;

/// What worked, and what did not, in words.
pub(super) struct Found {
    pub(super) space: Result<(), String>,
    /// `None` where no filter is wanted.
    pub(super) filter: Option<Result<(), String>>,
}

/// Tries both. Blocks for a second or so.
pub(super) fn run(host: &HostConfig) -> Found {
    let tried =
        Stage::make().map_err(|error| format!("no directory to try it in: {error}")).and_then(|stage| {
            let runtime = runtime().map_err(|error| format!("no runtime: {error}"))?;
            runtime.block_on(rehearse(host, &stage.dir))
        });
    tried.unwrap_or_else(|problem| Found {
        space: Err(problem.clone()),
        filter: host.isolation.filters().then_some(Err(problem)),
    })
}

async fn rehearse(host: &HostConfig, dir: &Path) -> Result<Found, String> {
    let mut scope = Scope::new();
    let system = Host::start(&mut scope, HostParams::new(dir)).await.map_err(|error| chain(&error))?;
    let spec = SpaceSpec {
        tmp: dir.to_owned(),
        hide: vec![host.state_dir.clone(), host.runtime_dir.clone()],
        keep: Vec::new(),
        shm_bytes: host.isolation.shm_bytes,
        hide_processes: host.isolation.hide_processes,
    };
    let space = system.space(&spec).await.map(drop).map_err(|error| chain(&error));
    let filter = match filter(&system, host, None).await {
        Ok(None) => None,
        Ok(Some(firewall)) => Some(firewall.remove().await.map_err(|error| chain(&error))),
        Err(error) => Some(Err(chain(&error))),
    };
    system.finish().await.map_err(|error| chain(&error))?;
    Ok(Found { space, filter })
}

/// A directory that goes with the rehearsal.
struct Stage {
    dir: PathBuf,
}

impl Stage {
    fn make() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| std::io::Error::other("no random bytes"))?;
        let dir = std::env::temp_dir().join(format!("valetd-doctor-{:08x}", u32::from_be_bytes(random)));
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self { dir })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "a directory is left");
        }
    }
}
